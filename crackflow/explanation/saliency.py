"""Heat maps that show where a network looks: for its single logit, of either class.

Synopsis::

    explainer = saliency.Explainer(model, Method.LAYER_CAM)
    maps = explainer(image, toward)       # uint8 [B, px, px, C], bool [B] -> float32 [B, px, px], 0 or more

`toward`: True explains the evidence for cracked, False that for clean: the gradients of -logit. Any model of one logit
whose uint8 input is rescaled first can be explained, in any precision; the maps are float32.

A stage is the last layer with maps of its size. Maps are laid over the image by the centres of the receptive fields,
which strided convolutions shift: by half a cell of `crackflow_s`'s last stage.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from crackflow.core.backend import keras, tf
from crackflow.core.config.trained import Method

INTEGRATION_STEPS = 8  # with 32 the scores on DeepCrack are the same within 0.002, at a quarter of the speed
OCCLUDED = 8  # the window has an eighth of the image's side, and moves by half of its own
OCCLUSION_BATCH = 256
LAYER_CAM_GAIN = 2.0  # of the tanh that compresses shallow stages: Jiang et al. 2021, section III-C


class FeatureMap(NamedTuple):
    """A layer whose maps can be laid over the image: cell (i, j) is centred at pixel offset + stride * (i, j)."""

    name: str
    size: tuple[int, int]
    stride: tuple[float, float]
    offset: tuple[float, float]


def feature_maps(model: keras.Model) -> list[FeatureMap]:
    """The stages of a model.

    Args:
        model: A network of convolutions.

    Returns:
        The stages, finest first; those of one cell are left out.

    Raises:
        ValueError: There is no stage.
    """
    grids, stages, learned = {}, {}, False
    for layer in model.layers:
        parents = [node.layer.name for node in layer.inbound_nodes[0].parent_nodes]
        grid = grids.get(parents[0], _Grid()) if parents else _Grid()
        grids[layer.name] = grid = _propagate_grid(layer, grid)
        # A rescaled or padded image is no stage, nor is one whose channels a fixed layer has swapped.
        learned |= bool(layer.weights) and (layer.trainable or not model.trainable)
        shape, padded = layer.output_shape, isinstance(layer, keras.layers.ZeroPadding2D)
        if learned and not padded and isinstance(shape, tuple) and len(shape) == 4 and shape[1] > 1:
            stages[shape[1:3]] = FeatureMap(layer.name, shape[1:3], grid.stride, grid.offset)
    if not stages:
        raise ValueError("stages: expected a network with maps of more than one cell, found none")
    return sorted(stages.values(), key=lambda stage: -stage.size[0] * stage.size[1])


class _Grid(NamedTuple):
    stride: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)


def _propagate_grid(layer: keras.layers.Layer, grid: _Grid) -> _Grid:
    """The centres of the cells after `layer`, when those before it are at `grid`."""
    if isinstance(layer, keras.Sequential):  # ConvNeXt's stem, and the layers between its stages
        return functools.reduce(lambda grid_before, inner: _propagate_grid(inner, grid_before), layer.layers, grid)
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
        tuple(start + stride * move for start, stride, move in zip(grid.offset, grid.stride, moves, strict=True)),
    )


def _padding_before(padding: str, size: int, extent: int, step: int) -> int:
    """Rows that `same` adds before the first: half of the total padding, rounded down."""
    return max((-(-size // step) - 1) * step + extent - size, 0) // 2 if padding == "same" else 0


def overlay_weights(stage: FeatureMap, image_px: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 [image_px, h] and [image_px, w]: rows @ map @ columns.T is the map on the image, linear between the
    centres."""
    weights_by_axis = []
    for cells, stride, offset in zip(stage.size, stage.stride, stage.offset, strict=True):
        position = np.clip((np.arange(image_px) - offset) / stride, 0, cells - 1)
        low = np.minimum(position.astype(int), max(cells - 2, 0))
        weights = np.zeros((image_px, cells), np.float32)
        weights[np.arange(image_px), low] = 1 - (position - low)
        weights[np.arange(image_px), np.minimum(low + 1, cells - 1)] += position - low
        weights_by_axis.append(weights)
    return weights_by_axis[0], weights_by_axis[1]


def grad_cam(activation: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Each channel times its mean gradient, summed; the positive part. Selvaraju et al. 2017 (ICCV).

    Args:
        activation: float32 [B, h, w, K].
        gradient: float32 [B, h, w, K], of the logit by the activation.

    Returns:
        float32 [B, h, w].
    """
    return tf.nn.relu(tf.einsum("bhwk,bk->bhw", activation, tf.reduce_mean(gradient, [1, 2])))


def grad_cam_plus_plus(activation: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """As `grad_cam`, with positive gradients weighted by how many cells share them.

    Chattopadhay et al. 2018 (WACV), equation 19 for exp of the logit, whose own value cancels.
    """
    square = tf.square(gradient)
    denominator = 2 * square + tf.reduce_sum(activation, [1, 2], keepdims=True) * square * gradient
    weight = tf.math.divide_no_nan(square, denominator) * tf.nn.relu(gradient)
    return tf.nn.relu(tf.einsum("bhwk,bk->bhw", activation, tf.reduce_sum(weight, [1, 2])))


def hires_cam(activation: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Activation times gradient per cell, summed over channels; the positive part.

    Draelos and Carin 2020, arXiv:2011.08891: before a linear head the sum without that cut is the logit less its bias.
    """
    return tf.nn.relu(tf.reduce_sum(activation * gradient, -1))


def layer_cam(activation: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Activation times positive gradient per cell, summed over channels; the positive part.

    Jiang et al. 2021, IEEE Trans. Image Process. 30:5875.
    """
    return tf.nn.relu(tf.reduce_sum(activation * tf.nn.relu(gradient), -1))


CAMS = {
    Method.GRAD_CAM: grad_cam,
    Method.GRAD_CAM_PLUS_PLUS: grad_cam_plus_plus,
    Method.HIRES_CAM: hires_cam,
    Method.LAYER_CAM: layer_cam,
}


class Explainer:
    """Heat maps of `model` by `method`.

    `layers` are names of stages for the four methods that use some, fused as in LayerCAM's paper. Without them, the
    default of the method is used: the last stage, and for LayerCAM all stages. For a single batch, `compiled=False` is
    faster: a graph takes 0.7 s to trace, the batch without one 0.2 s.
    """

    def __init__(self, model: keras.Model, method: Method, layers: Sequence[str] = (), compiled: bool = True) -> None:
        self.model, self.method = model, method
        self.image_px = model.input_shape[1]
        stages = {stage.name: stage for stage in feature_maps(model)}
        unknown = [name for name in layers if name not in stages]
        if unknown:
            raise ValueError(f"expected stages among {', '.join(stages)}; received {', '.join(unknown)}")
        default_stages = list(stages.values()) if method is Method.LAYER_CAM else list(stages.values())[-1:]
        self.stages = [stages[name] for name in layers] or default_stages
        # The gradients begin at the rescaled image: the uint8 one has none, and without a watched tensor those of a
        # frozen network would not be recorded.
        self._first = model.layers[1]
        activations = [model.get_layer(stage.name).output for stage in self.stages] if method in CAMS else []
        self._rest = keras.Model(self._first.output, [*activations, model.outputs[0]])
        self._weights = [overlay_weights(stage, self.image_px) for stage in self.stages]
        self._compute = tf.function(self._compute_maps) if compiled else self._compute_maps

    def __call__(self, image: np.ndarray | tf.Tensor, toward: np.ndarray | tf.Tensor) -> np.ndarray:
        """Computes heat maps.

        Args:
            image: uint8 [B, px, px, C], 0..255.
            toward: bool [B], True for cracked.

        Returns:
            float32 [B, px, px], 0 or more, without unit, larger where there is more evidence for the class.
        """
        image, toward = tf.convert_to_tensor(image), tf.convert_to_tensor(toward, tf.bool)
        if self.method is Method.OCCLUSION:
            return occlusion(lambda images: self.model(images, training=False), image, toward)
        return self._compute(image, toward).numpy()

    def _compute_maps(self, image: tf.Tensor, toward: tf.Tensor) -> tf.Tensor:
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
        return fuse_maps(maps) if len(maps) > 1 else maps[0]


def fuse_maps(maps: list[tf.Tensor]) -> tf.Tensor:
    """The pixelwise maximum of maps float32 [B, px, px], each scaled to 0..1; a tanh compresses all but the last,
    which are the shallow ones."""
    scaled = [tf.math.divide_no_nan(heatmap, tf.reduce_max(heatmap, [1, 2], keepdims=True)) for heatmap in maps]
    shallow = [tf.tanh(LAYER_CAM_GAIN * heatmap) for heatmap in scaled[:-1]]
    return tf.reduce_max(tf.stack([*shallow, scaled[-1]]), 0)


def integrated_gradients(logits: Callable, picture: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
    """Each value's part in sign * (logit of the image - logit of its mean colour).

    Sundararajan et al. 2017 (ICML). The path starts from the image's own mean colour, an empty surface: from black, as
    usual, a dark crack would be close to the start and count for nothing.

    Args:
        logits: The network, from `picture` on.
        picture: float [B, px, px, C], of any scale.
        sign: float32 [B], 1 or -1.

    Returns:
        float32 [B, px, px, C].
    """
    picture = tf.cast(picture, tf.float32)
    flat = tf.zeros_like(picture) + tf.reduce_mean(picture, [1, 2], keepdims=True)
    total = tf.zeros_like(picture)
    for step in tf.range(INTEGRATION_STEPS):
        fraction = (tf.cast(step, tf.float32) + 0.5) / INTEGRATION_STEPS  # midpoints
        between = flat + fraction * (picture - flat)
        with tf.GradientTape() as tape:
            tape.watch(between)
            score = tf.reduce_sum(sign * tf.cast(logits(between, training=False), tf.float32))
        total += tape.gradient(score, between)
    return (picture - flat) * total / INTEGRATION_STEPS


def occlusion(logits: Callable, image: tf.Tensor, toward: tf.Tensor) -> np.ndarray:
    """How far the logit falls when a window over a pixel is filled with the image's mean colour.

    Zeiler and Fergus 2014 (ECCV); averaged over the windows that cover the pixel.

    Args:
        logits: The network: uint8 images to [N].
        image: uint8 [B, px, px, C], 0..255.
        toward: bool [B], True for cracked.

    Returns:
        float32 [B, px, px], at least 0.
    """
    image, sign = np.asarray(image), np.where(np.asarray(toward), 1.0, -1.0)
    image_px = image.shape[1]
    side = max(image_px // OCCLUDED, 1)
    starts = np.unique(np.round(np.linspace(0, image_px - side, 2 * -(-image_px // side) - 1)).astype(int))
    windows = [(y, x) for y in starts for x in starts]
    total = np.zeros(image.shape[:3], np.float32)
    covered = np.zeros((image_px, image_px), np.float32)
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
                total[row, y : y + side, x : x + side] += fall
    return np.maximum(total / covered, 0)
