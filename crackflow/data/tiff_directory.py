"""Limits on what a TIFF file makes a reader load before its first pixel: pages, and values of tags.

Synopsis::

    tiff_directory.require_modest(data)       # raises TiffLimitError with the reason

Each of 65,535 tags of a page may name the same bytes of the file, and each page leads to the next: a megabyte can ask
for gigabytes, or for hours. Layout: TIFF 6.0; BigTIFF has numbers of 8 bytes where that has 4.
"""

import mmap
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

MAX_PAGES = 1000  # orthophotos have a dozen; a reader needs 1 ms for each
SPARE = 1 << 20  # bytes by which the values of a page may exceed the file
KIND_BYTES = np.zeros(1 << 16, np.uint64)
KIND_BYTES[1:14] = (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)  # BYTE, ASCII, SHORT, LONG, RATIONAL, ...
KIND_BYTES[16:19] = 8  # the types of BigTIFF


class TiffLimitError(ValueError):
    """This TIFF asks for too much; the message is the reason."""


class _TiffFormat(NamedTuple):
    order: str
    big: bool

    @property
    def entry(self) -> np.dtype:
        kind = "u8" if self.big else "u4"
        names = [("tag", "u2"), ("kind", "u2"), ("count", kind), ("value", kind)]
        return np.dtype([(name, self.order + code) for name, code in names])

    def number(self, data: bytes | mmap.mmap, at: int, size: int) -> int:
        """Returns the number at offset `at`, or 0 where the file has ended."""
        return int.from_bytes(data[at : at + size], "little" if self.order == "<" else "big")


def require_modest(data: bytes | mmap.mmap) -> None:
    """Refuses TIFF files that would take a reader too much memory or time.

    Values behind the end of the file are left to the reader to refuse.

    Raises:
        TiffLimitError: for more than `MAX_PAGES` pages, and for tags whose values take more bytes than the file has
            because they overlap.
    """
    form = _TiffFormat("<" if data[:2] == b"II" else ">", 43 in data[2:4])
    for number, entries in enumerate(_pages(data, form), 1):
        if number > MAX_PAGES:
            raise TiffLimitError(
                f"a TIFF of more than {MAX_PAGES:,} pages: expected one picture; save the page you need"
            )
        sizes = KIND_BYTES[entries["kind"]].astype(float) * entries["count"]
        inside = sizes[(sizes > form.entry["value"].itemsize) & (entries["value"] + sizes <= len(data))]
        if inside.sum() > len(data) + SPARE:
            raise TiffLimitError("damaged: the values of its TIFF tags would be larger than the file")


def _pages(data: bytes | mmap.mmap, form: _TiffFormat) -> Iterator[np.ndarray]:
    """Yields the entries of each page, and stops at a page that was seen before."""
    head, tail = (8, 8) if form.big else (2, 4)
    at, seen = form.number(data, 8 if form.big else 4, tail), set()
    while at and at < len(data) and at not in seen:
        seen.add(at)
        room = max((len(data) - at - head) // form.entry.itemsize, 0)
        count = min(form.number(data, at, head), room)
        yield np.frombuffer(data, form.entry, count, at + head) if count else np.zeros(0, form.entry)
        at = form.number(data, at + head + count * form.entry.itemsize, tail)
