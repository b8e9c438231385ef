import dataclasses

import numpy as np
import pytest

from crackflow.core.config.threshold import ThresholdRule
from crackflow.evaluation import adaptation, cross_validation
from crackflow.evaluation.adaptation import Outcome, Windows
from tests.helpers import cards

CARD = dataclasses.replace(cards.CARD, threshold=0.5, temperature=1.0)


class Tuner:
    """Scores by the first pixel: as it is, wrongly; after a fit to any windows as `adapted` says."""

    def __init__(self, as_is, adapted):
        self.as_is, self.adapted, self.is_adapted, self.fits = as_is, adapted, False, []

    def restore(self):
        self.is_adapted = False

    def fit(self, images, labels, seed):
        self.is_adapted = True
        self.fits.append((images[:, 0, 0, 0].tolist(), seed))

    def scores(self, images):
        values = images[:, 0, 0, 0].astype(float)
        return (self.adapted if self.is_adapted else self.as_is)(values).astype(np.float32)


def windows(count=20):
    """Window k has k in its pixels and is cracked if k is odd."""
    numbers = np.arange(count)
    images = np.zeros((count, 2, 2, 1), np.uint8) + numbers[:, None, None, None].astype(np.uint8)
    return Windows(images, numbers % 2, numbers, [f"{number}.jpg" for number in numbers])


def always(value):
    return lambda values: np.full(len(values), value)


def right(values):
    return np.where(values % 2 == 1, 3.0, -3.0)


def trial(as_is, adapted, count=20, folds=5):
    tuner = Tuner(as_is, adapted)
    return tuner, adaptation.cross_validate(CARD, tuner, windows(count), folds, 0)


def of_class(label):
    """The cross-validation of windows of one class."""
    one = windows()
    one = dataclasses.replace(one, labels=np.full(20, label))
    images = np.zeros((20, 32, 32, 3), np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None, None]
    return adaptation.cross_validate(CARD, Tuner(right, right), dataclasses.replace(one, images=images), 2, 0)


def test_no_window_is_scored_by_weights_that_were_fitted_to_it():
    tuner, _ = trial(always(3.0), right)
    assert len(tuner.fits) == 5 and len({seed for _, seed in tuner.fits}) == 5
    fitted = [set(numbers) for numbers, _ in tuner.fits]
    assert all(len(numbers) == 16 for numbers in fitted)
    assert set.union(*({*range(20)} - numbers for numbers in fitted)) == {*range(20)}
    assert not tuner.is_adapted


def test_an_adaptation_that_helps_is_chosen_and_its_estimates_are_honest():
    _, result = trial(always(3.0), right)
    assert result.before.value == 0.5 and result.after.value == 1 and result.after.low < 0.95
    assert adaptation.choose(result) is Outcome.WEIGHTS


def test_the_delivered_weights_have_seen_more_than_those_of_a_fold():
    def mostly(values):
        return np.where(values % 10 == 0, -right(values), right(values))

    _, result = trial(always(3.0), mostly, count=40)
    decided = result.after_margins >= 0
    of_folds = cross_validation.balanced_accuracy(result.labels, decided, result.groups)
    assert result.folds == 5 and of_folds.high < 1
    assert result.after == of_folds.of_all_folds(5)
    recall = adaptation.content(result, Outcome.WEIGHTS, {})["recall"]
    own = result.labels == 1
    of_folds = cross_validation.rate(decided[own], result.groups[own])
    assert recall["after"]["high"] == of_folds.of_all_folds(5).high
    assert recall["before"]["high"] == cross_validation.rate(result.before_margins[own] >= 0, result.groups[own]).high


def test_one_that_does_not_help_leaves_the_model_as_it_is():
    _, result = trial(right, always(3.0))
    assert adaptation.choose(result) is Outcome.NOTHING and result.p_after == 1
    _, same = trial(right, right)
    assert adaptation.choose(same) is Outcome.NOTHING


def test_the_threshold_moves_where_that_alone_is_better():
    def shifted(values):
        return right(values) + 5

    _, result = trial(shifted, always(3.0), count=40)
    assert result.before.value == 0.5 and result.moved.value == 1
    assert adaptation.choose(result) is Outcome.THRESHOLD
    moved = adaptation.moved_threshold(CARD, result.labels, result.before_margins)
    assert 1 / (1 + np.exp(-2)) < moved < 1 / (1 + np.exp(-8))


def test_windows_of_one_photograph_only_cannot_be_cross_validated():
    few = Windows(np.zeros((4, 2, 2, 1), np.uint8), np.array([0, 0, 1, 1]), np.array([1, 1, 2, 2]), ["a"] * 4)
    with pytest.raises(ValueError, match="expected two groups of each class or more"):
        adaptation.cross_validate(CARD, Tuner(right, right), few, 5, 0)


def test_what_was_computed_before_is_recalled():
    tuner = Tuner(always(3.0), right)
    asked = []

    def recall(number, compute):
        asked.append(number)
        return compute() if number else np.full(4, -1.0)

    result = adaptation.cross_validate(CARD, tuner, windows(), 5, 0, recall_fold=recall)
    assert asked == [0, 1, 2, 3, 4] and len(tuner.fits) == 4
    assert (result.after_logits == -1).sum() == 4


def test_the_pictures_that_are_remembered_are_the_same_on_every_call():
    images, labels = adaptation.remembered(32, 1)
    assert images.shape == (200, 32, 32, 1) and labels.sum() == 100
    np.testing.assert_array_equal(images[:20], adaptation.remembered(32, 1)[0][:20])


def test_metrics_say_what_changed():
    _, result = trial(always(3.0), right)
    content = adaptation.content(result, Outcome.WEIGHTS, {"clean": 10})
    assert content["changed"] == "weights" and content["clean"] == 10 and content["before"]["value"] == 0.5
    for name, before in (("recall", 1), ("specificity", 0)):
        assert [content[name][state]["value"] for state in ("before", "after")] == [before, 1]
    assert "recall" not in adaptation.content(of_class(0), Outcome.WEIGHTS, {})
    assert ThresholdRule.parse("youden") == adaptation.BALANCED


@pytest.mark.parametrize(("rule", "threshold"), [("f1", 0.5), ("youden", 0.5), ("cost:19", 0.05), ("bayes:4", 0.2)])
def test_adapted_weights_decide_by_the_rule_of_their_model_whatever_the_shares_are(rule, threshold):
    random, labels = np.random.default_rng(0), np.repeat([0, 1], [90, 10])
    card = dataclasses.replace(CARD, threshold_rule=rule, threshold=0.9)
    calibration = adaptation.calibrate(card, labels, random.normal(6 * labels - 5, 1.5))
    assert calibration.threshold == pytest.approx(threshold)
    assert calibration.margins(np.array([-2.0])) + np.log(threshold / (1 - threshold)) == pytest.approx(0, abs=0.8)


def test_adapted_weights_find_the_share_of_cracks_that_their_model_was_to_find():
    labels, logits = np.arange(40) % 2, np.arange(40.0)
    card = dataclasses.replace(CARD, threshold_rule="recall:0.75")
    margins = adaptation.calibrate(card, labels, logits).margins(logits)
    assert (margins[labels == 1] >= 0).sum() == 15


def test_windows_of_one_class_move_no_threshold_and_no_temperature():
    card = dataclasses.replace(CARD, threshold=0.3, temperature=1.7)
    clean, logits = np.zeros(5, int), np.linspace(-3, 3, 5)
    assert adaptation.calibrate(card, clean, logits) == (1.7, 0.0, 0.3)
    assert adaptation.moved_threshold(card, clean, logits) == 0.3


def test_a_threshold_moves_between_the_classes_unless_the_rule_is_another():
    labels = np.repeat([0, 1], 10)
    card = dataclasses.replace(CARD, threshold=0.2)
    moved = adaptation.moved_threshold(card, labels, np.where(labels, 0.0, -4.0))
    assert moved == pytest.approx(1 / (1 + np.exp(2)), abs=1e-3)
    for rule in ("recall:0.99", "cost:20", "bayes:3"):  # which do not count both classes alike
        kept = dataclasses.replace(card, threshold_rule=rule)
        assert adaptation.moved_threshold(kept, labels, np.where(labels, 0.0, -4.0)) == 0.2


def test_cracks_are_drawn_onto_the_windows_of_the_fold_where_there_are_none():
    fitted = []

    class Noting(Tuner):
        def fit(self, images, labels, seed):
            fitted.append((images, labels))
            super().fit(images, labels, seed)

    walls = np.stack([np.full((32, 32, 3), 60 + 10 * number, np.uint8) for number in range(12)])
    clean = Windows(walls, np.zeros(12, int), np.arange(12), [""] * 12)
    adaptation.cross_validate(CARD, Noting(right, right), clean, 3, 0)
    for images, labels in fitted:
        own = {int(image[0, 0, 0]) for image in images[labels == 0]}
        drawn = images[labels == 1]
        assert len(own) == 8 and len(drawn) == adaptation.STAND_INS
        shades = np.array([np.bincount(image.ravel(), minlength=256) for image in drawn])
        grounds = [level for level in range(60, 180, 10) if shades[:, level].max() > 1000]  # of 3,072 values
        assert len(grounds) >= 6 and set(grounds) <= own


@pytest.mark.parametrize("missing", [0, 1])
def test_synthetic_pictures_stand_in_for_what_can_not_be_drawn_onto_the_windows(missing):
    black = np.zeros((3, 32, 32, 1), np.uint8)  # no crack would be seen on them
    first, again = (adaptation.stand_ins(black, missing) for _ in range(2))
    assert first.shape == (adaptation.STAND_INS, 32, 32, 1) and first.max() > 50
    np.testing.assert_array_equal(first, again)
