import os
import types

import pytest

from crackflow.conversion import layouts
from crackflow.core.config.data import Layout
from crackflow.core.errors import UserError
from crackflow.data import folders
from tests.helpers import support


def touch(root, *paths):
    for path in paths:
        support.put(root / path, b"x")


def scan(root, layout=Layout.AUTO, positive_class=""):
    return layouts.scan_layout(str(root), layout, positive_class)


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
    layout_scan = scan(tmp_path)
    assert layout_scan.layout is Layout.CLASSES
    assert layout_scan.classes == (negative, positive)
    assert {file.path: file.label for file in layout_scan.files} == {f"{positive}/a.jpg": 1, f"{negative}/b.jpg": 0}


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


def test_what_nobody_has_labelled_yet_is_no_third_class(tmp_path):
    """As in the folder that crackflow.predict --suggest makes."""
    touch(tmp_path, "cracked/a.png", "clean/b.png", "unlabelled/c.png", "suggested.csv")
    layout_scan = scan(tmp_path)
    assert [file.path for file in layout_scan.files] == ["clean/b.png", "cracked/a.png"]
    assert layout_scan.rejected == [("unlabelled", "pictures without a label, passed over")]
    (tmp_path / "unlabelled/c.png").unlink()
    assert scan(tmp_path).rejected == []
    touch(tmp_path, "other/d.png")
    with pytest.raises(UserError, match="expected two class folders in .*, found 3: clean, cracked, other; move the"):
        scan(tmp_path)


def test_beside_one_class_the_unlabelled_are_the_other_as_any_name_is(tmp_path):
    touch(tmp_path, "cracked/a.png", "unlabelled/c.png")
    assert scan(tmp_path).classes == ("unlabelled", "cracked")


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
    layout_scan = scan(tmp_path)
    assert [file.path for file in layout_scan.files] == ["Negative/b.jpg", "Positive/a.jpg"]
    assert layout_scan.rejected == [("Positive/loop", "a link to a folder that was read already (a loop?)")]


def test_folders_without_inode_numbers_are_told_apart_by_their_paths(tmp_path, monkeypatch):
    touch(tmp_path, "Positive/deep/a.jpg", "Negative/b.jpg")
    (tmp_path / "Positive/loop").symlink_to("../Positive", target_is_directory=True)
    monkeypatch.setattr(layouts.os, "stat", lambda path: types.SimpleNamespace(st_dev=0, st_ino=0))
    rejected = []
    assert list(folders.walk(str(tmp_path), "Positive", rejected)) == ["Positive/deep/a.jpg"]
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
    layout_scan = scan(tmp_path)
    assert (layout_scan.layout, layout_scan.classes) == (Layout.SDNET, ("uncracked", "cracked"))
    files = {file.path: file for file in layout_scan.files}
    assert set(files) == set(SDNET)
    assert [files[path].label for path in SDNET] == [1, 1, 0, 1, 0, 0]
    deck = {files[path].source for path in SDNET[:3]}
    assert len(deck) == 1
    assert files["W/CW/7001-1.jpg"].source not in deck  # 7001 of the walls is another photograph


def test_the_real_sdnet_sample_is_read(real_data):
    layout_scan = scan(real_data("sdnet_sample12"))
    assert layout_scan.layout is Layout.SDNET
    assert len(layout_scan.files) == 12
    assert all(file.label == (file.path.split(os.sep)[1][0] == "C") for file in layout_scan.files)


def test_sdnet_without_one_class_is_refused(tmp_path):
    touch(tmp_path, "D/CD/1-1.jpg", "D/UD")
    with pytest.raises(UserError, match="expected images of both classes, found none of 'uncracked'"):
        scan(tmp_path, Layout.SDNET)


def test_images_and_masks_are_paired_by_name(tmp_path):
    touch(tmp_path, "images/1.jpg", "masks/1.png", "images/sub/2.jpg", "masks/sub/2.bmp", "images/3.jpg", "masks/4.png")
    layout_scan = scan(tmp_path)
    assert layout_scan.layout is Layout.MASKS
    assert {file.path: file.mask for file in layout_scan.files} == {
        "images/1.jpg": "masks/1.png",
        "images/sub/2.jpg": "masks/sub/2.bmp",
    }
    assert layout_scan.rejected == [("images/3.jpg", "no mask of the same name in masks/")]


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
        layouts.scan_layout(str(tmp_path), Layout.AUTO, "")
    assert layouts.scan_layout(str(tmp_path), Layout.AUTO, names[1]).classes == names


# Nested classes, splits, names of masks


@pytest.mark.parametrize("parent", ["", "archive", "data/SDNET2018"])
@pytest.mark.parametrize("classes", [("Cracked", "Non-cracked"), ("crack", "no_crack"), ("C", "U")])
def test_sdnet_is_recognised_by_whatever_names_and_wherever_it_lies(tmp_path, parent, classes):
    surfaces = {"Decks": 7001, "Pavements": 101, "Walls": 7069}
    if "C" in classes:
        surfaces = {"D": 7001, "P": 101, "W": 7069}
        classes_of = {surface: (f"C{surface}", f"U{surface}") for surface in surfaces}
    else:
        classes_of = dict.fromkeys(surfaces, classes)
    for surface, first in surfaces.items():
        for number in range(first, first + 3):
            for k in range(1, 6):
                touch(tmp_path / parent, f"{surface}/{classes_of[surface][k % 2]}/{number}-{k}.jpg")
    layout_scan = scan(tmp_path)
    assert (layout_scan.layout, layout_scan.classes) == (Layout.SDNET, ("uncracked", "cracked"))
    assert len(layout_scan.files) == 45 and not layout_scan.rejected
    sources = {file.path: file.source for file in layout_scan.files}
    assert len(set(sources.values())) == 9
    assert all(source.endswith(os.path.basename(path).split("-")[0]) for path, source in sources.items())
    (note,) = layout_scan.notes
    assert "windows of 9 photographs" in note and "--group_by_name=false" in note
    assert {file.source for file in layouts.scan_layout(str(tmp_path), Layout.AUTO, "", False).files} == set(sources)


@pytest.mark.parametrize("classes", [("Cracked", "Non-cracked"), ("CD", "UD")])
def test_one_surface_of_sdnet_alone_keeps_the_windows_of_a_photograph_together(tmp_path, classes):
    for number in (7001, 7002, 7003):
        touch(tmp_path, *(f"{classes[k % 2]}/{number}-{k}.jpg" for k in range(1, 7)))
    layout_scan = scan(tmp_path)
    assert len({file.source for file in layout_scan.files}) == 3
    assert sum(file.label for file in layout_scan.files) == 9


def test_class_folders_within_others_are_one_data_set(tmp_path):
    touch(tmp_path, "bridge 1/cracked/a.jpg", "bridge 1/uncracked/a.jpg", "bridge 2/pier 3/cracked/b.jpg")
    touch(tmp_path, "bridge 2/pier 3/uncracked/c.jpg", "bridge 2/plan.jpg", "notes/readme.txt")
    layout_scan = scan(tmp_path)
    assert (layout_scan.layout, layout_scan.classes) == (Layout.CLASSES, ("uncracked", "cracked"))
    assert {file.path for file in layout_scan.files if file.label} == {
        "bridge 1/cracked/a.jpg",
        "bridge 2/pier 3/cracked/b.jpg",
    }
    assert layout_scan.rejected == [("bridge 2", "pictures in no class folder, passed over")]


def test_positive_class_names_the_cracked_folders_within_others(tmp_path):
    touch(tmp_path, "bridge 1/typ_a/a.jpg", "bridge 1/typ_b/a.jpg", "bridge 2/typ_a/b.jpg", "bridge 2/typ_b/c.jpg")
    assert [file.label for file in scan(tmp_path, positive_class="typ_b").files] == [0, 1, 0, 1]


def test_folders_that_link_into_a_circle_end(tmp_path):
    touch(tmp_path, "a/cracked/1.jpg", "a/clean/2.jpg", "b/3.jpg")
    (tmp_path / "b/up").symlink_to("..", target_is_directory=True)
    (tmp_path / "b/up2").symlink_to("../a", target_is_directory=True)
    assert len(scan(tmp_path).files) == 2


SPLIT_NAMES = [("Train", "Test"), ("train", "valid", "test"), ("training", "validation"), ("TRAIN", "Val")]


@pytest.mark.parametrize("names", SPLIT_NAMES)
@pytest.mark.parametrize("inside", [("Positive", "Negative"), ("images", "masks")])
@pytest.mark.parametrize("parent", ["", "archive"])
def test_splits_are_not_taken_for_classes(tmp_path, names, inside, parent):
    for name in names:
        touch(tmp_path / parent, *(f"{name}/{folder}/1.jpg" for folder in inside))
    layout_scan = scan(tmp_path)
    assert layout_scan.layout is (Layout.MASKS if "masks" in inside else Layout.CLASSES)
    base = f"{parent}/" if parent else ""
    folder_names = inside[:1] if "masks" in inside else inside
    expected = {f"{base}{name}/{folder}/1.jpg" for name in names for folder in folder_names}
    assert {file.path for file in layout_scan.files} == expected and not layout_scan.rejected
    if "masks" in inside:
        masks = {path: path.replace("images", "masks") for path in expected}
        assert {file.path: file.mask for file in layout_scan.files} == masks
        assert layouts.find_masks(str(tmp_path), list(expected)) == masks


@pytest.mark.parametrize("names", SPLIT_NAMES)
def test_splits_without_classes_in_them_are_told(tmp_path, names):
    for name in names:
        touch(tmp_path, f"{name}/typ_a/1.jpg", f"{name}/typ_b/2.jpg")
    with pytest.raises(UserError, match="look like splits of one set: expected folders of both classes in") as caught:
        scan(tmp_path)
    assert all(name in str(caught.value) for name in names)
    assert len(scan(tmp_path, positive_class="typ_a").files) == 2 * len(names)


def test_splits_below_the_surfaces_are_read_as_well_as_one_alone(tmp_path):
    touch(tmp_path, "Decks/train/cracked/1.jpg", "Decks/train/uncracked/2.jpg", "Walls/test/cracked/3.jpg")
    assert len(scan(tmp_path).files) == 3
    assert len(scan(tmp_path / "Decks").files) == 2


@pytest.mark.parametrize(
    ("pictures", "masks"),
    [
        ("Images", "Masks"),
        ("image", "label"),
        ("imgs", "GT"),
        ("JPEGImages", "SegmentationClass"),
        ("Photos", "annotations"),
    ]
    + [("train_images", "train_masks"), ("images", "groundtruth"), ("IMAGES", "MASK")],
)
@pytest.mark.parametrize("layout", [Layout.AUTO, Layout.MASKS])
def test_pictures_and_masks_are_known_by_what_people_call_them(tmp_path, pictures, masks, layout):
    touch(tmp_path, f"{pictures}/1.jpg", f"{masks}/1.png", f"{pictures}/sub/2.jpg", f"{masks}/sub/2_mask.png")
    layout_scan = scan(tmp_path, layout)
    assert layout_scan.layout is Layout.MASKS
    assert {file.path: file.mask for file in layout_scan.files} == {
        f"{pictures}/1.jpg": f"{masks}/1.png",
        f"{pictures}/sub/2.jpg": f"{masks}/sub/2_mask.png",
    }
    assert [count for note, count in layout_scan.notes.items() if "masks found by a name that differs" in note] == [1]


def test_folders_that_could_be_masks_twice_are_not_guessed(tmp_path):
    touch(tmp_path, "image/1.jpg", "label/1.png", "gt/1.png")
    with pytest.raises(UserError, match="expected two class folders .* found 3: gt, image, label"):
        scan(tmp_path)


def test_where_no_picture_has_its_mask_the_reason_is_told(tmp_path):
    touch(tmp_path, *(f"images/{n}.jpg" for n in range(24)), "masks/a.png", "masks/b.png")
    with pytest.raises(
        UserError, match="found none; 24 of 24 rejected, such as 'images/0.jpg': no mask of the same name"
    ):
        scan(tmp_path)


def test_masks_beside_classes_may_have_capitals_and_a_word_behind_their_names(tmp_path):
    touch(tmp_path, "Positive/1.jpg", "Negative/1.jpg", "Masks/1_mask.png")
    assert [file.mask for file in scan(tmp_path).files] == ["", "Masks/1_mask.png"]


# Files of operating systems among photographs


def test_system_folders_are_no_classes_and_their_files_are_counted(tmp_path):
    touch(
        tmp_path,
        "Positive/a.jpg",
        "Negative/b.jpg",
        "Positive/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
        "Negative/Thumbs.db",
    )
    touch(tmp_path, "$RECYCLE.BIN/S-1/x.jpg", "System Volume Information/y.jpg", "__MACOSX/Positive/._a.jpg")
    touch(tmp_path, "Negative/deep/#recycle/z.jpg", "Negative/lost+found/w.jpg", "Negative/.b.jpg")
    layout_scan = scan(tmp_path)
    assert [file.path for file in layout_scan.files] == [
        "Negative/b.jpg",
        "Positive/a.jpg",
    ] and not layout_scan.rejected
    assert layout_scan.passed_over == {
        **dict.fromkeys(("@eaDir", "Thumbs.db", "$RECYCLE.BIN", "System Volume Information", "__MACOSX"), 1),
        **dict.fromkeys(("#recycle", "lost+found", "names with a dot in front"), 1),
    }


def test_a_class_that_holds_nothing_but_a_systems_files_is_told_with_the_reason(tmp_path):
    touch(tmp_path, "Positive/a.jpg", "Negative/@eaDir/b.jpg/SYNOPHOTO_THUMB_M.jpg")
    with pytest.raises(
        UserError, match=r"none of 'Negative' in .*; add some \(1 file or folder of the system passed over"
    ):
        scan(tmp_path)


def test_two_classes_of_which_one_is_called_as_masks_are_are_classes(tmp_path):
    touch(tmp_path, "target/a.jpg", "background/b.jpg")
    assert scan(tmp_path).classes == ("background", "target")


@pytest.mark.parametrize("masks", ["labels", "GroundTruth", "annotations"])
def test_masks_beside_cracked_pictures_alone_are_not_the_clean_class(tmp_path, masks):
    touch(tmp_path, "cracked/1.jpg", f"{masks}/1.png")
    with pytest.raises(UserError, match="expected two class folders .* found 1: cracked"):
        scan(tmp_path)
    layout_scan = layouts.scan_layout(str(tmp_path), Layout.AUTO, "", both_classes=False)
    assert [(file.path, file.label) for file in layout_scan.files] == [("cracked/1.jpg", 1)]


def test_pictures_of_which_no_name_says_that_they_are_clean_are_not_taken_for_it(tmp_path):
    touch(tmp_path, "cracked/1.jpg", "originals/2.jpg")
    with pytest.raises(UserError, match="expected a folder of clean images beside 'cracked' .* received 'originals'"):
        scan(tmp_path)
    assert scan(tmp_path, positive_class="cracked").classes == ("originals", "cracked")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("cracked/masks/1.png", "a mask: its folder lies beside one of pictures"),
        ("cracked/day 1/Label/1.png", "a mask: its folder lies beside one of pictures"),
        ("cracked/7_mask.png", "a mask: the picture of that name lies beside it"),
        ("cracked/GT_7.png", "a mask: the picture of that name lies beside it"),
        ("cracked/no_crack/9.jpg", "its folder names the other class"),
        ("clean/deep/cracks/9.jpg", "its folder names the other class"),
    ],
)
def test_what_is_no_picture_of_its_class_is_left_out_with_the_reason(tmp_path, path, reason):
    usual = ["cracked/images/1.jpg", "cracked/day 1/pictures/1.jpg", "cracked/7.jpg", "clean/2.jpg", "clean/mask_3.jpg"]
    usual += ["cracked/target/deep/4.jpg"] if "masks" not in path and "Label" not in path else []
    touch(tmp_path, *usual, path)
    layout_scan = scan(tmp_path)
    left = set() if "target" not in " ".join(usual) else {"cracked/target/deep/4.jpg"}
    assert dict(layout_scan.rejected)[path] == reason
    assert {file.path for file in layout_scan.files} == set(usual) - left


def test_pictures_of_a_class_may_lie_in_a_folder_of_any_name(tmp_path):
    paths = ["cracked/target/1.jpg", "cracked/gt/2.jpg", "clean/labels/3.jpg", "clean/labels/4_target.jpg"]
    touch(tmp_path, *paths)
    layout_scan = scan(tmp_path)
    assert {file.path for file in layout_scan.files} == set(paths) and not layout_scan.rejected


def test_pictures_beside_the_class_folders_are_listed(tmp_path):
    touch(tmp_path, "cracked/1.jpg", "clean/2.jpg", "3.jpg")
    layout_scan = scan(tmp_path)
    assert layout_scan.rejected == [(".", "pictures in no class folder, passed over")]
    assert len(layout_scan.files) == 2


def test_cracked_pictures_without_a_mask_are_counted(tmp_path):
    touch(tmp_path, "cracked/1.jpg", "cracked/2.jpg", "clean/3.jpg", "masks/1.png", "masks/other.png")
    assert scan(tmp_path).notes["pictures of 'cracked' to which no mask in masks/ belongs by its name"] == 1


def test_folders_of_a_system_in_classes_of_unknown_names_are_counted_once(tmp_path):
    touch(tmp_path, "typ_a/a.jpg", "typ_b/b.jpg", "typ_a/@eaDir/a.jpg/x.jpg")
    assert scan(tmp_path, positive_class="typ_a").passed_over == {"@eaDir": 1}


@pytest.mark.parametrize("what", ["empty", "unreadable"])
def test_a_class_without_files_is_told_with_the_reason(tmp_path, what):
    touch(tmp_path, "Positive/a.jpg")
    if what == "empty":
        (tmp_path / "Negative").mkdir()
    else:
        (tmp_path / "Negative").symlink_to("Positive/../Positive/deep", target_is_directory=True)
        (tmp_path / "Positive/deep").mkdir()
        (tmp_path / "Positive/deep/up").symlink_to(".", target_is_directory=True)
    reason = "the folder is empty" if what == "empty" else "1 was rejected, 'Negative/up': a link"
    with pytest.raises(UserError, match=rf"none of 'Negative' in .*; add some \({reason}"):
        scan(tmp_path)
