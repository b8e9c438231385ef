import numpy as np
import pytest
from scipy import ndimage

from crackflow.inference import centerline

SIDE, CELL = 320, 16


def band(points, width):
    """(strength, float [SIDE, SIDE], of a band through `points`, (x, y), 1 in its middle; bool, what is near)"""
    background = np.ones((SIDE, SIDE), bool)
    for (x, y), (to_x, to_y) in zip(points, points[1:], strict=False):
        steps = np.linspace(0, 1, 4 * SIDE)
        background[(y + steps * (to_y - y)).round().astype(int), (x + steps * (to_x - x)).round().astype(int)] = False
    distance = ndimage.distance_transform_edt(background)
    return np.clip(1 - 0.6 * distance / (width / 2), 0, 1) * (distance <= width / 2), distance <= 24


def traced(points, width=4):
    strength, area = band(points, width)
    return centerline.trace(strength, area, 0.5, CELL)


@pytest.mark.parametrize("angle", [0, 10, 22.5, 30, 45, 67.5, 90, 140])
@pytest.mark.parametrize("width", [2, 8, 20])
def test_a_straight_line_is_as_long_in_every_direction(angle, width):
    direction = 120 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    lines = traced([(160 - direction[0], 160 - direction[1]), (160 + direction[0], 160 + direction[1])], width)
    assert len(lines) == 1
    assert 0.97 * 240 < centerline.length(lines) < 1.01 * (240 + width)  # the band has round ends


def test_the_steps_of_a_line_of_pixels_do_not_make_it_longer():
    x = np.arange(400)
    for slope in (0.1, 0.25, 0.4, 0.5, 0.9):
        line = np.stack([x, np.round(slope * x)], 1)
        assert centerline.length([centerline.smooth(line)]) == pytest.approx(399 * np.hypot(1, slope), rel=0.01)


def test_a_circle_keeps_its_length_when_it_is_smoothed():
    angle = np.linspace(0, 2 * np.pi, 252)
    line = 40 * np.stack([np.cos(angle), np.sin(angle)], 1)
    assert centerline.length([centerline.smooth(line)]) == pytest.approx(2 * np.pi * 40, rel=0.01)


def test_a_long_branch_counts_and_a_spur_does_not():
    line = [(20, 160), (300, 160)]
    strength, area = band(line, 4)
    for branch_px, counted in ((20, False), (90, True)):
        branch, beside = band([(150, 160), (150, 160 - branch_px)], 4)
        lines = centerline.trace(np.maximum(strength, branch), area | beside, 0.5, CELL)
        expected = 280 + branch_px * counted
        assert centerline.length(lines) == pytest.approx(expected, abs=6), branch_px


def test_a_faint_branch_is_no_branch():
    strength, area = band([(20, 160), (300, 160)], 4)
    branch, beside = band([(150, 160), (150, 60)], 4)
    lines = centerline.trace(np.maximum(strength, 0.3 * branch), area | beside, 0.5, CELL)
    assert len(lines) == 1


def test_a_gap_is_crossed():
    strength, area = band([(20, 160), (300, 160)], 4)
    strength[:, 140:165] = 0
    assert centerline.length(centerline.trace(strength, area, 0.5, CELL)) == pytest.approx(280, abs=4)


def test_a_loop_is_cut_open_and_counted_once():
    lines = traced([(60, 60), (260, 60), (260, 260), (60, 260), (60, 60)])
    assert 0.9 * 800 < centerline.length(lines) <= 805


def test_where_there_is_no_line_there_is_none_to_trace():
    area = np.ones((64, 64), bool)
    lines = centerline.trace(np.zeros(area.shape), area, 0.5, CELL)
    assert lines == [] and centerline.no_length(lines, 100) == centerline.NO_LINE


def test_a_net_has_no_length():
    rungs = [np.array([(x, 0.0), (x, 300.0)]) for x in range(0, 301, 25)]
    rungs += [line[:, ::-1] for line in rungs]
    assert centerline.no_length(rungs, 1e6) == centerline.NET
    assert centerline.no_length(rungs[:1], 300 * centerline.MIN_WIDTH_PX) == ""


def test_no_line_is_longer_than_its_outlines_allow():
    line = np.array([(0.0, 0.0), (100.0, 0.0)])
    assert centerline.no_length([line], 100 * centerline.MIN_WIDTH_PX) == ""
    assert centerline.no_length([line], 100 * centerline.MIN_WIDTH_PX - 1) == centerline.NET


@pytest.mark.parametrize("seed", range(3))
def test_noise_has_no_length_or_one_that_its_area_allows(seed):
    strength = np.random.default_rng(seed).random((SIDE, SIDE))
    lines = centerline.trace(strength, np.ones(strength.shape, bool), 0.5, CELL)
    assert centerline.no_length(lines, SIDE * SIDE) == centerline.NET


def test_a_large_area_is_looked_at_on_a_coarser_grid(monkeypatch):
    points = [(20, 40), (150, 200), (300, 220)]
    fine = centerline.length(traced(points, 8))
    monkeypatch.setattr(centerline, "MAX_GRID", SIDE * SIDE / 16)
    assert centerline.length(traced(points, 8)) == pytest.approx(fine, rel=0.03)
