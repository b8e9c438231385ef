"""Augmentation on the device, on whole uint8 batches, from stateless seeds.

Synopsis::

    augmenter = augment.Augmenter(config.augmentation, seed=0, compiled=True)
    image = augmenter(image, step)                              # uint8 [B, H, H, C] in, the same out
    image, label = augmenter.mixed(image, label, step)          # with MixUp, when it is asked for

Drawing (`sample_params`) is separate from applying (`apply_d4`, `color_jitter`, `resample`, `noise_erase_mixup`). The
same seed and step give the same pixels on any number of replicas, with XLA and without. Flips and quarter turns alone
move pixels and mix none; with any other change of geometry there is one resampling for all of them together.
"""

import math
from typing import NamedTuple

import numpy as np

from crackflow.core.backend import tf
from crackflow.core.config.augmentation import Augment, Augmentation
from crackflow.training import counter_rng

CHUNK = 16  # pictures that a CPU resamples at a time; even, so that MixUp's pairs stay together
MID_GREY = 127.5  # contrast turns about it
BITS, SUBLEVELS = 10, 4  # of a packed channel: quarters of a grey level
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: what saturation leaves as it is


class AugmentParams(NamedTuple):
    """What is to happen to each picture. float32 unless said otherwise; B pictures of H x H pixels, C channels.

    turn: int32 [B], 0..7, flips and quarter turns; matrix [B, 2, 2] and shift [B, 2]: from places in the result to
    places in the picture (x, y, from the middle, in pixels), `turn` included; colour [B]: 0 grey, 1 as it is;
    scale [B, C] and offset [B]: of grey levels; gamma [B]: exponent; blur [B]: weight of each of the four neighbours,
    below 0 sharpens; noise [B]: deviation in grey levels; box [B, 4]: top, left, bottom, right of the erased
    rectangle in pixels; fill [B]: its grey level; key: uint32 [B], of the noise; share [B]: of the partner in MixUp.
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
    share: tf.Tensor


# Columns of the drawn numbers. A new one goes to the end: the others keep their numbers.
COLUMNS = (
    *("turn", "rotation", "zoom", "shear", "shift_x", "shift_y", "brightness", "contrast", "saturation"),
    *("gain_0", "gain_1", "gain_2", "gamma", "blur", "noise", "erase", "height", "width", "top", "left", "fill"),
    "mixup",
)


def sample_params(strengths: Augmentation, keys: tf.Tensor, px: int, channels: int) -> AugmentParams:
    """What happens to pictures [px, px, channels] with `keys` uint32 [B], within `strengths`."""
    u = dict(zip(COLUMNS, tf.unstack(counter_rng.uniform(keys, len(COLUMNS)), axis=1), strict=True))

    def between(name: str, low: float, high: float) -> tf.Tensor:
        return low + (high - low) * u[name]

    def factor(name: str, strength: float) -> tf.Tensor:
        """1 / (1 + strength) to 1 + strength, smaller and larger alike often."""
        return tf.exp(between(name, -1, 1) * math.log1p(strength))

    turn = (
        tf.cast(u["turn"] * 8, tf.int32)
        if strengths.augment is not Augment.NONE
        else tf.zeros_like(u["turn"], tf.int32)
    )
    angle = between("rotation", -1, 1) * math.radians(strengths.rotation)
    zoom, shear = factor("zoom", strengths.zoom), between("shear", -1, 1) * strengths.shear
    cos, sin = tf.cos(angle) / zoom, tf.sin(angle) / zoom
    turned = tf.stack([tf.stack([cos, cos * shear - sin], 1), tf.stack([sin, sin * shear + cos], 1)], 1)
    contrast = factor("contrast", strengths.contrast)
    gains = tf.stack([factor(f"gain_{channel % 3}", strengths.channel_gain) for channel in range(channels)], 1)
    # At least half as long as the longest: a thin dark rectangle would look like a crack.
    sides = (0.5 + 0.5 * tf.stack([u["height"], u["width"]], 1)) * strengths.erase * px
    sides *= tf.cast(u["erase"] < 0.5, tf.float32)[:, None]  # every second picture, on average
    corner = tf.stack([u["top"], u["left"]], 1) * (px - sides)
    return AugmentParams(
        turn=turn,
        matrix=tf.gather(tf.constant(_TURNS), turn) @ turned,
        shift=tf.stack([between("shift_x", -1, 1), between("shift_y", -1, 1)], 1) * strengths.shift * px,
        colour=between("saturation", 1 - strengths.saturation, 1 + strengths.saturation),
        scale=contrast[:, None] * gains,
        offset=MID_GREY * (1 - contrast) + 255 * strengths.brightness * between("brightness", -1, 1),
        gamma=factor("gamma", strengths.gamma),
        blur=between("blur", -strengths.sharpen, strengths.blur),
        noise=strengths.noise * u["noise"],
        box=tf.concat([corner, corner + sides], 1),
        fill=255 * u["fill"],
        key=keys,
        share=strengths.mixup * u["mixup"],
    )


def _turns() -> np.ndarray:
    """float32 [8, 2, 2]: the matrices of `_places`' flips and quarter turns, from result to picture, in (x, y)."""
    quarter, transposed = np.array([[0, -1], [1, 0]]), np.array([[0, 1], [1, 0]])
    turns = [np.linalg.matrix_power(quarter, turn) for turn in range(4)]
    return np.array(turns + [transposed @ turn for turn in turns], np.float32)


_TURNS = _turns()


def apply_d4(image: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """`image` [B, H, H, C], each picture under the symmetry that `turn` int32 [B] names. Exact: pixels move, none is
    mixed. A crack is a crack from every side, and photographs of surfaces have no upright.

    One gather: choosing between flipped, mirrored and transposed copies of the batch took ten times as long (45 ms
    against 4.6 for 64 pictures of 64 px on one core).
    """
    side, channels = image.shape[1], image.shape[3]
    places = tf.gather(tf.constant(_places(side)), turn)
    moved = tf.gather(tf.reshape(image, [-1, side * side, channels]), places, batch_dims=1)
    return tf.reshape(moved, [-1, side, side, channels])


def _places(side: int) -> np.ndarray:
    """int32 [8, side * side]: where each pixel comes from, row by row."""
    grid = np.arange(side * side, dtype=np.int32).reshape(side, side)
    turns = [np.rot90(one, turn) for one in (grid, grid.T) for turn in range(4)]
    return np.stack([turn.ravel() for turn in turns])


def color_jitter(image: tf.Tensor, drawn: AugmentParams, strengths: Augmentation) -> tf.Tensor:
    """Blur or sharpen, saturation, then brightness, contrast and channel gain as one multiply-add, then gamma.

    `image` [B, H, H, C], 0..255, to float32 of the same shape and range. Before the resampling, because that reads
    every pixel four times and these would be computed as often. Channel by channel: with the channels innermost XLA
    fills three of a vector's places (105 us of CPU time an image together with `pack_channels`, against 60).
    """
    planes = [tf.cast(plane, tf.float32) for plane in tf.unstack(image, axis=3)]
    if strengths.blur or strengths.sharpen:
        # By gathers of whole rows and columns: of slices of a padded copy XLA computes what follows five times over.
        line = np.arange(image.shape[1])
        before, after = np.maximum(line - 1, 0), np.minimum(line + 1, line[-1])
        for channel, plane in enumerate(planes):
            sides = [tf.gather(image[..., channel], places, axis=axis) for axis in (1, 2) for places in (before, after)]
            around = tf.add_n([tf.cast(side, tf.float32) for side in sides])
            planes[channel] = plane + _plane(drawn.blur) * (around - 4 * plane)
    if strengths.saturation and len(planes) == 3:
        grey = _grey(planes)
        planes = [grey + _plane(drawn.colour) * (plane - grey) for plane in planes]
    scales = tf.unstack(drawn.scale, axis=1)
    planes = [plane * _plane(scale) + _plane(drawn.offset) for plane, scale in zip(planes, scales, strict=True)]
    if strengths.gamma:
        # Of the brightness, so that colours keep their ratios and one power a pixel will do. XLA has exponentials and
        # logarithms in vectors; tf.pow took three times as long.
        power = tf.exp(_plane(drawn.gamma - 1) * tf.math.log(tf.clip_by_value(_grey(planes) / 255, 1e-3, 1.0)))
        planes = [plane * power for plane in planes]
    return tf.stack([tf.clip_by_value(plane, 0.0, 255.0) for plane in planes], 3)


def _grey(planes: list[tf.Tensor]) -> tf.Tensor:
    """The brightness of each pixel, [B, H, H], from its channels."""
    if len(planes) < 3:
        return planes[0]
    return tf.add_n([weight * plane for weight, plane in zip(LUMA, planes, strict=True)])


def resample(image: tf.Tensor, drawn: AugmentParams) -> tf.Tensor:
    """Each picture under its affine map, bilinear, the border mirrored. `image` float32 [B, H, H, C], 0..255, C up to
    3; the same out, within an eighth of a grey level."""
    return bilinear(
        gather_corners(pack_channels(image), source_indices(drawn, image.shape[1])),
        drawn,
        image.shape[1],
        image.shape[3],
    )


def pack_channels(image: tf.Tensor) -> tf.Tensor:
    """int32 [B, H, H] from float32 [B, H, H, C], 0..255: quarters of a grey level, ten bits a channel. A pixel is then
    fetched by one gather instead of three (590 us of CPU time an image before, 450 with it)."""
    whole = [tf.cast(plane * SUBLEVELS + 0.5, tf.int32) for plane in tf.unstack(image, axis=3)]
    return tf.add_n([plane * (1 << BITS * channel) for channel, plane in enumerate(whole)])


def source_indices(drawn: AugmentParams, side: int) -> tf.Tensor:
    """int32 [B, H * H]: for each pixel of the result the upper left one of the four that it is mixed from, counted
    through the batch."""
    left, top, _, _ = _source(drawn, side)
    first = tf.range(tf.shape(left)[0])[:, None] * side * side
    return tf.cast(top * side + left, tf.int32) + first


def gather_corners(packed: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """int32 [4, B, H * H]: upper left, upper right, lower left, lower right pixels, from `pack_channels` and
    `source_indices`."""
    side = packed.shape[2]
    return tf.gather(tf.reshape(packed, [-1]), tf.stack([places + step for step in (0, 1, side, side + 1)]))


def bilinear(corners: tf.Tensor, drawn: AugmentParams, side: int, channels: int) -> tf.Tensor:
    """float32 [B, H, H, C], 0..255: the four pixels of `gather_corners`, each as near as it is."""
    _, _, right, down = (axis[..., None] for axis in _source(drawn, side))
    shifts = tf.constant([BITS * channel for channel in range(channels)], tf.int32)
    apart = tf.bitwise.bitwise_and(tf.bitwise.right_shift(corners[..., None], shifts), (1 << BITS) - 1)
    a, b, c, d = tf.unstack(tf.cast(apart, tf.float32))
    upper, lower = a + (b - a) * right, c + (d - c) * right
    return tf.reshape(upper + (lower - upper) * down, [-1, side, side, channels]) * (1 / SUBLEVELS)


def _source(drawn: AugmentParams, side: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """float32 [B, H * H] each: column and row of the upper left pixel, and how far right of and below it."""
    middle = (side - 1) / 2
    y, x = (axis.ravel() - middle for axis in np.indices((side, side), np.float32))

    def coordinate(row: int) -> tf.Tensor:
        a, b, shift = drawn.matrix[:, row, :1], drawn.matrix[:, row, 1:], drawn.shift[:, row, None]
        return _mirrored(a * x + b * y + (shift + middle), side)

    x, y = coordinate(0), coordinate(1)
    left, top = (tf.minimum(tf.floor(axis), side - 2.0) for axis in (x, y))
    return left, top, x - left, y - top


def _mirrored(place: tf.Tensor, side: int) -> tf.Tensor:
    """Coordinates folded back into 0..side-1 at the outer edges of the border pixels: ... c b a | a b c ..."""
    place = tf.abs(place + 0.5) - 0.5
    place = (side - 0.5) - tf.abs((side - 0.5) - place)
    return tf.clip_by_value(place, 0.0, side - 1.0)


def noise_erase_mixup(image: tf.Tensor, drawn: AugmentParams, strengths: Augmentation) -> tf.Tensor:
    """Noise, erasing and MixUp, on `image` float32 [B, H, H, C], 0..255; rounded to uint8 of the same shape."""
    side, channels = image.shape[1], image.shape[3]
    if strengths.noise:
        grain = counter_rng.noise(drawn.key, side * side * channels)
        image += _each(drawn.noise) * tf.reshape(grain, [-1, side, side, channels])
    if strengths.erase:
        line = tf.range(side, dtype=tf.float32) + 0.5
        top, left, bottom, right = (drawn.box[:, k, None] for k in range(4))
        rows, columns = (line > top) & (line < bottom), (line > left) & (line < right)
        inside = rows[:, :, None, None] & columns[:, None, :, None]
        image = tf.where(inside, _each(drawn.fill), image)
    if strengths.mixup:
        image = _mix_pairs(image, _each(drawn.share))
    return tf.cast(tf.clip_by_value(image + 0.5, 0.0, 255.0), tf.uint8)


def mix_labels(label: tf.Tensor, drawn: AugmentParams) -> tf.Tensor:
    """float32 [B], 0..1: the labels of pictures that `noise_erase_mixup` mixed, from `label` [B], 0 or 1."""
    return _mix_pairs(tf.cast(label, tf.float32), drawn.share)


def _mix_pairs(x: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Each item with a `share` of its neighbour: 0 with 1, 2 with 3 (MixUp: Zhang et al., 2018)."""
    pairs = tf.reshape(x, tf.concat([[-1, 2], tf.shape(x)[1:]], 0))
    return x + share * (tf.reshape(tf.reverse(pairs, [1]), tf.shape(x)) - x)


def _each(per_picture: tf.Tensor) -> tf.Tensor:
    return per_picture[:, None, None, None]


def _plane(per_picture: tf.Tensor) -> tf.Tensor:
    return per_picture[:, None, None]


class Augmenter:
    """Draws and applies within `augmentation`, from `seed`. `compiled`: as XLA functions, on a CPU as well, where they
    take a quarter of the time of single operations (BUILD_NOTES.md)."""

    def __init__(self, augmentation: Augmentation, seed: int, compiled: bool) -> None:
        has = self.strengths = augmentation.filled()
        self.seed = seed
        self._on_gpu = bool(tf.config.list_physical_devices("GPU"))
        self._tones = any(
            (has.brightness, has.contrast, has.saturation, has.channel_gain, has.gamma, has.blur, has.sharpen)
        )
        self._resamples = any((has.rotation, has.zoom, has.shear, has.shift))
        self._finishes = any((has.noise, has.erase, has.mixup))
        compile = (lambda f: tf.function(f, autograph=False, jit_compile=True)) if compiled else (lambda f: f)
        self._turned = compile(lambda image, keys: apply_d4(image, self._drawn(image, keys).turn))
        self._changed, self._prepared = compile(self._change), compile(self._prepare)
        self._fetched, self._blended = compile(gather_corners), compile(self._blend)

    def __call__(self, image: tf.Tensor, step: tf.Tensor | int, first: tf.Tensor | int = 0) -> tf.Tensor:
        """`image` uint8 [B, H, H, C] of step `step`, `first`: place of its first picture in the global batch."""
        return self._apply(image, counter_rng.per_example_keys(self.seed, step, first, tf.shape(image)[0]))

    def mixed(
        self, image: tf.Tensor, label: tf.Tensor, step: tf.Tensor | int, first: tf.Tensor | int = 0
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Pictures and their labels float32 [B], 0..1: between the two where MixUp has mixed two pictures.

        With MixUp B must be even, on each replica.
        """
        keys = counter_rng.per_example_keys(self.seed, step, first, tf.shape(image)[0])
        label = tf.cast(label, tf.float32)
        if self.strengths.mixup:
            label = mix_labels(label, self._drawn(image, keys))
        return self._apply(image, keys), label

    def turned(self, grid: tf.Tensor, step: tf.Tensor | int, first: tf.Tensor | int = 0) -> tf.Tensor:
        """`grid` [B, G, G, K], any type, under the flips and quarter turns that the pictures of `step` undergo."""
        if self.strengths.augment is Augment.NONE:
            return grid
        return self._turned(grid, counter_rng.per_example_keys(self.seed, step, first, tf.shape(grid)[0]))

    def _apply(self, image: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        image = tf.convert_to_tensor(image)
        if self._resamples:
            return self._resampled(image, keys)
        if self.strengths.augment is not Augment.NONE:
            image = self._turned(image, keys)
        return self._changed(image, keys) if self._tones or self._finishes else image

    def _resampled(self, image: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        """Functions one after another, because within one XLA would compute anew, for each of the pixels that the
        resampling fetches, all that led to it: 2,400 us an image instead of 280."""

        def part(image: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
            return self._blended(self._fetched(*self._prepared(image, keys)), image, keys)

        if self._on_gpu or not image.shape[0] or image.shape[0] % CHUNK:
            return part(image, keys)
        # Side by side on the cores, and what is handed from one function to the next stays in the caches.
        count = image.shape[0] // CHUNK
        pairs = zip(tf.split(image, count), tf.split(keys, count), strict=True)
        return tf.concat([part(*pair) for pair in pairs], 0)

    def _change(self, image: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        drawn = self._drawn(image, keys)
        return noise_erase_mixup(self._toned(image, drawn), drawn, self.strengths)

    def _prepare(self, image: tf.Tensor, keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        drawn = self._drawn(image, keys)
        return pack_channels(self._toned(image, drawn)), source_indices(drawn, image.shape[1])

    def _blend(self, corners: tf.Tensor, image: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        drawn = self._drawn(image, keys)
        return noise_erase_mixup(bilinear(corners, drawn, image.shape[1], image.shape[3]), drawn, self.strengths)

    def _toned(self, image: tf.Tensor, drawn: AugmentParams) -> tf.Tensor:
        return color_jitter(image, drawn, self.strengths) if self._tones else tf.cast(image, tf.float32)

    def _drawn(self, image: tf.Tensor, keys: tf.Tensor) -> AugmentParams:
        return sample_params(self.strengths, keys, image.shape[1], image.shape[3])
