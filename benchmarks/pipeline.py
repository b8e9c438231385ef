"""What does each step of the input cost? Images/s after each of them, for the stream and for the pack.

  python -m benchmarks.pipeline --json=benchmarks/results/pipeline.json

METU, batches of 128, at 227 px (as stored) and 128 px; a window of each in turn.
"""

import sys
import tempfile

from benchmarks import harness
from crackflow.core import runtime, timing
from crackflow.core.backend import tf
from crackflow.data import dataset, pack, pipeline
from crackflow.run.diagnosis import taker

BATCH, SIZES = 128, (227, 128)


def one_size(made: dataset.Dataset, image_px: int, seconds: float, windows: int) -> dict:
    """Images/s after each step at `image_px`."""
    records = pipeline.record_batches(made, BATCH, 0, "train")
    parsed = records.map(
        lambda one: tf.io.parse_example(one, {name: pipeline.FEATURES[name] for name in ("image", "label")}),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    packed = pack.ensure(made, "train", image_px, 3)
    positions = tf.data.Dataset.counter().map(
        lambda k: (pack.order(k * BATCH + tf.range(BATCH, dtype=tf.int64), packed.count, 0),),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    steps = {
        "stream: read, shuffled": taker(records.map(lambda one: (one,))),
        "stream: parsed": taker(parsed.map(lambda fields: (fields["label"],))),
        "stream: decoded": taker(pipeline.train_batches(made, BATCH, image_px, 3, seed=0)),
        "pack: order": taker(positions),
        "pack: gathered": taker(pack.train_batches(packed, BATCH, seed=0)),
    }
    found = timing.interleaved(steps, seconds, windows)
    for name, rate in found.items():
        print(f"{image_px} px  {name:<24} {rate.median:10,.0f} images/s", file=sys.stderr)
    return {name: {key: round(value) for key, value in rate._asdict().items()} for name, rate in found.items()}


def main() -> None:
    options = harness.arguments(__doc__, seconds=2.0, windows=5)
    runtime.set_up(seed=0, threads=0, deterministic=False)
    images = harness.data_folder() / "metu"
    with tempfile.TemporaryDirectory(prefix="crackflow-") as place:
        harness.watch([sys.executable, "-m", "crackflow.convert", f"--images={images}", f"--out={place}/metu"])
        made = dataset.load(f"{place}/metu")
        results = {f"{px} px": one_size(made, px, options.seconds, options.windows) for px in SIZES}
    harness.save(options.json, {"batch": BATCH, "windows": options.windows, "images_per_sec": results})


if __name__ == "__main__":
    main()
