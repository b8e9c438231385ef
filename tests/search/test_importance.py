"""Importance of hyperparameters, on results of which it is known."""

import numpy as np
import pytest

from crackflow.search import importance

NAMES = ["strong", "weak", "none"]


def settings(count, seed=0):
    return np.random.default_rng(seed).integers(0, 3, (count, 3)).astype(float)


def test_what_decides_more_comes_first_and_what_decides_nothing_has_nothing():
    trial_settings = settings(60)
    importances = importance.measure(trial_settings, NAMES, 3 * trial_settings[:, 0] + trial_settings[:, 1])
    assert list(importances.shares) == NAMES
    assert importances.explained > 0.9
    assert importances.shares["strong"].mean > 3 * importances.shares["weak"].mean > 0
    assert abs(importances.shares["none"].mean) < 0.02


def test_of_noise_nothing_is_explained():
    importances = importance.measure(settings(60), NAMES, np.random.default_rng(1).normal(size=60))
    assert importances.explained < 0.1
    assert all(share.mean < 0.25 for share in importances.shares.values())


def test_the_scale_and_the_order_of_results_do_not_matter():
    trial_settings = settings(40)
    results = trial_settings[:, 0]
    plain, scaled = (importance.measure(trial_settings, NAMES, values) for values in (results, -7 * results + 3))
    assert plain.shares["strong"].mean == pytest.approx(scaled.shares["strong"].mean, rel=0.05)


def test_the_same_seed_gives_the_same_figures():
    trial_settings = settings(30)
    assert importance.measure(trial_settings, NAMES, trial_settings[:, 0]) == importance.measure(
        trial_settings, NAMES, trial_settings[:, 0]
    )


def test_too_few_results_or_equal_ones_say_nothing():
    assert importance.measure(settings(9), NAMES, np.arange(9.0)) is None
    assert importance.measure(settings(30), NAMES, np.ones(30)) is None
