import numpy as np
import pytest

from benchmarks import card_scenes
from crackflow.inference import marker_cover
from crackflow.inference.marker_plane import MarkerPlane

SIZE = (600, 500)


@pytest.mark.parametrize("angle", [0, 40])
def test_a_card_on_a_wall_becomes_wall_and_the_rest_stays(angle):
    matrix = card_scenes.camera(angle, 700.0, 1200.0, SIZE, azimuth=30.0)
    photo = card_scenes.photograph(matrix, SIZE, noise=0)
    outline = marker_cover.outline(MarkerPlane.of(card_scenes.marker_corners(matrix), 50.0), is_card=True)
    before, wall = photo.copy(), int(photo[0, 0, 0])
    covered = marker_cover.cover(photo, [outline])
    assert np.abs(covered.astype(int) - wall).max() <= 3 and (photo == before).all()
    assert (covered[:5] == photo[:5]).all()


def test_a_gradient_of_light_is_continued():
    wall = np.broadcast_to(np.linspace(60, 200, 400).astype(np.uint8)[None, :, None], (300, 400, 3)).copy()
    marked = wall.copy()
    marked[100:160, 150:210] = 0
    plane = MarkerPlane.of([(150, 100), (210, 100), (210, 160), (150, 160)], 10.0)
    covered = marker_cover.cover(marked, [marker_cover.outline(plane, is_card=False)])
    assert np.abs(covered.astype(int) - wall).max() < 25


def test_grey_photographs_and_parts_that_are_outside_are_covered_as_well():
    marked = np.full((100, 120, 1), 150, np.uint8)
    marked[:30, :30] = 0
    covered = marker_cover.cover(marked, [np.array([(-20.0, -20.0), (34, -20), (34, 34), (-20, 34)])])
    assert covered.shape == marked.shape and np.abs(covered.astype(int) - 150).max() <= 3


def test_without_an_outline_or_surroundings_nothing_changes():
    photo = np.full((60, 60, 3), 99, np.uint8)
    assert marker_cover.cover(photo, []) is photo
    assert marker_cover.cover(photo, [np.full((4, 2), np.nan)]) is photo
    all_of_it = np.array([(-50.0, -50.0), (200, -50), (200, 200), (-50, 200)])
    assert (marker_cover.cover(photo, [all_of_it, all_of_it + 1000]) == photo).all()
