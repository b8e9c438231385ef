"""Photographs in any folder, with masks or without, as tiles for a network.

Synopsis::

    files, rejected = inputs.list_images("photos", masks="")
    for tile in inputs.iter_tiles(files, channels=3, patch_px=128, min_crack_fraction=0.005, max_megapixels=200,
                                  rejected=rejected):
        tile.name, tile.pixels        # "bridge/7.jpg#xywh=0,0,128,128", uint8 [128, 128, 3]

A photograph that cannot be read is listed with the reason, as crackflow.convert does, and the others are read.
"""

import collections
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from crackflow.core import errors
from crackflow.core.errors import UserError
from crackflow.data import folders, image_file, mask_names, mask_tiles, rejections

UNCLEAR = -1


class ImagePath(NamedTuple):
    """A photograph at `path` under `root`, and its mask at `mask` under `masks`; both are "" without a mask."""

    root: str
    path: str
    masks: str = ""
    mask: str = ""


class LabelledTile(NamedTuple):
    """A photograph or a tile of one.

    Attributes:
        name: Path of the photograph, with the rectangle of the tile after it.
        pixels: uint8 [H, W, C], 0..255.
        mask: bool [H, W], True is crack; None without one.
        label: 0 clean, 1 cracked, -1 unknown.
    """

    name: str
    pixels: np.ndarray
    mask: np.ndarray | None
    label: int


def list_images(
    root: str, masks: str, without: str = "", passed_over: collections.Counter | None = None
) -> tuple[list[ImagePath], list[tuple[str, str]]]:
    """Lists photographs, in the order of their names.

    Args:
        root: A photograph, or a folder of them.
        masks: Folder of their masks, which `mask_names` matches by name; "" for none.
        without: Folder of results, which is skipped.
        passed_over: Counts the system's own files, which are skipped as well.

    Returns:
        The photographs, each with its mask if `masks` is given; and (path, reason) of those that are left out.

    Raises:
        UserError: There is no photograph, or a folder is wrong.
    """
    rejected = []
    if os.path.isfile(root):
        root, name = os.path.split(os.path.abspath(root))
        paths = [name]
    elif os.path.isdir(root):
        paths = sorted(folders.walk(root, "", rejected, without, passed_over))
    else:
        raise UserError(f"--images: expected a photograph or a folder of them, received {root!r} (nothing there)")
    images = [ImagePath(root, path) for path in paths]
    if masks:
        if os.path.isdir(masks) and os.path.samefile(root, masks):
            raise UserError(f"--masks: expected another folder than that of the photographs, received {masks!r}")
        if not os.path.isdir(masks):
            raise UserError(f"--masks: expected a folder, received {masks!r}; masks have the names of the photographs")
        images = _with_masks(images, masks, rejected)
    if not images:
        hint = rejections.most_common(rejected)
        kind = "photographs that have masks" if masks else "photographs"
        raise UserError(f"--images: expected {kind} in {root!r}, found none" + (f"; {hint}" if hint else ""))
    return images, rejected


def _with_masks(images: list[ImagePath], masks: str, rejected: list[tuple[str, str]]) -> list[ImagePath]:
    index, with_masks = mask_names.MaskIndex(folders.walk(masks, "", rejected)), []
    for image in images:
        try:
            with_masks.append(ImagePath(image.root, image.path, masks, index.find(image.path)))
        except LookupError as error:
            rejected.append((image.path, f"{error.args[0]} in --masks"))
    return with_masks


def iter_tiles(
    files: Iterable[ImagePath],
    channels: int,
    patch_px: int,
    min_crack_fraction: float,
    max_megapixels: float,
    rejected: list[tuple[str, str]],
) -> Iterator[LabelledTile]:
    """Reads photographs, and cuts them into tiles.

    Args:
        files: The photographs.
        channels: 1 or 3.
        patch_px: Side of the tiles; 0: each photograph whole.
        min_crack_fraction: Fraction of crack pixels from which a tile is cracked.
        max_megapixels: Larger photographs are rejected.
        rejected: Receives (path, reason) of photographs that cannot be read, and of those that are taken whole and have
            too little crack to be called cracked.

    Yields:
        The tiles; those of which a mask cannot tell whether they are clean are left out.
    """
    for file in files:
        try:
            yield from _tiles_of(file, channels, patch_px, min_crack_fraction, max_megapixels, rejected)
        except errors.ImageError as error:
            rejected.append((file.path, str(error)))


def _tiles_of(
    file: ImagePath,
    channels: int,
    patch_px: int,
    min_crack_fraction: float,
    max_megapixels: float,
    rejected: list[tuple[str, str]],
) -> Iterator[LabelledTile]:
    photo = image_file.open_photo(os.path.join(file.root, file.path), max_megapixels)
    values = image_file.pixels(photo, channels, image_px=0)
    mask = mask_tiles.read_mask(file.masks, file.mask, photo, max_megapixels) if file.mask else None
    crack = None if mask is None else mask > mask_tiles.CRACK_ABOVE
    if not patch_px:
        label = UNCLEAR if crack is None else int(crack.mean() >= min_crack_fraction)
        if crack is None or label == int(crack.any()):
            yield LabelledTile(file.path, values, crack, label)
        else:
            share = f"{crack.mean():.2%} of it is crack, less than --min_crack_fraction ({min_crack_fraction:.2%})"
            rejected.append((file.path, f"neither clean nor cracked: {share}; --patch_px cuts it into tiles"))
        return
    if mask is None:
        tiles = mask_tiles.tile_grid(*values.shape[:2], patch_px)
    else:
        tiles = mask_tiles.label_tiles(mask, patch_px, min_crack_fraction)[0]
    for tile in tiles:
        inside = slice(tile.y, tile.y + tile.px), slice(tile.x, tile.x + tile.px)
        # Copies: a view would keep the whole photograph as long as the tile is kept, 48 MB for 12 megapixels.
        inside_crack = None if crack is None else crack[inside].copy()
        yield LabelledTile(tile.name(file.path), values[inside].copy(), inside_crack, tile.label)
