"""Temporary files and folders: their names, their owners, and the removal of those whose process has ended.

Synopsis::

    with temporary_files.claim("run/model.h5") as file:     # run/.model.h5.partial-1f0c9a3e-4711-88123-5b2d90aa, locked
        ...
    temporary_files.remove_leftovers("run")                 # those in this folder whose process has ended
    temporary_files.remove_leftovers("run", "model.h5")     # only those that were to become run/model.h5

A name holds the machine (8 hexadecimal digits), the process, its start time and a random number, so that no file of the
user matches. While its process lives, the file, or the file `LOCK` in the folder, is locked.
"""

import contextlib
import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from crackflow.core import locks

LOCK = ".lock"
UNFINISHED, REPLACED = "partial", "replaced"
MAX_NAME_BYTES = 190  # of the final name in a temporary one; systems allow 255 for a whole name
_NAME = re.compile(
    rf"\.(?P<name>.+)\.(?P<kind>{UNFINISHED}|{REPLACED})"
    r"-(?P<host>[0-9a-f]{8})-(?P<process>\d{1,10})-(?P<started>\d{1,20})-[0-9a-f]{8}",
    re.DOTALL,
)


class Owner(NamedTuple):
    """A process.

    Attributes:
        host: identifies the machine, or the container, in which `process` is its number.
        process: the process number.
        started: in clock ticks after the system, 0 where that is unknown.
    """

    host: str
    process: int
    started: int


def temporary_name(name: str, kind: str = UNFINISHED) -> str:
    """Returns a unique name of this process for a file that will be called `name`, or was until its replacement."""
    host, process, started = _this_process()
    return f".{_shortened(name)}.{kind}-{host}-{process}-{started}-{secrets.token_hex(4)}"


def is_temporary(name: str) -> bool:
    """Whether `name` has the form of `temporary_name`."""
    return _NAME.fullmatch(name) is not None


def belongs_to(temporary: str, name: str, kind: str) -> bool:
    """Whether `temporary` is a name that `temporary_name` returns for `name` and `kind`."""
    parts = _NAME.fullmatch(temporary)
    return parts is not None and parts["name"] == _shortened(name) and parts["kind"] == kind


def claim(path: str) -> BinaryIO:
    """Creates a file beside `path`, open for writing, and locked where its file system has locks. Raises: OSError."""
    parent, name = os.path.split(os.path.abspath(path))
    while True:
        file = open(os.path.join(parent, temporary_name(name)), "xb")  # noqa: SIM115 - the caller closes it
        locks.lock_where_possible(file)
        if os.path.lexists(file.name):
            return file
        file.close()  # before it was locked, another machine removed it as that of a dead process


@contextlib.contextmanager
def scratch_folder(parent: str, name: str) -> Iterator[str]:
    """Gives a new folder in `parent`, removed when the block ends. Those of killed processes are removed first."""
    remove_leftovers(parent, name)
    path = os.path.join(parent, temporary_name(name))
    os.mkdir(path)
    try:
        with open(os.path.join(path, LOCK), "w") as lock:
            locks.lock_where_possible(lock)
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_leftovers(folder: str, name: str = "") -> None:
    """Removes from `folder`, but not from folders in it, what ended processes left unfinished.

    A file stays when it can't be removed, or when its process may be alive: a process of this machine, one that holds
    its lock, or, where locks are unavailable, one of any other machine.

    Args:
        folder: the folder.
        name: only what was to become this file or folder; empty: everything.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for left in names:
        parts = _NAME.fullmatch(left)
        if parts and parts["kind"] == UNFINISHED and (not name or parts["name"] == _shortened(name)):
            with contextlib.suppress(OSError):
                _remove_if_dead(os.path.join(folder, left), _owner(parts))


def _owner(parts: re.Match) -> Owner:
    return Owner(parts["host"], int(parts["process"]), int(parts["started"]))


def _shortened(name: str) -> str:
    while len(os.fsencode(name)) > MAX_NAME_BYTES:
        name = name[:-1]
    return name


def _remove_if_dead(path: str, owner: Owner) -> None:
    mode = os.lstat(path).st_mode
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        return
    is_here = owner.host == _host()
    if is_here and os.name != "nt" and _is_alive(owner):
        return
    lock = os.path.join(path, LOCK) if stat.S_ISDIR(mode) else path
    with contextlib.ExitStack() as stack:
        if os.name == "nt":  # Windows removes no open file, so a living process closes its own for a moment
            stack.enter_context(locks.folder(os.path.dirname(path)))
        is_free = _is_free(lock, stack)
        if is_free or (is_free is None and is_here and os.name != "nt"):
            _remove(path)


def _is_free(lock: str, stack: contextlib.ExitStack) -> bool | None:
    """Whether nobody holds `lock`, which is then held until `stack` ends; None where that is unknown."""
    try:
        file = open(lock, "r+b")  # NFS locks nothing that is open for reading alone
        try:
            is_free = locks.lock(file, wait=False)
        except OSError:
            file.close()
            raise
    except OSError:
        return None
    file.close() if os.name == "nt" or not is_free else stack.callback(file.close)
    return is_free


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        os.remove(path)


def _this_process() -> Owner:
    return Owner(_host(), os.getpid(), _started(os.getpid()) or 0)


@functools.cache
def _host() -> str:
    """Identifies one machine and one space of process numbers; containers with the host's name have their own."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbers = ""
    return hashlib.sha256(f"{socket.gethostname()} {numbers}".encode()).hexdigest()[:8]


def _is_alive(owner: Owner) -> bool:
    """Whether the process runs on this machine, and is not a later one with the same number."""
    try:
        with contextlib.suppress(PermissionError):  # a process of another user is alive as well
            os.kill(owner.process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    started = _started(owner.process)
    return started is None or owner.started in (0, started)


def _started(process: int) -> int | None:
    """Returns when the process was started, in clock ticks after the system.

    Returns:
        -1 where it has ended and its parent has not noticed yet; None where that is unknown.
    """
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            state, *fields = file.read().rpartition(b")")[2].split()  # the name before it may hold anything
    except OSError:
        return None
    return -1 if state in (b"Z", b"X") else int(fields[18])  # field 22 of proc(5)
