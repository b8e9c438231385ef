"""Train and evaluate as a user runs them: as commands, on a small dataset."""

import copy
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from crackflow import train
from crackflow.core import csv_files
from crackflow.core.backend import keras
from crackflow.core.config.network import Architecture, Network, Padding
from crackflow.core.config.threshold import ThresholdRule
from crackflow.core.config.training import Input, Optimization, TrainConfig
from crackflow.core.errors import UserError
from crackflow.evaluation import scoring, thresholds
from crackflow.model import model_file, networks, ood
from crackflow.pipeline import tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from crackflow.training import checkpoint, job
from tests.helpers import schemas, small, support
from tests.helpers.support import command, with_addons, without_addons

pytestmark = pytest.mark.slow

METRICS = (
    "accuracy balanced_accuracy precision recall specificity f1 mcc roc_auc pr_auc ece threshold n confusion"
).split()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A finished run of three epochs at 32 px."""
    run = tmp_path_factory.mktemp("runs") / "run"
    decisions = "--threshold=cost:5", "--review=0.2", "--mm_per_px=0.25"
    sizes = "--model=crackflow_xs", "--image_px=32", "--epochs=3", "--batch_size=16", "--min_steps_per_epoch=4"
    done = command("train", f"--data={small.data().folder}", f"--run_dir={run}", *sizes, *decisions)
    assert done.returncode == 0, done.stderr
    assert "epoch 3/3" in done.stdout and "images/s" in done.stdout and "precision" in done.stdout
    # With sixteen validation images it may warn that they prove nothing.
    assert all(line.startswith("WARNING: ") for line in done.stderr.splitlines()), done.stderr
    return run


def test_a_run_leaves_what_it_promises(run_dir):
    names = {path.name for path in run_dir.iterdir()}
    assert names == {
        "checkpoints",
        "flags.cfg",
        "history.csv",
        "metrics.json",
        "model.h5",
        "report.html",
        "tensorboard",
    }
    assert list((run_dir / "tensorboard").rglob("events.out.tfevents.*"))


def test_the_mask_head_is_in_the_model_and_evaluation_batches_fit_one_device(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "EVAL_BATCH_SIZE", 4)
    sizes = []

    def noting(name, at):
        plain = getattr(tfrecord_loader, name)
        monkeypatch.setattr(
            tfrecord_loader,
            name,
            lambda *args, **kwargs: (sizes.append(args[at].batch_size), plain(*args, **kwargs))[1],
        )

    noting("eval_batches", 2)  # the position of its BatchSpec
    noting("sample_batches", 3)
    design = Architecture(stem=8, widths=(16,), repeats=(0,), padding=Padding.SAME)  # 32 px in 8 x 8 cells
    asked = TrainConfig(
        data=small.data().folder,
        run_dir=str(tmp_path / "run"),
        model=Network.CUSTOM,
        architecture=design,
        image_px=32,
        epochs=1,
        batch_size=16,
        input=Input.STREAM,
        min_steps_per_epoch=4,
        optimization=Optimization(mask_weight=1.0),
    )
    train.run(asked)
    assert sizes[0] == 16 and set(sizes[1:]) == {4}  # the first is that of the fit, shared by all devices
    last = checkpoint.latest(str(tmp_path / "run" / "checkpoints")).snapshot.arrays
    (kernel,) = (array for name, array in last.items() if name.startswith("weight/") and "cells/kernel" in name)
    np.testing.assert_array_equal(model_file.load(str(tmp_path / "run")).locator.weights, kernel.ravel())


def test_history_has_a_row_for_each_epoch(run_dir):
    rows = csv_files.read(str(run_dir / "history.csv"))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert all(float(row["images_per_sec"]) > 0 for row in rows)


def test_the_model_knows_all_that_its_user_needs(run_dir):
    card = model_file.load(str(run_dir)).card
    dataset = small.data()
    assert card.classes == dataset.classes and card.fingerprint == dataset.metadata["fingerprint"]
    assert card.image_px == 32 and 0 < card.threshold < 1 and card.versions["tensorflow"].startswith("2.")


def test_decisions_are_fitted_on_validation_images_by_the_rule_asked_for(run_dir):
    loaded, dataset = model_file.load(str(run_dir)), small.data()
    batches = tfrecord_loader.eval_batches(dataset, "val", BatchSpec(16, 32, 3))
    labels, logits = scoring.predict_logits(loaded.model, batches)
    temperature = thresholds.fit_temperature(labels, logits)
    probabilities = model_file.to_probabilities(logits, temperature)
    more, logits = scoring.predict_logits(
        loaded.model, scoring.in_eight_orientations(batches)
    )  # of eight images of each class
    rule = ThresholdRule.parse("cost:5")
    threshold = thresholds.choose_threshold(more, model_file.to_probabilities(logits, temperature), rule)
    threshold = thresholds.shrunk(threshold, rule, 8)
    card = loaded.card
    assert card.threshold_rule == "cost:5" and card.temperature == pytest.approx(temperature, rel=1e-3)
    assert card.threshold == pytest.approx(threshold, abs=1e-3)
    assert card.review == pytest.approx(thresholds.abstention_band(probabilities, threshold, 0.2), abs=1e-3)
    assert card.review[0] < card.threshold < card.review[1]


def test_the_model_knows_what_its_training_images_looked_like(run_dir):
    loaded, dataset = model_file.load(str(run_dir)), small.data()
    assert loaded.card.source_px == dataset.source_px == 64 and loaded.card.mm_per_px == 0.25
    looks = ood.FeatureStatistics(loaded.model)
    known = scoring.map_batches(looks, tfrecord_loader.eval_batches(dataset, "val", BatchSpec(16, 32, 3)))
    assert (loaded.familiarity.distances(known) > loaded.familiarity.limit).mean() <= 0.1
    noise = looks(np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8))
    assert np.median(loaded.familiarity.distances(noise)) > loaded.familiarity.limit
    images = np.concatenate(
        [image.numpy() for image, _ in tfrecord_loader.sample_batches(dataset, "train", 10**6, BatchSpec(16, 32, 3, 0))]
    )
    assert 0 < loaded.card.brightness == pytest.approx(images.mean(), rel=1e-6)


def test_plain_keras_loads_the_model(run_dir):
    model = keras.models.load_model(run_dir / "model.h5", compile=False)
    assert model.predict_on_batch(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2,)


def test_the_report_is_one_page_with_the_run_inside(run_dir):
    page = (run_dir / "report.html").read_text()
    fingerprint = small.data().metadata["fingerprint"][:12]
    for wanted in ("crackflow_xs", "--epochs=3", "tensorflow", fingerprint):
        assert wanted in page
    assert 'src="http' not in page and 'href="http' not in page


def test_flags_replay_the_run_to_the_same_weights(run_dir, tmp_path):
    done = command("train", f"--flagfile={run_dir / 'flags.cfg'}", f"--run_dir={tmp_path / 'again'}")
    assert done.returncode == 0, done.stderr
    original_weights, replayed_weights = (
        model_file.load(str(path)).model.get_weights() for path in (run_dir, tmp_path / "again")
    )
    for original, replayed in zip(original_weights, replayed_weights, strict=True):
        np.testing.assert_allclose(original, replayed, atol=2e-3)  # threads sum in another order


def test_a_run_folder_in_use_is_one_line_and_exit_2(run_dir):
    before = (run_dir / "model.h5").read_bytes()
    asked = f"--data={small.data().folder}", f"--run_dir={run_dir}", "--model=crackflow_xs"
    done = support.called("train", *asked)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "was started with --image_px=32, received --image_px=0; repeat its flags (--flagfile=" in done.stderr
    assert (run_dir / "model.h5").read_bytes() == before


def test_a_damaged_manifest_is_found_out_before_the_training(tmp_path):
    shutil.copytree(small.data().folder, tmp_path / "data")
    lines = (tmp_path / "data/manifest.csv").read_text().splitlines(keepends=True)
    (tmp_path / "data/manifest.csv").write_text("".join(lines[:-1]))
    done = support.called("train", f"--data={tmp_path / 'data'}", f"--run_dir={tmp_path / 'run'}", "--image_px=32")
    assert done.returncode == 2 and "manifest.csv' does not fit the shards" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_data_set_is_one_line_and_exit_2(tmp_path):
    done = support.called("train", f"--data={tmp_path}", f"--run_dir={tmp_path / 'run'}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "found no dataset.json" in done.stderr and "python -m crackflow.convert" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def evaluated(run_dir, tmp_path_factory):
    """What crackflow.evaluate writes about that run."""
    out = tmp_path_factory.mktemp("evaluated") / "test"
    done = command("evaluate", f"--model={run_dir}", f"--data={small.data().folder}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    return out


def test_evaluation_writes_the_promised_keys_and_files(evaluated):
    out = evaluated
    measured = json.loads((out / "metrics.json").read_text())
    schemas.require_valid("metrics.json", measured)
    intervals = [f"{name}_ci95" for name in ("accuracy", "precision", "recall", "f1", "roc_auc")]
    assert set(METRICS + intervals) <= set(measured)
    assert measured["n"] == small.data().count("test") == sum(measured["confusion"].values())
    for name in ("confusion.png", "roc.png", "precision_recall.png", "scores.png", "calibration.png", "report.html"):
        assert (out / name).stat().st_size > 1000
    wrong = measured["confusion"]["fp"] + measured["confusion"]["fn"]
    assert len(csv_files.read(str(out / "errors.csv"))) == min(wrong, 24)


def test_evaluation_repeats_what_training_reported(run_dir, evaluated):
    ours = json.loads((run_dir / "metrics.json").read_text())
    theirs = json.loads((evaluated / "metrics.json").read_text())
    assert ours["confusion"] == theirs["confusion"] and ours["threshold"] == theirs["threshold"]


def test_a_run_says_that_its_figures_are_of_a_test_and_which_images_it_has_seen(run_dir):
    measured = json.loads((run_dir / "metrics.json").read_text())
    assert (measured["split"], measured["basis"]) == ("test", "test")
    assert measured["training_overlap"] == {"n": 16, "trained_on": 0, "validated_on": 0, "without": None}
    seen = model_file.load(str(run_dir)).training_images
    assert (len(seen.trained), len(seen.validated)) == (64, 16)


def test_without_a_test_split_figures_are_of_validation_and_a_model_knows_its_start(run_dir, tmp_path, capsys):
    bare = support.converted(support.photos(tmp_path / "photos", 24), tmp_path / "bare", split=(0.5, 0.5, 0.0))
    run = tmp_path / "run"
    settings = {"weights": str(run_dir), "epochs": 1, "batch_size": 4, "min_steps_per_epoch": 3}
    train.run(TrainConfig(data=str(tmp_path / "bare"), run_dir=str(run), **settings))
    basis = "validation, on which threshold, temperature and epoch were chosen"
    measured = json.loads((run / "metrics.json").read_text())
    assert (measured["split"], measured["basis"]) == ("val", basis)
    assert measured["training_overlap"]["validated_on"] == measured["n"] == bare["splits"]["val"]["count"]
    said = capsys.readouterr().out
    assert f"no test split: accuracy {measured['accuracy']:.4f} on {basis}; at threshold" in said
    assert "test accuracy" not in said and "training data" not in said
    assert f"accuracy on {basis}" in (run / "report.html").read_text()
    assert {"--image_px=32", f"--weights={run_dir}"} <= set((run / "flags.cfg").read_text().split())
    seen = model_file.load(str(run)).training_images
    assert len(seen.trained) == 80 + bare["splits"]["train"]["count"]


def test_several_data_sets_are_measured_at_once(run_dir, tmp_path):
    sets = [small.data().folder, small.data("raw").folder]
    done = support.called(
        "evaluate", f"--model={run_dir}", "--data=" + ",".join(sets), "--split=all", f"--out={tmp_path / 'o'}"
    )
    assert done.returncode == 0, done.stderr
    schemas.require_valid("metrics.json", tmp_path / "o" / "metrics.json")
    metrics_by_dataset = json.loads((tmp_path / "o" / "metrics.json").read_text())["datasets"]
    assert set(metrics_by_dataset) == {"data-jpeg-0", "data-raw-0"}
    assert {metrics["n"] for metrics in metrics_by_dataset.values()} == {small.COUNT}


def test_a_missing_model_is_one_line_and_exit_2(tmp_path):
    done = support.called("evaluate", f"--model={tmp_path}", f"--data={small.data().folder}", f"--out={tmp_path / 'o'}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "expected a model.h5 or a run folder that holds one" in done.stderr
    assert not (tmp_path / "o").exists()


def test_two_data_sets_of_one_name_are_refused(run_dir, tmp_path):
    here = small.data().folder
    done = support.called("evaluate", f"--model={run_dir}", f"--data={here},{here}/", f"--out={tmp_path / 'o'}")
    assert done.returncode == 2
    assert "expected folders of different names, received two called 'data-jpeg-0'" in done.stderr


def test_what_training_can_do_besides_runs_as_a_command(run_dir, tmp_path):
    done = command(
        "train", f"--data={small.data().folder}", f"--run_dir={tmp_path / 'run'}", "--image_px=32", "--epochs=2",
        "--batch_size=16", "--augment=strong", "--mixup=0.2", "--optimizer=sgd", "--schedule=one_cycle", "--ema=0.9",
        "--loss=focal", "--accumulate=2", "--clip_norm=1", "--class_weights=0,0", "--precision=mixed_bfloat16",
        "--min_steps_per_epoch=4", f"--weights={run_dir / 'model.h5'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "precision mixed_bfloat16 (asked for)" in done.stdout
    layers = sum(bool(layer.weights) for layer in model_file.load(str(run_dir)).model.layers)
    assert f"weights of {layers} layers from" in done.stdout and "new: none" in done.stdout
    rates = [float(row["learning_rate"]) for row in csv_files.read(str(tmp_path / "run" / "history.csv"))]
    assert 0 <= rates[1] < rates[0]


def test_a_run_begun_with_a_model_on_two_devices_resumes_and_is_replayed_elsewhere(run_dir, tmp_path):
    asked = f"--data={small.data().folder}", "--epochs=2", "--batch_size=16", "--min_steps_per_epoch=4", "--run_dir=one"
    devices = "--strategy=mirrored", "--cpu_devices=2"
    begun = command(
        "train", *asked, *devices, f"--weights={os.path.relpath(run_dir, tmp_path)}", cwd=tmp_path, timeout=300
    )
    assert begun.returncode == 0 and "devices mirrored" in begun.stdout, begun.stderr
    assert f"weights of 9 layers from {run_dir}; new: none" in begun.stdout
    run, alone = tmp_path / "one", ("--strategy=one", "--cpu_devices=1")
    os.remove(run / "report.html")  # as if it had been killed after its first epoch
    for name in checkpoints(run)[1:]:
        os.remove(run / "checkpoints" / name)
    flagfile = f"--flagfile={run / 'flags.cfg'}"
    again = support.called("train", flagfile, *alone)
    assert again.returncode == 0 and "holds a run that stopped after step" in again.stdout, again.stderr
    replayed = support.called("train", flagfile, *alone, f"--run_dir={tmp_path / 'two'}")
    assert replayed.returncode == 0 and f"weights of 9 layers from {run_dir}; new: none" in replayed.stdout
    other = support.called("train", flagfile, *alone, f"--run_dir={tmp_path / 'three'}", "--model=crackflow_m")
    support.expect_one_line(
        other, 2, "received --model=crackflow_m; leave all network flags out, or give these: --model="
    )


@with_addons
def test_optimizers_and_metrics_of_tensorflow_addons_run_as_a_command(tmp_path):
    done = command(
        "train", f"--data={small.data().folder}", f"--run_dir={tmp_path / 'run'}", "--image_px=32", "--epochs=1",
        "--batch_size=16", "--optimizer=moving_average", "--metrics=mcc,kappa", "--model=crackflow_xs",
        "--min_steps_per_epoch=4",
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr.count("\n") == done.stderr.count("WARNING: "), done.stderr
    row = csv_files.read(str(tmp_path / "run" / "history.csv"))[0]
    assert all(-1 <= float(row[name]) <= 1 for name in ("mcc", "val_mcc", "kappa", "val_kappa"))


@pytest.mark.parametrize(
    "option, message",
    [
        ("--weights=nowhere.h5", "--weights: expected an H5 file of weights saved by Keras, received"),
        ("--data_service=grpc://localhost:1", "--data_service: expected a dispatcher at 'grpc://localhost:1'"),
        pytest.param("--optimizer=lamb", "pip install 'tensorflow-addons==0.23.0'", marks=without_addons),
        pytest.param("--metrics=mcc", "pip install 'tensorflow-addons==0.23.0'", marks=without_addons),
    ],
)
def test_a_mistake_leaves_the_earlier_run_that_was_to_be_replaced(run_dir, tmp_path, option, message):
    before = {path.name: path.stat().st_mtime_ns for path in run_dir.iterdir()}
    done = support.called("train", f"--data={small.data().folder}", f"--run_dir={run_dir}", "--overwrite", option)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and message in done.stderr
    assert {path.name: path.stat().st_mtime_ns for path in run_dir.iterdir()} == before


def test_balanced_classes_need_both(tmp_path):
    dataset = small.data()
    counts = dataset.metadata["splits"]["train"]["class_counts"]
    one_sided = dataclasses.replace(dataset, metadata=copy.deepcopy(dataset.metadata))
    one_sided.metadata["splits"]["train"]["class_counts"] = counts | {dataset.classes[1]: 0}
    config = TrainConfig(data="d", run_dir="r", optimization=Optimization(class_weights=(0.0, 0.0)))
    with pytest.raises(UserError, match="--class_weights: expected both classes in the training split, received"):
        job.build_trainer(config, one_sided, networks.NETWORKS[config.model].build(32), 10, "off")


def test_a_run_killed_at_any_moment_ends_bit_for_bit_as_if_nothing_had_been(tmp_path):
    """SIGTERM, which is handled, and SIGKILL, which cannot be; with every option on that carries state. It follows that
    two undisturbed runs are identical."""
    run, whole = tmp_path / "run", tmp_path / "whole"

    def options(directory):
        return [
            f"--data={small.data().folder}", f"--run_dir={directory}", "--model=crackflow_xs", "--image_px=32",
            "--epochs=4", "--batch_size=16", "--deterministic", "--augment=standard", "--ema=0.9",
            "--checkpoint_minutes=0.0001", "--early_stopping_epochs=0", "--min_steps_per_epoch=12",
        ]  # fmt: skip

    for number, code in ((signal.SIGTERM, 75), (signal.SIGKILL, -signal.SIGKILL)):
        before = len(checkpoints(run)) and checkpoints(run)[-1]
        line = [support.interpreter(), "-m", "crackflow.train", *options(run)]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and (len(checkpoints(run)) < 2 or checkpoints(run)[-1] == before):
            time.sleep(0.01)
        process.send_signal(number)
        out, error = process.communicate(timeout=60)
        assert process.returncode == code, error
        assert not before or "holds a run that stopped after step" in out
        if number == signal.SIGTERM:
            assert error.startswith("crackflow.train: stopped by a signal after step ") and error.count("\n") == 1
    for directory in (run, whole):
        done = command("train", *options(directory))
        # After 48 steps it may warn that it is no better than a guess.
        assert done.returncode == 0 and done.stderr.count("\n") == done.stderr.count("WARNING: "), done.stderr
    for resumed, undisturbed in zip(
        *(model_file.load(str(directory)).model.get_weights() for directory in (run, whole)), strict=True
    ):
        np.testing.assert_array_equal(resumed, undisturbed)
    same = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
    resumed_history, undisturbed_history = (
        [[row[name] for name in same] for row in csv_files.read(str(directory / "history.csv"))]
        for directory in (run, whole)
    )
    assert resumed_history == undisturbed_history and len(resumed_history) == 4


def checkpoints(run):
    return sorted(path.name for path in (run / "checkpoints").glob("step-*.npz"))
