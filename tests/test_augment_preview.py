"""The preview as a user runs it."""

import numpy as np
import pytest
from PIL import Image

from crackflow import augment_preview
from crackflow.core.config.augmentation import Augment, Augmentation, PreviewConfig
from crackflow.pipeline import tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from tests.helpers import small, support


def preview(tmp_path, **settings):
    config = PreviewConfig(
        data=small.data().folder, out=str(tmp_path / "p.png"), **{"image_px": 32, "pictures": 3, "steps": 4} | settings
    )
    augment_preview.run(config)
    return np.asarray(Image.open(tmp_path / "p.png"))


def cell(page, row, column, px=32):
    gap = augment_preview.GAP
    top, left = gap + row * (px + gap), gap + column * (px + gap) + (2 * gap if column else 0)
    return page[top : top + px, left : left + px]


def test_the_first_column_is_the_picture_and_the_others_are_changed(tmp_path):
    page = preview(tmp_path)
    assert page.shape == (3 * 36 + 4, 5 * 36 + 12, 3)
    image, _ = next(iter(tfrecord_loader.train_batches(small.data(), BatchSpec(4, 32, 3, seed=0))))
    for row in range(3):
        np.testing.assert_array_equal(cell(page, row, 0), image[row])
        assert not any(np.array_equal(cell(page, row, column), image[row]) for column in range(1, 5))


def test_without_augmentation_all_columns_are_the_picture(tmp_path):
    page = preview(tmp_path, augmentation=Augmentation(augment=Augment.NONE))
    for column in range(1, 5):
        np.testing.assert_array_equal(cell(page, 0, column), cell(page, 0, 0))


def test_mixup_of_an_odd_number_of_pictures_can_be_seen(tmp_path):
    page = preview(tmp_path, augmentation=Augmentation(augment=Augment.NONE, mixup=0.5))
    assert not np.array_equal(cell(page, 2, 1), cell(page, 2, 0))


@pytest.mark.parametrize(
    "options, message",
    [
        (["--out=p.jpg"], "--out: expected a file name that ends in .png, received 'p.jpg'"),
        (["--out=there.png"], "--out: 'there.png' exists; choose another name, or add --overwrite"),
        (["--out=p.png", "--data=nowhere"], "nowhere"),
        (["--out=p.png", "--noise=500"], "--noise: expected 0 to 128, or -1 for the preset's, received 500.0"),
        (["--out=p.png", "--pictures=0"], "--pictures: expected 1 to 100, received 0"),
        (["--out=p.png", "--steps=0"], "--steps: expected 1 to 100, received 0"),
        (["--out=p.png", "--image_px=8"], "--image_px: expected 32 to 1024, received 8"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(tmp_path, monkeypatch, options, message):
    (tmp_path / "there.png").write_bytes(b"mine")
    monkeypatch.chdir(tmp_path)
    support.expect_one_line(support.called("augment_preview", f"--data={small.data().folder}", *options), 2, message)
    assert [path.name for path in tmp_path.iterdir()] == ["there.png"]
    assert (tmp_path / "there.png").read_bytes() == b"mine"


@pytest.mark.slow
def test_it_runs_as_a_command(tmp_path):
    line = f"--data={small.data().folder}", "--out=p.png", "--image_px=32", "--pictures=2"
    done = support.command("augment_preview", *line, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert "first column: the picture itself\npreview p.png\n" in done.stdout and (tmp_path / "p.png").exists()
    support.expect_one_line(support.called("augment_preview", *line, f"--out={tmp_path}/p.png"), 2, "exists; choose")
