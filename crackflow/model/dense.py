"""Every window of a photograph, scored at once as if each were alone.

Synopsis::

    scorer = dense.scorer(model)
    logits = scorer.score(pixels)                # uint8 [H, W, C], 0..255 -> float32 [h, w]
    logits[i, j]                                 # of pixels[y : y + scorer.px, x : x + scorer.px], y = i * scorer.step

A network without padding has the same features for a window as for the photograph around it (Long, Shelhamer and
Darrell, Fully convolutional networks for semantic segmentation, CVPR 2015). So its convolutions run once over the
photograph, in overlapping tiles of bounded size, and what it pools over a picture is pooled over every window.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from crackflow.core.backend import keras, tf

layers = keras.layers
# One at a time through the network. On 2 cores, 12 megapixels: BUILD_NOTES.md, "photographs".
TILE_PX = 768
BAND = 64  # rows of windows that are pooled at once
BATCH = 64  # windows at once, where the network takes one at a time
CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.MaxPooling2D)
CONVOLUTIONS += (layers.AveragePooling2D,)
POINTWISE = (layers.Rescaling, layers.BatchNormalization, layers.Activation, layers.ReLU, layers.Add, layers.Dropout)
POINTWISE += (layers.Concatenate,)
POOLS = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)
POOLED = (layers.Concatenate, layers.Dense, layers.Activation, layers.ReLU, layers.Dropout)


class Reach(NamedTuple):
    """The pixels that cell 0 of a layer sees, from `low` up to, not including, `high`; its neighbour sees those `step`
    further."""

    low: int
    high: int
    step: int


class Convolutional:
    """A network that adds no zeros, run over whole photographs. `features`: the layers up to its pooling, uint8
    [1, H, W, C] to float32 [1, h, w, K]; `decide`: the rest, over every window."""

    def __init__(self, model: keras.Model, reach: Reach, trunk: str) -> None:
        self.px, self.step = model.input_shape[1], reach.step
        self._reach, self._channels = reach, model.input_shape[3]
        self._cells = model.get_layer(trunk).output_shape[1]
        self._takes_maximum = any(isinstance(one, layers.GlobalMaxPooling2D) for one in model.layers)
        photograph = keras.Input((None, None, self._channels), dtype="uint8")
        names = [layer.name for layer in model.layers]
        chain = model.layers[: names.index(trunk) + 1]
        features = keras.Model(photograph, self._twins(chain, {names[0]: photograph}, 1)[trunk])
        shape = [1, None, None, self._channels]
        self._features = tf.function(
            lambda image: features(image, training=False), input_signature=[tf.TensorSpec(shape, tf.uint8)]
        )
        self._decide = self._head(model, trunk, self._cells)

    def _head(self, model: keras.Model, trunk: str, across: int) -> Callable:
        """What follows `trunk`, with the pooling of `_twins`: float32 [1, h, w, K] to [1, h', w', 1]."""
        cells = keras.Input((None, None, model.get_layer(trunk).output_shape[3]))
        start = [layer.name for layer in model.layers].index(trunk) + 1
        found = self._twins(model.layers[start:], {trunk: cells}, across)
        head = keras.Model(cells, found[_parents(model.layers[-1])[0]])
        shape = [1, None, None, cells.shape[-1]]
        return tf.function(lambda x: head(x, training=False), input_signature=[tf.TensorSpec(shape, tf.float32)])

    def _twins(self, chain: list[keras.layers.Layer], tensors: dict, across: int) -> dict:
        """Layers with the same weights, applied to `tensors` (by the name of the layer that made them); what is pooled
        over a picture is pooled over `across` cells; 0: over one, of which nothing but the maximum counts."""
        for layer in chain:
            if isinstance(layer, layers.InputLayer):
                continue
            if isinstance(layer, layers.Reshape):  # of the logits: [B, 1] -> [B]
                continue
            taken = [tensors[name] for name in _parents(layer)]
            twin = self._twin(layer, across)
            tensors[layer.name] = twin(taken[0] if len(taken) == 1 else taken)
            twin.set_weights(layer.get_weights())
        return tensors

    def _twin(self, layer: keras.layers.Layer, across: int) -> keras.layers.Layer:
        if isinstance(layer, layers.GlobalAveragePooling2D):
            if not across and self._takes_maximum:  # which tells where; the mean is of the whole window
                return layers.Rescaling(0.0, name=layer.name)
            return layers.AveragePooling2D(max(across, 1), 1, name=layer.name)
        if isinstance(layer, layers.GlobalMaxPooling2D):
            return layers.MaxPooling2D(max(across, 1), 1, name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """Logits float32 [h, w] of every window of `pixels`, uint8 [H, W, C], 0..255. Where the last ones don't fit, or
        the picture is smaller than a window, it is mirrored beyond its border."""
        return self._pooled(self._decide, self._cells_in(pixels), self._cells)

    def places(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """(what `score` gives, None): where in a window the crack lies can't be told."""
        return self.score(pixels), None

    def _cells_in(self, pixels: np.ndarray) -> np.ndarray:
        """float32 [h, w, K]: the cells that are pooled."""
        whole = _padded(pixels, self.px, self.step)
        rows, columns = (self._cells_of(side) for side in whole.shape[:2])
        tile = max(self._cells_of(TILE_PX), 1)
        features = None
        for top, down in _ranges(rows, tile):
            for left, right in _ranges(columns, tile):
                found = self._tile(whole, top, down, left, right)
                if features is None:
                    features = np.empty((rows, columns, found.shape[-1]), np.float32)
                features[top:down, left:right] = found
        return features

    def _cells_of(self, side: int) -> int:
        """Cells of the trunk in `side` pixels."""
        return (side - self._reach.high) // self.step + 1

    def _tile(self, whole: np.ndarray, top: int, down: int, left: int, right: int) -> np.ndarray:
        """Rows `top` to `down` and columns `left` to `right` of the trunk's cells: float32 [h, w, K]."""
        y, x = top * self.step, left * self.step
        height, width = ((count - 1) * self.step + self._reach.high for count in (down - top, right - left))
        return self._features(whole[None, y : y + height, x : x + width])[0].numpy()

    def _pooled(self, decide: Callable, features: np.ndarray, across: int) -> np.ndarray:
        bands = _ranges(features.shape[0] - across + 1, BAND)
        parts = [decide(features[None, top : down + across - 1])[0, ..., 0] for top, down in bands]
        return np.concatenate([part.numpy() for part in parts])


class Surrounded(Convolutional):
    """A network that adds zeros, run over whole photographs in the same way. Its zeros lie around the photograph, and
    no longer around each window: a window's cells see the ground beside it, where alone they see nothing."""

    def __init__(self, model: keras.Model, reach: Reach, trunk: str) -> None:
        super().__init__(model, reach, trunk)
        self._one_cell = self._head(model, trunk, 0)

    def places(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(what `score` gives, logits float32 [h + c - 1, w + c - 1] of the cells of `step` pixels, c of them across a
        window): of a cell what it adds where it is the maximum of its window, or without a maximum in the network what
        a window of such cells alone would have. The network's own last layer says where the crack is, as class
        activation maps do (Zhou et al., CVPR 2016)."""
        features = self._cells_in(pixels)
        return self._pooled(self._decide, features, self._cells), self._pooled(self._one_cell, features, 1)

    def _cells_of(self, side: int) -> int:
        return side // self.step

    def _tile(self, whole: np.ndarray, top: int, down: int, left: int, right: int) -> np.ndarray:
        before, after = -(self._reach.low // self.step), -(-self._reach.high // self.step)
        first, start = max(top - before, 0), max(left - before, 0)
        y, x = (
            slice(first * self.step, (down + after) * self.step),
            slice(start * self.step, (right + after) * self.step),
        )
        found = self._features(whole[None, y, x])[0].numpy()
        return found[top - first : down - first, left - start : right - start]


class Windows:
    """Any network, window by window in batches: `overlap` windows across each pixel and direction."""

    def __init__(self, model: keras.Model, overlap: int = 2) -> None:
        self.px = model.input_shape[1]
        self.step = max(self.px // overlap, 1)
        self._decide = tf.function(lambda image: model(image, training=False), reduce_retracing=True)

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """As `Convolutional.score`."""
        whole = _padded(pixels, self.px, self.step)
        every = np.lib.stride_tricks.sliding_window_view(whole, (self.px, self.px), (0, 1))
        every = every[:: self.step, :: self.step]
        shape, every = every.shape[:2], every.reshape(-1, whole.shape[2], self.px, self.px)
        parts = [self._decide(every[at : at + BATCH].transpose(0, 2, 3, 1)) for at in range(0, len(every), BATCH)]
        return np.concatenate([part.numpy().reshape(-1) for part in parts]).reshape(shape)

    def places(self, pixels: np.ndarray) -> tuple[np.ndarray, None]:
        """As `Convolutional.places`."""
        return self.score(pixels), None


def scorer(model: keras.Model) -> Convolutional | Windows:
    """Every window of a photograph by `model`, uint8 [B, px, px, C] to logits float32 [B]: what it gives for the window
    alone, or, where it adds zeros at borders, for the window in its surroundings."""
    found = _trunk(model)
    if not found:
        return Windows(model)
    reach, trunk, adds_zeros = found
    return (Surrounded if adds_zeros else Convolutional)(model, reach, trunk)


def pooled_layer(model: keras.Model) -> str:
    """Name of the layer that `model` pools over the whole picture; empty where there is none, or more than one."""
    sources = {name for layer in model.layers if isinstance(layer, POOLS) for name in _parents(layer)}
    return sources.pop() if len(sources) == 1 else ""


def _trunk(model: keras.Model) -> tuple[Reach, str, bool] | None:
    """The reach and name of the layer that `model` pools over the whole picture, and whether a layer before it adds
    zeros at the border; if every such layer is the same wherever in a photograph it is applied, and either none of them
    adds zeros or all keep the size of the picture by them."""
    trunk = pooled_layer(model)
    if not trunk or any(len(layer.inbound_nodes) > 1 for layer in model.layers):
        return None
    names = [layer.name for layer in model.layers]
    start = names.index(trunk) + 1
    rest = [layer for layer in model.layers[start:] if not isinstance(layer, POOLS)]
    if not all(isinstance(layer, POOLED) for layer in rest[:-1]) or not isinstance(rest[-1], layers.Reshape):
        return None
    reach: dict[str, Reach | None] = {}
    for layer in model.layers[:start]:
        reach[layer.name] = _reach(layer, [reach[name] for name in _parents(layer)])
        if reach[layer.name] is None:
            return None
    found = reach[trunk]
    if not any(isinstance(layer, CONVOLUTIONS) and _zeros(layer) for layer in model.layers[:start]):
        return (found, trunk, False) if found.low == 0 else None
    keeps = model.get_layer(trunk).output_shape[1] * found.step == model.input_shape[1]
    crops = any(isinstance(layer, layers.Cropping2D) for layer in model.layers[:start])
    return (found, trunk, True) if keeps and not crops else None


def _reach(layer: keras.layers.Layer, before: list[Reach]) -> Reach | None:
    if isinstance(layer, layers.InputLayer):
        return Reach(0, 1, 1)
    if isinstance(layer, layers.Cropping2D):
        (above, below), sides = layer.cropping
        if {above, below, *sides} != {above}:
            return None
        low, high, step = before[0]
        return Reach(low + above * step, high + above * step, step)
    if isinstance(layer, CONVOLUTIONS):
        square = len(set(_sizes(layer))) == len(set(layer.strides)) == len(set(_apart(layer))) == 1
        pools_border = layer.padding == "same" and hasattr(layer, "pool_size")  # over fewer pixels there
        if not square or layer.data_format != "channels_last" or pools_border:
            return None
        low, high, step = before[0]
        sees, zeros = (_sizes(layer)[0] - 1) * _apart(layer)[0], _zeros(layer) // 2
        if layer.padding == "same" and layer.input_shape[1] % layer.strides[0]:
            return None  # how many zeros come first depends on the size of the picture
        return Reach(low - zeros * step, high + (sees - zeros) * step, step * layer.strides[0])
    if not isinstance(layer, POINTWISE) or len({one.step for one in before}) != 1:
        return None
    return Reach(min(one.low for one in before), max(one.high for one in before), before[0].step)


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


def _parents(layer: keras.layers.Layer) -> list[str]:
    return [node.layer.name for node in layer.inbound_nodes[0].parent_nodes]


def _ranges(count: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, size):
        yield start, min(start + size, count)


def _padded(pixels: np.ndarray, px: int, step: int) -> np.ndarray:
    """`pixels`, mirrored to the right and below until windows of side `px`, `step` apart, cover them."""
    missing = [px + max(-(-(side - px) // step), 0) * step - side for side in pixels.shape[:2]]
    if not any(missing):
        return pixels
    return np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), "symmetric")
