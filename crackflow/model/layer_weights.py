"""Weights from a file, by layer name: to start from a network that has been trained elsewhere.

A layer behind one with random weights never saw the like of its features. So a file that would leave the first layer
new, or more layers than it fills, is refused; where it leaves others in between, `among` names them.

Synopsis::

    taken, left = layer_weights.load_by_name(model, "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5")  # nothing
    is downloaded locator = layer_weights.locator(model, "runs/first/model.h5")     # what it learnt from masks, or None
"""

import h5py
import numpy as np

from crackflow.core.backend import keras
from crackflow.core.errors import UserError
from crackflow.model import mask_head, safe_load

MIN_FILLED = 0.5  # of the layers with weights; an H5 file of a whole backbone fills all but the new last one


def load_by_name(model: keras.Model, path: str) -> tuple[list[str], list[str]]:
    """Set the layers of `model` whose name and shapes are in the H5 file `path`; the names of those taken and left.

    Layers without weights are in neither. Raises: UserError, nothing set, when the file can't be read, when no layer
    fits, or when so few do that the network would be a new one.
    """
    try:
        with h5py.File(path, "r") as file:
            safe_load.expect_own_data(file)
            stored = _layers(file)
    except (OSError, KeyError, RuntimeError, safe_load.UnsafeModelError, safe_load.DamagedModelError) as error:
        raise UserError(
            f"--weights: expected an H5 file of weights saved by Keras, received {path!r}: {error}"
        ) from error
    taken, left = [], []
    for layer in (one for one in model.layers if one.weights):
        shapes = [value.shape for value in stored.get(layer.name, [])]
        (taken if shapes == [tuple(weight.shape) for weight in layer.weights] else left).append(layer.name)
    if not taken:
        raise UserError(
            f"--weights: expected layers such as {', '.join(left[:3])}, but {path!r} has "
            f"{', '.join(list(stored)[:3]) or 'none with weights'}; choose the file that belongs to --model"
        )
    learning = [layer.name for layer in model.layers if layer.weights and layer.trainable]  # others are fixed, not new
    if learning[0] in left or len(taken) < MIN_FILLED * len(taken + left):
        raise UserError(
            f"--weights: expected the layers of this network, the first among them, but {path!r} fills {len(taken)} of "
            f"{len(taken + left)} and leaves {', '.join(left[:3])}{', ...' * (len(left) > 3)} new; choose the file that"
            " belongs to --model, or the network flags that belong to the file"
        )
    for name in taken:
        model.get_layer(name).set_weights(stored[name])
    return taken, left


def among(model: keras.Model, taken: list[str]) -> list[str]:
    """Layers that learn and were not `taken`, before the last one that was: what is taken behind them sees other
    features than it learnt from."""
    layers = [layer for layer in model.layers if layer.weights]
    last = max(place for place, layer in enumerate(layers) if layer.name in taken)
    return [layer.name for layer in layers[:last] if layer.trainable and layer.name not in taken]


def locator(model: keras.Model, path: str) -> mask_head.MaskHead | None:
    """What was learnt from masks in the H5 file `path`, or None. Raises: ValueError when it does not fit `model`."""
    with h5py.File(path, "r") as file:
        return mask_head.MaskHead.read(file, model)


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
