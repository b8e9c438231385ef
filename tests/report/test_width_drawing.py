import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackflow.report import width_drawing

MM = width_drawing.scheme(0.1)


def branch(*widths, spacing=10):
    return {"points": [[spacing * index, 5.0] for index in range(len(widths))], "widths_px": list(widths)}


def draw(*branches, colours=MM, spacing_px=0.0):
    return {line.band: line.path for line in width_drawing.lines(branches, colours, spacing_px)}


def luminance(colour):
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_bands_lie_at_tenths_of_a_millimetre_where_the_scale_is_known():
    labels = [band.label for band in MM.bands]
    assert labels == ["under 0.1 mm", "0.1 to 0.2 mm", "0.2 to 0.3 mm", "0.3 to 0.4 mm", "0.4 mm and more"]
    labels = [band.label for band in width_drawing.scheme(None).bands]
    assert labels == ["under 1 px", "1 to 2 px", "2 to 4 px", "4 to 8 px", "8 px and more"]


def test_wider_bands_are_lighter_and_thicker():
    values = [luminance(band.colour) for band in MM.bands]
    assert values == sorted(values) and len(set(values)) == 5
    assert [band.thickness for band in MM.bands] == sorted({band.thickness for band in MM.bands})


@pytest.mark.parametrize("width, band", [(0.9, "0"), (1.0, "1"), (1.9, "1"), (3.9, "3"), (4.0, "4"), (99, "4")])
def test_a_width_belongs_to_the_band_that_begins_at_or_below_it(width, band):
    assert draw(branch(width, width)) == {band: "M0 5L10 5"}


def test_a_crack_is_cut_where_its_band_changes_and_has_no_gap():
    assert draw(branch(0.5, 0.5, 1.5, 3.5)) == {"0": "M0 5L10 5", "1": "M10 5L20 5", "2": "M20 5L30 5"}


def test_a_width_that_is_not_known_has_a_band_of_its_own():
    assert draw(branch(None, None, 0.5)) == {"none": "M0 5L10 5", "0": "M10 5L20 5"}


def test_branches_of_one_band_are_one_line():
    assert draw(branch(0.5, 0.5), branch(0.6, 0.6)) == {"0": "M0 5L10 5M0 5L10 5"}


def test_nothing_is_drawn_of_nothing():
    assert draw() == draw(branch()) == draw(branch(0.5)) == {} and width_drawing.lines(None, MM, 1.0) == []


@given(st.lists(st.none() | st.floats(0.1, 9), min_size=2, max_size=40), st.floats(0, 60))
def test_every_line_begins_and_ends_as_the_crack_does(widths, spacing_px):
    paths = draw(branch(*widths), spacing_px=spacing_px)
    xs = [float(text) for path in paths.values() for text in re.findall(r"[ML]([\d.]+) ", path)]
    assert min(xs) == 0 and max(xs) == 10 * (len(widths) - 1)
    ends = [re.findall(r"(?:^|L)([\d.]+) ", part) for path in paths.values() for part in path.split("M")[1:]]
    assert sum(float(end[-1]) - float(end[0]) for end in ends) == pytest.approx(max(xs))


def test_points_that_lie_close_are_left_out():
    assert draw(branch(*[0.5] * 100, spacing=1), spacing_px=30)["0"] == "M0 5L30 5L60 5L90 5L99 5"
