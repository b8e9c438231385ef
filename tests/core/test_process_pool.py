import concurrent.futures
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing import resource_tracker

import pytest
import threadpoolctl

from crackflow.core import process_pool
from crackflow.core.errors import RetryableError, UserError
from tests.helpers import support


def later_is_quicker(number):
    time.sleep(0.03 * (5 - number % 5))
    return number * number


def test_results_come_in_the_order_of_the_tasks():
    with process_pool.pool(3) as pool:
        assert list(process_pool.map_ordered(pool, later_is_quicker, range(12), ahead=5)) == [n * n for n in range(12)]


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_never_more_tasks_are_submitted_than_allowed(ahead):
    submitted, returned = 0, 0

    def tasks():
        nonlocal submitted
        for number in range(30):
            submitted += 1
            yield number

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for _ in process_pool.map_ordered(pool, str, tasks(), ahead):
            returned += 1
            assert submitted - returned < ahead or submitted == 30
    assert returned == submitted == 30


def test_no_tasks_give_no_results():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert list(process_pool.map_ordered(pool, str, [], 4)) == []


def fails(number):
    if number == 3:
        raise ValueError(f"task {number} is bad")
    return number


def test_an_exception_of_a_task_arrives_at_its_turn():
    seen = []
    with pytest.raises(ValueError, match="task 3 is bad"), process_pool.pool(2) as pool:
        for result in process_pool.map_ordered(pool, fails, range(10), 4):
            seen.append(result)
    assert seen == [0, 1, 2]


def dies(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_process_ended_from_outside_is_one_line_that_says_what_to_do():
    with pytest.raises(UserError, match="one was ended from outside.*smaller --workers"), process_pool.pool(2) as pool:
        list(process_pool.map_ordered(pool, dies, range(10), 4))


def facts(_):
    time.sleep(0.2)
    return (
        os.getpid(),
        os.getppid(),
        max(library["num_threads"] for library in threadpoolctl.threadpool_info() or [{"num_threads": 1}]),
    )


def test_processes_are_not_forked_from_this_one_and_use_one_thread_for_algebra():
    with process_pool.pool(2) as pool:
        seen = list(process_pool.map_ordered(pool, facts, range(4), 4))
    assert len({pid for pid, _, _ in seen}) == 2
    assert os.getpid() not in {pid for pid, _, _ in seen} | {parent for _, parent, _ in seen}
    assert {threads for *_, threads in seen} == {1}


def test_processes_are_gone_when_the_pool_is_left():
    with process_pool.pool(2) as pool:
        pids = {pid for pid, *_ in process_pool.map_ordered(pool, facts, range(4), 4)}
    deadline = time.monotonic() + 5
    while any(os.path.exists(f"/proc/{pid}/exe") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}/exe")]


def test_zero_means_one_process_for_each_core_of_this_process():
    assert process_pool.count(3) == 3
    assert process_pool.count(0) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_a_submission_is_heard_after_it(number):
    heard, steps = [], []
    before = signal.signal(number, lambda *_: heard.append(len(steps)))
    try:
        with process_pool._defer_signals():
            signal.raise_signal(number)
            steps.append("submitted")
        assert heard == [1]
        signal.raise_signal(number)
        assert heard == [1, 1]
    finally:
        signal.signal(number, before)


def test_a_signal_while_the_pool_is_created_leaves_no_semaphore_behind(monkeypatch):
    created, living = set(), set()
    register, unregister = resource_tracker.register, resource_tracker.unregister

    def registered(name, kind):
        register(name, kind)
        created.add(name)
        living.add(name)
        signal.raise_signal(signal.SIGTERM)

    def unregistered(name, kind):
        unregister(name, kind)
        living.discard(name)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(resource_tracker, "register", registered)
    monkeypatch.setattr(resource_tracker, "unregister", unregistered)
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), process_pool.pool(1):
            pytest.fail("the signal was not heard")
    finally:
        signal.signal(signal.SIGTERM, before)
    gc.collect()
    assert created and not living


# One process per task.


def leave(path, code):
    """Writes its modules and its session to `path`, and ends as requested."""
    with open(path, "w") as file:
        file.write(f"{sorted(name for name in sys.modules if name in ('pytest', 'tensorflow'))} {os.getsid(0)}")
    if code == "again":
        raise RetryableError("later")
    if code == "full":
        raise OSError(28, "No space left on device")
    if code == "odd":
        raise OSError(9, "Bad file descriptor")
    if isinstance(code, int):
        sys.exit(code)


@pytest.mark.parametrize(
    ("outcome", "code", "has_traceback"),
    [("well", 0, False), ("again", 75, False), ("full", 2, False), ("odd", 1, True), (7, 7, False)],
)
def test_a_process_of_its_own_imports_what_it_needs_and_ends_as_its_task_does(
    outcome, code, has_traceback, tmp_path, capfd
):
    process = process_pool.start(leave, str(tmp_path / "seen"), outcome)
    assert process.wait(60) == code
    process.stdin.close()
    seen, session = (tmp_path / "seen").read_text().rsplit(" ", 1)
    assert "tensorflow" not in seen and int(session) != os.getsid(0)
    assert ("Traceback" in capfd.readouterr().err) == has_traceback


def test_a_process_of_its_own_looks_for_modules_where_this_one_does(tmp_path, monkeypatch):
    (tmp_path / "threadpoolctl.py").write_text("raise RuntimeError('a file of the user')")
    monkeypatch.chdir(tmp_path)
    process = process_pool.start(leave, str(tmp_path / "seen"), "well")
    assert process.wait(60) == 0
    process.stdin.close()


def started_by(monkeypatch, *methods):
    """Returns how a pool starts processes where the system has `methods`, its default first."""
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: list(methods))
    with process_pool.pool(1) as pool:
        return pool._mp_context.get_start_method()


def test_a_fork_server_is_used_where_the_system_forks_and_macos_and_windows_spawn(monkeypatch):
    assert started_by(monkeypatch, "fork", "spawn", "forkserver") == "forkserver"
    assert started_by(monkeypatch, "forkserver", "spawn", "fork") == "forkserver"
    assert started_by(monkeypatch, "spawn", "fork", "forkserver") == "spawn"
    assert started_by(monkeypatch, "spawn") == "spawn"


def test_windows_gets_no_more_processes_than_it_can_wait_for(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with process_pool.pool(200) as pool:
        assert pool._max_workers == process_pool.MAX_ON_WINDOWS


def wait_for_ever(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(600)


PARENT = """
import os, signal, sys, time
from crackflow.core import process_pool
from tests.core import test_process_pool
process_pool.start(test_process_pool.wait_for_ever, sys.argv[1])
while not (os.path.exists(sys.argv[1]) and open(sys.argv[1]).read()):
    time.sleep(0.02)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_ends_with_its_parent_even_when_that_is_killed(tmp_path):
    path = tmp_path / "pid"
    parent = subprocess.run([sys.executable, "-c", PARENT, str(path)], env=support.environment(), timeout=60)
    assert parent.returncode == -signal.SIGKILL
    pid, deadline = int(path.read_text()), time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}/exe"):
        assert time.monotonic() < deadline, "it goes on without its parent"
        time.sleep(0.02)
