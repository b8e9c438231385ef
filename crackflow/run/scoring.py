"""A model over every image of a batch stream: labels and probabilities, padding taken off.

Synopsis::

    labels, probabilities = scoring.score(model, batches, temperature=1.0)
"""

from collections.abc import Iterable, Sequence

import numpy as np

from crackflow.core.backend import keras
from crackflow.model import bundle


def score(model: keras.Model, batches: Iterable, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """(labels int64 [N], probabilities float64 [N], 0..1) in the order of `batches` (image, label, weight)."""
    labels, logits = judge(model, batches)
    return labels, bundle.to_probabilities(logits, temperature)


def judge(model: keras.Model, batches: Iterable) -> tuple[np.ndarray, np.ndarray]:
    """As `score`, with the logits, float32 [N], in place of probabilities."""
    labels, logits = [], []
    for image, label, weight in batches:
        real = weight.numpy() > 0
        labels.append(label.numpy()[real])
        logits.append(model.predict_on_batch(image)[real])
    return np.concatenate(labels).astype(np.int64), np.concatenate(logits)


def pick_images(batches: Iterable, rows: Sequence[int]) -> dict[int, np.ndarray]:
    """Row -> uint8 [px, px, C] for the asked `rows` of `batches`, which are gone through once."""
    wanted, found, start = set(int(row) for row in rows), {}, 0
    for image, _, weight in batches if wanted else ():
        count = int((weight.numpy() > 0).sum())
        for row in [row for row in wanted if start <= row < start + count]:
            found[row] = image[row - start].numpy()
        start += count
        if len(found) == len(wanted):
            break
    return found
