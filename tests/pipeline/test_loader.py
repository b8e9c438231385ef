import collections
import shutil

import numpy as np
import pytest

from crackflow.core import runtime
from crackflow.core.config.training import Input
from crackflow.data import dataset as dataset_io
from crackflow.pipeline import loader, memmap_loader
from crackflow.pipeline.batch_spec import BatchSpec
from tests.helpers import small

PX, BATCH = 24, 16
Usage = collections.namedtuple("Usage", "total used free")


@pytest.fixture
def dataset(tmp_path):
    shutil.copytree(small.data().folder, tmp_path / "data", ignore=shutil.ignore_patterns("packs"))
    return dataset_io.load(str(tmp_path / "data"))


def create_loader(requested, dataset):
    return loader.create_loader(requested, dataset, BatchSpec(BATCH, PX, 3))


def test_the_pack_is_chosen_where_there_is_room_and_says_how_much(dataset):
    assert loader.choose_input(Input.AUTO, dataset, PX, 3).value == "pack"
    assert "GB free on the disk" in loader.choose_input(Input.AUTO, dataset, PX, 3).reason


def test_a_pack_that_was_made_before_needs_no_room(dataset, monkeypatch):
    create_loader(Input.PACK, dataset)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10, 10, 0))
    choice = loader.choose_input(Input.AUTO, dataset, PX, 3)
    assert choice.value == "pack" and choice.reason.endswith("made before")


def test_the_stream_is_chosen_if_the_pack_takes_more_than_half_of_the_free_disk(dataset, monkeypatch):
    size = sum(memmap_loader.nbytes(dataset, split, PX, 3) for split in loader.SPLITS)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10 * size, 0, 2 * size - 1))
    choice = loader.choose_input(Input.AUTO, dataset, PX, 3)
    assert choice.value == "stream" and "more than half of the" in choice.reason
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10 * size, 0, 2 * size))
    assert loader.choose_input(Input.AUTO, dataset, PX, 3).value == "pack"


def test_the_stream_is_chosen_when_memory_can_not_map_the_pack(dataset, monkeypatch):
    monkeypatch.setattr(runtime, "memory_bytes", lambda: 1000)
    choice = loader.choose_input(Input.AUTO, dataset, PX, 3)
    assert choice.value == "stream" and "of memory that map it" in choice.reason


def test_the_stream_is_chosen_when_the_folder_can_not_be_written(dataset, monkeypatch):
    monkeypatch.setattr(loader.os, "access", lambda *_: False)
    choice = loader.choose_input(Input.AUTO, dataset, PX, 3)
    assert choice.value == "stream" and "can't be written" in choice.reason


@pytest.mark.parametrize("requested", [Input.STREAM, Input.PACK, Input.SYNTHETIC])
def test_what_is_asked_for_is_given_with_one_form_of_batches(dataset, requested):
    feed = create_loader(requested, dataset)
    assert feed.choice == (requested.value, "asked for")
    image, label = next(feed.train().as_numpy_iterator())
    assert (image.shape, image.dtype, label.shape, label.dtype) == ((BATCH, PX, PX, 3), np.uint8, (BATCH,), np.int32)
    weights = np.concatenate([weight for _, _, weight in feed.val().as_numpy_iterator()])
    assert weights.sum() == dataset.count("val")


def test_pack_and_stream_hold_the_same_pictures(dataset):
    def pictures(requested):
        batches = create_loader(requested, dataset).train().take(dataset.count("train") // BATCH)
        return {
            picture.tobytes(): label
            for x, y in batches.as_numpy_iterator()
            for picture, label in zip(x, y, strict=True)
        }

    assert pictures(Input.PACK) == pictures(Input.STREAM)
    assert len(pictures(Input.PACK)) == dataset.count("train")


def test_a_full_disk_falls_back_to_the_stream_with_a_warning(dataset, monkeypatch, capfd):
    def full(file, data, crc):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(memmap_loader, "_write_block", full)
    feed = create_loader(Input.AUTO, dataset)
    assert feed.choice == ("stream", "the pack can't be written: No space left on device")
    assert (
        "warning: the pack can't be written: No space left on device; decoding as it trains" in capfd.readouterr().err
    )
    assert next(feed.train().as_numpy_iterator())[0].shape == (BATCH, PX, PX, 3)


def test_synthetic_batches_are_the_same_for_the_same_seed_and_others_for_another():
    first, again, different = (
        [image.tobytes() for image, _ in loader.synthetic_batches(BatchSpec(4, 8, 1, seed)).take(3).as_numpy_iterator()]
        for seed in (0, 0, 1)
    )
    assert first == again and not set(first) & set(different)
