"""Counts of the evaluated images that the model has seen."""

import numpy as np
import pytest

from crackflow.evaluation import overlap
from crackflow.model.training_images import TRAINED, UNSEEN, VALIDATED, TrainingImages
from tests.helpers import small

DATASET = small.data()


def model(fingerprint="f" * 64, images=None):
    return fingerprint, images


def counted(seen):
    return [int((seen == kind).sum()) for kind in (TRAINED, VALIDATED, UNSEEN)]


def test_the_fingerprint_alone_tells_of_older_models_and_another_data_set_nothing():
    old = model(DATASET.metadata["fingerprint"])
    assert counted(overlap.find_seen(*old, DATASET, ["train", "val", "test"])) == [64, 16, 16]
    assert counted(overlap.find_seen(*old, DATASET, ["test"])) == [0, 0, 16]
    assert overlap.find_seen(*model(), DATASET, ["train"]) is None


def test_files_are_known_again_in_another_conversion_with_another_split():
    known = model(images=TrainingImages.of(DATASET))
    reconverted = small.data("png", 32)
    assert counted(overlap.find_seen(*known, reconverted, ["train", "val", "test"])) == [64, 16, 16]
    assert counted(overlap.find_seen(*known, reconverted, ["test"])) == [0, 0, 16]


def test_a_split_that_chose_the_threshold_has_been_seen():
    assert counted(overlap.find_seen(*model(), DATASET, ["val", "test"], ["val"])) == [0, 16, 16]


def figures(seen):
    labels = np.arange(8) % 2
    probabilities = np.array([0.1, 0.9, 0.1, 0.9, 0.8, 0.2, 0.1, 0.9])
    return overlap.measure(np.array(seen, np.int8), labels, probabilities, np.arange(8), 0.5, 100, 0)


def test_figures_without_the_seen_images_stand_beside():
    measured = figures([TRAINED] * 4 + [UNSEEN] * 4)
    assert (measured["n"], measured["trained_on"], measured["validated_on"]) == (8, 4, 0)
    assert measured["without"]["accuracy"] == 0.5 and measured["without"]["n"] == 4
    words = overlap.in_words(measured)
    assert words.startswith(
        "4 of 8 images were in the model's training data (4 trained on): these figures are no test;"
    )
    assert "without them: accuracy 0.5000 [" in words and "of 4, missed cracks 1, false alarms 1" in words


ALL = "8 of 8 images were in the model's training data (8 trained on): these figures are no test, and no image is left"


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ([UNSEEN] * 8, ""),
        ([TRAINED] * 8, f"{ALL} without them"),
        ([TRAINED] * 2 + [VALIDATED] * 6, "(2 trained on, 6 on which epoch, temperature or threshold were chosen)"),
    ],
)
def test_nothing_is_said_of_unseen_images_and_where_all_are_seen_that_none_is_left(seen, words):
    measured = figures(seen)
    assert words in overlap.in_words(measured) and bool(words) == bool(overlap.in_words(measured))
    assert measured["without"] is None
    assert overlap.measure(None, *[None] * 6) == {} and overlap.in_words({}) == ""


def test_what_is_left_may_be_of_one_class():
    measured = figures([TRAINED] * 7 + [UNSEEN])
    assert measured["without"]["roc_auc"] is None and "of 1, missed cracks 0" in overlap.in_words(measured)
