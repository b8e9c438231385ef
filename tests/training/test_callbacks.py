import errno
import math
import time

import numpy as np
import pytest

from crackflow.core import csv_files
from crackflow.core.backend import keras, tf
from crackflow.core.config.training import Optimization, TrainConfig
from crackflow.training import callbacks, trainer
from tests.helpers import small


def fit(watchers, losses=(3.0, 1.0, 2.0, 4.0), steps=3):
    """Fits a one-weight model for one epoch per item of `losses`, which become its validation losses."""
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False, input_shape=(1,))])
    model.compile(keras.optimizers.SGD(0.1), "mse", ["accuracy"])

    class Pretend(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"], logs["val_accuracy"] = losses[epoch], 0.5

    stream = tf.data.Dataset.from_tensors((np.ones((4, 1)), np.ones((4, 1)))).repeat()
    model.fit(stream, epochs=len(losses), steps_per_epoch=steps, callbacks=[Pretend(), *watchers], verbose=0)
    return model


class Remember(keras.callbacks.Callback):
    """Records the weight at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(float(self.model.get_weights()[0][0, 0]))


def test_the_best_weights_come_back_at_the_end():
    best, remember = callbacks.KeepBestWeights(patience=0), Remember()
    model = fit([remember, best])
    assert best.epoch == 2 and not best.stopped
    assert len(set(remember.weights)) == 4
    assert float(model.get_weights()[0][0, 0]) == pytest.approx(remember.weights[1])


@pytest.mark.parametrize("patience, epochs", [(1, 3), (2, 4), (3, 4)])
def test_training_stops_after_so_many_epochs_without_a_better_one(patience, epochs):
    best, remember = callbacks.KeepBestWeights(patience), Remember()
    fit([remember, best])
    assert len(remember.weights) == epochs
    assert best.stopped == (patience < 3)


def test_with_few_validation_images_an_epoch_is_chosen_by_a_running_mean():
    losses = (0.6, 2.0, 0.5, 2.0, 0.9, 0.9, 0.9)  # lucky twice, better for good later
    best, remember = callbacks.KeepBestWeights(patience=4, smoothing=3), Remember()
    model = fit([remember, best], losses)
    assert best.epoch == 7 and best.loss == pytest.approx(0.9)
    assert float(model.get_weights()[0][0, 0]) == pytest.approx(remember.weights[6])
    lucky = callbacks.KeepBestWeights(patience=4)
    fit([lucky], losses)
    assert lucky.epoch == 3 and lucky.stopped


def test_a_run_that_is_shorter_than_the_mean_has_a_best_epoch_as_well():
    best = callbacks.KeepBestWeights(patience=0, smoothing=3)
    fit([best], losses=(math.nan, 0.4))
    assert best.epoch == 0  # the mean of both is not a number
    fit([best], losses=(0.4, 0.7))
    assert best.epoch == 2


def test_a_loss_that_is_no_number_is_never_the_best():
    best = callbacks.KeepBestWeights(patience=0)
    fit([best], losses=(math.nan, math.nan))
    assert best.epoch == 0


def test_history_has_a_row_for_each_epoch_with_the_promised_columns(tmp_path):
    path = tmp_path / "history.csv"
    history = callbacks.HistoryLogger(str(path))
    fit([callbacks.ThroughputLogger(batch_size=4), history])
    rows = csv_files.read(str(path))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "images_per_sec"} <= set(rows[0])
    assert [float(row["val_loss"]) for row in rows] == [3.0, 1.0, 2.0, 4.0]
    assert float(rows[0]["learning_rate"]) == pytest.approx(0.1)


def test_the_first_step_has_no_say_in_the_speed():
    class SlowFirst(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            time.sleep(1.0 if batch == 0 and not hasattr(self, "done") else 0.05)
            self.done = True

    history = callbacks.HistoryLogger("")
    fit([SlowFirst(), callbacks.ThroughputLogger(batch_size=4), history], losses=(1.0,), steps=5)
    assert 4 / 0.05 * 0.2 < history.rows[0]["images_per_sec"] < 4 / 0.05 * 1.1


def small_trainer(steps_per_execution):
    keras.utils.set_random_seed(0)
    config = TrainConfig(data="d", run_dir="r", batch_size=4, steps_per_execution=steps_per_execution)
    return trainer.compile_trainer(small.tiny_network(), config, 60, "off")


def small_stream():
    random = np.random.default_rng(0)
    image, label = random.integers(0, 256, (40, 32, 32, 3), np.uint8), random.integers(0, 2, 40).astype(np.int32)
    return tf.data.Dataset.from_tensor_slices((image, label)).repeat().batch(4)


class Counts(callbacks.StepCounter):
    """Records the steps that each execution ran."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.passed(batch))


def test_python_is_returned_to_as_seldom_as_the_steps_are_short():
    pace, counts, model = callbacks.TuneStepsPerExecution(steps=30), Counts(), small_trainer(0)
    model.fit(small_stream(), epochs=2, steps_per_epoch=30, callbacks=[counts, pace], verbose=0)
    step = np.median(pace._times[1:])
    assert pace.steps_per_execution == min(30, math.ceil(pace.PYTHON_SECONDS / (pace.SHARE * step)), int(1 / step))
    assert pace.steps_per_execution > 1  # a step of 4 images of 32 px takes a few milliseconds
    assert counts.seen[:4] == [1, 1, 1, 1] and counts.seen[4] == min(pace.steps_per_execution, 26)
    assert sum(counts.seen) == 60


def test_long_steps_return_to_python_each_time():
    class Slow(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            time.sleep(0.65)

    pace, model = callbacks.TuneStepsPerExecution(steps=5), small_trainer(0)
    model.fit(small_stream(), steps_per_epoch=5, callbacks=[pace, Slow()], verbose=0)
    assert pace.steps_per_execution == 1


@pytest.mark.slow
def test_several_steps_at_once_learn_what_single_ones_learn():
    single, several = small_trainer(1), small_trainer(3)
    counts = Counts()
    single.fit(small_stream(), epochs=2, steps_per_epoch=10, verbose=0)
    several.fit(small_stream(), epochs=2, steps_per_epoch=10, callbacks=[counts], verbose=0)
    assert counts.seen == 2 * [3, 3, 3, 1]
    for a, b in zip(single.get_weights(), several.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_speed_counts_every_step_of_an_execution():
    rows = []
    for several in (1, 5):
        history = callbacks.HistoryLogger("")
        watchers = [callbacks.ThroughputLogger(batch_size=4), history]

        class Slow(keras.callbacks.Callback):
            def on_train_batch_begin(self, batch, logs=None, several=several):
                time.sleep(0.05 * several)  # what so many steps take

        class Validated(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                logs |= {"val_loss": 0.0, "val_accuracy": 0.0}

        model = small_trainer(several)
        model.fit(small_stream(), steps_per_epoch=20, callbacks=[Slow(), Validated(), *watchers], verbose=0)
        rows.append(history.rows[0]["images_per_sec"])
    assert rows == [pytest.approx(4 / 0.05, rel=0.4)] * 2


def test_extra_metrics_have_columns_of_their_own(tmp_path):
    assert callbacks.HistoryLogger("x", ["mcc"]).columns == (*callbacks.COLUMNS, "mcc", "val_mcc")


def test_the_best_weights_are_those_that_were_evaluated():
    keras.utils.set_random_seed(0)
    config = TrainConfig(data="d", run_dir="r", batch_size=4, optimization=Optimization(ema=0.9, learning_rate=0.02))
    model = trainer.compile_trainer(small.tiny_network(), config, 20, "off")
    best = callbacks.KeepBestWeights(patience=0)
    image, label = next(iter(small_stream()))
    val_batches = tf.data.Dataset.from_tensors((image, label, tf.ones(4)))
    history = model.fit(
        small_stream(), epochs=2, steps_per_epoch=10, validation_data=val_batches, callbacks=[best], verbose=0
    )
    # The weights are restored: they must not be averaged once more.
    model._ema_weights = []
    assert model.evaluate(val_batches, verbose=0)[0] == pytest.approx(min(history.history["val_loss"]), rel=1e-4)


def test_a_run_that_goes_on_within_an_epoch_counts_from_there():
    counting = callbacks.StepCounter()
    counting.on_epoch_begin(3)
    counting.on_train_batch_begin(7)
    assert counting.passed(9) == 3
    counting.on_train_batch_begin(10)
    assert counting.passed(10) == 1
    counting.on_epoch_begin(4)
    counting.on_train_batch_begin(0)
    assert counting.passed(4) == 5


def test_the_history_file_has_the_rows_that_are_left(tmp_path):
    path = tmp_path / "history.csv"
    history = callbacks.HistoryLogger(str(path))
    fit([callbacks.ThroughputLogger(batch_size=4), history])
    history.rows = history.rows[:2]
    history.write()
    assert [row["epoch"] for row in csv_files.read(str(path))] == ["1", "2"]
    assert [name.name for name in tmp_path.iterdir()] == ["history.csv"]


def test_a_full_disk_ends_no_run_and_is_said(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    class AddLogs(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs |= {"learning_rate": 0.1, "images_per_sec": 1.0, "seconds": 1.0}

    history, board = (
        callbacks.HistoryLogger(str(tmp_path / "history.csv")),
        callbacks.TensorBoardLogger(str(tmp_path / "board")),
    )
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.atomic, "write_text", full)
        patch.setattr(keras.callbacks.TensorBoard, "on_epoch_end", full)
        fit([AddLogs(), history, board], losses=(2.0, 1.0))
    stderr = capsys.readouterr().err
    assert stderr.count("history.csv' is not written: No space left on device; training continues") == 2
    assert "warning: nothing for TensorBoard of epoch 2: " in stderr
    history.write()
    assert len(csv_files.read(str(tmp_path / "history.csv"))) == 2
