import io

import numpy as np
import pytest
from PIL import Image

from crackflow.core import errors
from crackflow.data import file_damage, image_file
from tests.helpers import support

PNG = support.encoded(support.picture(1, 200, 150), "PNG")
WEBP = support.encoded(support.picture(1, 200, 150), "WEBP")


def test_whole_files_are_not_complained_of():
    assert file_damage.describe(PNG, "PNG") == file_damage.describe(WEBP, "WEBP") == ""
    assert file_damage.describe(PNG + bytes(999), "PNG") == file_damage.describe(WEBP + bytes(999), "WEBP") == ""


def test_a_changed_byte_of_a_png_is_detected_by_its_checksum():
    at = PNG.index(b"IDAT") + 30
    reason = file_damage.describe(PNG[:at] + bytes([PNG[at] ^ 1]) + PNG[at + 1 :], "PNG")
    assert reason.startswith("damaged: the checksum of its PNG chunk IDAT at byte ")


def test_a_png_says_how_many_bytes_are_missing():
    missing = len(PNG) - 12 - 2000
    assert (
        file_damage.describe(PNG[:2000], "PNG")
        == f"damaged: truncated: {missing:,} bytes of its last PNG chunk are missing"
    )


def test_blank_webp_data_are_counted():
    blank = WEBP[:-700] + bytes(700)
    assert file_damage.describe(blank, "WEBP").startswith("damaged: truncated: the last 70")
    assert file_damage.describe(WEBP[:-700], "WEBP").startswith("damaged: truncated: 700 of ")
    with pytest.raises(errors.ImageError, match="^damaged: truncated: 700 of [0-9,]+ bytes of its WebP are missing$"):
        image_file.parse_photo(WEBP[:-700], "a.webp", 1)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_headers_cut_short_are_left_to_the_decoder(form):
    for size in range(60):
        assert isinstance(file_damage.describe({"PNG": PNG, "WEBP": WEBP}[form][:size], form), str)


def lit(height=50, width=40):
    return np.full((height, width, 3), 90, np.uint8)


def test_zeros_from_the_middle_of_a_row_on_were_never_written():
    values = lit()
    values.reshape(-1, 3)[1213:] = 0
    assert file_damage.describe_blank_rows(values) == "damaged: truncated: the lower 39 % of its pixels are blank"
    upside_down = values[::-1].copy()
    assert file_damage.describe_blank_rows(upside_down) == "damaged: truncated: the upper 39 % of its pixels are blank"


def test_black_borders_are_part_of_the_image():
    below, aside, slanted = lit(), lit(), lit()
    below[30:] = 0
    aside[:, 20:] = 0
    slanted[np.add.outer(np.arange(50), np.arange(40)) > 60] = 0
    for values in (below, aside, slanted, lit(), np.zeros_like(lit())):
        assert file_damage.describe_blank_rows(values) == ""


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "jpeg"])
def test_parts_of_a_tiff_that_end_in_zeros_or_after_the_file_are_named(compression):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(40, 200, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "TIFF", compression=compression)
    data = buffer.getvalue()
    tags = Image.open(io.BytesIO(data)).tag_v2
    assert file_damage.describe_tiff(data, tags) == ""
    end = tags[273][-1] + tags[279][-1]
    blank = data[: end - 100] + bytes(100) + data[end:]
    with pytest.raises(errors.ImageError, match="^damaged: truncated: part 2 of 2 of its picture ends in blank data$"):
        image_file.pixels(image_file.parse_photo(blank, "a.tif", 1), 3, 0)
    cut = data[: end - 100]
    assert file_damage.describe_tiff(cut, tags).endswith(
        "part 2 of 2 of its picture ends 100 bytes after the file does"
    )
