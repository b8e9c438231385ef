"""Damage that decoders of PNG, WebP and uncompressed files overlook: parts that were lost or never written.

Synopsis::

    reason = file_damage.describe(data, "PNG")           # "", or "damaged: ..."
    reason = file_damage.describe_blank_rows(values)     # of decoded pixels of an uncompressed file

PNG: chunks and checksums of ISO/IEC 15948. WebP: RIFF container, RFC 9649; its decoders read zeros as image data.
"""

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

BLANK = 64  # zero bytes in a row at the end of coded data, where no coder leaves any
BLANK_SHARE = 0.01  # fraction of an uncompressed image that ends in zeros
PACKING_TIFF = (5, 7, 8, 32946, 34925, 50000, 50001)  # LZW, JPEG, deflate twice, LZMA, Zstandard, WebP: end in no zeros
COMPRESSION_TAG, PART_TAGS = 259, ((273, 279), (324, 325))  # offsets and sizes of strips, and of tiles
PICTURE_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"tRNS")


def describe(data: bytes, form: str | None) -> str:
    """Explains why the bytes `data`, of the format `form`, do not hold a whole image; "" without signs of damage."""
    try:
        if form == "PNG":
            return _describe_png(data)
        if form == "WEBP":
            return _describe_webp(data)
    except struct.error:  # the file ends within a header: decoders report it
        pass
    return ""


def _describe_png(data: bytes) -> str:
    at = 8
    while len(data) - at >= 12:
        (length,), kind = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        end = at + 8 + length
        if kind == b"IEND":
            break
        if end + 4 > len(data):
            missing = end + 4 - len(data)
            return f"damaged: truncated: {missing:,} bytes of its last PNG chunk are missing" if kind == b"IDAT" else ""
        if kind in PICTURE_CHUNKS and zlib.crc32(data[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return f"damaged: the checksum of its PNG chunk {kind.decode()} at byte {at:,} does not match"
        at = end + 4
    return ""


def _describe_webp(data: bytes) -> str:
    at, size = 12, 8 + struct.unpack_from("<I", data, 4)[0]
    if size > len(data) + 1:
        return f"damaged: truncated: {size - len(data):,} of {size:,} bytes of its WebP are missing"
    while size - at >= 8:
        kind, (length,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        coded = data[at + 8 : at + 8 + length]
        if kind in (b"VP8 ", b"VP8L"):
            blank = len(coded) - len(coded.rstrip(b"\0"))
            if blank >= BLANK:
                return f"damaged: truncated: the last {blank:,} of {length:,} bytes of its WebP picture are blank"
        at += 8 + length + length % 2
    return ""


def describe_tiff(data: bytes, tags: Mapping[int, Any]) -> str:
    """Does the same as `describe` for a TIFF whose `tags` (number -> value) say where the parts of its image lie."""
    for offsets, sizes in PART_TAGS:
        parts = list(zip(_as_tuple(tags.get(offsets)), _as_tuple(tags.get(sizes)), strict=False))
        for number, (at, size) in enumerate(parts, 1):
            named = f"part {number:,} of {len(parts):,} of its picture"
            if size and at + size > len(data):
                return f"damaged: truncated: {named} ends {at + size - len(data):,} bytes after the file does"
            if (
                tags.get(COMPRESSION_TAG, 1) in PACKING_TIFF
                and size >= BLANK
                and not any(data[at + size - BLANK : at + size])
            ):
                return f"damaged: truncated: {named} ends in blank data"
    return ""


def _as_tuple(value: object) -> tuple:
    return value if isinstance(value, tuple) else () if value is None else (value,)


def describe_blank_rows(values: np.ndarray) -> str:
    """Detects an uncompressed image, [H, W] or [H, W, C], whose last rows were never written.

    Such an image ends in zeros from the middle of a row on, below a row that has none there. A black border begins with
    a whole row, or slants.
    """
    lit: np.ndarray = np.any(values.reshape(*values.shape[:2], -1), axis=-1)
    for rows, side in ((lit, "lower"), (lit[::-1], "upper")):  # BMP and PFM are written from below
        if rows[-1].any():
            continue
        last = np.flatnonzero(rows.any(1))
        if not last.size:
            return ""
        row = last[-1]
        first = int(np.flatnonzero(rows[row])[-1]) + 1
        blank = rows.size - (row * rows.shape[1] + first)
        if row and first < rows.shape[1] and blank >= BLANK_SHARE * rows.size and rows[row - 1, first:].mean() > 0.9:
            return f"damaged: truncated: the {side} {100 * blank / rows.size:.0f} % of its pixels are blank"
    return ""
