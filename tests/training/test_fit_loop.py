"""A run that is interrupted, restored and diverges, in this process, on a few synthetic images."""

import contextlib
import os
import signal

import numpy as np
import pytest

from crackflow.core import csv_files, distribution
from crackflow.core.backend import keras, tf
from crackflow.core.config.augmentation import Augment, Augmentation
from crackflow.core.config.network import Architecture, Network
from crackflow.core.config.training import Optimization, Optimizer, Safety, TrainConfig
from crackflow.core.errors import RetryableError, UserError
from crackflow.core.runtime import AutoChoice
from crackflow.model import networks
from crackflow.training import callbacks, checkpoint, fit_loop, trainer
from tests.helpers import small
from tests.helpers.support import with_addons

STEPS, BATCH, IMAGE_PX = 5, 8, 32
WIDER = Architecture(stem=8, widths=(16,), repeats=(0,))
ALONE = distribution.Cluster(None, AutoChoice("one", ""))


def config(run_dir, **changes):
    settings = {
        "optimization": Optimization(learning_rate=0.003, ema=0.9),
        "augmentation": Augmentation(augment=Augment.D4),
        "epochs": 3,
        "early_stopping_epochs": 0,
        "model": Network.CUSTOM,
        "architecture": small.TINY,
    }
    return TrainConfig(data="d", run_dir=str(run_dir), batch_size=BATCH, **settings | changes)


def images(count, seed):
    """Cracked images are slightly brighter: not all can be told apart, so that metrics differ."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, count).astype(np.int32)
    image = random.integers(0, 250, (count, IMAGE_PX, IMAGE_PX, 3)) + 5 * label[:, None, None, None]
    return image.astype(np.uint8), label


def batches_from(step):
    image, label = images(STEPS * BATCH, 0)
    ds = tf.data.Dataset.from_tensor_slices((image, label)).batch(BATCH, drop_remainder=True)
    return ds.repeat().skip(step)


def val_batches():
    image, label = images(16, 1)
    return tf.data.Dataset.from_tensor_slices((image, label, np.ones(16, np.float32))).batch(BATCH)


def new_fit(settings, policy="float32", xla="off"):
    keras.mixed_precision.set_global_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        network = networks.get_model_spec(settings.model, settings.architecture).build(IMAGE_PX)
        model = trainer.compile_trainer(network, settings, STEPS * settings.epochs, xla)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    return fit_loop.FitLoop(model, settings, STEPS, ALONE, {"who": "test"})


def run(fit):
    os.makedirs(fit.config.run_dir, exist_ok=True)
    return fit.run(batches_from, val_batches(), 2)


class Raise(keras.callbacks.Callback):
    """Sends a signal to this process after a step of an epoch."""

    def __init__(self, epoch, batch, number=signal.SIGTERM):
        super().__init__()
        self.at, self.number = (epoch, batch), number

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            signal.raise_signal(self.number)


@contextlib.contextmanager
def with_callback(monkeypatch, watcher):
    """Inside, `watcher` is the first callback of every fit."""
    plain = trainer.Trainer.fit

    def fit(self, *arguments, callbacks, **settings):
        return plain(self, *arguments, callbacks=[watcher, *callbacks], **settings)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "fit", fit)
        yield


def interrupt_and_restore(monkeypatch, settings, epoch, batch, policy="float32", number=signal.SIGTERM):
    """Stops a run with a signal and restores it into a new model."""
    fit = new_fit(settings, policy)
    with (
        with_callback(monkeypatch, Raise(epoch, batch, number)),
        pytest.raises(RetryableError, match="stopped by a signal after step"),
    ):
        run(fit)
    again = new_fit(settings, policy)
    again.restore(checkpoint.latest(os.path.join(settings.run_dir, "checkpoints")).snapshot)
    return again


def assert_same_state(a, b):
    expected, actual = a.model.state(), b.model.state()
    assert expected.keys() == actual.keys()
    for name, variable in expected.items():
        if not name.startswith("metric/"):
            np.testing.assert_array_equal(variable.numpy(), actual[name].numpy(), err_msg=name)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(FitLoop, TrainingResult) of an uninterrupted run."""
    fit = new_fit(config(tmp_path_factory.mktemp("undisturbed") / "run", steps_per_execution=1))
    return fit, run(fit)


@pytest.mark.slow
@pytest.mark.parametrize("epoch, batch", [(0, 0), (1, 2), (1, STEPS - 1)])
def test_a_run_that_is_stopped_goes_on_to_the_same_end(tmp_path, monkeypatch, undisturbed, epoch, batch):
    settings = config(tmp_path / "one", steps_per_execution=1)
    uninterrupted, expected_result = undisturbed
    fit = interrupt_and_restore(monkeypatch, settings, epoch, batch)
    assert fit.step == epoch * STEPS + batch + 1
    result = run(fit)
    assert_same_state(fit, uninterrupted)
    assert result.best_epoch == expected_result.best_epoch
    for row, expected in zip(result.history, expected_result.history, strict=True):
        for name in ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
            assert row[name] == expected[name], name
    assert csv_files.read(str(tmp_path / "one" / "history.csv"))[-1]["epoch"] == "3"


@pytest.mark.slow
# One of each kind: Keras' own (the other tests use adamw), one of tensorflow-addons, one that wraps another.
@pytest.mark.parametrize(
    "optimizer",
    [Optimizer.SGD, *(pytest.param(name, marks=with_addons) for name in (Optimizer.LAMB, Optimizer.MOVING_AVERAGE))],
)
def test_every_kind_of_optimizer_goes_on_as_it_was(tmp_path, monkeypatch, optimizer):
    optimization = Optimization(optimizer=optimizer, learning_rate=0.003)
    settings = config(tmp_path / "one", optimization=optimization, steps_per_execution=1, epochs=2)
    uninterrupted = new_fit(settings)
    run(uninterrupted)
    for name in checkpoint.names(str(tmp_path / "one" / "checkpoints")):
        os.remove(tmp_path / "one" / "checkpoints" / name)
    fit = interrupt_and_restore(monkeypatch, settings, 1, 1)
    run(fit)
    assert_same_state(fit, uninterrupted)


@pytest.mark.slow
def test_the_scale_of_the_loss_goes_on_as_it_was(tmp_path, monkeypatch):
    settings = config(tmp_path / "one", steps_per_execution=1, epochs=2)
    uninterrupted = new_fit(config(tmp_path / "whole", steps_per_execution=1, epochs=2), "mixed_float16")
    run(uninterrupted)
    fit = interrupt_and_restore(monkeypatch, settings, 1, 1, "mixed_float16")
    run(fit)
    assert_same_state(fit, uninterrupted)
    assert int(fit.model.optimizer.dynamic_counter) == 2 * STEPS


@pytest.mark.slow
@pytest.mark.parametrize("xla", ["off", "on"])
def test_dropout_goes_on_as_it_was_and_a_seed_decides_it(tmp_path, monkeypatch, xla):
    design = Architecture(stem=16, widths=(16,), repeats=(0,), dropout=0.5)
    settings = {"model": Network.CUSTOM, "architecture": design, "steps_per_execution": 1, "epochs": 2}
    uninterrupted = [run(new_fit(config(tmp_path / name, **settings), xla=xla)).history for name in "ab"]
    assert [row["loss"] for row in uninterrupted[0]] == pytest.approx(
        [row["loss"] for row in uninterrupted[1]], rel=1e-5
    )
    stopped = config(tmp_path / "c", **settings)
    with with_callback(monkeypatch, Raise(0, 2)), pytest.raises(RetryableError):
        run(new_fit(stopped, xla=xla))
    fit = new_fit(stopped, xla=xla)
    fit.restore(checkpoint.latest(str(tmp_path / "c" / "checkpoints")).snapshot)
    assert [row["loss"] for row in run(fit).history] == pytest.approx(
        [row["loss"] for row in uninterrupted[0]], rel=1e-5
    )


def test_the_best_weights_of_before_the_interruption_count(tmp_path, monkeypatch):
    settings = config(tmp_path, optimization=Optimization(learning_rate=0.003), steps_per_execution=1)
    fit = interrupt_and_restore(monkeypatch, settings, 1, 2)
    assert fit.best.epoch == 1
    fit.best.loss = -1.0  # nothing later is better
    best = fit.best.weights
    run(fit)
    for expected, actual in zip(best, fit.model.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, actual)


def test_a_run_that_was_stopped_early_stays_stopped(tmp_path):
    fit = new_fit(config(tmp_path))
    run(fit)
    fit.best.stopped, fit.step = True, 4 * STEPS  # of a run that was to be longer
    fit.save()
    again = new_fit(config(tmp_path))
    again.restore(checkpoint.latest(str(tmp_path / "checkpoints")).snapshot)
    result = run(again)
    assert result.stopped and result.history == fit.history.rows


def test_a_second_signal_is_heard_at_once(tmp_path, monkeypatch):
    class Twice(Raise):
        def on_train_batch_end(self, batch, logs=None):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever runs the tests may ignore it
    try:
        with with_callback(monkeypatch, Twice(0, 0)), pytest.raises(KeyboardInterrupt):
            run(new_fit(config(tmp_path)))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    run(new_fit(config(tmp_path, epochs=1)))
    fit = new_fit(config(tmp_path, epochs=1, architecture=WIDER))
    before = fit.model.get_weights()
    with pytest.raises(UserError, match=r"is of another network: expected .* of shape .*, received .*; choose another"):
        fit.restore(checkpoint.latest(str(tmp_path / "checkpoints")).snapshot)
    for expected, actual in zip(before, fit.model.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, actual)


class Spoil(keras.callbacks.Callback):
    """Makes a weight NaN before some step, or after it, `times` times."""

    def __init__(self, epoch, batch, times, after=False):
        super().__init__()
        self.at, self.times, self.after = (epoch, batch), times, after

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self.spoil(batch, not self.after)

    def on_train_batch_end(self, batch, logs=None):
        self.spoil(batch, self.after)

    def spoil(self, batch, now):
        if now and (self.epoch, batch) == self.at and self.times:
            self.times -= 1
            weight = self.model.get_layer("logit").kernel
            weight.assign(tf.fill(weight.shape, np.nan))


def test_a_run_that_diverges_goes_back_with_half_the_rate(tmp_path, monkeypatch, capsys, undisturbed):
    fit = new_fit(config(tmp_path, steps_per_execution=1))
    with with_callback(monkeypatch, Spoil(1, 2, times=1)):
        result = run(fit)
    stderr = capsys.readouterr().err
    assert "warning: the training loss became" in stderr
    assert "back to step 5 with 0.5 of the learning rate (1 of 3 times)" in stderr
    assert [row["epoch"] for row in result.history] == [1, 2, 3] and fit.rollbacks == 1
    uninterrupted = undisturbed[1].history
    assert result.history[0]["learning_rate"] == uninterrupted[0]["learning_rate"]
    assert result.history[1]["learning_rate"] == pytest.approx(uninterrupted[1]["learning_rate"] / 2)
    snapshot = checkpoint.latest(str(tmp_path / "checkpoints")).snapshot
    assert snapshot.metadata["rollbacks"] == 1  # so that a kill keeps it


def test_weights_that_are_no_numbers_are_never_a_checkpoint(tmp_path, monkeypatch, capsys):
    """After the last step of an epoch, where no loss shows them."""
    fit = new_fit(config(tmp_path, steps_per_execution=1))
    with with_callback(monkeypatch, Spoil(1, 4, times=1, after=True)):
        result = run(fit)
    assert "warning: a weight is no number any more near step 10; back to step 5 with 0.5" in capsys.readouterr().err
    assert [row["epoch"] for row in result.history] == [1, 2, 3] and fit.rollbacks == 1
    assert all(np.isfinite(row["val_loss"]) for row in result.history)


def test_a_checkpoint_that_diverges_again_is_given_up_for_the_one_before(tmp_path):
    fit = new_fit(config(tmp_path, epochs=2))
    run(fit)
    checkpoint_dir = str(tmp_path / "checkpoints")
    steps = []
    for _ in range(3):
        fit._roll_back(callbacks.DivergenceError("the training loss became 99"))
        steps.append((fit.step, fit.rollbacks, checkpoint.names(checkpoint_dir)))
    both_names = ["step-000000005.npz", "step-000000010.npz"]
    assert steps == [(10, 1, both_names), (5, 2, both_names[:1]), (5, 3, both_names[:1])]
    assert checkpoint.latest(checkpoint_dir).snapshot.metadata["rollbacks"] == 3


def test_a_run_that_diverges_again_and_again_ends_with_advice(tmp_path, monkeypatch):
    settings = config(tmp_path, safety=Safety(rollbacks=2), steps_per_execution=1)
    with (
        with_callback(monkeypatch, Spoil(1, 2, times=9)),
        pytest.raises(
            UserError,
            match=r"training diverged after 2 attempts with a smaller rate: .*; lower --learning_rate, or set --cl",
        ),
    ):
        run(new_fit(settings))


def test_without_a_checkpoint_a_run_that_diverges_ends(tmp_path, monkeypatch):
    fit = new_fit(config(tmp_path, safety=Safety(rollbacks=0), steps_per_execution=1))
    with (
        with_callback(monkeypatch, Spoil(0, 1, times=1)),
        pytest.raises(UserError, match="training diverged after 0 attempts"),
    ):
        run(fit)


class TwoWorkers(distribution.Cluster):
    """Two workers that gather the same numbers; `calls`: what happened, in order."""

    def all_gather(self, numbers):
        self.calls.append("gathered")
        return np.asarray([numbers] * self.workers)


def with_two_workers(fit, worker):
    fit.cluster = TwoWorkers(None, AutoChoice("multiworker", ""), worker, 2)
    object.__setattr__(fit.cluster, "calls", [])
    return fit


@pytest.mark.parametrize("time", [1, 2])
def test_a_worker_lost_at_any_checkpoint_means_try_again(tmp_path, time):
    """Also at the first checkpoint, before the first step: reading the statistics of BatchNorm needs all workers."""
    fit, calls = with_two_workers(new_fit(config(tmp_path, epochs=1)), 0), []
    uninterrupted = fit.snapshot

    def lose_worker():
        calls.append(1)
        if len(calls) == time:
            raise tf.errors.UnavailableError(None, None, "Collective ops is aborted by: Socket closed")
        return uninterrupted()

    fit.snapshot = lose_worker
    with pytest.raises(
        RetryableError, match=r"worker 0 of 2 lost another one \(UnavailableError: Collective ops is aborted"
    ):
        run(fit)


def test_nobody_leaves_before_the_chief_has_written(tmp_path, monkeypatch):
    """SLURM ends the other workers as soon as one has exited."""
    fit = with_two_workers(new_fit(config(tmp_path, epochs=2, steps_per_execution=1)), 0)
    save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda *args: (save(*args), fit.cluster.calls.append("written")))
    with (
        with_callback(monkeypatch, Raise(0, 2)),
        pytest.raises(RetryableError, match="stopped by a signal after step 3 of 10"),
    ):
        run(fit)
    assert fit.cluster.calls[-2:] == ["written", "gathered"]


@pytest.mark.slow
def test_a_run_goes_on_with_a_scaled_loss_or_without(tmp_path):
    """Trials of a search, on GPUs that compute in float16 and GPUs that compute in bfloat16."""
    scaled = new_fit(config(tmp_path / "one", epochs=1), "mixed_float16")
    run(scaled)
    plain = new_fit(config(tmp_path / "two", epochs=1), "mixed_bfloat16")
    run(plain)
    for begun, policy in ((scaled, "mixed_bfloat16"), (plain, "mixed_float16")):
        fit = new_fit(config(tmp_path / policy, epochs=2), policy)
        fit.restore(begun.snapshot())
        assert len(run(fit).history) == 2


def test_a_full_disk_does_not_end_the_run_and_is_told(tmp_path, monkeypatch, capsys):
    def full(folder, snapshot):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    result = run(new_fit(config(tmp_path, epochs=1)))
    assert len(result.history) == 1
    stderr = capsys.readouterr().err
    assert (
        "warning: no checkpoint at step 0: No space left on device; training continues, and there is none yet" in stderr
    )


def test_checkpoints_come_within_an_epoch_when_it_is_long(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(checkpoint, "save", lambda folder, snapshot: saved.append(snapshot.step))
    run(new_fit(config(tmp_path, epochs=1, safety=Safety(checkpoint_minutes=1e-9), steps_per_execution=2)))
    assert saved == [0, 2, 4, 5]


def test_a_guard_lets_a_high_loss_pass_below_its_limit():
    guard = callbacks.TerminateOnDivergence(20)
    guard.on_train_batch_end(0, {"loss": 19.9})
    for loss in (20.1, float("inf"), float("nan")):
        with pytest.raises(callbacks.DivergenceError, match="the training loss became"):
            guard.on_train_batch_end(0, {"loss": loss})


@pytest.mark.slow
def test_a_fit_that_ends_earlier_has_the_rates_of_the_whole_run(tmp_path):
    uninterrupted = run(new_fit(config(tmp_path / "whole"))).history
    settings = config(tmp_path / "part")
    fit = new_fit(settings)
    fit.epochs = 2
    shortened = run(fit).history
    assert len(uninterrupted) == 3 and len(shortened) == 2
    for row, expected in zip(shortened, uninterrupted, strict=False):
        assert row["learning_rate"] == expected["learning_rate"]
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-3)


def test_workers_that_see_different_checkpoints_after_a_divergence_begin_again(tmp_path, monkeypatch):
    fit = new_fit(config(tmp_path))
    os.makedirs(tmp_path, exist_ok=True)
    fit.save()
    monkeypatch.setattr(distribution.Cluster, "all_gather", lambda self, own: np.array([own, [7]]))
    with pytest.raises(RetryableError, match=r"the workers see different checkpoints in .*, of steps \[0, 7\]"):
        fit._roll_back(callbacks.DivergenceError("the training loss became nan"))


def test_the_limit_of_the_loss_is_weighed_as_the_loss_is(tmp_path):
    heavy = Optimization(learning_rate=0.003, class_weights=(1.0, 100.0))
    fit = new_fit(config(tmp_path, optimization=heavy, epochs=1))
    first = run(fit).history[0]["loss"]
    assert first > fit.config.safety.loss_limit and not fit.rollbacks
