import functools

import pytest

from benchmarks import card_scenes
from crackflow.data.card_layout import LINE_WIDTHS_MM
from crackflow.inference import card_lines
from crackflow.inference.card_lines import LineReading
from crackflow.inference.marker_plane import MarkerPlane


@functools.cache
def readings(angle=20, mm_per_px=0.15, blur_px=0.8, size=(1000, 800)):
    matrix = card_scenes.camera(angle, mm_per_px * 1500, 1500.0, size, azimuth=40.0, aim_mm=(74.0, 75.0))
    plane = MarkerPlane.of(card_scenes.marker_corners(matrix), 50.0)
    return card_lines.measure(card_scenes.photograph(matrix, size, blur_px=blur_px), plane)


@pytest.mark.parametrize("angle", [0, 40])
def test_printed_lines_are_read_as_they_are(angle):
    lines = readings(angle)
    assert [line.true_mm for line in lines] == list(LINE_WIDTHS_MM)
    assert all(abs(line.read_mm - line.true_mm) < 0.01 + 0.02 * line.true_mm for line in lines)


def test_lines_thinner_than_the_blur_are_read_by_the_light_they_take():
    lines = readings(blur_px=2.0)
    assert all(abs(line.read_mm - line.true_mm) < 0.03 for line in lines[:6])


def test_a_card_that_is_cut_off_or_another_sheet_has_no_lines():
    matrix = card_scenes.camera(0, 225.0, 1500.0, (1000, 800), aim_mm=(74.0, 75.0))
    photo = card_scenes.photograph(matrix, (1000, 800))
    corners = card_scenes.marker_corners(matrix)
    assert card_lines.measure(photo[:560], MarkerPlane.of(corners, 50.0)) == []
    assert card_lines.measure(photo, MarkerPlane.of(corners, 40.0)) == [], "printed for another side"
    blank = photo.copy()
    blank[int(corners[2, 1]) + 20 :] = 230
    assert card_lines.measure(blank, MarkerPlane.of(corners, 50.0)) == []


def test_the_sentence_says_what_was_read_and_what_was_not():
    lines = [LineReading(0.1, None), LineReading(0.2, 0.2249), LineReading(0.25, 0.3), LineReading(1.0, 0.98)]
    assert card_lines.sentence(lines) == (
        "on this photograph, of the lines on the card, 0.20 mm was read as 0.22 mm, 1.00 mm was read as 0.98 mm, "
        "0.10 mm could not be read"
    )
    assert card_lines.sentence([]) == ""
