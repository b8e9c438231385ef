"""Windows that crackflow.predict --suggest chooses against windows drawn at random: what so many labels of each teach.

  python -m benchmarks.suggest --json=benchmarks/results/suggest.json
  python -m benchmarks.suggest --sets=brick --sizes=20 --draws=1

The windows of each set (brick facades, DeepCrack cut to 128 px), which the shipped model has never seen, are parted by
photograph into a half to choose from and a half to test on, anew in each draw. Of the first half so many windows are
labelled: those that `inference.suggestions` chooses by the model's probabilities and by their texture, or as many at
random. A learner sees them and ranks the other half. The learner is an argument of `simulate`; that of this command is
a logistic regression on the features before the model's last layer, because it takes milliseconds and has no settings
that a choice of windows could favour. `model`: the shipped model as it is, without any label.
"""

import pathlib
import statistics
import sys
import tempfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import harness
from crackflow.core import runtime
from crackflow.core.backend import keras
from crackflow.data import dataset
from crackflow.inference import suggestions
from crackflow.model import model_file
from crackflow.pipeline import tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec

SETS = {
    "brick": ("--positive_class=Positive",),
    "deepcrack": ("--layout=masks", "--patch_px=128"),
}
SIZES = (10, 20, 40, 80)
BATCH = 128
CHOICES = ("suggested", "random")
Scorer = Callable[[np.ndarray], np.ndarray]  # images uint8 [N, px, px, C] -> float [N], larger for cracked, 0.5 between
Learner = Callable[[np.ndarray, np.ndarray], Scorer]  # images, labels bool [N] -> what ranks other images


class Windows(NamedTuple):
    """Labelled windows: `images` uint8 [N, px, px, C], `labels` bool [N], `photographs` int [N], equal for windows that
    are not independent."""

    images: np.ndarray
    labels: np.ndarray
    photographs: np.ndarray


def load_windows(name: str, card: model_file.ModelMetadata, directory: pathlib.Path) -> Windows:
    """All windows of a set that crackflow.convert accepts."""
    out, images = directory / name, harness.data_folder() / name
    flags = (f"--images={images}", f"--out={out}", "--split=0,0,1", *SETS[name])
    harness.watch([sys.executable, "-m", "crackflow.convert", *flags])
    data = dataset.load(str(out))
    parts = [
        (image.numpy(), label.numpy())
        for image, label, _ in tfrecord_loader.eval_batches(
            data, "test", BatchSpec(BATCH, card.image_px, card.channels)
        )
    ]
    labels = np.concatenate([label for _, label in parts]).astype(bool)
    groups = tfrecord_loader.paths_and_groups(data, "test")[1]
    return Windows(np.concatenate([image for image, _ in parts]), labels, groups)


def batched(model: Callable, images: np.ndarray) -> np.ndarray:
    """`model` over `images`, in batches of one size or less."""
    return np.concatenate([np.asarray(model(images[at : at + BATCH])) for at in range(0, len(images), BATCH)])


def logistic_regression(loaded: model_file.TrainedModel) -> Learner:
    """A learner on the features before the model's last dense layer; of one class alone it learns nothing."""
    dense = next(layer for layer in reversed(loaded.model.layers) if isinstance(layer, keras.layers.Dense))
    features = keras.Model(loaded.model.inputs, dense.input)

    def adapt_weights(images: np.ndarray, labels: np.ndarray) -> Scorer:
        if labels.all() or not labels.any():
            return lambda others: batched(loaded.probabilities, others)
        learnt = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
        learnt.fit(batched(features, images), labels)
        return lambda others: learnt.predict_proba(batched(features, others))[:, 1]

    return adapt_weights


def choose(windows: Windows, probabilities: np.ndarray, rows: np.ndarray, size: int, threshold: float) -> np.ndarray:
    """Which of `rows`, int [M], the suggestion chooses."""
    px = windows.images.shape[1]
    boxes = np.array([[px * row, 0, px, px] for row in rows])  # windows of one photograph do not overlap here
    features = np.array([suggestions.describe(windows.images[row]) for row in rows])
    choices = suggestions.select(windows.photographs[rows], boxes, probabilities[rows], features, size, threshold)
    return rows[[choice.index for choice in choices]]


def scores(scorer: Scorer, windows: Windows, tested: np.ndarray) -> dict[str, float]:
    """The ranking and the decisions of a scorer on the rows `tested`."""
    values, labels = scorer(windows.images[tested]), windows.labels[tested]
    return {
        "roc_auc": float(roc_auc_score(labels, values)),
        "balanced_accuracy": float(balanced_accuracy_score(labels, values >= 0.5)),
    }


def simulate(
    windows: Windows,
    loaded: model_file.TrainedModel,
    adapt_weights: Learner,
    sizes: tuple[int, ...] = SIZES,
    draws: int = 5,
) -> list[dict]:
    """Labels windows of one half by both choices, and tests on the other half.

    Args:
        windows: labelled windows.
        loaded: the model by whose probabilities windows are suggested.
        adapt_weights: learns from the labelled windows.
        sizes: how many windows are labelled.
        draws: how often the halves are drawn.

    Returns:
        One entry for each draw, size and choice, and one for the model as it is.
    """
    probabilities, measured = batched(loaded.probabilities, windows.images), []
    threshold = loaded.card.threshold
    for draw in range(draws):
        random = np.random.default_rng(draw)
        photographs = random.permutation(np.unique(windows.photographs))
        is_pool = np.isin(windows.photographs, photographs[: len(photographs) // 2])
        pool, tested = np.flatnonzero(is_pool), np.flatnonzero(~is_pool)
        plain = scores(lambda others: batched(loaded.probabilities, others), windows, tested)
        measured.append({"draw": draw, "choice": "model", "size": 0, "tested": len(tested)} | plain)
        for size in sizes:
            rows = {
                "suggested": choose(windows, probabilities, pool, size, threshold),
                "random": random.permutation(pool)[:size],
            }
            for choice in CHOICES:
                labels = windows.labels[rows[choice]]
                scorer = adapt_weights(windows.images[rows[choice]], labels)
                facts = {"draw": draw, "choice": choice, "size": size, "tested": len(tested)}
                facts |= {"labelled": len(labels), "cracked": int(labels.sum())}
                measured.append(facts | scores(scorer, windows, tested))
    return measured


def summary(runs: list[dict], sizes: tuple[int, ...]) -> dict:
    """Means over the draws, and the differences of the two choices in each draw."""
    result = {}
    for size in (0, *sizes):
        by_choice = {}
        for choice in ("model",) if size == 0 else CHOICES:
            own = [run for run in runs if (run["choice"], run["size"]) == (choice, size)]
            by_choice[choice] = {
                key: statistics.mean(run[key] for run in own) for key in ("roc_auc", "balanced_accuracy")
            }
            if size:
                by_choice[choice]["cracked"] = statistics.mean(run["cracked"] for run in own)
        if size:
            pairs = [[run for run in runs if (run["choice"], run["size"]) == (choice, size)] for choice in CHOICES]
            by_choice["suggested_less_random"] = {
                key: [a[key] - b[key] for a, b in zip(*pairs, strict=True)] for key in ("roc_auc", "balanced_accuracy")
            }
        result[str(size)] = by_choice
    return result


def main() -> None:
    options = harness.arguments(__doc__, sets=",".join(SETS), sizes=",".join(map(str, SIZES)), draws=5, model="")
    sizes = tuple(map(int, options.sizes.split(",")))
    runtime.configure(seed=0, threads=0, deterministic=False)
    loaded = model_file.load(options.model)
    results = {"model": loaded.sha256, "draws": options.draws, "learner": "logistic regression", "sets": {}}
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        for name in options.sets.split(","):
            windows = load_windows(name, loaded.card, pathlib.Path(folder))
            runs = simulate(windows, loaded, logistic_regression(loaded), sizes, options.draws)
            facts = {"windows": len(windows.labels), "cracked": int(windows.labels.sum())}
            results["sets"][name] = facts | {"summary": summary(runs, sizes), "runs": runs}
            harness.save(options.json, results)


if __name__ == "__main__":
    main()
