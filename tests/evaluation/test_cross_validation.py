import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackflow.evaluation import cross_validation, metrics


@given(st.integers(2, 40), st.integers(2, 40), st.integers(2, 6), st.integers(0, 99))
def test_no_group_is_in_two_folds_and_every_fold_has_both_classes_where_it_can(clean, cracked, most, seed):
    labels = np.repeat([0, 1], [clean, cracked])
    groups = np.arange(len(labels))
    fold = cross_validation.assign_folds(labels, groups, most, seed)
    assert set(fold) == set(range(min(most, clean, cracked)))
    for number in set(fold):
        assert set(labels[fold == number]) == {0, 1}


def test_images_of_one_group_share_a_fold():
    labels, groups = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([1, 1, 2, 2, 3, 3, 4, 4])
    fold = cross_validation.assign_folds(labels, groups, 5, 0)
    assert set(fold) == {0, 1}
    assert all(len(set(fold[groups == group])) == 1 for group in (1, 2, 3, 4))


@pytest.mark.parametrize(("labels", "groups"), [([0, 0, 1, 1], [1, 2, 3, 3]), ([1, 1, 1], [3, 3, 3]), ([0], [1])])
def test_a_class_of_one_group_cannot_be_divided(labels, groups):
    assert cross_validation.assign_folds(np.array(labels), np.array(groups), 5, 0) is None


def test_the_interval_of_one_class_is_wilsons():
    right = np.array([True] * 9 + [False])
    estimate = cross_validation.rate(right, np.arange(10))
    assert estimate == (0.9, *metrics.wilson(9, 10))
    assert cross_validation.balanced_accuracy(np.ones(10), right, np.arange(10)) == pytest.approx(estimate)


def test_the_interval_of_balanced_accuracy_holds_the_truth_as_often_as_it_says():
    """Twenty of each class, of recall 0.9 and specificity 0.8, 2,000 times."""
    random, held = np.random.default_rng(0), 0
    labels, groups = np.repeat([1, 0], 20), np.arange(40)
    for _ in range(2000):
        decisions = np.concatenate([random.random(20) < 0.9, random.random(20) >= 0.8])
        _, low, high = cross_validation.balanced_accuracy(labels, decisions, groups)
        held += low <= 0.85 <= high
    assert 0.94 <= held / 2000 <= 0.98


def test_copies_of_an_image_do_not_narrow_the_interval():
    labels, decisions = np.array([1, 1, 1, 0, 0, 0]), np.array([True, True, False, False, False, True])
    once = cross_validation.balanced_accuracy(labels, decisions, np.arange(6))
    copied = cross_validation.balanced_accuracy(
        np.repeat(labels, 5), np.repeat(decisions, 5), np.repeat(np.arange(6), 5)
    )
    assert copied == pytest.approx(once)


def test_the_estimate_reads_as_a_person_would_write_it():
    assert cross_validation.Estimate(0.942, 0.84, 0.984).in_words() == "94 % [84, 98]"


@pytest.mark.parametrize(("folds", "high"), [(2, 0.98), (5, 0.968), (20, 0.962)])
def test_a_fit_to_all_folds_may_err_as_much_less_as_it_has_seen_more(folds, high):
    estimate = cross_validation.Estimate(0.9, 0.8, 0.96).of_all_folds(folds)
    assert estimate == pytest.approx((0.9, 0.8, high)) and estimate.low == 0.8


def test_better_decisions_are_told_from_equal_ones_exactly():
    labels, groups = np.repeat([1, 0], 4), np.arange(8)
    wrong, right = np.repeat([False, True], 4), np.repeat([True, False], 4)
    assert cross_validation.compare(labels, wrong, right, groups, 0) == 1 / 2**8
    assert cross_validation.compare(labels, right, wrong, groups, 0) == 1
    assert cross_validation.compare(labels, right, right, groups, 0) == 1


def test_a_photograph_with_windows_of_both_classes_is_one_piece_of_evidence():
    labels, groups = np.tile([1, 0], 3), np.repeat([0, 1, 2], 2)
    wrong, right = labels == 0, labels == 1
    assert cross_validation.compare(labels, wrong, right, groups, 0) == 1 / 2**3
    assert cross_validation.compare(labels, wrong, right, np.arange(6), 0) == 1 / 2**6


def test_photographs_that_are_right_or_wrong_as_a_whole_widen_the_interval():
    labels, right = np.tile([1, 0], 10), np.repeat(np.arange(10) < 7, 2)
    decisions = np.where(right, labels, 1 - labels).astype(bool)
    together = cross_validation.balanced_accuracy(labels, decisions, np.repeat(np.arange(10), 2))
    apart = cross_validation.balanced_accuracy(labels, decisions, np.arange(20))
    assert together.value == apart.value == 0.7
    assert together.high - together.low > 1.2 * (apart.high - apart.low)


def test_any_seed_that_a_flag_takes_draws_folds():
    assert set(cross_validation.assign_folds(np.tile([0, 1], 4), np.arange(8), 2, 5_000_000_000)) == {0, 1}


@given(st.integers(0, 9))
def test_no_improvement_is_seldom_taken_for_one(seed):
    random = np.random.default_rng(seed)
    labels, groups = np.repeat([1, 0], 15), np.arange(30)
    values = [
        cross_validation.compare(labels, random.random(30) < 0.5, random.random(30) < 0.5, groups, number)
        for number in range(20)
    ]
    assert np.mean(np.array(values) <= 0.05) <= 0.25
