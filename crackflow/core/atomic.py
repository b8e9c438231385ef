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
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, BinaryIO

from crackflow.core import locks
from crackflow.core.errors import UserError

LOCK = ".lock"
UNFINISHED = ".partial-"
REPLACED = ".replaced-"
# What systems put into a folder that somebody looks into: Mac, Windows, and the thumbnails of Synology and QNAP.
LITTER = {".ds_store", "thumbs.db", "desktop.ini", "@eadir", ".@__thumb"}
APPLE_DOUBLE = "._"  # begins the name of a file that a Mac lays beside each of its own on a foreign disk


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
            _tidy(parent, name, out)  # first: it may bring an older folder back
    _expect_free(out, marker, overwrite, ours, unfinished)
    os.makedirs(parent, exist_ok=True)
    stage = os.path.join(parent, f".{name}{UNFINISHED}{secrets.token_hex(4)}")
    try:
        os.mkdir(stage)  # inside, so that a signal that comes with it leaves nothing either
        with locks.open_file(os.path.join(stage, LOCK)) as lock:
            locked = _is_lockable(lock)
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
    name = os.path.basename(os.path.abspath(place))
    return name.startswith(".") and UNFINISHED in name


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _is_lockable(file: IO) -> bool:
    """Lock `file`, where its file system has locks."""
    with contextlib.suppress(OSError):
        return locks.lock(file)
    return False


def _expect_free(out: str, marker: str, overwrite: bool, ours: Sequence[str], unfinished: str | None) -> None:
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
    """Whether the system made what lies at `path`, relative to a folder of ours, or a folder that it lies in."""
    parts = path.lower().split(os.sep)
    return not LITTER.isdisjoint(parts) or parts[-1].startswith(APPLE_DOUBLE)


def _matches(path: str, pattern: str) -> bool:
    parts, wanted = path.split(os.sep), pattern.split("/")
    if wanted[-1] == "**":
        parts, wanted = parts[: len(wanted) - 1], wanted[:-1]
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def _tidy(parent: str, name: str, out: str) -> None:
    """Remove what killed runs left; put back an old folder whose replacement never arrived."""
    for left in sorted(os.listdir(parent)):
        place = os.path.join(parent, left)
        if left.startswith(f".{name}{UNFINISHED}") and not _is_locked(place):
            shutil.rmtree(place, ignore_errors=True)
        elif left.startswith(f".{name}{REPLACED}"):
            if os.path.lexists(out):
                shutil.rmtree(place, ignore_errors=True)
            else:
                os.rename(place, out)


def _is_locked(place: str) -> bool:
    try:
        with open(os.path.join(place, LOCK), "r+") as lock:  # NFS locks nothing that is open for reading alone
            return not locks.lock(lock, wait=False)
    except FileNotFoundError:  # killed before it was made, or just after it was removed
        return False
    except OSError:  # a file system without locks, where nobody can tell
        return True


def _move(stage: str, out: str, marker: str, overwrite: bool, ours: Sequence[str], unfinished: str | None) -> None:
    _expect_free(out, marker, overwrite, ours, unfinished)  # another run may have finished meanwhile
    parent, name = os.path.split(out)
    if os.path.isdir(out):
        aside = os.path.join(parent, f".{name}{REPLACED}{secrets.token_hex(4)}")
        os.rename(out, aside)
        os.rename(stage, out)
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
    """A file to write that takes the name `path` when all of it is on the disk, and vanishes when that fails.

    One writer at a time: until then it is called `path`.partial, so that what a killed process leaves is written over.
    """
    partial = f"{path}.partial"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)  # what a killed process left, or a link to a file of somebody's
        with open(partial, "xb") as opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(partial)
        raise
    _sync(os.path.dirname(os.path.abspath(path)))


def write_bytes(path: str, data: bytes) -> None:
    """`data` in `path`: the old file or the new one, never a part. Folders that are missing are made."""
    parent = os.path.dirname(os.path.abspath(path))
    os.makedirs(parent, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


def write_text(path: str, text: str) -> None:
    """`text` in `path`, as UTF-8; undecodable bytes of file names go out as they came in."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))
