"""Tests each threshold rule against trying all thresholds, the temperature against the true one, and the abstention
band against counting."""

import itertools
import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from crackflow.core.config.threshold import ThresholdRule
from crackflow.evaluation import metrics, thresholds
from crackflow.inference import photo_threshold
from tests.helpers.scores import FEW, ROWS, columns, sample


@FEW
@given(ROWS)
def test_the_threshold_is_as_good_as_any_and_the_nearest_to_one_half(rows):
    labels, probabilities, _ = columns(rows)
    if labels.all() or not labels.any():
        assert thresholds.choose_threshold(labels, probabilities) == 0.5
        return
    scores = sorted({0.0, 1.0, *probabilities.tolist()})
    candidates = {min(max(low + (high - low) / 2, 0.01), 0.99) for low, high in itertools.pairwise(scores)}

    def f1(threshold):
        return sklearn.metrics.f1_score(labels, probabilities >= threshold, zero_division=0)

    threshold = thresholds.choose_threshold(labels, probabilities)
    best = max(map(f1, candidates | set(np.clip(scores, 0.01, 0.99))))
    assert f1(threshold) == pytest.approx(best)
    assert (
        abs(threshold - 0.5)
        <= min(abs(candidate - 0.5) for candidate in candidates if f1(candidate) > best - 1e-12) + 1e-12
    )


def test_the_threshold_lies_halfway_between_the_classes():
    assert thresholds.choose_threshold([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9]) == pytest.approx(0.4)


def test_the_threshold_parts_scores_that_are_neighbours_among_floats():
    low = 0.3
    high = np.nextafter(low, 1)
    threshold = thresholds.choose_threshold([0, 1], [low, high])
    assert low < threshold <= high


def test_the_threshold_stays_off_the_ends():
    assert thresholds.choose_threshold([0, 1], [0.001, 0.012]) == 0.01
    assert thresholds.choose_threshold([0, 1], [0.985, 1.0]) == 0.99


@FEW
@given(ROWS, st.sampled_from(["youden", "recall:0.5", "recall:0.99", "recall:1", "cost:0.1", "cost:20"]))
def test_no_threshold_serves_a_rule_better(rows, rule):
    labels, probabilities, _ = columns(rows)
    if labels.all() or not labels.any():
        return
    name, _, number = rule.partition(":")

    def loss(threshold):
        called = probabilities >= threshold
        missed, alarms = (labels & ~called).sum(), (~labels & called).sum()
        if name == "youden":
            return missed / labels.sum() + alarms / (~labels).sum()
        if name == "cost":
            return float(number) * missed + alarms
        return alarms if missed <= (1 - float(number)) * labels.sum() + 1e-9 else math.inf

    best = min(map(loss, np.unique(np.clip([0.0, 1.0, *probabilities], 0.01, 0.99))))
    assert loss(thresholds.choose_threshold(labels, probabilities, ThresholdRule.parse(rule))) <= best + 1e-9


def test_a_recall_that_no_threshold_reaches_takes_the_lowest():
    assert thresholds.choose_threshold([1, 0, 1], [0.001, 0.5, 0.9], ThresholdRule.parse("recall:0.9")) == 0.01


@given(ROWS, st.floats(1e-3, 1e3))
def test_bayes_asks_the_cost_alone(rows, cost):
    labels, probabilities, _ = columns(rows)
    expected = min(max(1 / (1 + cost), 0.01), 0.99)
    assert thresholds.choose_threshold(labels, probabilities, ThresholdRule.parse(f"bayes:{cost}")) == pytest.approx(
        expected
    )


def test_with_true_probabilities_bayes_costs_as_little_as_the_best_for_these_images():
    generator = np.random.default_rng(0)
    probabilities = generator.random(100_000)
    labels = generator.random(100_000) < probabilities

    def paid(rule):
        called = probabilities >= thresholds.choose_threshold(labels, probabilities, ThresholdRule.parse(rule))
        return 4 * (labels & ~called).sum() + (~labels & called).sum()

    assert paid("cost:4") <= paid("bayes:4") <= 1.01 * paid("cost:4")


def test_a_dearer_miss_lowers_the_threshold():
    labels, probabilities, _ = sample(400)
    by_cost = [
        thresholds.choose_threshold(labels, probabilities, ThresholdRule.parse(f"cost:{cost}"))
        for cost in (0.1, 1, 10, 100)
    ]
    assert by_cost == sorted(by_cost, reverse=True) and by_cost[0] > by_cost[-1] + 0.3


@pytest.mark.parametrize("true", [0.3, 1.0, 3.0])
def test_the_temperature_that_made_the_logits_is_found(true):
    generator = np.random.default_rng(0)
    honest = generator.normal(0, 2, 50_000)
    labels = generator.random(50_000) < expit(honest)
    assert thresholds.fit_temperature(labels, true * honest) == pytest.approx(true, rel=0.05)


def test_the_temperature_mends_the_calibration_and_no_decision():
    labels, probabilities, _ = sample(4000)
    logits = 9 * (probabilities - 0.5)
    warm = expit(logits / thresholds.fit_temperature(labels, logits))
    assert metrics.calibration_error(labels, warm) < metrics.calibration_error(labels, expit(logits)) / 1.5
    assert ((warm >= 0.5) == (logits >= 0)).all()


def test_logits_without_a_mistake_keep_a_temperature_that_leaves_room_for_one():
    logits = np.array([-9.0, -8.0, 8.0, 9.0])
    temperature = thresholds.fit_temperature(logits > 0, logits)
    assert expit(8.5 / temperature) == pytest.approx(3 / 4, abs=0.02)  # Platt's target for two of a class


def test_one_class_alone_leaves_the_temperature():
    assert thresholds.fit_temperature([1, 1], [0.5, 3.0]) == 1.0


@pytest.mark.parametrize(("labels", "logits"), [([0, 1], [0.5]), ([0, 1], [0.5, math.nan]), ([[0]], [[1.0]])])
def test_the_temperature_needs_a_finite_logit_for_each_label(labels, logits):
    with pytest.raises(ValueError, match=r"fit_temperature: expected finite logits \[N\] and as many labels"):
        thresholds.fit_temperature(labels, logits)


@FEW
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60, unique=True), st.floats(0.01, 0.99), st.floats(0, 0.9))
def test_the_band_holds_the_share_and_those_nearest_to_the_threshold(probabilities, threshold, share):
    probabilities = np.array(probabilities)
    band = thresholds.abstention_band(probabilities, threshold, share)
    assert band[0] <= threshold <= band[1]
    abstained = photo_threshold.abstains(probabilities, band)
    assert abstained.sum() <= math.floor(share * len(probabilities) + 1e-9) + 1  # one may lie on the edge


def test_the_band_of_evenly_spread_scores_is_the_share():
    probabilities = expit(np.linspace(-5, 5, 1001))
    abstained = photo_threshold.abstains(probabilities, thresholds.abstention_band(probabilities, 0.5, 0.1))
    assert abstained.sum() == pytest.approx(100, abs=1)
    assert np.abs(probabilities[abstained] - 0.5).max() <= np.abs(probabilities[~abstained] - 0.5).min() + 1e-12


def test_no_share_is_no_band():
    band = thresholds.abstention_band(np.array([0.4, 0.5, 0.6]), 0.5, 0.0)
    assert band == (0.5, 0.5) and not photo_threshold.abstains([0.4, 0.5, 0.6], band).any()


def test_coverage_ends_with_the_error_of_all_and_begins_with_the_surest():
    labels, probabilities, _ = sample(500)
    covered, error = thresholds.coverage(labels, probabilities, 0.5)
    assert covered[-1] == 1 and error[-1] == pytest.approx(((probabilities >= 0.5) != labels).mean())
    assert error[:50].mean() < error[-1]
    sure = np.argmax(np.abs(probabilities - 0.5))
    assert error[0] == float((probabilities[sure] >= 0.5) != labels[sure])


def test_suspects_are_the_wrong_labels_and_hardly_any_other():
    labels, probabilities, _ = sample(600, spread=0.1)
    wrong = np.random.default_rng(1).choice(600, 12, replace=False)
    labels[wrong] = ~labels[wrong]
    suspects = thresholds.label_issues(labels, probabilities, 12)
    assert len(suspects) >= 6 and set(suspects.tolist()) <= set(wrong.tolist())
    assert set(thresholds.label_issues(labels, probabilities, 3)) <= set(suspects)


def test_without_both_classes_nothing_is_suspected():
    assert thresholds.label_issues([1, 1], [0.1, 0.9], 5).tolist() == []


@pytest.mark.parametrize("use", [thresholds.choose_threshold, lambda *of: thresholds.coverage(*of, 0.5)])
def test_what_is_no_probability_is_refused(use):
    with pytest.raises(ValueError, match="expected probabilities from 0 to 1, received 1.5"):
        use([0, 1], [0.5, 1.5])
    with pytest.raises(ValueError, match="suspects: expected labels 0 or 1"):
        thresholds.label_issues([0, 3], [0.5, 0.5], 1)


def test_rules_that_measure_choose_by_both_classes():
    both, single_class = np.array([0, 1]), np.array([1, 1])
    for rule in map(ThresholdRule.parse, ("f1", "youden", "recall:0.9", "cost:3")):
        assert thresholds.can_choose(both, rule) and not thresholds.can_choose(single_class, rule)
    assert thresholds.can_choose(single_class, ThresholdRule.parse("bayes:2"))


@pytest.mark.parametrize("rule, expected", [("f1", 0.5), ("youden", 0.5), ("cost:4", 0.2)])
def test_a_threshold_of_few_images_is_moved_to_what_the_rule_expects(rule, expected):
    rule = ThresholdRule.parse(rule)
    assert thresholds.shrunk(0.9, rule, 50) == thresholds.shrunk(0.9, rule, 500) == pytest.approx(0.9)
    assert thresholds.shrunk(0.9, rule, 0) == pytest.approx(expected)
    moved = [thresholds.shrunk(0.9, rule, images) for images in range(0, 51, 10)]
    assert moved == sorted(moved) and len(set(moved)) == 6


def test_a_threshold_for_a_recall_stays_where_it_was_chosen():
    assert thresholds.shrunk(0.03, ThresholdRule.parse("recall:0.99"), 4) == 0.03


def shifted_logits(seed, by, cracked=60, clean=60):
    random = np.random.default_rng(seed)
    labels = np.repeat([1, 0], [cracked, clean])
    return labels, random.normal(np.where(labels == 1, 2.0, -2.0), 1.5) + by


@pytest.mark.parametrize("by", [-3.0, 0.0, 2.5])
def test_the_bias_of_a_sigmoid_undoes_a_shift_of_all_logits(by):
    labels, logits = shifted_logits(0, by, cracked=400, clean=400)
    temperature, bias = thresholds.fit_sigmoid(labels, logits)
    assert -bias * temperature == pytest.approx(by, abs=0.3)


def test_a_sigmoid_of_the_other_class_is_the_same_from_behind():
    labels, logits = shifted_logits(1, 1.0)
    temperature, bias = thresholds.fit_sigmoid(labels, logits)
    other_temperature, other_bias = thresholds.fit_sigmoid(1 - labels, -logits)
    assert (other_temperature, other_bias) == pytest.approx((temperature, -bias), rel=1e-3, abs=1e-3)


def test_a_sigmoid_weighs_both_classes_alike():
    """Six times as many clean images of the same kind leave the threshold where it was."""
    even, uneven = (thresholds.fit_sigmoid(*shifted_logits(2, 1.0, 400, clean)) for clean in (400, 2400))
    assert even == pytest.approx(uneven, rel=0.2, abs=0.15)


def test_a_sigmoid_of_one_class_or_of_perfect_logits_stays_within_bounds():
    assert thresholds.fit_sigmoid(np.ones(5), np.arange(5.0)) == (1.0, 0.0)
    temperature, bias = thresholds.fit_sigmoid(np.repeat([0, 1], 20), np.repeat([-900.0, 900.0], 20))
    assert 0.05 <= temperature <= 20 and abs(bias) <= 4.6
    assert 0.01 <= expit(-bias) <= 0.99


def test_a_sigmoid_is_refused_logits_that_are_not_finite_or_not_as_many():
    for labels, logits in (([0, 1], [0.5, np.nan]), ([0, 1, 1], [0.5, 1.0])):
        with pytest.raises(ValueError, match=r"fit_sigmoid: expected finite logits \[N\] and as many labels"):
            thresholds.fit_sigmoid(labels, logits)
