import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from crackflow.core import errors
from crackflow.data import image_file, tiff_file
from tests.helpers import support

GREY = support.picture(2)[..., 0]


def tiff(values, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def test_kinds_that_pillow_does_not_open_are_read_with_their_header():
    data = tiff(GREY[:40] / 255, photometric="minisblack")
    assert tiff_file.read_header(data) == (64, 40, 1)
    np.testing.assert_array_equal(tiff_file.read_samples(data).colours[..., 0], GREY[:40] / 255)


def test_an_orientation_is_applied_to_them_too():
    data = tiff(GREY[:40] / 255, photometric="minisblack", extratags=[(274, 3, 1, 6, True)])
    photo = image_file.parse_photo(data, "a.tif", 1)
    assert (photo.width, photo.height) == (40, 64)
    away = image_file.pixels(photo, 1, 0)[..., 0].astype(int) - np.rot90(GREY[:40], -1)
    assert np.abs(away).max() <= 1


def test_too_large_is_said_before_a_pixel_is_decoded():
    data = tiff(GREY / 255)
    with pytest.raises(errors.ImageError, match=r"64 x 64 = 0 megapixels: expected at most 0.001 \(--max_megapixels\)"):
        image_file.parse_photo(data, "a.tif", 0.001)


@pytest.mark.parametrize("size", [10, 100, 300, 900])
def test_a_cut_file_is_damaged_and_nothing_is_printed(size, capsys):
    with pytest.raises(errors.ImageError, match="^damaged: "):
        image_file.parse_photo(tiff(GREY / 255)[:size], "a.tif", 1)
    assert capsys.readouterr() == ("", "")


def test_what_nobody_reads_is_named():
    with pytest.raises(errors.ImageError, match="a TIFF of 5 x 64 bits: expected grey, or red, green and blue"):
        image_file.parse_photo(tiff(np.zeros((32, 32, 5)), photometric="minisblack", planarconfig="contig"), "a.tif", 1)


def test_no_other_file_is_read_as_tiff():
    assert not tiff_file.is_tiff(support.encoded(support.picture(0)))
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "TIFF")
    assert tiff_file.is_tiff(buffer.getvalue()) and tiff_file.is_one_picture(buffer.getvalue())
