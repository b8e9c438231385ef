"""What a few labelled windows are worth: accuracy on other windows of the surface against their number.

  python -m benchmarks.adapt --json=benchmarks/results/adapt.json
  python -m benchmarks.adapt --sets=brick --sizes=20,100 --draws=5

For each set of real windows (brickwork; DeepCrack and CFD cut into windows of 227 pixels by their masks), each number
of windows per class and each draw: balanced accuracy and ROC AUC on all windows of other groups, of the model that
comes with crackflow as it is, with its threshold chosen anew on the windows, with a logistic regression on its pooled
features, fitted to the clean ones alone as crackflow.adapt does where nothing else is labelled (cracks are drawn onto
them), and adapted to all as it does: cross-validation for the estimate, temperature and threshold, then a fit.
`estimates`: for each draw what the cross-validation said, the ends of its interval, and what the model was worth on the
other windows; `covered`: in how many draws the interval held that. With --metu, a dataset converted from METU, the
adapted models are also measured on its test split: what they have forgotten. Results are saved after each set.
"""

import statistics
import time

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from benchmarks import harness
from crackflow.core.backend import keras
from crackflow.core.config.adapt import AdaptConfig
from crackflow.data import dataset as dataset_io
from crackflow.evaluation import adaptation, labelled_windows, scoring
from crackflow.evaluation.adaptation import Windows
from crackflow.inference import predictor
from crackflow.model import model_file
from crackflow.pipeline import tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from crackflow.training.fine_tuning import FineTuner

WINDOW_PX = 227
METHODS = ("as it is", "threshold", "head", "clean alone", "adapt")


def windows_of(name: str, loaded: model_file.TrainedModel) -> Windows:
    """All labelled windows of a set, as crackflow.adapt reads them."""
    config = AdaptConfig(images=str(harness.data_folder() / name), out="unused", patch_px=WINDOW_PX)
    return labelled_windows.gather(config, predictor.Model(loaded)).windows


def draw(windows: Windows, size: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows of `size` windows of each class, rows of all windows of other groups)."""
    random = np.random.default_rng(number)
    rows = [random.permutation(np.flatnonzero(windows.labels == label))[:size] for label in (0, 1)]
    rows = np.concatenate(rows)
    return rows, np.flatnonzero(~np.isin(windows.groups, windows.groups[rows]))


def measure(labels: np.ndarray, logits: np.ndarray, threshold: float) -> dict[str, float]:
    return {"balanced": adaptation.balanced(labels, logits, threshold), "roc_auc": roc_auc_score(labels, logits)}


def metu_accuracy(
    loaded: model_file.TrainedModel, dataset: dataset_io.Dataset, calibration: adaptation.Calibration
) -> float:
    """The accuracy of the network, as its weights are now, on the test split."""
    spec = BatchSpec(256, loaded.card.image_px, loaded.card.channels)
    labels, logits = scoring.predict_logits(loaded.model, tfrecord_loader.eval_batches(dataset, "test", spec))
    return float(((calibration.margins(logits) >= 0) == (labels == 1)).mean())


def main() -> None:
    options = harness.arguments(__doc__, sets="brick,deepcrack,cfd", sizes="10,20,50,100", draws=5, metu="")
    loaded = model_file.load("")
    card, settings, folds = loaded.card, AdaptConfig.fine_tuning, AdaptConfig.folds
    tuner = FineTuner(loaded.model, settings, adaptation.to_remember(card.image_px, card.channels))
    pooled = keras.Model(loaded.model.input, loaded.model.layers[-2].input)
    metu = dataset_io.load(options.metu) if options.metu else None
    results: dict = {"settings": {"batch_size": settings.batch_size}, "sets": {}}
    for name in options.sets.split(","):
        windows = windows_of(name, loaded)
        as_is = tuner.scores(windows.images) / card.temperature
        features = pooled.predict(windows.images, verbose=0, batch_size=128)
        entry = {"windows": len(windows.labels), "cracked": int(windows.labels.sum()), "sizes": {}}
        entry["as it is"] = measure(windows.labels, as_is, card.threshold)
        print(name, entry["windows"], entry["as it is"], flush=True)
        results["sets"][name] = entry
        for size in map(int, options.sizes.split(",")):
            measured: dict[str, list] = {method: [] for method in METHODS}
            seconds, forgotten, estimates = [], [], []
            for number in range(options.draws):
                rows, others = draw(windows, size, number)
                labels, truth = windows.labels[rows], windows.labels[others]
                measured["as it is"].append(measure(truth, as_is[others], card.threshold))
                threshold = adaptation.balanced_threshold(labels, as_is[rows])
                measured["threshold"].append(measure(truth, as_is[others], threshold))
                head = LogisticRegression(max_iter=2000).fit(features[rows], labels)
                measured["head"].append(measure(truth, head.decision_function(features[others]), 0.5))
                clean = rows[labels == 0]
                tuner.fit(*adaptation.fitted(windows.images[clean], windows.labels[clean]), number)
                alone = adaptation.calibrate(card, labels[labels == 0], np.zeros(size))
                margins = alone.margins(tuner.scores(windows.images[others]))
                measured["clean alone"].append(measure(truth, margins, 0.5))
                began = time.perf_counter()
                chosen = Windows(
                    windows.images[rows], labels, windows.groups[rows], [windows.paths[row] for row in rows]
                )
                trial = adaptation.cross_validate(card, tuner, chosen, folds, number)
                calibration = adaptation.calibrate(card, labels, trial.after_logits)
                tuner.fit(chosen.images, labels, number)
                seconds.append(time.perf_counter() - began)
                measured["adapt"].append(measure(truth, calibration.margins(tuner.scores(windows.images[others])), 0.5))
                estimates.append([*trial.after, measured["adapt"][-1]["balanced"]])
                if metu:
                    forgotten.append(metu_accuracy(loaded, metu, calibration))
                tuner.restore()
            means = {
                method: {key: statistics.mean(one[key] for one in values) for key in ("balanced", "roc_auc")}
                | {"worst": min(one["balanced"] for one in values)}
                for method, values in measured.items()
            }
            covered = sum(low <= true <= high for _, low, high, true in estimates)
            entry["sizes"][size] = means | {
                "seconds": statistics.median(seconds),
                "metu": forgotten,
                "covered": covered,
                "estimates": estimates,
            }
            line = ", ".join(f"{method} {value['balanced']:.3f}" for method, value in means.items())
            line += f"; METU {min(forgotten, default=0):.4f}, {statistics.median(seconds):.0f} s, {covered} covered"
            print(f"{name} {size} + {size}: {line}", flush=True)
        if options.json:
            harness.save(options.json, results)


if __name__ == "__main__":
    main()
