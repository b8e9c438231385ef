import os
import pathlib
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

from crackflow.core import csv_files
from crackflow.core.errors import UserError
from crackflow.data import dataset as dataset_io
from crackflow.data import mask_grid, records
from crackflow.data.record_reader import RecordReader
from tests.helpers import small


@pytest.fixture
def dataset(tmp_path):
    shutil.copytree(small.data().folder, tmp_path / "data", ignore=shutil.ignore_patterns("packs"))
    return dataset_io.load(str(tmp_path / "data"))


def read_in_order(dataset, split):
    """Yields every record as a reader of whole files sees it."""
    for name in dataset.files(split):
        with open(name, "rb") as file:
            yield from (records.parse(payload) for _, payload in records.read(file))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_rows_are_the_records_of_the_shards_one_after_the_other(dataset, split):
    rows, expected = RecordReader(dataset, split), list(read_in_order(dataset, split))
    assert rows.count == len(expected)
    assert [rows.fields(row) for row in range(rows.count)] == expected
    for _ in range(2):  # parsed, then remembered
        fetched = [rows.fetch(row) for row in reversed(range(rows.count))][::-1]
        assert [(bytes(data), label) for data, label in fetched] == [
            (record["image"], record["label"]) for record in expected
        ]


def test_cells_are_those_of_the_masks(dataset):
    rows = RecordReader(dataset, "train")
    for row in range(rows.count):
        name = pathlib.PurePath(os.fsdecode(rows.fields(row)["path"])).stem
        mask = small.images() / "masks" / f"{name}.png"
        expected = mask_grid.from_mask(np.asarray(Image.open(mask)) > 127) if mask.exists() else 0
        assert int(rows.mask_bits[row]) % 2**64 == expected
        assert bool(expected) == bool(rows.fields(row)["label"])


def test_a_manifest_of_an_older_version_has_no_cells(dataset):
    path = os.path.join(dataset.folder, dataset_io.MANIFEST)
    rows_left = [{key: value for key, value in row.items() if key != "cells"} for row in csv_files.read(path)]
    csv_files.save(path, rows_left[0], (row.values() for row in rows_left))
    rows = RecordReader(dataset, "train")
    assert rows.count == dataset.count("train") and not rows.mask_bits.any()


def test_few_open_files_are_enough(dataset, monkeypatch):
    monkeypatch.setattr("crackflow.data.record_reader.OPEN_FILES", 1)
    rows, expected = RecordReader(dataset, "train"), list(read_in_order(dataset, "train"))
    fetched = {}

    def fetch(worker):
        for row in np.random.default_rng(worker).permutation(rows.count).tolist():
            fetched[worker, row] = bytes(rows.fetch(row)[0])

    threads = [threading.Thread(target=fetch, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(fetched[worker, row] == expected[row]["image"] for worker in range(4) for row in range(rows.count))


def test_reading_ahead_reads_the_rows_and_continues_at_the_first(dataset):
    rows, places = RecordReader(dataset, "train"), []
    seen = threading.Event()

    class Watched(type(rows._files)):
        def __getitem__(self, shard):
            places.append(shard)
            if len(places) == 2:
                seen.set()
            return super().__getitem__(shard)

    rows._files = Watched(rows._files)
    rows.read_ahead(rows.count - 1, 2)
    assert seen.wait(10)
    assert places == [rows._shard[rows.count - 1], 0]


def test_a_truncated_shard_is_a_clear_error(dataset):
    file = dataset.files("train")[0]
    os.truncate(file, 1000)
    with pytest.raises(UserError, match=r"record at byte 0: the file has 1,000 bytes, expected [\d,]+; see all"):
        RecordReader(dataset, "train").fetch(0)


def test_an_empty_shard_is_a_clear_error(dataset):
    os.truncate(dataset.files("train")[0], 0)
    with pytest.raises(UserError, match="record at byte 0: the file has 0 bytes, expected"):
        RecordReader(dataset, "train").fetch(0)


def test_a_shard_that_vanished_is_a_clear_error(dataset):
    rows = RecordReader(dataset, "train")
    os.remove(dataset.files("train")[0])
    with pytest.raises(UserError, match="record at byte 0: .*No such file"):
        rows.fetch(0)


def test_a_flipped_bit_is_a_clear_error(dataset):
    with open(dataset.files("train")[0], "r+b") as file:
        file.seek(300)
        byte = file.read(1)[0]
        file.seek(300)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(UserError, match="record at byte 0: the checksum of its payload does not match"):
        RecordReader(dataset, "train").fetch(0)


def manifest(dataset):
    return os.path.join(dataset.folder, dataset_io.MANIFEST)


def test_a_missing_manifest_is_a_clear_error(dataset):
    os.remove(manifest(dataset))
    with pytest.raises(UserError, match=r"manifest.csv' is missing; restore it or convert the images again"):
        RecordReader(dataset, "train")


@pytest.mark.parametrize("text", ["", "no,columns\n1,2\n", "shard,offset\ntrain-00000-of-00001.tfrecord,x\n"])
def test_a_manifest_that_makes_no_sense_is_a_clear_error(dataset, text):
    with open(manifest(dataset), "w") as file:
        file.write(text)
    with pytest.raises(UserError, match=r"manifest.csv' (is damaged|does not fit the shards of dataset.json)"):
        RecordReader(dataset, "train")


def test_a_manifest_that_lacks_a_row_is_a_clear_error(dataset):
    with open(manifest(dataset)) as file:
        lines = file.readlines()
    rows_left = [line for line in lines if not line.startswith("train-")] + [
        x for x in lines if x.startswith("train-")
    ][1:]
    with open(manifest(dataset), "w") as file:
        file.writelines(rows_left)
    with pytest.raises(UserError, match="does not fit the shards of dataset.json"):
        RecordReader(dataset, "train")


def test_an_empty_split_is_a_clear_error(dataset):
    with pytest.raises(UserError, match="expected images in the split 'nowhere', found none"):
        RecordReader(dataset, "nowhere")
