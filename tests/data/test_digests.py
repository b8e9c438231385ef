"""Digests of the files that the images of a split come from."""

import csv
import json
import os
import shutil

import numpy as np
import pytest

from crackflow.core.errors import UserError
from crackflow.data import dataset as dataset_io
from crackflow.data import digests
from crackflow.pipeline import tfrecord_loader
from tests.helpers import small, support


def test_digests_are_of_the_source_files_in_the_order_of_the_records():
    for dataset in (small.data(), small.data("png", 32)):
        for split in ("train", "val", "test"):
            paths, _ = tfrecord_loader.paths_and_groups(dataset, split)
            expected = [support.sha256(small.images() / path) for path in paths]
            assert [digest.tobytes().hex() for digest in digests.load(dataset, split)] == expected


@pytest.fixture
def copied(tmp_path):
    """Copies of the dataset's tables, which a test may damage."""
    dataset = small.data()
    for name in (dataset_io.DATASET, dataset_io.MANIFEST):
        shutil.copy(os.path.join(dataset.folder, name), tmp_path)
    return tmp_path


def test_a_manifest_without_digests_or_no_manifest_tells_nothing(copied):
    with open(copied / dataset_io.MANIFEST, newline="") as file:
        rows = list(csv.reader(file))
    column = rows[0].index("sha256")
    with open(copied / dataset_io.MANIFEST, "w", newline="") as file:
        csv.writer(file).writerows([row[:column] + row[column + 1 :] for row in rows])
    assert digests.load(dataset_io.read(str(copied)), "val") is None
    os.remove(copied / dataset_io.MANIFEST)
    assert digests.load(dataset_io.read(str(copied)), "val") is None


@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda text: text.replace("a", "x")])
def test_a_damaged_manifest_is_refused_with_its_name(copied, damage):
    text = (copied / dataset_io.MANIFEST).read_text()
    head, body = text.split("\n", 1)
    (copied / dataset_io.MANIFEST).write_text(head + "\n" + damage(body))
    with pytest.raises(UserError, match=r"manifest.csv' (is damaged|does not fit the shards)"):
        for split in ("train", "val", "test"):
            digests.load(dataset_io.read(str(copied)), split)


def test_an_empty_split_has_none(tmp_path):
    support.converted(support.photos(tmp_path / "photos", 24), tmp_path / "data", split=(0.5, 0.5, 0.0))
    assert digests.load(dataset_io.load(str(tmp_path / "data")), "test").shape == (0, digests.BYTES)
    assert json.loads((tmp_path / "data" / dataset_io.DATASET).read_text())["splits"]["test"]["count"] == 0
    assert isinstance(digests.load(dataset_io.load(str(tmp_path / "data")), "val"), np.ndarray)
