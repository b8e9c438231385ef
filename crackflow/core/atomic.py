"""Files and folders that appear completely or not at all, whenever the process is killed.

Synopsis::

    with atomic.folder("data/metu", marker="dataset.json", overwrite=False, owned_patterns=("*.csv",)) as stage:
        ...                                  # write into `stage`; it becomes data/metu at the end of the block
    with atomic.file("packs/train-128.npy") as file:
        ...                                  # write, never map: a mapped file on a full disk ends the process
    atomic.write_text("run/flags.cfg", text)
"""

import contextlib
import fnmatch
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from crackflow.core import atomic, locks, system_files, temporary_files
from crackflow.core.errors import UserError
from crackflow.core.temporary_files import LOCK


@contextlib.contextmanager
def folder(
    out: str, marker: str, overwrite: bool, owned_patterns: Sequence[str], unfinished: str | None = None
) -> Iterator[str]:
    """Gives a hidden folder beside `out` that is renamed to `out` when the block ends, and removed if the block fails.

    Left-overs of killed runs are removed first. Those of runs that are still alive hold a lock and stay.

    Args:
        out: the final path.
        marker: a file whose presence shows that crackflow wrote the folder.
        overwrite: whether a folder at `out` may be replaced. It is replaced only if it holds `marker`, and nothing but
            that and files that `owned_patterns` matches.
        owned_patterns: patterns of paths in the folder, with * for any part of one name, and ** at the end for
            everything below.
        unfinished: a folder that the block resumes from. A folder at `out` that holds only this one needs neither
            `marker` nor `overwrite`.

    Raises:
        UserError: when `out` can't be replaced.
    """
    out = os.path.realpath(out)  # a link stays, and its target is filled
    parent, name = os.path.split(out)
    owned_patterns = (marker, LOCK, *owned_patterns)
    if os.path.isdir(parent):
        with locks.folder(parent):
            _remove_stale(parent, name, out)  # first, because it may restore an older folder
    _require_replaceable(out, marker, overwrite, owned_patterns, unfinished)
    os.makedirs(parent, exist_ok=True)
    stage = os.path.join(parent, temporary_files.temporary_name(name))
    try:
        os.mkdir(stage)  # inside `try`, so that a signal during the call leaves nothing either
        with locks.open_file(os.path.join(stage, LOCK)) as lock:
            locked = locks.lock_where_possible(lock)
            yield stage
            _sync(stage)
            with locks.folder(parent) as is_exclusive:
                if is_exclusive or not locked:  # nobody else cleans up now, or would consider it dead
                    lock.close()  # Windows moves no folder in which a file is open
                _move(stage, out, marker, overwrite, owned_patterns, unfinished)
            with contextlib.suppress(FileNotFoundError):
                os.remove(
                    os.path.join(out, LOCK)
                )  # not before: without the lock the folder would look like that of a dead run
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    _sync(parent)


def is_unfinished(path: str) -> bool:
    """Whether the folder `path` is one that `folder` is filling, or that a killed run left."""
    return temporary_files.is_temporary(os.path.basename(os.path.abspath(path)))


def _require_replaceable(
    out: str, marker: str, overwrite: bool, owned_patterns: Sequence[str], unfinished: str | None
) -> None:
    """Raises: UserError when `out` exists and `folder` may not replace it."""
    if not os.path.lexists(out):
        return
    if not os.path.isdir(out):
        raise UserError(f"expected a new folder, received {out!r}, which is a file; choose another name")
    if os.path.ismount(out):
        raise UserError(f"expected a folder that can be replaced, received {out!r}, a mount point; name a folder in it")
    if not os.listdir(out):
        return
    is_resumable = {name for name in os.listdir(out) if not _is_litter(name)} == {unfinished}
    if not overwrite and not is_resumable:
        raise UserError(f"{out!r} exists and is not empty; choose another folder, or replace it with --overwrite")
    if not is_resumable and not os.path.exists(os.path.join(out, marker)):
        raise UserError(f"--overwrite: {out!r} holds no {marker}, so crackflow did not make it; choose another folder")
    for directory, _, names in os.walk(out):
        for path in (os.path.relpath(os.path.join(directory, name), out) for name in sorted(names)):
            if not _is_litter(path) and not any(_matches(path, pattern) for pattern in owned_patterns):
                raise UserError(
                    f"--{'overwrite' if overwrite else 'out'}: {out!r} holds {path!r}, which this command did not "
                    "write; move it elsewhere, or choose another folder"
                )


def _is_litter(path: str) -> bool:
    """Whether the system or a killed process left the file or folder `path`, which is relative to an output folder."""
    parts = path.split(os.sep)
    return any(map(system_files.is_left_by_looking, parts)) or temporary_files.is_temporary(parts[-1])


def _matches(path: str, pattern: str) -> bool:
    parts, pattern_parts = path.split(os.sep), pattern.split("/")
    if pattern_parts[-1] == "**":
        parts, pattern_parts = parts[: len(pattern_parts) - 1], pattern_parts[:-1]
    return len(parts) == len(pattern_parts) and all(map(fnmatch.fnmatchcase, parts, pattern_parts))


def _remove_stale(parent: str, name: str, out: str) -> None:
    """Removes what killed runs left, and restores an old folder whose replacement never arrived."""
    temporary_files.remove_leftovers(parent, name)
    for left in sorted(os.listdir(parent)):
        if temporary_files.belongs_to(left, name, temporary_files.REPLACED):
            path = os.path.join(parent, left)
            if os.path.lexists(out):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.rename(path, out)


def _move(
    stage: str, out: str, marker: str, overwrite: bool, owned_patterns: Sequence[str], unfinished: str | None
) -> None:
    _require_replaceable(out, marker, overwrite, owned_patterns, unfinished)  # another run may have finished meanwhile
    parent, name = os.path.split(out)
    if os.path.isdir(out):
        previous = os.path.join(parent, temporary_files.temporary_name(name, temporary_files.REPLACED))
        os.rename(out, previous)
        try:
            os.rename(stage, out)
        except BaseException:
            os.rename(previous, out)
            raise
        shutil.rmtree(previous, ignore_errors=True)
    else:
        os.rename(stage, out)


def _sync(directory: str) -> None:
    """Flushes the names in `directory` to the disk; a file system that can't do so is no reason to fail."""
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def file(path: str) -> Iterator[BinaryIO]:
    """Gives a file that is renamed to `path` when all of it is on the disk, and removed if writing fails.

    `temporary_files.remove_leftovers` removes what a killed process leaves.
    """
    opened = temporary_files.claim(path)
    try:
        with opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
            is_named = _rename_while_open(opened.name, path)
        if not is_named:
            with locks.folder(os.path.dirname(opened.name)):
                os.replace(opened.name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(opened.name)
        raise
    _sync(os.path.dirname(os.path.abspath(path)))


def _rename_while_open(temporary: str, path: str) -> bool:
    """Renames `temporary` while it is still locked, so that nobody takes it for the file of a dead process.

    Returns:
        False where the system can't rename an open file (Windows).
    """
    try:
        os.replace(temporary, path)
    except PermissionError:
        return False
    return True


def write_bytes(path: str, data: bytes) -> None:
    """Writes `data` to `path`: a reader sees the old file or the new one, never a part. Missing folders are created."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with file(path) as opened:
        opened.write(data)


def write_text(path: str, text: str) -> None:
    """Writes `text` to `path` as UTF-8; undecodable bytes of file names are written as they were read."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def save_json(folder: str, name: str, content: dict) -> None:
    """Writes `content` as JSON; NaN is refused, because other programs can't read it."""
    atomic.write_text(os.path.join(folder, name), json.dumps(content, indent=1, allow_nan=False) + "\n")
