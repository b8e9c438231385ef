"""Evaluates the model that ships with crackflow on seen and unseen surfaces.

  bash launch/shipped.sh --images=METU --out=DIR                         # trains DIR/run/model.h5
  python -m benchmarks.unseen                                            # the same with three seeds; ships the first
  python -m benchmarks.shipped --json=benchmarks/results/shipped.json    # evaluates the shipped file

Metrics on METU's grouped test split, on DeepCrack and CFD cut to windows (masks layout), and on synthetic surfaces
(imitations of METU; its training had varied ones), none of which it was trained on. Also how often it reports an image
as out of distribution: METU's test images, synthetic surfaces without cracks, photographs of DeepCrack and CFD, and
images without content.
"""

import json
import pathlib
import sys
import tempfile

import numpy as np

from benchmarks import harness
from crackflow.core import runtime
from crackflow.data import dataset, image_file
from crackflow.explanation import inputs
from crackflow.inference import predictor
from crackflow.model import model_file
from crackflow.pipeline import tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from crackflow.synthesis import concrete

UNSEEN = ("deepcrack", "cfd")
NUM_SYNTHETIC, SYNTHETIC_SEED = 1500, 77
KEEP = (
    *("accuracy", "accuracy_ci95", "balanced_accuracy", "recall", "recall_ci95", "specificity", "specificity_ci95"),
    *("roc_auc", "roc_auc_ci95", "mcc", "ece", "ece_ci95", "n", "confusion", "review"),
)


def convert_datasets(directory: pathlib.Path) -> dict[str, pathlib.Path]:
    """Converts METU, split by group, and the other datasets with a test split only."""
    command = [sys.executable, "-m"]
    sets = {}
    harness.watch(
        [
            *command,
            "crackflow.synth",
            f"--out={directory}/faces",
            f"--count={NUM_SYNTHETIC}",
            f"--seed={SYNTHETIC_SEED}",
        ]
    )
    sources = {"metu": harness.data_folder() / "metu", "made": directory / "faces"}
    sources |= {name: harness.data_folder() / name for name in UNSEEN}
    for name, source in sources.items():
        options = [] if name == "metu" else ["--split=0,0,1"]
        options += ["--layout=masks"] if name in UNSEEN else []
        sets[name] = directory / name
        harness.watch([*command, "crackflow.convert", f"--images={source}", f"--out={sets[name]}", *options])
    return sets


def evaluate(sets: dict[str, pathlib.Path], directory: pathlib.Path) -> dict:
    out = directory / "measured"
    data = ",".join(str(sets[name]) for name in ("metu", *UNSEEN, "made"))
    model = f"--model={model_file.SHIPPED}"
    harness.watch([sys.executable, "-m", "crackflow.evaluate", model, f"--data={data}", f"--out={out}"])
    evaluations = json.loads((out / "metrics.json").read_text())["datasets"]
    return {name: {key: evaluations[name].get(key) for key in KEEP} for name in evaluations}


def checkerboard(random: np.random.Generator, px: int) -> np.ndarray:
    """uint8 [px, px, 3]: squares of 4 to 32 pixels."""
    squares = (np.indices((px, px)) // random.integers(4, 33)).sum(0) % 2
    return random.integers(0, 256, (2, 3), np.uint8)[squares]


def unlike(model: predictor.Model, sets: dict[str, pathlib.Path]) -> dict:
    """The number of photographs of each kind, and the fraction reported as out of distribution."""
    px = model.card.source_px
    batches = tfrecord_loader.eval_batches(
        dataset.load(str(sets["metu"])), "test", BatchSpec(64, px, model.card.channels)
    )
    test_images = [pixels for image, _, weight in batches for pixels in image.numpy()[weight.numpy() > 0]]
    kinds = {
        "METU, test images": test_images,
        "synthetic surfaces without cracks": [concrete.draw_example(5, 2 * index, px).image for index in range(400)],
        "synthetic surfaces without cracks, 3 x 3 windows": [
            concrete.draw_example(6, 2 * index, 3 * px).image for index in range(100)
        ],
    }
    for name in UNSEEN:
        files, _ = inputs.list_images(str(harness.data_folder() / name / "images"), "")
        opened = (image_file.open_photo(f"{file.root}/{file.path}", 100) for file in files)
        kinds[name] = [image_file.pixels(photo, model.card.channels, 0) for photo in opened]
    random = np.random.default_rng(0)
    kinds["noise"] = list(random.integers(0, 256, (100, px, px, 3), np.uint8))
    kinds["one colour"] = [np.tile(random.integers(0, 256, 3, np.uint8), (px, px, 1)) for _ in range(100)]
    kinds["chequers of two colours"] = [checkerboard(random, px) for _ in range(100)]
    rates = {}
    for name, photos in kinds.items():
        distances = np.array([model.predict(photo, scale=1.0)[0].distance for photo in photos])
        rates[name] = {"n": len(photos), "warned": float((distances > 1).mean()), "median": float(np.median(distances))}
    return rates


def main() -> None:
    options = harness.arguments(__doc__)
    runtime.configure(seed=0, threads=0, deterministic=False)
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        directory = pathlib.Path(folder)
        sets = convert_datasets(directory)
        model = predictor.load()
        card = model.card
        results = {
            "sha256": model.bundle.sha256,
            "bytes": pathlib.Path(model_file.SHIPPED).stat().st_size,
            "parameters": model.bundle.model.count_params(),
            "trained_on": card.fingerprint,
            "threshold": card.threshold,
            "temperature": card.temperature,
            "review": card.review,
            "datasets": evaluate(sets, directory),
            "unlike": unlike(model, sets),
        }
        harness.save(options.json, results)


if __name__ == "__main__":
    main()
