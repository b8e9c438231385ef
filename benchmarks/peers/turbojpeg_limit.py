"""libjpeg-turbo alone on one core, from JPEGs in memory: the upper limit per core for anything that decodes.

Synopsis::

    python benchmarks/peers/turbojpeg_limit.py --images DIR --image_px 227 --work SCRATCHDIR
"""

import os
import pathlib
import sys

sys.path.pop(0)  # this folder, whose grain.py and webdataset.py would hide the packages
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import numpy as np
import simplejpeg

from benchmarks.peers import protocol


def batches(jpegs: list[bytes], labels: np.ndarray, options, fast: bool):
    """Decodes into one reused buffer, which stays in the cache of the core."""
    random = np.random.default_rng(0)
    images = np.empty((options.batch, options.image_px, options.image_px, 3), np.uint8)
    while True:
        order = random.permutation(len(jpegs))
        for first in range(0, len(order) - options.batch + 1, options.batch):
            indices = order[first : first + options.batch]
            for buffer, index in zip(images, indices, strict=True):
                simplejpeg.decode_jpeg(jpegs[index], "RGB", fastdct=fast, fastupsample=True, buffer=buffer)
            yield images, labels[indices]


def serve(name: str, fast: bool) -> None:
    """`fast`: use the inverse DCT that is off by up to 5 levels."""
    options = protocol.options()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    files, labels = protocol.files(options.images)
    jpegs = [pathlib.Path(file).read_bytes() for file in files]
    protocol.serve(name, simplejpeg.__version__, batches(jpegs, labels, options, fast), options)


if __name__ == "__main__":
    serve("turbojpeg_limit", fast=True)
