"""The fit of a run: from where it stands to its end, with checkpoints on the way, and back to one when it diverges.

Synopsis::

    fit = fit_loop.FitLoop(model, config, steps, cluster, identity)
    fit.restore(snapshot)                                     # of an earlier process of the same run
    watched = fit.run(batches_from, checks, check_steps)   # batches_from(step): from that step of the run on
"""

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator

import numpy as np

from crackflow.core import console
from crackflow.core.backend import tf
from crackflow.core.config.training import TrainConfig
from crackflow.core.distribution import Cluster
from crackflow.core.errors import RetryableError, UserError
from crackflow.training import callbacks, checkpoint, run_folder, trainer

LR_BACKOFF = 0.5  # of the rate, each time that a run diverges


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What was seen of a fit. `seconds`: of training, those before an interruption included."""

    history: list[dict]
    best_epoch: int
    stopped: bool
    seconds: float


class FitLoop:
    """`steps`: in an epoch; `identity`: what a snapshot must agree with to be of this run
    (`run_folder.run_fingerprint`); `until`: epochs after which it ends, of the run's, which the learning rate still
    follows; 0: all of them; `smoothing`: epochs whose mean validation loss decides which is the best."""

    def __init__(
        self,
        model: trainer.Trainer,
        config: TrainConfig,
        steps: int,
        cluster: Cluster,
        identity: dict,
        until: int = 0,
        smoothing: int = 1,
    ) -> None:
        self.epochs = until or config.epochs
        self.model, self.config, self.steps, self.cluster, self.identity = model, config, steps, cluster, identity
        chief = cluster.is_chief
        extra = [name.value for name in config.metrics]
        self.history = callbacks.HistoryLogger(os.path.join(config.run_dir, run_folder.HISTORY) if chief else "", extra)
        self.best = callbacks.KeepBestWeights(config.patience_epochs(steps), smoothing)
        self.step, self.rollbacks, self.seconds = 0, 0, 0.0
        self._back_to = -1  # the step that the last divergence led back to
        self._variables = model.state()
        self._place = os.path.join(config.run_dir, run_folder.CHECKPOINTS)
        self._metrics: dict[str, np.ndarray] = {}

    @property
    def length(self) -> int:
        """Steps of the whole run."""
        return self.steps * self.epochs

    def snapshot(self) -> checkpoint.Snapshot:
        """The run as it is after `self.step` steps. Every worker must take part: some variables are summed over all."""
        self.model.unite()  # so that who goes on from here and who goes on without a stop are the same
        arrays = {name: variable.numpy() for name, variable in self._variables.items()}
        arrays |= {f"best/{number:04d}": weight for number, weight in enumerate(self.best.weights)}
        facts = {
            "step": self.step,
            "rollbacks": self.rollbacks,
            "seconds": self.seconds,
            "best": [self.best.loss, self.best.epoch, self.best.stopped],
            "history": self.history.rows,
            "identity": self.identity,
        }
        return checkpoint.Snapshot(facts, arrays)

    def restore(self, snapshot: checkpoint.Snapshot) -> None:
        """Become the run that `snapshot` was taken of, but for the scale of its loss where only one of the two has one:
        GPUs of two kinds may share a search. Raises: UserError when it is of another network."""
        best = {name for name in snapshot.arrays if name.startswith("best/")}
        scale = {name for name in {*self._variables} ^ {*snapshot.arrays} if name.startswith("loss_scale/")}
        ours = {name: tuple(it.shape) for name, it in self._variables.items() if name not in scale}
        theirs = {name: array.shape for name, array in snapshot.arrays.items() if name not in best | scale}
        if ours != theirs:
            odd = sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name))[0]
            raise UserError(
                f"--resume: the checkpoint in {self._place!r} is of another network: expected {odd} of shape "
                f"{ours.get(odd, 'none')}, received {theirs.get(odd, 'none')}; choose another --run_dir, or --overwrite"
            )
        metrics = {name for name in ours if name.startswith("metric/")}
        for name in ours.keys() - metrics:
            self._variables[name].assign(snapshot.arrays[name])
        # Keras sets metrics back as an epoch begins; those of an epoch that is done are of its validation.
        self._metrics = {name: snapshot.arrays[name] for name in metrics} if snapshot.step % self.steps else {}
        self.best.weights = [snapshot.arrays[name] for name in sorted(best)]
        self.best.loss, self.best.epoch, self.best.stopped = snapshot.facts["best"]
        self.history.rows = list(snapshot.facts["history"])
        self.best.recent = [row["val_loss"] for row in self.history.rows][-self.best.smoothing :]
        self.step, self.rollbacks = snapshot.step, snapshot.facts["rollbacks"]
        self.seconds = snapshot.facts["seconds"]

    def run(
        self, batches_from: Callable[[int], tf.data.Dataset], checks: tf.data.Dataset, check_steps: int
    ) -> TrainingResult:
        """Train to the end; `model` has the best weights then.

        Raises: TryAgain after a signal, a checkpoint written, or when another worker is gone; UserError when the loss
        grows beyond all measure again and again.
        """
        if self.cluster.is_chief:
            self.history.write()
        with self.cluster.expecting_others():
            if not self.step:
                self.save()
            while True:
                try:
                    with _signals() as signals:
                        self._fit(batches_from(self.step), checks, check_steps, signals)
                    break
                except callbacks.DivergenceError as error:
                    self._roll_back(error)
        if not self.best.epoch:
            raise UserError("training diverged: the validation loss was never a number; lower --learning_rate")
        return TrainingResult(self.history.rows, self.best.epoch, self.best.stopped, self.seconds)

    def save(self) -> None:
        """A checkpoint of the run as it is; the chief alone writes. A disk that is full doesn't end the run.

        Raises: callbacks.DivergenceError, nothing written, when a weight is no number, which the loss of its step can't
        tell.
        """
        snapshot = self.snapshot()
        weights = [array for name, array in snapshot.arrays.items() if name.startswith("weight/")]
        if self.step and not all(np.isfinite(array).all() for array in weights):
            raise callbacks.DivergenceError("a weight is no number any more")
        self._write(snapshot)

    def _write(self, snapshot: checkpoint.Snapshot) -> None:
        if not self.cluster.is_chief:
            return
        try:
            checkpoint.save(self._place, snapshot)
        except OSError as error:
            kept = checkpoint.names(self._place)
            console.warning(
                f"no checkpoint at step {self.step}: {error.strerror or error}; training goes on, and "
                + (f"{kept[-1]} is the last" if kept else "there is none yet")
            )

    def _fit(self, batches, checks, check_steps: int, signals: list[int]) -> None:
        first = self.length if self.best.stopped else self.step
        epoch, within = divmod(first, self.steps)
        self.model.start_at(epoch, within)
        chief = self.cluster.is_chief
        with contextlib.ExitStack() as stack:
            # The loss is weighed by class, and so is its limit.
            limit = self.config.safety.loss_limit * max(1.0, *self.model.class_weights)
            watchers = [callbacks.TerminateOnDivergence(limit), callbacks.ThroughputLogger(self.config.batch_size)]
            if chief:
                advance = stack.enter_context(console.progress_bar(self.length * self.config.batch_size, "training"))
                advance(first * self.config.batch_size)
                watchers.append(callbacks.ProgressBar(advance, self.epochs, self.config.batch_size))
            watchers += [self.history, self.best]
            if chief:
                board = os.path.join(self.config.run_dir, run_folder.TENSORBOARD)
                watchers.append(callbacks.TensorBoardLogger(board))
            if not self.config.steps_per_execution:
                watchers.append(callbacks.TuneStepsPerExecution(self.steps, self._slowest))
            watchers.append(_CheckpointCallback(self, signals))
            self.model.fit(
                batches,
                epochs=self.epochs,
                steps_per_epoch=self.steps,
                validation_data=checks,
                validation_steps=check_steps,
                callbacks=watchers,
                verbose=0,
            )

    def _slowest(self, seconds: float) -> float:
        return float(self.cluster.gathered([round(seconds * 1e9)]).max()) / 1e9

    def _roll_back(self, error: callbacks.DivergenceError) -> None:
        diverged_at, found = self.step, checkpoint.latest(self._place).snapshot
        if found and found.step == self._back_to:  # led to no other: its own weights may be what is wrong
            found = checkpoint.latest(self._place, before=found.step).snapshot or found
        # All have read it before the chief writes it anew; and a network's file system may have shown an older one.
        seen = self.cluster.gathered([found.step if found else -1])
        if (seen != seen[0]).any():
            raise RetryableError(
                f"the workers see different checkpoints in {self._place!r}, of steps {seen.ravel().tolist()}; the same "
                "command goes on from the last one"
            ) from error
        if found is None or self.rollbacks >= self.config.safety.rollbacks:
            tried = f" after {self.rollbacks} attempts with a smaller rate" if found else ""
            raise UserError(
                f"training diverged{tried}: {error}; lower --learning_rate, or set --clip_norm=1"
            ) from error
        rollbacks = self.rollbacks + 1
        self.restore(found)
        self.rollbacks, self._back_to = rollbacks, found.step
        self.model.lower_rate(LR_BACKOFF**self.rollbacks)
        if self.cluster.is_chief:
            console.warning(
                f"{error} near step {diverged_at}; back to step {self.step} with {LR_BACKOFF**self.rollbacks:g} "
                f"of the learning rate ({self.rollbacks} of {self.config.safety.rollbacks} times)"
            )
        self._write(self.snapshot())  # so that the count survives a kill


class _CheckpointCallback(callbacks.StepCounter):
    """Counts the steps and seconds of `fit`, saves it in time, stops it after a signal. The last of the callbacks."""

    def __init__(self, fit: FitLoop, signals: list[int]) -> None:
        super().__init__()
        self._fit, self._signals = fit, signals

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._saved = self._counted_to = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        super().on_epoch_begin(epoch)
        for name, array in self._fit._metrics.items():  # Keras has just set them back
            self._fit._variables[name].assign(array)
        self._fit._metrics = {}
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        fit = self._fit
        self._count(self._epoch * fit.steps + batch + 1)
        due = time.monotonic() - self._saved >= 60 * fit.config.safety.checkpoint_minutes
        stop, due = self._any(bool(self._signals), due and fit.cluster.is_chief)
        if batch + 1 == fit.steps:  # the end of the epoch follows, with validation and a checkpoint
            return
        if stop or due:
            self._save()
        if stop:
            self._stop()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._count((epoch + 1) * self._fit.steps)
        self._save()
        if self._any(bool(self._signals))[0] and self._fit.step < self._fit.length:
            self._stop()

    def _count(self, step: int) -> None:
        now = time.monotonic()
        self._fit.seconds += now - self._counted_to
        self._fit.step, self._counted_to = step, now

    def _any(self, *flags: bool) -> list[bool]:
        """Of each flag, whether any worker holds it up."""
        return [bool(found) for found in self._fit.cluster.gathered([int(flag) for flag in flags]).any(0)]

    def _save(self) -> None:
        self._fit.save()
        self._saved = time.monotonic()

    def _stop(self) -> None:
        # Once the chief has written: SLURM ends the others as soon as one has left.
        self._fit.cluster.gathered([0])
        raise RetryableError(
            f"stopped by a signal after step {self._fit.step} of {self._fit.length}; the same command goes on there"
        )


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals to stop that came inside; a second one is heard at once, as without this."""
    came: list[int] = []

    def first(number: int, frame: object) -> None:
        came.append(number)
        signal.signal(number, before[number])

    before = {number: signal.signal(number, first) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
