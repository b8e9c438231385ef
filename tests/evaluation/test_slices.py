"""Slices of a dataset, and the properties that divide it."""

import numpy as np
import pytest

from crackflow.conversion import layouts
from crackflow.core.config.data import Layout
from crackflow.data.dataset import Dataset
from crackflow.evaluation import slices
from tests.helpers import support


def test_brightness_is_the_mean_grey_level_and_blur_lowers_sharpness():
    generator = np.random.default_rng(0)
    noisy = generator.integers(0, 256, (1, 32, 32, 3), np.uint8)
    smooth = np.full((1, 32, 32, 3), 77, np.uint8)
    statistics = slices.image_statistics(np.concatenate([noisy, smooth]))
    assert statistics[0, 0] == pytest.approx(noisy.mean(), abs=0.01) and statistics[1].tolist() == [77, 0]
    halved = (noisy // 2).astype(np.uint8)
    assert slices.image_statistics(halved)[0, 1] == pytest.approx(statistics[0, 1] / 4, rel=0.05)


def test_the_laplacian_is_that_of_four_neighbours():
    image = np.random.default_rng(1).integers(0, 256, (1, 8, 8, 1), np.uint8)
    grey = np.pad(image[0, ..., 0].astype(float), 1, mode="edge")
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    assert slices.image_statistics(image)[0, 1] == pytest.approx(edges.var(), rel=1e-4)


@pytest.mark.parametrize(
    ("layout", "path", "folder"),
    [
        ("classes", "Positive/00001.jpg", ""),
        ("classes", "Positive/bridge/a/1.jpg", "bridge/a"),
        ("classes", "bridge 1/cracked/1.jpg", "bridge 1"),
        ("classes", "archive/Positive/bridge/1.jpg", "archive/bridge"),
        ("classes", "rissig/bridge/1.jpg", "bridge"),
        ("sdnet", "D/CD/7001-1.jpg", "D"),
        ("sdnet", "SDNET2018/Decks/Non-cracked/7001-1.jpg", "SDNET2018/Decks"),
        ("masks", "archive/Photos/road/x.png", "archive/road"),
        ("masks", "images/x.png#xywh=0,0,8,8", ""),
        ("masks", "images/road/x.png", "road"),
        ("joined", "metu/Positive/00001.jpg", "metu"),
    ],
)
def test_the_folder_that_tells_the_class_is_no_slice(layout, path, folder):
    assert slices.folders([path], layout) == [folder]


@pytest.mark.parametrize("width", [2, 3, 4, 5, 8, 15])
def test_the_width_of_a_strip_is_its_width(width):
    crack = np.zeros((60, 60), bool)
    crack[:, 20 : 20 + width] = True
    assert slices.width_px(crack) == pytest.approx(width, rel=0.12)
    assert slices.width_px(crack.T) == slices.width_px(crack)


def test_no_crack_has_no_width():
    assert np.isnan(slices.width_px(np.zeros((8, 8), bool)))


@pytest.mark.parametrize(
    ("picture", "mask"),
    [
        ("photos/one.png", "masks/one.png"),
        ("Image/one.png", "Label/one_mask.png"),
        ("archive/images/one.png", "archive/groundtruth/gt_one.png"),
    ],
)
def test_widths_are_told_however_the_folders_are_called_that_convert_reads(tmp_path, picture, mask):
    crack = np.zeros((64, 64, 3), np.uint8)
    crack[:, 20:26] = 255
    support.put(tmp_path / picture, support.encoded(support.picture(1, 64, 64), "PNG"))
    support.put(tmp_path / mask, support.encoded(crack, "PNG"))
    assert layouts.scan_layout(str(tmp_path), Layout.AUTO, "").layout is Layout.MASKS
    dataset = Dataset("", {"layout": "masks", "source": str(tmp_path)})
    assert slices.crack_widths(dataset, [f"{picture}#xywh=0,0,64,64"])[0] == pytest.approx(6, rel=0.1)


def test_widths_come_from_the_masks_the_windows_were_cut_by(tmp_path):
    mask = np.zeros((64, 128, 3), np.uint8)
    mask[:, 90:96] = 255
    wide_mask = np.zeros_like(mask)
    wide_mask[:, 90:102] = 255
    for folder, values in (("images", support.picture(1, 128, 64)), ("masks", mask)):
        support.put(tmp_path / folder / "a/one.png", support.encoded(values, "PNG"))
    support.put(tmp_path / "masks/a/one#2.png", support.encoded(wide_mask, "PNG"))
    dataset = Dataset("", {"layout": "masks", "source": str(tmp_path)})
    paths = [f"images/a/one.png#xywh={x},0,64,64" for x in (0, 64)] + ["images/gone.png#xywh=0,0,8,8"]
    widths = slices.crack_widths(dataset, paths)
    assert np.isnan(widths[[0, 2]]).all() and widths[1] == pytest.approx(6, rel=0.1)
    wide = slices.crack_widths(dataset, ["images/a/one#2.png#xywh=64,0,64,64", "images/a/one#2.png"])
    np.testing.assert_allclose(wide, 12, rtol=0.1)  # a file name may contain the mark of a window
    support.put(tmp_path / "masks/a/one.png", b"broken")
    assert np.isnan(slices.crack_widths(dataset, paths)).all()
    assert np.isnan(slices.crack_widths(Dataset("", {"layout": "classes", "source": str(tmp_path)}), paths)).all()
    assert np.isnan(slices.crack_widths(Dataset("", {"layout": "masks"}), paths)).all()


def sample(count=400):
    generator = np.random.default_rng(2)
    labels = generator.random(count) < 0.5
    return labels, labels ^ (generator.random(count) < 0.1), generator.random(count)


def test_quarters_hold_every_image_once_and_a_quarter_each():
    labels, decisions, values = sample()
    parts = slices.divide(labels, decisions, {"brightness": values}, {})
    assert [part.n for part in parts] == [100] * 4 and {part.kind for part in parts} == {"brightness"}
    assert sum(part.cracked for part in parts) == labels.sum()
    whole = sum(part.accuracy * part.n for part in parts) / 400
    assert whole == pytest.approx((labels == decisions).mean())


def test_the_figures_of_a_slice_are_those_of_its_images():
    labels, decisions, values = sample()
    lowest = slices.divide(labels, decisions, {"sharpness": values}, {})[0]
    inside = values < np.quantile(values, 0.25)
    assert lowest.recall == pytest.approx(decisions[inside & labels].mean())
    assert lowest.specificity == pytest.approx((~decisions)[inside & ~labels].mean())
    low, high = lowest.recall_ci95
    assert low < lowest.recall < high


def test_unknown_values_are_in_no_slice_and_one_class_alone_has_no_rate_of_the_other():
    labels, decisions, values = sample()
    values = np.where(labels, values, np.nan)
    parts = slices.divide(labels, decisions, {"crack width": values}, {})
    assert sum(part.n for part in parts) == labels.sum()
    assert all(part.specificity is None and part.specificity_ci95 is None for part in parts)
    assert slices.divide(labels, decisions, {"crack width": np.full(400, np.nan)}, {}) == []


def test_names_are_slices_where_they_differ_and_the_small_ones_go_together():
    labels, decisions, _ = sample(200)
    assert slices.divide(labels, decisions, {}, {"folder": [""] * 200}) == []
    names = [f"f{min(index // 10, 15)}" for index in range(200)]
    parts = slices.divide(labels, decisions, {}, {"folder": names})
    assert len(parts) == slices.MAX_NAMES + 1 and parts[0].name == "f15" and parts[-1].name == "4 others"
    assert sum(part.n for part in parts) == 200


def test_values_that_hardly_differ_make_fewer_slices():
    labels, decisions, _ = sample(100)
    parts = slices.divide(labels, decisions, {"brightness": np.repeat([1.0, 2.0], 50)}, {})
    assert sum(part.n for part in parts) == 100
