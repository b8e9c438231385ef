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


def chosen(small=(), large=(), windows=9.0, threshold=0.5, false_alarms=0.02, groups=None):
    groups = np.arange(len(small)) if groups is None else groups
    windows = np.broadcast_to(windows, np.shape(large))
    return photo_threshold.choose(small, groups, large, windows, threshold, false_alarms, seed=0)


def called(found, logits, windows, threshold=0.5):
    """The share of photographs of so many windows that reach the threshold."""
    off = max(found.shift, min(found.level + found.growth * np.log(windows), found.most))
    return (logits - off >= special.logit(threshold)).mean()


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.0])
@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_chosen_on_two_sizes_it_holds_for_photographs_of_every_size(scale, threshold):
    found = chosen(clean(150, 1, scale, seed=1), clean(48, 9, scale, seed=2), threshold=threshold)
    for windows in SIZES:
        new = clean(1000, windows, scale, seed=3)
        is_seen = found.level + found.growth * np.log(windows) <= found.most
        # 0.02, and what 48 photographs leave to chance; beyond the highest that was seen less is claimed.
        assert called(found, new, windows, threshold) < (0.08 if is_seen else 0.3)


def test_as_many_are_called_cracked_as_were_asked_for_and_not_many_fewer():
    for share in (0.05, 0.3):
        found = chosen(clean(300, 1, 1.0, seed=1), clean(200, 9, 1.0, seed=2), false_alarms=share)
        for windows in SIZES:
            got = called(found, clean(2000, windows, 1.0, seed=windows), windows)
            assert 0.3 * share < got < 2.2 * share


def test_large_ones_may_be_of_several_sizes():
    windows = np.repeat([40.0, 100.0, 300.0], 40)
    large = np.concatenate([clean(40, int(one), 0.8, seed=int(one)) for one in (40, 100, 300)])
    found = chosen(large=large, windows=windows)
    for size in (40, 100):
        assert called(found, clean(1000, size, 0.8, seed=9), size) < 0.06


def test_the_growth_is_the_scale_of_the_tail():
    assert chosen(large=clean(600, 9, 0.6, seed=0)).growth == pytest.approx(0.6, rel=0.15)


def test_a_few_wrong_labels_do_not_cost_every_crack_in_a_large_wall():
    """One clean photograph in eighty that scores as cracks do: the growth stays at most that of true probabilities."""
    large = clean(160, 9, 0.6, seed=0, level=-3.0)
    large[::80] = 5.0
    found = chosen(large=large)
    assert found.growth <= photo_threshold.TRUE_TAIL
    assert found.most == 5.0


def test_no_more_is_taken_off_than_the_highest_clean_place_that_was_seen():
    found = chosen(large=clean(160, 9, 1.0, seed=0), threshold=0.5)
    assert found.most == pytest.approx(clean(160, 9, 1.0, seed=0).max())
    assert chosen().most == photo_threshold.DEFAULT_MAX_SHIFT


def test_small_ones_that_score_high_get_a_least_of_their_own():
    """The borders of photographs, where networks see less."""
    found = chosen(clean(150, 1, 0.5, seed=1, level=3.0), clean(48, 9, 0.5, seed=2, level=-2.0))
    assert found.shift > 3 and found.level < 0
    assert called(found, clean(1000, 1, 0.5, seed=3, level=3.0), 1) < 0.06


def test_nothing_is_added_where_clean_photographs_score_low():
    found = chosen(clean(100, 1, 0.5, seed=0, level=-9.0), clean(48, 9, 0.5, seed=0, level=-9.0))
    assert (found.shift, found.shift_ci95) == (0, (0, 0))


def test_the_intervals_hold_the_values_and_narrow_with_more_photographs():
    few, many = (chosen(clean(count, 1, 1.0, seed=5), clean(count, 9, 1.0, seed=6)) for count in (30, 600))
    for one in (few, many):
        assert one.shift_ci95[0] <= one.shift <= one.shift_ci95[1]
        assert one.level_ci95[0] <= one.level <= one.level_ci95[1]
    assert np.diff(many.shift_ci95) < np.diff(few.shift_ci95)
    assert np.diff(many.level_ci95) < 0.5 * np.diff(few.level_ci95)


def test_copies_are_no_evidence_for_a_narrower_interval():
    logits = clean(60, 1, 1.0, seed=5)
    copied = chosen(np.repeat(logits, 8), groups=np.repeat(np.arange(60), 8))
    assert np.diff(copied.shift_ci95) > 0.6 * np.diff(chosen(logits).shift_ci95)


@pytest.mark.parametrize("groups", [[], [0, 1, 2], [0] * 50])
def test_with_too_few_photographs_the_tail_of_true_probabilities_is_taken(groups):
    found = chosen(np.full(len(groups), 5.0), groups=groups)
    assert (found.shift, found.level, found.growth, found.photos) == (0.0, 0.0, 1.0, len(groups))


def test_scores_without_any_spread_are_chosen_by():
    found = chosen(np.full(30, 2.0), np.full(12, 2.5))
    assert found.shift >= 2.0 and np.isfinite([found.shift, found.level, found.growth]).all()


def test_the_same_seed_chooses_the_same():
    logits = clean(80, 1, 1.0, seed=0)
    assert chosen(logits) == chosen(logits)


def test_what_is_taken_off_keeps_the_order_and_lies_in_the_logit():
    heat = np.float32([[0.001, 0.3], [0.9, 0.999]])
    lower = photo_threshold.corrected(heat, 2.0)
    assert lower.dtype == np.float32
    np.testing.assert_allclose(special.logit(lower), special.logit(heat) - 2, atol=1e-3)
    assert photo_threshold.corrected(heat, 0.0) is heat
