"""The threshold of photographs, on drawn scores: what it promises about false alarms must hold at every size."""

import numpy as np
import pytest
from scipy import special

from crackflow.inference import photo_threshold

SIZES = (1, 9, 36)  # far fewer windows than were seen: beyond the highest of these nothing is claimed


def clean(count, windows, scale, seed, level=0.0):
    """Logits of the most probable of so many windows, whose scores have an exponential tail of `scale`."""
    random = np.random.default_rng(seed)
    return level + scale * random.exponential(size=(count, windows)).max(1)


def fit(small=(), large=(), windows=9.0, threshold=0.5, false_alarms=0.02, groups=None):
    groups = np.arange(len(small)) if groups is None else groups
    windows = np.broadcast_to(windows, np.shape(large))
    return photo_threshold.choose(small, groups, large, windows, threshold, false_alarms, seed=0)


def called_fraction(fitted, logits, windows, threshold=0.5):
    """The share of photographs of so many windows that reach the threshold."""
    off = max(fitted.shift, min(fitted.level + fitted.growth * np.log(windows), fitted.most))
    return (logits - off >= special.logit(threshold)).mean()


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.0])
@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_chosen_on_two_sizes_it_holds_for_photographs_of_every_size(scale, threshold):
    fitted = fit(clean(150, 1, scale, seed=1), clean(48, 9, scale, seed=2), threshold=threshold)
    for windows in SIZES:
        new = clean(1000, windows, scale, seed=3)
        is_seen = fitted.level + fitted.growth * np.log(windows) <= fitted.most
        # 0.02, and what 48 photographs leave to chance; beyond the highest that was seen less is claimed.
        assert called_fraction(fitted, new, windows, threshold) < (0.08 if is_seen else 0.3)


def test_as_many_are_called_cracked_as_were_asked_for_and_not_many_fewer():
    for target in (0.05, 0.3):
        fitted = fit(clean(300, 1, 1.0, seed=1), clean(200, 9, 1.0, seed=2), false_alarms=target)
        for windows in SIZES:
            observed = called_fraction(fitted, clean(2000, windows, 1.0, seed=windows), windows)
            assert 0.3 * target < observed < 2.2 * target


def test_large_ones_may_be_of_several_sizes():
    windows = np.repeat([40.0, 100.0, 300.0], 40)
    large = np.concatenate([clean(40, int(size), 0.8, seed=int(size)) for size in (40, 100, 300)])
    fitted = fit(large=large, windows=windows)
    for size in (40, 100):
        assert called_fraction(fitted, clean(1000, size, 0.8, seed=9), size) < 0.06


def test_the_growth_is_the_scale_of_the_tail():
    assert fit(large=clean(600, 9, 0.6, seed=0)).growth == pytest.approx(0.6, rel=0.15)


def test_a_few_wrong_labels_do_not_cost_every_crack_in_a_large_wall():
    """One clean photograph in eighty that scores as cracks do: the growth stays at most that of true probabilities."""
    large = clean(160, 9, 0.6, seed=0, level=-3.0)
    large[::80] = 5.0
    fitted = fit(large=large)
    assert fitted.growth <= photo_threshold.TRUE_TAIL
    assert fitted.most == 5.0


def test_a_few_wrong_labels_cost_small_photographs_a_bounded_shift():
    small = clean(200, 1, 0.5, seed=1)
    small[:12] = 60.0  # cracked ones among the clean, or an overflow
    tail = np.quantile(small, 1 - photo_threshold.TAIL)
    bound = tail + photo_threshold.MAX_SCALE * np.log(photo_threshold.TAIL / 0.02)
    assert fit(small).shift == pytest.approx(bound) and fit(small).shift < 10


def test_no_more_is_taken_off_than_the_highest_clean_place_that_was_seen():
    fitted = fit(large=clean(160, 9, 1.0, seed=0), threshold=0.5)
    assert fitted.most == pytest.approx(clean(160, 9, 1.0, seed=0).max())
    assert fit().most == photo_threshold.DEFAULT_MAX_SHIFT


def test_small_ones_that_score_high_get_a_least_of_their_own():
    """The borders of photographs, where networks see less."""
    fitted = fit(clean(150, 1, 0.5, seed=1, level=3.0), clean(48, 9, 0.5, seed=2, level=-2.0))
    assert fitted.shift > 3 and fitted.level < 0
    assert called_fraction(fitted, clean(1000, 1, 0.5, seed=3, level=3.0), 1) < 0.06


def test_nothing_is_added_where_clean_photographs_score_low():
    fitted = fit(clean(100, 1, 0.5, seed=0, level=-9.0), clean(48, 9, 0.5, seed=0, level=-9.0))
    assert (fitted.shift, fitted.shift_ci95) == (0, (0, 0))


def test_the_intervals_hold_the_values_and_narrow_with_more_photographs():
    few, many = (fit(clean(count, 1, 1.0, seed=5), clean(count, 9, 1.0, seed=6)) for count in (30, 600))
    for fitted in (few, many):
        assert fitted.shift_ci95[0] <= fitted.shift <= fitted.shift_ci95[1]
        assert fitted.level_ci95[0] <= fitted.level <= fitted.level_ci95[1]
    assert np.diff(many.shift_ci95) < np.diff(few.shift_ci95)
    assert np.diff(many.level_ci95) < 0.5 * np.diff(few.level_ci95)


def test_copies_are_no_evidence_for_a_narrower_interval():
    logits = clean(60, 1, 1.0, seed=5)
    copied = fit(np.repeat(logits, 8), groups=np.repeat(np.arange(60), 8))
    assert np.diff(copied.shift_ci95) > 0.6 * np.diff(fit(logits).shift_ci95)


@pytest.mark.parametrize("groups", [[], [0, 1, 2], [0] * 50])
def test_with_too_few_photographs_the_tail_of_true_probabilities_is_taken(groups):
    fitted = fit(np.full(len(groups), 5.0), groups=groups)
    assert (fitted.shift, fitted.level, fitted.growth, fitted.photos) == (0.0, 0.0, 1.0, len(groups))


def test_scores_without_any_spread_are_chosen_by():
    fitted = fit(np.full(30, 2.0), np.full(12, 2.5))
    assert fitted.shift >= 2.0 and np.isfinite([fitted.shift, fitted.level, fitted.growth]).all()


def test_the_same_seed_chooses_the_same():
    logits = clean(80, 1, 1.0, seed=0)
    assert fit(logits) == fit(logits)


def test_what_is_taken_off_keeps_the_order_and_lies_in_the_logit():
    heat = np.float32([[0.001, 0.3], [0.9, 0.999]])
    lower = photo_threshold.corrected(heat, 2.0)
    assert lower.dtype == np.float32
    np.testing.assert_allclose(special.logit(lower), special.logit(heat) - 2, atol=1e-3)
    assert photo_threshold.corrected(heat, 0.0) is heat
