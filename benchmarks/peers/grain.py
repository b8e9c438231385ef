"""Grain over an ArrayRecord of the JPEG files, OpenCV decodes.

Synopsis::

    python benchmarks/peers/grain.py --images DIR --image_px 227 --work SCRATCHDIR
"""

import pathlib
import sys

sys.path.pop(0)  # this folder, whose grain.py and webdataset.py would hide the packages
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import cv2
import grain
import numpy as np
from array_record.python import array_record_module

from benchmarks.peers import protocol


def write(images: pathlib.Path, path: pathlib.Path) -> None:
    """One record per image: a byte for the label, then the JPEG. Grain requires groups of one record."""
    files, labels = protocol.files(images)
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    for file, label in zip(files, labels, strict=True):
        writer.write(bytes([label]) + pathlib.Path(file).read_bytes())
    writer.close()


class Decode(grain.transforms.Map):
    def __init__(self, px: int) -> None:
        self.size = (px, px)

    def map(self, record: bytes) -> tuple[np.ndarray, np.int64]:
        image = cv2.imdecode(np.frombuffer(record, np.uint8, offset=1), cv2.IMREAD_COLOR_RGB)
        if image.shape[:2] != self.size:
            image = cv2.resize(image, self.size, interpolation=cv2.INTER_LINEAR)
        return image, np.int64(record[0])


def main() -> None:
    options = protocol.options()
    cv2.setNumThreads(0)  # there is one reading thread per core
    path = protocol.write_once(options.work / "metu.array_record", lambda path: write(options.images, path))
    photographs = grain.MapDataset.source(grain.sources.ArrayRecordDataSource(str(path)))
    photographs = photographs.seed(0).shuffle().repeat().map(Decode(options.image_px)).batch(options.batch)
    # Threads of this process suffice: OpenCV releases the GIL while it decodes. Grain's worker processes (mp_prefetch)
    # used 1.5 times the CPU time per image at 227 px, 1.3 times at 128 px, and delivered fewer images.
    ahead = photographs.to_iter_dataset(grain.ReadOptions(num_threads=protocol.WORKERS, prefetch_buffer_size=6))
    protocol.serve("grain", grain.__version__, iter(ahead), options)


if __name__ == "__main__":
    main()
