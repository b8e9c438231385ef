import errno
import os

import pytest

from crackflow.core import errors
from tests.helpers import support


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full: 'here'; free some space"),
        (errno.EDQUOT, "the disk is full: 'here'; free some space"),
        (errno.EFBIG, "a file grew past the size allowed here: 'here'; raise the limit"),
        (errno.EACCES, "no permission (Permission denied): 'here'"),
        (errno.EROFS, "no permission (Read-only file system): 'here'"),
        (errno.ENAMETOOLONG, "expected a usable path (File name too long): 'here'"),
        (errno.EISDIR, "expected a usable path (Is a directory): 'here'"),
        (errno.ENOTDIR, "expected a usable path (Not a directory): 'here'"),
        (errno.EINVAL, "expected a usable path (Invalid argument): 'here'"),
    ],
)
def test_what_a_user_can_mend_is_said_in_their_words(code, words):
    user_error = errors.from_os_error(OSError(code, os.strerror(code), "here"))
    assert isinstance(user_error, errors.UserError)
    assert words in str(user_error)


def test_an_error_without_a_file_name_names_none():
    user_error = errors.from_os_error(OSError(errno.ENOSPC, "No space left on device"))
    assert str(user_error) == "the disk is full; free some space or choose another place, then run it again"


def test_a_fault_of_ours_stays_a_fault():
    assert errors.from_os_error(OSError(errno.EBADF, "Bad file descriptor")) is None
    assert errors.from_os_error(OSError(errno.EINVAL, "Invalid argument")) is None


def test_a_file_that_windows_keeps_from_us_is_open_elsewhere():
    error = PermissionError(errno.EACCES, "The process cannot access the file", "report.html")
    error.winerror = 32
    assert "another program has this open: 'report.html'; close it there" in str(errors.from_os_error(error))


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "name \udcff", "多行\n文字"])
def test_one_line_is_one_line_that_can_be_written(text):
    line = errors.one_line(text)
    assert len(line.splitlines()) == 1
    line.encode("utf-8")


def test_a_config_error_is_a_users_error_and_a_value_error():
    assert issubclass(errors.ConfigError, errors.UserError) and issubclass(errors.ConfigError, ValueError)
    assert not issubclass(errors.VerificationError, errors.UserError)


class ResourceExhaustedError(Exception):
    """Has the name of TensorFlow's error."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "memory ran out; close other programs, raise the limit"),
        (ResourceExhaustedError("OOM when allocating tensor with shape[1024]"), "memory ran out"),
        (ResourceExhaustedError("a device of a new kind has no more of it"), "memory ran out"),
        (RuntimeError("can't start new thread"), "memory ran out"),
        (ImportError("libtensorflow_cc.so.2: failed to map segment from shared object"), "memory ran out"),
        (ResourceExhaustedError("events.out.tfevents; No space left on device"), "the disk is full; free some"),
        (RuntimeError("Can't write data (file write failed: errno = 28, No space left on device)"), "the disk is full"),
        (OSError("Unable to flush file's cached information (errno = 122, Disk quota exceeded)"), "the disk is full"),
        (ResourceExhaustedError("wall.jpg; Too many open files"), "too many files are open at once; allow more"),
        (
            OSError(errno.EMFILE, "Too many open files", "wall.jpg"),
            "too many files are open at once: 'wall.jpg'; allow",
        ),
    ],
)
def test_what_ran_out_is_reported_whatever_raises_it_and_however_deep_it_lies(error, message):
    assert str(errors.from_shortage(error)).startswith(message)
    try:
        try:
            raise error
        except Exception as cause:
            raise ValueError("reading failed") from cause
    except ValueError as outer:
        assert str(errors.from_shortage(outer)).startswith(message)
    assert errors.is_disk_full(error) == message.startswith("the disk")


def test_a_programming_mistake_is_no_shortage():
    assert errors.from_shortage(ValueError("expected 3 channels")) is None
    circular = ValueError("a")
    circular.__cause__ = circular
    assert errors.from_shortage(circular) is None


@pytest.mark.parametrize(("code", "message"), [(errno.ENFILE, "too many files are open"), (errno.ENOMEM, "memory ran")])
def test_limits_of_the_system_are_reported_as_such(code, message):
    assert str(errors.from_os_error(OSError(code, "x"))).startswith(message)


@pytest.mark.parametrize(
    "text", ["libcc.so.2: failed to map segment from shared object", "[Errno 24] Too many open files"]
)
def test_what_runs_out_before_a_command_has_begun_is_one_line_as_well(tmp_path, text):
    (tmp_path / "numpy.py").write_text(f"raise ImportError({text!r})")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{support.ROOT}"}
    done = support.command("convert", "--images=a", "--out=b", env=environment, cwd=tmp_path)
    support.expect_one_line(done, 2, "crackflow.", "then run it again")
    assert os.listdir(tmp_path) == ["numpy.py"] or sorted(os.listdir(tmp_path)) == ["__pycache__", "numpy.py"]


def test_another_mistake_of_a_library_keeps_its_traceback(tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError('no such symbol')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{support.ROOT}"}
    done = support.command("convert", "--images=a", "--out=b", env=environment, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" in done.stderr and "no such symbol" in done.stderr
