"""A JPEG that lost part of its data, cut off or zeroed, is refused with a message that says what is missing."""

import io

import numpy as np
import pytest
from PIL import Image

from crackflow.conversion import scan
from crackflow.conversion.layouts import SourceFile
from crackflow.core import errors
from crackflow.core.config.data import ConvertConfig
from crackflow.data import image_file, thumbnail
from crackflow.explanation import inputs
from crackflow.inference import photo_files
from tests.helpers import support

NAME = "02-broken-jpeg-called-clean"
END = b"\xff\xd9"


def test_predict_lists_what_is_missing_instead_of_calling_it_clean(report, tmp_path):
    folder = report(NAME) / "photos"
    done = support.called("predict", f"--photos={folder}", f"--out={tmp_path / 'o'}", "--scale=1")
    assert done.returncode == 0, done.stderr
    assert [row["path"] for row in support.rows(tmp_path / "o", "predictions.csv")] == ["whole.jpg"]
    reasons = {row["path"]: row["reason"] for row in support.rows(tmp_path / "o", "rejected.csv")}
    expected = "damaged: truncated: at least the lower 50 % is missing, from row 240 of 480 on"
    assert set(reasons) == {"cut.jpg", "cut_then_eoi.jpg"} and all(
        reason.startswith(expected) for reason in reasons.values()
    )


def test_convert_stores_none_of_the_half_blank_pictures(report, tmp_path):
    facts = support.converted(report(NAME) / "classes", tmp_path / "o", split=(0.5, 0.25, 0.25))
    reasons = {row["path"]: row["reason"] for row in support.rows(tmp_path / "o", "rejected.csv")}
    assert set(reasons) == {f"Positive/{number:05d}.jpg" for number in range(6)}
    assert all(reason.startswith("damaged: truncated: at least the lower 5") for reason in reasons.values())
    assert facts["notes"] == []


def whole(form="JPEG", **options):
    grain = np.random.default_rng(3).integers(60, 190, (160, 200, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grain).save(buffer, form, **options)
    return buffer.getvalue()


def half(data, tail):
    """The first half of `data`, and `tail` instead of the rest."""
    return data[: len(data) // 2] + tail(len(data) - len(data) // 2)


def without_a_piece(data):
    """Two of its parts between restart markers are lost, and the others move up."""
    marks = [at for at in range(len(data) - 1) if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7]
    return data[: marks[2]] + data[marks[4] :]


def over(data, at, count):
    """Zeros instead of a sector."""
    return data[:at] + bytes(count) + data[at + count :]


BROKEN = {
    "progressive, cut, with an end": lambda: half(whole(progressive=True), lambda _: END),
    "progressive, the rest blank": lambda: half(whole(progressive=True), bytes),
    "restart markers, a piece lost": lambda: without_a_piece(whole(restart_marker_rows=1)),
    "a blank sector": lambda: over(whole(), 9_000, 512),
    "a lost sector": lambda: whole()[:9_000] + whole()[9_512:],
    "grey, the rest blank, with an end": lambda: half(whole(), lambda size: bytes(size - 2) + END),
    "four inks, cut, with an end": lambda: half(support.encoded(support.picture(1), mode="CMYK"), lambda _: END),
    "PNG, the rest blank": lambda: half(whole("PNG"), bytes),
    "PNG, a byte changed": lambda: whole("PNG")[:5000] + b"\x07\x08" + whole("PNG")[5002:],
    "WebP, the rest blank": lambda: half(whole("WEBP"), bytes),
    "lossless WebP, the rest blank": lambda: half(whole("WEBP", lossless=True), bytes),
    "BMP, the rest blank": lambda: half(whole("BMP"), bytes),
    "PPM, the rest blank": lambda: half(whole("PPM"), bytes),
    "TIFF, the rest blank": lambda: half(whole("TIFF"), bytes),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_every_verb_refuses_other_files_that_lost_a_part(tmp_path, kind):
    support.put(tmp_path / "a.jpg", BROKEN[kind]())
    with pytest.raises(errors.ImageError, match="^damaged: "):
        photo_files.read(str(tmp_path / "a.jpg"), 3, 100)
    rejected = []
    assert not list(inputs.iter_tiles([inputs.ImagePath(str(tmp_path), "a.jpg")], 1, 0, 0.01, 100, rejected))
    assert rejected[0][1].startswith("damaged: ")
    judge = scan.ScanOptions(str(tmp_path), ConvertConfig.max_megapixels, 32, 0.01)
    [(scanned, _)] = [scan._scan_chunk((judge, [SourceFile("a.jpg", 0, "")]))]
    assert str(scanned[0]).startswith("damaged: ")


@pytest.mark.parametrize(
    "sound",
    [
        lambda data: data + bytes(5000),
        lambda data: data + b"trailer of a telephone" * 40,
        lambda data: data[:-2] + bytes(300) + END,
        lambda data: data[:-2] + b"\xff" * 300 + END,
        lambda data: data[:-2],
        lambda data: data[:-2] + bytes(4096),
        lambda data: data.replace(b"JFIF\0\x01", b"JFIF\0\x07"),
    ],
    ids=["zeros after", "bytes after", "zeros before the end", "fill bytes", "endless", "endless, zeros", "version 7"],
)
def test_bytes_that_no_pixel_needs_are_no_damage(sound):
    data = whole(quality=90)
    values = image_file.pixels(image_file.parse_photo(sound(data), "a.jpg", 100), 3, 0)
    np.testing.assert_array_equal(values, support.pixels(data))
    assert thumbnail.thumbnail(image_file.parse_photo(sound(data), "a.jpg", 100)).grey.mean() > 60
