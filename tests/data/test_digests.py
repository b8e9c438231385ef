"""Of which files the images of a split are."""

import csv
import json
import os
import shutil

import numpy as np
import pytest

from crackflow.core.errors import UserError
from crackflow.data import dataset, digests
from crackflow.pipeline import stream
from tests import small, support


def test_digests_are_those_of_the_source_files_in_the_order_of_the_records_whatever_the_conversion():
    for made in (small.data(), small.data("png", 32)):
        for split in ("train", "val", "test"):
            paths, _ = stream.paths_and_groups(made, split)
            expected = [support.sha256(small.images() / path) for path in paths]
            assert [one.tobytes().hex() for one in digests.load(made, split)] == expected


@pytest.fixture
def copied(tmp_path):
    """The data set's tables, to be damaged."""
    made = small.data()
    for name in (dataset.DATASET, dataset.MANIFEST):
        shutil.copy(os.path.join(made.folder, name), tmp_path)
    return tmp_path


def test_a_manifest_without_digests_or_no_manifest_tells_nothing(copied):
    with open(copied / dataset.MANIFEST, newline="") as file:
        rows = list(csv.reader(file))
    place = rows[0].index("sha256")
    with open(copied / dataset.MANIFEST, "w", newline="") as file:
        csv.writer(file).writerows([row[:place] + row[place + 1 :] for row in rows])
    assert digests.load(dataset.read(str(copied)), "val") is None
    os.remove(copied / dataset.MANIFEST)
    assert digests.load(dataset.read(str(copied)), "val") is None


@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda text: text.replace("a", "x")])
def test_a_damaged_manifest_is_refused_with_its_name(copied, damage):
    text = (copied / dataset.MANIFEST).read_text()
    head, body = text.split("\n", 1)
    (copied / dataset.MANIFEST).write_text(head + "\n" + damage(body))
    with pytest.raises(UserError, match=r"manifest.csv' (is damaged|does not fit the shards)"):
        for split in ("train", "val", "test"):
            digests.load(dataset.read(str(copied)), split)


def test_an_empty_split_has_none(tmp_path):
    support.made(support.photos(tmp_path / "photos", 24), tmp_path / "data", split=(0.5, 0.5, 0.0))
    assert digests.load(dataset.load(str(tmp_path / "data")), "test").shape == (0, digests.BYTES)
    assert json.loads((tmp_path / "data" / dataset.DATASET).read_text())["splits"]["test"]["count"] == 0
    assert isinstance(digests.load(dataset.load(str(tmp_path / "data")), "val"), np.ndarray)
