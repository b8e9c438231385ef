import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crackflow.data import image_file, jpeg_header, thumbnail
from tests.helpers import support

PLAIN = support.encoded(support.picture(0, 48, 40))


def frame_at(data):
    return data.index(b"\xff\xc0")


def changed(data, at, value):
    return data[:at] + bytes([value]) + data[at + 1 :]


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["L", "RGB"]))
@settings(max_examples=30, deadline=None)
def test_the_size_and_components_are_those_pillow_finds(width, height, mode):
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, "JPEG")
    assert jpeg_header.read_header(buffer.getvalue()) == (width, height, len(mode), True, True)


@pytest.mark.parametrize(
    ("data", "baseline", "simple"),
    [
        (PLAIN, True, True),
        (support.encoded(support.picture(0), comment=b"north wall"), True, True),
        (support.encoded(support.picture(0), exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"), True, False),
        (support.encoded(support.picture(0), progressive=True), False, False),
        (support.encoded(support.picture(0), mode="CMYK"), False, False),
        (changed(PLAIN, frame_at(PLAIN) + 1, 0xC9), False, False),
        (changed(PLAIN, frame_at(PLAIN) + 4, 12), False, False),
        (PLAIN[:-2], False, False),
        (PLAIN.replace(b"JFIF\0", b"JUNK\0"), True, False),
    ],
    ids=["plain", "comment", "exif", "progressive", "cmyk", "arithmetic", "12 bits", "endless", "no jfif"],
)
def test_only_what_needs_no_second_look_is_simple(data, baseline, simple):
    header = jpeg_header.read_header(data)
    assert (header.baseline, header.simple) == (baseline, simple)


def test_fill_bytes_before_a_marker_are_passed_over():
    at = frame_at(PLAIN)
    assert jpeg_header.read_header(PLAIN[:at] + b"\xff\xff\xff" + PLAIN[at:]) == jpeg_header.read_header(PLAIN)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        support.encoded(support.picture(0), "PNG"),
        PLAIN[: frame_at(PLAIN) + 6],
        PLAIN[: frame_at(PLAIN)] + PLAIN[frame_at(PLAIN) + 19 :],
        PLAIN[: frame_at(PLAIN)] + PLAIN[frame_at(PLAIN) : frame_at(PLAIN) + 19] * 2 + PLAIN[frame_at(PLAIN) + 19 :],
        changed(PLAIN, 2, 0xFE),
        changed(changed(PLAIN, 4, 0), 5, 1),
    ],
    ids=["empty", "start alone", "png", "cut in the frame", "no frame", "two frames", "no marker", "length 1"],
)
def test_markers_that_make_no_sense_give_no_header(data):
    assert jpeg_header.read_header(data) is None


@given(st.binary(max_size=80), st.integers(0, 700))
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_it_fail(junk, at):
    damaged = PLAIN[:at] + junk + PLAIN[at + len(junk) :]
    header = jpeg_header.read_header(damaged)
    assert header is None or min(header.width, header.height) >= 0


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [(64, 64), (65, 97), (227, 227)])
def test_both_decoders_hand_over_the_same_grey_pixels(monkeypatch, mode, size):
    data = support.encoded(support.picture(3, *size), mode=mode)
    quick = thumbnail.thumbnail(image_file.parse_photo(data, "x.jpg", 100)).grey
    monkeypatch.setattr(image_file.simplejpeg, "decode_jpeg", refuse)
    np.testing.assert_array_equal(thumbnail.thumbnail(image_file.parse_photo(data, "x.jpg", 100)).grey, quick)


def refuse(*_, **__):
    raise ValueError("not this time")
