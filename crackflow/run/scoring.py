"""A model over every image of a batch stream: labels and logits, padding taken off.

Synopsis::

    labels, logits = scoring.judge(model, batches)
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from crackflow.core.backend import keras


def judge(model: keras.Model, batches: Iterable, look: Callable | None = None) -> tuple[np.ndarray, ...]:
    """(labels int64 [N], logits float32 [N]) in the order of `batches` (image, label, weight); and with `look`, a
    function of uint8 [B, px, px, C] to [B, ...], a third array of what that returned."""
    labels, logits, looks = [], [], []
    for image, label, weight in batches:
        real = weight.numpy() > 0
        labels.append(label.numpy()[real])
        logits.append(model.predict_on_batch(image)[real])
        if look:
            looks.append(look(image.numpy()[real]))
    parts = (labels, logits, looks) if look else (labels, logits)
    labels, *rest = (np.concatenate(part) for part in parts)
    return labels.astype(np.int64), *rest


def looks(look: Callable, batches: Iterable) -> np.ndarray:
    """What `look`, of uint8 [B, px, px, C], gives for the images of `batches`, one after the other."""
    return np.concatenate([look(image)[weight.numpy() > 0] for image, _, weight in batches])


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
