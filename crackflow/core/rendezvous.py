"""Meeting of all workers of a cluster before TensorFlow connects them, with messages about those that are absent.

Synopsis::

    rendezvous.wait_for_workers(["a:8888", "b:8888"], index=0, source="TF_CONFIG", hint="unset it to train alone")

TensorFlow waits for absent workers inside C++ while it holds the GIL: no thread of this process runs, no signal is
handled, and nothing is printed. So each worker first listens on its own port itself and connects to those of the
others; a worker that answers as one is present. One that has already started TensorFlow is recognised by its gRPC
server, so that a restarted worker finds the others in either state.
"""

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence

from crackflow.core import console, server_address
from crackflow.core.errors import UserError

SILENT_SECONDS = 5.0  # workers that a launcher starts together differ by less, including TensorFlow's import
REPEAT_SECONDS = 60.0
KNOCK_SECONDS = 0.2
ANSWER_SECONDS = 2.0
CONNECT_SECONDS = 10.0
MAX_NAMED = 4  # workers that a message names
GRPC_SETTINGS = 4  # type of the frame that every HTTP/2 server sends first (RFC 9113, section 3.4)


def wait_for_workers(workers: Sequence[str], index: int, source: str, hint: str) -> None:
    """Returns when all workers have been heard from.

    Prints on stdout which workers are absent, after SILENT_SECONDS and then every minute.

    Args:
        workers: "host:port" of each worker.
        index: the index of this process among them.
        source: what named the workers.
        hint: how to do without them.

    Raises:
        UserError: when this worker can't listen on its port.
        KeyboardInterrupt: after a signal.
    """
    meeting = _Meeting(workers, index)
    with meeting.listening(source):
        due = time.monotonic() + SILENT_SECONDS
        while absent := meeting.absent():
            if time.monotonic() >= due:
                console.info(_message(absent, len(workers), f"named by {source}; {hint}"))
                due = time.monotonic() + REPEAT_SECONDS
            meeting.changed.wait(KNOCK_SECONDS)
            meeting.changed.clear()


def _message(absent: list[str], count: int, why: str) -> str:
    named = ", ".join(absent[:MAX_NAMED]) + (f" and {len(absent) - MAX_NAMED:,} more" if absent[MAX_NAMED:] else "")
    return f"waiting for {len(absent)} of {count} workers: {named} ({why})"


def is_grpc(address: str) -> bool:
    """Whether a gRPC server answers at `address`, "host:port". Raises: OSError when nothing listens there."""
    with socket.create_connection(_split(address), timeout=CONNECT_SECONDS) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            return _is_http2(_line(connection))
        except OSError:
            return False


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """While inside, Ctrl-C and SIGTERM end the process at once.

    It wraps code that waits in C++ for others, where Python's handlers would never run.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Meeting:
    """Threads that listen and connect for as long as a worker is absent."""

    def __init__(self, workers: Sequence[str], index: int) -> None:
        self._workers, self._index = list(workers), index
        self._met = {index}
        self._strangers: set[int] = set()
        self._ended = threading.Event()
        self.changed = threading.Event()
        # Without addresses: a worker may know itself or others by other names.
        self._greetings = [f"crackflow worker {number} of {len(workers)}\n".encode() for number in range(len(workers))]

    def absent(self) -> list[str]:
        return [
            f"{address}, where something else answers" if number in self._strangers else address
            for number, address in enumerate(self._workers)
            if number not in self._met
        ]

    @contextlib.contextmanager
    def listening(self, source: str) -> Iterator[None]:
        with self._open(source) as listener:
            threading.Thread(target=self._listen, args=[listener], daemon=True).start()
            for number in range(len(self._workers)):
                if number != self._index:
                    threading.Thread(target=self._knock_until_met, args=[number], daemon=True).start()
            try:
                yield
            finally:
                self._ended.set()
                with contextlib.suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)  # ends the thread's accept, which close alone does not

    def _open(self, source: str) -> socket.socket:
        address = self._workers[self._index]
        try:
            port = (loopback(self._workers, self._index) or "", _split(address)[1])
            if port[0]:
                return socket.create_server(port, family=socket.AF_INET6 if ":" in port[0] else socket.AF_INET)
            if socket.has_dualstack_ipv6():
                return socket.create_server(port, family=socket.AF_INET6, dualstack_ipv6=True)
            return socket.create_server(port)
        except OSError as error:
            raise UserError(
                f"{source}: expected {address} to be free to listen on, received {error}; name another port"
            ) from error

    def _listen(self, listener: socket.socket) -> None:
        while not self._ended.is_set():
            try:
                visitor, _ = listener.accept()
            except OSError:
                return
            with visitor, contextlib.suppress(OSError):
                visitor.settimeout(ANSWER_SECONDS)
                greeting = _line(visitor)
                if greeting in self._greetings:
                    visitor.sendall(self._greetings[self._index])
                    self._meet(self._greetings.index(greeting))

    def _knock_until_met(self, number: int) -> None:
        while number not in self._met and not self._ended.is_set():
            answer = self._answer(number)
            if answer == self._greetings[number] or _is_http2(answer or b""):
                self._meet(number)
            elif answer is None:
                self._strangers.discard(number)
            else:
                self._strangers.add(number)
            self._ended.wait(KNOCK_SECONDS)

    def _answer(self, number: int) -> bytes | None:
        """Returns the first line from worker `number`, or None when nobody listens there."""
        try:
            connection = socket.create_connection(_split(self._workers[number]), timeout=ANSWER_SECONDS)
        except (OSError, UnicodeError):
            return None
        with connection, contextlib.suppress(OSError):
            connection.sendall(self._greetings[self._index])
            return _line(connection)
        return b""

    def _meet(self, number: int) -> None:
        self._met.add(number)
        self.changed.set()


def loopback(workers: Sequence[str], index: int) -> str | None:
    """Returns the address on which worker `index` has to listen when all `workers` ("host:port") are on this machine.

    Only addresses that belong to this machine alone show that. None where other machines must reach the worker.
    """
    hosts = [server_address.loopback(address.rpartition(":")[0]) for address in workers]
    return hosts[index] if all(hosts) else None


def _split(address: str) -> tuple[str, int]:
    """Splits host:port. Raises: OSError when `address` has another form."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise OSError(f"expected host:port, received {address!r}")
    return host.strip("[]"), int(port)


def _line(connection: socket.socket) -> bytes:
    """Returns bytes up to the end of a line, or up to the length of a greeting or of the start of an HTTP/2 frame."""
    data = b""
    while len(data) < 64 and not data.endswith(b"\n") and not _is_http2(data):
        part = connection.recv(64)
        if not part:
            break
        data += part
    return data


def _is_http2(data: bytes) -> bool:
    return len(data) >= 9 and data[:2] == b"\0\0" and data[3] == GRPC_SETTINGS
