"""Writes one evaluation as files: its curves as PNG, its worst mistakes and doubtful labels as images and CSV tables.

Synopsis::

    evaluation_files.save(evaluation, "runs/metu/test")
"""

import os

from crackflow.core import csv_files
from crackflow.evaluation import photo_evaluation
from crackflow.evaluation.results import Evaluation, Mistake
from crackflow.report import evaluation_plots, plots

OWNED_FILES = (
    *(f"{name}.png" for name in evaluation_plots.FIGURES),
    "errors.csv",
    "suspects.csv",
    "photographs.csv",
    "errors/[0-9][0-9]*.png",
    "suspects/[0-9][0-9]*.png",
)  # all that `save` writes


def save(evaluation: Evaluation, directory: str) -> None:
    """Write figures, mistakes, doubtful labels and decisions about photographs to `directory`.

    Writes confusion.png, roc.png, precision_recall.png, scores.png, calibration.png and coverage.png; errors/*.png and
    errors.csv; suspects/*.png and suspects.csv, which lists all doubtful labels but has images of the first ones only;
    and photographs.csv, what crackflow.predict decides about each photograph, if the evaluation has any.

    Args:
        evaluation: the evaluation to write.
        directory: is created if it does not exist.
    """
    os.makedirs(directory, exist_ok=True)
    for name, figure in evaluation_plots.draw(evaluation).items():
        plots.save_png(figure, os.path.join(directory, f"{name}.png"))
    _save_table(directory, "errors", "truth", evaluation.mistakes)
    _save_table(directory, "suspects", "label", evaluation.suspects)
    if evaluation.photograph_rows:
        csv_files.save(os.path.join(directory, "photographs.csv"), photo_evaluation.COLUMNS, evaluation.photograph_rows)


def _save_table(directory: str, name: str, label: str, mistakes: list[Mistake]) -> None:
    os.makedirs(os.path.join(directory, name), exist_ok=True)
    rows = []
    for number, mistake in enumerate(mistakes, start=1):
        picture = f"{name}/{number:02d}.png" if mistake.png else ""
        if picture:
            with open(os.path.join(directory, picture), "wb") as png_file:
                png_file.write(mistake.png)
        rows.append((mistake.path, mistake.truth, f"{mistake.probability:.6f}", picture))
    csv_files.save(os.path.join(directory, f"{name}.csv"), ("path", label, "probability", "picture"), rows)
