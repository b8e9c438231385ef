"""Loads weights from a file by layer name, to start from a network that was trained elsewhere.

A layer behind one with random weights was never trained on such features. So a file is refused if it would leave the
first layer new, or more layers than it fills; where it leaves others in between, `among` names them.

Synopsis::

    loaded, missing = layer_weights.load_by_name(model, "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5")
    locator = layer_weights.locator(model, "runs/first/model.h5")     # what it learnt from masks, or None

Nothing is downloaded.
"""

import h5py
import numpy as np

from crackflow.core.backend import keras
from crackflow.core.errors import UserError
from crackflow.model import mask_head, safe_load

MIN_FILLED = 0.5  # of the layers with weights; an H5 file of a whole backbone fills all but the new last one


def load_by_name(model: keras.Model, path: str) -> tuple[list[str], list[str]]:
    """Sets the layers of `model` whose name and shapes are in the H5 file `path`.

    Args:
      model: the network to fill.
      path: an H5 file of weights saved by Keras.

    Returns:
      The names of the loaded layers and of the missing ones. Layers without weights are in neither list.

    Raises:
      UserError: the file can't be read, no layer fits, or so few layers fit that the network would be a new one.
        Nothing is set then.
    """
    try:
        with h5py.File(path, "r") as file:
            safe_load.require_own_data(file)
            stored = _read_layers(file)
    except (OSError, KeyError, RuntimeError, safe_load.UnsafeModelError, safe_load.DamagedModelError) as error:
        raise UserError(
            f"--weights: expected an H5 file of weights saved by Keras, received {path!r}: {error}"
        ) from error
    loaded: list[str] = []
    missing: list[str] = []
    for layer in (candidate for candidate in model.layers if candidate.weights):
        shapes = [value.shape for value in stored.get(layer.name, [])]
        (loaded if shapes == [tuple(weight.shape) for weight in layer.weights] else missing).append(layer.name)
    if not loaded:
        raise UserError(
            f"--weights: expected layers such as {', '.join(missing[:3])}, but {path!r} has "
            f"{', '.join(list(stored)[:3]) or 'none with weights'}; choose the file that belongs to --model"
        )
    trainable = [layer.name for layer in model.layers if layer.weights and layer.trainable]  # others are fixed, not new
    if trainable[0] in missing or len(loaded) < MIN_FILLED * len(loaded + missing):
        raise UserError(
            f"--weights: expected the layers of this network, the first among them, but {path!r} fills {len(loaded)} "
            f"of {len(loaded + missing)} and leaves {', '.join(missing[:3])}{', ...' * (len(missing) > 3)} new; choose "
            "the file that belongs to --model, or the network flags that belong to the file"
        )
    for name in loaded:
        model.get_layer(name).set_weights(stored[name])
    return loaded, missing


def new_before_loaded(model: keras.Model, loaded: list[str]) -> list[str]:
    """Finds new layers that lie before loaded ones, which then see other features than those they were trained on.

    Args:
      model: the network.
      loaded: the names of the layers that were loaded.

    Returns:
      The names of trainable layers that were not loaded and precede the last loaded one.
    """
    layers = [layer for layer in model.layers if layer.weights]
    last = max(index for index, layer in enumerate(layers) if layer.name in loaded)
    return [layer.name for layer in layers[:last] if layer.trainable and layer.name not in loaded]


def locator(model: keras.Model, path: str) -> mask_head.MaskHead | None:
    """Reads the mask head in the H5 file `path`.

    Returns:
      The mask head, or None where the file has none.

    Raises:
      ValueError: it does not fit `model`.
    """
    with h5py.File(path, "r") as file:
        return mask_head.MaskHead.read(file, model)


def _read_layers(file: h5py.File) -> dict[str, list[np.ndarray]]:
    """The arrays of each layer that has weights, in the order in which Keras lists them."""
    root = file["model_weights"] if "model_weights" in file else file
    names = [_as_text(name) for name in root.attrs["layer_names"]]
    stored = {
        name: [np.asarray(root[name][_as_text(weight)]) for weight in root[name].attrs["weight_names"]]
        for name in names
    }
    return {name: values for name, values in stored.items() if values}


def _as_text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
