"""How a failure reaches the user: one line on stderr and an exit code, never a traceback for their mistake.

Synopsis::

    raise UserError("--images: expected a folder, received 'walls'; check the path")   # exit 2
    raise CheckFailed("train-00000-of-00016.tfrecord: record 7 is damaged")            # exit 1
"""

import errno
import os
import re
import sys

from crackflow.core.escaping import one_line

EXIT_CHECK_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on from where it was


SHORT = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
IN_USE = (32, 33)  # ERROR_SHARING_VIOLATION and ERROR_LOCK_VIOLATION of Windows, which Python gives as EACCES


DISK_FULL = "the disk is full{place}; free some space or choose another place, then run it again"
FILES_OPEN = "too many files are open at once{place}; allow more (ulimit -n 1024), then run it again"
MEMORY_FULL = (
    "memory ran out; close other programs, raise the limit (ulimit -v), or ask for less at once, such as a smaller "
    "--batch_size or fewer --workers, then run it again"
)
# What libraries say of a shortage, which keep no number of it: TensorFlow, HDF5, the loader of shared objects.
SHORTAGES = {
    r"No space left on device|Disk quota exceeded|Out of disk space": DISK_FULL,
    r"Too many open files": FILES_OPEN,
    r"Cannot allocate memory|Unable to allocate|OOM when allocating|[Oo]ut of memory|bad_alloc|failed to map segment"
    r"|can't start new thread|pthread_create|[Ff]ailed to allocate": MEMORY_FULL,
}


class UserError(Exception):
    """What the user gave cannot be used: the message says what was expected, received and what to do."""


class ConfigError(UserError, ValueError):
    """A setting is outside its range; raised by the dataclasses of `core.config`."""


class VerificationError(Exception):
    """A check the user asked for (verify, parity) did not hold."""


class RetryableError(Exception):
    """The run stopped, by a signal or because another worker was lost, and the same command goes on with it."""


def raised_inside(error: Exception) -> UserError | None:
    """The user's mistake that a function called by TensorFlow raised: of it, only the text of `error` is left."""
    found = re.search(r"\bUserError: (.+)", str(error))
    return UserError(found[1]) if found else None


def from_shortage(error: BaseException) -> UserError | None:
    """That disk, memory or open files ran out, where `error`, or what it came from, tells of it; else None."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        mistake = from_os_error(error) if isinstance(error, OSError) and error.errno in SHORT else _told_shortage(error)
        if mistake:
            return mistake
        error = error.__cause__ or error.__context__
    return None


def signed(message: object) -> str:
    """The line with which a command ends: its name and `message`."""
    program = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    return f"{one_line(f'crackflow.{program}: {message}')}\n"


def end_on_shortage(kind: type[BaseException], error: BaseException, trace: object) -> None:
    """For `sys.excepthook` of a command: one line and exit code 2 where something ran out, a traceback for all else."""
    mistake = from_shortage(error)
    if mistake is None:
        sys.__excepthook__(kind, error, trace)
        return
    sys.stderr.write(signed(mistake))
    sys.stderr.flush()
    os._exit(EXIT_USER_ERROR)


def is_disk_full(error: BaseException) -> bool:
    """Whether `error`, or what it came from, tells that a disk is full."""
    mistake = from_shortage(error)
    return mistake is not None and str(mistake).startswith(DISK_FULL.partition("{")[0])


def _told_shortage(error: BaseException) -> UserError | None:
    if isinstance(error, MemoryError):
        return UserError(MEMORY_FULL)
    if isinstance(error, UserError):
        return None
    for pattern, message in SHORTAGES.items():
        if re.search(pattern, str(error)):
            return UserError(message.format(place=""))
    is_exhausted = any(kind.__name__ == "ResourceExhaustedError" for kind in type(error).__mro__)  # TensorFlow's
    return UserError(MEMORY_FULL) if is_exhausted else None


def from_os_error(error: OSError) -> UserError | None:
    """The user's side of an operating-system error, or None when it is not theirs to mend."""
    place = f": {os.fsdecode(error.filename)!r}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(DISK_FULL.format(place=place))
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return UserError(FILES_OPEN.format(place=place))
    if error.errno == errno.ENOMEM:
        return UserError(MEMORY_FULL)
    if error.errno == errno.EFBIG:
        return UserError(
            f"a file grew past the size allowed here{place}; raise the limit (ulimit -f) or ask for --shards"
        )
    if getattr(error, "winerror", None) in IN_USE:
        return UserError(f"another program has this open{place}; close it there, then run it again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(f"no permission ({error.strerror}){place}; choose a place this user may read or write")
    # EINVAL: a name with a colon or the like on a file system of Windows.
    bad_name = error.errno == errno.EINVAL and error.filename is not None
    if bad_name or error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.EISDIR):
        return UserError(f"expected a usable path ({error.strerror}){place}; choose another")
    return None


class ImageError(Exception):
    """This file cannot be used; the message is the reason that rejected.csv gives."""
