"""A TIFF whose other pages are smaller copies or masks of its first page is read from the first."""

import io

import numpy as np
import pytest
import tifffile

from crackflow.core import errors
from crackflow.data import image_file
from crackflow.inference import photo_files
from tests.helpers import support

NAME = "16-tiff-with-overviews-refused"


def test_the_first_page_of_a_cloud_optimised_tiff_is_the_photograph(report):
    photo = photo_files.read(str(report(NAME) / "cog.tif"), 3, 100)
    assert photo.pixels.shape == (200, 240, 3) and abs(photo.pixels.mean() - 168.3) < 1
    assert photo.notes == ("read from its first page, of which the others are smaller copies or masks",)


def pages(*others, first=0, values=None, **options):
    """A TIFF of a picture of 64 px and, for each (step, NewSubfileType) of `others`, every step-th of its pixels."""
    values, buffer = support.picture(3) if values is None else values, io.BytesIO()
    with tifffile.TiffWriter(buffer, **options) as file:
        kinds = {"photometric": "rgb" if values.ndim == 3 else "minisblack", "metadata": None}
        file.write(values, subfiletype=first, **kinds)
        for step, kind in others:
            page = np.ascontiguousarray(values[::step, ::step])
            if kind & 4:  # of 1 bit
                file.write(page[..., 0] > 100, subfiletype=kind, photometric="mask", metadata=None)
            else:
                file.write(page, subfiletype=kind, **kinds)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        pages((2, 1), (4, 1)),
        pages((1, 4), (2, 5)),
        pages((2, 1), bigtiff=True),
        pages((2, 1), byteorder=">"),
        pages((2, 1), values=support.picture(3)[..., 0].astype(np.float64) / 255),
    ],
    ids=["copies", "masks", "BigTIFF", "big-endian", "double floats"],
)
def test_copies_and_masks_are_passed_over(data):
    photo = image_file.parse_photo(data, "a.tif", 100)
    expected = support.picture(3)
    decoded = image_file.pixels(photo, 3, 0).astype(int)
    assert (
        np.abs(decoded - (expected if decoded[..., 0].sum() != decoded[..., 1].sum() else expected[..., :1])).max() <= 1
    )


@pytest.mark.parametrize(
    "data",
    [pages((1, 0)), pages((2, 1), (1, 2)), pages((1, 1))],
    ids=["a second page", "a page of a document", "a copy that is no smaller"],
)
def test_other_pictures_are_still_refused(data):
    with pytest.raises(errors.ImageError, match="animated or multi-page, [23] frames: expected one picture"):
        image_file.parse_photo(data, "a.tif", 100)


def test_a_small_preview_before_the_picture_is_still_a_cameras_raw():
    with pytest.raises(errors.ImageError, match="^camera RAW"):
        image_file.parse_photo(pages((1, 0), first=1), "a.nef", 100)
