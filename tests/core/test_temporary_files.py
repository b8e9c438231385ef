"""Kills leave no files for ever, and no other file is mistaken for one that a kill left."""

import errno
import fcntl
import os
import pathlib
import subprocess
import sys

import pytest

from crackflow.core import atomic, temporary_files
from tests.helpers import support

USERS = [".model-notes.txt", ".report.html.original", "step-1.npz.partial", ".out.partial-deadbeef", ".a.partial-", "a"]


@pytest.fixture
def no_locks(monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


def foreign(path):
    """Renames `path` as a process of another machine would have named it."""
    old = temporary_files._host()
    new = path.with_name(path.name.replace(old, "0" * 8))
    path.rename(new)
    return new


def killed_in(call, monkeypatch):
    """Makes this process exit, as if killed, when it reaches `call` of the module os."""
    monkeypatch.setattr(os, call, lambda *_: os._exit(9))


def half_of_a_file(path):
    with atomic.file(path) as file:
        file.write(b"half")
        os._exit(9)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    "write",
    [
        lambda path: atomic.write_text(path, "text"),
        lambda path: atomic.write_bytes(path, b"data"),
        half_of_a_file,
    ],
    ids=["write_text", "write_bytes", "file"],
)
def test_what_a_killed_process_wrote_goes(tmp_path, monkeypatch, write, call):
    path = tmp_path / "report.html"
    path.write_text("old")
    with monkeypatch.context() as patched:
        killed_in(call, patched)
        support.in_dead_process(lambda: write(str(path)))
    assert len(os.listdir(tmp_path)) == 2
    temporary_files.remove_leftovers(str(tmp_path))
    assert os.listdir(tmp_path) == ["report.html"] and path.read_text() == "old"


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_folder_of_a_killed_process_is_removed_before_the_next_is_created(tmp_path, monkeypatch, call):
    def make():
        with atomic.folder(str(tmp_path / "out"), "marker", False, ("half",)) as stage:
            support.put(os.path.join(stage, "marker"), b"")
            support.put(os.path.join(stage, "half"), b"half")

    with monkeypatch.context() as patched:
        killed_in(call, patched)
        support.in_dead_process(make)
    assert [name for name in os.listdir(tmp_path) if name.startswith(".out.partial-")]
    make()
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize("as_folder", [False, True])
def test_what_merely_looks_similar_is_the_user_s(tmp_path, name, as_folder):
    support.put(tmp_path / name / "thesis.txt" if as_folder else tmp_path / name, b"mine")
    before = support.tree(tmp_path)
    temporary_files.remove_leftovers(str(tmp_path))
    temporary_files.remove_leftovers(str(tmp_path), name)
    assert support.tree(tmp_path) == before


def test_a_link_of_such_a_name_is_followed_by_nobody(tmp_path):
    support.put(tmp_path / "mine/thesis.txt", b"mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / support.dead_name("a")).symlink_to(tmp_path / "mine")
    temporary_files.remove_leftovers(str(tmp_path / "run"))
    assert (tmp_path / "mine/thesis.txt").exists() and len(os.listdir(tmp_path / "run")) == 1


def test_a_file_of_this_process_stays(tmp_path):
    with atomic.file(str(tmp_path / "a")) as file:
        file.write(b"half")
        temporary_files.remove_leftovers(str(tmp_path))
        assert os.path.exists(file.name)
    assert os.listdir(tmp_path) == ["a"]


WRITER = """
import sys
from crackflow.core import atomic
with atomic.file(sys.argv[1]) as file:
    print(file.name, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("locked", [True, False])
def test_a_file_of_another_living_process_stays_until_it_is_killed(tmp_path, request, locked):
    if not locked:
        request.getfixturevalue("no_locks")
    line = [sys.executable, "-c", WRITER, str(tmp_path / "a")]
    with subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=support.environment()
    ) as writer:
        name = pathlib.Path(writer.stdout.readline().strip())
        temporary_files.remove_leftovers(str(tmp_path))
        assert name.exists()
        writer.kill()
    temporary_files.remove_leftovers(str(tmp_path))
    assert not name.exists()


def test_a_dead_process_that_its_parent_has_not_waited_for_is_dead(tmp_path):
    child = os.fork()
    if not child:
        temporary_files.claim(str(tmp_path / "a"))
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    try:
        temporary_files.remove_leftovers(str(tmp_path))
        assert os.listdir(tmp_path) == []
    finally:
        os.waitpid(child, 0)


def test_another_process_with_the_same_number_is_no_reason_to_keep_it(tmp_path):
    left = tmp_path / temporary_files.temporary_name("a").replace(f"-{temporary_files._this_process().started}-", "-1-")
    left.write_text("half")
    temporary_files.remove_leftovers(str(tmp_path))
    assert not left.exists()


def test_of_another_machine_s_files_the_lock_decides(tmp_path):
    left = foreign(tmp_path / support.killed_while_writing(tmp_path / "a"))
    with open(left, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        temporary_files.remove_leftovers(str(tmp_path))
        assert left.exists()
    temporary_files.remove_leftovers(str(tmp_path))
    assert not left.exists()


def test_of_another_machine_s_files_nothing_goes_where_there_are_no_locks(tmp_path, no_locks):
    left = foreign(tmp_path / support.killed_while_writing(tmp_path / "a"))
    here = support.killed_while_writing(tmp_path / "a")
    temporary_files.remove_leftovers(str(tmp_path))
    assert left.exists() and here not in os.listdir(tmp_path)


def test_a_file_that_was_removed_before_it_was_locked_is_created_anew(tmp_path, monkeypatch):
    lock, stolen = temporary_files.locks.lock, []

    def late(file, wait=True):
        if not stolen:
            stolen.append(file.name)
            os.remove(file.name)
        return lock(file, wait)

    monkeypatch.setattr(temporary_files.locks, "lock", late)
    with atomic.file(str(tmp_path / "a")) as file:
        file.write(b"whole")
    assert stolen and (tmp_path / "a").read_bytes() == b"whole" and os.listdir(tmp_path) == ["a"]


def test_only_files_that_were_to_get_the_name_are_removed_where_one_is_passed(tmp_path):
    for name in ("a", "b"):
        support.killed_while_writing(tmp_path / name)
    temporary_files.remove_leftovers(str(tmp_path), "a")
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".b.partial-")


@pytest.mark.parametrize("name", ["x" * 255, "裂" * 85, "a\nb", "-rf"])
def test_a_name_of_any_length_that_systems_allow_can_be_written_and_tidied(tmp_path, name):
    atomic.write_text(str(tmp_path / name), "text")
    support.killed_while_writing(tmp_path / name)
    temporary_files.remove_leftovers(str(tmp_path), name)
    assert os.listdir(tmp_path) == [name]


def test_a_scratch_folder_goes_with_its_block_and_a_killed_one_with_the_next(tmp_path):
    def killed():
        with temporary_files.scratch_folder(str(tmp_path), "doctor"):
            os._exit(9)

    support.in_dead_process(killed)
    assert len(os.listdir(tmp_path)) == 1
    with temporary_files.scratch_folder(str(tmp_path), "doctor") as path:
        assert os.listdir(tmp_path) == [os.path.basename(path)]
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_or_can_not_be_read_is_no_reason_to_fail(tmp_path):
    temporary_files.remove_leftovers(str(tmp_path / "no"))
    (tmp_path / "file").write_text("")
    temporary_files.remove_leftovers(str(tmp_path / "file"))
    assert os.listdir(tmp_path) == ["file"]
