"""Metrics: point values against scikit-learn, intervals against closed forms and against each other."""

import json
import math
import time

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from crackflow.evaluation import metrics
from tests.helpers.scores import FEW, ROWS, SCORES, columns, sample

KEYS = [*metrics.NAMES, *(f"{name}_ci95" for name in metrics.NAMES), "threshold", "n", "confusion"]


def measure(rows, threshold=0.5, resamples=20):
    return metrics.measure(*columns(rows), threshold, resamples, seed=0)


@FEW
@given(ROWS, SCORES)
def test_the_confusion_counts_every_image_once(rows, threshold):
    labels, probabilities, _ = columns(rows)
    measured = measure(rows, threshold)
    confusion = measured["confusion"]
    assert sum(confusion.values()) == measured["n"] == len(rows)
    assert confusion["tp"] + confusion["fn"] == labels.sum()
    assert confusion["tp"] + confusion["fp"] == (probabilities >= threshold).sum()


@FEW
@given(ROWS, SCORES)
def test_metrics_are_plain_json_without_not_a_number(rows, threshold):
    measured = measure(rows, threshold)
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured
    assert set(measured) == set(KEYS)


@FEW
@given(ROWS, SCORES, st.randoms(use_true_random=False))
def test_the_order_of_the_images_changes_nothing(rows, threshold, random):
    measured, shuffled = measure(rows, threshold), measure(random.sample(rows, len(rows)), threshold)
    assert shuffled.pop("confusion") == measured.pop("confusion")
    for name, value in measured.items():
        assert shuffled[name] == (None if value is None else pytest.approx(value, abs=1e-12))


@FEW
@given(ROWS, SCORES)
def test_point_values_are_those_of_scikit_learn(rows, threshold):
    labels, probabilities, _ = columns(rows)
    decisions = probabilities >= threshold
    expected = {"accuracy": sklearn.metrics.accuracy_score(labels, decisions)}
    if labels.any() and decisions.any():
        expected["precision"] = sklearn.metrics.precision_score(labels, decisions)
        expected["recall"] = sklearn.metrics.recall_score(labels, decisions)
        expected["f1"] = sklearn.metrics.f1_score(labels, decisions)
    if labels.any() and not labels.all():
        expected["balanced_accuracy"] = sklearn.metrics.balanced_accuracy_score(labels, decisions)
        expected["specificity"] = sklearn.metrics.recall_score(labels, decisions, pos_label=0)
        expected["roc_auc"] = sklearn.metrics.roc_auc_score(labels, probabilities)
        expected["pr_auc"] = sklearn.metrics.average_precision_score(labels, probabilities)
        if decisions.any() and not decisions.all():
            expected["mcc"] = sklearn.metrics.matthews_corrcoef(labels, decisions)
    measured = measure(rows, threshold)
    assert {name: measured[name] for name in expected} == pytest.approx(expected)


def test_an_image_exactly_at_the_threshold_is_cracked():
    measured = metrics.measure([1, 0], np.array([0.37, 0.3699999], np.float32), [0, 1], float(np.float32(0.37)), 5, 0)
    assert measured["confusion"] == {"tn": 1, "fp": 0, "fn": 0, "tp": 1}


def test_without_cracked_images_recall_and_the_areas_are_undefined():
    measured = metrics.measure([0, 0, 0], [0.1, 0.9, 0.2], [0, 1, 2], 0.5, 10, 0)
    undefined = ("recall", "recall_ci95", "roc_auc", "roc_auc_ci95", "pr_auc", "mcc", "balanced_accuracy")
    assert [measured[name] for name in undefined] == [None] * len(undefined)
    assert measured["precision"] == 0 and measured["f1"] == 0 and measured["specificity"] == pytest.approx(2 / 3)


def test_without_a_predicted_positive_precision_is_undefined_and_f1_is_zero():
    measured = metrics.measure([0, 1], [0.1, 0.2], [0, 1], 0.5, 10, 0)
    assert measured["precision"] is None and measured["precision_ci95"] is None and measured["mcc"] is None
    assert measured["f1"] == 0 and measured["recall"] == 0


def test_where_nothing_is_or_is_called_cracked_f1_is_undefined():
    measured = metrics.measure([0, 0], [0.1, 0.2], [0, 1], 0.5, 10, 0)
    assert measured["f1"] is None and measured["f1_ci95"] is None


@given(st.integers(0, 400), st.integers(0, 400))
def test_wilson_is_where_the_score_test_has_its_critical_value(successes, failures):
    trials = successes + failures
    low, high = metrics.wilson(successes, trials)
    if not trials:
        assert (low, high) == (0, 1)
        return
    share = successes / trials
    assert 0 <= low <= share <= high <= 1
    for bound in {low, high} - {0.0, 1.0}:
        score = abs(share - bound) / math.sqrt(bound * (1 - bound) / trials)
        assert score == pytest.approx(stats.norm.ppf(0.975), abs=1e-6)


def test_wilson_agrees_with_scipy():
    for successes, trials in ((994, 1000), (0, 10), (10, 10), (3, 7)):
        expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
        assert metrics.wilson(successes, trials) == pytest.approx(tuple(expected))


def test_wilson_holds_the_value_itself_at_both_ends():
    for trials in range(1, 100):
        assert metrics.wilson(0, trials)[0] == 0 and metrics.wilson(trials, trials)[1] == 1


def test_wilson_holds_the_truth_in_about_95_of_100_draws():
    truth, trials = 0.97, 200
    covered = 0.0
    for successes in range(trials + 1):
        low, high = metrics.wilson(successes, trials)
        covered += stats.binom.pmf(successes, trials, truth) * (low <= truth <= high)
    assert 0.92 < covered < 0.98


def test_wilson_refuses_more_successes_than_trials():
    with pytest.raises(ValueError, match="expected 0 <= successes <= trials, received 5 of 4"):
        metrics.wilson(5, 4)


@FEW
@given(ROWS, st.data())
def test_the_weighted_area_is_that_of_scikit_learn(rows, data):
    labels, probabilities, _ = columns(rows)
    weights = data.draw(st.lists(st.integers(0, 4), min_size=len(rows), max_size=len(rows)).map(np.array))
    area = metrics.ranked_auc(labels, probabilities)(weights.astype(float))
    has_weight = weights > 0
    if labels[has_weight].all() or not labels[has_weight].any():
        assert area is None
    else:
        expected = sklearn.metrics.roc_auc_score(
            labels[has_weight], probabilities[has_weight], sample_weight=weights[has_weight]
        )
        assert area == pytest.approx(expected)


def test_intervals_hold_the_point_value():
    for seed in range(5):
        measured = metrics.measure(*sample(300, seed), 0.5, 300, seed)
        for name in ("accuracy", "precision", "recall", "f1", "roc_auc"):
            low, high = measured[f"{name}_ci95"]
            assert low < measured[name] < high


def test_the_bootstrap_agrees_with_the_known_error_of_the_area():
    labels, probabilities, _ = sample(800, seed=1)
    measured = metrics.measure(labels, probabilities, np.arange(800), 0.5, 1000, 0)
    low, high = measured["roc_auc_ci95"]
    above = probabilities[labels][:, None] > probabilities[~labels][None, :]
    above = above + 0.5 * (probabilities[labels][:, None] == probabilities[~labels][None, :])
    variance = above.mean(1).var(ddof=1) / labels.sum() + above.mean(0).var(ddof=1) / (~labels).sum()
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(variance), rel=0.15)  # DeLong et al. 1988


def test_copies_of_a_picture_do_not_narrow_the_interval():
    labels, probabilities, _ = sample(200)
    once = metrics.measure(labels, probabilities, np.arange(200), 0.5, 500, 0)
    copied = [np.repeat(column, 5) for column in (labels, probabilities, np.arange(200))]
    together = metrics.measure(*copied, 0.5, 500, 0)
    apart = metrics.measure(*copied[:2], np.arange(1000), 0.5, 500, 0)
    for name in ("f1_ci95", "roc_auc_ci95"):
        assert together[name] == pytest.approx(once[name])
        assert np.diff(apart[name])[0] < 0.6 * np.diff(once[name])[0]


def test_groups_may_be_names():
    labels, probabilities, groups = sample(50)
    names = [f"wall {group:02d}.jpg" for group in groups]
    assert metrics.measure(labels, probabilities, names, 0.5, 50, 0) == metrics.measure(
        labels, probabilities, groups, 0.5, 50, 0
    )


def test_the_seed_decides_the_bootstrap():
    first, again, different = (metrics.measure(*sample(100), 0.5, 100, seed) for seed in (0, 0, 1))
    assert first == again
    assert first["f1_ci95"] != different["f1_ci95"] and first["accuracy_ci95"] == different["accuracy_ci95"]


def test_a_faultless_result_still_has_an_honest_interval():
    labels = np.arange(100) % 2
    measured = metrics.measure(labels, 0.1 + 0.8 * labels, np.arange(100), 0.5, 100, 0)
    low, high = metrics.wilson(50, 50)
    assert measured["f1_ci95"] == pytest.approx([2 * low / (1 + low), 1]) and high == 1
    assert measured["roc_auc_ci95"] == pytest.approx([low, 1])


def test_copies_do_not_make_a_faultless_result_surer():
    labels, groups = np.arange(100) % 2, np.arange(100) // 10 * 2 + np.arange(100) % 2
    measured = metrics.measure(labels, 0.1 + 0.8 * labels, groups, 0.5, 100, 0)
    low, _ = metrics.wilson(10, 10)
    assert measured["f1_ci95"] == pytest.approx([2 * low / (1 + low), 1])
    assert measured["roc_auc_ci95"] == pytest.approx([low, 1])


def test_one_group_alone_says_next_to_nothing():
    labels, probabilities, _ = sample(60)
    measured = metrics.measure(labels, probabilities, np.zeros(60), 0.5, 50, 0)
    assert measured["f1_ci95"][1] - measured["f1_ci95"][0] > 0.5
    assert measured["roc_auc_ci95"][1] - measured["roc_auc_ci95"][0] > 0.5


def test_measuring_100000_images_takes_seconds():
    columns, started = sample(100_000), time.process_time()
    metrics.measure(*columns, 0.5, 100, 0)
    assert time.process_time() - started < 3  # a tenth of 30 s for 1,000 resamples


def test_calibration_error_of_a_worked_example():
    # Bin 3 of 15 holds 0.22 and 0.25 (one cracked), bin 14 holds 0.95 three times (all cracked).
    error = metrics.calibration_error([0, 1, 1, 1, 1], [0.22, 0.25, 0.95, 0.95, 0.95])
    assert error == pytest.approx((2 * abs(0.5 - 0.235) + 3 * abs(1 - 0.95)) / 5)


@given(ROWS)
def test_reliability_puts_every_image_in_one_bin(rows):
    labels, probabilities, _ = columns(rows)
    count, cracked, stated = metrics.reliability(labels, probabilities)
    assert count.shape == cracked.shape == stated.shape == (15,)
    assert count.sum() == len(rows) and cracked.sum() == labels.sum()
    assert np.nansum(count * stated) == pytest.approx(probabilities.sum())
    assert (np.isnan(stated) == (count == 0)).all()


def test_the_worst_mistakes_come_first_and_only_mistakes():
    labels = [1, 1, 0, 0, 1]
    probabilities = [0.2, 0.01, 0.95, 0.1, 0.9]
    assert metrics.worst_mistakes(labels, probabilities, 0.5, 10).tolist() == [1, 2, 0]
    assert metrics.worst_mistakes(labels, probabilities, 0.5, 2).tolist() == [1, 2]
    assert metrics.worst_mistakes(labels, probabilities, 0.5, 0).tolist() == []


def test_a_mistake_is_as_bad_as_the_truth_was_unlikely_wherever_the_threshold_lies():
    assert metrics.worst_mistakes([1, 0], [0.29, 0.5], 0.3, 2).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([], [], r"expected labels and probabilities of one shape \[N\], N >= 1, received \(0,\) and \(0,\)"),
        ([0, 1], [0.5], r"received \(2,\) and \(1,\)"),
        ([0, 2], [0.5, 0.5], r"expected labels 0 or 1, received \[0, 2\]"),
        ([0, 1], [0.5, math.nan], "expected probabilities from 0 to 1, received nan at 1; .* training diverged"),
        ([0, 1], [1.5, 0.5], "received 1.5 at 0"),
    ],
)
def test_what_is_no_label_or_probability_is_refused(labels, probabilities, message):
    with pytest.raises(ValueError, match="measure: .*" + message):
        metrics.measure(labels, probabilities, [0] * len(labels), 0.5, 10, 0)
    with pytest.raises(ValueError, match="worst_mistakes: .*" + message):
        metrics.worst_mistakes(labels, probabilities, 0.5, 1)


@FEW
@given(ROWS, st.lists(st.integers(0, 3), min_size=30, max_size=30))
def test_weighted_areas_are_those_of_repeated_images(rows, repeats):
    labels, probabilities, _ = columns(rows)
    repeats = np.array(repeats[: len(rows)])
    again, scores = np.repeat(labels, repeats), np.repeat(probabilities, repeats)
    value = metrics.ranked_precision(labels, probabilities)(repeats.astype(float))
    expected = sklearn.metrics.average_precision_score(again, scores) if again.any() else None
    assert value == (pytest.approx(expected) if expected is not None else None)
    value = metrics.binned_error(labels, probabilities)(repeats.astype(float))
    assert value == (pytest.approx(metrics.calibration_error(again, scores), abs=1e-12) if len(again) else None)


def test_every_interval_holds_its_value_and_more_images_narrow_it():
    few, many = (metrics.measure(*sample(count), 0.5, 200, 0) for count in (200, 3200))
    for name in set(metrics.NAMES) - {"ece"}:
        for measured in (few, many):
            low, high = measured[f"{name}_ci95"]
            assert low < measured[name] < high, name
        widths = [high - low for low, high in (few[f"{name}_ci95"], many[f"{name}_ci95"])]
        assert widths[1] < widths[0] / 2.5, name


def test_without_a_mistake_no_interval_is_a_point():
    labels = np.arange(40) % 2
    measured = metrics.measure(labels, np.where(labels, 0.9, 0.1), range(40), 0.5, 50, 0)
    for name in set(metrics.NAMES) - {"ece"}:
        low, high = measured[f"{name}_ci95"]
        assert 0.6 < low < 0.95 and high == 1, name


def test_copies_in_one_group_are_one_piece_of_evidence():
    labels, probabilities, _ = sample(100)
    alone = metrics.measure(labels, probabilities, range(100), 0.5, 400, 0)
    four = [np.repeat(values, 4) for values in (labels, probabilities, np.arange(100))]
    together = metrics.measure(*four, 0.5, 400, 0)
    for name in ("balanced_accuracy", "mcc", "pr_auc", "ece"):
        assert together[f"{name}_ci95"] == pytest.approx(alone[f"{name}_ci95"]), name


def test_a_group_for_each_image_is_needed():
    with pytest.raises(ValueError, match="one group for each of 2 labels and 1 resample or more, received 1 groups, 5"):
        metrics.measure([0, 1], [0.1, 0.9], [0], 0.5, 5, 0)
    with pytest.raises(ValueError, match="received 2 groups, 0 resamples"):
        metrics.measure([0, 1], [0.1, 0.9], [0, 1], 0.5, 0, 0)
