"""Kaggle's copy of SDNET2018 names its folders Decks/Cracked: windows of one photograph lay in several splits."""

import collections
import os

import pytest

from tests.helpers import support

NAME = "04-sdnet-kaggle-names-leak"


def photographs(out, of):
    """Photograph, as named by `of(path)` -> the splits that contain its windows."""
    splits_by_photo = collections.defaultdict(set)
    for row in support.rows(out, "groups.csv"):
        splits_by_photo[of(row["path"])].add(row["split"])
    return dict(splits_by_photo)


def number(path):
    return os.path.basename(path).split("-")[0]


@pytest.mark.parametrize(("folder", "count"), [("sd_kg", 12), ("sd_kg/Decks", 4)])
def test_windows_of_one_photograph_stay_together(report, tmp_path, capsys, folder, count):
    facts = support.converted(report(NAME) / folder, tmp_path / "out")
    splits = photographs(tmp_path / "out", number)
    assert len(splits) == facts["leaks"]["groups"] == count
    assert all(len(photo_splits) == 1 for photo_splits in splits.values())
    assert set.union(*splits.values()) == {"train", "val", "test"}
    assert facts["leaks"]["split_twins"] == 0 < facts["leaks"]["random_split_twins"]
    assert f"named as windows of {count} photographs" in capsys.readouterr().out


def test_it_is_read_as_sdnet_with_both_classes_in_each_split(report, tmp_path):
    facts = support.converted(report(NAME) / "sd_kg", tmp_path / "out")
    assert (facts["layout"], facts["classes"]) == ("sdnet", ["uncracked", "cracked"])
    assert all(min(split["class_counts"].values()) > 0 for split in facts["splits"].values())


def test_the_flag_undoes_it(report, tmp_path):
    facts = support.converted(report(NAME) / "sd_kg/Decks", tmp_path / "out", group_by_name=False)
    assert facts["leaks"]["groups"] == 80 and facts["notes"] == []


def test_an_archive_within_an_archive_and_other_words_for_the_classes(report, tmp_path):
    root = report(NAME)
    for surface in (root / "sd_kg").iterdir():
        (surface / "Cracked").rename(surface / "with crack")
        (surface / "Non-cracked").rename(surface / "without crack")
    (root / "sd_kg").rename(root / "bridge walls")
    support.converted(root, tmp_path / "out")
    splits = photographs(tmp_path / "out", number)
    assert len(splits) == 12 and all(len(photo_splits) == 1 for photo_splits in splits.values())


@pytest.mark.parametrize("name", ["IMG_{:04d}_{}_{}.png", "deck {}, row {} col {}.jpg", "{:03d}_patch_{}_{}.jpg"])
def test_windows_that_a_user_cut(tmp_path, name):
    for photograph in range(1, 7):
        for k in range(9):
            folder = support.CLASSES[(photograph + k) % 2]
            data = support.encoded(support.picture(photograph * 10 + k))
            support.put(tmp_path / "photos" / folder / name.format(photograph, k // 3, k % 3), data)
    facts = support.converted(tmp_path / "photos", tmp_path / "out")
    length = name.index("}") + len("{:04d}") - 2
    splits = photographs(tmp_path / "out", lambda path: os.path.basename(path)[: min(length, 8)].rstrip("_ ,"))
    assert facts["leaks"]["groups"] == 6 and facts["leaks"]["split_twins"] == 0
    assert all(len(photo_splits) == 1 for photo_splits in splits.values())


@pytest.mark.parametrize(
    "name", ["IMG_{:04d}.jpg", "DJI_{:04d}.JPG", "{:05d}.jpg", "20240115_1030{:02d}.jpg", "wall {}.jpg"]
)
def test_photographs_that_a_camera_numbered_stay_photographs_of_their_own(tmp_path, name):
    for k in range(40):
        support.put(tmp_path / "photos" / support.CLASSES[k % 2] / name.format(k), support.encoded(support.picture(k)))
    facts = support.converted(tmp_path / "photos", tmp_path / "out")
    assert facts["leaks"]["groups"] == 40 and facts["notes"] == []
