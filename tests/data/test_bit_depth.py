import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from crackflow.data import bit_depth, image_file
from tests.helpers import support

GREY = support.picture(2)[..., 0]


def samples(values, named=0.0, largest=65535, alpha=None, inverted=False):
    values = np.asarray(values)
    return bit_depth.Samples(values.reshape(*values.shape[:2], -1), alpha, named, largest, inverted)


@pytest.mark.parametrize(
    "highest, largest, white",
    [(255, 65535, 255), (256, 65535, 1023), (1023, 65535, 1023), (1024, 65535, 4095), (4096, 65535, 16383)]
    + [(16384, 65535, 65535), (32767, 32767, 32767), (0, 65535, 255), (127, 127, 127)],
)
def test_white_is_the_lowest_step_that_no_value_exceeds(highest, largest, white):
    picture, note = bit_depth.to_eight(samples([[0, highest]], largest=largest))
    assert np.asarray(picture)[0, 1] == round(255 * highest / white)
    assert bit_depth.is_scaling(note) and (white == 65535 or f"from 0 to {white:,}, no value being higher" in note)


@pytest.mark.parametrize("highest, white", [(0.2, 1), (1.0, 1), (1.04, 1), (250.0, 255), (60_000.0, 65535)])
def test_floats_have_one_step_more_and_may_overshoot(highest, white):
    values = np.array([[0, highest]], np.float32)
    assert np.asarray(bit_depth.to_eight(samples(values, largest=1))[0])[0, 1] == min(round(255 * highest / white), 255)


@pytest.mark.parametrize("named, white", [(4095, 4095), (3692, 4095), (65535, 65535), (500, 1023)])
def test_what_the_file_names_decides_unless_a_value_is_above(named, white):
    picture, note = bit_depth.to_eight(samples([[0, 800]], named=named))
    assert np.asarray(picture)[0, 1] == int(255 * 800 / white + 0.5)
    assert white == 65535 or note.endswith("as its file says")


def test_alpha_keeps_its_own_white_and_inversion_spares_it():
    alpha = np.array([[0, 65535]], np.uint16)
    picture, _ = bit_depth.to_eight(samples([[0, 4000]], alpha=alpha, inverted=True))
    assert picture.mode == "LA" and np.asarray(picture).tolist() == [[[255, 0], [6, 255]]]


def png(values, kind, extra=b""):
    """A PNG of 16 bits per channel, which Pillow does not write in colour."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


DEEP = np.random.default_rng(0).integers(0, 65536, (32, 24, 4), np.uint16)


@pytest.mark.parametrize(
    "data, channels",
    [(png(DEEP[..., :3], 2), 3), (png(DEEP, 6), 4), (png(DEEP[..., ::3], 4), 2)]
    + [(tiff(DEEP[..., :3], photometric="rgb", byteorder=order), 3) for order in "<>"]
    + [(tiff(DEEP[..., :3], photometric="rgb", compression="zlib", predictor=True), 3)]
    + [(tiff(DEEP, photometric="rgb", extrasamples=("unassalpha",)), 4)],
)
def test_all_16_bits_of_every_channel_are_read(data, channels):
    samples = bit_depth.read(data)
    expected = {3: DEEP[..., :3], 4: DEEP, 2: DEEP[..., ::3]}[channels]
    whole = (
        samples.colours if samples.alpha is None else np.concatenate([samples.colours, samples.alpha[..., None]], -1)
    )
    np.testing.assert_array_equal(whole, expected)


def sbit(bits):
    data = bytes([bits])
    return struct.pack(">I", 1) + b"sBIT" + data + struct.pack(">I", zlib.crc32(b"sBIT" + data))


def test_a_png_says_how_many_bits_count():
    dark = GREY.astype(np.uint16)[..., None] * 3  # up to 765
    assert bit_depth.read(png(dark, 0, sbit(12))).named == 4095
    assert bit_depth.read(png(dark, 0)).named == bit_depth.read(png(dark, 0, sbit(16))).named == 0


def test_a_set_scaled_from_several_ranges_says_so(tmp_path):
    for number in range(12):
        white = 4095 if number < 9 else 900
        values = (support.picture(number)[..., 0] / 255 * white).astype(np.uint16)
        support.put(tmp_path / f"p/{support.CLASSES[number % 2]}/{number}.png", _png(values))
    metadata = support.converted(tmp_path / "p", tmp_path / "o", split=(0.5, 0.25, 0.25))
    assert metadata["notes"][0].startswith("12 of more than 8 bits, not all scaled from the same range (see above)")
    assert [note[:40] for note in metadata["notes"][1:]] == [
        "3 scaled to 8 bits from 0 to 1,023, no v",
        "9 scaled to 8 bits from 0 to 4,095, no v",
    ]


def _png(values):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_packed_12_bit_tiff_is_scaled_by_its_bits():
    pairs = np.tile(np.array([[0x12, 0x3F, 0xFF]], np.uint8), (32, 16)).tobytes()  # 0x123, 0xfff
    entries = [(256, 4, 32), (257, 4, 32), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    entries += [(278, 4, 32), (279, 4, len(pairs))]
    table = struct.pack("<H", len(entries))
    table += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries) + bytes(4)
    data = b"II*\0" + struct.pack("<I", 8 + len(pairs)) + pairs + table
    photo = image_file.parse_photo(data, "a.tif", 1)
    assert photo.notes == ("scaled to 8 bits from 0 to 4,095, as its file says",)
    assert image_file.pixels(photo, 1, 0)[0, :2, 0].tolist() == [18, 255]
