"""How fast are images made, and how well does a network trained on them alone do on real ones (METU)?

python -m benchmarks.synth --json=benchmarks/results/synth.json
"""

import json
import pathlib
import statistics
import sys
import tempfile

from benchmarks import harness


def verb(name: str, *options: str) -> harness.Watched:
    return harness.watch([sys.executable, "-m", f"crackflow.{name}", *options])


def speed(count: int, runs: int) -> dict:
    """Images/s of the whole command at 227 px, start-up and files included."""
    with tempfile.TemporaryDirectory(prefix="crackflow-") as place:
        options = [f"--out={place}/images", f"--count={count}", "--overwrite"]
        seconds = [verb("synth", *options).seconds for _ in range(runs)]
    speeds = [count / one for one in seconds]
    return {"count": count, "median": round(statistics.median(speeds)), "low": round(min(speeds))}


def on_metu(count: int, epochs: int, image_px: int) -> dict:
    """Metrics on METU's grouped test split of crackflow_s trained on `count` made images."""
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        place = pathlib.Path(folder)
        verb("synth", f"--out={place / 'images'}", f"--count={count}")
        verb("convert", f"--images={place / 'images'}", f"--out={place / 'made'}")
        verb("convert", f"--images={harness.data_folder() / 'metu'}", f"--out={place / 'metu'}")
        options = [f"--epochs={epochs}", f"--image_px={image_px}"]
        verb("train", f"--data={place / 'made'}", f"--run_dir={place / 'run'}", *options)
        sets = f"--data={place / 'made'},{place / 'metu'}"
        verb("evaluate", f"--model={place / 'run'}", sets, f"--out={place / 'test'}")
        found = json.loads((place / "test" / "metrics.json").read_text())["datasets"]
    keep = ("accuracy", "accuracy_ci95", "balanced_accuracy", "recall", "specificity", "roc_auc", "roc_auc_ci95", "n")
    return {name: {key: metrics[key] for key in keep} for name, metrics in found.items()}


def main() -> None:
    options = harness.arguments(__doc__, count=4000, epochs=6, image_px=64, runs=3)
    results = {
        "images_per_sec": speed(10_000, options.runs),
        "trained_on_made_images": {
            "count": options.count,
            "epochs": options.epochs,
            "image_px": options.image_px,
            **on_metu(options.count, options.epochs, options.image_px),
        },
    }
    harness.save(options.json, results)


if __name__ == "__main__":
    main()
