"""GeoTIFFs that are too large for memory: decoded block by block into a file, which is then used like an array.

Synopsis::

    if mosaic_file.is_mosaic(path, max_megapixels=200):
        with mosaic_file.unpack(path, channels=3, folder="scratch") as mosaic:
            mosaic.pixels, mosaic.surface         # uint8 [H, W, 3] and bool [H, W], or None, both in a file

Memory holds a block of the file at a time; the system keeps as much of the decoded file in its cache as it has room
for.
Covered: 8 bits a channel, grey or RGB with or without alpha, in tiles, in strips, or uncompressed. A compression other
than Deflate and LZMA needs imagecodecs (extra `geo`): LZW and JPEG do.
"""

import contextlib
import hashlib
import mmap
import os
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tifffile

from crackflow.core.errors import ImageError
from crackflow.data import geotiff, image_file, resize, surface, tiff_directory, tiff_file

MAX_MEGAPIXELS = 1000.0  # what is in memory at once grows with it: resized for a network by 0.56, 0.9 GB
MAX_BLOCK_BYTES = 1 << 28
READ_BYTES = 1 << 24  # of the file at once
BAND_ROWS = 512
YCBCR, JPEG = 6, 7  # PhotometricInterpretation, Compression: decoded to RGB
TILED = "write it in tiles, for example by gdal_translate -co TILED=YES -co COMPRESS=DEFLATE"


class Mosaic(NamedTuple):
    """A decoded GeoTIFF, in a file that goes when the block of `unpack` ends.

    Attributes:
        pixels: uint8 [H, W, C], filled in beside the surface.
        surface: bool [H, W]; None: everywhere.
        sha256: of the file, in hexadecimal.
    """

    pixels: np.ndarray
    surface: np.ndarray | None
    sha256: str


def is_mosaic(path: str, max_megapixels: float) -> bool:
    """Whether `path` is a GeoTIFF of more than `max_megapixels`."""
    if not os.path.isfile(path):  # opening a pipe would wait for its other end
        return False
    try:
        with open(path, "rb") as file:
            if not tiff_file.is_tiff(file.read(4)):
                return False
        _require_modest(path)
        page = geotiff.first_page(path)
    except (OSError, ImageError):
        return False
    is_large = page is not None and page.imagewidth * page.imagelength > max_megapixels * 1e6
    return is_large and geotiff.is_geotiff(path)


@contextlib.contextmanager
def unpack(path: str, channels: int, folder: str) -> Iterator[Mosaic]:
    """Decodes the GeoTIFF `path` into a file in `folder`.

    Args:
        path: of the GeoTIFF.
        channels: 1 (grey) or 3 (RGB).
        folder: has room for `channels` + 1 bytes per pixel.

    Raises:
        ImageError: the file cannot be used; the message is the reason.
        OSError: the disk is full.
    """
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as scratch:
        try:
            with tifffile.TiffFile(path) as file:
                page = file.pages[0]
                if not isinstance(page, tifffile.TiffPage):
                    raise ImageError("damaged: it has no first page")
                _require_readable(page)
                size = page.imagelength, page.imagewidth
                pixels = _allocate(os.path.join(scratch, "pixels"), (*size, channels), np.uint8)
                mask = _allocate(os.path.join(scratch, "surface"), size, np.bool_)
                _decode(page, path, pixels, mask, geotiff.read_nodata(path))
                _apply_mask_page(file, mask)
        except (ImageError, OSError):
            raise
        except Exception as error:  # a damaged file can raise nearly anything
            if "imagecodecs" in str(error):
                reason = f"its compression needs imagecodecs: pip install 'crackflow[geo]', or {TILED}"
                raise ImageError(reason) from error
            raise ImageError(f"damaged: {error}") from error
        reliable = surface.reliable(mask)
        if reliable is not None:
            surface.fill(pixels, reliable)
        for array in (pixels, mask):
            _release(array)
        yield Mosaic(pixels, reliable, _sha256(path))


def _require_modest(path: str) -> None:
    """Raises: ImageError for a file whose tags or pages ask for too much."""
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            tiff_directory.require_modest(data)
        except tiff_directory.TiffLimitError as error:
            raise ImageError(str(error)) from error
        finally:
            with contextlib.suppress(BufferError):  # an array of the traceback still points into it
                data.close()


def _require_readable(page: tifffile.TiffPage) -> None:
    """Raises: ImageError with the reason for a file that can't be read in blocks."""
    width, height = page.imagewidth, page.imagelength
    if width * height > MAX_MEGAPIXELS * 1e6 or max(width, height) > image_file.MAX_SIDE_PX:
        raise ImageError(
            f"{width} x {height} pixels: expected at most {MAX_MEGAPIXELS:,.0f} megapixels and "
            f"{image_file.MAX_SIDE_PX:,} pixels a side of a GeoTIFF; cut it up"
        )
    photometric, samples = int(page.photometric), page.samplesperpixel
    is_grey, is_rgb = photometric == 1 and samples <= 2, photometric == 2 and samples >= 3
    is_rgb = is_rgb or (photometric == YCBCR and int(page.compression) == JPEG and samples == 3)
    if page.dtype != np.uint8 or page.imagedepth > 1 or not (is_grey or is_rgb):
        raise ImageError(
            f"a GeoTIFF of {samples} x {page.bitspersample} bits that is too large for memory: expected 8 bits, grey "
            "or red, green and blue"
        )
    if page.planarconfig == 2 and samples > 1:
        raise ImageError("a GeoTIFF with a plane for each colour that is too large for memory: interleave the pixels")
    block = int(np.prod(page.chunks))
    if block > MAX_BLOCK_BYTES and not page.is_memmappable:
        raise ImageError(f"stored in blocks of {block >> 20:,} MiB, which are too large for memory: {TILED}")


def _allocate(path: str, shape: tuple[int, ...], kind: type) -> np.memmap:
    """An array of zeros in a new file. It is written before it is mapped: a mapped file on a full disk would end the
    process. Raises: OSError."""
    left, zeros = int(np.prod(shape)), bytes(READ_BYTES)
    with open(path, "wb", buffering=0) as file:
        while left:
            left -= file.write(zeros[:left])
    return np.memmap(path, kind, "r+", shape=shape)


def _release(array: np.memmap) -> None:
    """Lets the system take back the memory through which `array` was written. It stays in the file."""
    buffer: Any = array.base  # the map
    if hasattr(mmap, "MADV_DONTNEED") and isinstance(buffer, mmap.mmap):
        buffer.flush()
        buffer.madvise(mmap.MADV_DONTNEED)


def _decode(page: tifffile.TiffPage, path: str, pixels: np.ndarray, mask: np.ndarray, nodata: float | None) -> None:
    """Writes the blocks of `page` to `pixels`, and to `mask` where they show anything."""
    samples = page.samplesperpixel
    colours = 3 if samples >= 3 else 1
    extra = page.tags.get(tiff_file.EXTRA_SAMPLES_TAG)
    has_alpha = samples > colours and extra is not None and np.atleast_1d(extra.value)[0] in (1, 2)
    for top, left, block in _blocks(page, path):
        rows, columns = slice(top, top + block.shape[0]), slice(left, left + block.shape[1])
        values = block[..., :colours]
        shows = np.ones(block.shape[:2], bool) if nodata is None else ~(values == nodata).all(-1)
        mask[rows, columns] = shows & (block[..., colours] == surface.OPAQUE) if has_alpha else shows
        pixels[rows, columns] = _to_channels(np.ascontiguousarray(values), pixels.shape[2])


def _blocks(page: tifffile.TiffPage, path: str) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yields (top, left, uint8 [h, w, samples]); blocks that a sparse file leaves out are left out."""
    height, width = page.imagelength, page.imagewidth
    if page.is_memmappable:
        shape = height, width, page.samplesperpixel
        stored = np.memmap(path, np.uint8, "r", page.dataoffsets[0], shape)
        for top in range(0, height, BAND_ROWS):
            yield top, 0, np.asarray(stored[top : top + BAND_ROWS])
        return
    for values, (_, _, top, left, _), _ in page.segments(maxworkers=1, buffersize=READ_BYTES):
        if values is not None:
            yield top, left, values[0, : height - top, : width - left]


def _to_channels(values: np.ndarray, channels: int) -> np.ndarray:
    if values.shape[2] == channels:
        return values
    return np.repeat(values, channels, 2) if values.shape[2] == 1 else resize.grey(values)


def _apply_mask_page(file: tifffile.TiffFile, mask: np.ndarray) -> None:
    """Takes from `mask` what the mask page of the file, as GDAL writes it, leaves out."""
    for number in range(1, len(file.pages)):
        page = file.pages[number]
        if isinstance(page, tifffile.TiffPage) and page.subfiletype & tiff_file.MASK and page.shape[:2] == mask.shape:
            for values, (_, _, top, left, _), _ in page.segments(maxworkers=1, buffersize=READ_BYTES):
                if values is not None:
                    height, width = mask.shape
                    shows = values[0, : height - top, : width - left, 0] > 0
                    mask[top : top + shows.shape[0], left : left + shows.shape[1]] &= shows
            return


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while data := file.read(READ_BYTES):
            digest.update(data)
    return digest.hexdigest()
