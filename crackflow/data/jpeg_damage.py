"""Detection of JPEG files whose coded data do not hold the whole image.

Synopsis::

    reason = jpeg_damage.describe(data)     # "", or "damaged: truncated: the lower 47 % is missing, from row 256 ..."

Tolerant decoders fill the missing part with grey, and a crack in it is lost. libjpeg-turbo warns about what it finds,
so its warnings are read here. Some report lost image data, others padding or header fields that no pixel needs.
Markers and entropy-coded segments: ITU-T T.81, annexes B, F and G.
"""

import re
import struct
from typing import NamedTuple

import numpy as np
import simplejpeg

from crackflow.data import jpeg_header

MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")  # a marker that ends coded data: no stuffed zero, no restart
LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]+)")
LOSSES = re.compile(r"Corrupt JPEG data|Premature end|Inconsistent progression")
BLANK = 32  # equal bytes in a row; no coded photograph ends with so many, so that part of the file was never written
MAX_STRAY = 64  # bytes that some cameras leave before the end marker
READ_AHEAD = 8  # bytes that libjpeg-turbo may have read beyond the last row and does not count as left over
SPACES = {1: "GRAY", 3: "RGB", 4: "CMYK"}
END_MARKER = 0xD9


class Scan(NamedTuple):
    """One scan of a JPEG.

    Attributes:
        start, end: the range of its coded bytes in `JpegStructure.data`.
        components: the ids of its components.
        first, last: the range of its coefficients in zigzag order, 0 to 63.
        low: how many low bits of them later scans bring.
    """

    start: int
    end: int
    components: tuple[int, ...]
    first: int
    last: int
    low: int


# Progressive, component ids, height, its offset, rows coded together.
_Frame = tuple[bool, tuple[int, ...], int, int, int]


class JpegStructure(NamedTuple):
    """The structure of the first image in a file.

    Attributes:
        data: its bytes up to the end marker, without the segments that only programs read: warnings about those would
            hide later ones.
        progressive: whether it has a progressive frame header.
        components: the ids of its components.
        height: in pixels.
        height_at: the offset of the height in `data`.
        rows: pixel rows that are coded together.
        scans: its scans in order.
        zeros_are_flat: whether a run of zeros can be a flat part of the image.
    """

    data: bytes
    progressive: bool
    components: tuple[int, ...]
    height: int
    height_at: int
    rows: int
    scans: tuple[Scan, ...]
    zeros_are_flat: bool

    @property
    def whole(self) -> bytes:
        return self.data + jpeg_header.END


def describe(data: bytes) -> str:
    """Explains why `data`, the bytes of a JPEG, do not hold a whole image.

    Returns:
        The reason. "" when the image is whole, or of a kind that libjpeg-turbo cannot judge (12 bits, lossless).
    """
    layout = _parse(data)
    if layout is None:
        return ""
    warning = _decoder_warning(layout.whole, layout)
    if warning and not LOSSES.search(warning):
        return ""
    missing = _missing_detail(layout)
    if len(layout.scans) > 1 or layout.progressive:
        return _describe_several_scans(layout, warning, missing)
    if warning:
        return "" if _is_padding(layout, warning) else _describe_one_scan(layout, warning)
    if missing:
        return f"damaged: its JPEG holds no data of its {missing}"
    return _describe_blank_runs(layout)


def describe_silent(data: bytes, in_one_scan: bool) -> str:
    """Does the same as `describe` for a file that libjpeg-turbo decodes without a warning.

    Such a file can still have a run of zero bytes in its only scan, or lack scans. The check takes 2 us for a baseline
    file without such a run.

    Args:
        data: the bytes of a JPEG.
        in_one_scan: whether it is a baseline file with one scan.
    """
    if in_one_scan and data.find(bytes(2 * BLANK)) < 0:
        return ""
    layout = _parse(data)
    if layout is None:
        return ""
    if len(layout.scans) > 1 or layout.progressive:
        return _describe_several_scans(layout, "", _missing_detail(layout))
    return _describe_blank_runs(layout)


def _parse(data: bytes) -> JpegStructure | None:
    """Returns None for bytes that make no sense, or that do not have 1, 3 or 4 components."""
    try:
        layout = _parse_structure(data)
    except (IndexError, ValueError, struct.error):  # the file ends within its header
        return None
    return layout if layout and len(layout.components) in SPACES else None


def _parse_structure(data: bytes) -> JpegStructure | None:
    """Returns the structure of `data`, or None where there is no frame header or no scan."""
    frame: _Frame | None = None
    scans: list[Scan] = []
    symbols: dict[int, int] = {}
    out, at = bytearray(data[:2]), 2
    while len(data) - at >= 4 and data[at] == 0xFF and data[at + 1] != END_MARKER:
        marker, size = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        segment = data[at : at + 2 + size]
        at += len(segment)
        if 0xE0 <= marker <= 0xEF or marker == jpeg_header.COMMENT:
            continue
        if marker in jpeg_header.FRAMES:
            frame = _parse_frame(segment, len(out))
        elif marker == jpeg_header.HUFFMAN:
            symbols |= _zero_code_symbols(segment)
        elif marker == jpeg_header.START_OF_SCAN:
            end = _coded_end(data, at)
            scan, segment = _parse_scan(segment, len(out), end - at, frame is not None and frame[0])
            scans.append(scan)
            luma = symbols.get(0x10 | segment[6] & 15, 0)
            segment += data[at:end]
            at = end
        out += segment
    if frame is None or not scans:
        return None
    flat = frame[0] or len(scans) > 1 or luma == 0  # of AC coefficients, 0 is "no more in this block"
    return JpegStructure(bytes(out), *frame, tuple(scans), flat)


def _parse_frame(segment: bytes, at: int) -> _Frame:
    """Returns (progressive, component ids, height, its offset, rows coded together) of a frame header."""
    kind, height, count = segment[1], struct.unpack_from(">H", segment, 5)[0], segment[9]
    ids = tuple(segment[10 + 3 * index] for index in range(count))
    blocks = max(segment[11 + 3 * index] & 15 for index in range(count)) if count > 1 else 1
    return kind in (0xC2, 0xC6, 0xCA, 0xCE), ids, height, at + 5, 8 * blocks


def _parse_scan(header: bytes, at: int, coded: int, progressive: bool) -> tuple[Scan, bytes]:
    """Returns the scan of `header`, which `coded` bytes follow, and the header with values that decoders accept."""
    count = header[4]
    ids = tuple(header[5 + 2 * index] for index in range(count))
    first, last, bits = header[5 + 2 * count : 8 + 2 * count]
    if not progressive:
        first, last, bits = 0, 63, 0
        header = header[: 5 + 2 * count] + bytes((first, last, bits)) + header[8 + 2 * count :]
    start = at + len(header)
    return Scan(start, start + coded, ids, first, last, bits & 15), header


def _coded_end(data: bytes, start: int) -> int:
    """Returns where the coded data that begin at `start` end."""
    ended = MARKER.search(data, start)
    if ended:
        return ended.start()
    return len(data) - data.endswith(b"\xff")  # half of a marker or of a stuffed byte


def _zero_code_symbols(segment: bytes) -> dict[int, int]:
    """Maps each Huffman table (class and number) to the symbol whose code consists of zeros."""
    symbols, at = {}, 4
    while at + 17 < len(segment):
        symbols[segment[at]] = segment[at + 17]
        at += 17 + sum(segment[at + 1 : at + 17])
    return symbols


def _decoder_warning(data: bytes, layout: JpegStructure) -> str:
    """Returns the first warning of libjpeg-turbo about the JPEG `data`, or ""."""
    try:
        simplejpeg.decode_jpeg(data, SPACES[len(layout.components)], min_factor=8, min_height=1, min_width=1)
    except ValueError as error:
        return str(error)
    return ""


def _missing_detail(layout: JpegStructure) -> str:
    """Names the detail that no scan brings: a file that was cut between two scans decodes without a warning."""
    low = {(component_id, coefficient): 16 for component_id in layout.components for coefficient in range(64)}
    for scan in layout.scans:
        low |= {
            (component_id, coefficient): scan.low
            for component_id in scan.components
            for coefficient in range(scan.first, scan.last + 1)
        }
    lacking = {component for (component, _), bits in low.items() if bits}
    if not lacking:
        return ""
    return "fine detail" if layout.components[0] in lacking else "colours"


def _describe_several_scans(layout: JpegStructure, warning: str, missing: str) -> str:
    count = len(layout.scans)
    if not warning:
        return f"damaged: truncated: its {missing} is missing after scan {count} of its JPEG data" if missing else ""
    if not missing and _is_padding(layout, warning):
        return ""
    bad = next(
        (
            number
            for number, scan in enumerate(layout.scans, 1)
            if _decoder_warning(layout.data[: scan.end] + jpeg_header.END, layout)
        ),
        count,
    )
    return (
        f"damaged: truncated: its JPEG data break off in scan {bad}, each of which adds detail to the whole picture "
        f"({_strip_prefix(warning)})"
    )


def _describe_one_scan(layout: JpegStructure, warning: str) -> str:
    blank = _blank_tail(layout.data)
    left = LEFT_OVER.search(warning)
    if left and not blank:
        return _describe_blank_runs(layout) or (
            f"damaged: {int(left[1]):,} bytes of its JPEG data are left over after the last row: part of the picture "
            "was shifted or overwritten"
        )
    return _describe_truncation(layout, len(layout.data) - blank, "blank data" if blank else _strip_prefix(warning))


def _describe_blank_runs(layout: JpegStructure) -> str:
    if layout.zeros_are_flat:
        return ""
    at = layout.data.find(bytes(2 * BLANK), layout.scans[0].start)
    if at < 0 or not _decoder_warning(layout.data[: at + 1] + jpeg_header.END, layout):  # the image ends before them
        return ""
    return _describe_truncation(layout, at, "blank data")


def _blank_tail(coded: bytes) -> int:
    """Returns how many equal bytes end `coded`, or 0 when they are few enough to belong to the image."""
    blank = len(coded) - len(coded.rstrip(coded[-1:]))
    return blank if blank >= BLANK else 0


def _describe_truncation(layout: JpegStructure, end: int, cause: str) -> str:
    """Describes how much of the image the bytes before `end` hold.

    Decoders believe a frame header that promises fewer rows, so the largest height that decodes without a loss shows
    how far the data reach.
    """
    before, after = layout.data[: layout.height_at], layout.data[layout.height_at + 2 : end] + jpeg_header.END
    low, high = 0, -(-layout.height // layout.rows)  # rows of blocks: `low` are present, `high` are not
    while high - low > 1:
        middle = (low + high) // 2
        warning = _decoder_warning(before + struct.pack(">H", middle * layout.rows) + after, layout)
        low, high = (low, middle) if warning and not LEFT_OVER.search(warning) else (middle, high)
    rows = min(low * layout.rows, layout.height)
    missing_percent = 100 * (layout.height - rows) / layout.height
    percent = f"{missing_percent:.0f}" if missing_percent >= 1 else f"{missing_percent:.1g}"
    part = f"at least the lower {percent} % is missing, from row {rows:,} of {layout.height:,} on"
    nearly = f"all but a part of its first {layout.rows} rows is missing"
    return f"damaged: truncated: {part if rows else nearly} ({cause})"


def _strip_prefix(warning: str) -> str:
    return warning.removeprefix("Corrupt JPEG data: ")


def _is_padding(layout: JpegStructure, warning: str) -> bool:
    """Whether the bytes that are left over before the end marker do not belong to the image.

    Padding consists of equal bytes, or of a few bytes after one whose spare bits are 1, as the standard requires of the
    last byte. An image that lost or gained bytes ends with coded data of its own.
    """
    left = LEFT_OVER.search(warning)
    if not left or int(left[2], 16) != END_MARKER:
        return False
    most = len(layout.data) - int(left[1])
    ends = range(max(most - READ_AHEAD, layout.scans[-1].start + 1), most + 1)
    end = next((stop for stop in ends if not _decoder_warning(layout.data[:stop] + jpeg_header.END, layout)), 0)
    picture, rest = layout.data[:end], layout.data[end:]
    if not end or len(set(picture[-4:])) == 1:  # blank data were decoded as part of the image
        return False
    return len(set(rest)) == 1 or (len(rest) <= MAX_STRAY and _spare_bits_are_ones(picture, layout))


def _spare_bits_are_ones(picture: bytes, layout: JpegStructure) -> bool:
    """Whether those low bits of the last byte of `picture` that no pixel depends on are all 1."""
    if picture.endswith((b"\xff\x00", b"\xff")):
        return True
    space = SPACES[len(layout.components)]
    whole = simplejpeg.decode_jpeg(picture + jpeg_header.END, space, strict=False)
    for bits in range(7, 0, -1):
        mask = (1 << bits) - 1
        last = picture[-1] ^ mask
        changed = picture[:-1] + (b"\xff\x00" if last == 0xFF else bytes([last])) + jpeg_header.END
        if np.array_equal(simplejpeg.decode_jpeg(changed, space, strict=False), whole):
            return picture[-1] & mask == mask
    return True
