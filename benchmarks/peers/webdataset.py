"""WebDataset over tar shards of the JPEG files, Pillow decodes.

Synopsis::

    python benchmarks/peers/webdataset.py --images DIR --image_px 227 --work SCRATCHDIR
"""

import io
import pathlib
import sys

sys.path.pop(0)  # this folder, whose grain.py and webdataset.py would hide the packages
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import numpy as np
import torch
import webdataset
from PIL import Image

from benchmarks.peers import protocol

SHARDS = 16  # each worker needs several, to read them in a new order every pass
SHUFFLE = 1000  # size of the shuffle buffer of each worker, in images


def write(images: pathlib.Path, directory: pathlib.Path) -> None:
    files, labels = protocol.files(images)
    directory.mkdir()
    max_count = -(-len(files) // SHARDS)
    with webdataset.ShardWriter(str(directory / "%02d.tar"), maxcount=max_count, verbose=0) as writer:
        for number in protocol.shuffled_order(len(files)):
            jpeg = pathlib.Path(files[number]).read_bytes()
            writer.write({"__key__": f"{number:06d}", "jpg": jpeg, "cls": int(labels[number])})


class Decode:
    def __init__(self, px: int) -> None:
        self.size = (px, px)

    def __call__(self, sample: dict) -> tuple[torch.Tensor, int]:
        image = Image.open(io.BytesIO(sample["jpg"]))
        image.draft("RGB", self.size)  # lets libjpeg decode at half the size where that is enough
        if image.size != self.size:
            image = image.resize(self.size, Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)), int(sample["cls"])


def main() -> None:
    options = protocol.options()
    directory = protocol.write_once(options.work / "webdataset", lambda directory: write(options.images, directory))
    shards = sorted(str(path) for path in directory.glob("*.tar"))
    photographs = (
        webdataset.WebDataset(shards, shardshuffle=SHARDS)
        .repeat()
        .shuffle(SHUFFLE)
        .map(Decode(options.image_px))
        # default_collate puts a batch into shared memory; arrays would be pickled through a pipe.
        .batched(options.batch, collation_fn=torch.utils.data.default_collate, partial=False)
    )
    loader = webdataset.WebLoader(photographs, batch_size=None, num_workers=protocol.WORKERS, prefetch_factor=4)
    protocol.serve("webdataset", webdataset.__version__, iter(loader), options)


if __name__ == "__main__":
    main()
