"""Predictions for the page of findings."""

import numpy as np

from crackflow.inference.predictor import Finding, Prediction

CONTENT = {
    "crackflow": "0.1.0",
    "model": {"sha256": "a" * 64, "network": "crackflow_s", "classes": ["clean", "cracked"], "trained_on": "f" * 64},
    "threshold": 0.4,
    "temperature": 1.0,
    "review": [0.3, 0.6],
    "mm_per_px": None,
}

FOUND = Finding((10.0, 20.0, 60.0, 30.0), [[(10.0, 20.0), (70.0, 20.0), (70.0, 50.0)]], 0.9, "cracked", 61.2, None)

FAINT = Finding(
    (80.0, 5.0, 10.0, 10.0), [[(80.0, 5.0), (90.0, 5.0), (90.0, 15.0)]], 0.5, "review", None, None, "no line"
)


def photo(name="wall.jpg", probability=0.9, findings=(FOUND, FAINT), decision="cracked", warnings=()):
    heat = np.zeros((4, 6), np.float32)
    details = ("cracked" if probability >= 0.4 else "clean", list(findings), list(warnings), None, (1.0,), heat)
    return Prediction(name, 100, 64, probability, decision, *details)
