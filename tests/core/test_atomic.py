import errno
import fcntl
import os
import stat

import pytest

from crackflow.core import atomic, locks, temporary_files
from crackflow.core.errors import UserError
from crackflow.training import run_folder
from tests.helpers import support

MARKER = "marker.json"


def fill(out, content, overwrite=False, fail=False):
    with atomic.folder(str(out), MARKER, overwrite, ("?", "first", "second")) as stage:
        assert not os.path.exists(os.path.join(out, content))
        for name in (MARKER, content):
            atomic.write_text(os.path.join(stage, name), content)
        if fail:
            raise RuntimeError("half way")


def everything(directory):
    return sorted(
        os.path.relpath(os.path.join(here, name), directory) for here, _, names in os.walk(directory) for name in names
    )


def test_a_folder_appears_when_its_block_ends(tmp_path):
    fill(tmp_path / "deep/er/out", "a")
    assert everything(tmp_path) == ["deep/er/out/a", "deep/er/out/marker.json"]


def test_a_block_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="half way"):
        fill(tmp_path / "out", "a", fail=True)
    assert os.listdir(tmp_path) == []


def test_a_block_that_fails_leaves_the_older_folder_as_it_was(tmp_path):
    fill(tmp_path / "out", "a")
    with pytest.raises(RuntimeError, match="half way"):
        fill(tmp_path / "out", "b", overwrite=True, fail=True)
    assert everything(tmp_path) == ["out/a", "out/marker.json"]


def test_a_replaced_folder_keeps_no_file_of_the_older_one(tmp_path):
    fill(tmp_path / "out", "a")
    fill(tmp_path / "out", "b", overwrite=True)
    assert everything(tmp_path) == ["out/b", "out/marker.json"]


def test_an_empty_folder_is_free(tmp_path):
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out", "a")
    assert everything(tmp_path) == ["out/a", "out/marker.json"]


@pytest.mark.parametrize(
    ("names", "overwrite", "message"),
    [
        (["thesis.txt"], False, "exists and is not empty; choose another folder, or replace it with --overwrite"),
        ([MARKER], False, "exists and is not empty"),
        (["thesis.txt"], True, f"--overwrite: .* holds no {MARKER}, so crackflow did not make it"),
    ],
)
def test_a_folder_that_is_not_ours_to_replace_is_refused_before_the_block(tmp_path, names, overwrite, message):
    (tmp_path / "out").mkdir()
    for name in names:
        (tmp_path / "out" / name).write_text("")
    with pytest.raises(UserError, match=message), atomic.folder(str(tmp_path / "out"), MARKER, overwrite, ()):
        pytest.fail("the block was entered")
    assert everything(tmp_path) == [f"out/{name}" for name in names]


def test_a_folder_that_was_created_meanwhile_is_not_replaced(tmp_path):
    with pytest.raises(UserError, match="exists and is not empty"):
        with atomic.folder(str(tmp_path / "out"), MARKER, False, ()) as stage:
            atomic.write_text(os.path.join(stage, MARKER), "late")
            fill(tmp_path / "out", "first")
    assert everything(tmp_path) == ["out/first", "out/marker.json"]


def leave(directory, *names):
    """Creates the folder that a killed run leaves, under each of `names`."""
    for name in names:
        (directory / name).mkdir()
        (directory / name / MARKER).write_text("")


@pytest.mark.parametrize("mine", ["monday/wall.jpg", "notes.txt", "second/b", "first/more", "deep/er/x.png"])
def test_what_somebody_put_into_a_folder_of_ours_is_never_removed_with_it(tmp_path, mine):
    out = tmp_path / "out"
    fill(out, "first")
    path = out / mine
    if path.parent == out / "first":
        (out / "first").unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    before = everything(out)
    with pytest.raises(
        UserError, match=f"--overwrite: .* holds '{mine}', which this command did not write; move it els"
    ):
        fill(out, "second", overwrite=True)
    assert everything(out) == before and path.read_text() == "mine"


def test_a_pattern_names_one_folder_or_with_two_stars_all_below():
    names = {"a.png", "sub/a.png", "sub/b/a.png", "model/x", "model/variables/y"}

    def matching(pattern):
        return {name for name in names if atomic._matches(name, pattern)}

    assert matching("*.png") == {"a.png"} and matching("sub/*.png") == matching("*/a.png") == {"sub/a.png"}
    assert matching("model/**") == {"model/x", "model/variables/y"}


def test_left_overs_of_killed_runs_go_and_those_of_other_names_stay(tmp_path):
    fill(tmp_path / "out", "a")
    others = [support.dead_name("other"), support.dead_name("output"), ".out.partial-notes", ".out.replaced-2025"]
    leave(tmp_path, support.dead_name("out"), support.dead_name("out", temporary_files.REPLACED), *others)
    fill(tmp_path / "out", "b", overwrite=True)
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "out"])


def test_an_older_folder_that_was_moved_aside_is_refused_before_the_work(tmp_path):
    leave(tmp_path, support.dead_name("out", temporary_files.REPLACED))
    with (
        pytest.raises(UserError, match="exists and is not empty"),
        atomic.folder(str(tmp_path / "out"), MARKER, False, ()),
    ):
        pytest.fail("the block was entered")
    assert everything(tmp_path) == ["out/marker.json"]


def test_an_older_folder_that_was_moved_aside_is_restored_when_the_next_run_fails(tmp_path):
    fill(tmp_path / "out", "a")
    (tmp_path / "out").rename(tmp_path / support.dead_name("out", temporary_files.REPLACED))
    with pytest.raises(RuntimeError, match="half way"):
        fill(tmp_path / "out", "b", overwrite=True, fail=True)
    assert everything(tmp_path) == ["out/a", "out/marker.json"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk", target_is_directory=True)
    fill(tmp_path / "out", "a")
    assert (tmp_path / "out").is_symlink()
    assert everything(tmp_path / "disk") == ["a", "marker.json"]


def test_an_unfinished_folder_is_recognised_by_its_name(tmp_path):
    with atomic.folder(str(tmp_path / "out"), MARKER, False, ()) as stage:
        assert atomic.is_unfinished(stage) and atomic.is_unfinished(stage + "/")
    assert not atomic.is_unfinished(str(tmp_path / "out"))


def test_a_folder_and_its_files_are_as_readable_as_the_user_wishes(tmp_path):
    before = os.umask(0o027)
    try:
        fill(tmp_path / "out", "a")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "out/a").stat().st_mode) == 0o640


def test_write_bytes_replaces_a_file_and_leaves_no_other(tmp_path):
    atomic.write_bytes(str(tmp_path / "a"), b"old")
    atomic.write_bytes(str(tmp_path / "a"), b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


def test_write_bytes_that_fails_keeps_the_old_file_and_leaves_no_other(tmp_path):
    atomic.write_bytes(str(tmp_path / "a"), b"old")
    with pytest.raises(TypeError, match="bytes-like"):
        atomic.write_bytes(str(tmp_path / "a"), "text")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_write_text_keeps_the_bytes_of_odd_file_names(tmp_path):
    atomic.write_text(str(tmp_path / "a"), "裂 \udcff\n")
    assert (tmp_path / "a").read_bytes() == "裂 ".encode() + b"\xff\n"


def test_a_written_file_appears_at_the_end(tmp_path):
    path = str(tmp_path / "a.npy")
    with atomic.file(path) as file:
        file.write(b"half")
        assert not os.path.exists(path)
        file.write(b" and half")
    assert (tmp_path / "a.npy").read_bytes() == b"half and half" and os.listdir(tmp_path) == ["a.npy"]


def test_a_file_whose_writing_fails_leaves_the_old_one(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic.file(str(tmp_path / "a.npy")) as file:
        file.write(b"half")
        raise RuntimeError
    assert (tmp_path / "a.npy").read_bytes() == b"old" and os.listdir(tmp_path) == ["a.npy"]


@pytest.fixture
def no_locks(monkeypatch):
    """As on a network file system without locks."""

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


def test_a_file_system_without_locks_is_no_reason_to_fail(tmp_path, no_locks):
    fill(tmp_path / "out", "a")
    fill(tmp_path / "out", "b", overwrite=True)
    assert everything(tmp_path) == ["out/b", "out/marker.json"]


def test_without_locks_no_unfinished_folder_is_considered_dead(tmp_path, no_locks):
    alive = tmp_path / temporary_files.temporary_name("out")
    alive.mkdir()
    (alive / run_folder.LOCK).touch()
    fill(tmp_path / "out", "a")
    assert alive.exists()


def test_a_file_is_written_into_a_folder_that_is_created_for_it(tmp_path):
    atomic.write_text(str(tmp_path / "new/er/file.txt"), "text")
    assert (tmp_path / "new/er/file.txt").read_text() == "text"


def test_left_overs_go_on_a_network_file_system_too(tmp_path, monkeypatch):
    """NFS grants exclusive locks only on files that are open for writing (flock(2))."""
    lock = fcntl.flock

    def as_nfs(file, how):
        if how & fcntl.LOCK_EX and fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        return lock(file, how)

    monkeypatch.setattr(fcntl, "flock", as_nfs)
    left = tmp_path / support.dead_name("out")
    left.mkdir()
    (left / run_folder.LOCK).write_text("")
    fill(tmp_path / "out", "a")
    assert os.listdir(tmp_path) == ["out"]


def is_locked(directory):
    try:
        with open(os.path.join(directory, run_folder.LOCK), "r+") as lock:
            return not locks.lock(lock, wait=False)
    except FileNotFoundError:
        return False


@pytest.fixture
def renamed(monkeypatch):
    """What was renamed, and whether a file in it was open then, and whether one was locked."""
    seen, rename = [], os.rename

    def watched(source, target):
        opened = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
        inside = [name for name in opened if name.startswith(f"{source}/")]
        seen.append((os.path.basename(source), bool(inside), is_locked(source)))
        rename(source, target)

    monkeypatch.setattr(os, "rename", watched)
    return seen


def test_nothing_in_a_folder_is_open_when_it_takes_its_name(tmp_path, renamed):
    """Windows would not move the folder."""
    for content in "ab":
        fill(tmp_path / "out", content, overwrite=True)
    assert [name.partition("-")[0] for name, _, _ in renamed] == [".out.partial", "out", ".out.partial"]
    assert not any(opened for _, opened, _ in renamed)


def test_a_finished_folder_is_locked_where_the_one_above_cannot_be(tmp_path, renamed, monkeypatch):
    """Another process that cleans up would consider it the folder of a killed run."""
    lock = fcntl.flock

    def as_nfs(file, how):
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        return lock(file, how)

    monkeypatch.setattr(fcntl, "flock", as_nfs)
    fill(tmp_path / "out", "a")
    ((_, _, locked),) = renamed
    assert locked and everything(tmp_path) == ["out/a", "out/marker.json"]


def begun(out):
    support.put(out / "unfinished/lines", b"1")


def go_on(out, overwrite=False):
    with atomic.folder(str(out), "whole.json", overwrite, ("unfinished/lines",), "unfinished") as stage:
        support.put(os.path.join(stage, "whole.json"), b"{}")


def test_a_folder_that_holds_nothing_but_what_is_unfinished_is_filled(tmp_path):
    begun(tmp_path / "out")
    support.put(tmp_path / "out/.DS_Store", b"left by a system")
    go_on(tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["whole.json"]


@pytest.mark.parametrize(
    "name",
    ["@eaDir/lines/SYNOFILE_THUMB_M.jpg", "unfinished/@eaDir/lines@SynoEAStream", ".@__thumb/default", "._unfinished"],
)
def test_what_a_nas_or_a_mac_lays_beside_it_is_no_obstacle(tmp_path, name):
    begun(tmp_path / "out")
    support.put(tmp_path / "out" / name, b"left by a system")
    go_on(tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["whole.json"]
    support.put(tmp_path / "out" / name, b"left by a system")
    go_on(tmp_path / "out", overwrite=True)


@pytest.mark.parametrize("name", ["unfinished/mine", "mine", "unfinished-too/lines"])
def test_anything_else_in_it_stays(tmp_path, name):
    begun(tmp_path / "out")
    support.put(tmp_path / "out" / name, b"mine")
    for overwrite in (False, True):
        with pytest.raises(UserError):
            go_on(tmp_path / "out", overwrite)
    assert (tmp_path / "out" / name).read_bytes() == b"mine"
