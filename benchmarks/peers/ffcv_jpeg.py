"""FFCV over its own file of JPEGs, stored at the requested size by its writer; its decoder is libjpeg-turbo.

Synopsis::

    python benchmarks/peers/ffcv_jpeg.py --images DIR --image_px 227 --work SCRATCHDIR
"""

import importlib.metadata
import pathlib
import sys

sys.path.pop(0)  # this folder, whose grain.py and webdataset.py would hide the packages
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import ToTensor
from ffcv.writer import DatasetWriter
from PIL import Image

from benchmarks.peers import protocol

PASSES = 8  # per epoch of the loader: it restarts after each epoch, and 10,000 images are soon exhausted


class Photographs:
    """The images as an indexed dataset for FFCV's writer."""

    def __init__(self, images: pathlib.Path) -> None:
        self.files, self.labels = protocol.files(images)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        with Image.open(self.files[index]) as image:
            return np.array(image.convert("RGB")), int(self.labels[index])


def write(images: pathlib.Path, px: int, path: pathlib.Path) -> None:
    pixels = RGBImageField(write_mode="jpg", max_resolution=px)
    writer = DatasetWriter(str(path), {"image": pixels, "label": IntField()}, num_workers=protocol.WORKERS)
    writer.from_indexed_dataset(Photographs(images))


def batches(loader: Loader):
    while True:
        for images, labels in loader:
            yield images, labels[:, 0]


def main() -> None:
    options = protocol.options()
    path = protocol.write_once(
        options.work / f"ffcv_jpeg_{options.image_px}.beton",
        lambda path: write(options.images, options.image_px, path),
    )
    loader = Loader(
        str(path),
        batch_size=options.batch,
        indices=np.tile(np.arange(len(protocol.files(options.images)[0])), PASSES),
        num_workers=protocol.WORKERS,
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=True,
        batches_ahead=3,
        pipelines={"image": [SimpleRGBImageDecoder(), ToTensor()], "label": [IntDecoder(), ToTensor()]},
    )
    protocol.serve("ffcv_jpeg", importlib.metadata.version("ffcv"), batches(loader), options)


if __name__ == "__main__":
    main()
