import contextlib
import os
import signal
import socket
import threading
import time
from concurrent import futures

import grpc
import pytest

from crackflow.core import rendezvous
from crackflow.core.errors import UserError
from tests.helpers.ports import addresses


@pytest.fixture
def soon(monkeypatch):
    """Messages appear at once."""
    monkeypatch.setattr(rendezvous, "SILENT_SECONDS", 0.6)
    monkeypatch.setattr(rendezvous, "ANSWER_SECONDS", 0.2)


def wait(workers, index):
    rendezvous.wait_for_workers(workers, index, "TF_CONFIG", "unset it to train alone")


def waiting(workers, index):
    thread = threading.Thread(target=wait, args=[workers, index], daemon=True)
    thread.start()
    return thread


@contextlib.contextmanager
def interrupted_after(seconds):
    """Ctrl-C arrives inside, so that a wait without end stops."""
    timer = threading.Timer(seconds, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        timer.cancel()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_all_go_on_once_the_last_has_come(order):
    workers = addresses(3)
    first = [waiting(workers, index) for index in order[:2]]
    time.sleep(0.5)
    assert all(process.is_alive() for process in first)
    for thread in [*first, waiting(workers, order[2])]:
        thread.join(10)
        assert not thread.is_alive()
    for worker in workers:  # TensorFlow can listen there now
        socket.create_server(("127.0.0.1", int(worker.rpartition(":")[2]))).close()


def test_who_is_absent_is_named_and_a_signal_is_heard(soon, capsys):
    workers = addresses(7)
    began = time.monotonic()
    with interrupted_after(1.5):
        wait(workers, 0)
    assert time.monotonic() - began < 5
    named = f"{', '.join(workers[1:5])} and 2 more"
    assert capsys.readouterr().out == (
        f"waiting for 6 of 7 workers: {named} (named by TF_CONFIG; unset it to train alone)\n"
    )


@pytest.mark.parametrize("banner", [b"SSH-2.0-OpenSSH_9.6\r\n", b"", b"crackflow worker 0 of 2\n"])
def test_something_else_that_answers_is_no_worker(soon, capsys, banner):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    visitor = server.accept()[0]
                    visitor.sendall(banner)
                    visitors.append(visitor)

        visitors = []
        threading.Thread(target=serve, daemon=True).start()
        stranger = f"127.0.0.1:{server.getsockname()[1]}"
        with interrupted_after(1.5):
            wait([*addresses(1), stranger], 0)
        for visitor in visitors:
            visitor.close()
    assert f"waiting for 1 of 2 workers: {stranger}, where something else answers (" in capsys.readouterr().out


def test_a_worker_that_has_gone_on_is_known_by_its_server():
    """A restarted worker finds the others inside TensorFlow."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        thread = waiting([*addresses(1), f"127.0.0.1:{port}"], 0)
        thread.join(10)
        assert not thread.is_alive()
    finally:
        server.stop(None)


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "127.0.0.1", "127.0.0.1:http"])
def test_an_address_that_cannot_be_listened_on_is_the_users(address):
    with pytest.raises(UserError, match=f"TF_CONFIG: expected {address} to be free to listen on, received .*; name an"):
        wait([address, "b:2"], 0)


def test_a_name_that_means_nothing_is_waited_for(soon, capsys):
    with interrupted_after(1.5):
        wait([*addresses(1), "nowhere.invalid:99", "a" * 300 + ":1"], 0)
    assert "waiting for 2 of 3 workers: nowhere.invalid:99, aaa" in capsys.readouterr().out
