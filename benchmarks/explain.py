"""How good and how fast is each explanation? The six methods and three classical filters on DeepCrack.

  python -m benchmarks.explain --json=benchmarks/results/explain.json
  python -m benchmarks.explain --model=runs/metu --json=...

Trains on METU as a user would (launch/flags/metu_accurate.cfg), unless a model is given; DeepCrack's photographs serve
for evaluation only, in windows of 128 px. Scores against masks are means over all cracked windows that the model
detects; scores against the network and for random weights are means over 200 windows drawn at random. Then it times
1,000 heatmaps at 227 px by the default method: the method alone, in a network of 227 px with the same weights, and the
whole command on photographs of METU, with start-up, reading, overlays and scores.
"""

import pathlib
import sys
import tempfile
import time

import numpy as np

from benchmarks import harness
from crackflow.core import runtime
from crackflow.core.config.network import Network
from crackflow.core.config.trained import ExplainConfig, Method, Toward
from crackflow.data import image_file
from crackflow.explanation import inputs, saliency, study
from crackflow.model import model_file, networks

FLAGS = "launch/flags/metu_accurate.cfg"
PATCH_PX, PX, COUNT, BATCH = 128, 227, 1000, 32


def train_on_metu(directory: pathlib.Path) -> str:
    """Trains on METU and returns the run folder."""
    images, data, run = harness.data_folder() / "metu", directory / "data", directory / "run"
    harness.watch([sys.executable, "-m", "crackflow.convert", f"--images={images}", f"--out={data}"])
    training = [f"--flagfile={FLAGS}", f"--data={data}", f"--run_dir={run}"]
    harness.watch([sys.executable, "-m", "crackflow.train", *training])
    return str(run)


def scores(loaded: model_file.TrainedModel) -> dict:
    """The content of scores.json on DeepCrack, for all methods."""
    root = harness.data_folder() / "deepcrack"
    files, rejected = inputs.list_images(str(root / "images"), str(root / "masks"))
    run = study.ExplanationRun(loaded, list(Method), Toward.DECIDED, (), ExplainConfig.sample, seed=0)
    settings = loaded.card.channels, PATCH_PX, ExplainConfig.min_crack_fraction, ExplainConfig.max_megapixels
    for number, _ in enumerate(run.findings(inputs.iter_tiles(files, *settings, rejected), BATCH)):
        if not number % 500:
            print(f"{number} windows", file=sys.stderr)
    return run.scores()


def time_maps(loaded: model_file.TrainedModel) -> dict:
    """Seconds for 1,000 heatmaps of the default method by a network with 227 px input, three times."""
    model = networks.NETWORKS[Network(loaded.card.network)].build(PX)
    model.set_weights(loaded.model.get_weights())
    explainer = saliency.Explainer(model, ExplainConfig.method[0])
    paths = sorted((harness.data_folder() / "metu" / "Positive").iterdir())[:COUNT]
    images = np.stack([image_file.pixels(image_file.open_photo(str(path), 100.0), 3, PX) for path in paths])
    explainer(images[:BATCH], np.ones(BATCH, bool))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        for offset in range(0, COUNT, BATCH):
            batch = images[offset : offset + BATCH]
            explainer(batch, np.ones(len(batch), bool))
        seconds.append(round(time.perf_counter() - start, 2))
    return {"count": COUNT, "px": PX, "seconds": seconds}


def time_command(model: str, directory: pathlib.Path) -> dict:
    """Seconds of crackflow.explain on 1,000 photographs of 227 px."""
    photos = directory / "photographs"
    photos.mkdir()
    for path in sorted((harness.data_folder() / "metu" / "Positive").iterdir())[:COUNT]:
        (photos / path.name).symlink_to(path)
    command = [f"--model={model}", f"--images={photos}", f"--out={directory / 'why'}"]
    return {"count": COUNT, "seconds": harness.watch([sys.executable, "-m", "crackflow.explain", *command]).seconds}


def main() -> None:
    options = harness.arguments(__doc__, model="")
    runtime.configure(seed=0, threads=0, deterministic=False)
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        directory = pathlib.Path(folder)
        model = options.model or train_on_metu(directory)
        loaded = model_file.load(model)
        results = {
            "network": loaded.card.network,
            "image_px": loaded.card.image_px,
            "patch_px": PATCH_PX,
            "default": ExplainConfig.method[0].value,
            "of_227_px": time_maps(loaded),
            "command": time_command(model, directory),
            **scores(loaded),
        }
        harness.save(options.json, results)


if __name__ == "__main__":
    main()
