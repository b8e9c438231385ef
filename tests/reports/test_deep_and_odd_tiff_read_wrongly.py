"""Images of more than 8 bits or of floats are read at their true brightness, or refused with their value range."""

import io

import numpy as np
import pytest
import tifffile

from crackflow.core import errors
from crackflow.data import image_file, thumbnail
from tests.helpers import support

NAME = "07-deep-and-odd-tiff-read-wrongly"
TRUE_MEAN = 168.3
GREY = support.picture(7)[..., :1].astype(np.float64)[..., 0]


@pytest.mark.parametrize(
    "name",
    ["float01.tif", "float.pfm", "u12in16.tif", "u12in16.png", "rgb16_12bit.tif", "u16_whiteiszero.tif"]
    + ["u8_whiteiszero.tif", "u16.tif"],
)
def test_every_one_is_as_bright_as_it_was_taken(report, name):
    photo = image_file.open_photo(str(report(NAME) / name), 100)
    for channels in (1, 3):
        assert abs(image_file.pixels(photo, channels, 0).mean() - TRUE_MEAN) < 2.5
    assert abs(thumbnail.thumbnail(photo).grey.mean() - TRUE_MEAN) < 2.5


def test_the_notes_say_from_which_range(report):
    folder = report(NAME)
    notes = {
        path.name: image_file.open_photo(str(path), 100).notes for path in folder.iterdir() if path.suffix != ".txt"
    }
    assert notes["float01.tif"] == ("scaled to 8 bits from 0 to 1, no value being higher",)
    assert notes["u12in16.png"] == ("scaled to 8 bits from 0 to 4,095, no value being higher",)
    assert notes["u16.tif"] == ("scaled from 16 to 8 bits",)
    assert notes["u16_whiteiszero.tif"] == ("scaled from 16 to 8 bits, and inverted: 0 is white in it",)


def test_a_set_of_floats_is_converted_picture_by_picture(tmp_path):
    for number in range(12):
        values = (support.picture(number)[..., 0] / 255).astype(np.float32)
        support.put(tmp_path / f"p/{support.CLASSES[number % 2]}/{number}.tif", tiff(values))
    facts = support.converted(tmp_path / "p", tmp_path / "o", split=(0.5, 0.25, 0.25))
    assert facts["rejected"] == 0 and facts["notes"] == ["12 scaled to 8 bits from 0 to 1, no value being higher"]


def tiff(values, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def sixteen(white, values=GREY):
    return np.round(values / 255 * white).astype(np.uint16)


COLOURS = np.dstack([GREY, GREY, GREY])
ODD = {
    "10 bits": tiff(sixteen(1023)),
    "14 bits, big-endian, colours": tiff(sixteen(16383, COLOURS), photometric="rgb", byteorder=">"),
    "12 bits, planes": tiff(
        sixteen(4095, COLOURS).transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate"
    ),
    "0 is white, big-endian": tiff(sixteen(65535, 255 - GREY), photometric="miniswhite", byteorder=">"),
    "0 is white, floats": tiff(((255 - GREY) / 255).astype(np.float32), photometric="miniswhite"),
    "double floats": tiff(GREY / 255),
    "floats to 65,535": tiff((GREY * 257).astype(np.float32)),
    "floats in colours": tiff((COLOURS / 255).astype(np.float32), photometric="rgb"),
    "32 bits": tiff((GREY / 255 * (2**32 - 1)).astype(np.uint32)),
    "signed": tiff((GREY / 255 * 32767).astype(np.int16)),
    "five bands": tiff(
        np.dstack([sixteen(4095, COLOURS), *[sixteen(4095)] * 2]), photometric="rgb", extrasamples=(0, 0)
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_other_kinds_too(kind):
    decoded = image_file.pixels(image_file.parse_photo(ODD[kind], "a.tif", 100), 1, 0)[..., 0]
    assert np.abs(decoded - GREY).max() <= 1.01


@pytest.mark.parametrize(
    "low, high, kind, message",
    [
        (0, 5, np.float32, "values 0 to 5: expected 0 to 1, 255, 1,023, 4,095, 16,383 or 65,535; save it with 8 bits"),
        (-1, 1, np.float32, "values -1 to 1: expected 0 to 1, 255"),
        (-32768, 32767, np.int16, "values -32,768 to 32,767: expected 0 to 255, 1,023, 4,095, 16,383 or 32,767"),
        (0, 10**6, np.int32, "values 0 to 1,000,000: expected 0 to 255, 1,023, 4,095, 16,383, 65,535 or 2,147,483,647"),
        (np.nan, np.nan, np.float32, "none of its values is a number"),
    ],
)
def test_values_that_could_mean_anything_are_named(low, high, kind, message):
    values = np.linspace(low, high, 64 * 64).reshape(64, 64).astype(kind)
    with pytest.raises(errors.ImageError, match=f"^{message}"):
        image_file.parse_photo(tiff(values), "a.tif", 100)
