"""Processes for work on images: started without fork, bounded in memory, gone when the parent is gone.

Synopsis::

    with process_pool.pool(process_pool.count(0)) as pool:
        for result in process_pool.map_ordered(pool, function, tasks, ahead=8):
            ...
"""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import process
from typing import TypeVar

import threadpoolctl

from crackflow.core import beam_pool, errors
from crackflow.core.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
MAX_ON_WINDOWS = 61  # it waits for at most 63 things at once, of which the pool needs two (CPython's own limit)


def count(wanted: int) -> int:
    """`wanted` processes; 0 means one for each core that this process may use."""
    if wanted:
        return wanted
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def pool(size: int) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    """`size` processes; when the block is left by an exception, what they have in hand is finished and no more.

    The processes come from a fork server where there is one: forking this process could copy a lock that
    another of its threads holds.
    """
    methods = multiprocessing.get_all_start_methods()
    # The first is the system's own: macOS spawns, because its libraries don't bear a fork, a fork server's either.
    method = "forkserver" if "forkserver" in methods and methods[0] != "spawn" else "spawn"
    context = multiprocessing.get_context(method)
    size = min(size, MAX_ON_WINDOWS) if sys.platform == "win32" else size
    with _defer_signals():
        executor = concurrent.futures.ProcessPoolExecutor(size, mp_context=context, initializer=_exit_with_parent)
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=True, cancel_futures=True)  # nobody may still write into a folder that is cleared
        raise
    executor.shutdown()


def _exit_with_parent() -> None:
    """In a worker: one thread for BLAS, Ctrl-C left to the parent, and the end when the parent ends, even by SIGKILL.

    Two workers on two cores that each multiplied 16 x 114 matrices with two BLAS threads took 33 s for what takes 4.
    """
    threadpoolctl.threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def map_ordered(
    pool: concurrent.futures.Executor | beam_pool.Pool,
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    ahead: int,
) -> Iterator[Result]:
    """`function(task)` for each task, in the order of the tasks, with at most `ahead` of them under way.

    The bound keeps memory flat: `Executor.map` would hand every task over, and keep every result, at once. A pool that
    is no executor (`core.beam_pool`) orders them itself. Raises: UserError when a process was ended from outside; and
    what `function` raises.
    """
    if isinstance(pool, beam_pool.Pool):
        yield from pool.ordered(function, tasks)
        return
    waiting: collections.deque[concurrent.futures.Future] = collections.deque()
    try:
        for task in tasks:
            with _defer_signals():
                waiting.append(pool.submit(function, task))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except process.BrokenProcessPool as error:
        raise UserError(
            "expected every worker process to finish, but one was ended from outside, as systems do when memory runs "
            "out; try again with a smaller --workers (in a script of your own: below if __name__ == '__main__')"
        ) from error


@contextlib.contextmanager
def _defer_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM that come inside are heard at its end.

    Making a pool makes semaphores, and submitting may start a process; an exception in the middle leaves a semaphore or
    a process that nobody cleans up, and Python says so in lines of its own as it ends.
    """
    if threading.current_thread() is not threading.main_thread():  # others hear no signals
        yield
        return
    came = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


CHILD = "import sys; sys.path[:] = {path!r}; from crackflow.core import process_pool; process_pool._child_main()"


def start(function: Callable, *arguments: object) -> subprocess.Popen:
    """`function(*arguments)` in a new process that shares nothing with this one, leaves Ctrl-C to it, and ends when
    this one ends, even by SIGKILL. Its exit code is 75 after TryAgain, 2 when the system refused it something (a full
    disk), of which it says nothing, 1 after what it did not expect.

    It imports what `function` needs and not, as multiprocessing does, the program that this process runs: 2 s for
    crackflow.tune, whose page needs matplotlib and more.
    """
    apart = {"start_new_session": True, "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    command = [sys.executable, "-c", CHILD.format(path=sys.path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, **apart)
    with contextlib.suppress(BrokenPipeError):  # it died; its exit code tells
        pickle.dump((function, arguments), process.stdin)
        process.stdin.flush()
    return process


def _child_main() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        function, arguments = pickle.load(sys.stdin.buffer)  # from our parent
        threading.Thread(target=_end_with_pipe, daemon=True).start()
        function(*arguments)
    except errors.RetryableError:
        sys.exit(errors.EXIT_TRY_AGAIN)
    except KeyboardInterrupt:
        sys.exit(errors.EXIT_INTERRUPTED)
    except OSError as error:
        if errors.from_os_error(error) is None:
            raise
        sys.exit(errors.EXIT_USER_ERROR)


def _end_with_pipe() -> None:
    """The parent never writes again; it ends the pipe by ending."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)
