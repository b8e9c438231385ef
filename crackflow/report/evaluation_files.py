"""One evaluation as files: its curves as PNG, its worst mistakes and its doubtful labels as pictures and as tables.

Synopsis::

    evaluation_files.save(evaluation, "runs/metu/test")
"""

import os

from crackflow.core import csv_files
from crackflow.evaluation import photo_evaluation
from crackflow.evaluation.results import Evaluation, Mistake
from crackflow.report import plots

OWNED_FILES = (
    "*.png",
    "errors.csv",
    "suspects.csv",
    "photographs.csv",
    "errors/*.png",
    "suspects/*.png",
)  # what `save` writes


def save(evaluation: Evaluation, place: str) -> None:
    """confusion.png, roc.png, precision_recall.png, scores.png, calibration.png, coverage.png; errors/*.png and
    errors.csv; suspects/*.png and suspects.csv, which names all doubtful labels and shows the first of them;
    photographs.csv, what crackflow.predict decides about each."""
    os.makedirs(place, exist_ok=True)
    for name, figure in _figures(evaluation).items():
        plots.save_png(figure, os.path.join(place, f"{name}.png"))
    _table(place, "errors", "truth", evaluation.mistakes)
    _table(place, "suspects", "label", evaluation.suspects)
    if evaluation.photograph_rows:
        csv_files.save(os.path.join(place, "photographs.csv"), photo_evaluation.COLUMNS, evaluation.photograph_rows)


def _table(place: str, name: str, label: str, shown: list[Mistake]) -> None:
    os.makedirs(os.path.join(place, name), exist_ok=True)
    rows = []
    for number, mistake in enumerate(shown, start=1):
        file = f"{name}/{number:02d}.png" if mistake.png else ""
        if file:
            with open(os.path.join(place, file), "wb") as opened:
                opened.write(mistake.png)
        rows.append((mistake.path, mistake.truth, f"{mistake.probability:.6f}", file))
    csv_files.save(os.path.join(place, f"{name}.csv"), ("path", label, "probability", "picture"), rows)


def _figures(evaluation: Evaluation) -> dict:
    labels, probabilities = evaluation.labels, evaluation.probabilities
    threshold = evaluation.metrics["threshold"]
    return {
        "confusion": plots.confusion(evaluation.metrics["confusion"], evaluation.classes),
        "roc": plots.roc(labels, probabilities, threshold),
        "precision_recall": plots.precision_recall(labels, probabilities, threshold),
        "scores": plots.histogram(labels, probabilities, threshold, evaluation.classes),
        "calibration": plots.calibration(labels, probabilities),
        "coverage": plots.coverage(labels, probabilities, threshold, evaluation.review.get("share")),
    }
