"""Keras callbacks: a progress bar, history.csv, the best weights, termination on divergence.

Synopsis::

    progress = callbacks.ProgressBar(advance, epochs, batch_size)
    model.fit(
        batches,
        callbacks=[progress, callbacks.HistoryLogger(path), callbacks.KeepBestWeights(patience=4)],
        verbose=0,
    )
"""

import contextlib
import csv
import io
import math
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from crackflow.core import atomic, console
from crackflow.core.backend import keras, tf
from crackflow.training import experiment_logs, optimizers

COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "images_per_sec", "seconds")


class StepCounter(keras.callbacks.Callback):
    """Counts steps: Keras reports only the last step of those that one execution ran."""

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._counted = None

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if self._counted is None:  # a resumed run begins within an epoch
            self._counted = batch

    def passed(self, batch: int) -> int:
        """Returns the steps since the last call in this epoch; `batch`: the number of the last step, from 0."""
        passed = batch + 1 - self._counted
        self._counted = batch + 1
        return passed


class TuneStepsPerExecution(StepCounter):
    """Sets how many steps run per execution, so that Python takes less than a hundredth of the time.

    It measures the executions after the first, which traces. An execution takes at most a second, so that a signal is
    handled soon.

    Args:
      steps: those of an epoch.
      agreed: returns the seconds per step that all workers use, from those that each has measured.
    """

    # Keras' loop, its callbacks and ours, and the call of the function, per execution: 2.5 to 15 ms in three runs.
    PYTHON_SECONDS, SHARE, MEASURED, LONGEST_SECONDS = 6e-3, 0.01, 3, 1.0

    def __init__(self, steps: int, agreed: Callable[[float], float] = float) -> None:

        super().__init__()
        self.steps, self.steps_per_execution, self._agreed = steps, 0, agreed

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._times: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        super().on_train_batch_begin(batch)
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        passed = self.passed(batch)
        if self.steps_per_execution or self.steps < 2:
            return
        self._times.append((time.perf_counter() - self._began) / passed)
        if len(self._times) > self.MEASURED:
            seconds_per_step = self._agreed(statistics.median(self._times[1:]))
            min_steps = math.ceil(self.PYTHON_SECONDS / (self.SHARE * seconds_per_step))
            max_steps = int(self.LONGEST_SECONDS / seconds_per_step)
            self.steps_per_execution = max(1, min(min_steps, max_steps, self.steps))
            self.model.set_steps_per_execution(self.steps_per_execution)


class ThroughputLogger(StepCounter):
    """Adds `images_per_sec` (training steps alone), `seconds` and `learning_rate` to the logs of each epoch.

    The first execution of the run traces and compiles; the throughput excludes it. This callback must precede those
    that read the logs.
    """

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._traced = False

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        super().on_epoch_begin(epoch)
        self._began = self._epoch_began = time.perf_counter()
        self._steps = 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        passed = self.passed(batch)
        if not self._traced:
            self._traced, self._began = True, time.perf_counter()
            return
        self._steps += passed
        self._ended = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        seconds = self._ended - self._began if self._steps else math.inf
        logs["images_per_sec"] = self._steps * self.batch_size / seconds
        logs["seconds"] = time.perf_counter() - self._epoch_began
        logs["learning_rate"] = optimizers.current_rate(self.model.optimizer)


class ProgressBar(StepCounter):
    """Advances a progress bar over all images of the run, and prints one line per epoch."""

    def __init__(self, advance: Callable[[int], None], epochs: int, batch_size: int) -> None:
        super().__init__()
        self._advance, self.epochs, self.batch_size = advance, epochs, batch_size

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._advance(self.passed(batch) * self.batch_size)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        console.info(
            f"epoch {epoch + 1}/{self.epochs}: loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.4f}; "
            f"validation loss {logs['val_loss']:.4f}, accuracy {logs['val_accuracy']:.4f}; "
            f"{logs['images_per_sec']:,.0f} images/s"
        )


class HistoryLogger(keras.callbacks.Callback):
    """Writes one row per epoch to a CSV file, as soon as the epoch ends.

    Args:
      path: the file; "" keeps the rows in memory alone.
      extra: further metrics.
    """

    def __init__(self, path: str, extra: Sequence[str] = ()) -> None:
        super().__init__()
        self.path = path
        self.columns = (*COLUMNS, *(prefix + name for name in extra for prefix in ("", "val_")))
        self.rows: list[dict] = []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.rows.append({"epoch": epoch + 1} | {name: float(logs[name]) for name in self.columns[1:]})
        self.write()

    def write(self) -> None:
        """Writes the whole file again: a resumed run may have fewer rows than the one that was killed."""
        if not self.path:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in self.rows)
        try:
            atomic.write_text(self.path, text.getvalue())
        except OSError as error:  # such as a full disk, which must not end the run; the next epoch writes all rows
            console.warning(f"{self.path!r} is not written: {error.strerror or error}; training continues")


class ExperimentLogger(keras.callbacks.Callback):
    """Gives the newest row of `history`, which precedes this callback, to each of `logs`."""

    def __init__(self, history: HistoryLogger, logs: Sequence[experiment_logs.GuardedLog]) -> None:
        super().__init__()
        self._history, self._logs = history, logs

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        row = {name: value for name, value in self._history.rows[-1].items() if name != "epoch"}
        for log in self._logs:
            log.epoch(epoch + 1, row)


class TensorBoardLogger(keras.callbacks.TensorBoard):
    """TensorBoard's scalars of each epoch, in `folder`."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder, write_graph=False, profile_batch=0)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Does as Keras does, but a full disk does not end the run."""
        try:
            super().on_epoch_end(epoch, logs)
        except (OSError, tf.errors.OpError) as error:
            console.warning(f"nothing for TensorBoard of epoch {epoch + 1}: {error}; training continues")

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Does nothing: Keras would take 2 ms to prepare scalars of the step, which it then does not write."""


class DivergenceError(Exception):
    """The loss is not a number, or above the limit."""


class TerminateOnDivergence(keras.callbacks.Callback):
    """Raises DivergenceError after an execution that takes the epoch's mean loss above `limit`, or makes it NaN."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if not logs["loss"] <= self.limit:
            raise DivergenceError(f"the training loss became {logs['loss']:.4g}")


class KeepBestWeights(keras.callbacks.Callback):
    """Keeps the weights of the lowest validation loss, stops early, and restores the best weights at the end.

    Args:
      patience: epochs without a lower loss after which training stops; 0: never.
      smoothing: epochs whose mean is the loss of the last one, so that an epoch is not chosen by luck where the
        validation images are few. Until there are as many, the mean is that of the epochs so far.

    Attributes:
      epoch: the best one, from 1; 0 before there is one.
      recent: the losses of the next mean, the newest last.
    """

    def __init__(self, patience: int, smoothing: int = 1) -> None:
        super().__init__()
        self.patience, self.smoothing = patience, smoothing
        self.loss, self.epoch, self.stopped = math.inf, 0, False
        self.recent: list[float] = []
        self.weights: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.recent = [*self.recent, logs["val_loss"]][-self.smoothing :]
        loss = float(np.mean(self.recent))
        if loss < self.loss or (self.epoch < self.smoothing and math.isfinite(loss)):
            self.loss, self.epoch = loss, epoch + 1
            with self._use_evaluated_weights():
                self.weights = self.model.get_weights()
        elif self.patience and epoch + 1 - self.epoch >= self.patience:
            self.model.stop_training = self.stopped = True

    def _use_evaluated_weights(self) -> contextlib.AbstractContextManager:
        """Inside, the model has the weights that were evaluated: the average of the trained ones, where it has one."""
        return self.model.swap_ema_weights() if hasattr(self.model, "swap_ema_weights") else contextlib.nullcontext()

    def on_train_end(self, logs: dict | None = None) -> None:
        if self.epoch:
            self.model.set_weights(self.weights)
