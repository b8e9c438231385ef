"""How fast are images generated, and how good is a network trained on them alone on real images (METU)?

python -m benchmarks.synth --json=benchmarks/results/synth.json
"""

import json
import pathlib
import statistics
import sys
import tempfile

from benchmarks import harness


def run_verb(name: str, *options: str) -> harness.Watched:
    return harness.watch([sys.executable, "-m", f"crackflow.{name}", *options])


def speed(count: int, runs: int) -> dict:
    """Images/s of the whole command at 227 px, including start-up and file writing."""
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        options = [f"--out={folder}/images", f"--count={count}", "--overwrite"]
        seconds = [run_verb("synth", *options).seconds for _ in range(runs)]
    speeds = [count / elapsed for elapsed in seconds]
    return {"count": count, "median": round(statistics.median(speeds)), "low": round(min(speeds))}


def evaluate_on_metu(count: int, epochs: int, image_px: int) -> dict:
    """Metrics on METU's grouped test split of crackflow_s trained on `count` synthetic images."""
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        directory = pathlib.Path(folder)
        run_verb("synth", f"--out={directory / 'images'}", f"--count={count}")
        run_verb("convert", f"--images={directory / 'images'}", f"--out={directory / 'made'}")
        run_verb("convert", f"--images={harness.data_folder() / 'metu'}", f"--out={directory / 'metu'}")
        options = [f"--epochs={epochs}", f"--image_px={image_px}"]
        run_verb("train", f"--data={directory / 'made'}", f"--run_dir={directory / 'run'}", *options)
        sets = f"--data={directory / 'made'},{directory / 'metu'}"
        run_verb("evaluate", f"--model={directory / 'run'}", sets, f"--out={directory / 'test'}")
        evaluations = json.loads((directory / "test" / "metrics.json").read_text())["datasets"]
    keep = ("accuracy", "accuracy_ci95", "balanced_accuracy", "recall", "specificity", "roc_auc", "roc_auc_ci95", "n")
    return {name: {key: metrics[key] for key in keep} for name, metrics in evaluations.items()}


def main() -> None:
    options = harness.arguments(__doc__, count=4000, epochs=6, image_px=64, runs=3)
    results = {
        "images_per_sec": speed(10_000, options.runs),
        "trained_on_made_images": {
            "count": options.count,
            "epochs": options.epochs,
            "image_px": options.image_px,
            **evaluate_on_metu(options.count, options.epochs, options.image_px),
        },
    }
    harness.save(options.json, results)


if __name__ == "__main__":
    main()
