"""The figures of one evaluation, for its files and for the page.

Synopsis::

    evaluation_plots.draw(evaluation)["roc"]      # a matplotlib Figure
"""

import functools

from matplotlib.figure import Figure

from crackflow.evaluation.results import Evaluation
from crackflow.report import plots

FIGURES = ("confusion", "roc", "precision_recall", "scores", "calibration", "coverage")  # that `draw` makes


@functools.lru_cache(maxsize=16)  # the files and the page show the same figures
def draw(evaluation: Evaluation) -> dict[str, Figure]:
    """The confusion matrix, four curves and the histogram of `evaluation`, by the names of their PNG files."""
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
