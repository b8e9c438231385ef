"""crackflow: surface-crack classification on TensorFlow, from a folder of photographs to an H5 model.

Synopsis::

    import crackflow

    model = crackflow.load_model()               # or "runs/metu", or "model.h5"
    for found in model.predict(["wall.jpg"]):    # files, or arrays uint8 [H, W, 3]
        print(found.name, found.decision, found.probability, len(found.findings))

    crackflow.convert(images="photos", out="data/photos")
    crackflow.train(data="data/photos", run_dir="runs/first", epochs=3)     # returns what metrics.json holds

Importing the package loads no TensorFlow; `load_model` and the verbs do. Each verb is a module that can be called, and
a command: ``crackflow <verb>`` or ``python -m crackflow.<verb>``.
"""

import importlib
import os
import platform
import sys

from crackflow.core import errors
from crackflow.version import __version__

if sys.argv[:1] == ["-m"] and not getattr(sys.flags, "safe_path", False):
    # `python -m crackflow.<verb>` looks for modules in the folder it is started in before all others. A command that
    # does not lie there needs none from there, and beside photographs may lie a numpy.py.
    if not __file__.startswith(os.path.join(sys.path[0], "")):
        del sys.path[0]
        os.environ["PYTHONSAFEPATH"] = "1"  # for its workers; Python 3.10 does not know it
if sys.argv[:1] == ["-m"]:
    # Memory or open files may run out while a command loads its libraries, before it has begun.
    sys.excepthook = errors.end_on_shortage
if platform.machine() in ("x86_64", "AMD64"):
    # TensorFlow hears this at its first import. By itself it turns these on only for processors with AVX512-VNNI; with
    # AVX2 alone they nearly double the speed of training as well (285 ms a step without, 147 with: BUILD_NOTES.md).
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

_PLACES = {"Finding": "Finding", "Model": "Model", "Prediction": "Prediction", "load_model": "load"}
_VERBS = (
    *("synth", "convert", "augment_preview", "train", "adapt", "tune"),
    *("evaluate", "explain", "card", "predict", "export", "doctor"),
)
__all__ = ["__version__", *_PLACES, *_VERBS]


def __getattr__(name: str) -> object:
    """What needs TensorFlow is loaded when it is first asked for."""
    if name in _VERBS:
        return importlib.import_module(f"crackflow.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module 'crackflow' has no attribute {name!r}")
    return getattr(importlib.import_module("crackflow.inference.predictor"), _PLACES[name])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
