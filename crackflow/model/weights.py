"""Weights from a file, by layer name: to start from a network that has been trained elsewhere.

Synopsis::

    taken, left = weights.take(model, "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5")  # nothing is downloaded
    locator = weights.locator(model, "runs/first/model.h5")     # what it learnt from masks, or None
"""

import h5py
import numpy as np

from crackflow.core.backend import keras
from crackflow.core.errors import UserError
from crackflow.model import localizing


def take(model: keras.Model, path: str) -> tuple[list[str], list[str]]:
    """Set the layers of `model` whose name and shapes are in the H5 file `path`; the names of those taken and left.

    Layers without weights are in neither. Raises: UserError when the file can't be read, or when no layer fits.
    """
    try:
        with h5py.File(path, "r") as file:
            stored = _layers(file)
    except (OSError, KeyError, RuntimeError) as error:
        raise UserError(
            f"--weights: expected an H5 file of weights saved by Keras, received {path!r}: {error}"
        ) from error
    taken, left = [], []
    for layer in model.layers:
        values = stored.get(layer.name, [])
        if not layer.weights:
            continue
        if [value.shape for value in values] == [tuple(weight.shape) for weight in layer.weights]:
            layer.set_weights(values)
            taken.append(layer.name)
        else:
            left.append(layer.name)
    if not taken:
        raise UserError(
            f"--weights: expected layers such as {', '.join(left[:3])}, but {path!r} has "
            f"{', '.join(list(stored)[:3]) or 'none with weights'}; choose the file that belongs to --model"
        )
    return taken, left


def locator(model: keras.Model, path: str) -> localizing.Locator | None:
    """What was learnt from masks in the H5 file `path`, or None. Raises: ValueError when it does not fit `model`."""
    with h5py.File(path, "r") as file:
        return localizing.Locator.read(file, model)


def _layers(file: h5py.File) -> dict[str, list[np.ndarray]]:
    """The arrays of each layer that has some, in the order in which Keras lists them."""
    root = file["model_weights"] if "model_weights" in file else file
    names = [_text(name) for name in root.attrs["layer_names"]]
    stored = {
        name: [np.asarray(root[name][_text(weight)]) for weight in root[name].attrs["weight_names"]] for name in names
    }
    return {name: values for name, values in stored.items() if values}


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
