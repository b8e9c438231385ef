import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crackflow.core.errors import ImageError
from crackflow.data import image_file, mask_tiles
from tests.helpers import support


@given(st.integers(8, 200), st.integers(8, 200), st.integers(8, 64))
def test_windows_cover_every_pixel_and_stay_inside(width, height, patch_px):
    if min(width, height) < patch_px:
        with pytest.raises(ImageError, match=f"{width} x {height} pixels: expected at least --patch_px={patch_px}"):
            mask_tiles.label_tiles(np.zeros((height, width), np.uint8), patch_px, 0.01)
        return
    windows, unclear = mask_tiles.label_tiles(np.zeros((height, width), np.uint8), patch_px, 0.01)
    covered = np.zeros((height, width), bool)
    for x, y, tile_px, label, _ in windows:
        assert 0 <= x <= width - tile_px and 0 <= y <= height - tile_px and tile_px == patch_px and label == 0
        covered[y : y + tile_px, x : x + tile_px] = True
    assert covered.all() and not unclear
    assert len(windows) == -(-width // patch_px) * -(-height // patch_px) == len(set(windows))


def labels(mask, patch_px=32, fraction=0.01):
    windows, unclear = mask_tiles.label_tiles(mask, patch_px, fraction)
    return {(tile.x, tile.y): tile.label for tile in windows + unclear}


@pytest.mark.parametrize(("crack_pixels", "label"), [(0, 0), (1, -1), (10, -1), (11, 1), (1024, 1)])
def test_a_tile_is_cracked_from_the_requested_fraction_of_crack_pixels_on(crack_pixels, label):
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
    mask[30, 32:64] = 255  # the last row of cells of the second tile
    (window,), _ = mask_tiles.label_tiles(mask, 32, 0.01)
    assert window.mask_bits == 0xFF << 56


def test_labelled_and_unclear_tiles_are_separated_and_named_by_their_position():
    mask = np.zeros((32, 64), np.uint8)
    mask[0, 0] = 255
    windows, unclear = mask_tiles.label_tiles(mask, 32, 0.01)
    assert windows == (mask_tiles.Tile(32, 0, 32, 0),)
    assert [tile.name("images/a b.jpg") for tile in unclear] == ["images/a b.jpg#xywh=0,0,32,32"]


def masked(tmp_path, values, mode, form="PNG"):
    """`read_mask` of `values` uint8 [H, W] or [H, W, C], stored in `mode`."""
    support.put(tmp_path / "photo.png", support.encoded(support.picture(0), "PNG"))
    Image.fromarray(values, mode).save(tmp_path / "mask.png", form)
    photo = image_file.open_photo(str(tmp_path / "photo.png"), 1.0)
    return mask_tiles.read_mask(str(tmp_path), "mask.png", photo, 1.0)


@pytest.mark.parametrize("value", [1, 38, 127])
def test_a_mask_of_class_numbers_is_refused_and_not_read_as_a_clean_one(tmp_path, value):
    crack = np.zeros((64, 64), np.uint8)
    crack[20:24] = value
    with pytest.raises(ImageError, match=f"its mask 'mask.png' has no value above {value}: expected white, 255, where"):
        masked(tmp_path, crack, "L")


@pytest.mark.parametrize("values", [(1, 2), (1, 2, 7), (76, 40, 12), (29,), (54, 3)], ids=str)
def test_masks_of_several_classes_or_of_a_dark_colour_are_refused(tmp_path, values):
    crack = np.zeros((64, 64), np.uint8)
    for number, value in enumerate(values):
        crack[8 + 6 * number : 11 + 6 * number] = value
    with pytest.raises(
        ImageError, match=f"has no value above {max(values)}: expected white, 255, where there is crack"
    ):
        masked(tmp_path, crack, "L")


def test_a_clean_mask_and_one_with_a_compressors_noise_are_accepted(tmp_path):
    clean = np.zeros((64, 64), np.uint8)
    assert not masked(tmp_path, clean, "L").any()
    clean[3, 3:6] = 1, 2, 3
    assert masked(tmp_path, clean, "L").max() == 3


def test_where_a_mask_is_transparent_there_is_no_crack(tmp_path):
    crack = np.zeros((64, 64, 4), np.uint8)
    crack[20:24] = 255
    mask = masked(tmp_path, crack, "RGBA")
    assert (mask[20:24] == 255).all() and mask.mean() == 255 * 4 / 64
