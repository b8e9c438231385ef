import pytest

from crackflow.conversion import folder_splits
from crackflow.conversion.source_files import CRACK_CLASSES, LayoutScan, SourceFile
from crackflow.core.config.data import Layout
from tests.helpers import support


def settled(*paths, fractions=()):
    files = [SourceFile(path, 0, path) for path in paths]
    layout_scan = folder_splits.settle(LayoutScan(Layout.CLASSES, CRACK_CLASSES, files, []), fractions)
    return [file.split for file in layout_scan.files], list(layout_scan.notes)


def test_splits_of_folders_are_kept_with_a_note():
    names, [note] = settled("train/a/1.jpg", "valid/a/2.jpg", "test/a/3.jpg")
    assert names == ["train", "val", "test"]
    assert note == "in the splits of their folders or annotations, which are kept (train 1, val 1, test 1)"


def test_without_val_the_note_says_what_becomes_it():
    assert "there is no val, so part of train becomes it" in settled("train/1.jpg", "test/3.jpg")[1][0]


@pytest.mark.parametrize(
    ("paths", "fractions", "why"),
    [
        (["train/1.jpg", "test/2.jpg"], (0.5, 0.25, 0.25), "as --split asks"),
        (["train/1.jpg", "test/2.jpg", "3.jpg"], (), "since others are in none"),
    ],
)
def test_splits_that_are_not_kept_are_said_with_the_reason(paths, fractions, why):
    names, [note] = settled(*paths, fractions=fractions)
    assert set(names) == {""} and note.endswith(f"(test, train): they are put together and split anew, {why}")


def test_one_split_alone_is_split_anew_without_a_word():
    assert settled("train/1.jpg", "train/2.jpg") == (["", ""], [])


def split_folders(root, splits):
    """Class folders in each of `splits`, name -> seeds of the pictures, each once in a class."""
    for name, seeds in splits.items():
        for seed in seeds:
            path = root / name / support.CLASSES[seed % 2] / f"{seed:03d}_{name}.jpg"
            support.put(path, support.encoded(support.picture(seed)))
    return root


def test_of_a_picture_in_two_splits_that_in_the_last_stays(tmp_path, capsys):
    root = split_folders(tmp_path / "in", {"train": range(12), "valid": range(10, 16), "test": range(14, 20)})
    facts = support.converted(root, tmp_path / "out")
    rows = {row["path"].split("_")[0][-3:] + row["split"] for row in support.rows(tmp_path / "out", "groups.csv")}
    expected = [(range(10), "train"), (range(10, 14), "val"), (range(14, 20), "test")]
    assert rows == {f"{seed:03d}{split}" for seeds, split in expected for seed in seeds}
    rejected = {row["path"]: row["reason"] for row in support.rows(tmp_path / "out", "rejected.csv")}
    assert len(rejected) == 4 == facts["leaks"]["straddling"] and facts["leaks"]["split_twins"] == 0
    reason = rejected["train/Negative/010_train.jpg"]
    assert reason.startswith("the same picture or photograph is in val: 'valid/Negative/010_valid.jpg'; --split=")
    assert "left out: 4 files that show what is in val or test as well" in capsys.readouterr().out


def test_without_val_part_of_train_becomes_it_and_test_stays(tmp_path):
    root = split_folders(tmp_path / "in", {"train": range(40), "test": range(40, 50)})
    facts = support.converted(root, tmp_path / "out")
    counts = {name: split["count"] for name, split in facts["splits"].items()}
    assert counts["test"] == 10 and counts["train"] + counts["val"] == 40 and 6 <= counts["val"] <= 12
    anew = support.converted(root, tmp_path / "anew", split=(0.0, 0.0, 1.0))
    assert anew["splits"]["test"]["count"] == 50
