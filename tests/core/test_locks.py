import errno
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from crackflow.core import locks
from tests.helpers import support

HOLDER = """
    import sys, time
    from crackflow.core import locks
    with open(sys.argv[1], "w") as file:
        print(locks.lock(file), flush=True)
        time.sleep(60)
"""


@pytest.fixture
def locked_file(tmp_path):
    """(path, process): a lock file and the process that holds it."""
    path = tmp_path / "lock"
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=support.environment())
    assert process.stdout.readline() == "True\n"
    yield path, process
    process.kill()
    process.communicate()


def test_a_lock_of_a_killed_process_is_free_although_its_file_stays(locked_file):
    path, process = locked_file
    with open(path, "w") as file:
        assert not locks.lock(file, wait=False)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert path.exists() and locks.lock(file, wait=False)


def test_who_waits_gets_it_when_the_other_ends(locked_file):
    path, process = locked_file
    threading.Timer(0.3, process.kill).start()
    began = time.monotonic()
    with open(path, "w") as file:
        assert locks.lock(file)
    assert 0.2 < time.monotonic() - began < 10


def test_a_closed_file_is_locked_no_more(tmp_path):
    for _ in range(2):
        with open(tmp_path / "lock", "w") as file:
            assert locks.lock(file, wait=False)


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF], ids=errno.errorcode.get)
def no_locks(request, monkeypatch):
    def refused(*_):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refused)


def test_a_file_system_without_locks_says_so(tmp_path, no_locks):
    with open(tmp_path / "lock", "w") as file, pytest.raises(OSError):
        locks.lock(file, wait=False)


def test_what_is_locked_where_possible_is_locked_where_there_are_locks(tmp_path):
    with open(tmp_path / "lock", "w") as file, open(tmp_path / "lock", "w") as second:
        assert locks.lock_where_possible(file) and not locks.lock(second, wait=False)


def test_where_there_are_no_locks_the_work_continues_without(tmp_path, no_locks):
    with open(tmp_path / "lock", "w") as file:
        assert not locks.lock_where_possible(file)


def test_a_folder_that_can_not_be_locked_is_entered_all_the_same(tmp_path, no_locks):
    with locks.folder(str(tmp_path)) as locked:
        assert not locked
    assert os.listdir(tmp_path) == []


def second(folder):
    """Whether a second process can lock the folder now."""
    code = (
        "import os, sys\n"
        "from crackflow.core import locks\n"
        f"file = os.path.join(sys.argv[1], {locks.FOLDER_LOCK!r})\n"
        "handle = os.open(file if os.path.exists(file) else sys.argv[1], os.O_RDONLY)\n"
        "import filelock; print(filelock.lock_descriptor(handle, blocking=False))"
    )
    line = [sys.executable, "-c", code, str(folder)]
    return subprocess.check_output(line, text=True, env=support.environment()) == "True\n"


def test_in_a_folder_one_process_is_at_a_time_and_nothing_stays(tmp_path):
    with locks.folder(str(tmp_path)) as locked:
        assert locked and not second(tmp_path)
    assert second(tmp_path) and os.listdir(tmp_path) == []


def test_where_no_folder_can_be_opened_a_file_in_it_is_locked_and_removed(tmp_path, monkeypatch):
    opened = os.open

    def as_windows(path, flags, mode=0o777):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", as_windows)
    with locks.folder(str(tmp_path)) as locked:
        assert locked and os.listdir(tmp_path) == [locks.FOLDER_LOCK] and not second(tmp_path)
    assert os.listdir(tmp_path) == []


def test_what_is_raised_inside_a_locked_folder_comes_out(tmp_path):
    with pytest.raises(RuntimeError, match="inside"), locks.folder(str(tmp_path)):
        raise RuntimeError("inside")
    assert second(tmp_path)
