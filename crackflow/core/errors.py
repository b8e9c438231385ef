"""Errors that reach the user: one line on stderr and an exit code, never a traceback for the user's mistake.

Synopsis::

    raise UserError("--images: expected a folder, received 'walls'; check the path")   # exit 2
    raise VerificationError("train-00000-of-00016.tfrecord: record 7 is damaged")      # exit 1
"""

import errno
import os
import re
import sys
from types import TracebackType

from crackflow.core.escaping import one_line

EXIT_CHECK_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: the same command resumes where it stopped


SHORT = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
IN_USE = (32, 33)  # ERROR_SHARING_VIOLATION and ERROR_LOCK_VIOLATION of Windows, which Python maps to EACCES


DISK_FULL = "the disk is full{location}; free some space or choose another place, then run it again"
FILES_OPEN = "too many files are open at once{location}; allow more (ulimit -n 1024), then run it again"
MEMORY_FULL = (
    "memory ran out; close other programs, raise the limit (ulimit -v), or ask for less at once, such as a smaller "
    "--batch_size or fewer --workers, then run it again"
)
# Messages of libraries that report a shortage without an errno: TensorFlow, HDF5, the loader of shared objects.
SHORTAGES = {
    r"No space left on device|Disk quota exceeded|Out of disk space": DISK_FULL,
    r"Too many open files": FILES_OPEN,
    r"Cannot allocate memory|Unable to allocate|OOM when allocating|[Oo]ut of memory|bad_alloc|failed to map segment"
    r"|can't start new thread|pthread_create|[Ff]ailed to allocate": MEMORY_FULL,
}


class UserError(Exception):
    """The user's input cannot be used; the message says what was expected, what was received and what to do."""


class ConfigError(UserError, ValueError):
    """A setting is outside its range; raised by the dataclasses of `core.config`."""


class VerificationError(Exception):
    """A check that the user requested (verify, parity) failed."""


class RetryableError(Exception):
    """The run stopped, by a signal or because another worker was lost; the same command resumes it."""


def raised_inside(error: Exception) -> UserError | None:
    """Returns the UserError that a function called by TensorFlow raised; only the text of `error` shows it."""
    match = re.search(r"\bUserError: (.+)", str(error))
    return UserError(match[1]) if match else None


def from_shortage(error: BaseException) -> UserError | None:
    """Returns an error for exhausted disk, memory or open files if `error` or one of its causes shows that."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        user_error = (
            from_os_error(cause)
            if isinstance(cause, OSError) and cause.errno in SHORT
            else _shortage_from_message(cause)
        )
        if user_error:
            return user_error
        cause = cause.__cause__ or cause.__context__
    return None


def signed(message: object) -> str:
    """Returns the line with which a command ends: its name and `message`."""
    program = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    return f"{one_line(f'crackflow.{program}: {message}')}\n"


def end_on_shortage(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A `sys.excepthook` for commands: one line and exit code 2 after a shortage, a traceback for everything else."""
    user_error = from_shortage(error)
    if user_error is None:
        sys.__excepthook__(kind, error, trace)
        return
    sys.stderr.write(signed(user_error))
    sys.stderr.flush()
    os._exit(EXIT_USER_ERROR)


def is_disk_full(error: BaseException) -> bool:
    """Whether `error`, or one of its causes, shows that a disk is full."""
    user_error = from_shortage(error)
    return user_error is not None and str(user_error).startswith(DISK_FULL.partition("{")[0])


def _shortage_from_message(error: BaseException) -> UserError | None:
    if isinstance(error, MemoryError):
        return UserError(MEMORY_FULL)
    if isinstance(error, UserError):
        return None
    for pattern, message in SHORTAGES.items():
        if re.search(pattern, str(error)):
            return UserError(message.format(location=""))
    is_exhausted = any(kind.__name__ == "ResourceExhaustedError" for kind in type(error).__mro__)  # TensorFlow's
    return UserError(MEMORY_FULL) if is_exhausted else None


def from_os_error(error: OSError) -> UserError | None:
    """Returns the user's side of an operating-system error, or None when the user can't solve it."""
    location = f": {os.fsdecode(error.filename)!r}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(DISK_FULL.format(location=location))
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return UserError(FILES_OPEN.format(location=location))
    if error.errno == errno.ENOMEM:
        return UserError(MEMORY_FULL)
    if error.errno == errno.EFBIG:
        return UserError(
            f"a file grew past the size allowed here{location}; raise the limit (ulimit -f) or ask for --shards"
        )
    if getattr(error, "winerror", None) in IN_USE:
        return UserError(f"another program has this open{location}; close it there, then run it again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(f"no permission ({error.strerror}){location}; choose a place this user may read or write")
    # EINVAL: a name with a colon or similar on a file system of Windows.
    bad_name = error.errno == errno.EINVAL and error.filename is not None
    if bad_name or error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.EISDIR):
        return UserError(f"expected a usable path ({error.strerror}){location}; choose another")
    return None


class ImageError(Exception):
    """This file cannot be used; the message is the reason that rejected.csv gives."""
