"""Random access to the records of a split, by many threads at once.

Synopsis::

    reader = RecordReader(dataset, "train")
    reader.count                        # 8000
    data, label = reader.fetch(7)       # the encoded image as a memoryview, 0 or 1
    reader.fields(7)                    # {"image": b"...", "label": 1, "path": b"...", "group": 3}
    reader.cells                        # int64 [8000], where the cracks lie, in the format of `data.mask_grid`
    reader.read_ahead(0, 4096)          # in the background, so that fetching these waits for no disk

Row n of a split is record n of its shards, one after the other. manifest.csv says where each record begins, so that no
shard is read before it is needed.
"""

import array
import csv
import functools
import itertools
import mmap
import os
import threading
from collections.abc import Iterable
from typing import cast

import numpy as np

from crackflow.core.errors import UserError
from crackflow.data import dataset as dataset_io
from crackflow.data import mask_grid, records
from crackflow.data.dataset import Dataset

OPEN_FILES = 256  # of the 1,024 that most systems grant a process
READ_BYTES = 1 << 20


class RecordReader:
    """The records of `split`. Fetching from several threads is safe; the GIL is free while a thread reads.

    Raises:
        UserError: when the split is empty, or manifest.csv is missing or does not fit the shards.
    """

    def __init__(self, dataset: Dataset, split: str) -> None:
        dataset.require_images(split)
        self.split, self.count = split, dataset.count(split)
        self._bytes = [shard["bytes"] for shard in dataset.metadata["splits"][split]["shards"]]
        self.bytes = sum(self._bytes)
        self._files = dataset.files(split)
        self._shard, self._first, self._end, self.mask_bits = _read_manifest(dataset, split)
        self._start, self._size, self._label = (
            array.array(kind, bytes(8 * self.count))[: self.count] for kind in "qqq"
        )
        self._open = functools.lru_cache(OPEN_FILES)(self._map_shard)

    def _map_shard(self, shard: int) -> memoryview:
        """Maps a shard into memory. pread releases the GIL: with two threads, reacquiring it cost 37 us per record."""
        with open(self._files[shard], "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != self._bytes[shard]:
                raise records.RecordError(f"the file has {size:,} bytes, expected {self._bytes[shard]:,}")
            return memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))

    def fetch(self, row: int) -> tuple[memoryview, int]:
        """Returns the encoded image of a record and its label.

        The first fetch checks and parses the record; later ones know where the image lies.

        Raises:
            UserError: when the record is damaged, or its file is gone.
        """
        start = self._start[row]
        if not start:
            frame, record = self._read_record(row, ("image", "label"))
            image, label = cast(bytes, record["image"]), cast(int, record["label"])
            inside = frame.find(image[:64])  # a search for the whole image compares byte by byte: 17 us
            if frame[inside : inside + len(image)] != image:
                inside = frame.find(image)
            start = self._first[row] + inside
            self._size[row], self._label[row], self._start[row] = len(image), label, start
        return self._open(self._shard[row])[start : start + self._size[row]], self._label[row]

    def fields(self, row: int) -> dict[str, bytes | int]:
        """Returns all fields of a record, see `records.parse`.

        Raises:
            UserError: when the record is damaged or its file is gone.
        """
        return self._read_record(row, records.FEATURES)[1]

    def _read_record(self, row: int, fields: Iterable[str]) -> tuple[bytes, dict[str, bytes | int]]:
        """Returns the bytes of a record and those `fields` of it."""
        try:
            frame = bytes(self._open(self._shard[row])[self._first[row] : self._end[row]])
            return frame, records.parse(records.unframe(frame), fields)
        except (OSError, records.RecordError) as error:
            advice = "see all that is damaged with: python -m crackflow.convert --verify=FOLDER"
            raise UserError(f"{self.name(row)}: {error}; {advice}") from error

    def positions(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Returns (files, int32 [N] index of the file that holds each row, int64 [N] offset of the row in it)."""
        return self._files, np.asarray(self._shard, np.int32), np.asarray(self._first, np.int64)

    def name(self, row: int) -> str:
        """Describes where a row lies, for messages."""
        return f"{self._files[self._shard[row]]!r}: record at byte {self._first[row]}"

    def read_ahead(self, first: int, count: int) -> None:
        """Reads `count` rows from `first` on into the system's cache, in the background; row 0 follows the last row."""
        pieces = [(first, min(first + count, self.count)), (0, first + count - self.count)]
        threading.Thread(target=self._read, args=(pieces,), daemon=True).start()

    def _read(self, pieces: list[tuple[int, int]]) -> None:
        buffer = bytearray(READ_BYTES)
        for first, last in pieces:
            for shard, rows in itertools.groupby(range(first, last), lambda row: self._shard[row]):
                shard_rows = list(rows)
                try:
                    with open(self._files[shard], "rb", buffering=0) as file:
                        file.seek(self._first[shard_rows[0]])
                        while file.tell() < self._end[shard_rows[-1]] and file.readinto(buffer):
                            pass
                except OSError:
                    return  # fetching the record raises the error


def _read_manifest(dataset: Dataset, split: str) -> tuple[array.array, array.array, array.array, np.ndarray]:
    """Returns, for each row: the index of its shard, its first byte there, the byte after its last, and its cells.

    The cells are 0 where an older manifest has none.
    """
    shards = dataset.metadata["splits"][split]["shards"]
    numbers = {shard["file"]: number for number, shard in enumerate(shards)}
    shard_of, first, mask_bits = array.array("i"), array.array("q"), array.array("q")
    path = os.path.join(dataset.folder, dataset_io.MANIFEST)
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            lines = csv.reader(file)
            column = {name: index for index, name in enumerate(next(lines))}
            shard, offset, bits = column["shard"], column["offset"], column.get("cells")
            for line in lines:
                number = numbers.get(line[shard])
                if number is not None:
                    shard_of.append(number)
                    first.append(int(line[offset]))
                    mask_bits.append(0 if bits is None else mask_grid.parse(line[bits]))
    except FileNotFoundError as error:
        raise UserError(f"{path!r} is missing; restore it or convert the images again") from error
    except (csv.Error, StopIteration, KeyError, IndexError, ValueError, OverflowError) as error:
        raise UserError(f"{path!r} is damaged; restore it or convert the images again") from error
    counts = [shard["count"] for shard in shards]
    if len(shard_of) != sum(counts) or not np.array_equal(shard_of, np.repeat(np.arange(len(shards)), counts)):
        raise UserError(
            f"{path!r} does not fit the shards of {dataset_io.DATASET}; restore it or convert the images again"
        )
    end = np.append(np.asarray(first, np.int64)[1:], 0)
    end[np.cumsum(counts) - 1] = [shard["bytes"] for shard in shards]
    return shard_of, first, array.array("q", end.tobytes()), np.asarray(mask_bits, np.int64)
