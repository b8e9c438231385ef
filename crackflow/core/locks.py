"""Locks on files: one process at a time, on every system, and gone when their process ends, even by SIGKILL.

Synopsis::

    with open_file(path) as file:
        if not locks.lock(file, wait=False): ...     # another process has it
    with locks.folder("data") as locked:     # whether nobody else is in such a block for the same folder
        ...

The system holds the lock, not the file that lies there: flock(2), or LockFileEx on Windows, by filelock. So a file that
a killed process left locks nobody out.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import IO

import filelock

from crackflow.core import console
from crackflow.core.errors import UserError

FOLDER_LOCK = ".crackflow.lock"


def open_file(path: str) -> IO:
    """The lock file `path`, made where there is none: open for writing, as NFS locks nothing that is open for reading
    alone. Raises: OSError where a symbolic link lies there, which would empty somebody's file."""
    if os.path.islink(path):
        raise OSError(errno.ELOOP, "expected a lock file, found a symbolic link", path)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666), "w")


def lock(file: IO, wait: bool = True) -> bool:
    """Lock `file`, open for writing, until it is closed; False when another process has it and `wait` is False.

    Raises: OSError where there are no locks: some network file systems (Lustre without flock), some systems.
    """
    return filelock.lock_descriptor(file.fileno(), blocking=wait)


def lock_where_possible(file: IO) -> bool:
    """As `lock`, waiting; False where its file system has no locks."""
    with contextlib.suppress(OSError):
        return lock(file)
    return False


@contextlib.contextmanager
def folder(path: str) -> Iterator[bool]:
    """One process at a time is inside for the folder `path`; True where that is certain, False where the folder can't
    be locked. It is the folder itself that is locked, so that nothing is left in it; on Windows, which opens no folder,
    a file in it that is removed afterwards."""
    with contextlib.ExitStack() as stack:
        yield _lock_folder(path, stack)


def _lock_folder(path: str, stack: contextlib.ExitStack) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:
        file = os.path.join(path, FOLDER_LOCK)
        handle = os.open(file, os.O_RDWR | os.O_CREAT)
        stack.callback(_remove, file)
    stack.callback(os.close, handle)  # before the file is removed
    with contextlib.suppress(OSError):
        return filelock.lock_descriptor(handle)
    return False


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):  # Windows removes nothing that another process has open, and that one will
        os.remove(path)


@contextlib.contextmanager
def exclusive(path: str, busy: str, unlocked: str) -> Iterator[None]:
    """The lock file `path`, for this process alone. `unlocked`: said where a network's file system has no locks.

    Raises: UserError(busy) when another process has it.
    """
    with open_file(path) as file:
        try:
            alone = lock(file, wait=False)
        except OSError:
            console.warning(unlocked)
            alone = True
        if not alone:
            raise UserError(busy)
        yield
