"""Which pixels a cell of a network sees, and whether it can run over a whole photograph."""

from typing import NamedTuple

from crackflow.core.backend import keras
from crackflow.model import structure

layers = keras.layers


CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.MaxPooling2D)
CONVOLUTIONS += (layers.AveragePooling2D,)
POINTWISE = (layers.Rescaling, layers.BatchNormalization, layers.Activation, layers.ReLU, layers.Add, layers.Dropout)
POINTWISE += (layers.Concatenate,)
POOLED = (layers.Concatenate, layers.Dense, layers.Activation, layers.ReLU, layers.Dropout)


class ReceptiveField(NamedTuple):
    """The pixels that cell 0 of a layer sees, from `low` up to, not including, `high`; its neighbour sees those `step`
    further."""

    low: int
    high: int
    step: int


def find_backbone(model: keras.Model) -> tuple[ReceptiveField, str, bool] | None:
    """The reach and name of the layer that `model` pools over the whole picture, and whether a layer before it adds
    zeros at the border; if every such layer is the same wherever in a photograph it is applied, and either none of them
    adds zeros or all keep the size of the picture by them."""
    trunk = structure.pooled_layer(model)
    if not trunk or any(len(layer.inbound_nodes) > 1 for layer in model.layers):
        return None
    names = [layer.name for layer in model.layers]
    start = names.index(trunk) + 1
    rest = [layer for layer in model.layers[start:] if not isinstance(layer, structure.POOLS)]
    if not all(isinstance(layer, POOLED) for layer in rest[:-1]) or not isinstance(rest[-1], layers.Reshape):
        return None
    reach: dict[str, ReceptiveField | None] = {}
    for layer in model.layers[:start]:
        reach[layer.name] = _reach(layer, [reach[name] for name in structure.input_layers(layer)])
        if reach[layer.name] is None:
            return None
    found = reach[trunk]
    standardises = sum(map(standardizes, model.layers[:start]))
    if standardises > 1:
        return None
    if not any(isinstance(layer, CONVOLUTIONS) and _zeros(layer) for layer in model.layers[:start]):
        return (found, trunk, False) if found.low == 0 and not standardises else None
    keeps = model.get_layer(trunk).output_shape[1] * found.step == model.input_shape[1]
    crops = any(isinstance(layer, layers.Cropping2D) for layer in model.layers[:start])
    return (found, trunk, True) if keeps and not crops else None


def _reach(layer: keras.layers.Layer, before: list[ReceptiveField]) -> ReceptiveField | None:
    if isinstance(layer, layers.InputLayer):
        return ReceptiveField(0, 1, 1)
    if isinstance(layer, layers.Cropping2D):
        (above, below), sides = layer.cropping
        if {above, below, *sides} != {above}:
            return None
        low, high, step = before[0]
        return ReceptiveField(low + above * step, high + above * step, step)
    if isinstance(layer, CONVOLUTIONS):
        square = len(set(_sizes(layer))) == len(set(layer.strides)) == len(set(_apart(layer))) == 1
        pools_border = layer.padding == "same" and hasattr(layer, "pool_size")  # over fewer pixels there
        if not square or layer.data_format != "channels_last" or pools_border:
            return None
        low, high, step = before[0]
        sees, zeros = (_sizes(layer)[0] - 1) * _apart(layer)[0], _zeros(layer) // 2
        if layer.padding == "same" and layer.input_shape[1] % layer.strides[0]:
            return None  # how many zeros come first depends on the size of the picture
        return ReceptiveField(low - zeros * step, high + (sees - zeros) * step, step * layer.strides[0])
    if standardizes(layer):  # by levels that are taken of the photograph beforehand, cell by cell
        return before[0] if (before[0].low, before[0].high) == (0, before[0].step) else None
    if not isinstance(layer, POINTWISE) or len({one.step for one in before}) != 1:
        return None
    return ReceptiveField(min(one.low for one in before), max(one.high for one in before), before[0].step)


def standardizes(layer: keras.layers.Layer) -> bool:
    """Whether it is what `blocks` standardises a picture by, or alike."""
    is_one = isinstance(layer, layers.LayerNormalization) and list(layer.axis) == [1, 2]
    return is_one and not layer.center and not layer.scale


def _zeros(layer: keras.layers.Layer) -> int:
    """How many it adds to a row, half of them, rounded down, before the first pixel: as TensorFlow pads pictures whose
    sides are multiples of the stride."""
    if layer.padding != "same":
        return 0
    return max((_sizes(layer)[0] - 1) * _apart(layer)[0] + 1 - layer.strides[0], 0)


def _sizes(layer: keras.layers.Layer) -> tuple[int, ...]:
    return getattr(layer, "kernel_size", None) or layer.pool_size


def _apart(layer: keras.layers.Layer) -> tuple[int, ...]:
    return getattr(layer, "dilation_rate", (1, 1))
