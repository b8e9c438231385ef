"""How a failure reaches the user: one line on stderr and an exit code, never a traceback for their mistake.

Synopsis::

    raise UserError("--images: expected a folder, received 'walls'; check the path")   # exit 2
    raise CheckFailed("train-00000-of-00016.tfrecord: record 7 is damaged")            # exit 1
"""

import errno
import os
import re

from crackflow.core.escaping import one_line as one_line

EXIT_CHECK_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on from where it was


IN_USE = (32, 33)  # ERROR_SHARING_VIOLATION and ERROR_LOCK_VIOLATION of Windows, which Python gives as EACCES


class UserError(Exception):
    """What the user gave cannot be used: the message says what was expected, received and what to do."""


class ConfigError(UserError, ValueError):
    """A setting is outside its range; raised by the dataclasses of `core.config`."""


class CheckFailed(Exception):
    """A check the user asked for (verify, parity) did not hold."""


class TryAgain(Exception):
    """The run stopped, by a signal or because another worker was lost, and the same command goes on with it."""


def raised_inside(error: Exception) -> UserError | None:
    """The user's mistake that a function called by TensorFlow raised: of it, only the text of `error` is left."""
    found = re.search(r"\bUserError: (.+)", str(error))
    return UserError(found[1]) if found else None


def from_os_error(error: OSError) -> UserError | None:
    """The user's side of an operating-system error, or None when it is not theirs to mend."""
    place = f": {os.fsdecode(error.filename)!r}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"the disk is full{place}; free some space or choose another place, then run it again")
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
