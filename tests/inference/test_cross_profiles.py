import numpy as np
import pytest

from crackflow.inference import cross_profiles
from crackflow.inference.cross_profiles import GreyPixels

LINE = np.array([[20.0, 60.0], [180.0, 60.0]])


def wall(height=120, width=200, channels=3, rows=slice(58, 62)):
    """Grey, with a dark bar: uint8 [height, width, channels]."""
    pixels = np.full((height, width, channels), 170, np.uint8)
    pixels[rows] = 50
    return pixels


def test_light_is_that_of_srgb():
    assert cross_profiles.LIGHT[[0, 255]].tolist() == [0, 1]
    assert cross_profiles.LIGHT[128] == pytest.approx(0.2158, abs=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_hold_the_pixels_of_the_whole(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 410, channels), np.uint8)
    whole, tiles = GreyPixels.of(pixels), GreyPixels.of(pixels, np.ones((7, 9), bool))
    for area in ((0, 0, 300, 410), (-5, -7, 40, 50), (100, 120, 77, 200), (280, 390, 40, 40)):
        np.testing.assert_array_equal(whole.crop(*area), tiles.crop(*area))


def test_only_needed_tiles_are_stored():
    needed = np.zeros((4, 4), bool)
    needed[0, 0] = True
    tiles = GreyPixels.of(np.zeros((512, 512, 3), np.uint8), needed)
    assert list(tiles.tiles) == [(0, 0)]
    assert np.isnan(tiles.crop(0, 100, 10, 60)).any() and not np.isnan(tiles.crop(0, 0, 128, 128)).any()


def test_stations_move_onto_the_dark_line_and_tell_its_width():
    near = cross_profiles.stations(GreyPixels.of(wall()), LINE + [0, 3])
    assert np.abs(near.points[10:-10, 1] - 60).max() < 0.3
    assert np.median(near.rough_widths) == pytest.approx(4, abs=0.7)
    np.testing.assert_allclose(np.abs(near.normals[:, 1]), 1, atol=1e-6)


def test_where_nothing_is_dark_there_is_no_width():
    near = cross_profiles.stations(GreyPixels.of(wall(rows=slice(0, 0))), LINE)
    assert np.isnan(near.rough_widths).all()


def test_profiles_are_means_of_neighbours_at_right_angles():
    grey = GreyPixels.of(wall())
    near = cross_profiles.stations(grey, LINE)[: 2 * cross_profiles.POOL]
    offsets, profiles = cross_profiles.pooled(grey, near, 10)
    assert profiles.shape == (2, len(offsets)) == (2, 41) and offsets[[0, -1]].tolist() == [-10, 10]
    assert profiles[:, 20] == pytest.approx(cross_profiles.LIGHT[50], abs=0.03)
    assert profiles[:, 0] == pytest.approx(cross_profiles.LIGHT[170], abs=0.03)


def test_beyond_the_border_there_is_no_profile():
    grey = GreyPixels.of(wall(rows=slice(0, 4)))
    near = cross_profiles.stations(grey, np.array([[20.0, 2.0], [180.0, 2.0]]))[: cross_profiles.POOL]
    assert np.isnan(cross_profiles.pooled(grey, near, 10)[1]).any()


def test_points_lie_evenly_along_a_line():
    points = cross_profiles.resample(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [9.0, 12.0]]), 1.0)
    np.testing.assert_allclose(np.hypot(*np.diff(points, axis=0).T), 1.0)
    assert points[[0, -1]].tolist() == [[0, 0], [9, 12]]
