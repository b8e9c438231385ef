"""Run a process of a tf.data service: its dispatcher, or one of the workers that decode images for training runs.

  python -m crackflow.data_service --port=5050
  python -m crackflow.data_service --role=worker --dispatcher=grpc://localhost:5050
  python -m crackflow.train --data_service=grpc://localhost:5050 ...

Runs until it is stopped by a signal. launch/data_service.sh starts a dispatcher and workers on one host.

It executes the graphs that it receives, without authentication: whoever reaches its port can read and write any file
that this account can. By default it listens to this machine alone. --host=NAME opens it to others, on every address,
for a network that is closed to all but the hosts of the run.
"""

import contextlib
import os
import socket
import threading

from crackflow.core import callable_module, console, flags, rendezvous, runtime, server_address
from crackflow.core.backend import tf
from crackflow.core.config.tools import DataServiceConfig, ServiceRole
from crackflow.core.errors import UserError
from crackflow.pipeline import service_loader


def run(config: DataServiceConfig) -> None:
    """Serve until a signal, which ends the process with exit code 0.

    Raises:
        UserError: the port is in use, or no dispatcher answers.
    """
    runtime.configure(seed=0, threads=config.threads, deterministic=False)
    server = start(config)
    console.info(f"{config.role.value} listens on {server.address}; bound to {server.bound}; stop it with Ctrl-C")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        console.info("stopped")
        os._exit(0)  # TensorFlow's servers would wait for clients that vanished without notice


class Server:
    """A started server.

    Attributes:
        address: the address that clients use, as they write it.
        bound: the addresses of this machine on which it listens.
    """

    def __init__(self, server: object, address: str, bound: str) -> None:
        self._server, self.address, self.bound = server, address, bound


def start(config: DataServiceConfig) -> Server:
    """Start the dispatcher or worker, in threads of its own.

    Raises:
        UserError: the port is in use, or no dispatcher answers.
    """
    _require_free_port(config.port)
    addresses_before = server_address.addresses()
    try:
        with server_address.on(config.host, "--host", f"--host={server_address.EVERYWHERE} allows it"):
            server, port = _start_dispatcher(config) if config.role is ServiceRole.DISPATCHER else _start_worker(config)
    except tf.errors.OpError as error:
        raise UserError(f"--port: expected a free port, received {config.port}: {error.message}") from error
    server_address.warn_if_open(config.role.value, config.host, server_address.everywhere(port))
    scheme = service_loader.SCHEME if config.role is ServiceRole.DISPATCHER else ""
    bound = sorted(host for host, number in server_address.addresses() - addresses_before if number == port)
    return Server(server, f"{scheme}{_advertised_host(config.host)}:{port}", ", ".join(bound) or config.host)


def _start_dispatcher(config: DataServiceConfig) -> tuple[object, int]:
    """Start a dispatcher; returns the server and its port."""
    api = tf.data.experimental.service
    journal = {"work_dir": config.work_dir, "fault_tolerant_mode": True} if config.work_dir else {}
    server = api.DispatchServer(api.DispatcherConfig(port=config.port, **journal))
    return server, int(server.target.rpartition(":")[2])


def _start_worker(config: DataServiceConfig) -> tuple[object, int]:
    """Start a worker; returns the server and its port."""
    api = tf.data.experimental.service
    service_loader.require_reachable(config.dispatcher)
    address = config.dispatcher.removeprefix(service_loader.SCHEME)
    worker_address = f"{_advertised_host(config.host)}:{config.port or '%port%'}"
    worker_config = api.WorkerConfig(dispatcher_address=address, worker_address=worker_address, port=config.port)
    with rendezvous.ended_by_signals():  # the constructor waits if the dispatcher has died since
        server = api.WorkerServer(worker_config)
    return server, int(server._address.rpartition(":")[2])


def _advertised_host(host: str) -> str:
    """The host name that clients receive; the wildcard address is none."""
    if host in (server_address.EVERYWHERE, "::", "[::]"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _require_free_port(port: int) -> None:
    """Raise UserError if something listens on `port`: gRPC would share it, and each server get half of the calls."""
    if not port:
        return
    with contextlib.suppress(OSError):
        service_loader.check_connection(f"localhost:{port}")
        raise UserError(f"--port: expected a free port, received {port}, where something listens; choose another")


callable_module.install(__name__, DataServiceConfig, run)
if __name__ == "__main__":
    flags.main(DataServiceConfig, run, __doc__)
