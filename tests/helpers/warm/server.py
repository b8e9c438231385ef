"""Loads TensorFlow and the rooms of crackflow once, and forks for each command that `python` beside it hands over.

TensorFlow takes 4 s to import, a fork 0.03 s. The server itself runs no operation of TensorFlow, whose threads
would not survive the fork.
"""

import atexit
import contextlib
import importlib
import io
import json
import os
import pkgutil
import resource
import runpy
import select
import signal
import socket
import sys
import threading

BEFORE = dict(os.environ)  # importing crackflow sets variables for TensorFlow

import crackflow  # noqa: E402
from crackflow.core import errors  # noqa: E402

LATER = ("TF_CONFIG", "PYTHON")  # read by crackflow, whenever it wants to know, and by its scripts


def load():
    """Imports every module of the rooms; the pages are run as `__main__` and must not be loaded before."""
    pages = {name for _, name, is_room in pkgutil.iter_modules(crackflow.__path__) if not is_room}
    for _, name, _ in pkgutil.walk_packages(crackflow.__path__, "crackflow."):
        if name.split(".")[1] not in pages:
            importlib.import_module(name)


def limits():
    return [resource.getrlimit(getattr(resource, name)) for name in sorted(dir(resource)) if name.startswith("RLIMIT_")]


def is_like(request, prefixes, added):
    """Whether the process that sent `request` began as this one: with its limits and its variables of `prefixes`.

    A process of the tests that has imported crackflow has the variables `added`, too.
    """
    starts = [
        {
            name: value
            for name, value in environment.items()
            if name.startswith(prefixes) and name not in LATER and added.get(name) != value
        }
        for environment in (request["environment"], BEFORE)
    ]
    return starts[0] == starts[1] and request["limits"] == json.loads(json.dumps(limits()))


def serve(path, prefixes, added):
    """Answers on the socket `path` until its parent is gone.

    `prefixes`: of variables that are read once, at the start of a process; `added`: variables that the imports set.
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path + ".new")
    listener.listen(64)
    os.rename(path + ".new", path)
    parent = os.getppid()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while os.getppid() == parent:
        if not select.select([listener], [], [], 1)[0]:
            continue
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            attend(connection, prefixes, added)
        connection.close()


def attend(connection, prefixes, added):
    """In a process of its own: reads a request, forks the command, and reports its process id and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    left, data = int.from_bytes(head, "little"), b""
    while len(data) < left:
        data += connection.recv(1 << 20)
    request = json.loads(data.decode("utf-8", "surrogateescape"))
    if not is_like(request, prefixes, added):
        connection.sendall(b"0\n")
        os._exit(0)
    pid = os.fork()
    if pid == 0:
        connection.close()
        os._exit(run(request, streams, added))
    for stream in streams:
        os.close(stream)
    connection.sendall(b"%d\n" % pid)
    handle = os.pidfd_open(pid)
    if connection in select.select([connection, handle], [], [])[0]:  # killed, or its test gave up
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    with contextlib.suppress(OSError):  # nobody waits any more
        connection.sendall(b"%d\n" % code)
    os._exit(0)


def run(request, streams, added):
    """Runs the command as the interpreter would; returns its exit code."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(added | request["environment"])
    os.chdir(request["folder"])
    os.umask(request["umask"])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        ignored = number in request["ignored"]
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if ignored else usual)
    sys.stdin, sys.stdout = open(0), io.TextIOWrapper(open(1, "wb"), "utf-8")
    sys.stderr = io.TextIOWrapper(open(2, "wb"), "utf-8", "backslashreplace", line_buffering=True)
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
    # A trial that the command starts is a fork as well; multiprocessing has noted the true interpreter already.
    sys.executable = os.path.join(os.path.dirname(os.path.abspath(__file__)), "python")
    words = request["words"]
    code = 0
    try:
        try:
            if words[0] == "-m":
                sys.excepthook = errors.end_on_shortage
                sys.argv = words[1:]
                runpy.run_module(words[1], run_name="__main__", alter_sys=True)
            elif words[0] == "-c":
                sys.argv, sys.path[:0] = ["-c", *words[2:]], [""]
                exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
            else:
                sys.argv = words
                sys.path.insert(0, os.path.dirname(os.path.abspath(words[0])))
                runpy.run_path(words[0], run_name="__main__")
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
            if isinstance(ended.code, str):
                sys.stderr.write(ended.code + "\n")
        except BaseException:
            sys.excepthook(*sys.exc_info())
            code = 1
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        code = code or 120
    return code & 255


if __name__ == "__main__":
    load()
    added = {name: os.environ[name] for name in ("TF_ENABLE_ONEDNN_OPTS", "TF_USE_LEGACY_KERAS") if name in os.environ}
    added |= {name: value for name, value in os.environ.items() if BEFORE.get(name) != value}
    serve(sys.argv[1], tuple(sys.argv[2].split(",")), added)
