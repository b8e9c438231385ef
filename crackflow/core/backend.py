"""The one module that brings together TensorFlow, Keras, Keras Tuner and tensorflow-addons.

Synopsis::

    from crackflow.core.backend import keras, tf
    tuner = backend.load_tuner()       # keras_tuner, searching tf_keras models
    addons = backend.load_addons()     # tensorflow_addons, or a UserError that says what to install

`keras` is tf_keras, the Keras 2 API released with each TensorFlow: Keras 3's `fit` fails under
MultiWorkerMirroredStrategy and its TensorFlow train step ran at 0.37 to 0.66 of tf_keras' speed on one CPU
(BUILD_NOTES.md). Keras Tuner and tensorflow-addons say `import keras` and would get Keras 3. While those two are
imported, and only then, the name `keras` therefore means tf_keras.
"""

import contextlib
import importlib
import os
import sys
import tempfile
import types
import warnings
from collections.abc import Iterator
from typing import Any

from crackflow.core.errors import UserError

NOISE = (
    b"absl::InitializeLog",
    b"Could not find cuda drivers",
    b"CUDA error: Failed call to cuInit",
    b"failed call to cuInit",
    b"oneDNN custom operations are on",
)


@contextlib.contextmanager
def without_start_up_noise() -> Iterator[None]:
    """While inside, TensorFlow's C++ messages about a machine without a GPU are removed from stderr; the rest stays.

    These lines are printed before any log level takes effect, and hide the one line that a user should read.
    """
    try:
        handle = os.dup(2)
    except OSError:  # started without a stderr: nothing to filter
        yield
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(handle, 2)
            os.close(handle)
            caught.seek(0)
            for line in caught:
                if not any(noise in line for noise in NOISE):
                    with contextlib.suppress(OSError):  # its reader is gone, or its disk full
                        os.write(2, line)


if "tensorflow" not in sys.modules:  # read at the first import only; afterwards this package runs beside Keras 3
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# CPU features and the registration of plugins; errors still come through.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

with without_start_up_noise():
    import tensorflow as tf
    import tf_keras as keras
    from tf_keras.src.applications import convnext

# Dropout then draws from variables, which a checkpoint can hold and which follow the seed under XLA as well; neither
# holds for the older operations that tf_keras uses by default.
keras.backend.experimental.enable_tf_random_generator()

# Layers of Keras Applications that a saved model names but Keras does not find by itself.
APPLICATION_LAYERS = {"LayerScale": convnext.LayerScale}

__all__ = [
    "APPLICATION_LAYERS",
    "keras",
    "keras_is_tf_keras",
    "load_addons",
    "load_tuner",
    "load_tuner_service",
    "tf",
    "without_start_up_noise",
]


@contextlib.contextmanager
def keras_is_tf_keras() -> Iterator[None]:
    """While inside, `import keras` and `tf.keras` give tf_keras; afterwards both are what they were."""
    saved = {name: module for name, module in sys.modules.items() if _is_keras(name)}
    attribute = tf.__dict__.get("keras")
    for name in saved:
        del sys.modules[name]
    for name, module in list(sys.modules.items()):
        if name == "tf_keras" or name.startswith("tf_keras."):
            for base in KERAS_NAMES:
                sys.modules[base + name.removeprefix("tf_keras")] = module
    tf.keras = keras
    try:
        yield
    finally:
        tf.keras = attribute
        for name in [name for name in sys.modules if _is_keras(name)]:
            del sys.modules[name]
        sys.modules.update(saved)


KERAS_NAMES = ("keras", "tensorflow.keras")


def _is_keras(name: str) -> bool:
    return any(name == base or name.startswith(f"{base}.") for base in KERAS_NAMES)


def load_tuner() -> types.ModuleType:
    """Loads Keras Tuner so that it searches tf_keras models."""
    with keras_is_tf_keras():
        return importlib.import_module("keras_tuner")


def load_tuner_service() -> types.SimpleNamespace:
    """Loads the parts with which searches of Keras Tuner communicate over gRPC: chief, client, and their messages."""
    load_tuner()
    with keras_is_tf_keras():
        parts = {
            name: importlib.import_module(f"keras_tuner.src.distribute.oracle_{name}") for name in ("chief", "client")
        }
        trial = importlib.import_module("keras_tuner.src.engine.trial")
        return types.SimpleNamespace(**parts, trial=trial, protos=importlib.import_module("keras_tuner.src.protos"))


def load_addons() -> types.ModuleType:
    """Loads tensorflow-addons: optimizers, metrics and image ops written in Python.

    Raises:
        UserError: where the package has no wheel (Python 3.12 and later, Windows, ARM) or is not installed.
    """
    try:
        # Its end-of-life notice and version check are known and documented; the user asked for it by name.
        with keras_is_tf_keras(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            addons = importlib.import_module("tensorflow_addons")
    except ImportError as error:
        raise UserError(
            "this needs tensorflow-addons 0.23, which is not installed; it has wheels up to Python 3.11, for Linux on "
            "x86-64 and for macOS: pip install 'tensorflow-addons==0.23.0', or choose an optimizer and metrics of "
            "Keras itself"
        ) from error
    _give_tf_keras(addons.__name__)
    return addons


def _give_tf_keras(package: str) -> None:
    """Replaces `tf` in the modules of `package`, which also use tf.keras at run time, by TensorFlow with tf_keras in
    it.
    """
    own: Any = types.ModuleType(tf.__name__, tf.__doc__)
    own.__getattr__ = lambda name: getattr(tf, name)
    own.keras = keras
    modules: list[tuple[str, Any]] = list(sys.modules.items())
    for name, module in modules:
        if name.startswith(f"{package}.") and getattr(module, "tf", None) is tf:
            module.tf = own
