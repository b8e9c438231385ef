"""Which devices and hosts share a run: tf.distribute chosen from flags, TF_CONFIG or SLURM.

Synopsis::

    team = distribution.join_cluster(Strategy.AUTO)            # before anything else runs on a device
    with team.scope():
        model = ...
    batches = team.distribute(lambda share: pack.train_batches(packed, 64, seed=0, share=share))
    if team.is_chief: ...                         # the only one that writes

A global batch is cut into as many parts as there are replicas, and every number of a part belongs to one replica: no
image is used twice, and none is left out.
"""

import contextlib
import dataclasses
import inspect
import json
import os
import re
from collections.abc import Callable, Iterator

import numpy as np

from crackflow.core import listening, rendezvous
from crackflow.core.backend import tf
from crackflow.core.config.hardware import AllReduce, Strategy
from crackflow.core.errors import RetryableError, UserError
from crackflow.core.runtime import AutoChoice
from crackflow.core.sharding import ShardOptions

# What a collective operation ends with when another worker is gone; which one depends on when it went.
WORKER_LOST_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.FailedPreconditionError,
)
# What tells of a job that SLURM started with `srun`; its resolver reads these and more.
SLURM = ("SLURM_JOB_ID", "SLURM_PROCID", "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS")
PORT = "CRACKFLOW_PORT"  # the first of the ports that the workers of a SLURM job listen on
PORTS = range(12_000, 30_000)  # below those that systems give out by themselves; a job's follow from its number
slurm = inspect.getmodule(tf.distribute.cluster_resolver.SlurmClusterResolver)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """`strategy`: None for one device alone, which needs none; `worker` of `workers` hosts; `replicas` in all."""

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
        """Variables made inside are one for each replica, kept equal."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def distribute(
        self, make: Callable[[ShardOptions], tf.data.Dataset]
    ) -> tf.data.Dataset | tf.distribute.DistributedDataset:
        """The batches of this process: `make` is asked for those of its replicas, one part after the other."""
        if not self.strategy:
            return make(ShardOptions())
        here = self.replicas // self.workers
        return self.strategy.distribute_datasets_from_function(
            lambda context: make(ShardOptions(context.input_pipeline_id * here, here, self.replicas))
        )

    def gathered(self, numbers: list[int]) -> np.ndarray:
        """int64 [workers, n]: the n `numbers` of every worker. All must call it, and it waits for the last."""
        if self.workers == 1:
            return np.asarray([numbers], np.int64)
        table = np.zeros((self.workers, len(numbers)), np.int64)
        table[self.worker] = numbers
        with self.expecting_others():
            parts = self.strategy.run(tf.identity, args=(tf.constant(table),))
            total = self.strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None).numpy()
        return total // (self.replicas // self.workers)

    @contextlib.contextmanager
    def expecting_others(self) -> Iterator[None]:
        """Around what takes all workers. Raises: TryAgain when one of them is gone."""
        try:
            yield
        except WORKER_LOST_ERRORS as error:
            if self.workers == 1:
                raise
            raise RetryableError(
                f"worker {self.worker} of {self.workers} lost another one ({type(error).__name__}: "
                f"{str(error.message).strip().splitlines()[0] if error.message else 'no reason given'}); start all of "
                "them again to go on from the last checkpoint"
            ) from error


def join_cluster(wanted: Strategy, hosts: bool = True, all_reduce: AllReduce = AllReduce.AUTO) -> Cluster:
    """The devices that `wanted` means here. auto: several hosts where TF_CONFIG or SLURM names them, all GPUs of this
    one where there are several, else one device and no strategy. `hosts`: False where this process trains by itself,
    whoever else was started with it. `all_reduce`: between hosts; the GPUs of one host use NCCL anyway.

    Raises: UserError when several hosts or devices are asked for and there are none.
    """
    told = detect_cluster_spec() if hosts else None
    if wanted is Strategy.MULTIWORKER or (wanted is Strategy.AUTO and told):
        if not told:
            raise UserError(
                "--strategy=multiworker: expected TF_CONFIG to name several workers, or SLURM to have started several "
                "tasks; launch/local_workers.sh, launch/slurm.sbatch and launch/kubernetes.yaml do that"
            )
        os.environ["TF_CONFIG"] = json.dumps(told.config)
        _meet_workers(told)
        try:
            way = tf.distribute.experimental.CommunicationImplementation[all_reduce.name]
            options = tf.distribute.experimental.CommunicationOptions(implementation=way)
            with rendezvous.ended_by_signals(), _listening(told):
                strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        except tf.errors.UnknownError as error:
            here = told.config["cluster"]["worker"][told.config["task"]["index"]]
            raise UserError(
                f"{told.source}: expected {here} to be free to listen on, received {error.message!r}; name another "
                f"port ({PORT} under SLURM, else TF_CONFIG)"
            ) from error
        workers = len(told.config["cluster"]["worker"])
        reason = f"worker {told.config['task']['index']} of {workers}, named by {told.source}"
        return Cluster(strategy, AutoChoice("multiworker", reason), told.config["task"]["index"], workers)
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    if wanted is Strategy.MIRRORED or (wanted is Strategy.AUTO and len(gpus) > 1):
        if len(devices) < 2:
            raise UserError(
                f"--strategy=mirrored: expected two devices or more, found {devices[0].name}; use --strategy=one, or "
                "try it on the CPU with --cpu_devices=2"
            )
        strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
        return Cluster(strategy, AutoChoice("mirrored", f"{len(devices)} devices: {devices[0].device_type}"))
    reason = "asked for" if wanted is Strategy.ONE else f"one device: {devices[0].device_type}"
    return Cluster(None, AutoChoice("one", reason))


@contextlib.contextmanager
def _listening(told: "ClusterSpec") -> Iterator[None]:
    """Workers of one machine listen on loopback; those of several on every address, of which the first one warns.
    Raises: UserError where TensorFlow can't do the former."""
    workers, index = told.config["cluster"]["worker"], told.config["task"]["index"]
    host = rendezvous.loopback(workers, index)
    if index == 0:
        port = workers[index].rpartition(":")[2]
        place = f"its port, here {port}, of every address of its machine"
        listening.warn_if_open("each worker of this run", host or listening.EVERYWHERE, place)
    hint = f"name this machine by another name than {host} in {told.source} to allow it"
    with listening.on(host or listening.EVERYWHERE, told.source, hint):
        yield


def _meet_workers(told: "ClusterSpec") -> None:
    """Return when all workers are there. Raises: UserError; TryAgain after a signal where the cluster starts what ended
    with it again, else KeyboardInterrupt."""
    alone = {"TF_CONFIG": "unset it to train alone", "SLURM": "--strategy=one trains alone"}
    config = told.config
    try:
        rendezvous.wait_for_workers(
            config["cluster"]["worker"], config["task"]["index"], told.source, alone[told.source]
        )
    except KeyboardInterrupt as error:
        if told.source != "SLURM":
            raise
        raise RetryableError("stopped by a signal while it waited for the other workers; nothing was begun") from error


@dataclasses.dataclass(frozen=True)
class ClusterSpec:
    """`config`: as TF_CONFIG holds it, {"cluster": {"worker": [...]}, "task": {"type", "index"}}; `source`: whose."""

    config: dict
    source: str


def detect_cluster_spec() -> ClusterSpec | None:
    """The workers that the surroundings name, when they are several. Raises: UserError when that can not be used."""
    text = os.environ.get("TF_CONFIG", "")
    if text:
        config = _checked(text)
        return ClusterSpec(config, "TF_CONFIG") if len(config["cluster"]["worker"]) > 1 else None
    if all(os.environ.get(name) for name in SLURM) and int(os.environ["SLURM_STEP_NUM_TASKS"]) > 1:
        return ClusterSpec(_from_slurm(), "SLURM")
    return None


def _checked(text: str) -> dict:
    """TF_CONFIG; a chief, as some launchers name the first worker, becomes worker 0."""
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


def _from_slurm() -> dict:
    """TF_CONFIG's content from SLURM's variables: task k of the step is worker k, on the port of its place on its host.

    TensorFlow's resolver expands the variables; its own list of workers sorts hosts by name (node10 before node9),
    where SLURM numbers tasks in the order of the node list, and it can't do without GPUs.
    """
    try:
        hosts = slurm.expand_hostlist(os.environ["SLURM_STEP_NODELIST"])
        tasks = slurm.expand_tasks_per_node(os.environ["SLURM_STEP_TASKS_PER_NODE"])
        port = os.environ.get(PORT) or PORTS[int(os.environ["SLURM_JOB_ID"]) % len(PORTS)]
        workers = [
            f"{host}:{int(port) + place}" for host, count in zip(hosts, tasks, strict=True) for place in range(count)
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
