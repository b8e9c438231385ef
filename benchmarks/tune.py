"""Does a search find a good network? 30 trials on METU, and the best network next to the hand-designed family.

  python -m benchmarks.tune --json=benchmarks/results/tune.json              # search, then compare
  python -m benchmarks.tune --keep=runs/search --json=...                    # keeps or reuses the search folder
  python -m benchmarks.tune --keep=runs/search --networks=crackflow_l --json=...       # one more of the family

One command searches, as a user would run it. Its wall clock is measured; resident memory of its process and of the
running trial is sampled twice per second. Then crackflow.train trains the best network, from best.cfg, and each of the
family, on the same split, at the same size, for the same epochs, with three seeds; this is the first use of the test
split. Their images/s are measured in turn, in one process.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

from benchmarks import harness
from crackflow.core import csv_files, runtime
from crackflow.core.backend import keras
from crackflow.core.config.network import Architecture, Network
from crackflow.evaluation import scoring
from crackflow.model import model_file, networks
from crackflow.search import space

FAMILY = ("crackflow_xs", "crackflow_s", "crackflow_m", "crackflow_l")
PX, EPOCHS, TRIALS, FIRST = 96, 6, 30, 5
SAMPLE_SECONDS = 0.5
# Thirty trials are few for nineteen hyperparameters: those of training are fixed to the values of the hand-designed
# networks, as are those that slow networks down on a CPU without helping on METU (BUILD_NOTES.md has other searches).
FLAGS = ["--tuner=bayesian", "--objective=tradeoff", "--doubling_worth=0.0005", "--min_images_per_sec=5000"]
FLAGS += ["--max_params=600000"]
FLAGS += [
    "--hold=optimizer,learning_rate,schedule,batch_size,augment,downsampling,squeeze_excite,activation,pooling,dropout"
]


def resident(pid: int) -> list[int]:
    """Resident bytes of `pid` and of each of its descendants. This is cheap: the kernel keeps these counts."""
    sizes = []
    try:
        pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
        sizes = [pages * os.sysconf("SC_PAGE_SIZE")]
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                sizes += resident(int(child))
    except OSError:  # the process ended meanwhile
        return sizes
    return sizes


def search(data: pathlib.Path, out: pathlib.Path, trials: int) -> dict:
    """Runs and times the search. Records memory of its own process, and the peak over all processes, per trial."""
    command = [sys.executable, "-m", "crackflow.tune", f"--data={data}", f"--out={out}", f"--image_px={PX}"]
    command += [f"--max_epochs={EPOCHS}", f"--max_trials={trials}", *FLAGS]
    began, own_memory, total_memory = time.perf_counter(), {}, {}
    process = subprocess.Popen(command, cwd=harness.REPOSITORY)

    def sample() -> None:
        while process.poll() is None:
            ended = len(list(out.glob("trials/*/result.json")))
            memory = resident(process.pid)
            if memory and memory[0]:  # 0 as it ends
                own_memory[ended] = memory[0]
                total_memory[ended] = max(total_memory.get(ended, 0), sum(memory))
            time.sleep(SAMPLE_SECONDS)

    watcher = threading.Thread(target=sample)
    watcher.start()
    process.wait()
    watcher.join()
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    rows = csv_files.read(str(out / "trials.csv"))
    late = {ended: size for ended, size in own_memory.items() if ended >= FIRST}
    return {
        "command": " ".join(["python", *command[1:]]).replace(str(out), "OUT").replace(str(data), "DATA"),
        "minutes": round((time.perf_counter() - began) / 60, 2),
        "trials": len(rows),
        "failed": sum(row["status"] == "failed" for row in rows),
        "seconds_a_trial": statistics.median(float(row["seconds"]) for row in rows),
        "search_process_mb": [round(own_memory[FIRST] / 1e6), round(own_memory[max(own_memory)] / 1e6)],
        "growth_mb": round((max(late.values()) - own_memory[FIRST]) / 1e6),
        "together_mb_by_trial": [round(total_memory[ended] / 1e6) for ended in sorted(total_memory)],
        "rows": rows,
    }


def train(name: str, options: list[str], data: pathlib.Path, directory: pathlib.Path, seed: int) -> dict:
    """One run of crackflow.train: accuracy on the validation and test split."""
    run = directory / f"{name}-{seed}"
    command = [
        sys.executable,
        "-m",
        "crackflow.train",
        *options,
        f"--data={data}",
        f"--run_dir={run}",
        f"--seed={seed}",
    ]
    seconds = harness.watch(command).seconds
    metrics = json.loads((run / "metrics.json").read_text())
    rows = csv_files.read(str(run / "history.csv"))
    best = min(rows, key=lambda row: float(row["val_loss"]))
    return {
        "network": name,
        "seed": seed,
        "epochs": len(rows),
        "parameters": model_file.load(str(run)).model.count_params(),
        "val_accuracy": float(best["val_accuracy"]),
        "accuracy": metrics["accuracy"],
        "roc_auc": metrics["roc_auc"],
        "n": metrics["n"],
        "seconds": round(seconds, 1),
    }


def speeds(best: keras.Model) -> dict[str, dict]:
    """Images/s of the family and of `best`, one window each in turn."""
    models = {name: networks.get_model_spec(Network(name), Architecture()).build(PX) for name in FAMILY}
    throughputs = scoring.measure_throughput(models | {"best": best}, 0.5, 11, compiled=False)
    return {name: {key: round(value) for key, value in rate._asdict().items()} for name, rate in throughputs.items()}


def compare(
    data: pathlib.Path,
    out: pathlib.Path,
    directory: pathlib.Path,
    seeds: int,
    family: list[str],
    earlier_runs: list[dict],
) -> dict:
    """Trains and measures the best network and the `family` in the same way; `earlier_runs` are not repeated."""
    same = [f"--image_px={PX}", f"--epochs={EPOCHS}", "--early_stopping_epochs=0"]
    flags = {"best": [f"--flagfile={out / 'best.cfg'}"]} | {name: [f"--model={name}", *same] for name in family}
    runs, done = list(earlier_runs), {(run["network"], run["seed"]) for run in earlier_runs}
    for name, options in flags.items():
        for seed in range(seeds):
            if (name, seed) not in done:
                runs.append(train(name, options, data, directory, seed))
                print(runs[-1], file=sys.stderr)
    best = json.loads((out / "trials" / winner(out) / "result.json").read_text())["chosen"]
    throughputs = speeds(networks.get_model_spec(Network.CUSTOM, space.architecture(best)).build(PX))
    points = {}
    for name in ("best", *FAMILY):
        network_runs = [run for run in runs if run["network"] == name]
        if network_runs:
            points[name] = {
                "parameters": network_runs[0]["parameters"],
                "images_per_sec": throughputs[name],
                "accuracy": round(statistics.mean(run["accuracy"] for run in network_runs), 5),
                "val_accuracy": round(statistics.mean(run["val_accuracy"] for run in network_runs), 5),
                "accuracies": [run["accuracy"] for run in network_runs],
            }
    return {"points": points, "curve": curve(points), "runs": runs, "best_cfg": (out / "best.cfg").read_text()}


def winner(out: pathlib.Path) -> str:
    """The trial that best.cfg describes."""
    rows = [row for row in csv_files.read(str(out / "trials.csv")) if row["epochs"] == str(EPOCHS)]
    return max(rows, key=lambda row: float(row["score"]))["trial"]


def curve(points: dict[str, dict]) -> dict:
    """Accuracy of the hand-designed family at the best network's images/s: interpolated linearly over the logarithm of
    the speed; beyond the fastest network, the accuracy of the fastest."""
    family_points = [point for name, point in points.items() if name != "best"]
    family = sorted((point["images_per_sec"]["median"], point["accuracy"]) for point in family_points)
    speed = points["best"]["images_per_sec"]["median"]
    interpolated = float(
        np.interp(np.log(speed), [np.log(rate) for rate, _ in family], [accuracy for _, accuracy in family])
    )
    faster = [accuracy for rate, accuracy in family if rate >= speed]
    return {
        "family_accuracy_at_that_speed": round(interpolated, 5),
        "above": round(points["best"]["accuracy"] - interpolated, 5),
        "faster_than_the_fastest": round(speed / family[-1][0], 2),
        "family_as_fast_and_more_accurate": sum(accuracy > points["best"]["accuracy"] for accuracy in faster),
    }


def main() -> None:
    options = harness.arguments(__doc__, keep="", trials=TRIALS, seeds=3, networks=",".join(FAMILY))
    images = harness.data_folder() / "metu"
    results = harness.results(options.json)
    with tempfile.TemporaryDirectory(prefix="crackflow-tune-") as temporary:
        directory = pathlib.Path(temporary)
        out = pathlib.Path(options.keep).absolute() if options.keep else directory / "search"
        data = directory / "metu"
        harness.watch([sys.executable, "-m", "crackflow.convert", f"--images={images}", f"--out={data}"])
        if not (out / "report.html").exists():
            results = {"search": search(data, out, options.trials)}
            harness.save(options.json, results)
        if options.networks:
            runtime.configure(seed=0, threads=0, deterministic=False)
            family, earlier_runs = options.networks.split(","), results.get("compare", {}).get("runs", [])
            results["compare"] = compare(data, out, directory, options.seeds, family, earlier_runs)
            harness.save(options.json, results)


if __name__ == "__main__":
    main()
