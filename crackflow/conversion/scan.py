"""The first pass over the files: read and decode each file once, and collect what conversion needs.

Synopsis::

    scan_result = scan.scan_images(files, signatures, options, on_bad, pool, ahead, advance)
    scan_result.accepted     # rows of `files` that can be used
    scan_result.rejected     # (path, reason) of the others
"""

import collections
import concurrent.futures
import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from crackflow.conversion import source_files
from crackflow.conversion.near_duplicates import ImageSignatures
from crackflow.conversion.source_files import UNLABELLED, SourceFile
from crackflow.core import errors, process_pool
from crackflow.core.config.data import OnBad
from crackflow.core.errors import UserError
from crackflow.data import image_file, mask_grid, mask_tiles, thumbnail

FILES_PER_TASK = 64


@dataclasses.dataclass(frozen=True)
class ScanOptions:
    """What a worker needs to scan a file.

    Attributes:
        root: The source folder.
        max_megapixels: A larger image is rejected.
        patch_px: Side of a tile in the masks layout, in pixels.
        min_crack_fraction: Fraction of crack pixels from which a tile counts as cracked.
    """

    root: str
    max_megapixels: float
    patch_px: int
    min_crack_fraction: float


class ImageInfo(NamedTuple):
    """The result of scanning one file.

    It is a tuple, and digests and thumbnails are separate arrays, because a worker's result is pickled: unpickling
    dataclasses with an array each took the parent 72 us per image, a third of the worker's time to scan it.

    Attributes:
        width: In pixels, upright.
        height: In pixels, upright.
        grey: Whether the image has no colour.
        can_store_as_is: Whether the bytes of the file may be stored as they are.
        stored_bytes: Size of the file.
        notes: Remarks on the file.
        windows: Labelled tiles, in the masks layout.
        unclear: Tiles that are left out.
        mask_bits: Mask grid of the crack in a labelled image with a mask, as `data.mask_grid` defines it.
    """

    width: int
    height: int
    grey: bool
    can_store_as_is: bool
    stored_bytes: int
    notes: tuple[str, ...]
    windows: tuple[mask_tiles.Tile, ...]
    unclear: tuple[mask_tiles.Tile, ...]
    mask_bits: int


@dataclasses.dataclass
class ScanResult:
    """The result of scanning all files.

    `plain`, `windows` and `cells` have one entry per accepted file; the other attributes are totals.
    """

    accepted: list[int] = dataclasses.field(default_factory=list)
    rejected: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    sizes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    colour: int = 0
    can_store_as_is: list[bool] = dataclasses.field(default_factory=list)
    windows: list[tuple[mask_tiles.Tile, ...]] = dataclasses.field(default_factory=list)
    mask_bits: list[int] = dataclasses.field(default_factory=list)
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
    """Scans all files in worker processes.

    Args:
        files: The files to scan.
        signatures: Filled in place; row k belongs to the k-th accepted file.
        options: How to scan a file.
        on_bad: Whether a file that cannot be used is listed or an error.
        pool: The worker processes.
        ahead: Number of tasks submitted ahead of their results.
        advance: Called with the number of files that were scanned since the last call.

    Raises:
        UserError: A file cannot be used and `on_bad` is `OnBad.FAIL`.
    """
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
    """Returns the error that ends a conversion with `OnBad.FAIL` at a bad file."""
    return UserError(f"{path!r}: {reason}; mend or remove it, or let --on_bad=skip list it and continue")


def _reject(scan_result: ScanResult, path: str, reason: str, on_bad: OnBad) -> None:
    if on_bad is OnBad.FAIL:
        raise refusal(path, reason)
    scan_result.rejected.append((path, reason))


def _accept(scan_result: ScanResult, file: SourceFile, row: int, info: ImageInfo) -> None:
    scan_result.accepted.append(row)
    scan_result.sizes[(info.width, info.height)] += 1
    scan_result.colour += not info.grey
    scan_result.can_store_as_is.append(info.can_store_as_is)
    scan_result.windows.append(info.windows)
    scan_result.mask_bits.append(info.mask_bits)
    scan_result.stored_bytes += info.stored_bytes
    scan_result.notes.update(info.notes)
    scan_result.rejected += [(window.name(file.path), mask_tiles.UNCLEAR) for window in info.unclear]


def _scan_chunk(task: tuple[ScanOptions, Sequence[SourceFile]]) -> tuple[list[ImageInfo | str], ImageSignatures]:
    """In a worker: an ImageInfo per file, or the reason why it cannot be used; and the signatures of the others."""
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
    """(info, digest, thumbnail) of one file. Raises errors.ImageError if it cannot be used."""
    data = source_files.read_bytes(options.root, file.path)
    photo = image_file.parse_photo(data, file.path, options.max_megapixels)
    thumb = thumbnail.thumbnail(photo)
    plain = photo.can_store_as_is and thumb.strict
    notes = tuple(note for note in photo.notes if not note.startswith("named .json "))  # labelme's file around it
    if photo.can_store_as_is > plain:
        notes += ("stored anew, its JPEG data being damaged where it does not show",)
    windows, unclear, cells = (), (), 0
    if file.drawing:
        file.drawing.require_fit(photo.width, photo.height)
    mask = _read_mask(options, file, photo)
    if mask is not None:
        if file.label == UNLABELLED:
            windows, unclear = mask_tiles.label_tiles(mask, options.patch_px, options.min_crack_fraction)
        else:
            cells = _crack_cells(file, mask > mask_tiles.CRACK_ABOVE)
    size = len(photo.data)
    info = ImageInfo(photo.width, photo.height, photo.grey, plain, size, notes, windows, unclear, cells)
    return info, image_file.digest(photo.data), thumb.grey


def _read_mask(options: ScanOptions, file: SourceFile, photo: image_file.EncodedImage) -> np.ndarray | None:
    """The mask of an image, uint8 [H, W], from its file or its drawing. Raises errors.ImageError."""
    if file.mask:
        return mask_tiles.read_mask(options.root, file.mask, photo, options.max_megapixels)
    if file.drawing and file.label == UNLABELLED:
        return file.drawing.mask(photo.width, photo.height)
    return None


def _crack_cells(file: SourceFile, crack: np.ndarray) -> int:
    """Mask grid of an image in a class folder. Raises errors.ImageError if mask and folder disagree."""
    if file.label == 1 and not crack.any():
        raise errors.ImageError(
            f"its mask {file.mask!r} has no crack, and its folder says that it is cracked: one is wrong"
        )
    return mask_grid.from_mask(crack)
