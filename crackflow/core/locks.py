"""Locks on files: one process at a time, on every system, released when their process ends, even by SIGKILL.

Synopsis::

    with open_file(path) as file:
        if not locks.lock(file, wait=False): ...     # another process holds it
    with locks.folder("data") as locked:     # whether no other process is in such a block for the same folder
        ...

The system holds the lock, not the existence of the file: flock(2), or LockFileEx on Windows, by filelock. So a file
that a killed process left locks nobody out.
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
    """Opens the lock file `path` for writing, and creates it where there is none.

    NFS locks nothing that is open for reading alone.

    Raises:
        OSError: where a symbolic link lies there, because opening it would empty another file.
    """
    if os.path.islink(path):
        raise OSError(errno.ELOOP, "expected a lock file, found a symbolic link", path)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666), "w")


def lock(file: IO, wait: bool = True) -> bool:
    """Locks `file`, which is open for writing, until it is closed.

    Returns:
        False when another process holds it and `wait` is False.

    Raises:
        OSError: where there are no locks: some network file systems (Lustre without flock), some systems.
    """
    return filelock.lock_descriptor(file.fileno(), blocking=wait)


def lock_where_possible(file: IO) -> bool:
    """Locks `file` and waits for it; returns False where its file system has no locks."""
    with contextlib.suppress(OSError):
        return lock(file)
    return False


@contextlib.contextmanager
def folder(path: str) -> Iterator[bool]:
    """Admits one process at a time for the folder `path`; gives False where the folder can't be locked.

    The folder itself is locked, so that nothing is left in it. Windows opens no folder, so a file in it is locked
    there, and removed afterwards.
    """
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
    with contextlib.suppress(OSError):  # Windows removes no file that another process has open; that process removes it
        os.remove(path)


@contextlib.contextmanager
def exclusive(path: str, busy_message: str, unlocked_message: str) -> Iterator[None]:
    """Holds the lock file `path` for this process alone.

    Args:
        path: the lock file.
        busy_message: the error when another process holds it.
        unlocked_message: the warning where a network file system has no locks.

    Raises:
        UserError: when another process holds it.
    """
    with open_file(path) as file:
        try:
            is_exclusive = lock(file, wait=False)
        except OSError:
            console.warning(unlocked_message)
            is_exclusive = True
        if not is_exclusive:
            raise UserError(busy_message)
        yield
