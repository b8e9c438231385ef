"""What an earlier version made still opens, resumes and evaluates to the same figures.

artifacts/before_the_rooms.zip was written by commit 225f0f5, the last one before the package was divided into rooms
and its names were changed:

  crackflow.synth    --out=images --count=96 --image_px=48
  crackflow.convert  --images=images --out=data --encoding=jpeg
  crackflow.train    --data=data --run_dir=run NETWORK --epochs=3
  crackflow.evaluate --model=run --data=data --out=evaluated
  crackflow.train    --data=data --run_dir=stopped NETWORK --epochs=4     # SIGTERM after epoch 2
  crackflow.train    --data=data --run_dir=resumed NETWORK --epochs=4     # a copy of stopped, trained to its end
  crackflow.tune     --data=data --out=search --max_trials=2 --max_epochs=1 --image_px=32 --tuner=random --seed=3

NETWORK: --model=custom --stem=8 --widths=8,16 --repeats=0,0 --image_px=32 --batch_size=16 --deterministic --seed=3.
The search also had --hold=depth. Pages, TensorBoard files and whatever else nothing reads again were left out.
"""

import json
import zipfile

import pytest

from crackflow.core import csv_files
from tests.helpers import support

pytestmark = pytest.mark.slow

ARCHIVE = support.ROOT / "tests/artifacts/before_the_rooms.zip"
# Sums of float32 differ in their last digits between processors, and 100 steps of training let that grow.
TOLERANCE = 2e-3


@pytest.fixture
def earlier(tmp_path):
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def succeed(verb, *arguments):
    done = support.command(verb, *arguments, timeout=400)
    assert done.returncode == 0, done.stderr
    return done


def assert_alike(actual, expected, where=""):
    """Every key of `expected` is in `actual` with the same value, numbers within TOLERANCE."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert key in actual, f"{where}/{key}"
            assert_alike(actual[key], value, f"{where}/{key}")
    elif isinstance(expected, list):
        assert len(actual) == len(expected), where
        for number, pair in enumerate(zip(actual, expected, strict=True)):
            assert_alike(*pair, f"{where}/{number}")
    elif isinstance(expected, float):
        assert actual == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE), where
    else:
        assert actual == expected, where


def history(run):
    """The rows of history.csv as numbers, without seconds and speeds."""
    columns = "epoch", "loss", "accuracy", "val_loss", "val_accuracy"
    return [{name: float(row[name]) for name in columns} for row in csv_files.read(str(run / "history.csv"))]


def test_an_earlier_model_and_dataset_evaluate_to_the_same_figures(earlier):
    succeed("convert", f"--verify={earlier / 'data'}")
    out = earlier / "evaluated_again"
    succeed("evaluate", f"--model={earlier / 'run'}", f"--data={earlier / 'data'}", f"--out={out}")
    before = json.loads((earlier / "evaluated/metrics.json").read_text())
    assert_alike(json.loads((out / "metrics.json").read_text()), before)


def test_an_earlier_run_resumes_by_its_own_flagfile_to_the_same_history(earlier):
    run = earlier / "stopped"
    flags = f"--flagfile={run / 'flags.cfg'}", f"--data={earlier / 'data'}", f"--run_dir={run}"
    done = succeed("train", *flags)
    assert "stopped after step 100" in done.stdout
    assert_alike(history(run), history(earlier / "resumed"))
    before = json.loads((earlier / "resumed/metrics.json").read_text())
    assert_alike(json.loads((run / "metrics.json").read_text()), before)


def test_an_earlier_search_keeps_its_trials_and_takes_one_more(earlier):
    search = earlier / "search"
    before = csv_files.read(str(search / "trials.csv"))
    settings = "--max_epochs=1", "--image_px=32", "--tuner=random", "--seed=3", "--hold=depth"
    succeed("tune", f"--data={earlier / 'data'}", f"--out={search}", "--max_trials=3", *settings)
    after = {row["trial"]: row for row in csv_files.read(str(search / "trials.csv"))}
    assert len(after) == 3 and all(row["status"] == "completed" for row in after.values())
    assert [after[row["trial"]] for row in before] == before


def test_the_best_flags_of_an_earlier_search_train(earlier):
    out = earlier / "winner"
    flags = f"--flagfile={earlier / 'search/best.cfg'}", f"--data={earlier / 'data'}", f"--run_dir={out}", "--epochs=1"
    succeed("train", *flags)
    assert (out / "model.h5").exists()
