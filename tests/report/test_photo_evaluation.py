"""What evaluate says of photographs is what predict decides about the same files."""

import dataclasses
import json

import numpy as np
import pytest

from crackflow import evaluate, predict
from crackflow.core import tables
from crackflow.core.config import EvalSplit, EvaluateConfig, PredictConfig
from crackflow.model import bundle
from tests import support
from tests.report.test_prediction import CARD, PX, darkness, wall

CALIBRATED = dataclasses.replace(CARD, photo_shift=4.0, photo_growth=2.0, review=(0.2, 0.8))


def pictures(root, count=24):
    """Class folders of walls of several sizes: cracked, clean, and faint ones that only some shift calls clean."""
    random = np.random.default_rng(0)
    for number in range(count):
        height, width = (int(side) for side in random.integers(PX, 4 * PX, 2))
        crack = ((0, height // 3), (width - 1, height // 2)) if number % 2 else None
        pixels = wall(height, width, crack) ^ np.uint8(number)  # no two are copies
        if number % 4 == 0:
            pixels[10:14, 10:14] = 76 + number % 5
        name = ("Negative", "Positive")[number % 2]
        support.put(root / name / f"{number:03d}.jpg", support.encoded(pixels, "JPEG", quality=95))
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("photographs")
    pictures(root / "walls")
    support.made(root / "walls", root / "data", split=(0, 0, 1))
    bundle.save(str(root / "model.h5"), darkness(), CALIBRATED)
    return root


def evaluated(place, out, data="data", **settings):
    settings = {"split": EvalSplit.TEST, "resamples": 100, "overwrite": True} | settings
    config = EvaluateConfig(model=str(place / "model.h5"), data=(str(place / data),), out=str(out), **settings)
    return evaluate.run(config)


def test_evaluate_and_predict_decide_alike_photograph_by_photograph(place, tmp_path):
    content = evaluated(place, tmp_path / "test")
    ours = {row["path"]: row for row in tables.read(str(tmp_path / "test/photographs.csv"))}
    predict.run(PredictConfig(photos=str(place / "walls"), model=str(place / "model.h5"), out=str(tmp_path / "found")))
    theirs = {row["path"]: row for row in tables.read(str(tmp_path / "found/predictions.csv"))}
    assert ours.keys() == theirs.keys() and len(ours) == 24
    for path, row in theirs.items():
        assert {name: ours[path][name] for name in ("label", "probability", "decision")} == {
            name: row[name] for name in ("label", "probability", "decision")
        }
        assert ours[path]["truth"] == path.split("/")[0]
    assert {row["decision"] for row in theirs.values()} == {"cracked", "clean", "review"}
    measured = content["photographs"]
    alarms = sum(row["label"] == "cracked" and row["path"].startswith("Negative") for row in theirs.values())
    found = sum(row["label"] == "cracked" and row["path"].startswith("Positive") for row in theirs.values())
    assert measured["confusion"] == {"tn": 12 - alarms, "fp": alarms, "fn": 12 - found, "tp": found}
    assert json.loads((tmp_path / "test/metrics.json").read_text()) == content
    page = (tmp_path / "test/report.html").read_text()
    assert 'id="photographs"' in page and "As photographs" in page
