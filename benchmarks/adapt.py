"""What a few labelled windows are worth: accuracy on other windows of the surface against their number.

  python -m benchmarks.adapt --json=benchmarks/results/adapt.json
  python -m benchmarks.adapt --sets=brick --sizes=20,100 --draws=5 --methods=adapt

For each surface (brickwork; DeepCrack and CFD cut into windows by their masks; two synthetic surfaces
that no training has, `benchmarks.strange_surfaces`), each number of windows per class and each draw: balanced accuracy
and ROC AUC on the windows of other groups, of the model that comes with crackflow

- `as it is`;
- `threshold`: with its threshold chosen anew on the windows;
- `head`: a logistic regression on its pooled features;
- `clean alone`: fitted to the clean ones alone as crackflow.adapt does where nothing else is labelled;
- `adapt`: what crackflow.adapt delivers, which is the model as it is where nothing else is proved better, by the same
  cross-validation; `fitted`: the adapted weights in any case, which its estimate is about;
- `scratch`, `weights`: crackflow.convert and crackflow.train with their defaults, from nothing and with
  --weights=shipped. They take a minute each.

The `estimate` of adapt is what its cross-validation said and the ends of the interval: each draw is a user, and in 95
of 100 the interval should hold what the adapted weights are worth on the other windows. `metu`: the accuracy of those
weights on the test split of the dataset --metu, converted from METU: what they have forgotten.

Results are saved after each draw, and a run with the same --json measures only what is missing there. benchmarks.report
makes the tables of them, benchmarks.pictures the picture.
"""

import dataclasses
import functools
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from benchmarks import harness, report, strange_surfaces
from crackflow.core.backend import keras
from crackflow.core.config.adapt import AdaptConfig
from crackflow.data import dataset as dataset_io
from crackflow.evaluation import adaptation, labelled_windows, scoring
from crackflow.evaluation.adaptation import Outcome, Windows
from crackflow.inference import predictor
from crackflow.model import model_file
from crackflow.pipeline import tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from crackflow.training.fine_tuning import FineTuner

WINDOW_PX = {"deepcrack": 128, "cfd": 160}  # of sets with masks, as in benchmarks.unseen
SYNTHETIC_COUNT = 700  # as many as there are of brickwork
SETS = ("brick", "deepcrack", "cfd", *strange_surfaces.SURFACES)
FEW = ("threshold", "head", "clean alone", "adapt")
TRAINED = {"scratch": "", "weights": "shipped"}


def windows_of(name: str, loaded: model_file.TrainedModel) -> Windows:
    """All labelled windows of a set, at the size of the network."""
    if name in strange_surfaces.SURFACES:
        images, labels = strange_surfaces.draw(name, SYNTHETIC_COUNT, loaded.card.image_px)
        return Windows(images, labels, np.arange(len(labels)), [f"{name} {index}" for index in range(len(labels))])
    config = AdaptConfig(images=str(harness.data_folder() / name), out="unused", patch_px=WINDOW_PX.get(name, 0))
    return labelled_windows.gather(config, predictor.Model(loaded)).windows


def draw(windows: Windows, size: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows of `size` windows of each class, rows of all windows of other groups)."""
    random = np.random.default_rng(number)
    drawn = [random.permutation(np.flatnonzero(windows.labels == label))[:size] for label in (0, 1)]
    rows = np.concatenate(drawn)
    return rows, np.flatnonzero(~np.isin(windows.groups, windows.groups[rows]))


def measure(labels: np.ndarray, logits: np.ndarray, threshold: float) -> dict:
    """The decisions and the ranking of calibrated logits."""
    return {
        "balanced": adaptation.balanced(labels, logits, threshold),
        "roc_auc": float(roc_auc_score(labels, logits)),
    }


class Bench:
    """Measures methods on one set after the other."""

    def __init__(self, metu: str) -> None:
        self._loaded = model_file.load("")
        self._card = self._loaded.card
        remember = adaptation.to_remember(self._card.image_px, self._card.channels)
        self._tuner = FineTuner(self._loaded.model, AdaptConfig.fine_tuning, remember)
        self._pooled = keras.Model(self._loaded.model.input, self._loaded.model.layers[-2].input)
        self._metu = dataset_io.load(metu) if metu else None
        self._methods: dict[str, Callable[[np.ndarray, np.ndarray, int], dict]] = {
            "threshold": self._threshold,
            "head": self._head,
            "clean alone": self._clean_alone,
            "adapt": self._adapt,
            **{name: functools.partial(self._train, weights) for name, weights in TRAINED.items()},
        }

    def use(self, name: str) -> dict:
        """Reads a set; returns what the model is worth on it without any label."""
        self._windows = windows = windows_of(name, self._loaded)
        self._as_is = self._tuner.scores(windows.images) / self._card.temperature
        self._features = self._pooled.predict(windows.images, verbose=0, batch_size=128)
        as_is = measure(windows.labels, self._as_is, self._card.threshold)
        return {"windows": len(windows.labels), "cracked": int(windows.labels.sum()), "as it is": as_is}

    def draw(self, size: int, number: int, methods: list[str]) -> dict:
        """The figures of one draw, by method."""
        rows, others = draw(self._windows, size, number)
        as_is = measure(self._windows.labels[others], self._as_is[others], self._card.threshold)
        measured = {method: self._methods[method](rows, others, number) for method in methods}
        self._tuner.restore()
        return {"as it is": as_is, **measured}

    def _threshold(self, rows: np.ndarray, others: np.ndarray, number: int) -> dict:
        labels = self._windows.labels
        threshold = adaptation.balanced_threshold(labels[rows], self._as_is[rows])
        return measure(labels[others], self._as_is[others], threshold)

    def _head(self, rows: np.ndarray, others: np.ndarray, number: int) -> dict:
        labels = self._windows.labels
        head = LogisticRegression(max_iter=2000).fit(self._features[rows], labels[rows])
        return measure(labels[others], head.decision_function(self._features[others]), 0.5)

    def _clean_alone(self, rows: np.ndarray, others: np.ndarray, number: int) -> dict:
        images, labels = self._windows.images, self._windows.labels
        clean = rows[labels[rows] == 0]
        self._tuner.fit(*adaptation.fitted(images[clean], labels[clean]), number)
        calibration = adaptation.calibrate(self._card, labels[clean], np.zeros(len(clean)))
        return measure(labels[others], calibration.margins(self._tuner.scores(images[others])), 0.5)

    def _adapt(self, rows: np.ndarray, others: np.ndarray, number: int) -> dict:
        images, labels, groups, paths = dataclasses.astuple(self._windows)
        began = time.perf_counter()
        chosen = Windows(images[rows], labels[rows], groups[rows], [paths[row] for row in rows])
        trial = adaptation.cross_validate(self._card, self._tuner, chosen, AdaptConfig.folds, number)
        outcome = adaptation.choose(trial)
        calibration = adaptation.calibrate(self._card, chosen.labels, trial.after_logits)
        self._tuner.fit(chosen.images, chosen.labels, number)
        seconds = time.perf_counter() - began
        margins = calibration.margins(self._tuner.scores(images[others]))
        fitted = measure(labels[others], margins, 0.5)
        delivered = fitted
        if outcome is not Outcome.WEIGHTS:
            threshold = self._card.threshold
            if outcome is Outcome.THRESHOLD:
                threshold = adaptation.moved_threshold(self._card, chosen.labels, self._as_is[rows])
            delivered = measure(labels[others], self._as_is[others], threshold)
        figures = {**delivered, "fitted": fitted, "estimate": list(trial.after), "changed": outcome.value}
        figures["seconds"] = seconds
        if self._metu:
            figures["metu"] = self._metu_accuracy(calibration)
        return figures

    def _metu_accuracy(self, calibration: adaptation.Calibration) -> float:
        """The accuracy of the network, as its weights are now, on the test split."""
        spec = BatchSpec(256, self._card.image_px, self._card.channels)
        labels, logits = scoring.predict_logits(
            self._loaded.model, tfrecord_loader.eval_batches(self._metu, "test", spec)
        )
        return float(((calibration.margins(logits) >= 0) == (labels == 1)).mean())

    def _train(self, weights: str, rows: np.ndarray, others: np.ndarray, number: int) -> dict:
        """crackflow.convert and crackflow.train as a user runs them, on the windows as files."""
        images, labels = self._windows.images, self._windows.labels
        with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
            for row in rows:
                file = pathlib.Path(folder, "images", ("clean", "cracked")[labels[row]], f"{row}.png")
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(images[row]).save(file)
            began = time.perf_counter()
            harness.watch([sys.executable, "-m", "crackflow.convert", f"--images={folder}/images", f"--out={folder}/d"])
            flags = [f"--data={folder}/d", f"--run_dir={folder}/run", f"--seed={number}", f"--weights={weights}"]
            harness.watch([sys.executable, "-m", "crackflow.train", *flags])
            seconds = time.perf_counter() - began
            trained = model_file.load(f"{folder}/run")
        logits = trained.model.predict(images[others], verbose=0, batch_size=128).reshape(-1)
        figures = measure(labels[others], logits / trained.card.temperature, trained.card.threshold)
        return figures | {"seconds": seconds}


def main() -> None:
    options = harness.arguments(
        __doc__,
        sets=",".join(SETS),
        sizes="10,20,50,100",
        draws=5,
        methods=",".join((*FEW, *TRAINED)),
        metu="",
    )
    bench = Bench(options.metu)
    results = harness.results(options.json) or {"settings": {"batch_size": AdaptConfig.fine_tuning.batch_size}}
    sets = results.setdefault("sets", {})
    for name in options.sets.split(","):
        entry = bench.use(name)
        entry["sizes"] = sets.get(name, {}).get("sizes", {})
        sets[name] = entry
        print(name, entry["windows"], entry["as it is"], flush=True)
        for size in options.sizes.split(","):
            draws = entry["sizes"].setdefault(size, {})
            for number in range(options.draws):
                earlier = draws.get(str(number), {})
                missing = [method for method in options.methods.split(",") if method not in earlier]
                if not missing:
                    continue
                draws[str(number)] = earlier | bench.draw(int(size), number, missing)
                if options.json:
                    harness.save(options.json, results, quiet=True)
                line = ", ".join(f"{method} {draws[str(number)][method]['balanced']:.3f}" for method in missing)
                print(f"{name} {size} + {size}, draw {number}: {line}", flush=True)
    held = report.adapt_covered(sets)
    print(f"estimates: {sum(held)} of {len(held)} within their interval")


if __name__ == "__main__":
    main()
