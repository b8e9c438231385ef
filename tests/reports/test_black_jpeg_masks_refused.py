"""The black mask of a clean picture, saved as JPEG, is a clean mask whatever the quality makes of its black."""

import numpy as np
import pytest

from crackflow.core import errors
from crackflow.data import image_file, mask_tiles
from tests.helpers import support

NAME = "11-black-jpeg-masks-refused"
BLACK = np.zeros((64, 64, 3), np.uint8)


def test_clean_pictures_with_jpeg_masks_are_converted(report, tmp_path):
    facts = support.converted(report(NAME) / "m_jpg", tmp_path / "o", split=(1.0, 0.0, 0.0))
    unclear = [row["path"] for row in support.rows(tmp_path / "o", "rejected.csv")]
    assert all("#xywh=" in path for path in unclear), unclear
    clean = {row["path"][:10] for row in support.rows(tmp_path / "o", "groups.csv") if row["label"] == "0"}
    assert {"images/000", "images/004"} <= clean
    assert min(facts["splits"]["train"]["class_counts"].values()) > 0


def read(tmp_path, data):
    support.put(tmp_path / "mask", data)
    photo = image_file.parse_photo(support.encoded(support.picture(0), "PNG"), "photo.png", 1.0)
    return mask_tiles.read_mask(str(tmp_path), "mask", photo, 1.0)


def test_at_every_quality(tmp_path):
    for quality in range(1, 101):
        for mode in ("L", "RGB"):
            assert read(tmp_path, support.encoded(BLACK, mode=mode, quality=quality)).max() <= 16, quality


@pytest.mark.parametrize("value", [1, 7, 16])
@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP"])
def test_any_single_value_up_to_16_is_clean(tmp_path, form, value):
    options = {"lossless": True} if form == "WEBP" else {}
    assert read(tmp_path, support.encoded(BLACK + np.uint8(value), form, **options)).max() == value


@pytest.mark.parametrize("value", [17, 100])
def test_a_single_value_above_is_still_refused(tmp_path, value):
    with pytest.raises(errors.ImageError, match=f"has no value above {value}"):
        read(tmp_path, support.encoded(BLACK + np.uint8(value), "PNG"))
