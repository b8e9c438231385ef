"""What an evaluation measured, apart from the pages that show it."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from crackflow.evaluation.chance import ChanceTest
from crackflow.evaluation.slices import Slice

TEST, VALIDATION = "test", "validation, on which threshold, temperature and epoch were chosen"  # what figures are of


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A wrongly decided image. `truth`: class name; `probability`: 0..1, of cracked; `png`: the picture; `heat`: the
    same under a map of what speaks for cracked, or empty."""

    path: str
    truth: str
    probability: float
    png: bytes
    heat: bytes = b""


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """`metrics`: of metrics.measure; `labels`: int or bool [N]; `probabilities`: float [N], 0..1; `mistakes`: worst
    first; `classes`: (clean, cracked); `review`: what is left to a person, as assessment makes it, or {}; `suspects`:
    labels that may be wrong, the surest first, the later ones without a picture; `slices`: of slices.divide; `overlap`:
    of overlap.measure, how many of the images the model has seen; `basis`: what kind of figures these are, where a run
    tells it of itself; `verdict`: whether that is better than a guess; `photographs`: of photo_evaluation.measure, with
    what windows say of the same images under `windows`, or {}; `photograph_rows`: of photographs.csv."""

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
