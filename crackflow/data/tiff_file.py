"""TIFF files that need more than Pillow: those with smaller copies of the image, and kinds that Pillow does not open.

Synopsis::

    tiff_file.is_one_picture(data)            # the other pages are smaller copies of the first, or masks of it
    header = tiff_file.read_header(data)      # raises TiffError with the reason
    samples = tiff_file.read_samples(data)    # bit_depth.Samples

Orthophotos are cloud-optimised GeoTIFF: page 1 is the photograph, and the following pages are ever smaller copies of it
(TIFF 6.0, NewSubfileType).
"""

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import tifffile
from PIL import ImageFile

from crackflow.data import bit_depth

NEW_SUBFILE_TAG, OLD_SUBFILE_TAG, ORIENTATION_TAG, EXTRA_SAMPLES_TAG, DNG_TAG = 254, 255, 274, 338, 50706
REDUCED, MASK = 1, 4  # bits of NewSubfileType
OLD_REDUCED = 2  # SubfileType
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
RAW = "camera RAW, of which only the preview can be read: save it as JPEG or TIFF"
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it logs many lines about a damaged file
logging.getLogger("tifffile").propagate = False


class TiffError(ValueError):
    """This TIFF cannot be read; the message is the reason."""


class TiffHeader(NamedTuple):
    """The header of a TIFF. `width`, `height`: in pixels, as stored; `orientation`: EXIF orientation."""

    width: int
    height: int
    orientation: int


def is_one_picture(data: bytes) -> bool:
    """Whether all pages of `data` after the first are smaller copies of it, or masks."""
    try:
        with _open_tiff(data) as (file, first, _):
            return all(_belongs_to(first, file.pages[number]) for number in range(1, len(file.pages)))
    except TiffError:
        return False


def _belongs_to(first: tifffile.TiffPage, page: tifffile.TiffPage | tifffile.TiffFrame) -> bool:
    """Whether `page` is a smaller copy of `first`, or a mask no larger than it."""
    if isinstance(page, tifffile.TiffFrame):  # one of a stack, as large as the first
        return False
    kind, old = page.subfiletype, page.tags.get(OLD_SUBFILE_TAG)
    reduced = kind & REDUCED or (old is not None and old.value == OLD_REDUCED)
    (width, height), (own_width, own_height) = [
        (tiff_page.imagewidth, tiff_page.imagelength) for tiff_page in (first, page)
    ]
    if own_width > width or own_height > height:
        return False
    return bool(kind & MASK or (reduced and (own_width, own_height) != (width, height)))


def is_tiff(data: bytes) -> bool:
    """Whether `data` begins as a TIFF does."""
    return data[:4] in MAGIC


def is_raw(tags: Mapping[int, Any]) -> bool:
    """Whether the first page, which has `tags` (number -> value), is the small preview in a camera's RAW file."""
    return bool(tags.get(NEW_SUBFILE_TAG, 0) & REDUCED) or DNG_TAG in tags


def is_beyond_pillow(image: ImageFile.ImageFile) -> bool:
    """Whether Pillow opens `image` but would not read all its bits: 16 per colour, each colour in its own plane."""
    tags = bit_depth.tags_of(image)
    return tags.get(bit_depth.PLANAR_TAG) == 2 and np.max(tags.get(bit_depth.BITS_TAG, 1)) > 8


def read_header(data: bytes) -> TiffHeader:
    """Reads the header of the first page of `data`. Raises: TiffError with the reason when it can't be read."""
    with _open_tiff(data) as (file, page, tags):
        _require_readable(file, page, tags)
        return TiffHeader(page.imagewidth, page.imagelength, int(tags.get(ORIENTATION_TAG, 1)))


def read_samples(data: bytes) -> bit_depth.Samples:
    """Reads the first page of `data` as it is stored, in any NumPy dtype. Raises: TiffError with the reason."""
    with _open_tiff(data) as (_, page, tags):
        values = page.asarray()
        if page.planarconfig == 2 and page.samplesperpixel > 1:
            values = np.moveaxis(values, 0, -1)
        return _to_samples(values.reshape(page.imagelength, page.imagewidth, -1), tags)


@contextlib.contextmanager
def _open_tiff(data: bytes) -> Iterator[tuple[tifffile.TiffFile, tifffile.TiffPage, dict]]:
    """Gives (file, first page, its tags); any exception that a damaged file causes becomes a TiffError."""
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = cast(tifffile.TiffPage, file.pages[0])  # frames come after a page
            yield file, page, {tag.code: tag.value for tag in page.tags}
    except TiffError:
        raise
    except Exception as error:
        if "imagecodecs" in str(error):
            raise TiffError(f"a TIFF of an uncommon kind ({error}): save it with 8 bits, or uncompressed") from error
        raise TiffError(f"damaged: {error}") from error


def _require_readable(file: tifffile.TiffFile, page: tifffile.TiffPage, tags: dict) -> None:
    if is_raw(tags):
        raise TiffError(RAW)
    if not all(_belongs_to(page, file.pages[number]) for number in range(1, len(file.pages))):
        count = len(file.pages)
        raise TiffError(f"animated or multi-page, {count} frames: expected one picture; save the frame you need")
    photometric, samples = tags.get(bit_depth.PHOTOMETRIC_TAG), page.samplesperpixel
    if page.imagedepth > 1 or not (photometric == 2 and samples >= 3 or photometric in (0, 1) and samples <= 2):
        raise TiffError(f"a TIFF of {samples} x {page.bitspersample} bits: expected grey, or red, green and blue")


def _to_samples(values: np.ndarray, tags: dict) -> bit_depth.Samples:
    colours = 3 if tags.get(bit_depth.PHOTOMETRIC_TAG) == 2 else 1
    extra = np.atleast_1d(tags.get(EXTRA_SAMPLES_TAG, 0))[0]
    alpha = values[..., colours] if values.shape[-1] > colours and extra in (1, 2) else None
    largest = int(np.iinfo(values.dtype).max) if values.dtype.kind in "iu" else 1
    if largest > 65535 and values.max() <= 65535:
        largest = 65535
    inverted = tags.get(bit_depth.PHOTOMETRIC_TAG) == 0
    return bit_depth.Samples(values[..., :colours], alpha, bit_depth.white_named(tags), largest, inverted)
