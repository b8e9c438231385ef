"""A process of a tf.data service: its dispatcher, or one of the workers that decode images for training runs.

  python -m crackflow.data_service --port=5050
  python -m crackflow.data_service --role=worker --dispatcher=grpc://localhost:5050
  python -m crackflow.train --data_service=grpc://localhost:5050 ...

Runs until it is stopped by a signal. launch/data_service.sh starts a dispatcher and workers on one host.
"""

import contextlib
import os
import threading

from crackflow.core import flags, progress, rendezvous, runtime
from crackflow.core.backend import tf
from crackflow.core.config import DataServiceConfig, ServiceRole
from crackflow.core.errors import UserError
from crackflow.data import service


def run(config: DataServiceConfig) -> None:
    """Serve until a signal comes, which ends the process with 0. Raises: UserError when the port is taken or no
    dispatcher answers."""
    runtime.set_up(seed=0, threads=config.threads, deterministic=False)
    server = start(config)
    progress.say(f"{config.role.value} listens on {server.address}; stop it with Ctrl-C")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        progress.say("stopped")
        os._exit(0)  # TensorFlow's servers would wait for clients that went without a word


class Server:
    """A started server; `address`: host:port."""

    def __init__(self, server: object, address: str) -> None:
        self._server, self.address = server, address


def start(config: DataServiceConfig) -> Server:
    """The dispatcher or worker, in threads of its own. Raises: UserError."""
    api = tf.data.experimental.service
    _expect_free(config.port)
    try:
        if config.role is ServiceRole.DISPATCHER:
            journal = {"work_dir": config.work_dir, "fault_tolerant_mode": True} if config.work_dir else {}
            server = api.DispatchServer(api.DispatcherConfig(port=config.port, **journal))
            return Server(server, server.target)
        service.expect_reachable(config.dispatcher)
        address = config.dispatcher.removeprefix(service.SCHEME)
        place = f"{config.host}:{config.port or '%port%'}"
        settings = api.WorkerConfig(dispatcher_address=address, worker_address=place, port=config.port)
        with rendezvous.ended_by_signals():  # it waits for a dispatcher that died since
            server = api.WorkerServer(settings)
        return Server(server, f"{config.host}:{server._address.rpartition(':')[2]}")
    except tf.errors.OpError as error:
        raise UserError(f"--port: expected a free port, received {config.port}: {error.message}") from error


def _expect_free(port: int) -> None:
    """Raises: UserError when something listens there: gRPC would share the port, and each get half of the calls."""
    if not port:
        return
    with contextlib.suppress(OSError):
        service.knock(f"localhost:{port}")
        raise UserError(f"--port: expected a free port, received {port}, where something listens; choose another")


if __name__ == "__main__":
    flags.main(DataServiceConfig, run, __doc__)
