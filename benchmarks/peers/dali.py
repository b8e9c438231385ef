"""NVIDIA DALI on the CPU over the JPEG files.

Synopsis::

    python benchmarks/peers/dali.py --images DIR --image_px 227 --work SCRATCHDIR
"""

import importlib.metadata
import pathlib
import sys

sys.path.pop(0)  # this folder, whose grain.py and webdataset.py would hide the packages
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import numpy as np
from nvidia.dali import fn, pipeline_def, types

from benchmarks.peers import protocol


@pipeline_def
def photographs(images: str, px: int):
    # shuffle_after_epoch shuffles all files; random_shuffle draws from a window only, and files are sorted by class.
    encoded, labels = fn.readers.file(
        file_root=images, dir_filters=list(protocol.CLASSES), shuffle_after_epoch=True, name="files"
    )
    pixels = fn.decoders.image(encoded, device="cpu", output_type=types.RGB, use_fast_idct=True)
    if px != protocol.FILE_PX:
        # Without smoothing, as TensorFlow and OpenCV resize; with it this takes longer.
        pixels = fn.resize(pixels, size=[px, px], interp_type=types.INTERP_LINEAR, antialias=False)
    return pixels, labels


def batches(pipeline):
    while True:
        pixels, labels = pipeline.run()
        yield np.asarray(pixels.as_tensor()), np.asarray(labels.as_tensor())  # as_array would copy


def main() -> None:
    options = protocol.options()
    pipeline = photographs(
        str(options.images),
        options.image_px,
        batch_size=options.batch,
        num_threads=protocol.WORKERS,
        device_id=None,
        prefetch_queue_depth=3,
    )
    pipeline.build()
    protocol.serve("dali", importlib.metadata.version("nvidia-dali-cuda120"), batches(pipeline), options)


if __name__ == "__main__":
    main()
