"""PyTorch DataLoader over the JPEG files, OpenCV decodes.

Synopsis::

    python benchmarks/peers/torch_opencv.py --images DIR --image_px 227 --work SCRATCHDIR
"""

import pathlib
import sys

sys.path.pop(0)  # this folder, whose grain.py and webdataset.py would hide the packages
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import cv2
import numpy as np
import torch

from benchmarks.peers import protocol


class Photographs(torch.utils.data.Dataset):
    def __init__(self, files: list[str], labels: np.ndarray, px: int) -> None:
        self.files, self.labels, self.size = files, labels, (px, px)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = cv2.imread(self.files[index], cv2.IMREAD_COLOR_RGB)
        if image.shape[:2] != self.size:
            image = cv2.resize(image, self.size, interpolation=cv2.INTER_LINEAR)
        return torch.from_numpy(image), int(self.labels[index])


def use_one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # there is one worker per core


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
        worker_init_fn=use_one_thread,
        persistent_workers=True,
        prefetch_factor=4,
    )
    protocol.serve("torch_opencv", torch.__version__, batches(loader), options)


if __name__ == "__main__":
    main()
