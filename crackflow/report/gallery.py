"""One evaluation as files: its curves as PNG, its worst mistakes as pictures and as a table.

Synopsis::

    gallery.save(evaluation, "runs/metu/test")
"""

import os

from crackflow.core import tables
from crackflow.report import curves
from crackflow.report.page import Evaluation


def save(evaluation: Evaluation, place: str) -> None:
    """confusion.png, roc.png, precision_recall.png, scores.png, calibration.png; errors/*.png and errors.csv."""
    os.makedirs(os.path.join(place, "errors"), exist_ok=True)
    for name, figure in _figures(evaluation).items():
        curves.save_png(figure, os.path.join(place, f"{name}.png"))
    rows = []
    for number, mistake in enumerate(evaluation.mistakes, start=1):
        file = f"errors/{number:02d}.png"
        with open(os.path.join(place, file), "wb") as opened:
            opened.write(mistake.png)
        rows.append((mistake.path, mistake.truth, f"{mistake.probability:.6f}", file))
    tables.save(os.path.join(place, "errors.csv"), ("path", "truth", "probability", "picture"), rows)


def _figures(evaluation: Evaluation) -> dict:
    labels, probabilities = evaluation.labels, evaluation.probabilities
    threshold = evaluation.metrics["threshold"]
    return {
        "confusion": curves.confusion(evaluation.metrics["confusion"], evaluation.classes),
        "roc": curves.roc(labels, probabilities, threshold),
        "precision_recall": curves.precision_recall(labels, probabilities, threshold),
        "scores": curves.histogram(labels, probabilities, threshold, evaluation.classes),
        "calibration": curves.calibration(labels, probabilities),
    }
