"""Does an image cost the same in a large dataset as in a small one? Stream and pack from 10 k to 1 M images.

  python -m benchmarks.scale --json=benchmarks/results/scale.json

This script writes raw records of 32 px with random pixels. Each size runs in its own process, to measure its memory.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import harness
from crackflow.core import csv_files, runtime, throughput
from crackflow.data import dataset, records
from crackflow.pipeline import memmap_loader, tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from crackflow.training.profiling import batch_timer

SIZES, PX, BATCH = (10_000, 100_000, 1_000_000), 32, 128
IMAGES_A_SHARD = 10_000


def write_dataset(folder: str, count: int) -> None:
    """Writes a dataset of `count` raw records to `folder`, all in the training split."""
    random, shards, manifest = np.random.default_rng(count), [], []
    number = -(-count // IMAGES_A_SHARD)
    for shard in range(number):
        file = f"train-{shard:05d}-of-{number:05d}.tfrecord"
        pixels = random.integers(0, 256, (IMAGES_A_SHARD, PX * PX * 3), np.uint8)
        with open(os.path.join(folder, file), "wb", buffering=1 << 20) as output:
            for row, image in enumerate(pixels):
                manifest.append((file, row, output.tell(), row % 2, "", "made"))
                output.write(records.frame(records.example(image.tobytes(), row % 2, b"made", row)))
        size = os.path.getsize(os.path.join(folder, file))
        shards.append({"file": file, "count": IMAGES_A_SHARD, "bytes": size, "sha256": f"{shard:064d}"})
    csv_files.save(
        os.path.join(folder, dataset.MANIFEST), ("shard", "record", "offset", "label", "sha256", "path"), manifest
    )
    empty = {"count": 0, "class_counts": {"Negative": 0, "Positive": 0}, "shards": []}
    train = {"count": count, "class_counts": {"Negative": count // 2, "Positive": count // 2}, "shards": shards}
    facts = {
        "version": dataset.VERSION,
        "classes": ["Negative", "Positive"],
        "positive_class": "Positive",
        "image_px": PX,
        "channels": 3,
        "encoding": "raw",
        "splits": {"train": train, "val": empty, "test": empty},
    }
    dataset.save(folder, facts | {"fingerprint": dataset.fingerprint(facts)})


def measure(folder: str, seconds: float, windows: int) -> dict:
    """Cost per image and resident memory of both inputs. Runs in its own process."""
    runtime.configure(seed=0, threads=0, deterministic=False)
    data = dataset.load(folder)
    began = time.perf_counter()
    packed = memmap_loader.build_if_missing(data, "train", PX, 3)
    build_seconds = time.perf_counter() - began
    rates = throughput.interleaved(
        {"pack": batch_timer(memmap_loader.train_batches(packed, BATCH, 0))}, seconds, windows
    )
    after_pack = _private_mb()
    read_stream = batch_timer(tfrecord_loader.train_batches(data, BatchSpec(BATCH, PX, 3, 0)))
    read_stream()  # builds the graph
    began, num_read = time.perf_counter(), 0
    while num_read < data.count("train"):
        num_read += read_stream()
    first_epoch = (time.perf_counter() - began) / num_read
    rates |= throughput.interleaved({"stream": read_stream}, seconds, windows)
    cost = {name: round(1e6 / rate.median, 2) for name, rate in rates.items()}
    return {
        "images": data.count("train"),
        "us_an_image": cost | {"stream, first epoch": round(1e6 * first_epoch, 2)},
        "private_mb": {"pack": after_pack, "pack and stream": _private_mb()},
        "building_the_pack_us_an_image": round(1e6 * build_seconds / data.count("train"), 2),
        "peak_resident_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }


def _private_mb() -> int:
    """Private resident memory: the pages of the mapped file belong to the page cache and do not count."""
    with open("/proc/self/smaps_rollup") as file:
        return round(sum(int(line.split()[1]) for line in file if line.startswith("Anonymous:")) / 1e3)


def main() -> None:
    options = harness.arguments(__doc__, seconds=2.0, windows=5, largest=1_000_000, folder="")
    if options.folder:
        print(json.dumps(measure(options.folder, options.seconds, options.windows)))
        return
    rows = []
    for count in (size for size in SIZES if size <= options.largest):
        with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
            write_dataset(folder, count)
            command = [sys.executable, "-m", "benchmarks.scale", f"--folder={folder}"]
            command += [f"--seconds={options.seconds}", f"--windows={options.windows}"]
            stdout = subprocess.run(
                command, cwd=harness.REPOSITORY, stdout=subprocess.PIPE, text=True, check=True
            ).stdout
            rows.append(json.loads(stdout.splitlines()[-1]))
            print(rows[-1], file=sys.stderr)
    harness.save(options.json, {"image_px": PX, "batch": BATCH, "sizes": rows})


if __name__ == "__main__":
    main()
