"""Splits were taken for classes, Images/ and Masks/ for classes too, and why nothing was left was not told."""

import numpy as np
import pytest

from tests.helpers import support

NAME = "18-messages-that-mislead"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def converted(images, tmp_path, *more):
    return support.called("convert", f"--images={images}", f"--out={tmp_path / 'out'}", "--workers=1", *more)


@pytest.mark.parametrize("names", [("Train", "Test"), ("train", "valid")])
def test_splits_are_kept_as_splits(report, tmp_path, names):
    root = report(NAME) / "c_nest"
    for old, new in zip(("Train", "Test"), names, strict=True):
        (root / old).rename(root / f"{new}_")
        (root / f"{new}_").rename(root / new)
    done = converted(root, tmp_path)
    assert done.returncode == 0 and "in the splits of their folders or annotations, which are kept" in done.stdout
    assert converted(root / names[0], tmp_path, "--overwrite").returncode == 0


@pytest.mark.parametrize("folder", ["m_cap", "m_suf"])
def test_pictures_and_masks_are_found(report, tmp_path, folder):
    done = converted(report(NAME) / folder, tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(support.stored(tmp_path / "out")) == 8
    assert ("2 masks found by a name that differs" in done.stdout) is (folder == "m_suf")


@pytest.mark.parametrize("pictures, masks, end", [("image", "label", "-label"), ("photos", "annotations", "_gt")])
def test_other_names_of_pictures_and_masks(report, tmp_path, pictures, masks, end):
    root = report(NAME) / "m_cap"
    (root / "Images").rename(root / pictures)
    (root / "Masks").rename(root / masks)
    for path in list((root / masks).iterdir()):
        path.rename(path.with_stem(path.stem + end))
    assert converted(root, tmp_path).returncode == 0


def test_masks_of_other_names_altogether_are_told_with_the_count(report, tmp_path):
    root = report(NAME) / "m_suf"
    for number, path in enumerate(sorted((root / "masks").iterdir())):
        path.rename(root / f"masks/drawing {number + 7}.png")
    done = converted(root, tmp_path)
    support.expect_one_line(done, 2, "2 of 2 rejected, such as 'images/000.jpg': no mask of the same name in masks/")


def test_pointers_of_git_lfs_are_named_and_counted(tmp_path):
    for number in range(12):
        support.put(tmp_path / "photos" / support.CLASSES[number % 2] / f"{number}.jpg", LFS)
    done = converted(tmp_path / "photos", tmp_path)
    support.expect_one_line(
        done, 2, "none of 'Negative' or 'Positive'", "12 of 12 rejected", "a Git LFS pointer", "git lfs pull"
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"<!DOCTYPE html><html>404</html>", "a web page"), (b'{"error": 403}', "a server's error message")],
)
def test_the_class_that_is_lost_is_named_with_the_reason(tmp_path, data, words):
    support.photos(tmp_path / "photos", 20)
    for path in (tmp_path / "photos/Positive").iterdir():
        path.write_bytes(data)
    done = converted(tmp_path / "photos", tmp_path)
    support.expect_one_line(done, 2, "found none of 'Positive'; 10 of 10 rejected", words)
    assert "'Negative'" not in done.stderr


def test_inverted_masks_are_suspected(tmp_path):
    for number in range(3):
        mask = np.full((256, 256, 3), 255, np.uint8)
        mask[:, 100:108] = 0
        support.put(tmp_path / f"photos/images/{number}.jpg", support.encoded(support.picture(number, 256, 256)))
        support.put(tmp_path / f"photos/masks/{number}.png", support.encoded(mask, "PNG"))
    support.expect_one_line(
        converted(tmp_path / "photos", tmp_path), 2, "none of 'uncracked'", "expected white, 255", "invert"
    )
