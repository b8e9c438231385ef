"""The first pass over the files: each is read and decoded once, and what matters of it is kept.

Synopsis::

    seen = scan.scan_images(files, looks, settings, on_bad, pool, ahead, advance)
    seen.accepted     # rows of `files` that can be used
    seen.rejected     # (path, reason) of the others
"""

import collections
import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from crackflow.conversion.layouts import UNLABELLED, SourceFile
from crackflow.conversion.near_duplicates import ImageSignatures
from crackflow.core import errors, process_pool
from crackflow.core.config.data import OnBad
from crackflow.core.errors import UserError
from crackflow.data import image_file, mask_grid, mask_tiles, thumbnail

FILES_PER_TASK = 64


@dataclasses.dataclass(frozen=True)
class ScanOptions:
    """What a worker must know to judge a file."""

    root: str
    max_megapixels: float
    patch_px: int
    min_crack_fraction: float


class ImageInfo(NamedTuple):
    """What one file showed. `windows`: labelled windows, in the masks layout; `unclear`: windows left out;
    `cells`: where the crack lies in a labelled picture with a mask.

    A tuple, and digests and thumbnails beside it in arrays: what comes back from a worker is pickled, and unpacking
    dataclasses with an array each took the parent 72 us an image, a third of what looking at it took the worker.
    """

    width: int
    height: int
    grey: bool
    plain: bool
    stored_bytes: int
    notes: tuple[str, ...]
    windows: tuple[mask_tiles.Tile, ...]
    unclear: tuple[mask_tiles.Tile, ...]
    cells: int


@dataclasses.dataclass
class ScanResult:
    """The whole first pass. Per accepted file: `plain`, `windows`, `cells`; in total: the rest."""

    accepted: list[int] = dataclasses.field(default_factory=list)
    rejected: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    sizes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    colour: int = 0
    plain: list[bool] = dataclasses.field(default_factory=list)
    windows: list[tuple[mask_tiles.Tile, ...]] = dataclasses.field(default_factory=list)
    cells: list[int] = dataclasses.field(default_factory=list)
    stored_bytes: int = 0
    notes: collections.Counter = dataclasses.field(default_factory=collections.Counter)


def scan_images(
    files: Sequence[SourceFile],
    signatures: ImageSignatures,
    options: ScanOptions,
    on_bad: OnBad,
    pool: concurrent.futures.Executor,
    ahead: int,
    advance: Callable[[int], None],
) -> ScanResult:
    """Fill `looks` (row k: the k-th accepted file). Raises: UserError at the first bad file when `on_bad` is fail."""
    scan_result = ScanResult()
    starts = range(0, len(files), FILES_PER_TASK)
    tasks = ((options, files[start : start + FILES_PER_TASK]) for start in starts)
    for start, (results, chunk_signatures) in zip(
        starts, process_pool.map_ordered(pool, _scan_chunk, tasks, ahead), strict=True
    ):
        signatures.put(len(scan_result.accepted), chunk_signatures)
        for row, result in enumerate(results, start):
            if isinstance(result, str):
                _reject(scan_result, files[row].path, result, on_bad)
            else:
                _accept(scan_result, files[row], row, result)
        advance(len(results))
    return scan_result


def refusal(path: str, reason: str) -> UserError:
    """What ends a conversion that is to fail at a bad file."""
    return UserError(f"{path!r}: {reason}; mend or remove it, or let --on_bad=skip list it and go on")


def _reject(scan_result: ScanResult, path: str, reason: str, on_bad: OnBad) -> None:
    if on_bad is OnBad.FAIL:
        raise refusal(path, reason)
    scan_result.rejected.append((path, reason))


def _accept(scan_result: ScanResult, file: SourceFile, row: int, info: ImageInfo) -> None:
    scan_result.accepted.append(row)
    scan_result.sizes[(info.width, info.height)] += 1
    scan_result.colour += not info.grey
    scan_result.plain.append(info.plain)
    scan_result.windows.append(info.windows)
    scan_result.cells.append(info.cells)
    scan_result.stored_bytes += info.stored_bytes
    scan_result.notes.update(info.notes)
    scan_result.rejected += [(window.name(file.path), mask_tiles.UNCLEAR) for window in info.unclear]


def _scan_chunk(task: tuple[ScanOptions, Sequence[SourceFile]]) -> tuple[list[ImageInfo | str], ImageSignatures]:
    """In a worker: for each file a Look, or the reason why it can't be used; and the looks of those that can."""
    options, files = task
    results, digests, thumbnails = [], [], []
    for file in files:
        try:
            info, digest, thumbnail = _scan_image(options, file)
        except errors.ImageError as error:
            results.append(str(error))
        else:
            results.append(info)
            digests.append(digest)
            thumbnails.append(thumbnail)
    return results, ImageSignatures.of(digests, thumbnails)


def _scan_image(options: ScanOptions, file: SourceFile) -> tuple[ImageInfo, bytes, np.ndarray]:
    """(Look, digest, thumbnail). Raises: errors.ImageError."""
    photo = image_file.open_photo(os.path.join(options.root, file.path), options.max_megapixels)
    thumb = thumbnail.thumbnail(photo)
    plain, notes = photo.plain and thumb.strict, photo.notes
    if photo.plain > plain:
        notes += ("stored anew, its JPEG data being damaged where it does not show",)
    windows, unclear, cells = (), (), 0
    if file.mask:
        mask = mask_tiles.read_mask(options.root, file.mask, photo, options.max_megapixels)
        if file.label == UNLABELLED:
            windows, unclear = mask_tiles.label_tiles(mask, options.patch_px, options.min_crack_fraction)
        else:
            cells = _crack_cells(file, mask > mask_tiles.CRACK_ABOVE)
    size = len(photo.data)
    info = ImageInfo(photo.width, photo.height, photo.grey, plain, size, notes, windows, unclear, cells)
    return info, image_file.digest(photo.data), thumb.grey


def _crack_cells(file: SourceFile, crack: np.ndarray) -> int:
    """Where the crack lies in a picture of a class folder. Raises: errors.ImageError when mask and folder
    disagree."""
    if file.label == 1 and not crack.any():
        raise errors.ImageError(
            f"its mask {file.mask!r} has no crack, and its folder says that it is cracked: one is wrong"
        )
    return mask_grid.from_mask(crack)
