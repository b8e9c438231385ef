"""What evaluate says of photographs is what predict decides about the same files."""

import dataclasses
import json

import numpy as np
import pytest

from crackflow import evaluate, predict
from crackflow.core import csv_files
from crackflow.core.config.data import Encoding
from crackflow.core.config.trained import EvalSplit, EvaluateConfig, PredictConfig
from crackflow.core.errors import ConfigError, UserError
from crackflow.data import dataset
from crackflow.data.record_reader import RecordReader
from crackflow.evaluation import photo_evaluation
from crackflow.inference import multi_scale, photo_threshold, predictor, receptive_field
from crackflow.model import model_file
from crackflow.synthesis import mosaics
from tests.helpers import support
from tests.helpers.walls import CARD, PX, darkness, wall

CALIBRATED = dataclasses.replace(
    CARD,
    classes=("Negative", "Positive"),
    photo_shift=2.0,
    photo_growth=2.0,
    photo_most=20.0,
    review=(0.2, 0.8),
    versions={"crackflow": "0"},
)


def pictures(root, count=24):
    """Class folders of walls of several sizes: cracked, clean, and faint ones that only some shift calls clean."""
    random = np.random.default_rng(0)
    for number in range(count):
        height, width = (int(side) for side in random.integers(PX, 4 * PX, 2))
        crack = ((0, height // 3), (width - 1, height // 2)) if number % 2 else None
        pixels = wall(height, width, crack) ^ np.uint8(number)  # no two are copies
        if number % 4 == 0:
            pixels[10:16, 10:16] = 54 + number % 9
        name = ("Negative", "Positive")[number % 2]
        support.put(root / name / f"{number:03d}.jpg", support.encoded(pixels, "JPEG", quality=95))
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photographs")
    pictures(root / "walls")
    support.converted(root / "walls", root / "data", split=(0, 0, 1))
    model_file.save(str(root / "model.h5"), darkness(), CALIBRATED)
    return root


def evaluated(folder, out, data="data", **settings):
    settings = {"split": EvalSplit.TEST, "resamples": 100, "overwrite": True} | settings
    config = EvaluateConfig(model=str(folder / "model.h5"), data=(str(folder / data),), out=str(out), **settings)
    return evaluate.run(config)


@pytest.mark.slow
def test_evaluate_and_predict_decide_alike_photograph_by_photograph(folder, tmp_path):
    content = evaluated(folder, tmp_path / "test")
    ours = {row["path"]: row for row in csv_files.read(str(tmp_path / "test/photographs.csv"))}
    predict.run(
        PredictConfig(photos=str(folder / "walls"), model=str(folder / "model.h5"), out=str(tmp_path / "found"))
    )
    theirs = {row["path"]: row for row in csv_files.read(str(tmp_path / "found/predictions.csv"))}
    assert ours.keys() == theirs.keys() and len(ours) == 24
    for path, row in theirs.items():
        assert {name: ours[path][name] for name in ("label", "probability", "decision")} == {
            name: row[name] for name in ("label", "probability", "decision")
        }
        assert ours[path]["truth"] == path.split("/")[0]
    assert {row["decision"] for row in theirs.values()} == {"cracked", "clean", "review"}
    measured = content["photographs"]
    fp = sum(row["label"] == "Positive" and row["path"].startswith("Negative") for row in theirs.values())
    tp = sum(row["label"] == "Positive" and row["path"].startswith("Positive") for row in theirs.values())
    assert measured["confusion"] == {"tn": 12 - fp, "fp": fp, "fn": 12 - tp, "tp": tp}
    assert json.loads((tmp_path / "test/metrics.json").read_text()) == content
    page = (tmp_path / "test/report.html").read_text()
    assert 'id="photographs"' in page and "As photographs" in page


@pytest.mark.parametrize("pixel_budget", [1, 100_000, photo_evaluation.HELD_PIXELS])
def test_however_many_photographs_are_read_ahead_each_is_judged_as_alone(folder, monkeypatch, pixel_budget):
    monkeypatch.setattr(photo_evaluation, "HELD_PIXELS", pixel_budget)
    model, data = predictor.load(str(folder / "model.h5")), dataset.load(str(folder / "data"))
    numbers, rows = (3, 11, 0, 7, 4), RecordReader(data, "test")
    judged = photo_evaluation.predict_photos(model, data, [("test", row) for row in numbers])
    records = [rows.fields(row) for row in numbers]
    assert judged.paths == [record["path"].decode() for record in records]
    for record, decision in zip(records, judged.decisions, strict=True):
        alone = model.predict_array(photo_evaluation._pixels(data, record["image"], "here"), "here")
        assert decision.probability == pytest.approx(alone.probability, abs=1e-5)
        assert (decision.decision, model.card.shift_of(decision.windows)) == (alone.decision, alone.shift)


def test_photographs_of_every_encoding_are_looked_at(folder, tmp_path):
    for encoding in ("jpeg", "png", "raw"):
        settings = {"encoding": Encoding(encoding), "image_px": PX if encoding == "raw" else 0}
        support.converted(folder / "walls", tmp_path / encoding, split=(0, 0, 1), **settings)
        data = dataset.load(str(tmp_path / encoding))
        judged = photo_evaluation.predict_photos(
            predictor.load(str(folder / "model.h5")), data, [("test", 0), ("test", 5)]
        )
        assert len(judged.decisions) == 2 and judged.enlarged == (encoding == "raw")
        assert all(0 <= decision.probability <= 1 for decision in judged.decisions)


def test_of_a_large_set_some_are_drawn_and_it_says_so(folder, tmp_path, capsys):
    content = evaluated(folder, tmp_path / "some", photographs=7)
    assert (content["photographs"]["n"], content["photographs"]["of"]) == (7, 24)
    assert len(csv_files.read(str(tmp_path / "some/photographs.csv"))) == 7
    assert "as photographs, decided as crackflow.predict does: " in capsys.readouterr().out
    assert "drawn at random from 24" in (tmp_path / "some/report.html").read_text()
    again = evaluated(folder, tmp_path / "some", photographs=7)
    assert again["photographs"] == content["photographs"]


def test_without_photographs_nothing_is_said_of_them(folder, tmp_path):
    content = evaluated(folder, tmp_path / "none", photographs=0)
    assert "photographs" not in content and not (tmp_path / "none/photographs.csv").exists()
    assert "As photographs" not in (tmp_path / "none/report.html").read_text()


def test_very_large_photographs_are_fewer(folder, monkeypatch):
    monkeypatch.setattr(photo_evaluation, "MAX_PIXELS", 0)
    data, rows = dataset.load(str(folder / "data")), [("test", row) for row in range(24)]
    judged = photo_evaluation.predict_photos(predictor.load(str(folder / "model.h5")), data, rows)
    assert len(judged.decisions) == photo_evaluation.MIN_PHOTOS == len(judged.paths)


def test_rates_are_counted_by_hand():
    decided = ((0.9, "cracked"), (0.6, "review"), (0.1, "clean"))
    verdicts = [multi_scale.PhotoDecision(score, kind, score >= 0.5, 1.0) for score, kind in decided]
    labels = np.array([True, False, True])
    judged = photo_evaluation.PhotoResults(("a", "b"), ["x", "y", "z"], labels, np.arange(3), verdicts, False)
    rates = photo_evaluation.measure(judged, 50)
    assert rates["confusion"] == {"tn": 0, "fp": 1, "fn": 1, "tp": 1} and (rates["n"], rates["of"]) == (3, 50)
    assert (rates["recall"], rates["specificity"], rates["accuracy"], rates["precision"]) == (0.5, 0, 1 / 3, 0.5)
    assert rates["decisions"]["clean"] == {"cracked": 0, "review": 1, "clean": 0}
    assert judged.table[1] == ("y", "a", "b", "0.600000", "review")


def test_rates_without_photographs_of_a_class_are_undefined():
    decisions = [multi_scale.PhotoDecision(0.1, "clean", False, 1.0)]
    judged = photo_evaluation.PhotoResults(("a", "b"), ["x"], np.array([False]), np.arange(1), decisions, False)
    rates = photo_evaluation.measure(judged, 1)
    assert rates["recall"] is None and rates["recall_ci95"] is None and rates["specificity"] == 1


def spotted(root, count=60):
    """Clean walls, of which a third have dark spots of several strengths that a network takes for cracks."""
    random = np.random.default_rng(1)
    for number in range(count):
        pixels = wall(PX, PX, ((0, 20), (PX - 1, 40)) if number % 4 == 3 else None) ^ np.uint8(number)
        if number % 3 == 0:
            y, x = random.integers(0, PX - 8, 2)
            pixels[y : y + 6, x : x + 6] = random.integers(50, 66)
        name = "Positive" if number % 4 == 3 else "Negative"
        support.put(root / name / f"{number:03d}.png", support.encoded(pixels, "PNG"))
    return root


def test_the_threshold_is_set_on_clean_validation_photos_and_saved_with_the_model(tmp_path):
    support.converted(spotted(tmp_path / "walls"), tmp_path / "data", split=(0, 1, 0), encoding=Encoding.PNG)
    data, loaded = dataset.load(str(tmp_path / "data")), model_file.TrainedModel(darkness(), CARD)
    labels = np.array([RecordReader(data, "val").fields(row)["label"] for row in range(data.count("val"))])
    tuned = photo_evaluation.with_photo_threshold(loaded, data, labels, np.where(labels, 0.9, 0.1), 0, walls=(36,) * 3)
    card = tuned.card
    assert card.photo_images == (labels == 0).sum() and card.photo_false_alarms == photo_evaluation.MIN_FALSE_ALARMS
    assert card.photo_shift > 0 and card.photo_shift_ci95[0] <= card.photo_shift <= card.photo_shift_ci95[1]
    rows = [("val", int(row)) for row in np.flatnonzero(labels == 0)]
    before, after = (
        photo_evaluation.measure(photo_evaluation.predict_photos(predictor.Model(model), data, rows), 45)["specificity"]
        for model in (loaded, tuned)
    )
    assert before < 0.9 <= after
    model_file.save(str(tmp_path / "model.h5"), tuned.model, card)
    assert model_file.load(str(tmp_path / "model.h5")).card == card
    sure = np.full(len(labels), 0.9)
    lenient = photo_evaluation.with_photo_threshold(loaded, data, labels, sure, 0, walls=(36,) * 3).card
    assert lenient.photo_false_alarms == 1 and lenient.photo_shift < card.photo_shift
    assert "clean validation images" in photo_evaluation.in_words(card)
    assert json.loads(json.dumps(photo_evaluation.facts(card)))["shift"] == card.photo_shift


def test_walls_of_large_photographs_are_no_larger_than_the_network_sees_them(tmp_path, monkeypatch):
    laid, lay = [], mosaics.lay
    monkeypatch.setattr(mosaics, "lay", lambda *args: laid.append(args[1:3]) or lay(*args))
    root, many = tmp_path / "photos", 8  # times as large as training's pictures
    for number in range(24):
        crack = ((0, 20 * many), (PX * many - 1, 40 * many)) if number % 4 == 3 else None
        pixels = wall(PX * many, PX * many, crack) ^ np.uint8(number)
        name = "Positive" if number % 4 == 3 else "Negative"
        support.put(root / name / f"{number:03d}.png", support.encoded(pixels, "PNG"))
    support.converted(root, tmp_path / "data", split=(0, 1, 0))
    data = dataset.load(str(tmp_path / "data"))
    labels = np.array([RecordReader(data, "val").fields(row)["label"] for row in range(data.count("val"))])
    loaded = model_file.TrainedModel(darkness(), dataclasses.replace(CARD, source_px=many * PX))
    doubted = np.full(len(labels), 0.1)
    card = photo_evaluation.with_photo_threshold(loaded, data, labels, doubted, seed=0, walls=(36,)).card
    side = 2 * PX * round(np.sqrt(photo_evaluation.WALL_WINDOWS))
    assert laid == [(side, side)] and card.source_px == many * PX and card.photo_images == 18


def test_with_hardly_any_clean_validation_photographs_nothing_is_looked_at(folder):
    data, loaded = dataset.load(str(folder / "data")), model_file.TrainedModel(None, CARD)
    card = photo_evaluation.with_photo_threshold(loaded, data, np.array([0, 0, 1]), np.full(3, 0.2), seed=0).card
    assert (card.photo_shift, card.photo_growth, card.photo_images) == (0.0, photo_threshold.TRUE_TAIL, 0)


def test_a_damaged_record_is_named(folder):
    data = dataset.load(str(folder / "data"))
    with pytest.raises(UserError, match="here: .*; convert the images again"):
        photo_evaluation._pixels(data, b"no picture", "here")


def test_a_number_of_photographs_below_none_is_refused():
    with pytest.raises(ConfigError, match="--photographs: expected 0 or more, received -1"):
        EvaluateConfig(model="m", data=("d",), out="o", photographs=-1)


def test_no_walls_are_laid_for_a_network_that_goes_window_by_window(tmp_path, monkeypatch):
    monkeypatch.setattr(photo_evaluation, "_wall_parts", None)
    monkeypatch.setattr(receptive_field, "find_backbone", lambda model: None)
    support.converted(spotted(tmp_path / "walls", 24), tmp_path / "data", split=(0, 1, 0))
    data = dataset.load(str(tmp_path / "data"))
    labels = np.array([RecordReader(data, "val").fields(row)["label"] for row in range(data.count("val"))])
    loaded = model_file.TrainedModel(darkness(), CARD)
    card = photo_evaluation.with_photo_threshold(loaded, data, labels, np.full(len(labels), 0.1), seed=0).card
    assert (card.photo_level, card.photo_growth) == (0.0, photo_threshold.TRUE_TAIL) and card.photo_images == 18
