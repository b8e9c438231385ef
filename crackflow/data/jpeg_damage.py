"""Whether the coded data of a JPEG hold the whole picture, and where they stop.

Synopsis::

    reason = jpeg_damage.describe(data)     # "", or "damaged: truncated: the lower 47 % is missing, from row 256 ..."

Decoders that forgive fill what is missing with grey, and a crack in it is gone. libjpeg-turbo names what it finds, so
its warnings are read here: some tell of lost picture data, others of padding or of header fields that no pixel needs.
Markers and entropy-coded segments: ITU-T T.81, annexes B, F and G.
"""

import re
import struct
from typing import NamedTuple

import numpy as np
import simplejpeg

from crackflow.data import jpeg_header

MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")  # that ends coded data: no stuffed zero, no restart
LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]+)")
LOSSES = re.compile(r"Corrupt JPEG data|Premature end|Inconsistent progression")
BLANK = 32  # equal bytes in a row that no coded photograph ends with: a part of the file that was never written
MAX_STRAY = 64  # bytes before the end marker that some cameras leave there
READ_AHEAD = 8  # bytes that libjpeg-turbo may have taken in beyond the last row, and does not count as left over
SPACES = {1: "GRAY", 3: "RGB", 4: "CMYK"}
END_MARKER = 0xD9


class Scan(NamedTuple):
    """`start`, `end`: of its coded bytes in `JpegStructure.data`; `components`: their ids; `first`, `last`:
    coefficients in zigzag order, 0 to 63; `low`: how many bits of them are still to come."""

    start: int
    end: int
    components: tuple[int, ...]
    first: int
    last: int
    low: int


class JpegStructure(NamedTuple):
    """Of the first picture in a file. `data`: its bytes up to the end marker, without segments that only programs read,
    whose warnings would hide the later ones; `height_at`: where its height is written there; `rows`: that are coded
    together; `zeros_are_flat`: a run of zeros can be a flat part of the picture."""

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
    """Why `data`, the bytes of a JPEG, do not hold a whole picture; "" when they do, or when libjpeg-turbo cannot judge
    their kind (12 bits, lossless)."""
    layout = _parse(data)
    if layout is None:
        return ""
    said = _warning(layout.whole, layout)
    if said and not LOSSES.search(said):
        return ""
    missing = _missing(layout)
    if len(layout.scans) > 1 or layout.progressive:
        return _of_several_scans(layout, said, missing)
    if said:
        return "" if _is_padding(layout, said) else _of_one_scan(layout, said)
    if missing:
        return f"damaged: its JPEG holds no data of its {missing}"
    return _of_blanks(layout)


def describe_silent(data: bytes, in_one_scan: bool) -> str:
    """As `describe`, of a file that libjpeg-turbo decodes without a warning all the same: with a run of zero bytes in
    its one scan, or with scans that never came. Takes 2 us for a baseline file without such a run."""
    if in_one_scan and data.find(bytes(2 * BLANK)) < 0:
        return ""
    layout = _parse(data)
    if layout is None:
        return ""
    if len(layout.scans) > 1 or layout.progressive:
        return _of_several_scans(layout, "", _missing(layout))
    return _of_blanks(layout)


def _parse(data: bytes) -> JpegStructure | None:
    """None for what makes no sense, or is none of 1, 3 or 4 components."""
    try:
        layout = _parsed(data)
    except (IndexError, ValueError, struct.error):  # the file ends within its header
        return None
    return layout if layout and len(layout.components) in SPACES else None


def _parsed(data: bytes) -> JpegStructure | None:
    frame, scans, symbols = None, [], {}
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
            frame = _frame(segment, len(out))
        elif marker == jpeg_header.HUFFMAN:
            symbols |= _all_zeros(segment)
        elif marker == jpeg_header.START_OF_SCAN:
            end = _coded_end(data, at)
            scan, segment = _scan(segment, len(out), end - at, frame is not None and frame[0])
            scans.append(scan)
            luma = symbols.get(0x10 | segment[6] & 15, 0)
            segment += data[at:end]
            at = end
        out += segment
    if frame is None or not scans:
        return None
    flat = frame[0] or len(scans) > 1 or luma == 0  # of AC coefficients, 0 is "no more in this block"
    return JpegStructure(bytes(out), *frame, tuple(scans), flat)


def _frame(segment: bytes, at: int) -> tuple:
    """(progressive, component ids, height, where that is, rows coded together) of a frame header."""
    kind, height, count = segment[1], struct.unpack_from(">H", segment, 5)[0], segment[9]
    ids = tuple(segment[10 + 3 * one] for one in range(count))
    blocks = max(segment[11 + 3 * one] & 15 for one in range(count)) if count > 1 else 1
    return kind in (0xC2, 0xC6, 0xCA, 0xCE), ids, height, at + 5, 8 * blocks


def _scan(header: bytes, at: int, coded: int, progressive: bool) -> tuple[Scan, bytes]:
    """The scan of `header`, with `coded` bytes after it; and the header with what decoders complain of set right."""
    count = header[4]
    ids = tuple(header[5 + 2 * one] for one in range(count))
    first, last, bits = header[5 + 2 * count : 8 + 2 * count]
    if not progressive:
        first, last, bits = 0, 63, 0
        header = header[: 5 + 2 * count] + bytes((first, last, bits)) + header[8 + 2 * count :]
    start = at + len(header)
    return Scan(start, start + coded, ids, first, last, bits & 15), header


def _coded_end(data: bytes, start: int) -> int:
    ended = MARKER.search(data, start)
    if ended:
        return ended.start()
    return len(data) - data.endswith(b"\xff")  # half of a marker or of a stuffed byte


def _all_zeros(segment: bytes) -> dict[int, int]:
    """Huffman table (class and number) -> the symbol whose code is zeros alone."""
    found, at = {}, 4
    while at + 17 < len(segment):
        found[segment[at]] = segment[at + 17]
        at += 17 + sum(segment[at + 1 : at + 17])
    return found


def _warning(data: bytes, layout: JpegStructure) -> str:
    """What libjpeg-turbo says first of the JPEG `data`; "" for nothing."""
    try:
        simplejpeg.decode_jpeg(data, SPACES[len(layout.components)], min_factor=8, min_height=1, min_width=1)
    except ValueError as error:
        return str(error)
    return ""


def _missing(layout: JpegStructure) -> str:
    """What no scan brings: a file cut between two of them decodes without a warning."""
    low = {(one, place): 16 for one in layout.components for place in range(64)}
    for scan in layout.scans:
        low |= {(one, place): scan.low for one in scan.components for place in range(scan.first, scan.last + 1)}
    lacking = {component for (component, _), bits in low.items() if bits}
    if not lacking:
        return ""
    return "fine detail" if layout.components[0] in lacking else "colours"


def _of_several_scans(layout: JpegStructure, said: str, missing: str) -> str:
    count = len(layout.scans)
    if not said:
        return f"damaged: truncated: its {missing} is missing after scan {count} of its JPEG data" if missing else ""
    if not missing and _is_padding(layout, said):
        return ""
    bad = next(
        (n for n, s in enumerate(layout.scans, 1) if _warning(layout.data[: s.end] + jpeg_header.END, layout)), count
    )
    return (
        f"damaged: truncated: its JPEG data break off in scan {bad}, each of which adds detail to the whole picture "
        f"({_plain(said)})"
    )


def _of_one_scan(layout: JpegStructure, said: str) -> str:
    blank = _blank_tail(layout.data)
    left = LEFT_OVER.search(said)
    if left and not blank:
        return _of_blanks(layout) or (
            f"damaged: {int(left[1]):,} bytes of its JPEG data are left over after the last row: part of the picture "
            "was shifted or overwritten"
        )
    return _upper_part(layout, len(layout.data) - blank, "blank data" if blank else _plain(said))


def _of_blanks(layout: JpegStructure) -> str:
    if layout.zeros_are_flat:
        return ""
    at = layout.data.find(bytes(2 * BLANK), layout.scans[0].start)
    if at < 0 or not _warning(layout.data[: at + 1] + jpeg_header.END, layout):  # the picture ends before them
        return ""
    return _upper_part(layout, at, "blank data")


def _blank_tail(coded: bytes) -> int:
    """How many equal bytes end `coded`, when they are too many to be picture."""
    blank = len(coded) - len(coded.rstrip(coded[-1:]))
    return blank if blank >= BLANK else 0


def _upper_part(layout: JpegStructure, end: int, cause: str) -> str:
    """How much of the picture the bytes before `end` hold. Decoders believe a frame header that promises fewer rows, so
    the largest height that decodes without a loss is how far the data reach."""
    before, after = layout.data[: layout.height_at], layout.data[layout.height_at + 2 : end] + jpeg_header.END
    low, high = 0, -(-layout.height // layout.rows)  # rows of blocks: `low` are there, `high` are not
    while high - low > 1:
        middle = (low + high) // 2
        said = _warning(before + struct.pack(">H", middle * layout.rows) + after, layout)
        low, high = (low, middle) if said and not LEFT_OVER.search(said) else (middle, high)
    rows = min(low * layout.rows, layout.height)
    share = 100 * (layout.height - rows) / layout.height
    shown = f"{share:.0f}" if share >= 1 else f"{share:.1g}"
    part = f"at least the lower {shown} % is missing, from row {rows:,} of {layout.height:,} on"
    nearly = f"all but a part of its first {layout.rows} rows is missing"
    return f"damaged: truncated: {part if rows else nearly} ({cause})"


def _plain(said: str) -> str:
    return said.removeprefix("Corrupt JPEG data: ")


def _is_padding(layout: JpegStructure, said: str) -> bool:
    """Whether the bytes left over before the end marker are none of the picture's: equal ones; or a few, after a byte
    whose spare bits are 1, as the standard wants the last one. A picture that lost or gained bytes ends in its own."""
    left = LEFT_OVER.search(said)
    if not left or int(left[2], 16) != END_MARKER:
        return False
    most = len(layout.data) - int(left[1])
    ends = range(max(most - READ_AHEAD, layout.scans[-1].start + 1), most + 1)
    end = next((one for one in ends if not _warning(layout.data[:one] + jpeg_header.END, layout)), 0)
    picture, rest = layout.data[:end], layout.data[end:]
    if not end or len(set(picture[-4:])) == 1:  # blank data were taken for picture
        return False
    return len(set(rest)) == 1 or (len(rest) <= MAX_STRAY and _spare_bits_are_ones(picture, layout))


def _spare_bits_are_ones(picture: bytes, layout: JpegStructure) -> bool:
    """Of the last byte of `picture`: of those of its low bits that no pixel depends on."""
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
