"""The threshold of photographs, on drawn scores: what it promises about false alarms must hold at every size."""

import numpy as np
import pytest
from scipy import special

from crackflow.report import photo_threshold

SIZES = (1, 10, 250)


def clean(count, windows, scale, seed, level=-3.0):
    """Logits of the most probable of so many windows, whose scores have an exponential tail of `scale`."""
    random = np.random.default_rng(seed)
    return level + scale * random.exponential(size=(count, windows)).max(1)


def chosen(logits, windows=1.0, threshold=0.5, false_alarms=0.02, groups=None):
    windows = np.broadcast_to(windows, logits.shape)
    groups = np.arange(len(logits)) if groups is None else groups
    return photo_threshold.choose(logits, windows, groups, threshold, false_alarms, seed=0)


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.6])
@pytest.mark.parametrize("windows", SIZES)
def test_chosen_on_single_windows_it_holds_for_photographs_of_every_size(scale, windows):
    found = chosen(clean(500, 1, scale, seed=1, level=-2.0))
    new = clean(2000, windows, scale, seed=2, level=-2.0)
    called = new - found.shift - found.growth * np.log(windows) >= 0
    assert called.mean() < 0.05


def test_sizes_may_be_mixed():
    windows = np.repeat([1.0, 4.0, 30.0], 100)
    logits = np.concatenate([clean(100, int(one), 0.8, seed=int(one), level=-1.0) for one in (1, 4, 30)])
    found = chosen(logits, windows)
    for size in SIZES:
        new = clean(2000, size, 0.8, seed=9, level=-1.0)
        assert (new - found.shift - found.growth * np.log(size) >= 0).mean() < 0.05


def test_the_growth_is_the_scale_of_the_tail():
    assert chosen(clean(5000, 1, 0.7, seed=0)).growth == pytest.approx(0.7, rel=0.08)


def test_as_many_are_called_cracked_as_were_asked_for():
    logits = clean(4000, 1, 1.0, seed=3)
    for share in (0.05, 0.3):
        found = chosen(logits, false_alarms=share)
        assert (logits - found.shift >= 0).mean() == pytest.approx(share, abs=0.02 if found.shift else 1)


def test_nothing_is_added_where_clean_photographs_score_low():
    found = chosen(clean(300, 1, 0.5, seed=0, level=-9.0))
    assert found.shift == 0 and found.shift_ci95[0] == 0


def test_the_interval_holds_the_value_and_narrows_with_more_photographs():
    few, many = (chosen(clean(count, 1, 1.0, seed=5, level=0.0)) for count in (40, 2000))
    for one in (few, many):
        assert one.shift_ci95[0] <= one.shift <= one.shift_ci95[1]
    assert np.diff(many.shift_ci95) < np.diff(few.shift_ci95) / 3


def test_copies_are_no_evidence_for_a_narrower_interval():
    logits = clean(60, 1, 1.0, seed=5, level=0.0)
    copied = chosen(np.repeat(logits, 8), groups=np.repeat(np.arange(60), 8))
    assert np.diff(copied.shift_ci95) > 0.7 * np.diff(chosen(logits).shift_ci95)


@pytest.mark.parametrize("groups", [[], [0, 1, 2], [0] * 50])
def test_with_too_few_photographs_the_tail_of_true_probabilities_is_taken(groups):
    found = chosen(np.full(len(groups), 5.0), groups=groups)
    assert (found.shift, found.growth, found.photos) == (0.0, 1.0, len(groups))


def test_scores_without_any_spread_are_chosen_by():
    found = chosen(np.full(30, 2.0))
    assert found.shift >= 2.0 and np.isfinite([found.shift, found.growth, *found.shift_ci95]).all()


def test_the_same_seed_chooses_the_same():
    logits = clean(80, 1, 1.0, seed=0)
    assert chosen(logits) == chosen(logits)


def test_what_is_taken_off_keeps_the_order_and_lies_in_the_logit():
    heat = np.float32([[0.001, 0.3], [0.9, 0.999]])
    lower = photo_threshold.corrected(heat, 2.0)
    assert lower.dtype == np.float32
    np.testing.assert_allclose(special.logit(lower), special.logit(heat) - 2, atol=1e-4)
    assert photo_threshold.corrected(heat, 0.0) is heat
