"""The test against a guess is exact for few images, passes a guess as rarely as it claims, and ignores copies."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackflow.evaluation import significance

COUNTS = st.integers(1, 12)


def told_rightly(clean, cracked):
    labels = np.repeat([0, 1], [clean, cracked])
    return labels, np.where(labels, 0.9, 0.1) + 0.001 * np.arange(len(labels))


@given(COUNTS, COUNTS)
def test_what_is_told_rightly_throughout_has_the_smallest_p_value_there_is(clean, cracked):
    verdict = significance.compare(*told_rightly(clean, cracked), 0.5)
    smallest = 1 / math.comb(clean + cracked, cracked)
    assert verdict.p_value == pytest.approx(smallest) == pytest.approx(significance.smallest_p_value(clean, cracked))
    assert verdict.better == (smallest <= significance.ALPHA + 1e-9) and verdict[1:] == (clean, cracked)


def test_at_most_a_twentieth_of_all_orders_passes_for_better_than_a_guess():
    labels, scores = np.repeat([0, 1], 4), np.linspace(0.1, 0.9, 8)
    orders = [np.isin(np.arange(8), some) for some in itertools.combinations(range(8), 4)]
    passed = [significance.compare(order, scores, 0.5).better for order in orders]
    assert len(passed) == math.comb(8, 4) and 0 < np.mean(passed) <= significance.ALPHA
    assert significance.compare(labels, scores, 0.5).better


def test_a_guess_is_seldom_taken_for_more():
    rng = np.random.default_rng(0)
    passed = [significance.compare(rng.integers(0, 2, 60), rng.random(60), 0.5).better for _ in range(300)]
    assert np.mean(passed) <= 0.08  # 5 %, and what 300 attempts may add by chance


def test_a_model_that_calls_everything_cracked_is_no_better_than_a_guess():
    labels, probabilities = told_rightly(30, 30)
    assert significance.compare(labels, probabilities, 0.5).better
    assert not significance.compare(labels, probabilities, 0.01).better
    assert not significance.compare(labels, 1 - probabilities, 0.5).better


def test_copies_of_one_picture_are_one_piece_of_evidence():
    labels, probabilities = told_rightly(2, 2)
    many = significance.compare(np.repeat(labels, 50), np.repeat(probabilities, 50), 0.5, np.repeat(np.arange(4), 50))
    few = significance.compare(labels, probabilities, 0.5)
    assert many[1:] == few[1:] == (2, 2) and many.p_value == pytest.approx(few.p_value) and not many.better
    assert significance.compare(np.repeat(labels, 50), np.repeat(probabilities, 50), 0.5).better


def test_windows_of_both_classes_in_one_photograph_count_for_both():
    labels, probabilities = told_rightly(10, 10)
    assert significance.compare(labels, probabilities, 0.5, np.tile(np.arange(10), 2))[1:] == (10, 10)


def test_certainty_is_a_number_as_well():
    verdict = significance.compare([0] * 5 + [1] * 5, [0.0] * 5 + [1.0] * 5, 0.5)
    assert verdict.better


@pytest.mark.parametrize(
    "labels, probabilities, words",
    [
        ([0] * 20 + [1] * 20, [0.5] * 40, "no better than a guess on these 20 cracked and 20 clean images (p = 1.00; "),
        ([0] * 2 + [1] * 2, [0.1, 0.2, 0.8, 0.9], "of unknown worth: these 2 cracked and 2 clean images are too few "),
        ([0] * 3, [0.1] * 3, "of unknown worth: among these 0 cracked and 3 clean images one class is missing"),
        ([0] * 9 + [1] * 9, [0.1] * 9 + [0.9] * 9, "better than a guess on these 9 cracked and 9 clean images (p = "),
    ],
)
def test_the_verdict_says_on_how_many_images_it_rests(labels, probabilities, words):
    verdict = significance.compare(labels, probabilities, 0.5)
    assert verdict.describe().startswith(words)
    assert verdict.is_doubtful == (not verdict.better and verdict.p_value is not None)
