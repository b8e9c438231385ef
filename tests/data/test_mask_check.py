"""The rules. tests/reports/test_masks_silently_misread.py covers the kinds of masks that people draw."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from crackflow.data import mask_check


def unused():
    raise AssertionError("the photograph is decoded only for a mask that is mostly white")


def describe(values, lossy=False, photo=unused):
    return mask_check.describe(Image.fromarray(values), lossy, photo)


@given(st.integers(0, 10**6), st.integers(1, 30), st.sampled_from([1, 2, 4]))
def test_drawn_cracks_are_masks_with_soft_edges_or_hard(seed, width, finer):
    draw = np.random.default_rng(seed)
    image = Image.new("L", (128 * finer, 128 * finer))
    points = [tuple(point) for point in draw.integers(0, 128 * finer, (4, 2)).tolist()]
    ImageDraw.Draw(image).line(points, 255, max(width * finer // 2, 2 * finer))
    values = np.asarray(image.resize((128, 128), Image.Resampling.BOX))
    if (values > mask_check.CRACK_ABOVE).mean() < 0.5 and values.max() > mask_check.CRACK_ABOVE:
        assert describe(values) == ""


@given(st.integers(20, 235), st.integers(6, 40))
def test_an_area_of_any_grey_beside_white_is_another_class(level, side):
    values = np.zeros((128, 128), np.uint8)
    values[100:104] = 255
    values[10 : 10 + side, 10 : 10 + side] = level
    assert f"has areas of the value {level}," in describe(values)


@pytest.mark.parametrize("share, refused", [(0.4, False), (0.6, True), (1.0, True)])
def test_more_white_than_half_needs_a_photograph_that_is_dark_there(share, refused):
    values = np.zeros((100, 100), np.uint8)
    values[: int(100 * share)] = 255
    bright = np.where(values, 180, 60).astype(np.uint8)
    assert bool(describe(values, photo=lambda: bright)) is refused
    assert bool(describe(values, photo=lambda: 240 - bright)) is (share > 0.9)


def test_a_few_coloured_pixels_are_a_scanners():
    values = np.zeros((200, 200, 3), np.uint8)
    values[:8] = 255
    values[50, :9] = 255, 0, 0
    assert describe(values) == ""
    values[51, :9] = 255, 0, 0
    assert "has colours (rgb(255, 0, 0))" in describe(values)
