"""Checks that an image is a crack mask: white where there is a crack, black elsewhere, and nothing else.

Synopsis::

    reason = mask_check.describe(picture, lossy=False, photo=lambda: grey)     # "", or the reason against it

People and tools draw masks in other ways: black on white, a colour or a grey level per class, class numbers, black on a
transparent layer. Read as brightness, each of these would silently label tiles wrongly. None of the 730 masks of
DeepCrack, CFD and the 75 of Benz et al. is refused, as PNG or as JPEG of quality 15 and up.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

CRACK_ABOVE = 127  # masks are anti-aliased: 255 is crack
NOISE, LOSSY_NOISE = 16, 32  # what a compressor may leave of black, or take from white
COLOUR_SPREAD = 64  # least difference between the channels of a pixel that is not grey
COLOURED_SHARE = 1e-4  # fraction of the pixels, and at least MIN_PIXELS
MIN_PIXELS = 10
# The widest crack of DeepCrack fills 20 % of its image, so a white part of more than half is nearly always the ground.
# Where it is the darker part of the photograph it may be a crack in close-up, unless little else is left.
MAX_WHITE, MAX_DARK_WHITE = 0.5, 0.9
DARKER = 5.0  # grey levels
# Areas of one grey level, as a fraction of all that is not black; at most 0.004 in a real mask as JPEG of quality 15.
FLAT_SHARE = 0.005
LEVEL_SHARE = 0.15  # fraction of such areas within 9 levels; in a soft edge they spread evenly
THIN_PIXELS, THIN_SHARE, THIN_LEVELS = 100, 0.2, 0.9  # of lines of one or two grey levels away from white
EXPECTED = "expected white, 255, where there is crack"


def describe(picture: Image.Image, lossy: bool, photo: Callable[[], np.ndarray]) -> str:
    """Explains why an image is no crack mask.

    Args:
        picture: the image, in mode L, RGB or RGBA.
        lossy: whether it comes from JPEG or the like.
        photo: gives the photograph, grey, uint8 [H, W].

    Returns:
        The reason, or "" when it is a mask.
    """
    if reason := _describe_alpha(picture) or _describe_colours(picture):
        return reason
    mask = flattened(picture)
    return _describe_class_numbers(mask) or _describe_inversion(mask, photo) or _describe_grey_levels(mask, lossy)


def flattened(picture: Image.Image) -> np.ndarray:
    """Returns the brightness of `picture`, over black where it is transparent: uint8 [H, W]."""
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture).convert("RGB")
    return np.asarray(picture.convert("L"))


def _describe_alpha(picture: Image.Image) -> str:
    """Detects a crack drawn in black on a transparent layer: it is invisible over black, as in a clean mask."""
    if picture.mode != "RGBA":
        return ""
    opaque = np.asarray(picture.getchannel("A")) > CRACK_ABOVE
    if not opaque.any() or opaque.all():
        return ""
    drawn = np.asarray(picture.convert("RGB").convert("L"))[opaque]
    return "" if (drawn > CRACK_ABOVE).mean() > 0.01 else f"is black where it is not transparent: {EXPECTED}"


def _describe_colours(picture: Image.Image) -> str:
    if picture.mode == "L":
        return ""
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture).convert("RGB")
    values = np.asarray(picture)
    coloured = values.max(-1) - values.min(-1) > COLOUR_SPREAD
    if coloured.sum() < max(MIN_PIXELS, COLOURED_SHARE * coloured.size):
        return ""
    kinds, counts = np.unique(values[coloured], axis=0, return_counts=True)
    commonest = ", ".join(f"rgb({r}, {g}, {b})" for r, g, b in kinds[np.argsort(-counts)[:2]].tolist())
    return f"has colours ({commonest}), as masks of several classes have: {EXPECTED}, and black elsewhere"


def _describe_class_numbers(mask: np.ndarray) -> str:
    """Detects class numbers, or a crack in a dark colour: as brightness they would make every crack clean.

    One single value up to NOISE is black: JPEG of quality 70 makes 1 of it.
    """
    highest = int(mask.max())
    if highest > CRACK_ABOVE or highest == mask.min() <= NOISE:
        return ""
    return f"has no value above {highest}: {EXPECTED}" if highest > NOISE or _is_drawn(mask) else ""


def _is_drawn(mask: np.ndarray) -> bool:
    """Whether the low values of `mask` are class numbers and not a compressor's noise.

    Class numbers are one single value beside 0, or form areas of one value.
    """
    first, *neighbours = mask[:-1, :-1], mask[1:, :-1], mask[:-1, 1:], mask[1:, 1:]
    areas = (first > 0) & np.logical_and.reduce([first == neighbour for neighbour in neighbours])
    return bool(np.isin(mask, (0, mask.max())).all() or areas.any())


def _describe_inversion(mask: np.ndarray, photo: Callable[[], np.ndarray]) -> str:
    white = mask > CRACK_ABOVE
    share = white.mean()
    if share <= MAX_WHITE:
        return ""
    if share <= MAX_DARK_WHITE:
        grey = photo()
        if grey[white].mean() < grey[~white].mean() - DARKER:
            return ""
    return f"is white in {100 * share:.0f} % of the picture: {EXPECTED}, and black elsewhere; invert it"


def _describe_grey_levels(mask: np.ndarray, lossy: bool) -> str:
    """Detects grey that is no soft edge between black and white: the areas, or the lines, of another class."""
    noise = LOSSY_NOISE if lossy else NOISE
    white = mask >= int(mask.max()) - noise
    grey = (mask > noise) & ~white
    drawn = grey | white
    level = _area_level(mask, grey, drawn) or _line_level(mask, grey, white)
    if not level and not lossy:
        level = _low_area_level(mask, drawn)
    if not level:
        return ""
    return f"has areas of the value {level}, neither black nor white, as masks of several classes have: {EXPECTED}"


def _area_level(mask: np.ndarray, grey: np.ndarray, drawn: np.ndarray) -> int:
    """Returns the grey level of areas that have hardly any other, or 0."""
    if not grey.any():
        return 0
    flat = grey & (ndimage.maximum_filter(mask, 3) - ndimage.minimum_filter(mask, 3) <= NOISE)
    count = int(flat.sum())
    if count < max(MIN_PIXELS, FLAT_SHARE * drawn.sum()):
        return 0
    levels = np.bincount(mask[flat], minlength=256)
    return int(levels.argmax()) if np.convolve(levels, np.ones(9), "same").max() >= LEVEL_SHARE * count else 0


def _line_level(mask: np.ndarray, grey: np.ndarray, white: np.ndarray) -> int:
    """Returns the grey level of lines too thin for an area, where nothing white is beside them, or 0."""
    far = grey & ~ndimage.maximum_filter(white, 5) if grey.any() else grey
    count = int(far.sum())
    if count < max(THIN_PIXELS, THIN_SHARE * (grey | white).sum()):
        return 0
    levels = np.bincount(mask[far], minlength=256)
    return int(levels.argmax()) if np.sort(levels)[-2:].sum() >= THIN_LEVELS * count else 0


def _low_area_level(mask: np.ndarray, drawn: np.ndarray) -> int:
    """Returns the number of a class, up to NOISE, beside white, or 0: such as 0, 1 and 255 for ground, crack and
    ignored.
    """
    levels = np.bincount(mask[mask <= NOISE], minlength=NOISE + 1)
    levels[levels.argmax()] = 0
    if not levels.any():
        return 0
    value = int(levels.argmax())
    areas = ndimage.minimum_filter(mask == value, 3)
    return value if areas.sum() >= max(MIN_PIXELS, FLAT_SHARE * drawn.sum()) else 0
