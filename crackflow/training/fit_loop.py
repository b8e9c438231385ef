"""The training loop of a run, with checkpoints, resuming, and rollback to a checkpoint when training diverges.

Synopsis::

    fit = fit_loop.FitLoop(model, config, steps, cluster, identity)
    fit.restore(snapshot)                                   # of an earlier process of the same run
    result = fit.run(batches_from, val_batches, val_steps)  # batches_from(step): from that step of the run on
"""

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from crackflow.core import console
from crackflow.core.backend import tf
from crackflow.core.config.training import TrainConfig
from crackflow.core.distribution import Cluster
from crackflow.core.errors import RetryableError, UserError
from crackflow.training import callbacks, checkpoint, experiment_logs, run_folder, trainer

LR_BACKOFF = 0.5  # the factor of the learning rate, each time that a run diverges


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """The outcome of a fit.

    Attributes:
      history: one row per epoch.
      best_epoch: the epoch whose weights the model has, from 1.
      stopped: whether training stopped early.
      seconds: training time, that before an interruption included.
    """

    history: list[dict]
    best_epoch: int
    stopped: bool
    seconds: float


class FitLoop:
    """Trains a model, from a snapshot or from the beginning.

    Args:
      model: the trainer.
      config: the flags of the run.
      steps: those of an epoch.
      cluster: the devices.
      identity: the fingerprint that a snapshot of this run has (`run_folder.run_fingerprint`).
      max_epochs: epochs after which training ends; the learning rate still follows all epochs of the run. 0: all of
        them.
      smoothing: epochs whose mean validation loss decides which epoch is the best.
    """

    def __init__(
        self,
        model: trainer.Trainer,
        config: TrainConfig,
        steps: int,
        cluster: Cluster,
        identity: dict,
        max_epochs: int = 0,
        smoothing: int = 1,
    ) -> None:
        self.epochs = max_epochs or config.epochs
        self.model, self.config, self.steps, self.cluster, self.identity = model, config, steps, cluster, identity
        chief = cluster.is_chief
        extra = [name.value for name in config.metrics]
        self.history = callbacks.HistoryLogger(os.path.join(config.run_dir, run_folder.HISTORY) if chief else "", extra)
        self.best = callbacks.KeepBestWeights(config.patience_epochs(steps), smoothing)
        self.step, self.rollbacks, self.seconds = 0, 0, 0.0
        self._last_rollback_step = -1  # the step that the last divergence rolled back to
        self._variables = model.state()
        self._checkpoint_dir = os.path.join(config.run_dir, run_folder.CHECKPOINTS)
        self._metrics: dict[str, np.ndarray] = {}
        self.logs: Sequence[experiment_logs.GuardedLog] = ()  # of the chief

    @property
    def length(self) -> int:
        """Steps of the whole run."""
        return self.steps * self.epochs

    def snapshot(self) -> checkpoint.Snapshot:
        """Captures the run after `self.step` steps. Every worker must call it: some variables are summed over all."""
        self.model.sync_batch_norm_statistics()  # so that a resumed run and an uninterrupted one are the same
        arrays = {name: variable.numpy() for name, variable in self._variables.items()}
        arrays |= {f"best/{number:04d}": weight for number, weight in enumerate(self.best.weights)}
        metadata = {
            "step": self.step,
            "rollbacks": self.rollbacks,
            "seconds": self.seconds,
            "best": [self.best.loss, self.best.epoch, self.best.stopped],
            "history": self.history.rows,
            "identity": self.identity,
        }
        return checkpoint.Snapshot(metadata, arrays)

    def restore(self, snapshot: checkpoint.Snapshot) -> None:
        """Restores a snapshot, except for the loss scale where only one of the two has one.

        That is so because GPUs of two kinds may share a search.

        Raises:
          UserError: the snapshot is of another network.
        """
        best = {name for name in snapshot.arrays if name.startswith("best/")}
        scale = {name for name in {*self._variables} ^ {*snapshot.arrays} if name.startswith("loss_scale/")}
        expected = {name: tuple(variable.shape) for name, variable in self._variables.items() if name not in scale}
        stored = {name: array.shape for name, array in snapshot.arrays.items() if name not in best | scale}
        if expected != stored:
            mismatch = sorted(name for name in expected | stored if expected.get(name) != stored.get(name))[0]
            raise UserError(
                f"--resume: the checkpoint in {self._checkpoint_dir!r} is of another network: expected {mismatch} of "
                f"shape {expected.get(mismatch, 'none')}, received {stored.get(mismatch, 'none')}; choose another "
                "--run_dir, or --overwrite"
            )
        metrics = {name for name in expected if name.startswith("metric/")}
        for name in expected.keys() - metrics:
            self._variables[name].assign(snapshot.arrays[name])
        # Keras resets metrics as an epoch begins; after a complete epoch they are those of its validation.
        self._metrics = {name: snapshot.arrays[name] for name in metrics} if snapshot.step % self.steps else {}
        self.best.weights = [snapshot.arrays[name] for name in sorted(best)]
        self.best.loss, self.best.epoch, self.best.stopped = snapshot.metadata["best"]
        self.history.rows = list(snapshot.metadata["history"])
        self.best.recent = [row["val_loss"] for row in self.history.rows][-self.best.smoothing :]
        self.step, self.rollbacks = snapshot.step, snapshot.metadata["rollbacks"]
        self.seconds = snapshot.metadata["seconds"]

    def run(
        self, batches_from: Callable[[int], tf.data.Dataset], val_batches: tf.data.Dataset, val_steps: int
    ) -> TrainingResult:
        """Trains to the end; `model` then has the best weights.

        Args:
          batches_from: returns the training batches from a step of the run on.
          val_batches: the validation batches.
          val_steps: their number.

        Returns:
          The result of training.

        Raises:
          RetryableError: after a signal, when a checkpoint is written, or when another worker is lost.
          UserError: training diverged again and again.
        """
        if self.cluster.is_chief:
            self.history.write()
        with self.cluster.translate_worker_loss():
            if not self.step:
                self.save()
            while True:
                try:
                    with _signals() as signals:
                        self._fit(batches_from(self.step), val_batches, val_steps, signals)
                    break
                except callbacks.DivergenceError as error:
                    self._roll_back(error)
        if not self.best.epoch:
            raise UserError("training diverged: the validation loss was never a number; lower --learning_rate")
        return TrainingResult(self.history.rows, self.best.epoch, self.best.stopped, self.seconds)

    def save(self) -> None:
        """Writes a checkpoint of the run as it is; only the chief writes. A full disk doesn't end the run.

        Raises:
          callbacks.DivergenceError: a weight is not a number, which the loss of its step can't show. Nothing is written
            then.
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
            checkpoint.save(self._checkpoint_dir, snapshot)
        except OSError as error:
            saved = checkpoint.names(self._checkpoint_dir)
            console.warning(
                f"no checkpoint at step {self.step}: {error.strerror or error}; training continues, and "
                + (f"{saved[-1]} is the last" if saved else "there is none yet")
            )

    def _fit(self, batches, val_batches, val_steps: int, signals: list[int]) -> None:
        first = self.length if self.best.stopped else self.step
        epoch, step_in_epoch = divmod(first, self.steps)
        self.model.start_at(epoch, step_in_epoch)
        chief = self.cluster.is_chief
        with contextlib.ExitStack() as stack:
            # The loss is weighted by class, and so is its limit.
            limit = self.config.safety.loss_limit * max(1.0, *self.model.class_weights)
            fit_callbacks = [callbacks.TerminateOnDivergence(limit), callbacks.ThroughputLogger(self.config.batch_size)]
            if chief:
                advance = stack.enter_context(console.progress_bar(self.length * self.config.batch_size, "training"))
                advance(first * self.config.batch_size)
                fit_callbacks.append(callbacks.ProgressBar(advance, self.epochs, self.config.batch_size))
            fit_callbacks += [self.history, self.best, callbacks.ExperimentLogger(self.history, self.logs)]
            if chief:
                board_dir = os.path.join(self.config.run_dir, run_folder.TENSORBOARD)
                fit_callbacks.append(callbacks.TensorBoardLogger(board_dir))
            if not self.config.steps_per_execution:
                fit_callbacks.append(callbacks.TuneStepsPerExecution(self.steps, self._max_over_workers))
            fit_callbacks.append(_CheckpointCallback(self, signals))
            self.model.fit(
                batches,
                epochs=self.epochs,
                steps_per_epoch=self.steps,
                validation_data=val_batches,
                validation_steps=val_steps,
                callbacks=fit_callbacks,
                verbose=0,
            )

    def _max_over_workers(self, seconds: float) -> float:
        return float(self.cluster.all_gather([round(seconds * 1e9)]).max()) / 1e9

    def _roll_back(self, error: callbacks.DivergenceError) -> None:
        diverged_at, snapshot = self.step, checkpoint.latest(self._checkpoint_dir).snapshot
        if snapshot and snapshot.step == self._last_rollback_step:  # diverged again: its own weights may be the cause
            snapshot = checkpoint.latest(self._checkpoint_dir, before=snapshot.step).snapshot or snapshot
        # All have read it before the chief writes a new one; a network file system may have returned an older one.
        steps_by_worker = self.cluster.all_gather([snapshot.step if snapshot else -1])
        if (steps_by_worker != steps_by_worker[0]).any():
            raise RetryableError(
                f"the workers see different checkpoints in {self._checkpoint_dir!r}, of steps "
                f"{steps_by_worker.ravel().tolist()}; the same command resumes from the last one"
            ) from error
        if snapshot is None or self.rollbacks >= self.config.safety.rollbacks:
            attempts = f" after {self.rollbacks} attempts with a smaller rate" if snapshot else ""
            raise UserError(
                f"training diverged{attempts}: {error}; lower --learning_rate, or set --clip_norm=1"
            ) from error
        rollbacks = self.rollbacks + 1
        self.restore(snapshot)
        self.rollbacks, self._last_rollback_step = rollbacks, snapshot.step
        self.model.scale_learning_rate(LR_BACKOFF**self.rollbacks)
        if self.cluster.is_chief:
            console.warning(
                f"{error} near step {diverged_at}; back to step {self.step} with {LR_BACKOFF**self.rollbacks:g} "
                f"of the learning rate ({self.rollbacks} of {self.config.safety.rollbacks} times)"
            )
        self._write(self.snapshot())  # so that the count survives a kill


class _CheckpointCallback(callbacks.StepCounter):
    """Counts the steps and seconds of `fit`, saves it regularly, stops it after a signal. It is the last callback."""

    def __init__(self, fit: FitLoop, signals: list[int]) -> None:
        super().__init__()
        self._fit, self._signals = fit, signals

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._saved = self._counted_until = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        super().on_epoch_begin(epoch)
        for name, array in self._fit._metrics.items():  # Keras has just reset them
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
        self._fit.seconds += now - self._counted_until
        self._fit.step, self._counted_until = step, now

    def _any(self, *flags: bool) -> list[bool]:
        """Returns for each flag whether any worker has set it."""
        return [bool(is_set) for is_set in self._fit.cluster.all_gather([int(flag) for flag in flags]).any(0)]

    def _save(self) -> None:
        self._fit.save()
        self._saved = time.monotonic()

    def _stop(self) -> None:
        # After the chief has written: SLURM ends the other workers as soon as one has exited.
        self._fit.cluster.all_gather([0])
        raise RetryableError(
            f"stopped by a signal after step {self._fit.step} of {self._fit.length}; the same command, without "
            "--overwrite, resumes there"
        )


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects the first signal to stop that arrives inside; a second one has its usual effect."""
    received: list[int] = []

    def first(number: int, frame: object) -> None:
        received.append(number)
        signal.signal(number, before[number])

    before = {number: signal.signal(number, first) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
