"""Worker processes for images: started without fork, bounded in memory, and ended with their parent.

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
from typing import IO, TYPE_CHECKING, TypeVar, cast

import threadpoolctl

from crackflow.core import beam_pool, errors
from crackflow.core.errors import UserError

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

Task = TypeVar("Task")
Result = TypeVar("Result")
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
MAX_ON_WINDOWS = 61  # Windows waits for at most 63 handles at once, and the pool needs two (CPython's own limit)


def count(requested: int) -> int:
    """Returns `requested` processes; 0 means one for each core that this process may use."""
    if requested:
        return requested
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def pool(size: int) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    """Gives a pool of `size` processes. When an exception ends the block, running tasks finish and no others start.

    The processes come from a fork server where there is one: a fork of this process could copy a lock that another of
    its threads holds.
    """
    methods = multiprocessing.get_all_start_methods()
    # The first method is the system's default: macOS spawns, because its libraries don't support any fork.
    method = "forkserver" if "forkserver" in methods and methods[0] != "spawn" else "spawn"
    context = multiprocessing.get_context(method)
    size = min(size, MAX_ON_WINDOWS) if sys.platform == "win32" else size
    with _defer_signals():
        executor = concurrent.futures.ProcessPoolExecutor(size, mp_context=context, initializer=_exit_with_parent)
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=True, cancel_futures=True)  # no worker may write into a folder that is being removed
        raise
    executor.shutdown()


def _exit_with_parent() -> None:
    """Prepares a worker: one BLAS thread, Ctrl-C left to the parent, and exit when the parent ends, even by SIGKILL.

    Two workers on two cores that each multiplied 16 x 114 matrices with two BLAS threads took 33 s instead of 4.
    """
    threadpoolctl.threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = cast("BaseProcess", multiprocessing.parent_process())  # a worker has one

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
    """Yields `function(task)` for each task, in the order of the tasks.

    The bound keeps memory flat: `Executor.map` would submit every task, and keep every result, at once.

    Args:
        pool: an executor, or a `core.beam_pool`, which orders the results itself.
        function: the work; what it raises is raised here.
        tasks: its arguments.
        ahead: how many tasks are submitted at most before their results are consumed.

    Raises:
        UserError: when a process was ended from outside.
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
    """Delays Ctrl-C and SIGTERM that arrive inside until the end of the block.

    Creating a pool creates semaphores, and submitting a task may start a process. An exception in the middle would
    leave a semaphore or a process that nobody cleans up, and Python would print warnings of its own about them when it
    exits.
    """
    if threading.current_thread() is not threading.main_thread():  # other threads receive no signals
        yield
        return
    received: list[int] = []
    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for signum in received:
            signal.raise_signal(signum)


CHILD = "import sys; sys.path[:] = {path!r}; from crackflow.core import process_pool; process_pool._child_main()"


def start(function: Callable, *arguments: object) -> subprocess.Popen:
    """Runs `function(*arguments)` in a new process that shares nothing with this one.

    The process ignores Ctrl-C and ends when this one ends, even by SIGKILL. Its exit code is 75 after RetryableError;
    2, without output, when the system refused it something (a full disk); and 1 after an unexpected error.

    It imports what `function` needs and not, as multiprocessing does, the program of this process: 2 s for
    crackflow.tune, whose page needs matplotlib and more.
    """
    new_group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    command = [sys.executable, "-c", CHILD.format(path=sys.path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, creationflags=new_group)
    stdin = cast(IO[bytes], process.stdin)
    with contextlib.suppress(BrokenPipeError):  # it died; its exit code says why
        pickle.dump((function, arguments), stdin)
        stdin.flush()
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
    """Exits when the pipe ends. The parent never writes to it again, so only the end of the parent ends it."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)
