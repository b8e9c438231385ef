"""How many of the images that are evaluated the model has seen before, and what it is worth on the others.

Synopsis::

    seen = overlap.find_seen(card.fingerprint, loaded.training_images, made, ["train", "test"])   # int8 [N], or None
    found = overlap.measure(seen, labels, probabilities, groups, threshold, resamples=1000, seed=0)
    overlap.in_words(found)                                              # a line, "" where there is nothing to say
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
    made: Dataset,
    splits: Sequence[str],
    decided_on: Collection[str] = (),
) -> np.ndarray | None:
    """int8 [N]: UNSEEN, VALIDATED or TRAINED for each image of `splits`, in their order.

    By the `fingerprint` of the model's data set, when it is this one, and by the digests of the files it has `known`,
    which tell it however they were converted. `decided_on`: splits on which the threshold was chosen since. None where
    nothing is known: another data set, and a model file that has no digests.
    """
    own = made.facts["fingerprint"] == fingerprint
    found, told = [], own or bool(decided_on)
    for split in splits:
        part = np.full(made.count(split), UNSEEN, np.int8)
        listed = digests.load(made, split) if known else None
        if listed is not None:
            part, told = known.look_up(listed), True
        if own:
            part = np.maximum(part, ROLES.get(split, UNSEEN))
        if split in decided_on:
            part = np.maximum(part, VALIDATED)
        found.append(part)
    return np.concatenate(found) if told else None


def measure(
    seen: np.ndarray | None,
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    threshold: float,
    resamples: int,
    seed: int,
) -> dict:
    """{} where nothing is known; else `n`, how many of them are `trained_on`, `validated_on`, and the metrics `without`
    them: None where no image is left, or none had to be left out."""
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


def in_words(found: dict) -> str:
    """'32 of 96 images were in the model's training data ...', or ''."""
    trained, validated = found.get("trained_on", 0), found.get("validated_on", 0)
    if not trained + validated:
        return ""
    parts = [f"{trained:,} trained on"] * bool(trained)
    parts += [f"{validated:,} on which epoch, temperature or threshold were chosen"] * bool(validated)
    line = (
        f"{trained + validated:,} of {found['n']:,} images were in the model's training data ({', '.join(parts)}): "
        "these figures are no test"
    )
    if found["without"] is None:
        return f"{line}, and no image is left without them"
    confusion, count = found["without"]["confusion"], found["without"]["n"]
    low, high = found["without"]["accuracy_ci95"]
    return (
        f"{line}; without them: accuracy {found['without']['accuracy']:.4f} [{low:.4f}, {high:.4f}] of {count:,}, "
        f"missed cracks {confusion['fn']:,}, false alarms {confusion['fp']:,}"
    )
