"""Results of an evaluation, independent of the pages that display them."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from crackflow.evaluation.significance import ChanceTest
from crackflow.evaluation.slices import Slice

TEST, VALIDATION = "test", "validation, on which threshold, temperature and epoch were chosen"  # what figures are of


@dataclasses.dataclass(frozen=True)
class Mistake:
    """An image that was decided wrongly, or whose label may be wrong.

    Attributes:
        path: source path of the image.
        truth: name of the labelled class.
        probability: 0..1, of cracked.
        png: the image as PNG, or empty.
        heat: the image under a saliency map of the cracked class as PNG, or empty.
    """

    path: str
    truth: str
    probability: float
    png: bytes
    heat: bytes = b""


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """The evaluation of one model on one dataset.

    Attributes:
        name: folder name of the dataset.
        split: names of the splits, joined by +.
        metrics: from metrics.measure.
        labels: int or bool [N], 1 means cracked.
        probabilities: float [N], 0..1, of cracked.
        mistakes: the worst first.
        classes: (clean, cracked).
        review: what is left for human review, from evaluator.evaluate, or {}.
        suspects: labels that may be wrong, the surest first, the later ones without an image.
        slices: from slices.divide.
        overlap: from overlap.measure, how many of the images the model has seen.
        basis: what kind of figures these are, set by a training run that reports on itself.
        verdict: whether the model is better than a guess.
        photographs: from photo_evaluation.measure, with the window figures of the same images under `windows`, or {}.
        photograph_rows: rows of photographs.csv.
    """

    name: str
    split: str
    metrics: dict
    labels: np.ndarray
    probabilities: np.ndarray
    mistakes: list[Mistake]
    classes: tuple[str, str]
    review: dict = dataclasses.field(default_factory=dict)
    suspects: list[Mistake] = dataclasses.field(default_factory=list)
    slices: list[Slice] = dataclasses.field(default_factory=list)
    overlap: dict = dataclasses.field(default_factory=dict)
    basis: str = ""
    verdict: ChanceTest | None = None
    photographs: dict = dataclasses.field(default_factory=dict)
    photograph_rows: list[tuple[str, ...]] = dataclasses.field(default_factory=list)


COMPARED = ("accuracy", "recall", "specificity", "precision", "mcc", "roc_auc", "ece")


def guesses(evaluations: Sequence[Evaluation]) -> list[str]:
    """A warning for each evaluation in which the model was not better than a guess."""
    return [
        f"On {evaluation.name} ({evaluation.split}) the model is {evaluation.verdict.describe()}."
        for evaluation in evaluations
        if evaluation.verdict and evaluation.verdict.is_doubtful
    ]


def in_words(metrics: Mapping) -> str:
    """'finds 994 of 1,000 cracked surfaces and raises 1 false alarm on 1,000 clean ones'."""
    tn, fp, fn, tp = (metrics["confusion"][key] for key in ("tn", "fp", "fn", "tp"))
    alarms = f"{fp:,} false alarm{'' if fp == 1 else 's'}" if fp else "no false alarm"
    recall_text = f"finds {tp:,} of {tp + fn:,} cracked surfaces" if tp + fn else ""
    alarm_text = f"raises {alarms} on {tn + fp:,} clean ones" if tn + fp else ""
    return " and ".join(part for part in (recall_text, alarm_text) if part)
