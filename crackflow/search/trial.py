"""One trial of a search, in a process of its own: nothing that a trial leaves in memory outlives it, and one that runs
out of memory or crashes is a failed trial, not the end of the search.

Synopsis::

    task = trial.TrialSpec("07", "search/trials/07", chosen, config, until=8, reference=5200.0)
    with trial.process(trial.run_trial, task) as process: process.wait()
    trial.outcome(task)                      # Outcome(status="completed", score=0.998, ...), from trials/07/result.json

A trial is a run of crackflow.train up to its epochs, with checkpoints: killed, it goes on from the last one.
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
from crackflow.search import space, trial
from crackflow.training import checkpoint, job, run_folder

RESULT, ERROR, LOCK = "result.json", "error.txt", ".lock"
COMPLETED, INFEASIBLE, FAILED = "completed", "infeasible", "failed"
WINDOWS = 3
REHEARSED_STEPS = 2
LOCK_SECONDS = 10.0  # in which a worker that was killed is gone
GRACE_SECONDS = 30.0  # for a checkpoint after SIGTERM, before SIGKILL


@dataclasses.dataclass(frozen=True)
class TrialSpec:
    """`chosen`: values of the choices of `search.space`; `until`: epochs; `parent`: folder of the trial whose training
    it goes on with; `reference`: images/s of crackflow_s on this machine, alone; `replicas`: that share a
    batch."""

    name: str
    folder: str
    chosen: dict[str, space.Value]
    config: TuneConfig
    until: int
    reference: float
    parent: str = ""
    worker: str = ""
    replicas: int = 1


@dataclasses.dataclass(frozen=True)
class TrialResult:
    """What a trial came to. `accuracy`, at the trial's own threshold, `cross_entropy`: of the validation images;
    `images_per_sec`: scoring; `train_images_per_sec`: median epoch; `seconds`: of its process; `peak_mb`: of its
    memory; `message`: why it failed or was not trained. Numbers that were not measured are None."""

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
    """What the dry run found. `reference`, `smallest`, `largest`: images/s; `replicas`: devices of a trial;
    `error`: a traceback, or empty; `mistake`: the user's, in a line, or empty."""

    reference: float = 0.0
    smallest: float = 0.0
    largest: float = 0.0
    params: tuple[int, int] = (0, 0)
    replicas: int = 1
    error: str = ""
    mistake: str = ""


def run_trial(task: TrialSpec) -> None:
    """Train, judge, and write result.json. Raises: TryAgain after a signal, a checkpoint written."""
    if (known := outcome(task)) and known.status != FAILED:  # its worker was killed before it could tell
        return
    began = time.monotonic()
    os.makedirs(task.folder, exist_ok=True)
    try:
        found = _run_trial(task)
    except RetryableError:
        raise
    except Exception as error:
        if errors.is_disk_full(error):  # no fault of the trial, which is run again
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        line = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        atomic.write_text(os.path.join(task.folder, ERROR), traceback.format_exc())
        found = TrialResult(task.name, FAILED, None, message=one_line(line)[:500])
    seconds, peak = round(time.monotonic() - began, 1), runtime.peak_memory_mb()
    found = dataclasses.replace(found, chosen=task.chosen, worker=task.worker, seconds=seconds, peak_mb=peak)
    save(task.folder, found)


def save(place: str, found: TrialResult) -> None:
    """result.json in the folder of a trial."""
    os.makedirs(place, exist_ok=True)
    atomic.save_json(place, RESULT, checked_json.add_checksum(dataclasses.asdict(found)))


def outcome(task: TrialSpec) -> TrialResult | None:
    """What the trial came to, when it has ended and was this one."""
    found = read(task.folder)
    return found if found and (found.chosen, found.epochs or task.until) == (task.chosen, task.until) else None


def read(place: str) -> TrialResult | None:
    """The result in the folder of a trial; None where there is none that is whole."""
    try:
        return TrialResult(**checked_json.read(os.path.join(place, RESULT)))
    except (OSError, ValueError, TypeError):
        return None


def _run_trial(task: TrialSpec) -> TrialResult:
    config = space.as_training(task.chosen, task.config, task.folder, task.replicas)
    runtime.configure(config.seed, config.threads, config.deterministic, config.cpu_devices)
    console.set_quiet()
    work = job.build_training(config, distribution.join_cluster(config.strategy, hosts=False))
    params = work.params
    limit = task.config.max_params
    if limit and params > limit:
        message = f"{params:,} parameters, more than --max_params={limit:,}"
        return TrialResult(task.name, INFEASIBLE, limit / params - 1, params=params, message=message)
    wanted, meter = task.config.min_images_per_sec, ThroughputMeter(task, work)
    speed = meter.read()
    speed = meter.read() if speed < wanted else speed  # it may have been a slow moment
    if speed < wanted:
        message = f"{speed:,.0f} images/s, fewer than --min_images_per_sec={wanted:,.0f}"
        facts = {"params": params, "images_per_sec": round(speed, 1)}
        return TrialResult(task.name, INFEASIBLE, speed / wanted - 1, message=message, **facts)
    fit = work.fit({"trial": task.name}, task.until)
    for place in (task.folder, task.parent):
        found = checkpoint.latest(os.path.join(place, run_folder.CHECKPOINTS)).snapshot if place else None
        if found:
            fit.restore(found)
            break
    feed = work.open_feed()
    watched = work.train(fit, feed)
    labels, logits = scoring.predict_logits(model_file.as_float32(work.model), feed.val())
    accuracy = scoring.best_accuracy(labels, logits)
    entropy = float(np.mean(np.logaddexp(0, np.where(labels > 0, -logits, logits).astype(np.float64))))
    speed = meter.read()
    return TrialResult(
        task.name,
        COMPLETED,
        score(accuracy, entropy, len(labels), speed / task.reference, task.config),
        accuracy=accuracy,
        cross_entropy=entropy,
        train_images_per_sec=round(statistics.median(row["images_per_sec"] for row in watched.history), 1),
        epochs=len(watched.history),
        images_per_sec=round(speed, 1),
        params=params,
    )


def score(accuracy: float, entropy: float, images: int, speed: float, config: TuneConfig) -> float:
    """What a search maximises, 0 or more. `entropy`: cross-entropy, which decides between equal accuracies and is worth
    less than one of the `images`; `speed`: in times crackflow_s, of which each doubling is worth `doubling_worth` of
    accuracy when a trade-off is asked for (the product of Tan et al., MnasNet, 2019, in logarithms). Networks outside
    the limits have scores below 0: how far they are outside.
    """
    found = accuracy + 1 / (1 + entropy) / (images + 1)
    if config.objective is Objective.TRADEOFF:
        found += config.doubling_worth * float(np.log2(speed))
    return max(found, 0.0)


REFERENCE = networks.get_model_spec(Network.CRACKFLOW_S, Architecture())


class ThroughputMeter:
    """Images/s of a network as it is delivered, in float32: its ratio to crackflow_s, a window of each in turn, times
    what that reaches alone, so that other trials on the same cores slow both. Of each the fastest window counts: what
    else a machine does only slows, and small networks more than large ones (BUILD_NOTES.md)."""

    def __init__(self, task: TrialSpec, work: job.TrainingSetup) -> None:
        self._task, self._work = task, work
        self._best = {"ours": 0.0, "reference": 0.0}

    def read(self) -> float:
        """Measure once more; the result of all measurements so far."""
        recipes = {"ours": self._work.recipe, "reference": REFERENCE}
        found = _speeds(self._task.config, recipes, self._work.image_px, self._work.xla.value)
        self._best = {name: max(self._best[name], speed) for name, speed in found.items()}
        return self._task.reference * self._best["ours"] / self._best["reference"]


def _speeds(config: TuneConfig, recipes: dict[str, networks.ModelSpec], px: int, xla: str) -> dict[str, float]:
    """Images/s in the fastest window."""
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32")
    try:
        models = {name: recipe.build(px) for name, recipe in recipes.items()}
    finally:
        keras.mixed_precision.set_global_policy(policy)
    found = scoring.measure_throughput(models, config.speed_seconds, WINDOWS, compiled=xla == "on")
    return {name: rate.high for name, rate in found.items()}


def dry_run(config: TuneConfig, place: str) -> None:
    """A few steps of the smallest and of the largest network that may be searched, and images/s of both and of
    crackflow_s, into the file `place`. What goes wrong is in it as well."""
    try:
        found = _dry_run(config)
    except UserError as error:
        found = DryRun(mistake=str(error))
    except Exception:
        found = DryRun(error=traceback.format_exc())
    atomic.write_text(place, json.dumps(dataclasses.asdict(found)) + "\n")


def _dry_run(config: TuneConfig) -> DryRun:
    runtime.configure(config.seed, config.threads, False, config.cpu_devices)
    console.set_quiet()
    recipes, params = {"reference": REFERENCE}, []
    team = distribution.join_cluster(config.strategy, hosts=False)
    for name, chosen in (("smallest", space.smallest(config)), ("largest", space.largest(config))):
        work = job.build_training(space.as_training(chosen, config, config.out, team.replicas), team)
        recipes[name] = work.recipe
        params.append(work.params)
        if config.max_params and params[-1] > config.max_params:
            continue  # it would never be trained
        feed = work.open_feed()
        work.model.fit(
            work.team.distribute(lambda share, feed=feed: feed.train(0, share)),
            steps_per_epoch=REHEARSED_STEPS,
            validation_data=work.team.distribute(feed.val),
            validation_steps=1,
            verbose=0,
        )
    speeds = _speeds(config, recipes, work.image_px, work.xla.value)
    return DryRun(params=tuple(params), replicas=team.replicas, **speeds)


@contextlib.contextmanager
def process(function: Callable, *arguments: object) -> Iterator[subprocess.Popen]:
    """`function(*arguments)` in a new process that knows nothing of this one, and ends with it. When the block is left
    while it runs, it gets SIGTERM, and SIGKILL where that does not end it."""
    started = process_pool.start(function, *arguments)
    try:
        yield started
    finally:
        if started.poll() is None:
            started.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(GRACE_SECONDS)
            started.kill()
        started.wait()
        started.stdin.close()


@contextlib.contextmanager
def trial_lock(place: str) -> Iterator[None]:
    """The folder of a trial, for this worker alone. Raises: UserError when another one has it."""
    os.makedirs(place, exist_ok=True)
    deadline = time.monotonic() + LOCK_SECONDS
    with locks.open_file(os.path.join(place, LOCK)) as lock:
        with contextlib.suppress(OSError):  # a network's file system without locks
            while not locks.lock(lock, wait=False):
                if time.monotonic() > deadline:
                    raise UserError(
                        f"{place!r} is in the hands of another process; give every worker a KERASTUNER_TUNER_ID of "
                        "its own"
                    )
                time.sleep(0.2)
        yield


def describe_result(one: trial.TrialResult) -> str:
    """A trial in one line."""
    if one.status != trial.COMPLETED:
        return f"trial {one.trial} {one.status}: {one.message}"
    return (
        f"trial {one.trial}: accuracy {one.accuracy:.4f} after {one.epochs} epochs, "
        f"{one.images_per_sec:,.0f} images/s, {one.params:,} parameters; score {one.score:.5f}; {one.seconds:.0f} s"
    )
