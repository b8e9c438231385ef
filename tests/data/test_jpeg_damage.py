"""What is missing of a JPEG, shown by the coded data alone."""

import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crackflow.data import jpeg_damage

GRAIN = np.random.default_rng(1).integers(60, 190, (160, 96, 3), np.uint8)
END = b"\xff\xd9"


def coded(mode="RGB", values=GRAIN, **options):
    buffer = io.BytesIO()
    Image.fromarray(values).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


KINDS = {
    "420": coded(),
    "444": coded(subsampling=0, quality=90),
    "grey": coded("L"),
    "cmyk": coded("CMYK"),
    "restarts": coded(restart_marker_blocks=4),
    "optimised": coded(optimize=True),
}


@pytest.mark.parametrize("kind", [*KINDS, "progressive"])
def test_a_whole_one_lacks_nothing(kind):
    data = KINDS.get(kind) or coded(progressive=True)
    assert jpeg_damage.describe(data) == jpeg_damage.describe_silent(data, in_one_scan=False) == ""


@given(
    st.sampled_from(sorted(KINDS)), st.floats(0.15, 0.97), st.sampled_from(["end", "nothing", "zeros", "zeros and end"])
)
@settings(max_examples=40)
def test_the_rows_that_are_said_to_be_there_are_there_and_no_more(kind, part, tail):
    whole = KINDS[kind]
    start = jpeg_damage._parse(whole).scans[0].start + 40  # at most so many bytes are left out by `_parse`
    at = start + int(part * (len(whole) - start))
    rest = {"end": END, "nothing": b"", "zeros": bytes(len(whole) - at), "zeros and end": bytes(len(whole) - at) + END}
    cut = whole[:at].rstrip(b"\xff") + rest[tail]
    reason = jpeg_damage.describe(cut)
    assert reason.startswith("damaged: truncated: "), reason
    match = re.search(r"from row (\d+) of 160 on", reason)
    rows = int(match[1]) if match else 0
    decoded, expected = (np.asarray(_forgiving(data)).astype(int).reshape(160, -1) for data in (cut, whole))
    same = np.abs(decoded - expected).max(1) <= 1
    margin = 2 if kind in ("420", "restarts", "optimised", "cmyk") else 0  # colours are smoothed across the border
    assert same[: max(rows - margin, 0)].all()
    assert not same[rows : rows + 32].all()


def _forgiving(data):
    return jpeg_damage.simplejpeg.decode_jpeg(data, "CMYK" if data.count(b"\xff\xee") else "RGB", strict=False)


@pytest.mark.parametrize("scans", range(1, 10))
def test_a_progressive_file_cut_between_two_scans_lacks_detail_without_a_word(scans):
    data = coded(progressive=True)
    layout = jpeg_damage._parse(data)
    cut = layout.data[: layout.scans[scans - 1].end] + END
    jpeg_damage.simplejpeg.decode_jpeg(cut, "RGB")  # raises nothing
    assert re.match("damaged: truncated: its (fine detail|colours) is missing after scan", jpeg_damage.describe(cut))
    assert jpeg_damage.describe_silent(cut, in_one_scan=False) == jpeg_damage.describe(cut)


def test_a_progressive_file_cut_within_a_scan_names_it():
    data = coded(progressive=True)
    layout = jpeg_damage._parse(data)
    third = layout.scans[2]
    reason = jpeg_damage.describe(layout.data[: (third.start + third.end) // 2] + END)
    assert reason.startswith(
        "damaged: truncated: its JPEG data break off in scan 3, each of which adds detail to the whole"
    )


@pytest.mark.parametrize("count", [1, 40, 3000])
@pytest.mark.parametrize("byte", [b"\0", b"\xff", b" "])
def test_padding_before_the_end_marker_is_no_damage(count, byte):
    for data in KINDS.values():
        assert jpeg_damage.describe(data[:-2] + byte * count + END) == ""


def test_many_bytes_of_other_content_before_the_end_are_an_image_that_was_shifted():
    data = KINDS["444"]
    twice = data[:4000] + data[3000:]
    assert re.match(
        "damaged: [0-9,]+ bytes of its JPEG data are left over after the last row", jpeg_damage.describe(twice)
    )


def test_flat_images_may_hold_runs_of_zeros():
    white = coded(values=np.full((800, 800, 3), 255, np.uint8), optimize=True)
    assert bytes(64) in white and jpeg_damage.describe(white) == ""
    assert jpeg_damage.describe_silent(white, in_one_scan=True) == ""


def test_zeros_in_a_header_are_no_part_of_the_image():
    data = KINDS["420"]
    padded = data[:2] + b"\xff\xe1\x10\x02" + bytes(4096) + data[2:]
    assert jpeg_damage.describe_silent(padded, in_one_scan=True) == jpeg_damage.describe(padded) == ""


@given(st.binary(max_size=60), st.integers(0, 3000))
@settings(max_examples=60)
def test_no_bytes_make_it_fail(junk, at):
    data = KINDS["420"]
    assert isinstance(jpeg_damage.describe(data[:at] + junk + data[at + len(junk) :]), str)


def test_real_photographs_lack_nothing(real_data):
    files = sorted((real_data("metu") / "Positive").iterdir())[::100] + sorted(
        real_data("sdnet_sample12").rglob("*.jpg")
    )
    for path in files:
        data = path.read_bytes()
        assert jpeg_damage.describe(data) == jpeg_damage.describe_silent(data, in_one_scan=False) == "", path
