"""Preview what augmentation does to your photographs before training on them.

  python -m crackflow.augment_preview --data=data/metu --out=preview.png
  python -m crackflow.augment_preview --data=data/metu --out=preview.png --augment=strong --noise=30

One row per image: first the image itself, then what training would see in its first steps. If a crack is no longer
visible, lower the strengths: training on it would do harm.
"""

import io
import os

import numpy as np
from PIL import Image

from crackflow.core import atomic, callable_module, console, flags, runtime, temporary_files
from crackflow.core.config.augmentation import PreviewConfig
from crackflow.core.errors import UserError
from crackflow.data import dataset as dataset_io
from crackflow.pipeline import tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from crackflow.training import augment

GAP = 4  # pixels between the images


def run(config: PreviewConfig) -> None:
    """Write the grid to `config.out`.

    Raises:
        UserError: the file exists, or the dataset is unusable.
    """
    if os.path.exists(config.out) and not config.overwrite:
        raise UserError(f"--out: {config.out!r} exists; choose another name, or add --overwrite")
    runtime.configure(config.seed, threads=0, deterministic=False)
    dataset = dataset_io.load(config.data)
    dataset.require_images("train")
    # One image per row, rounded up to an even number because MixUp needs pairs.
    count = config.pictures + config.pictures % 2
    batches = tfrecord_loader.train_batches(
        dataset, BatchSpec(count, config.image_px, dataset.metadata["channels"], config.seed)
    )
    image, label = next(iter(batches))
    augmenter = augment.Augmenter(config.augmentation, config.seed, compiled=False)
    columns = [image, *(augmenter(image, step) for step in range(config.steps))]
    pixels = grid(np.stack([np.asarray(column)[: config.pictures] for column in columns], 1))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    temporary_files.remove_leftovers(*os.path.split(os.path.abspath(config.out)))
    atomic.write_bytes(config.out, buffer.getvalue())
    names = ["cracked" if is_cracked else "clean" for is_cracked in label[: config.pictures]]
    console.info(f"rows: {', '.join(names)}; first column: the picture itself")
    console.info(f"preview {config.out}")


def grid(image: np.ndarray) -> np.ndarray:
    """Arrange images as one image on white; the first column stands apart.

    Args:
        image: uint8 [R, N, H, H, C], 0..255: R rows of N images with 1 or 3 channels.

    Returns:
        uint8 [height, width, 3], 0..255.
    """
    rows, columns, side = image.shape[:3]
    image = np.broadcast_to(image, (*image.shape[:4], 3)) if image.shape[4] == 1 else image
    cell = side + GAP
    canvas = np.full((rows * cell + GAP, columns * cell + 3 * GAP, 3), 255, np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = GAP + row * cell, GAP + column * cell + (2 * GAP if column else 0)
            canvas[top : top + side, left : left + side] = image[row, column]
    return canvas


callable_module.install(__name__, PreviewConfig, run)
if __name__ == "__main__":
    flags.main(PreviewConfig, run, __doc__)
