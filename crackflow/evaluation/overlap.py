"""Counts the evaluated images that the model has seen before, and measures it on the others.

Synopsis::

    seen = overlap.find_seen(card.fingerprint, loaded.training_images, dataset, ["train", "test"])  # int8 [N], or None
    measured = overlap.measure(seen, labels, probabilities, groups, threshold, resamples=1000, seed=0)
    overlap.in_words(measured)                                           # a line, "" when there is nothing to say
"""

from collections.abc import Collection, Sequence

import numpy as np

from crackflow.data import digests
from crackflow.data.dataset import Dataset
from crackflow.evaluation import metrics
from crackflow.model.training_images import TRAINED, UNSEEN, VALIDATED, TrainingImages

ROLES = {"train": TRAINED, "val": VALIDATED}


def find_seen(
    fingerprint: str,
    known: TrainingImages | None,
    dataset: Dataset,
    splits: Sequence[str],
    decided_on: Collection[str] = (),
) -> np.ndarray | None:
    """Finds which images of `splits` the model was trained on or validated by.

    Images are recognised by split when `dataset` is the model's own, and by the digests of the source files, which
    don't depend on how the files were converted.

    Args:
        fingerprint: that of the model's dataset.
        known: digests of the images the model was trained on and validated by, or None.
        dataset: the dataset that is evaluated.
        splits: names of the evaluated splits.
        decided_on: splits on which the threshold was chosen after training.

    Returns:
        int8 [N]: UNSEEN, VALIDATED or TRAINED for each image of `splits`, in their order. None when nothing is known:
        another dataset, and a model file without digests.
    """
    own = dataset.metadata["fingerprint"] == fingerprint
    by_split, is_known = [], own or bool(decided_on)
    for split in splits:
        seen = np.full(dataset.count(split), UNSEEN, np.int8)
        listed = digests.load(dataset, split) if known else None
        if listed is not None:
            seen, is_known = known.look_up(listed), True
        if own:
            seen = np.maximum(seen, ROLES.get(split, UNSEEN))
        if split in decided_on:
            seen = np.maximum(seen, VALIDATED)
        by_split.append(seen)
    return np.concatenate(by_split) if is_known else None


def measure(
    seen: np.ndarray | None,
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    threshold: float,
    resamples: int,
    seed: int,
) -> dict:
    """Counts the seen images, and measures the metrics without them.

    Args:
        seen: int8 [N] from `find_seen`, or None.
        labels, probabilities, groups, threshold, resamples, seed: as in `metrics.measure`.

    Returns:
        {} when `seen` is None; else `n`, the number of images; `trained_on` and `validated_on`, how many of them the
        model has seen; `without`, the metrics without those: None when no image is left, or none was left out.
    """
    if seen is None:
        return {}
    fresh = seen == UNSEEN
    without = None
    if fresh.any() and not fresh.all():
        without = metrics.measure(labels[fresh], probabilities[fresh], groups[fresh], threshold, resamples, seed)
    return {
        "n": len(seen),
        "trained_on": int((seen == TRAINED).sum()),
        "validated_on": int((seen == VALIDATED).sum()),
        "without": without,
    }


def in_words(measured: dict) -> str:
    """The sentence '32 of 96 images were in the model's training data ...', or ''."""
    trained, validated = measured.get("trained_on", 0), measured.get("validated_on", 0)
    if not trained + validated:
        return ""
    parts = [f"{trained:,} trained on"] * bool(trained)
    parts += [f"{validated:,} on which epoch, temperature or threshold were chosen"] * bool(validated)
    line = (
        f"{trained + validated:,} of {measured['n']:,} images were in the model's training data ({', '.join(parts)}): "
        "these figures are no test"
    )
    if measured["without"] is None:
        return f"{line}, and no image is left without them"
    confusion, count = measured["without"]["confusion"], measured["without"]["n"]
    low, high = measured["without"]["accuracy_ci95"]
    return (
        f"{line}; without them: accuracy {measured['without']['accuracy']:.4f} [{low:.4f}, {high:.4f}] of {count:,}, "
        f"missed cracks {confusion['fn']:,}, false alarms {confusion['fp']:,}"
    )
