"""A search as a user runs it: killed, gone on with, impossible, shared by workers."""

import collections
import os
import pathlib
import signal
import subprocess
import time

import pytest

from crackflow import tune
from crackflow.core import csv_files
from crackflow.core.config.search import CHOICES, TuneConfig
from crackflow.model import model_file
from crackflow.report import search_page
from crackflow.search import search, trial
from tests.helpers import small, support
from tests.helpers.trials import outcome

pytestmark = pytest.mark.slow

SEARCHED = ("depth", "width", "learning_rate")
HELD = ",".join(sorted(set(CHOICES) - set(SEARCHED)))


def options(out, *more):
    return [
        f"--data={small.data().folder}", f"--out={out}", "--image_px=32", "--tuner=random", "--max_epochs=1",
        f"--hold={HELD}", "--speed_seconds=0.02", *more,
    ]  # fmt: skip


def started(out, *more, **environment):
    line = [support.interpreter(), "-m", "crackflow.tune", *options(out, *more)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, env=support.environment() | environment, **streams)


def wait_for(ready, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.02)


def result(out, name):
    return os.path.join(out, "trials", name, "result.json")


def content(out, name):
    return pathlib.Path(result(out, name)).read_bytes()


def writers(folder):
    """Ids of the processes that have a file under `folder` open."""
    pids = set()
    for descriptor in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = os.readlink(descriptor)
        except OSError:  # it was closed meanwhile
            continue
        if target.startswith(str(folder)):
            pids.add(int(descriptor.parts[2]))
    return pids


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """(folder, output of the last start, bytes of the first trial's result) of a search that was killed in its second
    trial and started again."""
    out = str(tmp_path_factory.mktemp("killed") / "search")
    process = started(out, "--max_trials=2")
    wait_for(lambda: os.path.exists(os.path.join(out, "trials", "1", "history.csv")), process)
    before = content(out, "0"), os.stat(result(out, "0")).st_mtime_ns
    running = writers(os.path.join(out, "trials", "1"))
    assert running, "no trial is running"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}/exe") for pid in running):
        assert time.monotonic() < deadline, "a trial outlived its search"
        time.sleep(0.02)
    assert not os.path.exists(result(out, "1"))
    done = support.command("tune", *options(out, "--max_trials=2"))
    assert done.returncode == 0, done.stderr
    return out, done, before


def test_a_search_that_was_killed_goes_on_and_no_trial_is_lost_or_repeated(killed):
    out, done, before = killed
    assert (content(out, "0"), os.stat(result(out, "0")).st_mtime_ns) == before
    assert "trial 0:" not in done.stdout and "trial 1:" in done.stdout
    assert "dry run" not in done.stdout  # that was done
    rows = csv_files.read(os.path.join(out, "trials.csv"))
    assert [row["trial"] for row in rows] == ["0", "1"]
    assert {row["status"] for row in rows} == {"completed"}
    drawn = {tuple(row[name] for name in SEARCHED) for row in rows}
    assert len(drawn) == 2


def test_it_leaves_what_it_promises(killed):
    out, done, _ = killed
    assert done.stderr == ""
    for name in ("best.cfg", "trials.csv", "pareto.png", "report.html", "search.json", "trials/0/flags.cfg"):
        assert os.path.getsize(os.path.join(out, name)), name
    assert os.listdir(os.path.join(out, "trials", "0", "tensorboard", search_page.HPARAMS))
    assert not os.path.exists(os.path.join(out, "trials", "0", "checkpoints"))
    best = max(csv_files.read(os.path.join(out, "trials.csv")), key=lambda row: float(row["score"]))
    assert f"the best of 2: trial {best['trial']}:" in done.stdout


def test_the_flagfile_trains_the_network_that_was_found(killed, tmp_path):
    out, _, _ = killed
    best = max(csv_files.read(os.path.join(out, "trials.csv")), key=lambda row: float(row["score"]))
    done = support.command("train", f"--flagfile={os.path.join(out, 'best.cfg')}", f"--run_dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    loaded = model_file.load(str(tmp_path / "run"))
    assert loaded.model.count_params() == int(best["params"]) and loaded.card.image_px == 32
    retrained, searched = (
        csv_files.read(os.path.join(run_dir, "history.csv"))
        for run_dir in (tmp_path / "run", os.path.join(out, "trials", best["trial"]))
    )
    assert float(retrained[-1]["val_loss"]) == pytest.approx(float(searched[-1]["val_loss"]), rel=2e-2)


def test_an_ended_search_changes_nothing_when_it_is_asked_for_again(killed):
    out, _, _ = killed
    before = {name: content(out, name) for name in "01"}
    done = support.command("tune", *options(out, "--max_trials=2"))
    assert done.returncode == 0 and "trial 0:" not in done.stdout.replace("the best of 2: trial 0:", "")
    assert before == {name: content(out, name) for name in "01"}


def test_other_flags_in_the_same_folder_are_a_mistake(killed):
    out, _, _ = killed
    done = support.called("tune", *options(out, "--max_trials=2", "--seed=7"))
    support.expect_one_line(done, 2, "--seed: the search in", "was begun with '0', received '7'")


def test_an_impossible_space_ends_with_the_nearest_trial(tmp_path):
    out = tmp_path / "search"
    done = support.command("tune", *options(out, "--max_trials=1", "--min_images_per_sec=1e9"))
    support.expect_one_line(
        done, 2, "--min_images_per_sec=1,000,000,000: expected a network within these limits, received none in 1 tr",
        "the nearest, trial ", "images/s, fewer than",
    )  # fmt: skip
    assert "is more than the smallest network reaches" in done.stderr
    rows = csv_files.read(str(out / "trials.csv"))
    assert [row["status"] for row in rows] == ["infeasible"]
    assert "No trial was within the limits" in (out / "report.html").read_text()
    assert not (out / "best.cfg").exists()


def test_sigterm_stops_at_a_checkpoint_and_says_that_it_goes_on(tmp_path):
    out = str(tmp_path / "search")
    process = started(out, "--max_trials=1", "--max_epochs=500")
    checkpoint_dir = os.path.join(out, "trials", "0", "checkpoints")
    wait_for(lambda: os.path.isdir(checkpoint_dir) and len(os.listdir(checkpoint_dir)) > 1, process)
    process.terminate()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 75, error
    assert error == "crackflow.tune: stopped by a signal; the same command resumes, with the trial that was running\n"
    assert os.listdir(checkpoint_dir) and not os.path.exists(result(out, "0"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """(folder, stdout, stderr) of a search of two workers of which one was killed in its first trial."""
    out = str(tmp_path_factory.mktemp("shared") / "search")
    line = [
        "bash",
        str(support.ROOT / "launch" / "tune_workers.sh"),
        "2",
        *options(out, "--max_trials=2", "--max_epochs=3"),
    ]
    environment = support.environment() | {"PYTHON": support.interpreter()}
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    wait_for(lambda: os.path.exists(os.path.join(out, "trials", "1", "history.csv")), process)
    os.kill(worker(out, "worker-1"), signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    return out, stdout, stderr


def worker(out, name):
    """The process of a worker of the search in `out`."""
    for entry in os.listdir("/proc"):
        try:
            words = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            variables = pathlib.Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        ours = f"--out={out}".encode() in words and f"KERASTUNER_TUNER_ID={name}".encode() in variables
        if ours and b"crackflow.tune" in words and b"bash" not in words[0]:
            return int(entry)
    raise AssertionError(f"{name} does not run")


def test_two_workers_share_a_search_and_each_trial_runs_once_though_one_is_killed(shared):
    out, stdout, stderr = shared
    assert "worker-1 ended with code 137; starting it again (1 of 3)" in stderr
    rows = csv_files.read(os.path.join(out, "trials.csv"))
    assert [row["trial"] for row in rows] == ["0", "1"]
    assert {row["status"] for row in rows} == {"completed"}
    assert collections.Counter(row["worker"] for row in rows).keys() == {"worker-0", "worker-1"}
    for name in "01":
        assert stdout.count(f"\ntrial {name}: ") == 1, stdout
    assert "the best of 2: trial" in stdout


def test_one_dry_run_serves_all_workers(shared):
    _, stdout, _ = shared
    assert stdout.count("a dry run first") == 1


@pytest.mark.parametrize("arguments", [[], ["x"], ["0"], ["2", "--restarts=x"]])
def test_tune_workers_says_how_it_is_used(arguments):
    line = ["bash", str(support.ROOT / "launch" / "tune_workers.sh"), *arguments]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("usage: bash launch/tune_workers.sh N")


def test_a_users_mistake_ends_all_workers_and_is_not_tried_again(tmp_path):
    line = [
        "bash",
        str(support.ROOT / "launch" / "tune_workers.sh"),
        "2",
        f"--data={tmp_path}",
        f"--out={tmp_path / 'o'}",
    ]
    environment = support.environment() | {"PYTHON": support.interpreter()}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 2, done.stderr
    assert "found no dataset.json" in done.stderr and "again (" not in done.stderr


def test_where_all_failed_there_is_no_nearest():
    failed = [outcome("0", status=trial.FAILED, score=None)]
    search_result = search.SearchResult(failed, None, None, trial.DryRun())
    message = tune.impossible(search_result, TuneConfig(data="d", out="o"))
    assert message == "expected a network, but all 1 trials failed; trials.csv says why"
