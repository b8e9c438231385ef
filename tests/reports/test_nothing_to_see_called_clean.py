"""Pictures too small to show a crack are refused, or for human review; never called clean."""

import numpy as np
import pytest

from crackflow.core import errors
from crackflow.data import image_file
from crackflow.inference import predictor
from tests.helpers import support

NAME = "19-nothing-to-see-called-clean"


def test_predict_says_why_nothing_can_be_used(report, tmp_path):
    folder = report(NAME)
    (folder / "README.txt").unlink()
    done = support.called("predict", f"--photos={folder}", f"--out={tmp_path / 'o'}", "--scale=1")
    support.expect_one_line(done, 2, "one.png: 1 x 1 pixels: expected at least 16 on each side")


def test_convert_lists_them(report, tmp_path):
    support.photos(tmp_path / "p", 12)
    folder = report(NAME)
    for name in ("one.png", "strip7.png"):
        support.put(tmp_path / "p/Negative" / name, (folder / name).read_bytes())
    support.converted(tmp_path / "p", tmp_path / "o", split=(1.0, 0.0, 0.0))
    assert {row["path"]: row["reason"] for row in support.rows(tmp_path / "o", "rejected.csv")} == {
        "Negative/one.png": "1 x 1 pixels: expected at least 16 on each side",
        "Negative/strip7.png": "640 x 7 pixels: expected at least 16 on each side",
    }


@pytest.mark.parametrize("width, height", [(15, 400), (400, 15), (2, 2)])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_other_shapes_and_formats_too(width, height, form):
    with pytest.raises(errors.ImageError, match=f"^{width} x {height} pixels: expected at least 16 on each side$"):
        image_file.parse_photo(support.encoded(support.picture(1, width, height), form), "a", 100)


def test_sixteen_pixels_are_enough_to_be_read():
    photo = image_file.parse_photo(support.encoded(support.picture(1, 16, 300), "PNG"), "a.png", 100)
    assert image_file.pixels(photo, 3, 0).shape == (300, 16, 3)


def test_less_than_a_window_is_told_and_less_than_half_of_one_is_left_to_a_person():
    wall = np.random.default_rng(0).normal(170, 2, (300, 300, 3)).astype(np.uint8)
    model = predictor.load()
    strip, small, whole = model.predict([wall[:40], wall[:100, :100], wall], scale=1)
    assert (strip.decision, small.decision, whole.decision) == ("review", "clean", "clean")
    assert "300 x 40 pixels, to the network 300 x 40: its window of 128 is filled up" in strip.warnings[0]
    assert "100 x 100 pixels, to the network 100 x 100" in small.warnings[0]
    assert not [warning for warning in whole.warnings if "window" in warning]
