"""Conversion of images with more than 8 bits, or with floats, to 8 bits: which value is white, and what says so.

Synopsis::

    if bit_depth.is_deep(image):                        # a Pillow image whose header was read
        samples = bit_depth.read(data)                  # its values as they are stored
        picture, note = bit_depth.to_eight(samples)     # Pillow, 8 bits; raises DepthError naming the values

Cameras store 10, 12 or 14 bits in 16, and programs store floats of 0 to 1: read as 0 to 65,535, all of these are black.
White is the value that the file names (TIFF MaxSampleValue, 281, or SMaxSampleValue, 341; PNG sBIT; bits of the
sample), rounded up to one of STEPS, or else the lowest of STEPS that no value exceeds. This is decided for each image
alone, so that every command reads the same pixels of it. One image of a 14-bit set whose highest value is below 4,096
therefore comes out four times as bright as its neighbours, and its note says so.
"""

import io
import struct
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from PIL import Image, ImageFile

if TYPE_CHECKING:
    from PIL.TiffImagePlugin import TiffImageFile

STEPS = (255, 1023, 4095, 16383, 65535)  # 8, 10, 12, 14 and 16 bits
FAINTEST = (
    8  # the highest value may lie so many times below white; below that, another range is likelier than a dark image
)
OVERSHOOT = 0.05  # fraction of white by which resampled floats may leave their range
BITS_TAG, PHOTOMETRIC_TAG, PLANAR_TAG, SAMPLE_FORMAT_TAG = 258, 262, 284, 339
MAXIMUM_TAGS = (281, 341)
UNSIGNED, SIGNED = 1, 2  # SampleFormat
NOTE = "scaled to 8 bits from 0 to "
SIXTEEN = "scaled from 16 to 8 bits"
GUESSED = "no value being higher"


UNEVEN = (
    "of more than 8 bits, not all scaled from the same range (see above): the darker ones may have come out brighter; "
    "name the range in the files (TIFF MaxSampleValue, PNG sBIT), or save them with 8 bits"
)


class DepthError(ValueError):
    """Nothing says which value is white; the message names the values."""


class Samples(NamedTuple):
    """The samples of an image as they are stored.

    Attributes:
        colours: [H, W, 1 or 3] of any numeric dtype.
        alpha: [H, W] of the same dtype, or None.
        named: the white that the file names, 0 for none.
        largest: the largest value that a sample can hold, 1 for floats.
        inverted: whether 0 is white.
    """

    colours: np.ndarray
    alpha: np.ndarray | None
    named: float
    largest: int
    inverted: bool


def tags_of(image: ImageFile.ImageFile) -> Mapping[int, Any]:
    """Returns the tags (number -> value) of a TIFF that Pillow opened; none for other formats."""
    return cast("TiffImageFile", image).tag_v2 if image.format == "TIFF" else {}


def is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether a sample of `image`, opened by Pillow, holds more than 8 unsigned bits."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return True
    signed = tags_of(image).get(SAMPLE_FORMAT_TAG) in (SIGNED, (SIGNED,))
    return signed or (image.mode in ("RGB", "RGBA") and ";16" in rawmode_of(image))


def read(data: bytes) -> Samples:
    """Reads the samples of the image in `data`, which Pillow opens. Raises: what Pillow's decoders raise."""
    image = _open_image(data)
    rawmode = rawmode_of(image)
    tags = tags_of(image)
    named = white_named(tags) if tags else _png_white(data) if image.format == "PNG" else 0.0
    if image.mode in ("RGB", "RGBA"):
        values = _read_sixteen_bits(data, rawmode)
        alpha = values[..., -1] if values.shape[-1] in (2, 4) else None
        colours = values if alpha is None else values[..., :-1]
        if alpha is not None and "a;16" in rawmode:  # the colours are multiplied by alpha
            full = np.maximum(alpha, 1)[..., None].astype(np.float64)
            colours = np.where(alpha[..., None] > 0, np.minimum(colours * (65535 / full) + 0.5, 65535), colours)
            colours = colours.astype(np.uint16)
        return Samples(colours, alpha, named, 65535, False)
    values = np.asarray(_load_image(image))
    largest = 1 if image.mode == "F" else 65535
    if image.format == "PPM" and largest > 1:  # Pillow has already scaled it to 16 bits by its maxval
        named = 65535.0
    if image.mode == "L":
        values, largest = values.view(np.int8), 127
    elif image.mode == "I" and tags:
        values, largest = _integer_samples(values, tags)
    return Samples(values[..., None], None, named, largest, tags.get(PHOTOMETRIC_TAG) == 0)


def to_eight(samples: Samples) -> tuple[Image.Image, str]:
    """Converts samples to 8 bits.

    Returns:
        (the image in mode L, LA, RGB or RGBA, a note of what was done).

    Raises:
        DepthError: when nothing says which value is white.
    """
    white = _find_white(samples.colours, samples.named, samples.largest)
    colours = _scale_to_eight_bits(samples.colours, white)
    if samples.inverted:
        colours = 255 - colours
    layers = [colours]
    if samples.alpha is not None:
        highest = samples.alpha.max()
        layers.append(_scale_to_eight_bits(samples.alpha, white if highest <= white else samples.largest)[..., None])
    values = np.concatenate(layers, -1)
    mode = ("L", "LA", "RGB", "RGBA")[values.shape[-1] - 1]
    source = "as its file says" if samples.named else GUESSED
    note = SIXTEEN if white == 65535 == samples.largest else f"{NOTE}{white:,.0f}, {source}"
    inverted = ", and inverted: 0 is white in it" if samples.inverted else ""
    return Image.fromarray(values[..., 0] if mode == "L" else values, mode), note + inverted


def is_scaling(note: str) -> bool:
    """Whether `note` is a note of `to_eight`."""
    return note.startswith((NOTE, SIXTEEN))


def white_named(tags: Mapping[int, Any]) -> float:
    """Returns the white of integers that the TIFF `tags` (number -> value, or values per sample) name, or 0."""
    for tag in MAXIMUM_TAGS:
        if value := np.max(tags.get(tag, 0)):
            return float(value)
    bits = np.max(tags.get(BITS_TAG, 1))
    return 2.0**bits - 1 if bits in (9, 10, 11, 12, 13, 14, 15) else 0.0


def _find_white(values: np.ndarray, named: float, largest: int) -> float:
    """Returns the value among `values` that is white."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        raise DepthError("none of its values is a number")
    low, high = float(finite.min()), float(finite.max())
    spare = OVERSHOOT if largest == 1 else 0.0
    steps = sorted({1, *STEPS} if largest == 1 else {*(step for step in STEPS if step < largest), largest})
    enough = named if named >= high / (1 + spare) else high / (1 + spare)
    white = next((step for step in steps if step >= enough), 0)
    faint = white > steps[0] and high * FAINTEST < white and not named
    if not white or faint or low < -spare * white:
        expected = f"{', '.join(f'{step:,}' for step in steps[:-1])} or {steps[-1]:,}"
        raise DepthError(
            f"values {_format_value(low)} to {_format_value(high)}: expected 0 to {expected}; save it with 8 bits"
        )
    return white


def _format_value(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e12 else f"{value:.3g}"


def _scale_to_eight_bits(values: np.ndarray, white: float) -> np.ndarray:
    """Scales to uint8 of the same shape, in bands of rows, so that the floats take little memory."""
    out = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), 256):
        band = np.nan_to_num(values[top : top + 256].astype(np.float64), posinf=white, neginf=0)
        out[top : top + 256] = np.clip(band * (255 / white) + 0.5, 0, 255)
    return out


def _open_image(data: bytes) -> ImageFile.ImageFile:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(data))


def _load_image(image: ImageFile.ImageFile) -> ImageFile.ImageFile:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.load()
    return image


def rawmode_of(image: ImageFile.ImageFile) -> str:
    """Returns Pillow's name of how the samples of `image`, which is not loaded yet, lie in its file."""
    args = image.tile[0].args if image.tile else ""
    return str(args[0] if isinstance(args, Sequence) and not isinstance(args, str) and args else args)


def _read_sixteen_bits(data: bytes, rawmode: str) -> np.ndarray:
    """Returns uint16 [H, W, C] of an image that Pillow would cut down to 8 bits.

    Its high bytes are read as Pillow reads them, its low bytes as the high ones of the other byte order.
    """
    if rawmode.startswith("LA"):  # 32 bits per pixel: they are read as four channels
        four = read_as(data, "RGBA").astype(np.uint16)
        return four[..., ::2] << 8 | four[..., 1::2]
    plain = rawmode.replace("RGBa", "RGBA")
    big = plain.endswith("B") or (plain.endswith("N") and struct.pack("=H", 1) == b"\0\1")
    high, low = (read_as(data, plain[:-1] + order) for order in ("BL" if big else "LB"))
    return high.astype(np.uint16) << 8 | low


def read_as(data: bytes, rawmode: str) -> np.ndarray:
    """Returns uint8 [H, W, C] of the image in `data`, read as if its samples had the layout `rawmode`."""
    image = _open_image(data)
    image.tile = [
        tile._replace(args=rawmode if isinstance(tile.args, str) else (rawmode, *cast(tuple, tile.args)[1:]))
        for tile in image.tile
    ]
    return np.asarray(_load_image(image))


def _integer_samples(values: np.ndarray, tags: Mapping[int, Any]) -> tuple[np.ndarray, int]:
    """Returns (values, the largest possible value) in Pillow's mode I, in which 32 unsigned bits come out signed."""
    bits, signed = np.max(tags.get(BITS_TAG, 1)), np.max(tags.get(SAMPLE_FORMAT_TAG, UNSIGNED)) == SIGNED
    if bits == 32 and not signed:
        values = values.view(np.uint32)
    if bits == 32 and values.max() <= 65535:
        return values, 65535
    return values, int(2 ** (bits - signed) - 1)


def _png_white(data: bytes) -> float:
    """Returns the white that the sBIT chunk of a PNG names: it holds the number of significant bits.

    The standard requires the values to be scaled up to 16 bits, and then they lie above what so few bits hold.
    """
    at = 8
    while len(data) - at >= 12 and data[at + 4 : at + 8] != b"IDAT":
        (length,) = struct.unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"sBIT" and length and len(data) - at > 8:
            return 2.0 ** data[at + 8] - 1 if 8 < data[at + 8] < 16 else 0.0
        at += 12 + length
    return 0.0
