import math
import time

import numpy as np
import pytest

from crackflow.core import tables
from crackflow.core.backend import keras, tf
from crackflow.run import callbacks


def fit(watchers, losses=(3.0, 1.0, 2.0, 4.0), steps=3):
    """A one-weight model through one epoch for each of `losses`, which become its validation losses."""
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False, input_shape=(1,))])
    model.compile(keras.optimizers.SGD(0.1), "mse", ["accuracy"])

    class Pretend(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"], logs["val_accuracy"] = losses[epoch], 0.5

    stream = tf.data.Dataset.from_tensors((np.ones((4, 1)), np.ones((4, 1)))).repeat()
    model.fit(stream, epochs=len(losses), steps_per_epoch=steps, callbacks=[Pretend(), *watchers], verbose=0)
    return model


class Remember(keras.callbacks.Callback):
    """The weight at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(float(self.model.get_weights()[0][0, 0]))


def test_the_best_weights_come_back_at_the_end():
    best, remember = callbacks.Best(patience=0), Remember()
    model = fit([remember, best])
    assert best.epoch == 2 and not best.stopped
    assert len(set(remember.weights)) == 4
    assert float(model.get_weights()[0][0, 0]) == pytest.approx(remember.weights[1])


@pytest.mark.parametrize("patience, epochs", [(1, 3), (2, 4), (3, 4)])
def test_training_stops_after_so_many_epochs_without_a_better_one(patience, epochs):
    best, remember = callbacks.Best(patience), Remember()
    fit([remember, best])
    assert len(remember.weights) == epochs
    assert best.stopped == (patience < 3)


def test_a_loss_that_is_no_number_is_never_the_best():
    best = callbacks.Best(patience=0)
    fit([best], losses=(math.nan, math.nan))
    assert best.epoch == 0


def test_history_has_a_row_for_each_epoch_with_the_promised_columns(tmp_path):
    path = tmp_path / "history.csv"
    history = callbacks.History(str(path))
    fit([callbacks.Speed(batch_size=4), history])
    rows = tables.read(str(path))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "images_per_sec"} <= set(rows[0])
    assert [float(row["val_loss"]) for row in rows] == [3.0, 1.0, 2.0, 4.0]
    assert float(rows[0]["learning_rate"]) == pytest.approx(0.1)


def test_the_first_step_has_no_say_in_the_speed():
    class SlowFirst(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            time.sleep(1.0 if batch == 0 and not hasattr(self, "done") else 0.05)
            self.done = True

    history = callbacks.History("/dev/null")
    fit([SlowFirst(), callbacks.Speed(batch_size=4), history], losses=(1.0,), steps=5)
    assert 4 / 0.05 * 0.2 < history.rows[0]["images_per_sec"] < 4 / 0.05 * 1.1
