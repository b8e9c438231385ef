"""Augmentation on the device, of whole uint8 batches, from stateless seeds.

Synopsis::

    augmenter = augment.Augmenter(config.augmentation, seed=0, compiled=True)
    image = augmenter(image, step)                              # uint8 [B, H, H, C] in, the same out
    image, label = augmenter.mixed(image, label, step)          # with MixUp, where it is enabled

Drawing (`sample_params`) is separate from applying (`apply_d4`, `color_jitter`, `bilinear`, `noise_erase_mixup`). The
same seed and step give the same pixels on any number of replicas, with XLA and without. Flips and quarter turns alone
move pixels and interpolate none; all other geometric changes share one resampling.
"""

import math
from typing import NamedTuple

import numpy as np

from crackflow.core.backend import tf
from crackflow.core.config.augmentation import Augment, Augmentation
from crackflow.training import counter_rng

CHUNK = 16  # images that a CPU resamples at a time; even, so that MixUp's pairs stay together
MID_GREY = 127.5  # the grey level that contrast does not change
BITS, SUBLEVELS = 10, 4  # of a packed channel: quarters of a grey level
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: the brightness, which saturation does not change


class AugmentParams(NamedTuple):
    """The augmentation of each of B images of H x H pixels and C channels. float32 where no dtype is given.

    Attributes:
      turn: int32 [B], 0..7, the flip and quarter turn.
      matrix, shift: [B, 2, 2] and [B, 2], from positions in the result to positions in the image (x, y, from the
        center, in pixels), `turn` included.
      colour: [B], 0 is grey, 1 leaves the image as it is.
      scale, offset: [B, C] and [B], of grey levels.
      gamma: [B], the exponent.
      blur: [B], the weight of each of the four neighbours; below 0 it sharpens.
      noise: [B], the standard deviation in grey levels.
      box: [B, 4], top, left, bottom, right of the erased rectangle in pixels.
      fill: [B], the grey level of the rectangle.
      key: uint32 [B], that of the noise.
      mixup_weight: [B], the weight of the partner in MixUp.
    """

    turn: tf.Tensor
    matrix: tf.Tensor
    shift: tf.Tensor
    colour: tf.Tensor
    scale: tf.Tensor
    offset: tf.Tensor
    gamma: tf.Tensor
    blur: tf.Tensor
    noise: tf.Tensor
    box: tf.Tensor
    fill: tf.Tensor
    key: tf.Tensor
    mixup_weight: tf.Tensor


# Columns of the random numbers. New columns are appended, so that the others keep their numbers.
COLUMNS = (
    *("turn", "rotation", "zoom", "shear", "shift_x", "shift_y", "brightness", "contrast", "saturation"),
    *("gain_0", "gain_1", "gain_2", "gamma", "blur", "noise", "erase", "height", "width", "top", "left", "fill"),
    "mixup",
)


def sample_params(strengths: Augmentation, keys: tf.Tensor, size: int, channels: int) -> AugmentParams:
    """Draws the augmentation of images [size, size, channels] with `keys` uint32 [B], within `strengths`."""
    u = dict(zip(COLUMNS, tf.unstack(counter_rng.uniform(keys, len(COLUMNS)), axis=1), strict=True))

    def between(name: str, low: float, high: float) -> tf.Tensor:
        return low + (high - low) * u[name]

    def factor(name: str, strength: float) -> tf.Tensor:
        """1 / (1 + strength) to 1 + strength, below and above 1 with equal probability."""
        return tf.exp(between(name, -1, 1) * math.log1p(strength))

    turn = (
        tf.cast(u["turn"] * 8, tf.int32)
        if strengths.augment is not Augment.NONE
        else tf.zeros_like(u["turn"], tf.int32)
    )
    angle = between("rotation", -1, 1) * math.radians(strengths.rotation)
    zoom, shear = factor("zoom", strengths.zoom), between("shear", -1, 1) * strengths.shear
    cos, sin = tf.cos(angle) / zoom, tf.sin(angle) / zoom
    affine = tf.stack([tf.stack([cos, cos * shear - sin], 1), tf.stack([sin, sin * shear + cos], 1)], 1)
    contrast = factor("contrast", strengths.contrast)
    gains = tf.stack([factor(f"gain_{channel % 3}", strengths.channel_gain) for channel in range(channels)], 1)
    # Each side is at least half of the maximum: a thin dark rectangle would look like a crack.
    sides = (0.5 + 0.5 * tf.stack([u["height"], u["width"]], 1)) * strengths.erase * size
    sides *= tf.cast(u["erase"] < 0.5, tf.float32)[:, None]  # every second image, on average
    corner = tf.stack([u["top"], u["left"]], 1) * (size - sides)
    return AugmentParams(
        turn=turn,
        matrix=tf.gather(tf.constant(_ORIENTATIONS), turn) @ affine,
        shift=tf.stack([between("shift_x", -1, 1), between("shift_y", -1, 1)], 1) * strengths.shift * size,
        colour=between("saturation", 1 - strengths.saturation, 1 + strengths.saturation),
        scale=contrast[:, None] * gains,
        offset=MID_GREY * (1 - contrast) + 255 * strengths.brightness * between("brightness", -1, 1),
        gamma=factor("gamma", strengths.gamma),
        blur=between("blur", -strengths.sharpen, strengths.blur),
        noise=strengths.noise * u["noise"],
        box=tf.concat([corner, corner + sides], 1),
        fill=255 * u["fill"],
        key=keys,
        mixup_weight=strengths.mixup * u["mixup"],
    )


def _orientation_matrices() -> np.ndarray:
    """float32 [8, 2, 2]: the orientations of `_source_positions` as matrices, from result to image, in (x, y)."""
    quarter, transposed = np.array([[0, -1], [1, 0]]), np.array([[0, 1], [1, 0]])
    turns = [np.linalg.matrix_power(quarter, turn) for turn in range(4)]
    return np.array(turns + [transposed @ turn for turn in turns], np.float32)


_ORIENTATIONS = _orientation_matrices()


def apply_d4(image: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Flips and rotates each image of `image` [B, H, H, C] by the symmetry `turn` int32 [B], 0..7.

    The result is exact: pixels move and none is interpolated. A crack is a crack from every side, and photographs of
    surfaces have no upright. It is one gather: choosing between flipped, mirrored and transposed copies of the batch
    took ten times as long (45 ms against 4.6 for 64 images of 64 px on one core).
    """
    side, channels = image.shape[1], image.shape[3]
    positions = tf.gather(tf.constant(_source_positions(side)), turn)
    moved = tf.gather(tf.reshape(image, [-1, side * side, channels]), positions, batch_dims=1)
    return tf.reshape(moved, [-1, side, side, channels])


def _source_positions(side: int) -> np.ndarray:
    """int32 [8, side * side]: the source position of each pixel, row by row, for each orientation."""
    grid = np.arange(side * side, dtype=np.int32).reshape(side, side)
    turns = [np.rot90(flipped, turn) for flipped in (grid, grid.T) for turn in range(4)]
    return np.stack([turn.ravel() for turn in turns])


def color_jitter(image: tf.Tensor, params: AugmentParams, strengths: Augmentation) -> tf.Tensor:
    """Blurs or sharpens, saturates, then applies brightness, contrast and channel gain as one multiply-add, then gamma.

    It precedes the resampling, which reads every pixel four times, so that this would be computed as often. It works
    channel by channel: with the channels innermost XLA fills three lanes of a vector (105 us of CPU time per image
    together with `pack_channels`, against 60).

    Takes [B, H, H, C], 0..255; returns float32 of the same shape and range.
    """
    planes = [tf.cast(plane, tf.float32) for plane in tf.unstack(image, axis=3)]
    if strengths.blur or strengths.sharpen:
        # Gathers of whole rows and columns: with slices of a padded copy XLA computes what follows five times.
        line = np.arange(image.shape[1])
        before, after = np.maximum(line - 1, 0), np.minimum(line + 1, line[-1])
        for channel, plane in enumerate(planes):
            sides = [
                tf.gather(image[..., channel], positions, axis=axis) for axis in (1, 2) for positions in (before, after)
            ]
            neighbours = tf.add_n([tf.cast(side, tf.float32) for side in sides])
            planes[channel] = plane + _per_plane(params.blur) * (neighbours - 4 * plane)
    if strengths.saturation and len(planes) == 3:
        grey = _grey(planes)
        planes = [grey + _per_plane(params.colour) * (plane - grey) for plane in planes]
    scales = tf.unstack(params.scale, axis=1)
    planes = [
        plane * _per_plane(scale) + _per_plane(params.offset) for plane, scale in zip(planes, scales, strict=True)
    ]
    if strengths.gamma:
        # Of the brightness, so that colours keep their ratios and one power per pixel suffices. XLA vectorises
        # exponentials and logarithms; tf.pow took three times as long.
        power = tf.exp(_per_plane(params.gamma - 1) * tf.math.log(tf.clip_by_value(_grey(planes) / 255, 1e-3, 1.0)))
        planes = [plane * power for plane in planes]
    return tf.stack([tf.clip_by_value(plane, 0.0, 255.0) for plane in planes], 3)


def _grey(planes: list[tf.Tensor]) -> tf.Tensor:
    """The brightness of each pixel, [B, H, H], from its channels."""
    if len(planes) < 3:
        return planes[0]
    return tf.add_n([weight * plane for weight, plane in zip(LUMA, planes, strict=True)])


def pack_channels(image: tf.Tensor) -> tf.Tensor:
    """Packs float32 [B, H, H, C], 0..255, into int32 [B, H, H]: quarters of a grey level, ten bits per channel.

    A pixel is then read by one gather instead of three (450 us of CPU time per image instead of 590).
    """
    quantized = [tf.cast(plane * SUBLEVELS + 0.5, tf.int32) for plane in tf.unstack(image, axis=3)]
    return tf.add_n([plane * (1 << BITS * channel) for channel, plane in enumerate(quantized)])


def source_indices(params: AugmentParams, side: int) -> tf.Tensor:
    """Returns int32 [B, H * H]: the index in the batch of the upper left of the four source pixels of each pixel."""
    left, top, _, _ = _source(params, side)
    first = tf.range(tf.shape(left)[0])[:, None] * side * side
    return tf.cast(top * side + left, tf.int32) + first


def gather_corners(packed: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """Reads the upper left, upper right, lower left and lower right source pixels, int32 [4, B, H * H].

    Args:
      packed: int32 [B, H, H] of `pack_channels`.
      positions: int32 [B, H * H] of `source_indices`.
    """
    side = packed.shape[2]
    return tf.gather(tf.reshape(packed, [-1]), tf.stack([positions + offset for offset in (0, 1, side, side + 1)]))


def bilinear(corners: tf.Tensor, params: AugmentParams, side: int, channels: int) -> tf.Tensor:
    """Interpolates the four pixels of `gather_corners` to float32 [B, H, H, C], 0..255."""
    _, _, right, down = (axis[..., None] for axis in _source(params, side))
    shifts = tf.constant([BITS * channel for channel in range(channels)], tf.int32)
    quantized = tf.bitwise.bitwise_and(tf.bitwise.right_shift(corners[..., None], shifts), (1 << BITS) - 1)
    a, b, c, d = tf.unstack(tf.cast(quantized, tf.float32))
    upper, lower = a + (b - a) * right, c + (d - c) * right
    return tf.reshape(upper + (lower - upper) * down, [-1, side, side, channels]) * (1 / SUBLEVELS)


def _source(params: AugmentParams, side: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """float32 [B, H * H] each: column and row of the upper left pixel, and the distance to its right and below it."""
    center = (side - 1) / 2
    y, x = (axis.ravel() - center for axis in np.indices((side, side), np.float32))

    def coordinate(row: int) -> tf.Tensor:
        a, b, shift = params.matrix[:, row, :1], params.matrix[:, row, 1:], params.shift[:, row, None]
        return _mirror(a * x + b * y + (shift + center), side)

    x, y = coordinate(0), coordinate(1)
    left, top = (tf.minimum(tf.floor(axis), side - 2.0) for axis in (x, y))
    return left, top, x - left, y - top


def _mirror(coordinate: tf.Tensor, side: int) -> tf.Tensor:
    """Reflects coordinates into 0..side-1 at the outer edges of the border pixels: ... c b a | a b c ..."""
    coordinate = tf.abs(coordinate + 0.5) - 0.5
    coordinate = (side - 0.5) - tf.abs((side - 0.5) - coordinate)
    return tf.clip_by_value(coordinate, 0.0, side - 1.0)


def noise_erase_mixup(image: tf.Tensor, params: AugmentParams, strengths: Augmentation) -> tf.Tensor:
    """Adds noise, erases and mixes float32 [B, H, H, C], 0..255; returns it rounded to uint8."""
    side, channels = image.shape[1], image.shape[3]
    if strengths.noise:
        grain = counter_rng.noise(params.key, side * side * channels)
        image += _per_image(params.noise) * tf.reshape(grain, [-1, side, side, channels])
    if strengths.erase:
        line = tf.range(side, dtype=tf.float32) + 0.5
        top, left, bottom, right = (params.box[:, k, None] for k in range(4))
        rows, columns = (line > top) & (line < bottom), (line > left) & (line < right)
        inside = rows[:, :, None, None] & columns[:, None, :, None]
        image = tf.where(inside, _per_image(params.fill), image)
    if strengths.mixup:
        image = _mix_pairs(image, _per_image(params.mixup_weight))
    return tf.cast(tf.clip_by_value(image + 0.5, 0.0, 255.0), tf.uint8)


def mix_labels(label: tf.Tensor, params: AugmentParams) -> tf.Tensor:
    """Returns the labels, float32 [B], 0..1, of images that `noise_erase_mixup` mixed, from `label` [B], 0 or 1."""
    return _mix_pairs(tf.cast(label, tf.float32), params.mixup_weight)


def _mix_pairs(x: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Mixes each item with its neighbour, 0 with 1, 2 with 3, by `weight` (MixUp: Zhang et al., 2018)."""
    pairs = tf.reshape(x, tf.concat([[-1, 2], tf.shape(x)[1:]], 0))
    return x + weight * (tf.reshape(tf.reverse(pairs, [1]), tf.shape(x)) - x)


def _per_image(values: tf.Tensor) -> tf.Tensor:
    return values[:, None, None, None]


def _per_plane(values: tf.Tensor) -> tf.Tensor:
    return values[:, None, None]


class Augmenter:
    """Draws and applies augmentation.

    Args:
      augmentation: the strengths.
      seed: that of the random numbers.
      compiled: whether to use XLA functions, also on a CPU, where they take a quarter of the time of single operations
        (BUILD_NOTES.md).
    """

    def __init__(self, augmentation: Augmentation, seed: int, compiled: bool) -> None:
        strengths = self.strengths = augmentation.filled()
        self.seed = seed
        self._on_gpu = bool(tf.config.list_physical_devices("GPU"))
        self._changes_color = any(
            (
                strengths.brightness,
                strengths.contrast,
                strengths.saturation,
                strengths.channel_gain,
                strengths.gamma,
                strengths.blur,
                strengths.sharpen,
            )
        )
        self._resamples = any((strengths.rotation, strengths.zoom, strengths.shear, strengths.shift))
        self._adds_noise_or_mixes = any((strengths.noise, strengths.erase, strengths.mixup))
        wrap = (
            (lambda function: tf.function(function, autograph=False, jit_compile=True))
            if compiled
            else (lambda function: function)
        )
        self._run_d4 = wrap(lambda image, keys: apply_d4(image, self._sample(image, keys).turn))
        self._run_change, self._run_prepare = wrap(self._change), wrap(self._prepare)
        self._run_gather, self._run_blend = wrap(gather_corners), wrap(self._blend)

    def __call__(self, image: tf.Tensor, step: tf.Tensor | int, first: tf.Tensor | int = 0) -> tf.Tensor:
        """Augments `image` uint8 [B, H, H, C] of step `step`; `first`: index of its first image in the global batch."""
        return self._apply(image, counter_rng.per_example_keys(self.seed, step, first, tf.shape(image)[0]))

    def mixed(
        self, image: tf.Tensor, label: tf.Tensor, step: tf.Tensor | int, first: tf.Tensor | int = 0
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Augments images and their labels. With MixUp B must be even, on each replica.

        Args:
          image: uint8 [B, H, H, C].
          label: [B], 0 or 1.
          step: the training step, from 0.
          first: the index of the first image in the global batch.

        Returns:
          uint8 [B, H, H, C], and labels float32 [B], 0..1: between the two where MixUp has mixed two images.
        """
        keys = counter_rng.per_example_keys(self.seed, step, first, tf.shape(image)[0])
        label = tf.cast(label, tf.float32)
        if self.strengths.mixup:
            label = mix_labels(label, self._sample(image, keys))
        return self._apply(image, keys), label

    def transform_grid(self, grid: tf.Tensor, step: tf.Tensor | int, first: tf.Tensor | int = 0) -> tf.Tensor:
        """Flips and rotates `grid` [B, G, G, K], any dtype, as the images of `step` are."""
        if self.strengths.augment is Augment.NONE:
            return grid
        return self._run_d4(grid, counter_rng.per_example_keys(self.seed, step, first, tf.shape(grid)[0]))

    def _apply(self, image: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        image = tf.convert_to_tensor(image)
        if self._resamples:
            return self._resample(image, keys)
        if self.strengths.augment is not Augment.NONE:
            image = self._run_d4(image, keys)
        return self._run_change(image, keys) if self._changes_color or self._adds_noise_or_mixes else image

    def _resample(self, image: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        """Resamples in several functions: in a single one XLA would recompute, for each pixel that it reads, all that
        led to it (2,400 us per image instead of 280)."""

        def resample_chunk(image: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
            return self._run_blend(self._run_gather(*self._run_prepare(image, keys)), image, keys)

        if self._on_gpu or not image.shape[0] or image.shape[0] % CHUNK:
            return resample_chunk(image, keys)
        # Chunks run in parallel on the cores, and what one function passes to the next stays in the caches.
        count = image.shape[0] // CHUNK
        pairs = zip(tf.split(image, count), tf.split(keys, count), strict=True)
        return tf.concat([resample_chunk(*pair) for pair in pairs], 0)

    def _change(self, image: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        params = self._sample(image, keys)
        return noise_erase_mixup(self._jitter_colors(image, params), params, self.strengths)

    def _prepare(self, image: tf.Tensor, keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        params = self._sample(image, keys)
        return pack_channels(self._jitter_colors(image, params)), source_indices(params, image.shape[1])

    def _blend(self, corners: tf.Tensor, image: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        params = self._sample(image, keys)
        return noise_erase_mixup(bilinear(corners, params, image.shape[1], image.shape[3]), params, self.strengths)

    def _jitter_colors(self, image: tf.Tensor, params: AugmentParams) -> tf.Tensor:
        return color_jitter(image, params, self.strengths) if self._changes_color else tf.cast(image, tf.float32)

    def _sample(self, image: tf.Tensor, keys: tf.Tensor) -> AugmentParams:
        return sample_params(self.strengths, keys, image.shape[1], image.shape[3])
