"""Images of maps and filters."""

import io

import numpy as np
import pytest
from PIL import Image

from crackflow.data import overlays
from tests.helpers import predictions, support


def test_no_heat_leaves_the_image_grey_and_heat_colours_its_position():
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    plain = overlays.overlay(picture, np.zeros((32, 32), np.float32))
    np.testing.assert_array_equal(plain, np.repeat(np.round(picture.mean(-1))[..., None], 3, -1))
    heat = np.zeros((32, 32), np.float32)
    heat[4:8, 24:28] = 1
    hot = overlays.overlay(picture, heat)
    np.testing.assert_array_equal(hot[36:, :30], plain[36:, :30])
    red, green, blue = hot[8:11, 50:54].reshape(-1, 3).mean(0)
    assert red > 100 and green < 60 and blue < 90


def test_the_scale_is_the_maps_own():
    picture = np.full((32, 32, 1), 128, np.uint8)
    heat = np.random.default_rng(1).random((32, 32)).astype(np.float32)
    np.testing.assert_array_equal(overlays.overlay(picture, heat), overlays.overlay(picture, 1000 * heat))


def test_a_sheet_holds_every_image_at_its_position():
    dark, bright = (np.full((8, 8, 3), value, np.uint8) for value in (10, 200))
    page = overlays.sheet([[dark, bright], [bright]])
    gap = overlays.GAP
    assert page.shape == (2 * 8 + 3 * gap, 2 * 8 + 3 * gap, 3)
    assert (page[gap : gap + 8, gap : gap + 8] == 10).all()
    assert (page[gap : gap + 8, 2 * gap + 8 : 2 * gap + 16] == 200).all()
    assert (page[2 * gap + 8 : 2 * gap + 16, gap : gap + 8] == 200).all()
    assert (page[2 * gap + 8 :, 2 * gap + 8 :] == 255).all()


def test_a_sheet_keeps_the_shape_of_images_and_names_its_columns():
    wide = np.full((10, 40, 1), 50, np.uint8)
    page = overlays.sheet([[wide]], side=20, names=["one"])
    inside = page[14 + overlays.GAP :, overlays.GAP :]
    assert (inside[:5, :20] == 50).all() and (inside[5:20] == 255).all()
    assert (page[:14] < 255).any()


def test_filters_are_drawn_around_grey_each_on_its_own_scale():
    kernel = np.zeros((3, 3, 3, 2), np.float32)
    kernel[0, 0, :, 0], kernel[2, 2, :, 0], kernel[1, 1, 0, 1] = 1, -1, 100
    page = overlays.filters(kernel)
    first, second = page[4:28, 4:28], page[4:28, 32:56]
    assert (
        (first[2, 2] == 255).all() and (first[21, 21] == 0).all() and (abs(first[12, 12].astype(int) - 128) <= 1).all()
    )
    assert second[12, 12].tolist()[0] == 255 and abs(int(second[12, 12][1]) - 128) <= 1


def test_filters_of_many_channels_are_a_row_for_each():
    page = overlays.filters(np.random.default_rng(2).normal(size=(3, 3, 40, 5)).astype(np.float32))
    assert page.shape == (5 * 28 + 4, 16 * 28 + 4, 3)


def test_activations_show_the_most_active_first_and_no_more_than_64():
    maps = np.random.default_rng(3).random((4, 4, 100)).astype(np.float32) / 100
    maps[..., 70] = np.eye(4)
    page = overlays.activations(maps, side=8)
    assert page.shape[0] == 8 * 12 + 4
    top = page[4:12, 4:12]
    assert (top[:2, :2] != top[:2, 2:4]).any() and (top[0, 0] == top[2, 2]).all()


def test_png_comes_back_as_it_went():
    pixels = np.random.default_rng(4).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(support.pixels(overlays.as_png(pixels)), pixels)


@pytest.mark.parametrize("size, expected", [((50, 80), (50, 80)), ((100, 400), (25, 100)), ((300, 30), (100, 10))])
def test_a_photograph_is_shrunk_to_fit(size, expected):
    assert overlays.fitted(support.picture(0, size[1], size[0]), 100).shape == (*expected, 3)


def test_outlines_are_drawn_where_they_are_in_a_smaller_copy():
    prediction = predictions.photo(findings=(predictions.FOUND,))
    grey = np.full((32, 50, 3), 128, np.uint8)
    drawn = overlays.marked(grey, prediction)  # half as large as the photograph
    changed = np.argwhere((drawn != grey).any(-1))
    assert tuple(drawn[10, 20]) == overlays.MARKED["cracked"]
    assert changed[:, 1].min() >= 4 and changed[:, 1].max() <= 50


def test_a_jpeg_is_what_it_shows():
    pixels = support.picture(0)
    again = np.asarray(Image.open(io.BytesIO(overlays.as_jpeg(pixels))))
    assert np.abs(again.astype(int) - pixels).mean() < 3
