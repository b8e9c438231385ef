"""The records of a split by number: any of them, in any order, by many threads at once.

Synopsis::

    rows = Rows(made, "train")
    rows.count                          # 8000
    data, label = rows.fetch(7)         # the encoded image as a memoryview, 0 or 1
    rows.fields(7)                      # {"image": b"...", "label": 1, "path": b"...", "group": 3}
    rows.cells                          # int64 [8000], where the cracks lie, as `data.mask_grid` has it
    rows.read_ahead(0, 4096)            # in the background, so that fetching these waits for no disk

Row n of a split is record n of its shards, one after the other. Where each begins says manifest.csv, so that nothing
of the shards is read before it is needed.
"""

import array
import csv
import functools
import itertools
import mmap
import os
import threading
from collections.abc import Iterable

import numpy as np

from crackflow.core.errors import UserError
from crackflow.data import dataset, mask_grid, records
from crackflow.data.dataset import Dataset

OPEN_FILES = 256  # of the 1,024 that most systems grant a process
READ_BYTES = 1 << 20


class RecordReader:
    """The records of `split`. Fetching from several threads is safe; Python's lock is free while a thread reads.

    Raises: UserError when the split is empty, or manifest.csv is missing or not of these shards.
    """

    def __init__(self, made: Dataset, split: str) -> None:
        made.expect_images(split)
        self.split, self.count = split, made.count(split)
        self._bytes = [shard["bytes"] for shard in made.facts["splits"][split]["shards"]]
        self.bytes = sum(self._bytes)
        self._files = made.files(split)
        self._shard, self._first, self._end, self.cells = _places(made, split)
        self._start, self._size, self._label = (
            array.array(kind, bytes(8 * self.count))[: self.count] for kind in "qqq"
        )
        self._open = functools.lru_cache(OPEN_FILES)(self._opened)

    def _opened(self, shard: int) -> memoryview:
        """Mapped, because pread gives Python's lock away: with two threads, taking it again cost 37 us a record."""
        with open(self._files[shard], "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != self._bytes[shard]:
                raise records.RecordError(f"the file has {size:,} bytes, expected {self._bytes[shard]:,}")
            return memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))

    def fetch(self, row: int) -> tuple[memoryview, int]:
        """The image of a record, still encoded, and its label. Raises: UserError when damaged, or its file is gone.

        The first time it is checked and parsed; then it is known where the image lies.
        """
        start = self._start[row]
        if not start:
            frame, record = self._parsed(row, ("image", "label"))
            image = record["image"]
            inside = frame.find(image[:64])  # searching for all of it compares byte by byte: 17 us
            if frame[inside : inside + len(image)] != image:
                inside = frame.find(image)
            start = self._first[row] + inside
            self._size[row], self._label[row], self._start[row] = len(image), record["label"], start
        return self._open(self._shard[row])[start : start + self._size[row]], self._label[row]

    def fields(self, row: int) -> dict[str, bytes | int]:
        """All fields of a record, see `records.parse`. Raises: UserError when it is damaged or its file is gone."""
        return self._parsed(row, records.FEATURES)[1]

    def _parsed(self, row: int, fields: Iterable[str]) -> tuple[bytes, dict[str, bytes | int]]:
        try:
            frame = bytes(self._open(self._shard[row])[self._first[row] : self._end[row]])
            return frame, records.parse(records.unframe(frame), fields)
        except (OSError, records.RecordError) as error:
            advice = "see all that is damaged with: python -m crackflow.convert --verify=FOLDER"
            raise UserError(f"{self.name(row)}: {error}; {advice}") from error

    def places(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """(files, int32 [N] which of them holds a row, int64 [N] where it begins there)."""
        return self._files, np.asarray(self._shard, np.int32), np.asarray(self._first, np.int64)

    def name(self, row: int) -> str:
        """Where a row lies, in words."""
        return f"{self._files[self._shard[row]]!r}: record at byte {self._first[row]}"

    def read_ahead(self, first: int, count: int) -> None:
        """Rows `first`, `first` + 1, ... (`count` of them; after the last follows row 0) into the system's cache."""
        pieces = [(first, min(first + count, self.count)), (0, first + count - self.count)]
        threading.Thread(target=self._read, args=(pieces,), daemon=True).start()

    def _read(self, pieces: list[tuple[int, int]]) -> None:
        buffer = bytearray(READ_BYTES)
        for first, last in pieces:
            for shard, rows in itertools.groupby(range(first, last), lambda row: self._shard[row]):
                mine = list(rows)
                try:
                    with open(self._files[shard], "rb", buffering=0) as file:
                        file.seek(self._first[mine[0]])
                        while file.tell() < self._end[mine[-1]] and file.readinto(buffer):
                            pass
                except OSError:
                    return  # whoever fetches the record says so


def _places(made: Dataset, split: str) -> tuple[array.array, array.array, array.array, np.ndarray]:
    """For each row: number of its shard, its first byte there, the byte after its last, and its cells, 0 where an older
    manifest has none."""
    shards = made.facts["splits"][split]["shards"]
    numbers = {shard["file"]: number for number, shard in enumerate(shards)}
    shard_of, first, where = array.array("i"), array.array("q"), array.array("q")
    path = os.path.join(made.folder, dataset.MANIFEST)
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            lines = csv.reader(file)
            column = {name: place for place, name in enumerate(next(lines))}
            shard, offset, bits = column["shard"], column["offset"], column.get("cells")
            for line in lines:
                number = numbers.get(line[shard])
                if number is not None:
                    shard_of.append(number)
                    first.append(int(line[offset]))
                    where.append(0 if bits is None else mask_grid.parse(line[bits]))
    except FileNotFoundError as error:
        raise UserError(f"{path!r} is missing; restore it or convert the images again") from error
    except (csv.Error, StopIteration, KeyError, IndexError, ValueError, OverflowError) as error:
        raise UserError(f"{path!r} is damaged; restore it or convert the images again") from error
    counts = [shard["count"] for shard in shards]
    if len(shard_of) != sum(counts) or not np.array_equal(shard_of, np.repeat(np.arange(len(shards)), counts)):
        raise UserError(
            f"{path!r} does not fit the shards of {dataset.DATASET}; restore it or convert the images again"
        )
    end = np.append(np.asarray(first, np.int64)[1:], 0)
    end[np.cumsum(counts) - 1] = [shard["bytes"] for shard in shards]
    return shard_of, first, array.array("q", end.tobytes()), np.asarray(where, np.int64)
