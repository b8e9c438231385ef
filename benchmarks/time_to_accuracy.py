"""How long does it take from photographs to a report, and how good and fast is the model? METU, split by group.

  python -m benchmarks.time_to_accuracy --json=benchmarks/results/time_to_accuracy.json
  python -m benchmarks.time_to_accuracy --settings=fast --networks=all --seeds=1 --json=...
  python -m benchmarks.time_to_accuracy --settings=speeds --json=...

Runs the three commands a user would run (convert, train, evaluate), each in its own process, and measures wall clock,
start-up included. Settings: `fast` and `accurate` (launch/flags/metu_fast.cfg, metu_accurate.cfg) and `baseline`, the
original network `seed`. Other runs in the file are preserved. `--alone=0` says that other work was running: accuracies
are still valid, but seconds are an upper bound. `images_per_sec` of training is that of the median epoch. For scoring,
with batches of 64 from memory, `--settings=speeds` measures it for every run in the file, without training.
"""

import json
import os
import pathlib
import statistics
import sys
import tempfile

from benchmarks import harness
from crackflow.core import csv_files, runtime
from crackflow.core.config.network import Network
from crackflow.evaluation import scoring
from crackflow.model import model_file, networks

# BUILD_NOTES.md describes how the settings were tuned on validation images.
FLAGS = {
    "fast": "launch/flags/metu_fast.cfg",
    "accurate": "launch/flags/metu_accurate.cfg",
    "baseline": "launch/flags/seed_baseline.cfg",
}


def measure(setting: str, network: str, seed: int, alone: bool, images: pathlib.Path, directory: pathlib.Path) -> dict:
    """Seconds per command, accuracy on the test split, and speeds."""
    data, run, test = directory / "data", directory / "run", directory / "test"

    def command(verb: str, *options: str) -> float:
        return harness.watch([sys.executable, "-m", f"crackflow.{verb}", *options]).seconds

    load = round(os.getloadavg()[0], 2)
    training = [f"--data={data}", f"--run_dir={run}", f"--seed={seed}"]
    seconds = {
        "convert": command("convert", f"--images={images}", f"--out={data}"),
        "train": command("train", *training, f"--flagfile={FLAGS[setting]}", f"--model={network}"),
        "evaluate": command("evaluate", f"--model={run}", f"--data={data}", f"--out={test}"),
    }
    metrics = json.loads((test / "metrics.json").read_text())
    history = csv_files.read(str(run / "history.csv"))
    keep = ("accuracy", "accuracy_ci95", "f1", "recall", "specificity", "roc_auc", "ece", "threshold", "n", "confusion")
    loaded = model_file.load(str(run))
    return {
        "setting": setting,
        "network": network,
        "settings": FLAGS[setting],
        "seed": seed,
        "image_px": loaded.card.image_px,
        "parameters": loaded.model.count_params(),
        "epochs": len(history),
        "best_val_accuracy": max(float(row["val_accuracy"]) for row in history),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "cpu": runtime.machine()["cpu"],
        "load_before": load,
        "alone": alone,
        "total_seconds": round(sum(seconds.values()), 1),
        "images_per_sec": {
            "train": round(statistics.median(float(row["images_per_sec"]) for row in history), 1),
            "score": round(scoring_speed(network, loaded.card.image_px), 1) if alone else None,
        },
        "metrics": {name: metrics[name] for name in keep},
    }


def scoring_speed(network: str, image_px: int) -> float:
    """Images/s of the network in a compiled graph, median of five windows of one second."""
    model = networks.NETWORKS[Network(network)].build(image_px)
    return scoring.measure_throughput({network: model}, 1.0, 5, compiled=False)[network].median


def plan(settings: list[str], networks: list[str], seeds: int) -> list[tuple[str, str, int]]:
    """(setting, network, seed) of each run; the baseline is a single run of the network `seed`."""
    runs = []
    for setting in settings:
        if setting == "baseline":
            runs.append((setting, "seed", 0))
        else:
            runs += [(setting, network, seed) for network in networks for seed in range(seeds) if network != "seed"]
    return runs


def main() -> None:
    options = harness.arguments(__doc__, settings="fast,accurate,baseline", networks="crackflow_s", seeds=3, alone=1)
    runtime.configure(seed=0, threads=0, deterministic=False)
    images = harness.data_folder() / "metu"
    all_networks = [network.value for network in Network if network is not Network.CUSTOM]
    selected = all_networks if options.networks == "all" else options.networks.split(",")
    runs = {(run["setting"], run["network"], run["seed"]): run for run in stored(options.json)}
    if options.settings == "speeds":
        for size in sorted({(run["network"], run["image_px"]) for run in runs.values()}):
            speed = round(scoring_speed(*size), 1)
            print(f"{size}: {speed} images/s", file=sys.stderr)
            for run in runs.values():
                if (run["network"], run["image_px"]) == size:
                    run["images_per_sec"]["score"] = speed
        ordered = [runs[key] for key in sorted(runs)]
        harness.save(options.json, {"summary": summary(ordered), "runs": ordered})
        return
    for key in plan(options.settings.split(","), selected, options.seeds):
        with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
            runs[key] = last = measure(*key, bool(options.alone), images, pathlib.Path(folder))
        line = f"{last['total_seconds']} s, accuracy {last['metrics']['accuracy']:.4f}, {last['images_per_sec']}"
        print(f"{key}: {line}", file=sys.stderr)
        ordered = [runs[key] for key in sorted(runs)]
        harness.save(options.json, {"summary": summary(ordered), "runs": ordered})


def stored(path: str) -> list[dict]:
    return harness.results(path).get("runs", [])


def summary(runs: list[dict]) -> dict:
    """For crackflow_s and each setting: median and worst time, accuracy per seed."""
    by_setting = {}
    for setting in ("fast", "accurate"):
        setting_runs = [run for run in runs if run["setting"] == setting and run["network"] == "crackflow_s"]
        if setting_runs:
            by_setting[setting] = {
                "median_seconds": statistics.median(run["total_seconds"] for run in setting_runs),
                "worst_seconds": max(run["total_seconds"] for run in setting_runs),
                "accuracy": [run["metrics"]["accuracy"] for run in setting_runs],
            }
    return by_setting


if __name__ == "__main__":
    main()
