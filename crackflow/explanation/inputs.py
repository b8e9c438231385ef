"""Photographs in any folder, with masks or without, as pieces for a network to look at.

Synopsis::

    files, rejected = inputs.list_images("photos", masks="")
    for piece in inputs.iter_tiles(files, channels=3, patch_px=128, min_crack_fraction=0.005, max_megapixels=200,
                                rejected=rejected):
        piece.name, piece.pixels        # "bridge/7.jpg#xywh=0,0,128,128", uint8 [128, 128, 3]

What cannot be read is listed with its reason, as crackflow.convert does, and the rest goes on.
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
    """A photograph at `path` under `root`; `masks`, `mask`: the same of its mask, or empty."""

    root: str
    path: str
    masks: str = ""
    mask: str = ""


class LabelledTile(NamedTuple):
    """A photograph or a window of one. `pixels` uint8 [H, W, C], 0..255; `mask` bool [H, W], True is crack, or None;
    `label`: 0 clean, 1 cracked, -1 unknown."""

    name: str
    pixels: np.ndarray
    mask: np.ndarray | None
    label: int


def list_images(
    root: str, masks: str, without: str = "", passed_over: collections.Counter | None = None
) -> tuple[list[ImagePath], list[tuple[str, str]]]:
    """The photographs in the file or under the folder `root`, in the order of their names, each with its mask under
    `masks` if that is given, as `mask_names` finds it; and (path, reason) of those without one. The folder `without`,
    where results lie, is passed over, and what the system keeps, which `passed_over` counts. Raises: UserError when
    there is none."""
    rejected = []
    if os.path.isfile(root):
        root, only = os.path.split(os.path.abspath(root))
        paths = [only]
    elif os.path.isdir(root):
        paths = sorted(folders.walk(root, "", rejected, without, passed_over))
    else:
        raise UserError(f"--images: expected a photograph or a folder of them, received {root!r} (nothing there)")
    found = [ImagePath(root, path) for path in paths]
    if masks:
        if os.path.isdir(masks) and os.path.samefile(root, masks):
            raise UserError(f"--masks: expected another folder than that of the photographs, received {masks!r}")
        if not os.path.isdir(masks):
            raise UserError(f"--masks: expected a folder, received {masks!r}; masks have the names of the photographs")
        found = _with_masks(found, masks, rejected)
    if not found:
        why = rejections.most_common(rejected)
        what = "photographs that have masks" if masks else "photographs"
        raise UserError(f"--images: expected {what} in {root!r}, found none" + (f"; {why}" if why else ""))
    return found, rejected


def _with_masks(found: list[ImagePath], masks: str, rejected: list[tuple[str, str]]) -> list[ImagePath]:
    index, masked = mask_names.MaskIndex(folders.walk(masks, "", rejected)), []
    for one in found:
        try:
            masked.append(ImagePath(one.root, one.path, masks, index.find(one.path)))
        except LookupError as error:
            rejected.append((one.path, f"{error.args[0]} in --masks"))
    return masked


def iter_tiles(
    files: Iterable[ImagePath],
    channels: int,
    patch_px: int,
    min_crack_fraction: float,
    max_megapixels: float,
    rejected: list[tuple[str, str]],
) -> Iterator[LabelledTile]:
    """Each photograph whole, or with `patch_px` in windows of that side; where a mask cannot tell whether a window is
    clean, the window is left out. What cannot be read goes to `rejected`."""
    for file in files:
        try:
            yield from _pieces(file, channels, patch_px, min_crack_fraction, max_megapixels)
        except errors.ImageError as error:
            rejected.append((file.path, str(error)))


def _pieces(
    file: ImagePath, channels: int, patch_px: int, min_crack_fraction: float, max_megapixels: float
) -> Iterator[LabelledTile]:
    photo = image_file.open_photo(os.path.join(file.root, file.path), max_megapixels)
    values = image_file.pixels(photo, channels, image_px=0)
    mask = mask_tiles.read_mask(file.masks, file.mask, photo, max_megapixels) if file.mask else None
    crack = None if mask is None else mask > mask_tiles.CRACK_ABOVE
    if not patch_px:
        label = UNCLEAR if crack is None else int(crack.mean() >= min_crack_fraction)
        if crack is None or label == int(crack.any()):
            yield LabelledTile(file.path, values, crack, label)
        return
    if mask is None:
        chosen = mask_tiles.tile_grid(*values.shape[:2], patch_px)
    else:
        chosen = mask_tiles.label_tiles(mask, patch_px, min_crack_fraction)[0]
    for one in chosen:
        inside = slice(one.y, one.y + one.px), slice(one.x, one.x + one.px)
        yield LabelledTile(one.name(file.path), values[inside], None if crack is None else crack[inside], one.label)
