"""One trial of a search, in a process of its own: nothing that a trial leaves in memory outlives it, and one that runs
out of memory or crashes is a failed trial, not the end of the search.

Synopsis::

    spec = trial.TrialSpec("07", "search/trials/07", hyperparameters, config, max_epochs=8, reference=5200.0)
    with trial.process(trial.run_trial, spec) as process: process.wait()
    trial.outcome(spec)            # TrialResult(status="completed", score=0.998, ...), from trials/07/result.json

A trial is a run of crackflow.train for its number of epochs, with checkpoints: when it was killed, it resumes from the
last one.
"""

import contextlib
import dataclasses
import errno
import json
import os
import statistics
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator

import numpy as np

from crackflow.core import (
    atomic,
    checked_json,
    console,
    distribution,
    errors,
    locks,
    process_pool,
    runtime,
)
from crackflow.core.backend import keras
from crackflow.core.config.network import Architecture, Network
from crackflow.core.config.search import Objective, TuneConfig
from crackflow.core.errors import RetryableError, UserError
from crackflow.core.escaping import one_line
from crackflow.evaluation import scoring
from crackflow.model import model_file, networks
from crackflow.search import space
from crackflow.training import checkpoint, job, run_folder

RESULT, ERROR, LOCK = "result.json", "error.txt", ".lock"
COMPLETED, INFEASIBLE, FAILED = "completed", "infeasible", "failed"
SPEED_WINDOWS = 3
DRY_RUN_STEPS = 2
LOCK_SECONDS = 10.0  # by then a worker that was killed has ended
GRACE_SECONDS = 30.0  # between SIGTERM and SIGKILL, for a checkpoint


@dataclasses.dataclass(frozen=True)
class TrialSpec:
    """What a process needs to run one trial.

    Attributes:
        name: Of the trial, "0", "1", ...
        folder: In which the trial writes.
        hyperparameters: By name, one value for each of `space.SPACE`.
        config: Of the search.
        max_epochs: Number of epochs after which the trial ends.
        reference: Images/s of crackflow_s on this machine, with nothing else running.
        parent: Folder of the trial whose training this one continues, or "".
        worker: Name of the worker that runs it.
        replicas: Devices that share a batch.
    """

    name: str
    folder: str
    hyperparameters: dict[str, space.Value]
    config: TuneConfig
    max_epochs: int
    reference: float
    parent: str = ""
    worker: str = ""
    replicas: int = 1


@dataclasses.dataclass(frozen=True)
class TrialResult:
    """The result of a trial, as result.json has it. Numbers that were not measured are None.

    Attributes:
        trial: Name of the trial.
        status: `COMPLETED`, `INFEASIBLE` or `FAILED`.
        score: What the search maximises.
        accuracy: Of the validation images, 0..1, at the trial's own threshold.
        cross_entropy: Of the validation images.
        images_per_sec: Of scoring.
        train_images_per_sec: Of training, in the median epoch.
        params: Number of parameters of the network.
        epochs: Number of epochs that were trained.
        seconds: Run time of its process.
        peak_mb: Peak memory of its process.
        worker: Name of the worker that ran it.
        message: Why it failed or was not trained.
        chosen: Its hyperparameters, by name.
    """

    trial: str
    status: str
    score: float | None
    accuracy: float | None = None
    cross_entropy: float | None = None
    images_per_sec: float | None = None
    train_images_per_sec: float | None = None
    params: int | None = None
    epochs: int = 0
    seconds: float = 0.0
    peak_mb: int | None = None
    worker: str = ""
    message: str = ""
    chosen: dict[str, space.Value] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class DryRun:
    """The result of the dry run.

    Attributes:
        reference: Images/s of crackflow_s.
        smallest: Images/s of the smallest network of the space.
        largest: Images/s of the largest network of the space.
        params: Number of parameters of the smallest and of the largest network.
        replicas: Number of devices of a trial.
        error: A traceback, or "".
        mistake: A mistake of the user in one line, or "".
    """

    reference: float = 0.0
    smallest: float = 0.0
    largest: float = 0.0
    params: tuple[int, int] = (0, 0)
    replicas: int = 1
    error: str = ""
    mistake: str = ""


def run_trial(spec: TrialSpec) -> None:
    """Trains and evaluates the network of `spec`, and writes result.json.

    Raises:
        RetryableError: A signal stopped the training; a checkpoint was written.
    """
    if (previous := outcome(spec)) and previous.status != FAILED:  # its worker was killed before it could report it
        return
    started = time.monotonic()
    os.makedirs(spec.folder, exist_ok=True)
    try:
        result = _run_trial(spec)
    except RetryableError:
        raise
    except Exception as error:
        if errors.is_disk_full(error):  # this is no fault of the trial, which is run again
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        line = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        atomic.write_text(os.path.join(spec.folder, ERROR), traceback.format_exc())
        result = TrialResult(spec.name, FAILED, None, message=one_line(line)[:500])
    seconds, peak = round(time.monotonic() - started, 1), runtime.peak_memory_mb()
    result = dataclasses.replace(result, chosen=spec.hyperparameters, worker=spec.worker, seconds=seconds, peak_mb=peak)
    save(spec.folder, result)


def save(folder: str, result: TrialResult) -> None:
    """Writes result.json into the folder of a trial."""
    os.makedirs(folder, exist_ok=True)
    atomic.save_json(folder, RESULT, checked_json.add_checksum(dataclasses.asdict(result)))


def outcome(spec: TrialSpec) -> TrialResult | None:
    """The result in the folder of `spec`; None unless it is of the same hyperparameters and number of epochs."""
    result = read(spec.folder)
    if result and (result.chosen, result.epochs or spec.max_epochs) == (spec.hyperparameters, spec.max_epochs):
        return result
    return None


def read(folder: str) -> TrialResult | None:
    """The result in the folder of a trial; None when there is none or its file is damaged."""
    try:
        return TrialResult(**checked_json.read(os.path.join(folder, RESULT)))
    except (OSError, ValueError, TypeError):
        return None


def _run_trial(spec: TrialSpec) -> TrialResult:
    config = space.as_training(spec.hyperparameters, spec.config, spec.folder, spec.replicas)
    runtime.configure(config.seed, config.threads, config.deterministic, config.cpu_devices)
    console.set_quiet()
    setup = job.build_training(config, distribution.join_cluster(config.strategy, hosts=False))
    params = setup.params
    limit = spec.config.max_params
    if limit and params > limit:
        message = f"{params:,} parameters, more than --max_params={limit:,}"
        return TrialResult(spec.name, INFEASIBLE, limit / params - 1, params=params, message=message)
    min_speed, meter = spec.config.min_images_per_sec, ThroughputMeter(spec, setup)
    speed = meter.read()
    speed = meter.read() if speed < min_speed else speed  # the machine may have been slow for a moment
    if speed < min_speed:
        message = f"{speed:,.0f} images/s, fewer than --min_images_per_sec={min_speed:,.0f}"
        measured = {"params": params, "images_per_sec": round(speed, 1)}
        return TrialResult(spec.name, INFEASIBLE, speed / min_speed - 1, message=message, **measured)
    fit = setup.fit({"trial": spec.name}, spec.max_epochs)
    for folder in (spec.folder, spec.parent):
        snapshot = checkpoint.latest(os.path.join(folder, run_folder.CHECKPOINTS)).snapshot if folder else None
        if snapshot:
            fit.restore(snapshot)
            break
    feed = setup.create_loader()
    training = setup.train(fit, feed)
    labels, logits = scoring.predict_logits(model_file.as_float32(setup.model), feed.val())
    accuracy = scoring.best_accuracy(labels, logits)
    entropy = float(np.mean(np.logaddexp(0, np.where(labels > 0, -logits, logits).astype(np.float64))))
    speed = meter.read()
    return TrialResult(
        spec.name,
        COMPLETED,
        score(accuracy, entropy, len(labels), speed / spec.reference, spec.config),
        accuracy=accuracy,
        cross_entropy=entropy,
        train_images_per_sec=round(statistics.median(row["images_per_sec"] for row in training.history), 1),
        epochs=len(training.history),
        images_per_sec=round(speed, 1),
        params=params,
    )


def score(accuracy: float, entropy: float, images: int, speed: float, config: TuneConfig) -> float:
    """The score of a trial, which the search maximises.

    Networks outside the limits do not get this score but one below 0, which says how far outside they are.

    Args:
        accuracy: 0..1.
        entropy: Cross-entropy. It decides between equal accuracies, and is worth less than one image.
        images: Number of validation images.
        speed: Images/s, as a multiple of those of crackflow_s. With the trade-off objective each doubling is worth
            `doubling_worth` of accuracy (the product of Tan et al., MnasNet, 2019, in logarithms).
        config: Of the search.

    Returns:
        The score, 0 or more.
    """
    total = accuracy + 1 / (1 + entropy) / (images + 1)
    if config.objective is Objective.TRADEOFF:
        total += config.doubling_worth * float(np.log2(speed))
    return max(total, 0.0)


REFERENCE = networks.get_model_spec(Network.CRACKFLOW_S, Architecture())


class ThroughputMeter:
    """Images/s of a network as it is delivered, in float32.

    It is the ratio of the network's speed to that of crackflow_s, measured in turns, times the speed of crackflow_s
    alone; other trials on the same cores therefore slow both. For each network the fastest window counts: whatever else
    a machine does only slows it, and slows small networks more than large ones (BUILD_NOTES.md).
    """

    def __init__(self, spec: TrialSpec, setup: job.TrainingSetup) -> None:
        self._spec, self._setup = spec, setup
        self._best = {"trial": 0.0, "reference": 0.0}

    def read(self) -> float:
        """Measures once more, and returns images/s by all measurements so far."""
        model_specs = {"trial": self._setup.model_spec, "reference": REFERENCE}
        speeds = _measure_speeds(self._spec.config, model_specs, self._setup.image_px, self._setup.xla.value)
        self._best = {name: max(self._best[name], speed) for name, speed in speeds.items()}
        return self._spec.reference * self._best["trial"] / self._best["reference"]


def _measure_speeds(
    config: TuneConfig, model_specs: dict[str, networks.ModelSpec], image_px: int, xla: str
) -> dict[str, float]:
    """Images/s of each network in its fastest window."""
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32")
    try:
        models = {name: model_spec.build(image_px) for name, model_spec in model_specs.items()}
    finally:
        keras.mixed_precision.set_global_policy(policy)
    throughputs = scoring.measure_throughput(models, config.speed_seconds, SPEED_WINDOWS, compiled=xla == "on")
    return {name: throughput.high for name, throughput in throughputs.items()}


def dry_run(config: TuneConfig, path: str) -> None:
    """Trains the smallest and the largest network of the space for a few steps, and measures their speed.

    Args:
        config: Of the search.
        path: The file into which a `DryRun` is written, with images/s of both and of crackflow_s. An exception is
            written into it as well, not raised.
    """
    try:
        result = _dry_run(config)
    except UserError as error:
        result = DryRun(mistake=str(error))
    except Exception:
        result = DryRun(error=traceback.format_exc())
    atomic.write_text(path, json.dumps(dataclasses.asdict(result)) + "\n")


def _dry_run(config: TuneConfig) -> DryRun:
    runtime.configure(config.seed, config.threads, False, config.cpu_devices)
    console.set_quiet()
    model_specs, params = {"reference": REFERENCE}, []
    cluster = distribution.join_cluster(config.strategy, hosts=False)
    for name, hyperparameters in (("smallest", space.smallest(config)), ("largest", space.largest(config))):
        setup = job.build_training(space.as_training(hyperparameters, config, config.out, cluster.replicas), cluster)
        model_specs[name] = setup.model_spec
        params.append(setup.params)
        if config.max_params and params[-1] > config.max_params:
            continue  # it would never be trained
        feed = setup.create_loader()
        setup.model.fit(
            setup.cluster.distribute(lambda shard, feed=feed: feed.train(0, shard)),
            steps_per_epoch=DRY_RUN_STEPS,
            validation_data=setup.cluster.distribute(feed.val),
            validation_steps=1,
            verbose=0,
        )
    speeds = _measure_speeds(config, model_specs, setup.image_px, setup.xla.value)
    return DryRun(params=tuple(params), replicas=cluster.replicas, **speeds)


@contextlib.contextmanager
def process(function: Callable, *arguments: object) -> Iterator[subprocess.Popen]:
    """Runs `function(*arguments)` in a new process that shares nothing with this one and ends with it.

    When the block is left while the process still runs, it gets SIGTERM, and SIGKILL if that does not end it.

    Yields:
        The process.
    """
    child = process_pool.start(function, *arguments)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(GRACE_SECONDS)
            child.kill()
        child.wait()
        child.stdin.close()


@contextlib.contextmanager
def trial_lock(folder: str) -> Iterator[None]:
    """Locks the folder of a trial for this worker.

    Raises:
        UserError: Another process has it.
    """
    os.makedirs(folder, exist_ok=True)
    deadline = time.monotonic() + LOCK_SECONDS
    with locks.open_file(os.path.join(folder, LOCK)) as lock:
        with contextlib.suppress(OSError):  # a network's file system without locks
            while not locks.lock(lock, wait=False):
                if time.monotonic() > deadline:
                    raise UserError(
                        f"{folder!r} is in the hands of another process; give every worker a KERASTUNER_TUNER_ID of "
                        "its own"
                    )
                time.sleep(0.2)
        yield


def describe_result(result: TrialResult) -> str:
    """A trial in one line."""
    if result.status != COMPLETED:
        return f"trial {result.trial} {result.status}: {result.message}"
    return (
        f"trial {result.trial}: accuracy {result.accuracy:.4f} after {result.epochs} epochs, "
        f"{result.images_per_sec:,.0f} images/s, {result.params:,} parameters; score {result.score:.5f}; "
        f"{result.seconds:.0f} s"
    )
