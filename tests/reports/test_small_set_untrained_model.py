"""Trained on a few hundred images, a network was no better than a guess, and nothing said so."""

import dataclasses
import json

import pytest

from crackflow import evaluate, predict, synth, train
from crackflow.core.config.data import SynthConfig
from crackflow.core.config.trained import EvaluateConfig, PredictConfig
from crackflow.core.config.training import Optimization, TrainConfig
from crackflow.model import model_file
from tests.helpers import support

pytestmark = pytest.mark.slow

PX = 64  # small images: steps, patience and statistics are under test


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory):
    """400 images of synthetic concrete, half of them cracked."""
    directory = tmp_path_factory.mktemp("few") / "images"
    synth.run(SynthConfig(out=str(directory), count=400, image_px=PX, seed=3, workers=1))
    return directory


def trained(images, directory, **settings):
    """(card of the model, content of its metrics.json)."""
    support.converted(images, directory / "data")
    train.run(TrainConfig(data=str(directory / "data"), run_dir=str(directory / "run"), image_px=PX, **settings))
    return model_file.load(str(directory / "run")).card, json.loads((directory / "run/metrics.json").read_text())


def test_four_hundred_images_and_no_flag_make_a_usable_model(surfaces, tmp_path, capsys):
    card, metrics = trained(surfaces, tmp_path)
    assert metrics["accuracy"] >= 0.8 and metrics["better_than_chance"] and card.validation["p_value"] < 0.05
    said, warned = capsys.readouterr()
    assert "an epoch is 50 steps of 32 images, each of the 320 training images about 5 times" in said
    assert "WARNING" not in said + warned


def test_few_cracked_ones_that_weigh_as_much_as_the_clean_ones_make_one_too(surfaces, tmp_path):
    few = support.linked(surfaces, tmp_path / "images", {"Negative": 200, "Positive": 40})
    _, metrics = trained(few, tmp_path, optimization=Optimization(class_weights=(0.0, 0.0)))
    assert metrics["balanced_accuracy"] >= 0.7 and metrics["accuracy"] >= 0.8


def test_labels_that_say_nothing_make_a_model_that_says_so_wherever_it_goes(tmp_path, capsys):
    images = support.photos(tmp_path / "images", count=120, px=PX)  # blotches, assigned to two classes
    card, metrics = trained(images, tmp_path, epochs=2)
    warned = [line for line in capsys.readouterr().err.splitlines() if line.startswith("WARNING: ")]
    assert "By its validation images the model is " in warned[0] and "--weights=shipped" in warned[0]
    assert card.validation["p_value"] > 0.05 and not metrics["better_than_chance"]
    assert "By its validation images the model is" in (tmp_path / "run/report.html").read_text()
    evaluate.run(
        EvaluateConfig(model=str(tmp_path / "run"), data=(str(tmp_path / "data"),), out=str(tmp_path / "test"))
    )
    assert "WARNING: On data (test) the model is " in capsys.readouterr().err
    assert "On data (test) the model is" in (tmp_path / "test/report.html").read_text()
    assert json.loads((tmp_path / "test/metrics.json").read_text())["better_than_chance"] is False
    photo = next((images / "Positive").iterdir())
    findings = predict.run(PredictConfig(model=str(tmp_path / "run"), photos=str(photo), out=str(tmp_path / "found")))
    assert "WARNING: By its validation images the model is " in capsys.readouterr().err
    assert findings["warnings"][0] in (tmp_path / "found/report.html").read_text()


def test_who_began_with_the_model_that_comes_with_crackflow_is_not_told_to():
    config = TrainConfig(data="d", run_dir="r")
    assert train._remedy(config).endswith(", or begin with the model that comes with crackflow: --weights=shipped.")
    begun = train._remedy(dataclasses.replace(config, weights="shipped"))
    assert begun == "Take more photographs of both classes."


def test_four_validation_images_are_too_few_to_tell_and_that_is_said(surfaces, tmp_path, capsys):
    few = support.linked(surfaces, tmp_path / "images", {"Negative": 20, "Positive": 20})
    support.converted(few, tmp_path / "data", split=(0.8, 0.1, 0.1))
    train.run(TrainConfig(data=str(tmp_path / "data"), run_dir=str(tmp_path / "run"), image_px=PX, epochs=1))
    said = capsys.readouterr().err
    assert "of unknown worth: these 2 cracked and 2 clean images are too few to tell it from a guess" in said
    assert model_file.load(str(tmp_path / "run")).card.validation["p_value"] >= 1 / 6 - 1e-9
