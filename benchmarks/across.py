"""A model trained on METU, evaluated on METU and on unseen surfaces: DeepCrack and CFD, cut to windows.

  python -m benchmarks.across --json=benchmarks/results/across.json

For three seeds: trains as a user would (launch/flags/metu_accurate.cfg), then runs
`crackflow.evaluate --data=metu,deepcrack,cfd`, and again with `--threshold=recall:0.99`. METU's test split consists of
whole groups that training has not seen; all windows of the other datasets are test images. `ece_raw`: without
temperature.
"""

import json
import pathlib
import sys
import tempfile

from benchmarks import harness
from crackflow.core import runtime
from crackflow.data import dataset
from crackflow.evaluation import metrics, scoring
from crackflow.model import model_file
from crackflow.pipeline import tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec

FLAGS = "launch/flags/metu_accurate.cfg"
SETS = ("metu", "deepcrack", "cfd")
KEEP = (
    *("accuracy", "accuracy_ci95", "recall", "recall_ci95", "specificity", "specificity_ci95", "roc_auc"),
    *("roc_auc_ci95", "mcc", "ece", "ece_ci95", "threshold", "n", "confusion", "review", "suspects"),
)


def convert_datasets(directory: pathlib.Path) -> list[pathlib.Path]:
    for name in SETS:
        only_test = [] if name == "metu" else ["--layout=masks", "--split=0,0,1"]
        options = [f"--images={harness.data_folder() / name}", f"--out={directory / name}", *only_test]
        harness.watch([sys.executable, "-m", "crackflow.convert", *options])
    return [directory / name for name in SETS]


def measure(seed: int, sets: list[pathlib.Path], directory: pathlib.Path) -> dict:
    """Metrics on each dataset; temperature; METU at a threshold for recall 0.99."""
    run, evaluation_dir, at_recall_dir = (
        directory / f"run{seed}",
        directory / f"matrix{seed}",
        directory / f"careful{seed}",
    )
    training = [f"--flagfile={FLAGS}", f"--data={sets[0]}", f"--run_dir={run}", f"--seed={seed}"]
    harness.watch([sys.executable, "-m", "crackflow.train", *training])
    command = [sys.executable, "-m", "crackflow.evaluate", f"--model={run}"]
    harness.watch([*command, f"--data={','.join(map(str, sets))}", f"--out={evaluation_dir}"])
    harness.watch([*command, f"--data={sets[0]}", f"--out={at_recall_dir}", "--threshold=recall:0.99"])
    evaluations = json.loads((evaluation_dir / "metrics.json").read_text())["datasets"]
    loaded = model_file.load(str(run))
    data = dataset.load(str(sets[0]))
    batches = tfrecord_loader.eval_batches(data, "test", BatchSpec(128, loaded.card.image_px, loaded.card.channels))
    labels, logits = scoring.predict_logits(loaded.model, batches)
    at_recall = json.loads((at_recall_dir / "metrics.json").read_text())
    return {
        "seed": seed,
        "temperature": loaded.card.temperature,
        "ece_raw": metrics.calibration_error(labels, model_file.to_probabilities(logits)),
        "datasets": {name: {key: evaluations[name][key] for key in KEEP} for name in SETS},
        "recall_099": {
            key: at_recall[key] for key in ("recall", "recall_ci95", "specificity", "threshold", "confusion")
        },
    }


def main() -> None:
    options = harness.arguments(__doc__, seeds=3)
    runtime.configure(seed=0, threads=0, deterministic=False)
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        directory = pathlib.Path(folder)
        sets = convert_datasets(directory)
        runs = []
        for seed in range(options.seeds):
            runs.append(measure(seed, sets, directory))
            print(json.dumps(runs[-1]["datasets"]["metu"]["accuracy"]), file=sys.stderr)
        harness.save(options.json, {"network": "crackflow_s", "settings": FLAGS, "runs": runs})


if __name__ == "__main__":
    main()
