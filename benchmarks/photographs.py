"""How much time and memory does a photograph take? 12 and 100 megapixels, stitched from METU's images.

  python -m benchmarks.photographs --json=benchmarks/results/photographs.json

Half of the stitched images are cracked. `look`: from the JPEG file to findings, in a warmed-up process, median of
--repeats; at one scale, and at the three default scales. `command`: wall clock and peak resident memory of the whole
command `python -m crackflow.predict`, start-up, overlays and page included. `tiles`: the windows of one scale, 16
pixels apart, scored separately in batches of 64, timed on a part and extrapolated to all; `dense`: the same windows
scored in one pass.
"""

import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np
from PIL import Image

from benchmarks import harness
from crackflow.core import runtime
from crackflow.core.backend import tf
from crackflow.data import resize
from crackflow.inference import photo_files, predictor

SIZES = {"12 MP": (13, 18), "100 MP": (38, 51)}  # rows and columns of METU's images of 227 pixels
BATCH, TIMED_BATCHES = 64, 24


def stitch(rows: int, columns: int) -> np.ndarray:
    """uint8 [rows * 227, columns * 227, 3]."""
    folder, generator = harness.data_folder() / "metu", np.random.default_rng(0)
    files = [sorted((folder / kind).iterdir()) for kind in ("Negative", "Positive")]
    image = np.empty((rows * 227, columns * 227, 3), np.uint8)
    for row in range(rows):
        for column in range(columns):
            kind = files[int(generator.random() < 0.5)]
            tile = Image.open(kind[generator.integers(len(kind))]).convert("RGB").resize((227, 227))
            image[row * 227 : row * 227 + 227, column * 227 : column * 227 + 227] = np.asarray(tile)
    return image


def time_work(work, repeats: int) -> dict:
    """Median, lowest and highest seconds of `work`, after one warm-up run."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    named = {"median": statistics.median(times), "low": min(times), "high": max(times)}
    return {name: round(value, 3) for name, value in named.items()}


def against_tiles(model: predictor.Model, file: str, repeats: int) -> dict:
    """Every window of one scale, scored in one pass and separately."""
    pixels = photo_files.read(file, 3, 200).pixels
    card, scorer = model.card, model._scorer
    resized = resize.scaled(pixels, *(round(side * card.scale) for side in pixels.shape[:2]))
    windows = np.lib.stride_tricks.sliding_window_view(resized, (card.image_px, card.image_px), (0, 1))
    windows = windows[:: scorer.step, :: scorer.step].reshape(-1, 3, card.image_px, card.image_px)
    score = tf.function(lambda image: model.bundle.model(image, training=False))
    batches = [windows[at : at + BATCH].transpose(0, 2, 3, 1) for at in range(0, BATCH * TIMED_BATCHES, BATCH)]
    tiles = time_work(lambda: [score(batch).numpy() for batch in batches], repeats)
    dense = time_work(lambda: scorer.score(resized), repeats)
    tiles_seconds = tiles["median"] / (BATCH * TIMED_BATCHES) * len(windows)
    return {
        "windows": len(windows),
        "dense": dense,
        "tiles_seconds": round(tiles_seconds, 2),
        "times_as_fast": round(tiles_seconds / dense["median"], 1),
    }


def main() -> None:
    options = harness.arguments(__doc__, repeats=5)
    runtime.configure(seed=0, threads=0, deterministic=False)
    model = predictor.load()
    results = {}
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        for name, shape in SIZES.items():
            directory = pathlib.Path(folder) / name.replace(" ", "")
            directory.mkdir()
            image = stitch(*shape)
            file = str(directory / "photo.jpg")
            Image.fromarray(image).save(file, quality=92)
            repeats = options.repeats if name == "12 MP" else 1
            result = {"megapixels": round(image.shape[0] * image.shape[1] / 1e6, 1)}
            del image
            result["look"] = {
                "one scale": time_work(lambda file=file: model.predict(file, scale=1.0), repeats),
                "three scales": time_work(lambda file=file: model.predict(file), repeats),
            }
            command = [sys.executable, "-m", "crackflow.predict", f"--photos={file}"]
            result["command_seconds"] = round(harness.watch([*command, f"--out={directory}/one"]).seconds, 1)
            peak = harness.watch([*command, f"--out={directory}/two"], memory=True).peak_bytes
            result["command_peak_mb"] = round(peak / 1e6)
            if name == "12 MP":
                result["against_tiles"] = against_tiles(model, file, options.repeats)
            results[name] = result
            print(name, result, file=sys.stderr)
    harness.save(options.json, results)


if __name__ == "__main__":
    main()
