"""Thumbnails of a NAS and a recycle bin's photographs were trained on, tested on and reported as photographs."""

import json

import pytest

from crackflow.explanation import inputs
from tests.helpers import support

NAME = "10-system-folders-read-as-data"


def test_thumbnails_of_a_nas_are_no_images(report, tmp_path, capsys):
    facts = support.converted(report(NAME) / "c_ea", tmp_path / "out")
    assert sum(split["count"] for split in facts["splits"].values()) == 8
    assert not [row for row in support.rows(tmp_path / "out", "groups.csv") if "@eaDir" in row["path"]]
    assert "note: 2 files and folders of the system passed over (2 @eaDir)" in capsys.readouterr().out


def test_only_photographs_are_looked_at(report, tmp_path):
    done = support.called("predict", f"--photos={report(NAME) / 'pp'}", f"--out={tmp_path / 'out'}", "--scale=1")
    assert done.returncode == 0, done.stderr
    photos = json.loads((tmp_path / "out/findings.json").read_text())["photos"]
    assert [photo["path"] for photo in photos] == ["plain.png"]
    assert "2 files and folders of the system passed over (1 $RECYCLE.BIN, 1 @eaDir)" in done.stdout


@pytest.mark.parametrize(
    "name",
    ["$RECYCLE.BIN/S-1/x.jpg", "System Volume Information/x.jpg", "__MACOSX/Positive/._a.jpg", "lost+found/x.jpg"],
)
def test_a_folder_of_a_system_beside_the_classes_is_no_class(report, tmp_path, name):
    root = report(NAME) / "c_ea"
    support.put(root / name, support.encoded(support.picture(77)))
    assert support.converted(root, tmp_path / "out")["classes"] == ["Negative", "Positive"]


@pytest.mark.parametrize("name", ["@Recently-Snapshot/d/00000.jpg", "MVI_0001.THM", ".thumbnails/x.jpg"])
def test_what_other_systems_and_cameras_keep_beside_pictures_and_masks_is_neither(tmp_path, name):
    for kind in ("images", "masks"):
        for number in range(3):
            support.put(tmp_path / kind / f"{number}.png", support.encoded(support.picture(number), "PNG"))
        support.put(tmp_path / kind / name, support.encoded(support.picture(50)))
    images, rejected = inputs.list_images(str(tmp_path / "images"), str(tmp_path / "masks"))
    assert [image.path for image in images] == ["0.png", "1.png", "2.png"] and not rejected
