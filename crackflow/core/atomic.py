"""Files and folders that appear whole or not at all, whenever the process is killed.

Synopsis::

    with atomic.folder("data/metu", marker="dataset.json", overwrite=False, ours=("*.csv",)) as stage:
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
def folder(out: str, marker: str, overwrite: bool, ours: Sequence[str], unfinished: str | None = None) -> Iterator[str]:
    """Gives a hidden folder beside `out` that takes its name when the block ends, and vanishes if the block fails.

    A folder that stands at `out` is replaced only with `overwrite`, and only if it holds the file `marker`, the sign
    that crackflow made it, and nothing but that and files that `ours` names: paths in it, with * for any part of one
    name, and ** at the end for all that lies below. One that holds the folder `unfinished` alone, which the block goes
    on with, needs neither. Left-overs of killed runs are removed first; those of runs still alive hold a lock and stay.
    Raises: UserError when `out` is taken.
    """
    out = os.path.realpath(out)  # a link stays, and what it points to is filled
    parent, name = os.path.split(out)
    ours = (marker, LOCK, *ours)
    if os.path.isdir(parent):
        with locks.folder(parent):
            _remove_stale(parent, name, out)  # first: it may bring an older folder back
    _require_replaceable(out, marker, overwrite, ours, unfinished)
    os.makedirs(parent, exist_ok=True)
    stage = os.path.join(parent, temporary_files.temporary_name(name))
    try:
        os.mkdir(stage)  # inside, so that a signal that comes with it leaves nothing either
        with locks.open_file(os.path.join(stage, LOCK)) as lock:
            locked = locks.lock_where_possible(lock)
            yield stage
            _sync(stage)
            with locks.folder(parent) as alone:
                if alone or not locked:  # nobody tidies up now, or would take it for dead
                    lock.close()  # Windows moves no folder in which a file is open
                _move(stage, out, marker, overwrite, ours, unfinished)
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(out, LOCK))  # not before: without it the folder would look like a dead run's
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    _sync(parent)


def is_unfinished(place: str) -> bool:
    """Whether the folder `place` is one that `folder` fills, or that a killed run left."""
    return temporary_files.is_temporary(os.path.basename(os.path.abspath(place)))


def _require_replaceable(out: str, marker: str, overwrite: bool, ours: Sequence[str], unfinished: str | None) -> None:
    if not os.path.lexists(out):
        return
    if not os.path.isdir(out):
        raise UserError(f"expected a new folder, received {out!r}, which is a file; choose another name")
    if os.path.ismount(out):
        raise UserError(f"expected a folder that can be replaced, received {out!r}, a mount point; name a folder in it")
    if not os.listdir(out):
        return
    goes_on = {name for name in os.listdir(out) if not _is_litter(name)} == {unfinished}
    if not overwrite and not goes_on:
        raise UserError(f"{out!r} exists and is not empty; choose another folder, or replace it with --overwrite")
    if not goes_on and not os.path.exists(os.path.join(out, marker)):
        raise UserError(f"--overwrite: {out!r} holds no {marker}, so crackflow did not make it; choose another folder")
    for place, _, names in os.walk(out):
        for path in (os.path.relpath(os.path.join(place, name), out) for name in sorted(names)):
            if not _is_litter(path) and not any(_matches(path, pattern) for pattern in ours):
                raise UserError(
                    f"--{'overwrite' if overwrite else 'out'}: {out!r} holds {path!r}, which this command did not "
                    "write; move it elsewhere, or choose another folder"
                )


def _is_litter(path: str) -> bool:
    """Whether the system made what lies at `path`, relative to a folder of ours, or a folder that it lies in; or a
    killed process left it."""
    parts = path.split(os.sep)
    return any(map(system_files.is_left_by_looking, parts)) or temporary_files.is_temporary(parts[-1])


def _matches(path: str, pattern: str) -> bool:
    parts, wanted = path.split(os.sep), pattern.split("/")
    if wanted[-1] == "**":
        parts, wanted = parts[: len(wanted) - 1], wanted[:-1]
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def _remove_stale(parent: str, name: str, out: str) -> None:
    """Remove what killed runs left; put back an old folder whose replacement never arrived."""
    temporary_files.remove_leftovers(parent, name)
    for left in sorted(os.listdir(parent)):
        if temporary_files.belongs_to(left, name, temporary_files.REPLACED):
            place = os.path.join(parent, left)
            if os.path.lexists(out):
                shutil.rmtree(place, ignore_errors=True)
            else:
                os.rename(place, out)


def _move(stage: str, out: str, marker: str, overwrite: bool, ours: Sequence[str], unfinished: str | None) -> None:
    _require_replaceable(out, marker, overwrite, ours, unfinished)  # another run may have finished meanwhile
    parent, name = os.path.split(out)
    if os.path.isdir(out):
        aside = os.path.join(parent, temporary_files.temporary_name(name, temporary_files.REPLACED))
        os.rename(out, aside)
        try:
            os.rename(stage, out)
        except BaseException:
            os.rename(aside, out)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    else:
        os.rename(stage, out)


def _sync(place: str) -> None:
    """Ask the disk to keep the names in folder `place`; a file system that can't is no reason to fail."""
    with contextlib.suppress(OSError):
        handle = os.open(place, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def file(path: str) -> Iterator[BinaryIO]:
    """A file to write that takes the name `path` when all of it is on the disk, and vanishes when that fails. What a
    killed process leaves, `temporary_files.remove_leftovers` removes."""
    opened = temporary_files.claim(path)
    try:
        with opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
            is_named = _is_renamed_open(opened.name, path)
        if not is_named:
            with locks.folder(os.path.dirname(opened.name)):
                os.replace(opened.name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(opened.name)
        raise
    _sync(os.path.dirname(os.path.abspath(path)))


def _is_renamed_open(temporary: str, path: str) -> bool:
    """Give `temporary` its name while it is still locked, so that nobody takes it for a dead process's; False where
    the system, Windows, gives no open file another name."""
    try:
        os.replace(temporary, path)
    except PermissionError:
        return False
    return True


def write_bytes(path: str, data: bytes) -> None:
    """`data` in `path`: the old file or the new one, never a part. Folders that are missing are made."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with file(path) as opened:
        opened.write(data)


def write_text(path: str, text: str) -> None:
    """`text` in `path`, as UTF-8; undecodable bytes of file names go out as they came in."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def save_json(folder: str, name: str, content: dict) -> None:
    """`content` as JSON; NaN is refused, because other programs can't read it."""
    atomic.write_text(os.path.join(folder, name), json.dumps(content, indent=1, allow_nan=False) + "\n")
