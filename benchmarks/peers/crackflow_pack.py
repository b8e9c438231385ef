"""crackflow's pack: decoded once, mapped into memory.

Synopsis::

    python benchmarks/peers/crackflow_pack.py --images DIR --image_px 227 --work SCRATCHDIR
"""

import pathlib
import sys

sys.path.pop(0)  # this folder, whose grain.py and webdataset.py would hide the packages
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import crackflow
from benchmarks.peers import protocol
from benchmarks.peers.crackflow_stream import load_dataset
from crackflow.core import runtime
from crackflow.pipeline import memmap_loader


def main() -> None:
    options = protocol.options()
    runtime.configure(seed=0, threads=0, deterministic=False)
    packed = memmap_loader.build_if_missing(load_dataset(options), "train", options.image_px, 3)
    batches = memmap_loader.train_batches(packed, options.batch, seed=0)
    protocol.serve("crackflow_pack", crackflow.__version__, iter(batches), options)


if __name__ == "__main__":
    main()
