"""The devices and hosts that share a run: tf.distribute, configured from flags, TF_CONFIG or SLURM.

Synopsis::

    cluster = distribution.join_cluster(Strategy.AUTO)         # before anything else runs on a device
    with cluster.scope():
        model = ...
    batches = cluster.distribute(lambda shard: memmap_loader.train_batches(packed, 64, seed=0, shard=shard))
    if cluster.is_chief: ...                      # the only process that writes

A global batch is cut into as many parts as there are replicas, and every part belongs to one replica: no image is used
twice, and none is left out.
"""

import contextlib
import dataclasses
import inspect
import json
import os
import re
import types
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np

from crackflow.core import rendezvous, server_address
from crackflow.core.backend import tf
from crackflow.core.config.hardware import AllReduce, Strategy
from crackflow.core.errors import RetryableError, UserError
from crackflow.core.runtime import AutoChoice
from crackflow.core.sharding import ShardOptions

# Errors of a collective operation when another worker is gone; which one depends on when it went.
WORKER_LOST_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.FailedPreconditionError,
)
# Variables that identify a job that SLURM started with `srun`; its resolver reads these and more.
SLURM = ("SLURM_JOB_ID", "SLURM_PROCID", "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS")
PORT = "CRACKFLOW_PORT"  # the first of the ports that the workers of a SLURM job listen on
PORTS = range(12_000, 30_000)  # below the ephemeral ports of systems; a job's ports follow from its number
slurm = cast(types.ModuleType, inspect.getmodule(tf.distribute.cluster_resolver.SlurmClusterResolver))


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The devices of a run.

    Attributes:
        strategy: None for one device alone, which needs none.
        choice: the resolved strategy, and the reason for it.
        worker: the index of this host.
        workers: the number of hosts.
    """

    strategy: tf.distribute.Strategy | None
    choice: AutoChoice
    worker: int = 0
    workers: int = 1

    @property
    def replicas(self) -> int:
        return self.strategy.num_replicas_in_sync if self.strategy else 1

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes."""
        return self.worker == 0

    def scope(self) -> contextlib.AbstractContextManager:
        """Variables that are created inside are mirrored on every replica and kept equal."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def distribute(
        self, make: Callable[[ShardOptions], tf.data.Dataset]
    ) -> tf.data.Dataset | tf.distribute.DistributedDataset:
        """Returns the batches of this process: `make` builds those of its replicas, one part after the other."""
        if not self.strategy:
            return make(ShardOptions())
        here = self.replicas // self.workers
        return self.strategy.distribute_datasets_from_function(
            lambda context: make(ShardOptions(context.input_pipeline_id * here, here, self.replicas))
        )

    def all_gather(self, numbers: list[int]) -> np.ndarray:
        """Gathers the `numbers` of every worker. All workers must call it, and it waits for the last.

        Returns:
            int64 [workers, n].
        """
        if self.workers == 1:
            return np.asarray([numbers], np.int64)
        table = np.zeros((self.workers, len(numbers)), np.int64)
        table[self.worker] = numbers
        strategy = cast(tf.distribute.Strategy, self.strategy)  # several workers have one
        with self.translate_worker_loss():
            parts = strategy.run(tf.identity, args=(tf.constant(table),))
            total = strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None).numpy()
        return total // (self.replicas // self.workers)

    @contextlib.contextmanager
    def translate_worker_loss(self) -> Iterator[None]:
        """Wraps operations that need all workers. Raises: RetryableError when one of them is gone."""
        try:
            yield
        except WORKER_LOST_ERRORS as error:
            if self.workers == 1:
                raise
            raise RetryableError(
                f"worker {self.worker} of {self.workers} lost another one ({type(error).__name__}: "
                f"{str(error.message).strip().splitlines()[0] if error.message else 'no reason given'}); start all of "
                "them again to resume from the last checkpoint"
            ) from error


def join_cluster(requested: Strategy, hosts: bool = True, all_reduce: AllReduce = AllReduce.AUTO) -> Cluster:
    """Returns the devices that `requested` means on this machine.

    auto means several hosts where TF_CONFIG or SLURM names them, all GPUs of this host where there are several, and
    else one device without a strategy.

    Args:
        requested: the strategy.
        hosts: False where this process trains by itself, whatever other processes were started with it.
        all_reduce: the algorithm between hosts; the GPUs of one host use NCCL in any case.

    Raises:
        UserError: when several hosts or devices are requested and there are none.
    """
    cluster_spec = detect_cluster_spec() if hosts else None
    if requested is Strategy.MULTIWORKER or (requested is Strategy.AUTO and cluster_spec):
        if not cluster_spec:
            raise UserError(
                "--strategy=multiworker: expected TF_CONFIG to name several workers, or SLURM to have started several "
                "tasks; launch/local_workers.sh, launch/slurm.sbatch and launch/kubernetes.yaml do that"
            )
        os.environ["TF_CONFIG"] = json.dumps(cluster_spec.config)
        _meet_workers(cluster_spec)
        try:
            implementation = tf.distribute.experimental.CommunicationImplementation[all_reduce.name]
            options = tf.distribute.experimental.CommunicationOptions(implementation=implementation)
            with rendezvous.ended_by_signals(), _listening(cluster_spec):
                strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        except tf.errors.UnknownError as error:
            here = cluster_spec.config["cluster"]["worker"][cluster_spec.config["task"]["index"]]
            raise UserError(
                f"{cluster_spec.source}: expected {here} to be free to listen on, received {error.message!r}; name "
                f"another port ({PORT} under SLURM, else TF_CONFIG)"
            ) from error
        workers = len(cluster_spec.config["cluster"]["worker"])
        reason = f"worker {cluster_spec.config['task']['index']} of {workers}, named by {cluster_spec.source}"
        return Cluster(strategy, AutoChoice("multiworker", reason), cluster_spec.config["task"]["index"], workers)
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    if requested is Strategy.MIRRORED or (requested is Strategy.AUTO and len(gpus) > 1):
        if len(devices) < 2:
            raise UserError(
                f"--strategy=mirrored: expected two devices or more, found {devices[0].name}; use --strategy=one, or "
                "try it on the CPU with --cpu_devices=2"
            )
        strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
        return Cluster(strategy, AutoChoice("mirrored", f"{len(devices)} devices: {devices[0].device_type}"))
    reason = "asked for" if requested is Strategy.ONE else f"one device: {devices[0].device_type}"
    return Cluster(None, AutoChoice("one", reason))


@contextlib.contextmanager
def _listening(cluster_spec: "ClusterSpec") -> Iterator[None]:
    """Restricts where workers listen: on loopback if all run on one machine, else on every address with a warning.

    Raises:
        UserError: where TensorFlow can't be kept to loopback.
    """
    workers, index = cluster_spec.config["cluster"]["worker"], cluster_spec.config["task"]["index"]
    host = rendezvous.loopback(workers, index)
    if index == 0:
        port = workers[index].rpartition(":")[2]
        endpoint = f"its port, here {port}, of every address of its machine"
        server_address.warn_if_open("each worker of this run", host or server_address.EVERYWHERE, endpoint)
    hint = f"name this machine by another name than {host} in {cluster_spec.source} to allow it"
    with server_address.on(host or server_address.EVERYWHERE, cluster_spec.source, hint):
        yield


def _meet_workers(cluster_spec: "ClusterSpec") -> None:
    """Returns when all workers are present.

    Raises:
        UserError: when this worker can't listen on its port.
        RetryableError: after a signal where the cluster restarts jobs that exit with it.
        KeyboardInterrupt: after a signal elsewhere.
    """
    alone = {"TF_CONFIG": "unset it to train alone", "SLURM": "--strategy=one trains alone"}
    config = cluster_spec.config
    try:
        rendezvous.wait_for_workers(
            config["cluster"]["worker"], config["task"]["index"], cluster_spec.source, alone[cluster_spec.source]
        )
    except KeyboardInterrupt as error:
        if cluster_spec.source != "SLURM":
            raise
        raise RetryableError("stopped by a signal while it waited for the other workers; nothing was begun") from error


@dataclasses.dataclass(frozen=True)
class ClusterSpec:
    """The workers of a run.

    Attributes:
        config: in the format of TF_CONFIG, {"cluster": {"worker": [...]}, "task": {"type", "index"}}.
        source: TF_CONFIG or SLURM.
    """

    config: dict
    source: str


def detect_cluster_spec() -> ClusterSpec | None:
    """Returns the workers that the environment names, if there are several. Raises: UserError when it is unusable."""
    text = os.environ.get("TF_CONFIG", "")
    if text:
        config = _parse_tf_config(text)
        return ClusterSpec(config, "TF_CONFIG") if len(config["cluster"]["worker"]) > 1 else None
    if all(os.environ.get(name) for name in SLURM) and int(os.environ["SLURM_STEP_NUM_TASKS"]) > 1:
        return ClusterSpec(_config_from_slurm(), "SLURM")
    return None


def _parse_tf_config(text: str) -> dict:
    """Parses TF_CONFIG; a chief, as some launchers name the first worker, becomes worker 0."""
    shape = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        workers = [*cluster.get("chief", []), *cluster.get("worker", [])]
        kind, index = task.get("type", "worker"), int(task.get("index", 0))
        index += len(cluster.get("chief", [])) if kind == "worker" else 0
        usable = all(map(_is_address, workers)) and kind in ("chief", "worker")
        usable = usable and (0 <= index < len(workers) or not workers)
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        usable = False
    if not usable:
        raise UserError(f"TF_CONFIG: expected {shape}, received {text!r}; unset it to train on this host alone")
    return {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}


def _is_address(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch(r"\S+:[0-9]{1,5}", text, re.ASCII) is not None


def _config_from_slurm() -> dict:
    """Builds TF_CONFIG from SLURM's variables: task k of the step is worker k, on the port of its position on its host.

    TensorFlow's resolver expands the variables. Its own list of workers sorts hosts by name (node10 before node9),
    where SLURM numbers tasks in the order of the node list, and it needs GPUs.
    """
    try:
        hosts = slurm.expand_hostlist(os.environ["SLURM_STEP_NODELIST"])
        tasks = slurm.expand_tasks_per_node(os.environ["SLURM_STEP_TASKS_PER_NODE"])
        port = os.environ.get(PORT) or PORTS[int(os.environ["SLURM_JOB_ID"]) % len(PORTS)]
        workers = [
            f"{host}:{int(port) + position}"
            for host, count in zip(hosts, tasks, strict=True)
            for position in range(count)
        ]
        rank = int(os.environ["SLURM_PROCID"])
        here = os.environ.get("SLURMD_NODENAME", "")
        if here and not workers[rank].startswith(f"{here}:"):
            raise ValueError(
                f"task {rank} runs on {here}, not on {workers[rank]}; start srun with --distribution=block"
            )
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(
            f"SLURM: expected variables that name the workers of this step, received {error}; start it with srun, or "
            "set TF_CONFIG"
        ) from error
    return {"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}}
