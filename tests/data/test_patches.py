import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackflow.data import patches
from crackflow.data.images import BadImage


@given(st.integers(8, 200), st.integers(8, 200), st.integers(8, 64))
def test_windows_cover_every_pixel_and_stay_inside(width, height, patch_px):
    if min(width, height) < patch_px:
        with pytest.raises(BadImage, match=f"{width} x {height} pixels: expected at least --patch_px={patch_px}"):
            patches.cut(np.zeros((height, width), np.uint8), patch_px, 0.01)
        return
    windows, unclear = patches.cut(np.zeros((height, width), np.uint8), patch_px, 0.01)
    covered = np.zeros((height, width), bool)
    for x, y, px, label, _ in windows:
        assert 0 <= x <= width - px and 0 <= y <= height - px and px == patch_px and label == 0
        covered[y : y + px, x : x + px] = True
    assert covered.all() and not unclear
    assert len(windows) == -(-width // patch_px) * -(-height // patch_px) == len(set(windows))


def labels(mask, patch_px=32, fraction=0.01):
    windows, unclear = patches.cut(mask, patch_px, fraction)
    return {(one.x, one.y): one.label for one in windows + unclear}


@pytest.mark.parametrize(("crack_pixels", "label"), [(0, 0), (1, -1), (10, -1), (11, 1), (1024, 1)])
def test_a_window_is_cracked_from_the_asked_share_of_crack_pixels_on(crack_pixels, label):
    mask = np.zeros((32, 32), np.uint8)
    mask.ravel()[:crack_pixels] = 255
    assert labels(mask) == {(0, 0): label}  # 1 % of 1,024 is 10.24


@pytest.mark.parametrize(("column", "label"), [(32, -1), (35, -1), (36, 0)])
def test_a_crack_within_4_px_outside_makes_a_window_unclear(column, label):
    mask = np.zeros((32, 64), np.uint8)
    mask[:, column] = 255
    assert labels(mask)[(0, 0)] == label
    assert labels(mask)[(32, 0)] == 1


@pytest.mark.parametrize(("level", "label"), [(127, 0), (128, 1)])
def test_an_anti_aliased_mask_counts_from_half_on(level, label):
    assert labels(np.full((32, 32), level, np.uint8)) == {(0, 0): label}


def test_a_cracked_window_knows_where_its_crack_lies():
    mask = np.zeros((32, 64), np.uint8)
    mask[30, 32:64] = 255  # the last row of cells of the second window
    (window,), _ = patches.cut(mask, 32, 0.01)
    assert window.cells == 0xFF << 56


def test_labelled_and_unclear_windows_are_told_apart_and_named_by_their_place():
    mask = np.zeros((32, 64), np.uint8)
    mask[0, 0] = 255
    windows, unclear = patches.cut(mask, 32, 0.01)
    assert windows == (patches.Window(32, 0, 32, 0),)
    assert [one.name("images/a b.jpg") for one in unclear] == ["images/a b.jpg#xywh=0,0,32,32"]
