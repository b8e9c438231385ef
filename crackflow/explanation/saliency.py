"""Where a network looks: heat maps for its single logit, of either class.

Synopsis::

    explainer = saliency.Explainer(model, Method.LAYER_CAM)
    maps = explainer(image, toward)       # uint8 [B, px, px, C], bool [B] -> float32 [B, px, px], 0 or more

`toward`: True explains what speaks for cracked, False what speaks for clean: the gradients of -logit. Works on any
model of one logit with a uint8 input that is rescaled first, in any precision; the maps are float32.

A stage is the last layer with maps of its size. Maps are laid over the picture by where the centres of the receptive
fields lie, which strided convolutions move: by half a cell of `crackflow_s`'s last stage.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from crackflow.core.backend import keras, tf
from crackflow.core.config.trained import Method

INTEGRATION_STEPS = 8  # with 32 the scores on DeepCrack are the same within 0.002, at a quarter of the speed
OCCLUDED = 8  # a window of an eighth of the picture, moved by half of itself
OCCLUSION_BATCH = 256
LAYER_CAM_GAIN = 2.0  # of the tanh that evens out shallow stages: Jiang et al. 2021, section III-C


class FeatureMap(NamedTuple):
    """A layer whose maps can be laid over the picture: cell (i, j) is centred at pixel offset + stride * (i, j)."""

    name: str
    size: tuple[int, int]
    stride: tuple[float, float]
    offset: tuple[float, float]


def feature_maps(model: keras.Model) -> list[FeatureMap]:
    """The stages of `model`, finest first; those of one cell are left out. Raises: ValueError when there is none."""
    grids, found, learned = {}, {}, False
    for layer in model.layers:
        parents = [node.layer.name for node in layer.inbound_nodes[0].parent_nodes]
        grid = grids.get(parents[0], _Grid()) if parents else _Grid()
        grids[layer.name] = grid = _through(layer, grid)
        # A rescaled or padded picture is no stage, nor is one whose channels a fixed layer has swapped.
        learned |= bool(layer.weights) and (layer.trainable or not model.trainable)
        shape, padded = layer.output_shape, isinstance(layer, keras.layers.ZeroPadding2D)
        if learned and not padded and isinstance(shape, tuple) and len(shape) == 4 and shape[1] > 1:
            found[shape[1:3]] = FeatureMap(layer.name, shape[1:3], grid.stride, grid.offset)
    if not found:
        raise ValueError("stages: expected a network with maps of more than one cell, found none")
    return sorted(found.values(), key=lambda stage: -stage.size[0] * stage.size[1])


class _Grid(NamedTuple):
    stride: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)


def _through(layer: keras.layers.Layer, grid: _Grid) -> _Grid:
    """Where the cells after `layer` are centred, when before it they are at `grid`."""
    if isinstance(layer, keras.Sequential):  # ConvNeXt's stem, and what lies between its stages
        return functools.reduce(lambda so_far, inner: _through(inner, so_far), layer.layers, grid)
    if isinstance(layer, keras.layers.ZeroPadding2D):
        steps, moves = (1, 1), [-before for before, _ in layer.padding]
    elif isinstance(layer, keras.layers.Cropping2D):
        steps, moves = (1, 1), [before for before, _ in layer.cropping]
    elif hasattr(layer, "strides") and len(layer.strides) == 2:
        steps = layer.strides
        kernel = getattr(layer, "kernel_size", None) or layer.pool_size
        dilation = getattr(layer, "dilation_rate", (1, 1))
        moves = [
            (extent - 1) / 2 - _padding_before(layer.padding, size, extent, step)
            for size, extent, step in zip(
                layer.input_shape[1:3],
                [(size - 1) * apart + 1 for size, apart in zip(kernel, dilation, strict=True)],
                steps,
                strict=True,
            )
        ]
    else:
        return grid
    return _Grid(
        tuple(stride * step for stride, step in zip(grid.stride, steps, strict=True)),
        tuple(at + stride * move for at, stride, move in zip(grid.offset, grid.stride, moves, strict=True)),
    )


def _padding_before(padding: str, size: int, extent: int, step: int) -> int:
    """Rows that `same` puts before the first: half of what is missing, rounded down."""
    return max((-(-size // step) - 1) * step + extent - size, 0) // 2 if padding == "same" else 0


def overlay_weights(stage: FeatureMap, px: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 [px, h] and [px, w]: rows @ map @ columns.T is the map on the picture, linear between the centres."""
    both = []
    for cells, stride, offset in zip(stage.size, stage.stride, stage.offset, strict=True):
        place = np.clip((np.arange(px) - offset) / stride, 0, cells - 1)
        low = np.minimum(place.astype(int), max(cells - 2, 0))
        weights = np.zeros((px, cells), np.float32)
        weights[np.arange(px), low] = 1 - (place - low)
        weights[np.arange(px), np.minimum(low + 1, cells - 1)] += place - low
        both.append(weights)
    return both[0], both[1]


def grad_cam(activation: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """float32 [B, h, w] from activations and their gradients [B, h, w, K]: each channel times its mean gradient,
    summed, what is positive of it. Selvaraju et al. 2017 (ICCV)."""
    return tf.nn.relu(tf.einsum("bhwk,bk->bhw", activation, tf.reduce_mean(gradient, [1, 2])))


def grad_cam_plus_plus(activation: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """As `grad_cam`, with positive gradients weighted by how many cells share them. Chattopadhay et al. 2018 (WACV),
    equation 19 for exp of the logit, whose own value cancels."""
    square = tf.square(gradient)
    below = 2 * square + tf.reduce_sum(activation, [1, 2], keepdims=True) * square * gradient
    weight = tf.math.divide_no_nan(square, below) * tf.nn.relu(gradient)
    return tf.nn.relu(tf.einsum("bhwk,bk->bhw", activation, tf.reduce_sum(weight, [1, 2])))


def hires_cam(activation: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Activation times gradient, cell by cell, summed, what is positive of it. Draelos and Carin 2020,
    arXiv:2011.08891: before a linear head the sum without that cut is the logit less its bias."""
    return tf.nn.relu(tf.reduce_sum(activation * gradient, -1))


def layer_cam(activation: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Activation times positive gradient, cell by cell, summed, what is positive of it. Jiang et al. 2021, IEEE Trans.
    Image Process. 30:5875."""
    return tf.nn.relu(tf.reduce_sum(activation * tf.nn.relu(gradient), -1))


CAMS = {
    Method.GRAD_CAM: grad_cam,
    Method.GRAD_CAM_PLUS_PLUS: grad_cam_plus_plus,
    Method.HIRES_CAM: hires_cam,
    Method.LAYER_CAM: layer_cam,
}


class Explainer:
    """Heat maps of `model` by `method`. `layers`: names of stages for the four that need some, fused as in LayerCAM's
    paper; none: the method's own choice, the last one, and all of them for LayerCAM."""

    def __init__(self, model: keras.Model, method: Method, layers: Sequence[str] = ()) -> None:
        self.model, self.method = model, method
        self.px = model.input_shape[1]
        every = {stage.name: stage for stage in feature_maps(model)}
        unknown = [name for name in layers if name not in every]
        if unknown:
            raise ValueError(f"expected stages among {', '.join(every)}; received {', '.join(unknown)}")
        chosen = list(every.values()) if method is Method.LAYER_CAM else list(every.values())[-1:]
        self.stages = [every[name] for name in layers] or chosen
        # From the rescaled picture on: the uint8 one has no gradients, and without a watched start those of a frozen
        # network would not be recorded.
        self._first = model.layers[1]
        inside = [model.get_layer(stage.name).output for stage in self.stages] if method in CAMS else []
        self._rest = keras.Model(self._first.output, [*inside, model.outputs[0]])
        self._weights = [overlay_weights(stage, self.px) for stage in self.stages]
        self._made = tf.function(self._make)

    def __call__(self, image: np.ndarray | tf.Tensor, toward: np.ndarray | tf.Tensor) -> np.ndarray:
        """float32 [B, px, px], 0 or more, in no unit, larger where more speaks for the class. `image` uint8
        [B, px, px, C]; `toward` bool [B], True for cracked."""
        image, toward = tf.convert_to_tensor(image), tf.convert_to_tensor(toward, tf.bool)
        if self.method is Method.OCCLUSION:
            return occlusion(lambda images: self.model(images, training=False), image, toward)
        return self._made(image, toward).numpy()

    def _make(self, image: tf.Tensor, toward: tf.Tensor) -> tf.Tensor:
        sign, scaled = tf.where(toward, 1.0, -1.0), self._first(image)
        if self.method is Method.INTEGRATED_GRADIENTS:
            return tf.nn.relu(tf.reduce_sum(integrated_gradients(self._rest, scaled, sign), -1))
        with tf.GradientTape() as tape:
            tape.watch(scaled)
            *activations, logit = self._rest(scaled, training=False)
            score = tf.reduce_sum(sign * tf.cast(logit, tf.float32))
        gradients = tape.gradient(score, activations)
        maps = []
        for activation, gradient, (rows, columns) in zip(activations, gradients, self._weights, strict=True):
            small = CAMS[self.method](tf.cast(activation, tf.float32), tf.cast(gradient, tf.float32))
            maps.append(tf.einsum("yh,bhw,xw->byx", rows, small, columns))
        return fused(maps) if len(maps) > 1 else maps[0]


def fused(maps: list[tf.Tensor]) -> tf.Tensor:
    """The largest, pixel by pixel, of maps float32 [B, px, px], each from 0 to 1 on its own; the shallow ones, all but
    the last, through a tanh."""
    scaled = [tf.math.divide_no_nan(one, tf.reduce_max(one, [1, 2], keepdims=True)) for one in maps]
    shallow = [tf.tanh(LAYER_CAM_GAIN * one) for one in scaled[:-1]]
    return tf.reduce_max(tf.stack([*shallow, scaled[-1]]), 0)


def integrated_gradients(logits: Callable, picture: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    """float32 [B, px, px, C]: each value's part in sign * (logit of the picture - logit of its mean colour), of
    `picture` [B, px, px, C] in floats of any scale.

    Sundararajan et al. 2017 (ICML). The path starts from the picture's own mean colour, a surface with nothing on it:
    from black, as usual, a dark crack would be next to where it starts and count for nothing.
    """
    picture = tf.cast(picture, tf.float32)
    flat = tf.zeros_like(picture) + tf.reduce_mean(picture, [1, 2], keepdims=True)
    total = tf.zeros_like(picture)
    for step in tf.range(INTEGRATION_STEPS):
        share = (tf.cast(step, tf.float32) + 0.5) / INTEGRATION_STEPS  # midpoints
        between = flat + share * (picture - flat)
        with tf.GradientTape() as tape:
            tape.watch(between)
            score = tf.reduce_sum(sign * tf.cast(logits(between, training=False), tf.float32))
        total += tape.gradient(score, between)
    return (picture - flat) * total / INTEGRATION_STEPS


def occlusion(logits: Callable, image: tf.Tensor, toward: tf.Tensor) -> np.ndarray:
    """float32 [B, px, px]: by how much the logit falls, at least 0, when a window over the pixel takes the picture's
    mean colour, averaged over the windows that cover it. Zeiler and Fergus 2014 (ECCV)."""
    image, sign = np.asarray(image), np.where(np.asarray(toward), 1.0, -1.0)
    px = image.shape[1]
    side = max(px // OCCLUDED, 1)
    starts = np.unique(np.round(np.linspace(0, px - side, 2 * -(-px // side) - 1)).astype(int))
    windows = [(y, x) for y in starts for x in starts]
    found = np.zeros(image.shape[:3], np.float32)
    covered = np.zeros((px, px), np.float32)
    for y, x in windows:
        covered[y : y + side, x : x + side] += 1
    for row, picture in enumerate(image):
        flat = np.round(picture.mean((0, 1))).astype(np.uint8)
        whole = float(np.asarray(logits(picture[None]))[0])
        for first in range(0, len(windows), OCCLUSION_BATCH):
            part = windows[first : first + OCCLUSION_BATCH]
            batch = np.repeat(picture[None], len(part), 0)
            for hidden, (y, x) in zip(batch, part, strict=True):
                hidden[y : y + side, x : x + side] = flat
            falls = sign[row] * (whole - np.asarray(logits(batch), np.float64))
            for fall, (y, x) in zip(falls, part, strict=True):
                found[row, y : y + side, x : x + side] += fall
    return np.maximum(found / covered, 0)
