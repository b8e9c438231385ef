"""Alpha that is 0 everywhere says nothing: the colours are taken."""

import io

import numpy as np
import pytest
from PIL import Image

from crackflow.core import errors
from crackflow.data import image_file, thumbnail
from tests.helpers import support

NAME = "06-alpha-zero-photo-turned-white"


def test_predict_finds_the_crack_in_the_picture_that_says_it_is_transparent(report, tmp_path):
    done = support.called("predict", f"--photos={report(NAME)}", f"--out={tmp_path / 'o'}", "--scale=1")
    assert done.returncode == 0, done.stderr
    rows = {row["path"]: row for row in support.rows(tmp_path / "o", "predictions.csv")}
    assert rows["alpha0.png"]["decision"] == "cracked"
    assert rows["alpha0.png"]["probability"] == rows["plain.png"]["probability"]
    assert set(rows) == {"alpha0.png", "plain.png", "v4alpha0.bmp"}


def test_the_pixels_are_those_below_the_transparency(report):
    folder = report(NAME)
    plain, clear = (image_file.open_photo(str(folder / name), 100) for name in ("plain.png", "alpha0.png"))
    np.testing.assert_array_equal(image_file.pixels(clear, 3, 0), image_file.pixels(plain, 3, 0))
    assert clear.notes == ("its colours were taken, although it says that all of it is transparent",)
    bitmap = image_file.open_photo(str(folder / "v4alpha0.bmp"), 100)
    assert 100 < image_file.pixels(bitmap, 3, 0).mean() < 200


def test_different_pictures_are_no_copies_of_each_other(tmp_path):
    for number in range(12):
        support.put(tmp_path / f"p/{support.CLASSES[number % 2]}/{number}.png", clear(support.picture(number)))
    facts = support.converted(tmp_path / "p", tmp_path / "o", split=(0.5, 0.25, 0.25))
    assert facts["leaks"]["images"] == 12 and facts["rejected"] == 0


def clear(colours, form="PNG", **options):
    buffer = io.BytesIO()
    alpha = np.zeros((*colours.shape[:2], 1), np.uint8)
    Image.fromarray(np.concatenate([colours, alpha], -1)).save(buffer, form, **options)
    return buffer.getvalue()


def clear_palette(colours):
    buffer = io.BytesIO()
    Image.fromarray(colours).quantize(64).save(buffer, "PNG", transparency=bytes(64))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        clear(support.picture(5), "WEBP", lossless=True, exact=True),
        clear(support.picture(5), "TIFF"),
        clear(support.picture(5), "TIFF", compression="tiff_lzw"),
        clear_palette(support.picture(5)),
    ],
    ids=["webp", "tiff", "lzw", "palette"],
)
def test_other_formats_too(data):
    away = image_file.pixels(image_file.parse_photo(data, "x", 100), 3, 0).astype(int) - support.picture(5)
    assert np.abs(away).mean() < 20  # of 64 colours; white would be off by 130


def test_partly_transparent_stays_laid_over_white():
    values = np.concatenate([support.picture(5), np.zeros((64, 64, 1), np.uint8)], -1)
    values[:32, :, 3] = 255
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    decoded = image_file.pixels(image_file.parse_photo(buffer.getvalue(), "x.png", 100), 3, 0)
    np.testing.assert_array_equal(decoded[:32], values[:32, :, :3])
    assert (decoded[32:] == 255).all()


def test_an_empty_layer_is_refused_and_not_called_clean():
    photo = image_file.parse_photo(clear(np.zeros((64, 64, 3), np.uint8)), "x.png", 100)
    for read in (thumbnail.thumbnail, lambda photo: image_file.pixels(photo, 3, 0)):
        with pytest.raises(
            errors.ImageError, match="^transparent everywhere, and of one colour: there is nothing to see$"
        ):
            read(photo)
