"""A model on one split of one data set: scores, metrics with intervals, and its worst mistakes with their pictures.

Synopsis::

    evaluation = assessment.assess(loaded, made, ["test"], batch_size=128, resamples=1000, seed=0)
    evaluation.metrics["accuracy"], evaluation.metrics["accuracy_ci95"]
"""

import io
import os

import numpy as np
from PIL import Image

from crackflow.data import pipeline
from crackflow.data.dataset import Dataset
from crackflow.model.bundle import Bundle
from crackflow.report import metrics, page
from crackflow.run import scoring

MISTAKES_SHOWN = 24


def assess(
    loaded: Bundle, made: Dataset, splits: list[str], batch_size: int, resamples: int, seed: int
) -> page.Evaluation:
    """Every image of `splits` is scored once. Raises: UserError when one of them is empty."""
    card = loaded.card
    parts = [_score(loaded, made, split, batch_size) for split in splits]
    labels, probabilities, groups = (np.concatenate([part[k] for part in parts]) for k in (0, 1, 2))
    paths = [path for part in parts for path in part[3]]
    measured = metrics.measure(labels, probabilities, groups, card.threshold, resamples, seed)
    wrong = metrics.worst_mistakes(labels, probabilities, card.threshold, MISTAKES_SHOWN)
    batches = (batch for split in splits for batch in _batches(loaded, made, split, batch_size))
    pictures = scoring.pick_images(batches, wrong)
    mistakes = [
        page.Mistake(paths[row], made.classes[labels[row]], float(probabilities[row]), _png(pictures[row]))
        for row in map(int, wrong)
    ]
    name = os.path.basename(os.path.abspath(made.folder))
    return page.Evaluation(name, "+".join(splits), measured, labels, probabilities, mistakes, made.classes)


def _batches(loaded: Bundle, made: Dataset, split: str, batch_size: int):
    return pipeline.eval_batches(made, split, batch_size, loaded.card.image_px, loaded.card.channels)


def _score(
    loaded: Bundle, made: Dataset, split: str, batch_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    batches = _batches(loaded, made, split, batch_size)
    labels, probabilities = scoring.score(loaded.model, batches, loaded.card.temperature)
    paths, groups = pipeline.identities(made, split)
    return labels, probabilities, groups, paths


def _png(pixels: np.ndarray) -> bytes:
    """`pixels` uint8 [H, W, C] as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()
