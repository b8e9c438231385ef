import collections

import pytest

from crackflow.core import system_files

FOLDERS = [
    *("@eaDir", "#recycle", "$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information", "__MACOSX", "lost+found"),
    *("@Recently-Snapshot", "@Recycle", "RECYCLER", "FOUND.000", "thumbnails", "Preview.lrdata", "CVS", "__pycache__"),
    *(".Trashes", ".thumbnails", ".git", ".ipynb_checkpoints", ".AppleDouble", ".Trash-1000", ".@__thumb"),
]
FILES = [
    *("Thumbs.db", "thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.ini", "._wall.jpg", ".DS_Store", "Icon\r"),
    *("GOPR0034.THM", "MVI_0034.thm", "GX010034.LRV", "wall.jpg~", "~$notes.docx", "wall.jpg@SynoEAStream"),
]


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_of_systems_are_known_in_any_capitals(name):
    assert system_files.kind(name, is_folder=True) == system_files.kind(name.swapcase(), is_folder=True) != ""


@pytest.mark.parametrize("name", FILES)
def test_files_of_systems_are_known(name):
    assert system_files.kind(name, is_folder=False)


@pytest.mark.parametrize(
    "name", ["Positive", "walls", "found", "recycle", "MISC", "100MEDIA", "snapshot", "git", "tmp"]
)
def test_folders_that_may_be_the_users_are_theirs(name):
    assert system_files.kind(name, is_folder=True) == ""


@pytest.mark.parametrize(
    "name", ["wall.jpg", "thumbs.jpg", "$ABC.png", "#1.jpg", "@home.jpg", "~1.jpg", "Icon.png", "@eaDir"]
)
def test_files_that_may_be_photographs_are_photographs(name):
    assert system_files.kind(name, is_folder=False) == ""


def test_what_was_passed_over_is_one_line_with_its_counts():
    counts = collections.Counter({"@eaDir": 1200, system_files.HIDDEN: 2, "Icon\r": 1})
    message = system_files.summary(counts)
    assert message.startswith("1,203 files and folders of the system passed over (")
    assert "1,200 @eaDir" in message and "2 names with a dot in front" in message and "\r" not in message
    assert system_files.summary({}) == ""
    assert system_files.summary({"Thumbs.db": 1}) == "1 file or folder of the system passed over (1 Thumbs.db)"
