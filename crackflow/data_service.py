"""A process of a tf.data service: its dispatcher, or one of the workers that decode images for training runs.

  python -m crackflow.data_service --port=5050
  python -m crackflow.data_service --role=worker --dispatcher=grpc://localhost:5050
  python -m crackflow.train --data_service=grpc://localhost:5050 ...

Runs until it is stopped by a signal. launch/data_service.sh starts a dispatcher and workers on one host.

It runs the graphs that it is sent, and asks nobody who they are: whoever reaches its port reads and writes any file
that this account can. By itself it listens to this machine alone. --host=NAME opens it to others, on every address, for
a network that is closed to all but the hosts of the run.
"""

import contextlib
import os
import socket
import threading

from crackflow.core import console, flags, listening, rendezvous, runtime
from crackflow.core.backend import tf
from crackflow.core.config.tools import DataServiceConfig, ServiceRole
from crackflow.core.errors import UserError
from crackflow.pipeline import remote


def run(config: DataServiceConfig) -> None:
    """Serve until a signal comes, which ends the process with 0. Raises: UserError when the port is taken or no
    dispatcher answers."""
    runtime.configure(seed=0, threads=config.threads, deterministic=False)
    server = start(config)
    console.info(f"{config.role.value} listens on {server.address}; bound to {server.bound}; stop it with Ctrl-C")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        console.info("stopped")
        os._exit(0)  # TensorFlow's servers would wait for clients that went without a word


class Server:
    """A started server; `address`: under which others reach it, as they write it; `bound`: the
    addresses of this machine that the system has it listen on."""

    def __init__(self, server: object, address: str, bound: str) -> None:
        self._server, self.address, self.bound = server, address, bound


def start(config: DataServiceConfig) -> Server:
    """The dispatcher or worker, in threads of its own. Raises: UserError."""
    _expect_free(config.port)
    before = listening.addresses()
    try:
        with listening.on(config.host, "--host", f"--host={listening.EVERYWHERE} allows it"):
            server, port = _dispatcher(config) if config.role is ServiceRole.DISPATCHER else _worker(config)
    except tf.errors.OpError as error:
        raise UserError(f"--port: expected a free port, received {config.port}: {error.message}") from error
    listening.warn_if_open(config.role.value, config.host, listening.everywhere(port))
    scheme = remote.SCHEME if config.role is ServiceRole.DISPATCHER else ""
    bound = sorted(host for host, number in listening.addresses() - before if number == port)
    return Server(server, f"{scheme}{_known_as(config.host)}:{port}", ", ".join(bound) or config.host)


def _dispatcher(config: DataServiceConfig) -> tuple[object, int]:
    """A server and its port."""
    api = tf.data.experimental.service
    journal = {"work_dir": config.work_dir, "fault_tolerant_mode": True} if config.work_dir else {}
    server = api.DispatchServer(api.DispatcherConfig(port=config.port, **journal))
    return server, int(server.target.rpartition(":")[2])


def _worker(config: DataServiceConfig) -> tuple[object, int]:
    """As `_dispatcher`."""
    api = tf.data.experimental.service
    remote.require_reachable(config.dispatcher)
    address = config.dispatcher.removeprefix(remote.SCHEME)
    place = f"{_known_as(config.host)}:{config.port or '%port%'}"
    settings = api.WorkerConfig(dispatcher_address=address, worker_address=place, port=config.port)
    with rendezvous.ended_by_signals():  # it waits for a dispatcher that died since
        server = api.WorkerServer(settings)
    return server, int(server._address.rpartition(":")[2])


def _known_as(host: str) -> str:
    """The name that others are given: every address is none."""
    if host in (listening.EVERYWHERE, "::", "[::]"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _expect_free(port: int) -> None:
    """Raises: UserError when something listens there: gRPC would share the port, and each get half of the calls."""
    if not port:
        return
    with contextlib.suppress(OSError):
        remote.check_connection(f"localhost:{port}")
        raise UserError(f"--port: expected a free port, received {port}, where something listens; choose another")


if __name__ == "__main__":
    flags.main(DataServiceConfig, run, __doc__)
