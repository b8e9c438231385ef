"""crackflow's stream: TFRecords of the JPEG files, decoded during training.

Synopsis::

    python benchmarks/peers/crackflow_stream.py --images DIR --image_px 227 --work SCRATCHDIR
"""

import pathlib
import subprocess
import sys

sys.path.pop(0)  # this folder, whose grain.py and webdataset.py would hide the packages
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import crackflow
from benchmarks.peers import protocol
from crackflow.core import runtime
from crackflow.data import dataset
from crackflow.pipeline import tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec


def load_dataset(options) -> dataset.Dataset:
    """The images as a dataset with a training split only, so that every competitor shuffles the same number."""

    def convert(path: pathlib.Path) -> None:
        command = [sys.executable, "-m", "crackflow.convert", f"--images={options.images}", f"--out={path}"]
        subprocess.run([*command, "--split=1,0,0"], check=True)

    return dataset.load(str(protocol.write_once(options.work / "crackflow", convert)))


def main() -> None:
    options = protocol.options()
    runtime.configure(seed=0, threads=0, deterministic=False)
    data = load_dataset(options)
    batches = tfrecord_loader.train_batches(data, BatchSpec(options.batch, options.image_px, 3, seed=0))
    protocol.serve("crackflow_stream", crackflow.__version__, iter(batches), options)


if __name__ == "__main__":
    main()
