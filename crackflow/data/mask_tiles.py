"""Windows of a photograph with a crack mask, each labelled by the mask inside it.

Synopsis::

    windows, unclear = mask_tiles.label_tiles(mask, patch_px=128, min_crack_fraction=0.005)
    windows[0].name("images/001.png")     # "images/001.png#xywh=0,0,128,128"

A window is cracked from `min_crack_fraction` of crack pixels on, and clean without any within 4 px of it (masks are
drawn by hand, and a crack just outside would be half seen). What lies between is left out.
"""

import os
import re
from typing import NamedTuple

import numpy as np

from crackflow.core.errors import ImageError
from crackflow.data import image_file, mask_check, mask_grid

CRACK_ABOVE = mask_check.CRACK_ABOVE
CLEAN_MARGIN_PX = 4
UNCLEAR = "neither clean nor cracked: fewer crack pixels than --min_crack_fraction"


class Tile(NamedTuple):
    """The square of side `px` whose upper left corner is at column `x`, row `y`. `label`: 0, 1, or -1 unclear; `cells`:
    where its crack lies, as `data.mask_grid` has it."""

    x: int
    y: int
    px: int
    label: int
    cells: int = 0

    def name(self, path: str) -> str:
        """`path` with the window after it, as W3C media fragments write it."""
        return f"{path}#xywh={self.x},{self.y},{self.px},{self.px}"


def parse_tile_name(name: str) -> tuple[int, int, int, int] | None:
    """(x, y, width, height) of a window, from what `Tile.name` wrote; None for a whole picture."""
    found = re.search(r"#xywh=(\d+),(\d+),(\d+),(\d+)$", name)
    return tuple(map(int, found.groups())) if found else None


def read_mask(root: str, path: str, photo: image_file.EncodedImage, max_megapixels: float) -> np.ndarray:
    """uint8 [H, W], 0..255, of the size of `photo`, from the file `path` under `root`. Raises: ImageError, also for
    what is drawn otherwise than white on black."""
    try:
        mask_photo = image_file.open_photo(os.path.join(root, path), max_megapixels, min_side_px=1)
        picture = image_file.layers(mask_photo)
    except ImageError as error:
        raise ImageError(f"its mask {path!r}: {error}") from error
    if picture.size != (photo.width, photo.height):
        mask_size, size = f"{picture.width} x {picture.height}", f"{photo.width} x {photo.height}"
        raise ImageError(f"its mask is {mask_size}, the picture {size}: expected the same size")
    lossy = mask_photo.format in ("JPEG", "MPO", "WEBP")
    reason = mask_check.describe(picture, lossy, lambda: image_file.pixels(photo, channels=1, image_px=0)[..., 0])
    if reason:
        raise ImageError(f"its mask {path!r} {reason}")
    return mask_check.flattened(picture)


def tile_grid(height: int, width: int, patch_px: int) -> list[Tile]:
    """Unlabelled windows that cover a picture; the last of a row may overlap its neighbour. Raises: ImageError when the
    picture is smaller than a window."""
    if min(height, width) < patch_px:
        raise ImageError(f"{width} x {height} pixels: expected at least --patch_px={patch_px} on each side")
    return [Tile(x, y, patch_px, -1) for y in _starts(height, patch_px) for x in _starts(width, patch_px)]


def label_tiles(
    mask: np.ndarray, patch_px: int, min_crack_fraction: float
) -> tuple[tuple[Tile, ...], tuple[Tile, ...]]:
    """(labelled, unclear) windows that cover `mask` uint8 [H, W]; the last of a row may overlap its neighbour.

    Raises: ImageError when the picture is smaller than a window.
    """
    crack = mask > CRACK_ABOVE
    found = [_labelled(crack, one, min_crack_fraction) for one in tile_grid(*mask.shape, patch_px)]
    return tuple(one for one in found if one.label >= 0), tuple(one for one in found if one.label < 0)


def _starts(size: int, patch_px: int) -> list[int]:
    """Evenly spread starts of the fewest windows that cover `size` pixels."""
    count = -(-size // patch_px)
    return [round(start) for start in np.linspace(0, size - patch_px, count)]


def _labelled(crack: np.ndarray, window: Tile, min_crack_fraction: float) -> Tile:
    x, y, px = window[:3]
    inside = crack[y : y + px, x : x + px]
    if inside.mean() >= min_crack_fraction:
        return window._replace(label=1, cells=mask_grid.from_mask(inside))
    low_y, low_x = max(y - CLEAN_MARGIN_PX, 0), max(x - CLEAN_MARGIN_PX, 0)
    around = crack[low_y : y + px + CLEAN_MARGIN_PX, low_x : x + px + CLEAN_MARGIN_PX]
    return window._replace(label=-1 if around.any() else 0)
