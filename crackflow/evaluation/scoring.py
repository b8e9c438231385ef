"""Runs a model over every image of a batch stream: labels and logits, without the padding.

Synopsis::

    labels, logits = scoring.predict_logits(model, batches)
    scoring.measure_throughput({"a": model_a, "b": model_b}, 0.5, windows=5, compiled=False)["a"].median      # images/s
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from crackflow.core import throughput
from crackflow.core.backend import keras, tf


def predict_logits(model: keras.Model, batches: Iterable, extract: Callable | None = None) -> tuple[np.ndarray, ...]:
    """Scores every image of `batches`, in their order.

    Args:
        model: the network, uint8 images to logits.
        batches: (image uint8 [B, px, px, C], label [B], weight [B]); weight 0 marks padding.
        extract: a function of uint8 [B, px, px, C] to [B, ...], or None.

    Returns:
        (labels int64 [N], logits float32 [N]), and with `extract` its concatenated results as a third array.
    """
    labels, logits, features = [], [], []
    for image, label, weight in batches:
        real = weight.numpy() > 0
        labels.append(label.numpy()[real])
        logits.append(model.predict_on_batch(image)[real])
        if extract:
            features.append(extract(np.asarray(image)[real]))
    parts = (labels, logits, features) if extract else (labels, logits)
    labels, *rest = (np.concatenate(part) for part in parts)
    return labels.astype(np.int64), *rest


def in_eight_orientations(batches: Iterable) -> Iterator[tuple]:
    """Yields each of `batches` (image uint8 [B, px, px, C], label, weight) eight times: in its quarter turns, and
    mirrored.

    A surface has no upside. With few images there is then more to choose a threshold by, though no more evidence.
    """
    for image, label, weight in batches:
        for turns in range(4):
            turned = np.rot90(np.asarray(image), turns, (1, 2))
            yield turned, label, weight
            yield turned[:, :, ::-1], label, weight


def best_accuracy(labels: np.ndarray, logits: np.ndarray) -> float:
    """The highest accuracy that any threshold reaches, 0..1.

    Networks are compared each at its own threshold, because after a short training 0.5 may call all images cracked.

    Args:
        labels: int or bool [N], 1 means cracked.
        logits: float [N].
    """
    order = np.argsort(-logits, kind="stable")
    labels, logits = np.asarray(labels)[order] > 0, np.asarray(logits)[order]
    # Correct decisions with the first k called cracked: the cracked ones among them, and the clean ones behind them.
    right = np.concatenate([[0], np.cumsum(labels)]) + (~labels).sum() - np.concatenate([[0], np.cumsum(~labels)])
    ends = np.concatenate([[True], logits[1:] != logits[:-1], [True]])  # equal scores are called alike
    return float(right[ends].max() / len(labels))


def map_batches(extract: Callable, batches: Iterable) -> np.ndarray:
    """The results of `extract`, a function of uint8 [B, px, px, C], concatenated over the images of `batches`."""
    return np.concatenate([extract(image)[weight.numpy() > 0] for image, _, weight in batches])


SPEED_BATCH = 64


def measure_throughput(
    models: dict[str, keras.Model], seconds: float, windows: int, compiled: bool
) -> dict[str, throughput.Throughput]:
    """Measures images/s of each model over batches of 64 random images in memory.

    The models take turns, one timing window each, so that a slow moment affects all of them. What comes before the
    first window is left out.

    Args:
        models: networks by name.
        seconds: length of a window.
        windows: number of windows per model.
        compiled: whether XLA compiles the models.
    """
    return throughput.interleaved(
        {name: _build_scorer(model, compiled) for name, model in models.items()}, seconds, windows
    )


def _build_scorer(model: keras.Model, compiled: bool) -> Callable[[], int]:
    shape = (SPEED_BATCH, *model.input_shape[1:])
    image = tf.constant(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    score = tf.function(lambda image: model(image, training=False), jit_compile=compiled)

    def advance() -> int:
        score(image).numpy()  # waits for the device
        return SPEED_BATCH

    return advance
