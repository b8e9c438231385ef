"""See what augmentation makes of your photographs, before training on it.

  python -m crackflow.augment_preview --data=data/metu --out=preview.png
  python -m crackflow.augment_preview --data=data/metu --out=preview.png --augment=strong --noise=30

One row a picture: first the picture itself, then what training would see at its first steps. A crack that can't be
seen any more should not be trained on: lower the strengths.
"""

import io
import os

import numpy as np
from PIL import Image

from crackflow.core import atomic, console, flags, runtime, temporary_files
from crackflow.core.config.augmentation import PreviewConfig
from crackflow.core.errors import UserError
from crackflow.data import dataset
from crackflow.pipeline import stream
from crackflow.training import augment

GAP = 4  # pixels between the pictures


def run(config: PreviewConfig) -> None:
    """Write the grid to `config.out`. Raises: UserError."""
    if os.path.exists(config.out) and not config.overwrite:
        raise UserError(f"--out: {config.out!r} exists; choose another name, or add --overwrite")
    runtime.configure(config.seed, threads=0, deterministic=False)
    made = dataset.load(config.data)
    made.expect_images("train")
    # As many as there are rows, or both of a pair for MixUp.
    count = config.pictures + config.pictures % 2
    batches = stream.train_batches(made, count, config.image_px, made.facts["channels"], config.seed)
    image, label = next(iter(batches))
    augmenter = augment.Augmenter(config.augmentation, config.seed, compiled=False)
    columns = [image, *(augmenter(image, step) for step in range(config.steps))]
    pixels = grid(np.stack([np.asarray(column)[: config.pictures] for column in columns], 1))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    temporary_files.remove_leftovers(*os.path.split(os.path.abspath(config.out)))
    atomic.write_bytes(config.out, buffer.getvalue())
    names = ["cracked" if one else "clean" for one in label[: config.pictures]]
    console.info(f"rows: {', '.join(names)}; first column: the picture itself")
    console.info(f"preview {config.out}")


def grid(image: np.ndarray) -> np.ndarray:
    """uint8 [R, N, H, H, C], 0..255, as one picture uint8 [.., .., 3] on white; the first column stands apart."""
    rows, columns, side = image.shape[:3]
    image = np.broadcast_to(image, (*image.shape[:4], 3)) if image.shape[4] == 1 else image
    cell = side + GAP
    page = np.full((rows * cell + GAP, columns * cell + 3 * GAP, 3), 255, np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = GAP + row * cell, GAP + column * cell + (2 * GAP if column else 0)
            page[top : top + side, left : left + side] = image[row, column]
    return page


if __name__ == "__main__":
    flags.main(PreviewConfig, run, __doc__)
