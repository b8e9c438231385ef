"""Photographs and masks as tiles for a network."""

import numpy as np
import pytest

from crackflow.core.errors import UserError
from crackflow.explanation import inputs
from tests.helpers import support


def masked(tmp_path, name="a/one.png", width=64, height=32):
    """images/ and masks/ with one image whose right half contains a crack of 4 columns."""
    support.put(tmp_path / "images" / name, support.encoded(support.picture(1, width, height), "PNG"))
    mask = np.zeros((height, width, 3), np.uint8)
    mask[:, width * 3 // 4 : width * 3 // 4 + 4] = 255
    support.put(tmp_path / "masks" / name, support.encoded(mask, "PNG"))
    return str(tmp_path / "images"), str(tmp_path / "masks")


def tiles(files, rejected, patch_px=0, channels=3):
    return list(inputs.iter_tiles(files, channels, patch_px, 0.005, 100.0, rejected))


def test_a_folder_is_listed_with_its_subfolders_in_the_order_of_names(tmp_path):
    for name in ("b.jpg", "a/2.jpg", "a/1.jpg", ".hidden.jpg"):
        support.put(tmp_path / name, support.encoded(support.picture(1)))
    files, rejected = inputs.list_images(str(tmp_path), "")
    assert [file.path for file in files] == ["a/1.jpg", "a/2.jpg", "b.jpg"] and not rejected


def test_one_photograph_is_a_list_of_one(tmp_path):
    support.put(tmp_path / "one.png", support.encoded(support.picture(1), "PNG"))
    files, rejected = inputs.list_images(str(tmp_path / "one.png"), "")
    (tile,) = tiles(files, rejected)
    assert tile.name == "one.png" and tile.mask is None and tile.label == inputs.UNCLEAR
    np.testing.assert_array_equal(tile.pixels, support.picture(1))


def test_windows_are_cut_from_picture_and_mask_alike_and_labelled(tmp_path):
    files, rejected = inputs.list_images(*masked(tmp_path))
    clean, cracked = tiles(files, rejected, patch_px=32)
    assert (clean.name, cracked.name) == ("a/one.png#xywh=0,0,32,32", "a/one.png#xywh=32,0,32,32")
    assert (clean.label, cracked.label) == (0, 1)
    np.testing.assert_array_equal(cracked.pixels, support.picture(1, 64, 32)[:, 32:])
    assert not clean.mask.any() and cracked.mask[:, 16:20].all() and cracked.mask.sum() == 4 * 32
    for array in (clean.pixels, clean.mask):  # a view would keep the photograph in memory
        assert array.base is None or array.base.size <= array.size


def test_a_picture_looked_at_whole_takes_its_label_from_the_mask(tmp_path):
    files, rejected = inputs.list_images(*masked(tmp_path))
    (tile,) = tiles(files, rejected)
    assert tile.label == 1 and tile.mask.shape == (32, 64)


def test_a_mask_with_hardly_a_crack_tells_nothing_and_the_picture_is_left_out(tmp_path):
    images, masks = masked(tmp_path)
    speck = np.zeros((32, 64, 3), np.uint8)
    speck[3, 3] = 255
    support.put(tmp_path / "masks/a/one.png", support.encoded(speck, "PNG"))
    files, rejected = inputs.list_images(images, masks)
    assert tiles(files, rejected) == []
    assert rejected == [
        (
            "a/one.png",
            "neither clean nor cracked: 0.05% of it is crack, less than --min_crack_fraction (0.50%); --patch_px cuts "
            "it into tiles",
        )
    ]


def test_without_masks_windows_cover_the_picture(tmp_path):
    support.put(tmp_path / "one.png", support.encoded(support.picture(1, 70, 40), "PNG"))
    files, rejected = inputs.list_images(str(tmp_path), "")
    all_tiles = tiles(files, rejected, patch_px=32)
    seen = np.zeros((40, 70), bool)
    for tile in all_tiles:
        x, y, side, _ = map(int, tile.name.split("=")[1].split(","))
        seen[y : y + side, x : x + side] = True
    assert seen.all() and len(all_tiles) == 6


def test_what_cannot_be_read_is_listed_and_the_rest_goes_on(tmp_path):
    images, masks = masked(tmp_path)
    support.put(tmp_path / "images/broken.png", b"no picture")
    support.put(tmp_path / "masks/broken.png", b"no picture")
    support.put(tmp_path / "images/alone.png", support.encoded(support.picture(2), "PNG"))
    support.put(tmp_path / "images/other.png", support.encoded(support.picture(2), "PNG"))
    support.put(tmp_path / "masks/other.png", support.encoded(support.picture(2, 8, 8), "PNG"))
    files, rejected = inputs.list_images(images, masks)
    assert len(tiles(files, rejected, patch_px=32)) == 2
    reasons = dict(rejected)
    assert reasons["alone.png"] == "no mask of the same name in --masks"
    assert "broken.png" in reasons and "its mask is 8 x 8, the picture 64 x 64" in reasons["other.png"]


def test_results_that_lie_among_the_photographs_are_passed_over(tmp_path):
    for name in ("one.png", "why/overlays/one.png"):
        support.put(tmp_path / name, support.encoded(support.picture(1), "PNG"))
    files, rejected = inputs.list_images(str(tmp_path), "", without=str(tmp_path / "why"))
    assert [image.path for image in files] == ["one.png"] and not rejected


def test_a_window_larger_than_the_picture_is_a_reason(tmp_path):
    support.put(tmp_path / "one.png", support.encoded(support.picture(1), "PNG"))
    files, rejected = inputs.list_images(str(tmp_path), "")
    assert tiles(files, rejected, patch_px=65) == [] and "at least --patch_px=65" in rejected[0][1]


def test_a_grey_network_is_given_grey(tmp_path):
    support.put(tmp_path / "one.png", support.encoded(support.picture(1), "PNG"))
    files, rejected = inputs.list_images(str(tmp_path), "")
    assert tiles(files, rejected, channels=1)[0].pixels.shape == (64, 64, 1)


def test_nothing_to_look_at_is_a_clear_error(tmp_path):
    with pytest.raises(
        UserError, match="--images: expected a photograph or a folder of them, received .*nothing there"
    ):
        inputs.list_images(str(tmp_path / "none"), "")
    with pytest.raises(UserError, match="--images: expected photographs in .*, found none"):
        inputs.list_images(str(tmp_path), "")
    support.put(tmp_path / "one.png", b"x")
    with pytest.raises(UserError, match="--masks: expected a folder, received"):
        inputs.list_images(str(tmp_path), str(tmp_path / "nomasks"))
    with pytest.raises(UserError, match="--masks: expected another folder than that of the photographs"):
        inputs.list_images(str(tmp_path), str(tmp_path))
    (tmp_path / "masks").mkdir()
    with pytest.raises(UserError, match="--images: expected photographs that have masks in .*, found none"):
        inputs.list_images(str(tmp_path / "one.png"), str(tmp_path / "masks"))


def test_masks_are_found_by_names_that_mean_their_photographs(tmp_path):
    for name in ("images/1.png", "masks/1_mask.png", "images/2.png", "masks/GT_2.png"):
        support.put(tmp_path / name, support.encoded(support.picture(1), "PNG"))
    images, rejected = inputs.list_images(str(tmp_path / "images"), str(tmp_path / "masks"))
    assert [(image.path, image.mask) for image in images] == [
        ("1.png", "1_mask.png"),
        ("2.png", "GT_2.png"),
    ] and not rejected


def test_where_no_photograph_has_a_mask_the_reason_is_told_with_its_count(tmp_path):
    for name in ("images/1.png", "images/2.png", "masks/9.png"):
        support.put(tmp_path / name, support.encoded(support.picture(1), "PNG"))
    with pytest.raises(
        UserError, match="found none; 2 of 2 rejected, such as '1.png': no mask of the same name in --masks"
    ):
        inputs.list_images(str(tmp_path / "images"), str(tmp_path / "masks"))
