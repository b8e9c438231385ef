"""Probabilities at another share of cracked images, and that share from images without labels, on drawn scores."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from crackflow.inference import prior_shift
from tests.helpers.cards import CARD

SHARES = st.floats(0.001, 0.999)
PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def drawn(count, share, seed, apart=2.5, trained=0.5):
    """(probabilities that are calibrated for `trained`, labels) of images of which about `share` are cracked."""
    random = np.random.default_rng(seed)
    labels = random.random(count) < share
    scores = random.normal(np.where(labels, apart / 2, -apart / 2), 1)
    return special.expit(apart * scores + special.logit(trained)), labels


def expectation_maximisation(probabilities, trained, rounds=20_000):
    """As Saerens, Latinne and Decaestecker write it, equation 2.9."""
    share = trained
    for _ in range(rounds):
        cracked = share / trained * probabilities
        clean = (1 - share) / (1 - trained) * (1 - probabilities)
        share = (cracked / (cracked + clean)).mean()
    return share


def log_likelihood(share, probabilities, trained):
    return np.log(share * probabilities / trained + (1 - share) * (1 - probabilities) / (1 - trained)).sum()


@given(PROBABILITIES, SHARES)
def test_at_the_share_of_training_nothing_changes(probabilities, share):
    np.testing.assert_allclose(prior_shift.correct(probabilities, share, share), probabilities, atol=1e-12)


@given(PROBABILITIES, SHARES, SHARES)
def test_the_order_stays_and_a_rarer_crack_is_never_more_probable(probabilities, trained, expected):
    corrected = prior_shift.correct(probabilities, trained, expected)
    order = np.argsort(probabilities)
    assert ((corrected >= 0) & (corrected <= 1)).all() and (np.diff(corrected[order]) >= 0).all()
    rarer = prior_shift.correct(probabilities, trained, expected / 2)
    assert (rarer <= corrected + 1e-12).all()


@given(PROBABILITIES, SHARES, SHARES, SHARES)
def test_two_corrections_are_one(probabilities, first, second, third):
    twice = prior_shift.correct(prior_shift.correct(probabilities, first, second), second, third)
    np.testing.assert_allclose(twice, prior_shift.correct(probabilities, first, third), atol=1e-6)


def test_the_correction_is_that_of_bayes():
    """Nine to one with equal shares is 9 x 2 to 1 x 98 where 2 of 100 are cracked."""
    np.testing.assert_allclose(prior_shift.correct([0.9, 0.5], 0.5, 0.02), [18 / 116, 0.02])
    assert prior_shift.correct(np.zeros((2, 3)), 0.5, 0.02).shape == (2, 3)
    assert prior_shift.correct([0.0, 1.0], 0.5, 0.02).tolist() == [0.0, 1.0]


def test_corrected_probabilities_are_calibrated_for_the_new_share():
    probabilities, labels = drawn(200_000, 0.02, seed=0)
    corrected = prior_shift.correct(probabilities, 0.5, 0.02)
    assert corrected.mean() == pytest.approx(0.02, rel=0.05) and probabilities.mean() > 0.1
    likely = (corrected > 0.3) & (corrected < 0.5)
    assert labels[likely].mean() == pytest.approx(corrected[likely].mean(), abs=0.05)


@pytest.mark.parametrize("trained", [0.5, 0.2])
@pytest.mark.parametrize("share", [0.02, 0.07, 0.5, 0.9])
def test_the_share_is_recovered_within_its_interval(share, trained):
    covered = []
    for seed in range(100):
        estimated = prior_shift.estimate(drawn(300, share, seed, trained=trained)[0], trained)
        assert estimated.ci95[0] <= estimated.share <= estimated.ci95[1] and estimated.images == 300
        covered.append(estimated.ci95[0] <= share <= estimated.ci95[1])
    assert np.mean(covered) >= 0.9
    large = prior_shift.estimate(drawn(50_000, share, 0, trained=trained)[0], trained)
    assert large.share == pytest.approx(share, abs=0.01) and large.ci95[1] - large.ci95[0] < 0.02


@pytest.mark.parametrize("seed", range(5))
def test_the_estimate_is_where_expectation_maximisation_ends(seed):
    probabilities, _ = drawn(80, 0.2, seed)
    estimated = prior_shift.estimate(probabilities, 0.5)
    assert estimated.share == pytest.approx(expectation_maximisation(probabilities, 0.5), abs=1e-6)
    best = log_likelihood(estimated.share, probabilities, 0.5)
    for bound in estimated.ci95:
        assert best - log_likelihood(bound, probabilities, 0.5) == pytest.approx(1.920729, abs=1e-4)


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=30), st.floats(0.05, 0.95))
def test_no_share_is_more_likely_than_the_estimate(probabilities, trained):
    probabilities = np.array(probabilities)
    estimated = prior_shift.estimate(probabilities, trained)
    grid = np.linspace(1e-6, 1 - 1e-6, 101)
    likelihoods = [log_likelihood(share, probabilities, trained) for share in grid]
    best = log_likelihood(np.clip(estimated.share, 1e-9, 1 - 1e-9), probabilities, trained)
    assert best >= max(likelihoods) - 1e-6
    assert 0 <= estimated.ci95[0] <= estimated.share <= estimated.ci95[1] <= 1


def test_images_that_are_all_sound_leave_room_for_some_cracked_ones():
    estimated = prior_shift.estimate(np.zeros(300), 0.5)
    assert estimated.share == 0 and estimated.ci95[0] == 0
    assert estimated.ci95[1] == pytest.approx(1 - np.exp(-1.920729 / 300), rel=1e-3)  # as of 300 trials without any
    mirrored = prior_shift.estimate(np.ones(300), 0.5)
    assert mirrored.share == 1 and mirrored.ci95[1] == 1
    assert mirrored.ci95[0] == pytest.approx(1 - estimated.ci95[1])


def test_a_single_image_says_little_and_none_nothing():
    assert prior_shift.estimate([], 0.3) == prior_shift.ShareEstimate(0.3, (0.0, 1.0), 0)
    single = prior_shift.estimate([0.99], 0.5)
    assert single.share == 1 and single.ci95[0] < 0.2 and single.ci95[1] == 1
    assert prior_shift.estimate([0.5] * 40, 0.5) == prior_shift.ShareEstimate(0.5, (0.0, 1.0), 40)


def test_the_share_of_training_is_that_of_the_validation_images():
    def share(validation, **changes):
        return prior_shift.trained_share(dataclasses.replace(CARD, validation=validation, **changes))

    known = {"clean": 300, "cracked": 100, "p_value": 0.01}
    assert share(known) == 0.25 and share(known, calibrated_share=0.5) == 0.5
    for unknown in ({}, {"clean": 300, "cracked": 0}, {"clean": None, "cracked": None}):
        assert share(unknown) == 0.5


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="expected a share between 0 and 1, received "):
        prior_shift.correct([0.5], 0.5, share)
    with pytest.raises(ValueError, match="expected a share between 0 and 1, received "):
        prior_shift.estimate([0.5], share)


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(probability):
    for call in (
        lambda: prior_shift.correct([0.5, probability], 0.5, 0.1),
        lambda: prior_shift.estimate([0.5, probability], 0.5),
    ):
        with pytest.raises(ValueError, match="expected probabilities from 0 to 1, received others"):
            call()
