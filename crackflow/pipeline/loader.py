"""Chooses where the batches come from: the pack, the stream, or synthetic pixels, by the room there is.

Synopsis::

    inputs = loader.create_loader(Input.AUTO, dataset, BatchSpec(batch_size=64, image_px=128, channels=3))
    inputs.train(), inputs.val()    # tf.data.Datasets, as `pipeline.tfrecord_loader` describes them
    inputs.choice                   # AutoChoice("pack", "0.40 GB decoded once, of 71 GB free on the disk")
"""

import dataclasses
import functools
import os
import shutil
from collections.abc import Callable

import numpy as np

from crackflow.core import console, runtime
from crackflow.core.backend import tf
from crackflow.core.config.training import Input
from crackflow.core.runtime import AutoChoice
from crackflow.core.sharding import NO_SHARDING, ShardOptions
from crackflow.data.dataset import Dataset
from crackflow.pipeline import memmap_loader, service_loader, tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec

SPLITS = ("train", "val")
# A pack may use half of what is free on the disk, to leave room for what else is written there meanwhile.
PART_OF_DISK = 0.5
SYNTHETIC_BATCHES = 16


@dataclasses.dataclass(frozen=True)
class DataLoader:
    """Batches for training and validation.

    Attributes:
        train_batches: builds the training dataset; takes first_batch, shard and with_cells.
        val_batches: builds the validation dataset; takes shard.
        choice: which input was chosen, and why.
    """

    train_batches: Callable[..., tf.data.Dataset]
    val_batches: Callable[..., tf.data.Dataset]
    choice: AutoChoice

    def train(
        self, first_batch: int = 0, shard: ShardOptions = NO_SHARDING, with_cells: bool = False
    ) -> tf.data.Dataset:
        """Endless (image, label) or (image, label, cells): `shard` of each global batch from `first_batch` on."""
        return self.train_batches(first_batch=first_batch, shard=shard, with_cells=with_cells)

    def val(self, shard: ShardOptions = NO_SHARDING) -> tf.data.Dataset:
        """(image, label, weight), each image of the validation split once."""
        return self.val_batches(shard=shard)


def choose_input(requested: Input, dataset: Dataset, image_px: int, channels: int) -> AutoChoice:
    """Chooses the input that fits this machine: with auto, the pack if disk and memory have room for it, else the
    stream."""
    if requested is not Input.AUTO:
        return AutoChoice(requested.value, "asked for")
    size = sum(memmap_loader.nbytes(dataset, split, image_px, channels) for split in SPLITS)
    if all(os.path.exists(f"{memmap_loader.base(dataset, split, image_px, channels)}.json") for split in SPLITS):
        return AutoChoice("pack", f"{size / 1e9:.2f} GB, made before")
    free, memory = shutil.disk_usage(dataset.folder).free, runtime.memory_bytes()
    size_text = f"{size / 1e9:.2f} GB"
    if not os.access(dataset.folder, os.W_OK):
        return AutoChoice("stream", f"{dataset.folder!r} can't be written, so the pack has no place")
    if size > PART_OF_DISK * free:
        return AutoChoice(
            "stream", f"the pack takes {size_text}, more than half of the {free / 1e9:.2f} GB free on the disk"
        )
    if size > memory:
        return AutoChoice(
            "stream", f"the pack takes {size_text}, more than the {memory / 1e9:.2f} GB of memory that map it"
        )
    return AutoChoice("pack", f"{size_text} decoded once, of {free / 1e9:.0f} GB free on the disk")


def create_loader(
    requested: Input,
    dataset: Dataset,
    spec: BatchSpec,
    data_service: str = "",
    val_batch_size: int = 0,
) -> DataLoader:
    """Creates the batches for training and validation.

    A pack that can't be written falls back to the stream, with a warning.

    Args:
        requested: the input, or auto.
        dataset: the dataset.
        spec: the batches of training.
        data_service: address of a tf.data service that decodes the stream instead.
        val_batch_size: global batch size of validation; 0: that of training.

    Raises:
        UserError: when no service listens at `data_service`.
    """
    val_spec = dataclasses.replace(spec, batch_size=val_batch_size or spec.batch_size)
    memmap_loader.remove_leftovers(dataset)  # even if no pack is built: they are as large as a whole pack
    if data_service:
        service_loader.require_reachable(data_service)
        return DataLoader(
            functools.partial(service_loader.train_batches, dataset, data_service, spec),
            functools.partial(service_loader.eval_batches, dataset, "val", data_service, val_spec),
            AutoChoice("service", data_service),
        )
    choice = choose_input(requested, dataset, spec.image_px, spec.channels)
    if choice.value == "pack":
        try:
            train, val = (
                memmap_loader.build_if_missing(dataset, split, spec.image_px, spec.channels) for split in SPLITS
            )
            return DataLoader(
                functools.partial(memmap_loader.train_batches, train, spec.batch_size, spec.seed),
                functools.partial(memmap_loader.eval_batches, val, val_spec.batch_size),
                choice,
            )
        except OSError as error:
            choice = AutoChoice("stream", f"the pack can't be written: {error.strerror or error}")
            console.warning(f"{choice.reason}; decoding as it trains instead, which is slower")
    val = functools.partial(tfrecord_loader.eval_batches, dataset, "val", val_spec)
    if choice.value == "synthetic":
        return DataLoader(functools.partial(synthetic_batches, spec), val, choice)
    train = functools.partial(tfrecord_loader.train_batches, dataset, spec)
    return DataLoader(train, val, choice)


def synthetic_batches(
    spec: BatchSpec,
    first_batch: int = 0,
    shard: ShardOptions = NO_SHARDING,
    with_cells: bool = False,
) -> tf.data.Dataset:
    """Endless random batches from memory, to measure how fast the device alone is. Nothing can be learnt from them."""
    random = np.random.default_rng([spec.seed, shard.first])
    shape = (SYNTHETIC_BATCHES, shard.size(spec.batch_size), spec.image_px, spec.image_px, spec.channels)
    image = random.integers(0, 256, shape, np.uint8)
    tables = [random.integers(0, 2, shape[:2], np.int32)]
    if with_cells:
        tables.append(random.integers(-(2**63), 2**63, shape[:2], np.int64))
    return (
        tf.data.Dataset.from_tensor_slices((image, *tables)).cache().repeat().skip(first_batch % shape[0]).prefetch(2)
    )
