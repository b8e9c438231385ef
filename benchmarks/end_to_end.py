"""Does training wait for its input? The train step on synthetic data in memory, on the pack and on the stream.

  python -m benchmarks.end_to_end --json=benchmarks/results/end_to_end.json

One model and one compiled step; one window per input in turn. `ratio`: median speed with the input over the median
speed with synthetic data.
"""

import sys
import tempfile

from benchmarks import harness
from crackflow.core import runtime, throughput
from crackflow.core.backend import keras
from crackflow.core.config.hardware import Precision, Xla
from crackflow.core.config.network import Network
from crackflow.core.config.training import Input, TrainConfig
from crackflow.data import dataset
from crackflow.model import networks
from crackflow.pipeline import loader
from crackflow.pipeline.batch_spec import BatchSpec
from crackflow.training import trainer
from crackflow.training.profiling import batch_timer, step_timer


def main() -> None:
    options = harness.arguments(__doc__, seconds=5.0, windows=5, image_px=128, batch=64, model="crackflow_s")
    runtime.configure(seed=0, threads=0, deterministic=False)
    precision, xla = runtime.choose_precision(Precision.AUTO), runtime.choose_xla(Xla.AUTO)
    keras.mixed_precision.set_global_policy(precision.value)
    recipe = networks.NETWORKS[Network(options.model)]
    config = TrainConfig(
        data="-", run_dir="-", model=Network(options.model), batch_size=options.batch, steps_per_execution=1
    )
    model = trainer.compile_trainer(recipe.build(options.image_px), config, 10_000, xla.value)
    images = harness.data_folder() / "metu"
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        harness.watch([sys.executable, "-m", "crackflow.convert", f"--images={images}", f"--out={folder}/metu"])
        data = dataset.load(f"{folder}/metu")
        feeds = {
            kind.value: loader.create_loader(
                kind, data, BatchSpec(options.batch, options.image_px, recipe.channels)
            ).train()
            for kind in (Input.SYNTHETIC, Input.PACK, Input.STREAM)
        }
        step = throughput.interleaved(
            {name: step_timer(model, feed, options.batch) for name, feed in feeds.items()},
            options.seconds,
            options.windows,
        )
        alone = {name: throughput.measure(batch_timer(feeds[name]), 1.0, 3).median for name in ("pack", "stream")}
    results = {
        "network": options.model,
        "image_px": options.image_px,
        "batch": options.batch,
        "precision": precision.value,
        "train_images_per_sec": {
            name: {key: round(value, 1) for key, value in rate._asdict().items()} for name, rate in step.items()
        },
        "input_alone_images_per_sec": {name: round(value) for name, value in alone.items()},
        "ratio": {name: round(step[name].median / step["synthetic"].median, 3) for name in ("pack", "stream")},
    }
    harness.save(options.json, results)


if __name__ == "__main__":
    main()
