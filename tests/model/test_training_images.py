"""The record of the images that a model has seen."""

import dataclasses

import h5py
import numpy as np
import pytest

from crackflow.data import digests
from crackflow.model import training_images
from crackflow.model.training_images import TRAINED, UNSEEN, VALIDATED, TrainingImages
from tests.helpers import small


def random_digests(seed, count):
    return np.random.default_rng(seed).integers(0, 256, (count, 32), np.uint8)


def training_images_of(trained, validated):
    cut = training_images.BYTES
    return TrainingImages(np.unique(trained[:, :cut], axis=0), np.unique(validated[:, :cut], axis=0))


def test_images_of_a_data_set_are_known_again_by_split():
    dataset = small.data()
    seen = TrainingImages.of(dataset)
    for split, expected in (("train", TRAINED), ("val", VALIDATED), ("test", UNSEEN)):
        for converted in (dataset, small.data("png", 32)):  # the same files in another conversion, split alike
            assert set(seen.look_up(digests.load(converted, split)).tolist()) == {expected}
    assert len(seen.trained) == dataset.count("train") and len(seen.validated) == dataset.count("val")


def test_training_counts_before_validation_and_other_images_are_told_apart():
    seen_digests, unseen_digests = random_digests(1, 5), random_digests(2, 100_000)
    seen = training_images_of(seen_digests, seen_digests).look_up(np.concatenate([seen_digests, unseen_digests]))
    assert (seen[:5] == TRAINED).all() and not seen[5:].any()
    assert training_images_of(seen_digests, seen_digests).look_up(np.zeros((0, 32), np.uint8)).shape == (0,)


def test_what_a_model_began_with_has_trained_it_as_well():
    old, new = (
        training_images_of(random_digests(1, 3), random_digests(2, 2)),
        training_images_of(random_digests(3, 4), random_digests(4, 2)),
    )
    both = new.and_earlier(old)
    assert (
        both.look_up(np.concatenate([random_digests(1, 3), random_digests(2, 2), random_digests(3, 4)])) == TRAINED
    ).all()
    assert (both.look_up(random_digests(4, 2)) == VALIDATED).all()
    assert new.and_earlier(None) is new


def test_five_bytes_an_image_are_written_and_read(tmp_path):
    seen = training_images_of(random_digests(1, 1000), random_digests(2, 100))
    with h5py.File(tmp_path / "m.h5", "w") as file:
        assert TrainingImages.read(file) is None
        seen.write(file)
    assert (tmp_path / "m.h5").stat().st_size < 5 * 1100 + 5000
    with h5py.File(tmp_path / "m.h5") as file:
        back = TrainingImages.read(file)
    for field in dataclasses.fields(seen):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(seen, field.name))


@pytest.mark.parametrize(
    "damaged", [np.zeros((4, 3), np.uint8), np.zeros(4, np.uint8), np.zeros((4, 5), np.float32), None]
)
def test_a_list_of_another_form_is_damage(tmp_path, damaged):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        group = file.create_group(training_images.GROUP)
        group["trained"] = np.zeros((2, 5), np.uint8)
        if damaged is not None:
            group["validated"] = damaged
        with pytest.raises(ValueError, match="its list of training images is damaged"):
            TrainingImages.read(file)
