import functools
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import card_scenes
from crackflow.core.config.card import MarkerDictionary
from crackflow.core.errors import UserError
from crackflow.data import card_layout
from crackflow.inference import marker_plane
from crackflow.inference.marker_plane import MarkerPlane

SIZE, FOCAL = (900, 700), 1200.0
CARD = MarkerDictionary.APRILTAG_36H11


@functools.cache
def scene(angle):
    """(matrix from the card to pixels, the photograph) from 0.36 m, at 0.3 mm a pixel."""
    matrix = card_scenes.camera(angle, 360.0, FOCAL, SIZE, azimuth=25.0, aim_mm=(74.0, 80.0))
    return matrix, card_scenes.photograph(matrix, SIZE)


@pytest.mark.parametrize("angle", [0, 30, 50])
def test_corners_are_within_a_tenth_of_a_pixel(angle):
    matrix, photo = scene(angle)
    (marker,) = marker_plane.find_markers(photo, CARD)
    assert marker.number == card_layout.CARD_ID
    assert np.sqrt(((marker.corners - card_scenes.marker_corners(matrix)) ** 2).mean()) < marker_plane.CORNER_PX


def test_grey_photographs_have_the_same_markers():
    photo = scene(30)[1]
    (colour,), (grey,) = (marker_plane.find_markers(image, CARD) for image in (photo, photo[..., :1]))
    assert np.allclose(colour.corners, grey.corners, atol=0.05)


def test_a_large_photograph_is_made_smaller_for_the_search_alone(monkeypatch):
    (whole,) = marker_plane.find_markers(scene(30)[1], CARD)
    monkeypatch.setattr(marker_plane, "DETECTED_PIXELS", 160_000)
    (small,) = marker_plane.find_markers(scene(30)[1], CARD)
    assert np.allclose(whole.corners, small.corners, atol=0.05)


def test_other_dictionaries_and_plain_walls_have_no_marker():
    assert marker_plane.find_markers(scene(0)[1], MarkerDictionary.ARUCO_4X4_50) == []
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    assert marker_plane.find_markers(noise, CARD) == []


@pytest.mark.parametrize("dictionary", MarkerDictionary)
def test_opencv_has_every_dictionary(dictionary):
    modules = marker_plane.marker_modules(dictionary, 1)
    assert modules[0].all() and modules[:, 0].all() and not modules.all()


def test_the_angle_is_that_of_the_camera():
    for angle in (15, 30, 50):
        matrix = scene(angle)[0] if angle != 15 else card_scenes.camera(15, 360.0, FOCAL, SIZE)
        plane = MarkerPlane.of(card_scenes.marker_corners(matrix), 50.0)
        assert plane.view_angle([(SIZE[0] / 2, SIZE[1] / 2)]) == pytest.approx(angle, abs=0.1)


@given(st.floats(0, 50), st.floats(0, 360), st.floats(300, 900), st.floats(0, 148), st.floats(0, 200))
def test_lengths_through_the_plane_are_those_on_the_wall(angle, azimuth, distance, x, y):
    matrix = card_scenes.camera(angle, distance, FOCAL, SIZE, azimuth=azimuth)
    plane = MarkerPlane.of(card_scenes.marker_corners(matrix), 50.0)
    wall = np.array([(15.0, 20.0), (x, y), (140.0, 180.0)])
    line = card_scenes.project(matrix, wall)
    assert plane.length_mm([line]) == pytest.approx(np.hypot(*np.diff(wall, axis=0).T).sum(), rel=1e-6, abs=1e-6)
    assert np.allclose(plane.to_px(plane.to_mm(line)), line)


@given(st.floats(0, 50), st.floats(0, 360), st.floats(0, 6.28))
def test_the_local_scale_is_that_of_a_short_piece(angle, azimuth, direction):
    matrix = card_scenes.camera(angle, 400.0, FOCAL, SIZE, azimuth=azimuth)
    plane = MarkerPlane.of(card_scenes.marker_corners(matrix), 50.0)
    at, step = np.array([[420.0, 300.0]]), 0.001 * np.array([[np.cos(direction), np.sin(direction)]])
    along = plane.mm_per_px_along(at, step)[0]
    assert along == pytest.approx(plane.length_mm([np.concatenate([at - step, at + step])]) / 0.002, rel=1e-5)
    across = plane.mm_per_px_along(at, [[1, 0]])[0], plane.mm_per_px_along(at, [[0, 1]])[0]
    assert plane.mm_per_px(at)[0] <= np.prod(across) ** 0.5 * (1 + 1e-9)


def test_errors_are_those_of_corners_that_are_off_at_random():
    matrix = card_scenes.camera(30, 360.0, FOCAL, SIZE)
    corners, random, at = card_scenes.marker_corners(matrix), np.random.default_rng(0), [[450.0, 350.0], [800.0, 600.0]]
    values = [np.log(MarkerPlane.of(corners + random.normal(0, 0.3, (4, 2)), 50.0).mm_per_px(at)) for _ in range(400)]
    stated = MarkerPlane.of(corners, 50.0).relative_error(at, 0.3)
    assert np.allclose(1.96 * np.std(values, axis=0), stated, rtol=0.15) and stated[1] > stated[0]


def test_beyond_the_horizon_nothing_is_measured():
    matrix = card_scenes.camera(60, 300.0, 300.0, SIZE, azimuth=0.0)
    plane = MarkerPlane.of(card_scenes.marker_corners(matrix), 50.0)
    ends = [(-5000.0, 350.0), (5000.0, 350.0)]
    assert np.isnan(plane.mm_per_px(ends)).any() and np.isnan(plane.length_mm([ends]))


def test_edges_in_shadow_or_without_contrast_give_no_corner():
    matrix, photo = scene(0)
    grey = photo[..., 0].copy()
    assert marker_plane._refine(np.full_like(grey, 90), card_scenes.marker_corners(matrix)) is None
    assert marker_plane._refine(grey, card_scenes.marker_corners(matrix) * 0.01) is None


def test_dirt_on_an_edge_moves_no_corner():
    matrix, photo = scene(0)
    dirty, corner = photo.copy(), card_scenes.marker_corners(matrix)[0].astype(int)
    dirty[corner[1] - 8 : corner[1] + 8, corner[0] + 40 : corner[0] + 60] = 60
    (clean,), (marker,) = (marker_plane.find_markers(image, CARD) for image in (photo, dirty))
    assert np.abs(clean.corners - marker.corners).max() < 0.2


def test_without_opencv_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"--marker_mm needs OpenCV, .* pip install 'crackflow\[scale\]', or leave"):
        marker_plane.find_markers(np.zeros((20, 20, 3), np.uint8), CARD)


def test_an_opencv_without_markers_is_refused(monkeypatch):
    monkeypatch.delattr("cv2.aruco")
    with pytest.raises(UserError, match="expected OpenCV 4.7 or newer with markers, received 5"):
        marker_plane.load_opencv("--marker_mm")
