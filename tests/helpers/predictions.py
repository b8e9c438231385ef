"""Predictions for the page of findings."""

import hashlib

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


def entry(prediction, sha256=None, **more):
    """What findings.json says of `prediction`; `more` are further keys."""
    findings = [
        {
            "box": list(finding.box),
            "polygons": [[list(point) for point in outline] for outline in finding.outlines],
            "probability": finding.probability,
            "decision": finding.decision,
            "length_px_estimate": finding.length_px,
            "length_mm_estimate": finding.length_mm,
            "length_note": finding.length_note or None,
        }
        for finding in prediction.findings
    ]
    names = ("width", "height", "label", "probability", "decision", "warnings")
    digest = sha256 or hashlib.sha256(prediction.name.encode(errors="surrogateescape")).hexdigest()
    keys = {"path": prediction.name, "sha256": digest} | {name: getattr(prediction, name) for name in names}
    return keys | {"findings": findings, "place": None} | more
