"""crackflow: surface-crack classification on TensorFlow, from a folder of photographs to an H5 model.

Synopsis::

    import crackflow

    model = crackflow.load_model()               # or "runs/metu", or "model.h5"
    for found in model.predict(["wall.jpg"]):    # files, or arrays uint8 [H, W, 3]
        print(found.name, found.decision, found.probability, len(found.findings))

Importing the package loads no TensorFlow; `load_model` does. Each verb is a module: ``python -m crackflow.<verb>``.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crackflow.report.prediction import Finding, Model, Prediction
    from crackflow.report.prediction import load as load_model

__version__ = "0.1.0"
__all__ = ["Finding", "Model", "Prediction", "load_model"]
_PLACES = {"Finding": "Finding", "Model": "Model", "Prediction": "Prediction", "load_model": "load"}


def __getattr__(name: str) -> object:
    """What needs TensorFlow is loaded when it is first asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module 'crackflow' has no attribute {name!r}")
    return getattr(importlib.import_module("crackflow.report.prediction"), _PLACES[name])
