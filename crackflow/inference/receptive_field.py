"""The receptive field of a network's cells, and whether the network can run over a whole photograph."""

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
    """The pixels that cell 0 of a layer sees, `low` <= x < `high`; the next cell sees those `step` pixels further."""

    low: int
    high: int
    step: int


def find_backbone(model: keras.Model) -> tuple[ReceptiveField, str, bool] | None:
    """Find the layers that can be applied to a whole photograph: those up to the global pooling.

    Args:
        model: a classifier of square images.

    Returns:
        The receptive field and name of the layer that `model` pools over the whole image, and whether a layer before
        it pads with zeros. None unless all these layers work alike at every position of a photograph, and either none
        of them pads with zeros or all keep the size of the image by padding.
    """
    backbone = structure.pooled_layer(model)
    if not backbone or any(len(layer.inbound_nodes) > 1 for layer in model.layers):
        return None
    names = [layer.name for layer in model.layers]
    start = names.index(backbone) + 1
    head = [layer for layer in model.layers[start:] if not isinstance(layer, structure.POOLS)]
    if not all(isinstance(layer, POOLED) for layer in head[:-1]) or not isinstance(head[-1], layers.Reshape):
        return None
    fields: dict[str, ReceptiveField | None] = {}
    for layer in model.layers[:start]:
        fields[layer.name] = _layer_field(layer, [fields[name] for name in structure.input_layers(layer)])
        if fields[layer.name] is None:
            return None
    field = fields[backbone]
    standardizing_count = sum(map(standardizes, model.layers[:start]))
    if standardizing_count > 1:
        return None
    if not any(isinstance(layer, CONVOLUTIONS) and _padding_zeros(layer) for layer in model.layers[:start]):
        return (field, backbone, False) if field.low == 0 and not standardizing_count else None
    keeps_size = model.get_layer(backbone).output_shape[1] * field.step == model.input_shape[1]
    crops = any(isinstance(layer, layers.Cropping2D) for layer in model.layers[:start])
    return (field, backbone, True) if keeps_size and not crops else None


def _layer_field(layer: keras.layers.Layer, inputs: list[ReceptiveField]) -> ReceptiveField | None:
    """The receptive field of `layer` behind those of its `inputs`; None if it depends on position."""
    if isinstance(layer, layers.InputLayer):
        return ReceptiveField(0, 1, 1)
    if isinstance(layer, layers.Cropping2D):
        (above, below), sides = layer.cropping
        if {above, below, *sides} != {above}:
            return None
        low, high, step = inputs[0]
        return ReceptiveField(low + above * step, high + above * step, step)
    if isinstance(layer, CONVOLUTIONS):
        is_square = len(set(_kernel_size(layer))) == len(set(layer.strides)) == len(set(_dilation_rate(layer))) == 1
        pools_border = layer.padding == "same" and hasattr(layer, "pool_size")  # it pools fewer pixels there
        if not is_square or layer.data_format != "channels_last" or pools_border:
            return None
        low, high, step = inputs[0]
        extent, zeros = (_kernel_size(layer)[0] - 1) * _dilation_rate(layer)[0], _padding_zeros(layer) // 2
        if layer.padding == "same" and layer.input_shape[1] % layer.strides[0]:
            return None  # the number of leading zeros depends on the size of the image
        return ReceptiveField(low - zeros * step, high + (extent - zeros) * step, step * layer.strides[0])
    if standardizes(layer):  # with statistics computed from the photograph beforehand, cell by cell
        return inputs[0] if (inputs[0].low, inputs[0].high) == (0, inputs[0].step) else None
    if not isinstance(layer, POINTWISE) or len({field.step for field in inputs}) != 1:
        return None
    return ReceptiveField(min(field.low for field in inputs), max(field.high for field in inputs), inputs[0].step)


def standardizes(layer: keras.layers.Layer) -> bool:
    """Whether `layer` standardizes each image by itself, as the stem in `blocks` does."""
    is_per_image = isinstance(layer, layers.LayerNormalization) and list(layer.axis) == [1, 2]
    return is_per_image and not layer.center and not layer.scale


def _padding_zeros(layer: keras.layers.Layer) -> int:
    """How many zeros `layer` adds to a row, half of them, rounded down, before the first pixel.

    This is how TensorFlow pads images whose sides are multiples of the stride.
    """
    if layer.padding != "same":
        return 0
    return max((_kernel_size(layer)[0] - 1) * _dilation_rate(layer)[0] + 1 - layer.strides[0], 0)


def _kernel_size(layer: keras.layers.Layer) -> tuple[int, ...]:
    return getattr(layer, "kernel_size", None) or layer.pool_size


def _dilation_rate(layer: keras.layers.Layer) -> tuple[int, ...]:
    return getattr(layer, "dilation_rate", (1, 1))
