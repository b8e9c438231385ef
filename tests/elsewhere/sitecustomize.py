"""Linux as Windows or macOS, as far as Python can pretend it: what is absent there is absent, what those systems refuse
is refused.

Every Python process reads this that has this folder on PYTHONPATH, so the workers of a command do too. The variable
ELSEWHERE says which system: windows, macos. Nothing here is a test of the real ones.
"""

import builtins
import errno
import importlib.abc
import io
import multiprocessing
import os
import shutil
import signal
import sys
import warnings

SYSTEM = os.environ["ELSEWHERE"]
NO_MODULES = {"windows": "fcntl resource pwd grp termios tty pty readline curses syslog", "macos": ""}
NO_FUNCTIONS = {
    "windows": "chown fchmod fchown fork forkpty getegid geteuid getgid getgroups getloadavg getpgid getpgrp getuid "
    "killpg lchown mkfifo nice posix_fadvise posix_fallocate pread pwrite register_at_fork sched_getaffinity "
    "sched_setaffinity sendfile setpgid setsid sync sysconf O_CLOEXEC O_DIRECTORY O_NONBLOCK",
    "macos": "posix_fadvise posix_fallocate sched_getaffinity sched_setaffinity",
}
NO_SIGNALS = {
    "windows": "SIGALRM SIGCHLD SIGCONT SIGHUP SIGPIPE SIGQUIT SIGSTOP SIGUSR1 SIGUSR2 alarm pthread_sigmask setitimer",
    "macos": "SIGPWR",
}
START_METHODS = {"windows": ["spawn"], "macos": ["spawn", "fork", "forkserver"]}
FORBIDDEN = set('<>:"|?*')  # in the name of a file, as are a dot and a space at its end


class _Absent(importlib.abc.MetaPathFinder):
    """Modules that can't be found."""

    def find_spec(self, name, path=None, target=None):
        if name in NO_MODULES[SYSTEM].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _take_away(module, names):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)


def _in_use(path):
    """Whether this process has the file `path`, or one below the folder `path`, open or mapped."""
    path = os.path.realpath(path)
    names = [os.path.join("/proc/self/fd", number) for number in os.listdir("/proc/self/fd")]
    opened = [os.readlink(name) for name in names if os.path.islink(name)]
    with _open("/proc/self/maps") as file:
        opened += [line.split(maxsplit=5)[5].rstrip("\n") for line in file if line.count("/")]
    return any(name == path or name.startswith(path + os.sep) for name in opened)


def _expect_unused(path):
    if _in_use(path):
        raise PermissionError(errno.EACCES, "The process cannot access the file because it is being used", path)


def _expect_name(path):
    name = os.path.basename(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else ""
    if FORBIDDEN & set(name) or name.rstrip(". ") != name and name.strip("."):
        raise OSError(errno.EINVAL, "Invalid argument", os.fspath(path))


_rename, _replace, _unlink, _os_open, _mkdir, _open = os.rename, os.replace, os.unlink, os.open, os.mkdir, builtins.open


def _checked_rename(source, target):
    _expect_unused(source)
    _expect_name(target)
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", target)
    _rename(source, target)


def _checked_replace(source, target):
    _expect_unused(source)
    _expect_name(target)
    if os.path.isdir(target):
        raise PermissionError(errno.EACCES, "Access is denied", target)
    _expect_unused(target)
    _replace(source, target)


def _checked_unlink(path):
    _expect_unused(path)
    _unlink(path)


def _checked_os_open(path, flags, mode=0o777):
    if os.path.isdir(path) and flags & os.O_TMPFILE != os.O_TMPFILE:
        raise PermissionError(errno.EACCES, "Permission denied", path)
    if flags & os.O_CREAT:
        _expect_name(path)
    return _os_open(path, flags, mode)


def _checked_mkdir(path, mode=0o777):
    _expect_name(path)
    _mkdir(path, mode)


def _checked_open(file, mode="r", *arguments, **options):
    if set(mode) & set("wax"):
        _expect_name(file)
    return _open(file, mode, *arguments, **options)


sys.meta_path.insert(0, _Absent())
# filelock, which goes by sys.platform: on Windows it has locks and says nothing.
warnings.filterwarnings("ignore", "only soft file lock is available")
for loaded in NO_MODULES[SYSTEM].split():
    sys.modules.pop(loaded, None)
multiprocessing.set_start_method("spawn")
multiprocessing.get_all_start_methods = lambda: START_METHODS[SYSTEM]
_take_away(os, NO_FUNCTIONS[SYSTEM])
_take_away(signal, NO_SIGNALS[SYSTEM])
if SYSTEM == "windows":
    os.rename, os.replace, os.open, os.mkdir = _checked_rename, _checked_replace, _checked_os_open, _checked_mkdir
    os.unlink = os.remove = _checked_unlink
    builtins.open = io.open = _checked_open
    shutil._use_fd_functions = False
