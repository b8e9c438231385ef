import os
import types

import pytest

from crackflow.core.config import Layout
from crackflow.core.errors import UserError
from crackflow.data import layouts
from tests import support


def touch(root, *paths):
    for path in paths:
        support.put(root / path, b"x")


def scan(root, layout=Layout.AUTO, positive_class=""):
    return layouts.scan(str(root), layout, positive_class)


@pytest.mark.parametrize(
    ("positive", "negative"),
    [
        ("Positive", "Negative"),
        ("crack", "no crack"),
        ("Cracked", "Non-cracked"),
        ("01_cracks", "02_uncracked"),
        ("defect", "sound"),
        ("crack", "anything"),
        ("whatever", "background"),
        ("with_crack", "without_crack"),
    ],
)
def test_the_class_that_means_cracked_is_guessed_from_the_names(tmp_path, positive, negative):
    touch(tmp_path, f"{positive}/a.jpg", f"{negative}/b.jpg")
    found = scan(tmp_path)
    assert found.layout is Layout.CLASSES
    assert found.classes == (negative, positive)
    assert {file.path: file.label for file in found.files} == {f"{positive}/a.jpg": 1, f"{negative}/b.jpg": 0}


def test_positive_class_decides_where_names_say_nothing_or_the_contrary(tmp_path):
    touch(tmp_path, "Positive/a.jpg", "Negative/b.jpg")
    assert scan(tmp_path, positive_class="Negative").classes == ("Positive", "Negative")


def test_files_are_found_in_folders_of_folders_sorted_by_path(tmp_path):
    touch(tmp_path, "Positive/z.jpg", "Positive/day 2/b.jpg", "Positive/day 1/deep/a.jpg", "Negative/c.jpg")
    paths = [file.path for file in scan(tmp_path).files]
    assert paths == sorted(paths)
    assert set(paths) == {"Positive/z.jpg", "Positive/day 2/b.jpg", "Positive/day 1/deep/a.jpg", "Negative/c.jpg"}


def test_masks_beside_two_class_folders_are_no_third_class(tmp_path):
    touch(tmp_path, "Positive/a.jpg", "Negative/b.jpg", "masks/a.png")
    assert [file.path for file in scan(tmp_path).files] == ["Negative/b.jpg", "Positive/a.jpg"]


def test_masks_are_those_of_the_cracked_pictures_of_their_name(tmp_path):
    touch(tmp_path, "Positive/a.jpg", "Positive/day 1/c.jpg", "Positive/d.jpg", "Negative/b.jpg")
    touch(tmp_path, "masks/a.png", "masks/b.png", "masks/day 1/c.png")
    masks = {file.path: file.mask for file in scan(tmp_path).files}
    assert masks["Positive/a.jpg"] == "masks/a.png" and masks["Positive/day 1/c.jpg"] == "masks/day 1/c.png"
    assert masks["Positive/d.jpg"] == masks["Negative/b.jpg"] == ""


def test_hidden_folders_are_no_class(tmp_path):
    touch(tmp_path, "Positive/a.jpg", "Negative/b.jpg", ".cache/c.jpg")
    assert len(scan(tmp_path).files) == 2


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path):
    touch(tmp_path, "elsewhere/a.jpg", "root/Negative/b.jpg")
    (tmp_path / "root/Positive").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert {file.path for file in scan(tmp_path / "root").files} == {"Positive/a.jpg", "Negative/b.jpg"}


def test_a_folder_reached_twice_is_read_once_and_listed(tmp_path):
    touch(tmp_path, "Positive/a.jpg", "Negative/b.jpg")
    (tmp_path / "Positive/loop").symlink_to("../Positive", target_is_directory=True)
    found = scan(tmp_path)
    assert [file.path for file in found.files] == ["Negative/b.jpg", "Positive/a.jpg"]
    assert found.rejected == [("Positive/loop", "a link to a folder that was read already (a loop?)")]


def test_folders_that_their_file_system_does_not_number_are_told_apart_by_their_paths(tmp_path, monkeypatch):
    touch(tmp_path, "Positive/deep/a.jpg", "Negative/b.jpg")
    (tmp_path / "Positive/loop").symlink_to("../Positive", target_is_directory=True)
    monkeypatch.setattr(layouts.os, "stat", lambda path: types.SimpleNamespace(st_dev=0, st_ino=0))
    rejected = []
    assert list(layouts.walk(str(tmp_path), "Positive", rejected)) == ["Positive/deep/a.jpg"]
    assert [path for path, _ in rejected] == ["Positive/loop"]


SDNET = (
    "D/CD/7001-115.jpg",
    "D/CD/7001-12.jpg",
    "D/UD/7001-7.jpg",
    "W/CW/7001-1.jpg",
    "W/UW/7069-104.jpg",
    "P/UP/3-4.jpg",
)


def test_sdnet_is_recognised_and_windows_of_one_photograph_share_a_source(tmp_path):
    touch(tmp_path, *SDNET)
    found = scan(tmp_path)
    assert (found.layout, found.classes) == (Layout.SDNET, ("uncracked", "cracked"))
    files = {file.path: file for file in found.files}
    assert set(files) == set(SDNET)
    assert [files[path].label for path in SDNET] == [1, 1, 0, 1, 0, 0]
    deck = {files[path].source for path in SDNET[:3]}
    assert len(deck) == 1
    assert files["W/CW/7001-1.jpg"].source not in deck  # number 7001 of the walls is another photograph


def test_the_real_sdnet_sample_is_read(real_data):
    found = scan(real_data("sdnet_sample12"))
    assert found.layout is Layout.SDNET
    assert len(found.files) == 12
    assert all(file.label == (file.path.split(os.sep)[1][0] == "C") for file in found.files)


def test_sdnet_without_one_class_is_refused(tmp_path):
    touch(tmp_path, "D/CD/1-1.jpg", "D/UD")
    with pytest.raises(UserError, match="expected images of both classes, found none of 'uncracked'"):
        scan(tmp_path, Layout.SDNET)


def test_images_and_masks_are_paired_by_name(tmp_path):
    touch(tmp_path, "images/1.jpg", "masks/1.png", "images/sub/2.jpg", "masks/sub/2.bmp", "images/3.jpg", "masks/4.png")
    found = scan(tmp_path)
    assert found.layout is Layout.MASKS
    assert {file.path: file.mask for file in found.files} == {
        "images/1.jpg": "masks/1.png",
        "images/sub/2.jpg": "masks/sub/2.bmp",
    }
    assert found.rejected == [("images/3.jpg", "no mask of the same name in masks/")]


def test_no_pictures_beside_the_masks_are_refused(tmp_path):
    touch(tmp_path, "masks/1.png")
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match="expected pictures in .*images', found none"):
        scan(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("没有crack", "有裂缝"),
        ("无crack", "裂缝"),
        ("нет crack", "трещина"),
        ("crackなし", "ひび割れ"),
        ("0 cracks", "1 or more"),
    ],
)
def test_a_word_in_a_name_of_another_script_decides_nothing(tmp_path, names):
    for number, name in enumerate(names):
        support.put(tmp_path / name / f"{number}.jpg", support.encoded(support.picture(number)))
    with pytest.raises(UserError, match="expected --positive_class to name the folder that means cracked"):
        layouts.scan(str(tmp_path), Layout.AUTO, "")
    assert layouts.scan(str(tmp_path), Layout.AUTO, names[1]).classes == names
