"""Every window of a photograph, scored at once as if each were alone.

Synopsis::

    scorer = sliding_window.create_scorer(model)
    logits = scorer.score(pixels)                # uint8 [H, W, C], 0..255 -> float32 [h, w]
    logits[i, j]                                 # of pixels[y : y + scorer.px, x : x + scorer.px], y = i * scorer.step
    scores, cells = scorer.places(batch)         # of photographs of one size, uint8 [B, H, W, C] -> float32 [B, h, w]

A network without padding has the same features for a window as for the photograph around it (Long, Shelhamer and
Darrell, Fully convolutional networks for semantic segmentation, CVPR 2015). So its convolutions run once over the
photograph, in overlapping tiles of bounded size, and what it pools over a picture is pooled over every window.
"""

from collections.abc import Callable, Iterator

import numpy as np

from crackflow.core import runtime
from crackflow.core.backend import APPLICATION_LAYERS, keras, tf
from crackflow.inference import receptive_field
from crackflow.inference.receptive_field import ReceptiveField
from crackflow.model import structure

layers = keras.layers
# One at a time through the network. On 2 cores, 12 megapixels: BUILD_NOTES.md, "photographs".
TILE_PX = 768
BAND = 64  # rows of windows that are pooled at once
BATCH = 64  # windows at once, where the network takes one at a time
Locate = Callable[[np.ndarray], np.ndarray]  # features float32 [B, h, w, K] of cells -> logits float32 [B, h, w]
LEVELS = "levels"  # what windows are standardised by, beside the names of layers


class FullyConvolutionalScorer:
    """A network that adds no zeros, run over whole photographs. `features`: the layers up to its pooling, uint8
    [B, H, W, C] to float32 [B, h, w, K]; `decide`: the rest, over every window. `around`: pixels beside a part of a
    photograph that must be seen with it, for its windows to be scored as in the whole."""

    around = 0

    def __init__(self, model: keras.Model, reach: ReceptiveField, trunk: str) -> None:
        self.px, self.step = model.input_shape[1], reach.step
        self._reach = reach
        self._cells = model.get_layer(trunk).output_shape[1]
        self._takes_maximum = any(isinstance(layer, layers.GlobalMaxPooling2D) for layer in model.layers)
        photograph = keras.Input((None, None, model.input_shape[3]), dtype="uint8")
        names = [layer.name for layer in model.layers]
        chain = model.layers[: names.index(trunk) + 1]
        standardised = [layer for layer in chain if receptive_field.standardizes(layer)]
        takes = [photograph, *(keras.Input((None, None, 2 * layer.input_shape[3])) for layer in standardised)]
        tensors = self._twins(chain, dict(zip((names[0], LEVELS), takes, strict=False)), 1)
        self._features, self._levels = _compiled(keras.Model(takes, tensors[trunk])), None
        for layer in standardised:  # one at most
            self._levels = _compiled(_levels(photograph, tensors[structure.input_layers(layer)[0]], self._size(layer)))
        self._decide = self._head(model, trunk, self._cells)

    def _head(self, model: keras.Model, trunk: str, across: int) -> Callable:
        """What follows `trunk`, with the pooling of `_twins`: float32 [B, h, w, K] to [B, h', w', 1]."""
        cells = keras.Input((None, None, model.get_layer(trunk).output_shape[3]))
        start = [layer.name for layer in model.layers].index(trunk) + 1
        tensors = self._twins(model.layers[start:], {trunk: cells}, across)
        head = keras.Model(cells, tensors[structure.input_layers(model.layers[-1])[0]])
        return _compiled(head)

    def _twins(self, chain: list[keras.layers.Layer], tensors: dict, across: int) -> dict:
        """Layers with the same weights, applied to `tensors` (by the name of the layer that made them); what is pooled
        over a picture is pooled over `across` cells; 0: over one, of which nothing but the maximum counts."""
        for layer in chain:
            if isinstance(layer, layers.InputLayer):
                continue
            if isinstance(layer, layers.Reshape):  # of the logits: [B, 1] -> [B]
                continue
            inputs = [tensors[name] for name in structure.input_layers(layer)]
            inputs += [tensors[LEVELS]] if receptive_field.standardizes(layer) else []
            twin = self._twin(layer, across)
            tensors[layer.name] = twin(inputs[0] if len(inputs) == 1 else inputs)
            twin.set_weights(layer.get_weights())
        return tensors

    def _twin(self, layer: keras.layers.Layer, across: int) -> keras.layers.Layer:
        if isinstance(layer, layers.GlobalAveragePooling2D):
            if not across and self._takes_maximum:  # which tells where; the mean is of the whole window
                return layers.Rescaling(0.0, name=layer.name)
            return layers.AveragePooling2D(max(across, 1), 1, name=layer.name)
        if isinstance(layer, layers.GlobalMaxPooling2D):
            return layers.MaxPooling2D(max(across, 1), 1, name=layer.name)
        if receptive_field.standardizes(layer):
            return _WindowedStandardization(self._size(layer), layer.epsilon, name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    def _size(self, layer: keras.layers.Layer) -> int:
        """Of a cell of the trunk, in pixels of what `layer` takes."""
        return layer.input_shape[1] // self._cells

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """Logits float32 [h, w] of every window of `pixels`, uint8 [H, W, C], 0..255. Where the last ones don't fit, or
        the picture is smaller than a window, it is mirrored beyond its border."""
        return self._scores(self._cells_in(pixels[None]))[0]

    def places(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """(what `score` gives for each of `batch`, uint8 [B, H, W, C]: float32 [B, h, w]; None: where in a window the
        crack lies can't be told). All of them go through the network at once: as many as memory has room for."""
        return self._scores(self._cells_in(batch)), None

    def _scores(self, features: np.ndarray) -> np.ndarray:
        return self._pooled(self._decide, features, self._cells)

    def _cells_in(self, batch: np.ndarray) -> np.ndarray:
        """float32 [B, h, w, K]: the cells that are pooled."""
        whole = _padded(batch, self.px, self.step)
        levels = self._levels_of(whole) if self._levels else None
        rows, columns = (self._cells_of(side) for side in whole.shape[1:3])
        tile = max(self._cells_of(TILE_PX), 1)
        features = None
        for top, down in _ranges(rows, tile):
            for left, right in _ranges(columns, tile):
                tile_features = self._tile(whole, levels, slice(top, down), slice(left, right))
                if features is None:
                    features = np.empty((len(batch), rows, columns, tile_features.shape[-1]), np.float32)
                features[:, top:down, left:right] = tile_features
        return features

    def _levels_of(self, whole: np.ndarray) -> np.ndarray:
        """`_levels` over the windows of `whole`, and of these the mean over the windows that hold a cell: float32
        [B, h + 2, w + 2, 2 K], the border repeated once."""
        tiles = [list(_ranges(side, TILE_PX - TILE_PX % self.step)) for side in whole.shape[1:3]]
        tile_levels = [
            [self._levels(whole[:, top:down, left:right]) for left, right in tiles[1]] for top, down in tiles[0]
        ]
        levels = np.concatenate([np.concatenate(row, axis=2) for row in tile_levels], axis=1)
        for axis in (1, 2):
            levels = _over_windows(levels.swapaxes(0, axis), self._cells).swapaxes(0, axis)
        return np.pad(levels, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")

    def _cells_of(self, side: int) -> int:
        """Cells of the trunk in `side` pixels."""
        return (side - self._reach.high) // self.step + 1

    def _tile(self, whole: np.ndarray, levels: None, rows: slice, columns: slice) -> np.ndarray:
        """`rows` and `columns` of the trunk's cells: float32 [B, h, w, K]."""
        y, x = (
            slice(cells.start * self.step, (cells.stop - 1) * self.step + self._reach.high) for cells in (rows, columns)
        )
        return self._features(whole[:, y, x])

    def _pooled(self, decide: Callable, features: np.ndarray, across: int) -> np.ndarray:
        """float32 [B, h', w']: `decide` of every `across` x `across` of `features`, float32 [B, h, w, K]."""
        bands = _ranges(features.shape[1] - across + 1, BAND)
        return np.concatenate([decide(features[:, top : down + across - 1])[..., 0] for top, down in bands], axis=1)


class PaddedFullyConvolutionalScorer(FullyConvolutionalScorer):
    """A network that adds zeros, run over whole photographs in the same way. Its zeros lie around the photograph, and
    no longer around each window: a window's cells see the ground beside it, where alone they see nothing."""

    def __init__(self, model: keras.Model, reach: ReceptiveField, trunk: str, locate: Locate | None) -> None:
        super().__init__(model, reach, trunk)
        # What a cell sees; and where a layer standardises, all windows that hold what it sees.
        self.around = self._cells_around() * self.step + (self.px if self._levels else 0)
        self._locate = locate or self._of_one_cell(model, trunk)

    def _of_one_cell(self, model: keras.Model, trunk: str) -> Locate:
        """What a cell adds where it is the maximum of its window, or without a maximum in the network what a window of
        such cells alone would have: the network's own last layer says where the crack is, as class activation maps do
        (Zhou et al., CVPR 2016)."""
        one_cell = self._head(model, trunk, 0)
        return lambda features: self._pooled(one_cell, features, 1)

    def places(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(what `score` gives for each, logits float32 [B, h + c - 1, w + c - 1] of the cells of `step` pixels, c of
        them across a window)."""
        features = self._cells_in(batch)
        return self._scores(features), self._locate(features)

    def _cells_around(self) -> int:
        return max(-(self._reach.low // self.step), -(-self._reach.high // self.step))

    def _cells_of(self, side: int) -> int:
        return side // self.step

    def _tile(self, whole: np.ndarray, levels: np.ndarray | None, rows: slice, columns: slice) -> np.ndarray:
        before, after = -(self._reach.low // self.step), -(-self._reach.high // self.step)
        around = [slice(max(cells.start - before, 0), cells.stop + after) for cells in (rows, columns)]
        y, x = (slice(cells.start * self.step, cells.stop * self.step) for cells in around)
        seen = [whole[:, y, x]]
        if levels is not None:
            y, x = (slice(cells.start, cells.stop + 2) for cells in around)  # one cell more on each side
            seen.append(levels[:, y, x])
        features = self._features(*seen)
        y, x = (
            slice(inner.start - outer.start, inner.stop - outer.start)
            for inner, outer in zip((rows, columns), around, strict=True)
        )
        return features[:, y, x]


class _WindowedStandardization(layers.Layer):
    """Stands for a layer that standardises over the picture: every pixel by the mean and the mean square of the windows
    that hold it, float32 [B, h + 2, w + 2, 2 K] for cells of `size` pixels and one more all around; from middle to
    middle of the cells in straight lines."""

    def __init__(self, size: int, epsilon: float, **settings) -> None:
        super().__init__(dtype="float32", **settings)
        self._size, self._epsilon = size, epsilon

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        picture, levels = inputs
        fine = tf.image.resize(levels, tf.shape(levels)[1:3] * self._size)
        inside = fine[:, self._size : -self._size, self._size : -self._size]
        mean, square = tf.split(inside, 2, -1)
        return (picture - mean) * tf.math.rsqrt(square - mean**2 + self._epsilon)


def _levels(photograph: tf.Tensor, standardised: tf.Tensor, size: int) -> keras.Model:
    """`photograph` to mean and mean square of each channel of `standardised` in cells of `size` x `size` of its pixels:
    float32 [B, h, w, 2 K]."""
    both = layers.Concatenate()([standardised, layers.Multiply()([standardised, standardised])])
    return keras.Model(photograph, layers.AveragePooling2D(size, dtype="float32")(both))


def _compiled(model: keras.Model) -> Callable:
    """`model`, not training, on pictures of any one height and width: arrays in, an array out."""
    shapes = [tf.TensorSpec(inputs.shape, inputs.dtype) for inputs in model.inputs]
    function = tf.function(lambda *inputs: model(inputs, training=False), input_signature=shapes)

    def call(*inputs: np.ndarray) -> np.ndarray:
        with runtime.layers_unfused():
            return function(*inputs).numpy()

    return call


def _over_windows(levels: np.ndarray, across: int) -> np.ndarray:
    """Along the first axis: the mean over all windows of `across` cells that hold a cell, of their means."""
    count = len(levels) - across + 1
    windows = sum(levels[start : start + count] for start in range(across)) / across
    total, counts = np.zeros_like(levels), np.zeros((len(levels), *[1] * (levels.ndim - 1)), np.float32)
    for start in range(across):
        total[start : start + count] += windows
        counts[start : start + count] += 1
    return total / counts


class SlidingWindowScorer:
    """Any network, window by window in batches: `overlap` windows across each pixel and direction."""

    around = 0

    def __init__(self, model: keras.Model, overlap: int = 2) -> None:
        self.px = model.input_shape[1]
        self.step = max(self.px // overlap, 1)
        self._decide = _compiled(model)

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """As `FullyConvolutionalScorer.score`."""
        return self.places(pixels[None])[0][0]

    def places(self, batch: np.ndarray) -> tuple[np.ndarray, None]:
        """As `FullyConvolutionalScorer.places`."""
        whole = _padded(batch, self.px, self.step)
        every = np.lib.stride_tricks.sliding_window_view(whole, (self.px, self.px), (1, 2))
        every = every[:, :: self.step, :: self.step]
        shape, every = every.shape[:3], every.reshape(-1, whole.shape[3], self.px, self.px)
        parts = [self._decide(every[at : at + BATCH].transpose(0, 2, 3, 1)) for at in range(0, len(every), BATCH)]
        return np.concatenate([part.reshape(-1) for part in parts]).reshape(shape), None


def create_scorer(model: keras.Model, locate: Locate | None = None) -> FullyConvolutionalScorer | SlidingWindowScorer:
    """Every window of a photograph by `model`, uint8 [B, px, px, C] to logits float32 [B]: what it gives for the window
    alone, or, where it adds zeros at borders, for the window in its surroundings. `locate`: which cells the crack lies
    in, where that was learnt; otherwise the network's last layer is read. Networks without zeros tell no places."""
    model = _by_itself(model)
    backbone = receptive_field.find_backbone(model)
    if not backbone:
        return SlidingWindowScorer(model)
    reach, trunk, adds_zeros = backbone
    return (
        PaddedFullyConvolutionalScorer(model, reach, trunk, locate)
        if adds_zeros
        else FullyConvolutionalScorer(model, reach, trunk)
    )


def _by_itself(model: keras.Model) -> keras.Model:
    """`model`, or where its layers were applied again elsewhere, as explanations do, the same with layers of its own:
    whether one occurs twice in the network can't be told otherwise."""
    if all(len(layer.inbound_nodes) <= 1 for layer in model.layers):
        return model
    with keras.saving.custom_object_scope(APPLICATION_LAYERS):
        alone = keras.Model.from_config(keras.Model(model.inputs, model.outputs).get_config())
    alone.set_weights(model.get_weights())
    return alone


def _ranges(count: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, size):
        yield start, min(start + size, count)


def _padded(pixels: np.ndarray, px: int, step: int) -> np.ndarray:
    """`pixels`, [H, W, C] or [B, H, W, C], mirrored to the right and below until windows of side `px`, `step` apart,
    cover them."""
    missing = [px + max(-(-(side - px) // step), 0) * step - side for side in pixels.shape[-3:-1]]
    if not any(missing):
        return pixels
    return np.pad(pixels, ((0, 0),) * (pixels.ndim - 3) + ((0, missing[0]), (0, missing[1]), (0, 0)), "symmetric")
