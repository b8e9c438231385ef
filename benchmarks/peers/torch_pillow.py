"""PyTorch DataLoader over the JPEG files, Pillow decodes.

Synopsis::

    python benchmarks/peers/torch_pillow.py --images DIR --image_px 227 --work SCRATCHDIR
"""

import pathlib
import sys

sys.path.pop(0)  # this folder, whose grain.py and webdataset.py would hide the packages
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from PIL import Image

from benchmarks.peers import protocol


class Photographs(torch.utils.data.Dataset):
    def __init__(self, files: list[str], labels: np.ndarray, px: int) -> None:
        self.files, self.labels, self.size = files, labels, (px, px)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.files[index]) as image:
            image.draft("RGB", self.size)  # lets libjpeg decode at half the size where that is enough
            if image.size != self.size:
                image = image.resize(self.size, Image.Resampling.BILINEAR)
            return torch.from_numpy(np.array(image)), int(self.labels[index])


def batches(loader: torch.utils.data.DataLoader):
    while True:
        yield from loader


def main() -> None:
    options = protocol.options()
    photographs = Photographs(*protocol.files(options.images), options.image_px)
    loader = torch.utils.data.DataLoader(
        photographs,
        batch_size=options.batch,
        shuffle=True,
        drop_last=True,
        num_workers=protocol.WORKERS,
        persistent_workers=True,
        prefetch_factor=4,
    )
    protocol.serve("torch_pillow", torch.__version__, batches(loader), options)


if __name__ == "__main__":
    main()
