"""Which windows are suggested for labels: on drawn heat maps and candidates."""

import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from crackflow.inference import suggestions
from crackflow.inference.suggestions import LEAST_PROBABLE, MOST_PROBABLE, NEAR_THRESHOLD, Candidate

PX, STEP = 64, 16


def drawn(height, width, seed=0):
    """(heat map, image) of a photograph in which probabilities rise and fall."""
    random = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(random.normal(0, 1, (-(-height // STEP), -(-width // STEP))), 2)
    heat = (1 / (1 + np.exp(3 - 25 * noise))).astype(np.float32)
    return heat, random.integers(0, 256, (height, width, 3), np.uint8)


def candidates(heat, image, size=None, threshold=0.5):
    return suggestions.candidates(heat, image, size or image.shape[:2], PX, STEP, threshold)


def largest_overlap(boxes):
    pairs = [suggestions.overlaps(np.delete(boxes, index, 0), boxes[index]) for index in range(len(boxes))]
    return max((values.max() for values in pairs if len(values)), default=0.0)


@pytest.mark.parametrize("size", [(700, 900), (64, 900), (200, 64), (40, 300), (30, 30), (700, 71)])
def test_candidates_lie_in_the_photograph_and_apart(size):
    windows = candidates(*drawn(*size))
    assert 1 <= len(windows) <= suggestions.MAX_CANDIDATES
    assert suggestions.are_valid(windows, size[1], size[0])
    assert largest_overlap(np.array([window.box for window in windows])) <= suggestions.MAX_IOU
    assert {(window.width, window.height) for window in windows} == {(min(PX, size[1]), min(PX, size[0]))}


def test_the_most_probable_place_is_a_candidate_and_its_window_is_around_it():
    heat = np.full((40, 50), 0.01, np.float32)
    heat[20, 30] = 0.97
    first = candidates(heat, np.zeros((640, 800, 3), np.uint8))[0]
    assert first.probability == pytest.approx(0.97)
    assert abs(first.x + PX / 2 - 30.5 * STEP) <= STEP and abs(first.y + PX / 2 - 20.5 * STEP) <= STEP


def test_the_flank_of_a_crack_is_no_window_near_the_threshold():
    """From the crack outwards probabilities fall through the threshold, though nothing lies there."""
    down, right = np.mgrid[:40, :50]
    heat = np.exp(-(((down - 20) / 6) ** 2 + ((right - 25) / 6) ** 2)).astype(np.float32)
    heat[5, 5], heat[35, 45] = 0.45, 0.3
    windows = candidates(heat, np.zeros((640, 800, 3), np.uint8))
    near = [window.probability for window in windows if 0.2 < window.probability < 0.8]
    assert sorted(near) == pytest.approx([0.3, 0.45])


def test_a_wall_that_is_sound_everywhere_gives_windows_from_everywhere():
    windows = candidates(np.full((200, 300), 1e-6, np.float32), np.zeros((3200, 4800, 3), np.uint8))
    assert len(windows) == suggestions.MAX_CANDIDATES
    assert {(window.x > 2400, window.y > 1600) for window in windows} == {(x, y) for x in (0, 1) for y in (0, 1)}


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.7])
def test_windows_are_cut_at_the_scale_at_which_the_network_looks(factor):
    heat, image = drawn(480, 640)
    size = round(480 * factor), round(640 * factor)
    windows = candidates(heat, image, size)
    assert {(window.width, window.height) for window in windows} == {(round(PX * factor),) * 2}
    assert suggestions.are_valid(windows, size[1], size[0])
    plain = candidates(heat, image)
    np.testing.assert_allclose([w.x for w in windows], [factor * w.x for w in plain], atol=1)


def test_the_same_photograph_gives_the_same_candidates():
    assert candidates(*drawn(480, 640)) == candidates(*drawn(480, 640))


def test_features_tell_textures_and_colours_apart_and_hold_for_any_size():
    random = np.random.default_rng(0)
    flat = np.full((64, 64, 3), 150, np.uint8)
    bricks, grain = flat.copy(), random.integers(100, 200, (64, 64, 3), np.uint8)
    bricks[::16] = 60
    red = flat * np.array([1, 0, 0], np.uint8)
    features = [suggestions.describe(picture) for picture in (flat, bricks, grain, red)]
    for index, feature in enumerate(features):
        assert feature.shape == (suggestions.NUM_FEATURES,) and np.isfinite(feature).all()
        assert all(np.abs(feature - other).max() > 0.05 for other in features[:index])
    np.testing.assert_allclose(suggestions.describe(flat[..., :1]), suggestions.describe(flat))
    assert np.isfinite(suggestions.describe(flat[:1, :3])).all()


def test_overlap_is_intersection_over_union():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 10, 10], [10, 0, 10, 10], [2, 2, 4, 4]])
    np.testing.assert_allclose(suggestions.overlaps(boxes, boxes[0]), [1, 50 / 150, 0, 16 / 100])


def pool(photographs=30, windows=16, seed=0):
    """Arrays of candidates: side by side, with drawn probabilities and features in four clusters."""
    random = np.random.default_rng(seed)
    count = photographs * windows
    boxes = np.tile([[70 * index, 0, PX, PX] for index in range(windows)], (photographs, 1))
    features = 10 * random.integers(0, 4, (count, 1)) + random.normal(size=(count, 5))
    return np.repeat(np.arange(photographs), windows), boxes, random.beta(0.4, 1.5, count), features


@given(st.integers(1, 12), st.integers(1, 16), st.integers(0, 60), st.integers(0, 5))
def test_of_each_photograph_at_most_twice_its_part_and_none_twice(photographs, windows, count, seed):
    numbers, boxes, probabilities, features = pool(photographs, windows, seed)
    choices = suggestions.select(numbers, boxes, probabilities, features, count, 0.5)
    indices = [choice.index for choice in choices]
    assert len(set(indices)) == len(indices) <= count
    if count:
        limit = 2 * -(-count // photographs)
        assert max(collections.Counter(numbers[indices].tolist()).values()) <= limit
        assert len(indices) == min(count, photographs * min(windows, limit))
    assert choices == suggestions.select(numbers, boxes, probabilities, features, count, 0.5)


def test_a_quarter_are_the_most_probable_an_eighth_the_least_and_the_rest_between():
    numbers, boxes, probabilities, features = pool()
    choices = suggestions.select(numbers, boxes, probabilities, features, 40, 0.5)
    counts = collections.Counter(choice.reason for choice in choices)
    assert counts == {MOST_PROBABLE: 10, NEAR_THRESHOLD: 25, LEAST_PROBABLE: 5}
    median = {
        reason: np.median([probabilities[choice.index] for choice in choices if choice.reason == reason])
        for reason in counts
    }
    assert median[MOST_PROBABLE] > 0.85 and median[LEAST_PROBABLE] < 0.01
    assert abs(median[NEAR_THRESHOLD] - 0.5) < 0.15
    assert len(set(numbers[[choice.index for choice in choices]])) > 15


def test_windows_that_look_alike_are_not_chosen_before_others():
    """A hundred windows at the threshold that are one picture, and twenty near it that are not."""
    probabilities = np.r_[np.full(100, 0.5), np.full(20, 0.45)]
    features = np.r_[np.zeros((100, 3)), np.random.default_rng(0).normal(size=(20, 3))]
    boxes = np.tile([0, 0, PX, PX], (120, 1))
    choices = suggestions.select(np.arange(120), boxes, probabilities, features, 16, 0.5)
    assert sum(choice.index < 100 for choice in choices) <= 3


def test_overlapping_windows_of_one_photograph_are_not_both_chosen():
    boxes = np.array([[0, 0, PX, PX], [4, 0, PX, PX], [200, 0, PX, PX]])
    probabilities, features = np.array([0.5, 0.5, 0.1]), np.eye(3)
    for numbers, expected in (([0, 0, 0], 2), ([0, 1, 0], 3)):
        choices = suggestions.select(np.array(numbers), boxes, probabilities, features, 3, 0.5)
        assert len(choices) == expected


def test_without_candidates_or_wishes_nothing_is_chosen():
    assert suggestions.select(*pool(), count=0, threshold=0.5) == []
    empty = [part[:0] for part in pool()]
    assert suggestions.select(*empty, count=5, threshold=0.5) == []


def test_another_threshold_asks_for_other_windows():
    numbers, boxes, probabilities, features = pool()
    for threshold in (0.1, 0.8):
        choices = suggestions.select(numbers, boxes, probabilities, features, 16, threshold)
        near = [probabilities[choice.index] for choice in choices if choice.reason == NEAR_THRESHOLD]
        assert abs(np.median(near) - threshold) < 0.12


@pytest.mark.parametrize(
    "change",
    [
        {"x": -1},
        {"x": 60},
        {"width": 0},
        {"x": 1.0},
        {"y": True},
        {"probability": 1.5},
        {"probability": "0.5"},
        {"probability": float("nan")},
        {"features": (0.0,)},
        {"features": (float("inf"),) * suggestions.NUM_FEATURES},
        {"features": ("a",) * suggestions.NUM_FEATURES},
    ],
)
def test_candidates_that_no_photograph_has_are_not_valid(change):
    good = Candidate(0, 0, 64, 64, 0.5, (0.5,) * suggestions.NUM_FEATURES)
    assert suggestions.are_valid([good], 100, 80)
    assert not suggestions.are_valid([good, good._replace(**change)], 100, 80)
    assert not suggestions.are_valid([good] * (suggestions.MAX_CANDIDATES + 1), 100, 80)
