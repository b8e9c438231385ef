"""The pack: a decoded cache of a split in a plain .npy, which TensorFlow maps into memory instead of reading it.

Synopsis::

    dataset = dataset_io.load("data/metu")
    packed = memmap_loader.build_if_missing(dataset, "train", image_px=128, channels=3)  # built if missing
    for image, label in memmap_loader.train_batches(packed, batch_size=64, seed=0): ...
    # image: uint8 [64, 128, 128, 3], 0..255;  label: int32 [64]

The folder `packs` of the dataset holds train-128.npy uint8 [N, 128, 128, 3], train-128.labels.npy int32 [N] and
train-128.json, which is written last and describes the other two. Grey packs are called train-128-grey.

The order of training is that of `pipeline.shuffle`, a perfect shuffle that starts anywhere.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable

import google_crc32c
import numpy as np

from crackflow.core import atomic, checked_json, console, locks, temporary_files
from crackflow.core.backend import tf
from crackflow.core.sharding import NO_SHARDING, ShardOptions
from crackflow.data.dataset import Dataset
from crackflow.data.record_reader import RecordReader
from crackflow.pipeline import shuffle, tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec, batch_positions

FOLDER, LOCK, VERSION = "packs", ".lock", 3
HEADER_BYTES = 128  # of .npy format 1.0 for these shapes; TensorFlow takes pixels at a multiple of 64 without a copy
BUILD_BATCH = 256
CRC_BLOCK = 16 << 20


@dataclasses.dataclass(frozen=True)
class PackedSplit:
    """A sound pack of `split` of `dataset`.

    Attributes:
        dataset: the source of the images.
        split: name of the split.
        path: the .npy file of the pixels.
        count: number of images.
        image_px: side of the images.
        channels: 1 or 3.
        labels: int32 [count], 1 means cracked.
    """

    dataset: Dataset
    split: str
    path: str
    count: int
    image_px: int
    channels: int
    labels: np.ndarray

    def read_cells(self) -> np.ndarray:
        """Reads the mask bits of `data.mask_grid` from manifest.csv: int64 [count], seconds for a million images."""
        return RecordReader(self.dataset, self.split).mask_bits


def nbytes(dataset: Dataset, split: str, image_px: int, channels: int) -> int:
    """Size of the pack of `split`, which has dataset.count(split) images."""
    return HEADER_BYTES + dataset.count(split) * image_px**2 * channels


def base(dataset: Dataset, split: str, image_px: int, channels: int) -> str:
    """Path of the pack without its extension."""
    return os.path.join(dataset.folder, FOLDER, f"{split}-{image_px}" + ("" if channels == 3 else "-grey"))


def find(dataset: Dataset, split: str, image_px: int, channels: int) -> PackedSplit | None:
    """Finds the pack if it is sound: of this dataset, and every byte as it was written. Else None."""
    path = base(dataset, split, image_px, channels)
    expected = _metadata(dataset, split, image_px, channels)
    try:
        metadata = checked_json.read(f"{path}.json")
        if {key: metadata.get(key) for key in expected} != expected:
            return None
        sums = [_checksum(f"{path}.npy"), _checksum(f"{path}.labels.npy")]
        if sums != [metadata.get("pixels_crc32c"), metadata.get("labels_crc32c")]:
            return None
        labels = np.load(f"{path}.labels.npy")
    except (OSError, ValueError, MemoryError):
        return None
    return PackedSplit(dataset, split, f"{path}.npy", expected["count"], image_px, channels, labels)


def build_if_missing(dataset: Dataset, split: str, image_px: int, channels: int) -> PackedSplit:
    """Returns the pack; builds it first when it is missing, stale or damaged. Of several processes only one builds.

    Raises:
        OSError: when the folder can't be written or the disk is full; nothing half-written stays.
    """
    remove_leftovers(dataset)
    packed = find(dataset, split, image_px, channels)
    if packed:  # without a lock, which can't be created in a read-only folder
        return packed
    os.makedirs(os.path.join(dataset.folder, FOLDER), exist_ok=True)
    with locks.open_file(f"{base(dataset, split, image_px, channels)}{LOCK}") as lock:
        locks.lock_where_possible(lock)  # waits for another process that builds; without locks each process builds
        packed = find(dataset, split, image_px, channels)
        if packed:
            return packed
        with console.progress_bar(dataset.count(split), f"packing {split} at {image_px} px") as advance:
            _build_pack(dataset, split, image_px, channels, advance)
    packed = find(dataset, split, image_px, channels)
    if not packed:
        raise OSError(f"the pack {base(dataset, split, image_px, channels)!r} is not what was written a moment ago")
    return packed


def remove_leftovers(dataset: Dataset) -> None:
    """Removes the unfinished packs of `dataset` that killed processes left."""
    temporary_files.remove_leftovers(os.path.join(dataset.folder, FOLDER))


def _metadata(dataset: Dataset, split: str, image_px: int, channels: int) -> dict:
    return {
        "version": VERSION,
        "fingerprint": dataset.metadata["fingerprint"],
        "split": split,
        "count": dataset.count(split),
        "image_px": image_px,
        "channels": channels,
    }


def _build_pack(dataset: Dataset, split: str, image_px: int, channels: int, advance: Callable[[int], None]) -> None:
    path, metadata = base(dataset, split, image_px, channels), _metadata(dataset, split, image_px, channels)
    with contextlib.suppress(FileNotFoundError):
        os.remove(f"{path}.json")  # from here on, there is no pack until the last line
    shape = (metadata["count"], image_px, image_px, channels)
    labels = []
    with atomic.file(f"{path}.npy") as file:
        crc = _write_block(file, _npy_header(shape), 0)
        for image, label, weight in tfrecord_loader.eval_batches(
            dataset, split, BatchSpec(BUILD_BATCH, image_px, channels)
        ):
            real = int(np.count_nonzero(weight.numpy()))
            crc = _write_block(file, image.numpy()[:real].tobytes(), crc)
            labels.append(label.numpy()[:real])
            advance(real)
    with atomic.file(f"{path}.labels.npy") as file:
        np.save(file, np.concatenate(labels).astype(np.int32))
    metadata |= {"pixels_crc32c": crc, "labels_crc32c": _checksum(f"{path}.labels.npy")}
    atomic.write_text(f"{path}.json", json.dumps(metadata, indent=1) + "\n")


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """The first `HEADER_BYTES` bytes of a .npy file of uint8 [shape]."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    start = np.lib.format.magic(1, 0) + (HEADER_BYTES - 10).to_bytes(2, "little")
    return (start + text.encode()).ljust(HEADER_BYTES - 1) + b"\n"


def _write_block(file, data: bytes, crc: int) -> int:
    file.write(data)
    return google_crc32c.extend(crc, data)


def _checksum(path: str) -> int:
    """CRC-32C of a file."""
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(CRC_BLOCK):
            crc = google_crc32c.extend(crc, block)
    return crc


def rows(packed: PackedSplit) -> tf.Tensor:
    """Maps the pixels: uint8 [N, px * px * C]. Nothing is read until a row is used, and nothing is copied.

    The array is passed by DLPack. TensorFlow's own operation, ImmutableConst, maps the file too, but TensorFlow then
    tries to fold it into a constant, which reads all of it and needs its size in memory once more.
    """
    mapped = np.load(packed.path, mmap_mode="c")  # DLPack requires a writable array; nothing writes to it
    return tf.experimental.dlpack.from_dlpack(np.asarray(mapped).reshape(packed.count, -1).__dlpack__())


def _map_batches(numbers: tf.data.Dataset, batch: Callable) -> tf.data.Dataset:
    """Maps batch numbers to batches, without tf.data's graph rewriting, which would serialize what `batch` captures:
    the whole pack, in memory."""
    batch = tf.autograph.experimental.do_not_convert(batch)  # as in `pipeline.tfrecord_loader`
    ds = numbers.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    return ds.with_options(options)


def train_batches(
    packed: PackedSplit,
    batch_size: int,
    seed: int,
    first_batch: int = 0,
    shard: ShardOptions = NO_SHARDING,
    with_cells: bool = False,
) -> tf.data.Dataset:
    """Endless shuffled batches, as `tfrecord_loader.train_batches`.

    Args:
        packed: the pack.
        batch_size: global batch size.
        seed: seed of the order.
        first_batch: global batch of the run to start from.
        shard: which parts of each global batch this process gets, one after the other.
        with_cells: adds the mask bits of `data.mask_grid`.

    Returns:
        (image uint8 [b, px, px, C], label int32 [b]), and with cells int64 [b]; b is the size of a part.
    """
    pixels, tables = rows(packed), [tf.constant(packed.labels)]
    if with_cells:
        tables.append(tf.constant(packed.read_cells()))
    shape = [shard.size(batch_size), packed.image_px, packed.image_px, packed.channels]

    def batch(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        row_indices = shuffle.shuffled_index(batch_positions(number, batch_size, shard), packed.count, seed)
        return tf.reshape(tf.gather(pixels, row_indices), shape), *(tf.gather(table, row_indices) for table in tables)

    ds = tf.data.Dataset.counter(first_batch * shard.count)
    return _map_batches(ds, batch)


def eval_batches(packed: PackedSplit, batch_size: int, shard: ShardOptions = NO_SHARDING) -> tf.data.Dataset:
    """Every image once, in the order of the shards, with weight 0 on the padding, as `tfrecord_loader.eval_batches`."""
    pixels, labels = rows(packed), tf.constant(packed.labels)
    shape = [shard.size(batch_size), packed.image_px, packed.image_px, packed.channels]

    def batch(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        positions = batch_positions(number, batch_size, shard)
        inside = positions < packed.count
        row_indices = tf.minimum(positions, packed.count - 1)
        weight = tf.cast(inside, tf.float32)
        image = tf.gather(pixels, row_indices) * tf.cast(inside, tf.uint8)[:, None]
        return tf.reshape(image, shape), tf.gather(labels, row_indices) * tf.cast(inside, tf.int32), weight

    ds = tf.data.Dataset.range(tfrecord_loader.num_eval_batches(packed.count, batch_size) * shard.count)
    return _map_batches(ds, batch)
