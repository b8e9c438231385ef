"""Scores of heatmaps, on maps and networks whose scores are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from crackflow.explanation import faithfulness
from tests.helpers.scores import FEW

PX = 32


def crack():
    """An image with a dark bar, the mask of the bar, and a network that responds to how dark those pixels are."""
    image = np.full((1, PX, PX, 3), 200, np.uint8)
    mask = np.zeros((1, PX, PX), bool)
    mask[0, 8:24, 10:13] = True
    image[mask] = 20
    return image, mask, lambda images: 1 - np.asarray(images, float)[:, 8:24, 10:13].mean((1, 2, 3)) / 255


def test_the_true_map_is_better_than_its_opposite_in_every_score_against_the_network():
    image, mask, network = crack()
    right = faithfulness.deletion_insertion(network, image, mask.astype(np.float32))
    wrong = faithfulness.deletion_insertion(network, image, (~mask).astype(np.float32))
    assert right["deletion"] < wrong["deletion"] and right["insertion"] > wrong["insertion"]
    assert right["drop"] < 0.01 < wrong["drop"]


def test_deletion_and_insertion_are_areas_under_the_curves():
    image, mask, _ = crack()
    seen = []

    def network(images):
        seen.append(np.asarray(images, float))
        return 1 - np.asarray(images, float).mean((1, 2, 3)) / 255

    scores = faithfulness.deletion_insertion(network, image, mask.astype(np.float32))
    steps = faithfulness.STEPS
    whole, blurred = (1 - images.mean() / 255 for images in seen[:2])
    deletion = [whole, *(1 - images.mean() / 255 for images in seen[2 : 2 * steps : 2]), blurred]
    insertion = [blurred, *(1 - images.mean() / 255 for images in seen[3 : 2 * steps : 2]), whole]
    for name, curve in (("deletion", deletion), ("insertion", insertion)):
        assert len(curve) == steps + 1
        area = sum((a + b) / 2 for a, b in zip(curve, curve[1:], strict=False)) / steps
        assert scores[name][0] == pytest.approx(area)


def test_the_first_pixels_to_go_are_those_of_the_largest_values():
    image, mask, _ = crack()
    seen = []
    heat = mask + np.random.default_rng(0).random(mask.shape, np.float32) / 2
    faithfulness.deletion_insertion(lambda images: seen.append(images.copy()) or np.zeros(1), image, heat)
    changed = (seen[2] != image).any(-1)[0]
    threshold = heat[0][changed].min()
    assert (
        changed.sum() <= round(PX * PX / faithfulness.STEPS)
        and (heat[0] > threshold).sum() <= PX * PX / faithfulness.STEPS
    )
    assert changed[mask[0]].mean() > 0.9


def test_a_probability_that_rises_is_an_increase_and_no_drop():
    image = np.random.default_rng(1).integers(0, 256, (1, PX, PX, 3), np.uint8)
    scores = faithfulness.deletion_insertion(
        lambda images: 1 / (1 + images.std((1, 2, 3))), image, np.zeros((1, PX, PX))
    )
    assert scores["increase"][0] == 1 and scores["drop"][0] == 0


@FEW
@given(st.integers(0, PX - 1), st.integers(0, PX - 1))
def test_pointing_allows_the_tolerance_and_no_more(y, x):
    _, mask, _ = crack()
    heat = np.zeros((1, PX, PX), np.float32)
    heat[0, y, x] = 1
    distance = np.hypot(max(8 - y, 0, y - 23), max(10 - x, 0, x - 12))
    scores = faithfulness.localization_scores(heat, mask)
    assert scores["pointing"][0] == (distance <= 2)  # 15 / 224 of 32
    assert scores["exact"][0] == scores["energy"][0] == mask[0, y, x]


def test_energy_is_the_share_of_the_sum_on_the_crack():
    _, mask, _ = crack()
    assert faithfulness.localization_scores(np.ones((1, PX, PX)), mask)["energy"][0] == pytest.approx(mask.mean())
    mixed = np.where(mask, 3.0, 1.0)
    assert faithfulness.localization_scores(mixed, mask)["energy"][0] == pytest.approx(3 * mask.sum() / mixed.sum())


def test_a_map_of_zeros_scores_nothing():
    _, mask, _ = crack()
    scores = faithfulness.localization_scores(np.zeros((1, PX, PX)), mask)
    assert {name: float(values[0]) for name, values in scores.items()} == {"pointing": 0, "exact": 0, "energy": 0}


@pytest.mark.parametrize("masks", [np.zeros((1, PX, PX), bool), np.ones((1, 8, 8), bool)])
def test_a_mask_without_a_crack_or_of_another_size_is_refused(masks):
    with pytest.raises(ValueError, match="against_masks: expected for each map a mask of its shape with a crack in it"):
        faithfulness.localization_scores(np.ones((1, PX, PX)), masks)


def test_overlaps_are_intersection_over_union_at_each_threshold():
    mask = np.array([[[True, True, False, False]]])
    heat = np.array([[[1.0, 0.5, 0.6, 0.0]]])
    overlap_by_threshold = dict(
        zip(np.round(faithfulness.THRESHOLDS, 2), faithfulness.overlaps(heat, mask)[0], strict=True)
    )
    assert (
        overlap_by_threshold[0.4] == pytest.approx(2 / 3)
        and overlap_by_threshold[0.55] == pytest.approx(1 / 3)
        and overlap_by_threshold[0.9] == pytest.approx(1 / 2)
    )


@FEW
@given(st.integers(0, 1000))
def test_likeness_is_spearmans_rank_correlation(seed):
    maps, other_maps = np.random.default_rng(seed).integers(0, 5, (2, 3, 4, 4)).astype(float)
    expected = np.mean([spearmanr(a.ravel(), b.ravel())[0] for a, b in zip(maps, other_maps, strict=True)])
    assert faithfulness.rank_correlation(maps, other_maps) == pytest.approx(expected)


def test_a_flat_map_is_like_no_other():
    assert faithfulness.rank_correlation(np.ones((1, 4, 4)), np.arange(16.0).reshape(1, 4, 4)) == 0.0


def test_the_baselines_answer_to_the_middle_to_edges_and_to_dark_lines():
    image, mask, _ = crack()
    dot, edges, lines = (baseline(image) for baseline in faithfulness.BASELINES.values())
    assert np.unravel_index(dot[0].argmax(), (PX, PX)) in [(15, 15), (15, 16), (16, 15), (16, 16)]
    assert edges[0, 16, 9:14].argmax() in (0, 1, 3, 4) and edges[0, 2, 2] < 1
    assert mask[np.unravel_index(lines.argmax(), lines.shape)] and not lines[0, 16, 2]


def test_the_dot_lies_in_the_middle_of_a_picture_that_is_not_square():
    dot = faithfulness.centre_dot(np.zeros((2, 40, 60, 3), np.uint8))
    assert dot.shape == (2, 40, 60) and dot.dtype == np.float32
    assert np.unravel_index(dot[1].argmax(), (40, 60)) in [(19, 29), (19, 30), (20, 29), (20, 30)]
