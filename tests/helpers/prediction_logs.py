"""Photographs and records of a log of predictions."""

import os

import numpy as np
import pytest

from crackflow.inference import prediction_log
from crackflow.inference.photo_files import Photo
from crackflow.inference.predictor import Finding, Prediction
from tests.helpers import support


def prediction(name="a.jpg"):
    """With NumPy's numbers in it, as the network gives them."""
    interval = {"value": np.float64(2.25), "low": 1.5, "high": 3.0}
    widths = {"median": interval, "p95": interval, "max": interval | {"at": [1.0, 2.0]}}
    crack = Finding(
        (1.5, 2.0, np.float64(3.25), 4.0),
        [[(0.1, 0.2), (np.float32(0.3), 4.0)]],
        0.9,
        "cracked",
        7.1,
        None,
        centerline=[{"points": [[1.0, 2.0], [3.0, 2.0]], "widths_px": [2.5, None]}],
        width_px=widths,
        width_mm=widths,
    )
    return Prediction(
        name, np.int64(60), 40, float(np.float32(0.9)), "cracked", "crack", [crack], ["dark"], None, (1.0, 0.5),
        np.ones((2, 3), np.float32),
    )  # fmt: skip


@pytest.fixture
def photo(tmp_path):
    """Of a file that lies there."""
    path = tmp_path / os.fsdecode(b"wall \xff\n.jpg")
    support.put(path, b"pixels")
    return str(path), Photo(np.zeros((40, 60, 3), np.uint8), support.sha256(path), (46.1, -7.2), ("turned",))


def record(photo, name="a.jpg"):
    path, photograph = photo
    return prediction_log.new_record(prediction(name), photograph, path, prediction_log.file_stat(path))
