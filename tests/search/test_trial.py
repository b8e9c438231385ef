"""One trial, in this process and in a process of its own."""

import json
import os
import signal
import sys
import time

import pytest

from crackflow.core import console, csv_files
from crackflow.core.backend import keras
from crackflow.core.config.hardware import Strategy
from crackflow.core.config.search import CHOICES, Objective, TuneConfig
from crackflow.search import space, trial
from tests.helpers import small, support

pytestmark = pytest.mark.slow

HYPERPARAMETERS = space.defaults() | {"stem": 16, "depth": 2, "width": 16, "repeats": "none", "batch_size": 32}


@pytest.fixture(autouse=True)
def as_before():
    """Undoes what a trial changes in its process: the console is silent and the precision policy is set."""
    yield
    console._silent = False
    keras.mixed_precision.set_global_policy("float32")


def config(**changes):
    settings = {"data": str(small.data().folder), "out": "-", "image_px": 32, "max_epochs": 2, "speed_seconds": 0.02}
    return TuneConfig(**settings | changes)


def task(folder, name="0", **changes):
    settings = {
        "hyperparameters": HYPERPARAMETERS,
        "config": config(),
        "max_epochs": 2,
        "reference": 1000.0,
        "worker": "w",
    }
    return trial.TrialSpec(name, str(folder / name), **settings | changes)


def history(folder):
    names = ("epoch", "loss", "val_loss", "learning_rate")
    return [[float(row[name]) for name in names] for row in csv_files.read(os.path.join(folder, "history.csv"))]


def test_a_trial_trains_measures_and_writes_down_what_it_came_to(tmp_path):
    spec = task(tmp_path)
    assert trial.outcome(spec) is None
    trial.run_trial(spec)
    result = trial.outcome(spec)
    assert (result.status, result.epochs, result.worker, result.chosen) == (trial.COMPLETED, 2, "w", HYPERPARAMETERS)
    assert 0 <= result.accuracy <= 1 and result.cross_entropy > 0 and result.params > 1000
    assert result.images_per_sec > 0 and result.train_images_per_sec > 0 and result.peak_mb > 100 and result.seconds > 0
    assert result.score == trial.score(result.accuracy, result.cross_entropy, 16, 1.0, spec.config)
    assert len(history(spec.folder)) == 2


def test_a_trial_that_has_ended_is_not_run_again(tmp_path):
    spec = task(tmp_path)
    trial.save(spec.folder, trial.TrialResult("0", trial.INFEASIBLE, -0.5, message="as it was", chosen=HYPERPARAMETERS))
    trial.run_trial(spec)
    assert trial.outcome(spec).message == "as it was"


def test_a_trial_that_failed_is_tried_again_when_it_is_asked_for_again(tmp_path):
    spec = task(tmp_path)
    trial.save(spec.folder, trial.TrialResult("0", trial.FAILED, None, message="out of memory", chosen=HYPERPARAMETERS))
    trial.run_trial(spec)
    assert trial.outcome(spec).status == trial.COMPLETED


def test_the_result_of_other_choices_or_fewer_epochs_is_not_this_trials(tmp_path):
    done = trial.TrialResult("0", trial.COMPLETED, 0.5, epochs=2, chosen=HYPERPARAMETERS)
    trial.save(str(tmp_path / "0"), done)
    assert trial.outcome(task(tmp_path)) == done
    assert trial.outcome(task(tmp_path, max_epochs=1)) is None
    assert trial.outcome(task(tmp_path, hyperparameters=HYPERPARAMETERS | {"stem": 32})) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"trial": "0"}'])
def test_a_damaged_result_is_none(tmp_path, text):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "result.json").write_text(text)
    assert trial.read(str(tmp_path / "0")) is None


def test_a_longer_trial_goes_on_from_the_one_before_and_is_what_one_in_a_piece_is(tmp_path):
    trial.run_trial(task(tmp_path, "first", max_epochs=1))
    trial.run_trial(task(tmp_path, "second", parent=str(tmp_path / "first")))
    trial.run_trial(task(tmp_path, "whole"))
    first, second, whole = (history(str(tmp_path / name)) for name in ("first", "second", "whole"))
    assert len(first) == 1 and second[0] == first[0]
    assert [row[0] for row in second] == [1, 2]
    for row, expected in zip(second, whole, strict=True):
        assert row == pytest.approx(expected, rel=2e-2)


def test_a_network_outside_the_limits_is_measured_and_not_trained(tmp_path):
    slow = task(tmp_path, "slow", config=config(min_images_per_sec=1e9))
    large = task(tmp_path, "large", config=config(max_params=100))
    for spec in (slow, large):
        trial.run_trial(spec)
        assert not os.path.exists(os.path.join(spec.folder, "history.csv"))
    slow, large = trial.outcome(slow), trial.outcome(large)
    assert slow.status == large.status == trial.INFEASIBLE
    assert slow.message.endswith("images/s, fewer than --min_images_per_sec=1,000,000,000")
    assert large.message.endswith("parameters, more than --max_params=100")
    assert -1 <= slow.score < 0 and large.score == pytest.approx(100 / large.params - 1)


def test_a_trial_that_fails_says_why_and_keeps_its_traceback(tmp_path):
    spec = task(tmp_path, config=config(data=str(tmp_path / "nothing")))
    trial.run_trial(spec)
    result = trial.outcome(spec)
    assert result.status == trial.FAILED and result.score is None
    assert "expected a dataset made by crackflow.convert" in result.message
    assert "Traceback" in (tmp_path / "0" / "error.txt").read_text()


def test_accuracy_counts_first_then_cross_entropy_then_speed_only_on_request():
    plain, traded = config(), config(objective=Objective.TRADEOFF, doubling_worth=0.01)
    assert trial.score(0.91, 5.0, 100, 0.1, plain) > trial.score(0.90, 0.0, 100, 9.0, plain)
    assert trial.score(0.9, 0.1, 100, 1.0, plain) > trial.score(0.9, 0.2, 100, 2.0, plain)
    assert trial.score(0.9, 0.1, 100, 4.0, plain) == trial.score(0.9, 0.1, 100, 1.0, plain)
    gain = trial.score(0.9, 0.1, 100, 4.0, traded) - trial.score(0.9, 0.1, 100, 1.0, traded)
    assert gain == pytest.approx(0.02)
    assert trial.score(0.0, 9.0, 100, 1e-9, traded) == 0


def test_the_dry_run_measures_the_bounds_of_the_space_and_makes_the_pack(tmp_path):
    hold = tuple(set(CHOICES) - {"depth", "width"})
    trial.dry_run(config(out=str(tmp_path), hold=hold), str(tmp_path / "rehearsal.json"))
    result = trial.DryRun(**json.loads((tmp_path / "rehearsal.json").read_text()))
    assert not result.error and not result.mistake
    assert result.params[0] < result.params[1] and result.smallest > 0 and result.largest > 0 and result.reference > 0
    assert os.path.exists(os.path.join(small.data().folder, "packs", "train-32.json"))


def test_a_mistake_is_seen_in_the_dry_run(tmp_path, monkeypatch):
    path = tmp_path / "rehearsal.json"
    trial.dry_run(config(data=str(tmp_path)), str(path))
    assert "expected a dataset made by crackflow.convert" in path.read_text()
    monkeypatch.setattr(trial.job, "build_training", lambda *_, **__: 1 / 0)
    trial.dry_run(config(), str(path))
    assert "Traceback" in path.read_text() and "ZeroDivisionError" in path.read_text()


# Processes.


def wait_and_say(path):
    """Runs in another process: writes its process ID, and waits."""
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(600)


@pytest.fixture
def warm(monkeypatch):
    """The process of a trial has TensorFlow loaded already."""
    monkeypatch.setattr(sys, "executable", support.interpreter())


def appeared(path, seconds=60):
    deadline = time.monotonic() + seconds
    while not (os.path.exists(path) and os.path.getsize(path)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_process_that_is_left_while_it_runs_is_ended(tmp_path):
    with pytest.raises(KeyboardInterrupt), trial.process(wait_and_say, str(tmp_path / "said")) as process:
        appeared(tmp_path / "said")
        raise KeyboardInterrupt
    assert process.returncode == -signal.SIGTERM


def test_a_folder_in_the_hands_of_another_process_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "LOCK_SECONDS", 0.1)
    with trial.trial_lock(str(tmp_path)):
        with pytest.raises(trial.UserError, match="in the hands of another process; give every worker a KERASTUNER"):
            with trial.trial_lock(str(tmp_path)):
                pass
    with trial.trial_lock(str(tmp_path)):
        pass


def test_a_trial_takes_all_devices_of_its_process_and_no_other_host(tmp_path, monkeypatch, warm):
    """Two virtual CPU devices, as two GPUs would be; TF_CONFIG names another host, which does not exist."""
    cluster = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    spec = task(tmp_path, config=config(strategy=Strategy.MIRRORED, cpu_devices=2, max_epochs=1), max_epochs=1)
    with trial.process(trial.run_trial, spec) as process:
        process.wait(120)
    assert process.returncode == 0
    result = trial.outcome(spec)
    assert (result.status, result.epochs, result.message) == (trial.COMPLETED, 1, "")


def test_a_dry_run_takes_any_number_of_devices(tmp_path, warm):
    """Three devices, which cannot share a batch of 32 equally, and two networks on them in turn."""
    hold = tuple(set(CHOICES) - {"width", "batch_size"})
    settings = config(strategy=Strategy.MIRRORED, cpu_devices=3, out=str(tmp_path), hold=hold)
    with trial.process(trial.dry_run, settings, str(tmp_path / "rehearsal.json")) as process:
        process.wait(120)
    result = trial.DryRun(**json.loads((tmp_path / "rehearsal.json").read_text()))
    assert (result.mistake, result.error, result.replicas) == ("", "", 3)
    assert 0 < result.params[0] < result.params[1]
