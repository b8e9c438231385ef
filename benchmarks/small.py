"""Twenty to four hundred images per class, all flags at their defaults: how good is the model, and does it warn?

  python -m benchmarks.small --json=benchmarks/results/small.json
  python -m benchmarks.small --sets=brick --sizes=100 --weights=shipped --json=benchmarks/results/small_shipped.json

For METU, brick facades and synthetic concrete, and for each seed: a sample of each class is drawn, converted and
trained on from scratch (`crackflow.convert --seed`, `crackflow.train --seed`, nothing else). The model is evaluated on
up to 250 other images per class, none of which is a copy of a sampled one. `warned`: training warned that the model may
be no better than chance. --weights: start from that model instead, as `crackflow.train --weights` does. Runs that
--json already contains are not repeated; --place=DIR keeps their files.
"""

import csv
import json
import pathlib
import random
import sys
import tempfile
import time

from sklearn.metrics import roc_auc_score

from benchmarks import harness
from crackflow.core import runtime
from crackflow.data import dataset
from crackflow.evaluation import scoring
from crackflow.model import model_file
from crackflow.pipeline import tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec

SETS = ("metu", "brick", "synthetic")
SIZES = (20, 50, 100, 200, 400)
MAX_TESTED = 250  # per class
NUM_SYNTHETIC = 1300  # images, half of them cracked
MIN_TESTED = 50
CHANCE = 0.6  # a random guess stays below this accuracy on 500 images, 9,999 times of 10,000
CLASSES = ("Negative", "Positive")


def command(verb: str, *flags: str) -> harness.Watched:
    return harness.watch([sys.executable, "-m", f"crackflow.{verb}", *flags])


def sources(directory: pathlib.Path) -> dict[str, pathlib.Path]:
    """Folder of the images of each dataset."""
    synthetic = directory / "synthetic"
    if not synthetic.exists():
        command("synth", f"--out={synthetic}", f"--count={NUM_SYNTHETIC}", "--seed=1000")
    return {"metu": harness.data_folder() / "metu", "brick": harness.data_folder() / "brick", "synthetic": synthetic}


def groups(source: pathlib.Path, directory: pathlib.Path) -> dict[str, list[tuple[str, str]]]:
    """class -> (path, group of copies) of every image that crackflow.convert accepts."""
    out = directory / f"all-{source.name}"
    if not out.exists():
        command("convert", f"--images={source}", f"--out={out}", "--positive_class=Positive")
    with open(out / "groups.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [(row["path"], row["group"]) for row in rows if row["path"].startswith(name)] for name in CLASSES}


def draw(images: dict, size: int, seed: int) -> tuple[list[str], list[str]]:
    """(training paths, test paths), with the same number per class."""
    rng, train, test = random.Random(seed), [], []
    for rows in images.values():
        rows = rng.sample(rows, len(rows))
        used = {group for _, group in rows[:size]}
        train += [path for path, _ in rows[:size]]
        test += [path for path, group in rows[size:] if group not in used][:MAX_TESTED]
    return train, test


def link_files(source: pathlib.Path, paths: list[str], root: pathlib.Path) -> pathlib.Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(source / path)
    return root


def measure(
    source: pathlib.Path, images: dict, size: int, seed: int, directory: pathlib.Path, start: list[str]
) -> dict:
    """One run from images to metrics, in `directory`. `start`: more flags of training."""
    train, test = draw(images, size, seed)
    began = time.perf_counter()
    photos, data, run = link_files(source, train, directory / "train"), directory / "data", directory / "run"
    command("convert", f"--images={photos}", f"--out={data}", f"--seed={seed}")
    training = command("train", f"--data={data}", f"--run_dir={run}", f"--seed={seed}", *start)
    seconds = time.perf_counter() - began
    test_data = directory / "others"
    command(
        "convert",
        f"--images={link_files(source, test, directory / 'test')}",
        f"--out={test_data}",
        "--split=0.002,0,0.998",
    )
    return scores(run, test_data) | {"warned": "WARNING" in training.output, "seconds": seconds}


def scores(run: pathlib.Path, test_data: pathlib.Path) -> dict:
    """Metrics of the model in `run` on the dataset `test_data`, at its own threshold."""
    loaded, data = model_file.load(str(run)), dataset.load(str(test_data))
    card = loaded.card
    labels, logits = scoring.predict_logits(
        loaded.model, tfrecord_loader.eval_batches(data, "test", BatchSpec(64, card.image_px, card.channels))
    )
    predicted = model_file.to_probabilities(logits, card.temperature) >= card.threshold
    return {
        "accuracy": float((predicted == labels).mean()),
        "recall": float(predicted[labels == 1].mean()),
        "specificity": float((~predicted[labels == 0]).mean()),
        "roc_auc": float(roc_auc_score(labels, logits)),
        "measured_on": len(labels),
        "threshold": card.threshold,
        "validation": card.validation,
    }


def main() -> None:
    sizes = ",".join(map(str, SIZES))
    options = harness.arguments(__doc__, seeds=5, place="", sets=",".join(SETS), sizes=sizes, weights="")
    start = [f"--weights={options.weights}"] if options.weights else []
    runtime.configure(seed=0, threads=0, deterministic=False)
    results = harness.results(options.json)
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        work_dir = pathlib.Path(options.place or folder)
        for name, source in sources(work_dir).items():
            if name not in options.sets.split(","):
                continue
            images = groups(source, work_dir)
            for size in map(int, options.sizes.split(",")):
                for seed in range(options.seeds):
                    key = f"{name} {size} {seed}"
                    enough = min(map(len, images.values())) >= size + MIN_TESTED
                    if key not in results and enough:
                        results[key] = {"set": name, "size": size, "seed": seed} | measure(
                            source, images, size, seed, work_dir / key, start
                        )
                        print(json.dumps(results[key]), file=sys.stderr, flush=True)
                        harness.save(options.json, results)
    unwarned = [key for key, run in results.items() if run["accuracy"] < CHANCE and not run["warned"]]
    print(f"near chance and not told: {', '.join(unwarned) or 'none'}", file=sys.stderr)


if __name__ == "__main__":
    main()
