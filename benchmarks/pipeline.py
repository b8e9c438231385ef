"""What does each step of the input pipeline cost? Images/s after each step, for the stream and the pack.

  python -m benchmarks.pipeline --json=benchmarks/results/pipeline.json

METU, batches of 128, at 227 px (as stored) and 128 px; one window per step in turn.
"""

import sys
import tempfile

import numpy as np

from benchmarks import harness
from crackflow.core import runtime, throughput
from crackflow.core.backend import tf
from crackflow.data import dataset
from crackflow.data.record_reader import RecordReader
from crackflow.pipeline import memmap_loader, shuffle, tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from crackflow.training.profiling import batch_timer

BATCH, SIZES = 128, (227, 128)


def measure_size(data: dataset.Dataset, image_px: int, seconds: float, windows: int) -> dict:
    """Images/s after each step at `image_px`."""
    reader, packed = RecordReader(data, "train"), memmap_loader.build_if_missing(data, "train", image_px, 3)

    def fetch_labels(indices):
        return np.asarray([reader.fetch(row)[1] for row in indices.tolist()], np.int32)

    positions = tf.data.Dataset.counter().map(
        lambda k: shuffle.shuffled_index(k * BATCH + tf.range(BATCH, dtype=tf.int64), reader.count, 0),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    labels = positions.map(
        lambda indices: tf.ensure_shape(tf.numpy_function(fetch_labels, [indices], tf.int32), [BATCH]),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    steps = {
        "order": batch_timer(positions.map(lambda indices: (indices,))),
        "stream: fetched": batch_timer(labels.map(lambda label: (label,))),
        "stream: decoded": batch_timer(tfrecord_loader.train_batches(data, BatchSpec(BATCH, data.image_px, 3, seed=0))),
        "pack: gathered": batch_timer(memmap_loader.train_batches(packed, BATCH, seed=0)),
    }
    if image_px != data.image_px:
        steps["stream: resized"] = batch_timer(
            tfrecord_loader.train_batches(data, BatchSpec(BATCH, image_px, 3, seed=0))
        )
    rates = throughput.interleaved(steps, seconds, windows)
    for name, rate in rates.items():
        print(f"{image_px} px  {name:<24} {rate.median:10,.0f} images/s", file=sys.stderr)
    return {name: {key: round(value) for key, value in rate._asdict().items()} for name, rate in rates.items()}


def main() -> None:
    options = harness.arguments(__doc__, seconds=2.0, windows=5)
    runtime.configure(seed=0, threads=0, deterministic=False)
    images = harness.data_folder() / "metu"
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        harness.watch([sys.executable, "-m", "crackflow.convert", f"--images={images}", f"--out={folder}/metu"])
        data = dataset.load(f"{folder}/metu")
        results = {f"{px} px": measure_size(data, px, options.seconds, options.windows) for px in SIZES}
    harness.save(options.json, {"batch": BATCH, "windows": options.windows, "images_per_sec": results})


if __name__ == "__main__":
    main()
