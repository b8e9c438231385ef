"""How long from a folder of photographs to a report, and how good is the model? METU, split by group.

  python -m benchmarks.time_to_accuracy --json=benchmarks/results/time_to_accuracy.json

Runs the three commands a user would run (convert, train, evaluate), each a process of its own, wall clock, start-up
included; once for each seed of crackflow_s, and once for the network `seed` on the same split. The runs of networks
that are not asked for (--networks) stay in the file as they are: `seed` takes an hour.
"""

import json
import os
import pathlib
import statistics
import sys
import tempfile

from benchmarks import harness

# How the first was chosen, on validation images, is in BUILD_NOTES.md.
FLAGS = {"crackflow_s": "launch/flags/metu_fast.cfg", "seed": "launch/flags/seed_baseline.cfg"}


def measure(network: str, seed: int, images: pathlib.Path, place: pathlib.Path) -> dict:
    """Seconds of each command, and the accuracy on the test split."""
    data, run, test = place / "data", place / "run", place / "test"

    def command(verb: str, *options: str) -> float:
        return harness.watch([sys.executable, "-m", f"crackflow.{verb}", *options]).seconds

    load = round(os.getloadavg()[0], 2)
    seconds = {
        "convert": command("convert", f"--images={images}", f"--out={data}"),
        "train": command(
            "train", f"--data={data}", f"--run_dir={run}", f"--seed={seed}", f"--flagfile={FLAGS[network]}"
        ),
        "evaluate": command("evaluate", f"--model={run}", f"--data={data}", f"--out={test}"),
    }
    metrics = json.loads((test / "metrics.json").read_text())
    keep = ("accuracy", "accuracy_ci95", "f1", "recall", "specificity", "roc_auc", "ece", "threshold", "n", "confusion")
    return {
        "network": network,
        "settings": FLAGS[network],
        "seed": seed,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "load_before": load,
        "total_seconds": round(sum(seconds.values()), 1),
        "metrics": {name: metrics[name] for name in keep},
    }


def main() -> None:
    options = harness.arguments(__doc__, networks="crackflow_s,seed", seeds=3)
    images = harness.data_folder() / "metu"
    asked = options.networks.split(",")
    plan = [(network, seed) for network in asked for seed in range(options.seeds if network != "seed" else 1)]
    runs = [run for run in harness.results(options.json).get("runs", []) if run["network"] not in asked]
    for network, seed in plan:
        with tempfile.TemporaryDirectory(prefix="crackflow-") as place:
            runs.append(measure(network, seed, images, pathlib.Path(place)))
        last = runs[-1]
        accuracy = f"{last['metrics']['accuracy']:.4f}"
        print(f"{network} seed {seed}: {last['total_seconds']} s, accuracy {accuracy}", file=sys.stderr)
    runs.sort(key=lambda run: (run["network"], run["seed"]))
    ours = [run for run in runs if run["network"] == "crackflow_s"]
    summary = {
        "median_seconds": statistics.median(run["total_seconds"] for run in ours),
        "worst_seconds": max(run["total_seconds"] for run in ours),
        "worst_accuracy": min(run["metrics"]["accuracy"] for run in ours),
    }
    harness.save(options.json, {"summary": summary, "runs": runs})


if __name__ == "__main__":
    main()
