"""Tiles of a photograph with a crack mask, each labelled by the mask inside it.

Synopsis::

    tiles, unclear = mask_tiles.label_tiles(mask, patch_px=128, min_crack_fraction=0.005)
    tiles[0].name("images/001.png")     # "images/001.png#xywh=0,0,128,128"

A tile is cracked when at least `min_crack_fraction` of its pixels are crack. It is clean when there is no crack pixel
in it or within 4 px around it: masks are drawn by hand, and half of a crack just outside would be visible. Tiles
between the two are left out.
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
    """A square part of a photograph.

    Attributes:
        x, y: column and row of its upper left corner, in pixels.
        px: its side, in pixels.
        label: 0 clean, 1 cracked, -1 unclear.
        mask_bits: where its crack lies, in the format of `data.mask_grid`.
    """

    x: int
    y: int
    px: int
    label: int
    mask_bits: int = 0

    def name(self, path: str) -> str:
        """Returns `path` followed by the tile, in the notation of W3C media fragments."""
        return f"{path}#xywh={self.x},{self.y},{self.px},{self.px}"


def parse_tile_name(name: str) -> tuple[int, int, int, int] | None:
    """Returns (x, y, width, height) of a tile from the result of `Tile.name`, or None for a whole image."""
    match = re.search(r"#xywh=(\d+),(\d+),(\d+),(\d+)$", name)
    if match is None:
        return None
    x, y, width, height = map(int, match.groups())
    return x, y, width, height


def read_mask(root: str, path: str, photo: image_file.EncodedImage, max_megapixels: float) -> np.ndarray:
    """Reads the mask of a photograph.

    Args:
        root: folder of the masks.
        path: the file, relative to `root`.
        photo: the photograph, whose size the mask must have.
        max_megapixels: larger files are refused.

    Returns:
        uint8 [H, W], 0..255.

    Raises:
        ImageError: when the file can't be used, or is drawn otherwise than white on black.
    """
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
    """Returns unlabelled tiles that cover an image; the last tile of a row may overlap its neighbour.

    Raises:
        ImageError: when the image is smaller than a tile.
    """
    if min(height, width) < patch_px:
        raise ImageError(f"{width} x {height} pixels: expected at least --patch_px={patch_px} on each side")
    return [Tile(x, y, patch_px, -1) for y in _tile_starts(height, patch_px) for x in _tile_starts(width, patch_px)]


def label_tiles(
    mask: np.ndarray, patch_px: int, min_crack_fraction: float
) -> tuple[tuple[Tile, ...], tuple[Tile, ...]]:
    """Labels tiles that cover a mask; the last tile of a row may overlap its neighbour.

    Args:
        mask: uint8 [H, W], 0..255.
        patch_px: side of a tile, in pixels.
        min_crack_fraction: fraction of crack pixels from which on a tile is cracked.

    Returns:
        (labelled tiles, unclear tiles).

    Raises:
        ImageError: when the image is smaller than a tile.
    """
    crack = mask > CRACK_ABOVE
    height, width = mask.shape
    tiles = [_label_tile(crack, tile, min_crack_fraction) for tile in tile_grid(height, width, patch_px)]
    return tuple(tile for tile in tiles if tile.label >= 0), tuple(tile for tile in tiles if tile.label < 0)


def _tile_starts(size: int, patch_px: int) -> list[int]:
    """Returns evenly spread starts of the fewest tiles that cover `size` pixels."""
    count = -(-size // patch_px)
    return [round(start) for start in np.linspace(0, size - patch_px, count)]


def _label_tile(crack: np.ndarray, tile: Tile, min_crack_fraction: float) -> Tile:
    """Returns `tile` with its label and cells. `crack`: bool [H, W]."""
    x, y, tile_px = tile[:3]
    inside = crack[y : y + tile_px, x : x + tile_px]
    if inside.mean() >= min_crack_fraction:
        return tile._replace(label=1, mask_bits=mask_grid.from_mask(inside))
    low_y, low_x = max(y - CLEAN_MARGIN_PX, 0), max(x - CLEAN_MARGIN_PX, 0)
    around = crack[low_y : y + tile_px + CLEAN_MARGIN_PX, low_x : x + tile_px + CLEAN_MARGIN_PX]
    return tile._replace(label=-1 if around.any() else 0)
