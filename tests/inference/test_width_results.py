import json

import numpy as np
import pytest

from crackflow.inference import width_results

INTERVAL = {"value": 2.0, "low": 1.5, "high": 2.5}
WIDTHS = {"median": INTERVAL, "p95": INTERVAL, "max": INTERVAL | {"at": [3.0, 4.0]}}
LINES = [{"points": [[0.0, 1.0], [5.0, 1.0]], "widths_px": [2.0, None]}]
LIMITS = {"blur_px": 0.8, "measurable_px": 1.6, "visible_px": 0.3, "measurable_mm": None, "visible_mm": None}


def test_a_line_keeps_its_course_with_fewer_points():
    x = np.arange(0, 200.0)
    line = np.stack([x, 10 * np.sin(x / 30)], 1)
    (branch,) = width_results.centerline([line], line[::7], np.zeros(len(line[::7]), int), np.full(len(line[::7]), 3.0))
    points = np.array(branch["points"])
    assert len(points) < 30 and branch["widths_px"] == [3.0] * len(points)
    assert np.hypot(*np.diff(points, axis=0).T).max() <= width_results.MAX_GAP_PX + 0.1
    assert np.abs(np.interp(x, *points.T) - line[:, 1]).max() < 1


def test_points_far_from_any_measurement_have_no_width():
    line = np.stack([np.arange(0, 100.0), np.zeros(100)], 1)
    (branch,) = width_results.centerline([line], line[[0, 40]], np.zeros(2, int), np.array([2.0, np.nan]))
    assert branch["widths_px"][0] == 2.0 and branch["widths_px"][1:] == [None] * (len(branch["points"]) - 1)


def test_millimetres_are_none_without_their_size():
    assert (
        width_results.in_mm(WIDTHS, 0) is width_results.in_mm(None, 0.5) is width_results.limits_in_mm(None, 1) is None
    )
    assert width_results.in_mm(WIDTHS, 0.5)["max"] == {"value": 1.0, "low": 0.75, "high": 1.25, "at": [3.0, 4.0]}


def test_what_was_written_is_valid_when_it_is_read():
    assert width_results.are_valid(json.loads(json.dumps(LINES)), json.loads(json.dumps(WIDTHS)), None)
    assert width_results.are_valid_limits(LIMITS) and width_results.are_valid_limits(None)
    assert width_results.are_valid([], None)


@pytest.mark.parametrize(
    "lines, widths",
    [
        ([{"points": [[0.0, 1.0]], "widths_px": []}], None),
        ([{"points": [[0.0, "1"]], "widths_px": [None]}], None),
        ([{"points": [[0.0, 1.0]], "widths_px": ["2"]}], None),
        ([], {"median": INTERVAL}),
        ([], WIDTHS | {"p95": INTERVAL | {"low": None}}),
        ([], WIDTHS | {"max": INTERVAL | {"at": [1.0]}}),
    ],
)
def test_what_was_edited_is_not_valid(lines, widths):
    assert not width_results.are_valid(lines, widths)


@pytest.mark.parametrize("name", ["blur_px", "measurable_mm"])
def test_limits_that_are_no_numbers_are_not_valid(name):
    assert not width_results.are_valid_limits(LIMITS | {name: "1"})
