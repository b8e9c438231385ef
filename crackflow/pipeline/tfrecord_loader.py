"""The stream: from shards to batches of pixels, decoded when they are needed.

Synopsis::

    dataset = dataset_io.load("data/metu")
    batches = tfrecord_loader.train_batches(dataset, BatchSpec(batch_size=64, image_px=128, channels=3, seed=0))
    # image: uint8 [64, 128, 128, 3], 0..255;  label: int32 [64]
    for image, label, weight in tfrecord_loader.eval_batches(dataset, "test", BatchSpec(64, 128, 3)): ...

A batch is a number. Its rows follow from it (`pipeline.shuffle`), and the records from the rows (`data.record_reader`).
One call reads and decodes them one after the other, straight into the batch, and as many calls run in parallel as keep
the cores busy.

Memory, whatever the size of the dataset: a decoded batch per core and five more (20 MB each for 128 images of 227 px),
and 20 bytes per record for its position.
"""

import atexit
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from crackflow.core import process_pool, runtime
from crackflow.core.backend import tf
from crackflow.core.errors import UserError
from crackflow.core.sharding import NO_SHARDING, ShardOptions
from crackflow.data.dataset import Dataset
from crackflow.data.record_reader import RecordReader
from crackflow.pipeline import decode, shuffle
from crackflow.pipeline.batch_spec import BatchSpec, batch_positions

# Shards larger than this fraction of the memory are shuffled within windows of half that size: while one window is
# used, the next is read ahead.
PART_OF_MEMORY = 0.5


def train_batches(
    dataset: Dataset,
    spec: BatchSpec,
    split: str = "train",
    first_batch: int = 0,
    shard: ShardOptions = NO_SHARDING,
    with_cells: bool = False,
) -> tf.data.Dataset:
    """Endless shuffled batches for training.

    The order is that of `pipeline.shuffle`, and the same as with the pack while the shards fit into memory.

    Args:
        dataset: the dataset.
        spec: size and order of the batches.
        split: name of the split.
        first_batch: global batch of the run to start from.
        shard: which parts of each global batch this process gets, one after the other.
        with_cells: adds the mask bits of `data.mask_grid`.

    Returns:
        (image uint8 [b, image_px, image_px, channels], 0..255, label int32 [b]), and with cells int64 [b]; b is the
        size of a part.

    Raises:
        UserError: when the split is empty.
        tf.errors.UnknownError: during iteration, with the text of a UserError, when a record is damaged.
    """
    rows = RecordReader(dataset, split)
    window = window_rows(rows.count, rows.bytes)
    read = Reader(rows, dataset, shard.size(spec.batch_size), spec.channels)
    mask_bits = tf.constant(rows.mask_bits)

    def batch(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        row_indices = shuffle.shuffled_index(
            batch_positions(number, spec.batch_size, shard), rows.count, spec.seed, window
        )
        first = number // shard.count * spec.batch_size
        # The window that this batch begins in, and that of the batch one window later.
        windows = shuffle.shuffle_windows(
            tf.stack([first, first + (window or rows.count)]), rows.count, spec.seed, window
        )
        batch_arrays = read(row_indices, spec.image_px, tf.stack(windows, 1))
        return (*batch_arrays, tf.gather(mask_bits, row_indices)) if with_cells else batch_arrays

    return _map_batches(tf.data.Dataset.counter(first_batch * shard.count), batch)


def window_rows(count: int, nbytes: int) -> int:
    """Rows per shuffle window, of `count` rows of `nbytes` together; 0 when all of them fit into memory.

    The memory is rounded down to a power of two: hosts of one kind differ by some pages, and those that share a run
    must cut the same windows, or some images would come twice and others never.
    """
    room = PART_OF_MEMORY * (1 << (runtime.memory_bytes().bit_length() - 1))
    return 0 if nbytes <= room else max(1, int(count * room / 2 / nbytes))


def eval_batches(dataset: Dataset, split: str, spec: BatchSpec, shard: ShardOptions = NO_SHARDING) -> tf.data.Dataset:
    """Every image once, in the order of the shards.

    Takes the arguments of `train_batches` and raises its errors. Each shard gets as many batches as the others.

    Returns:
        (image uint8 [b, image_px, image_px, channels], 0..255, label int32 [b], weight float32 [b], 0 on padding).
    """
    rows = RecordReader(dataset, split)
    read = Reader(rows, dataset, shard.size(spec.batch_size), spec.channels)

    def batch(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        positions = batch_positions(number, spec.batch_size, shard)
        inside = positions < rows.count
        image, label = read(tf.boolean_mask(positions, inside), spec.image_px)
        return image, label, tf.cast(inside, tf.float32)

    return _map_batches(tf.data.Dataset.range(num_eval_batches(rows.count, spec.batch_size) * shard.count), batch)


def sample_batches(dataset: Dataset, split: str, count: int, spec: BatchSpec) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    """Yields (image, label) of at most `count` images from all over a split, none twice, in the order of
    `train_batches`.

    The last batch may be smaller. The first images of a split are no sample: a joined dataset has its parts one after
    the other. Raises the errors of `train_batches`.
    """
    remaining = min(count, dataset.count(split))
    for image, label in train_batches(dataset, spec, split):
        yield image[:remaining], label[:remaining]
        remaining -= spec.batch_size
        if remaining <= 0:
            return


def read_rows(dataset: Dataset, split: str, row_indices: Sequence[int], image_px: int, channels: int) -> np.ndarray:
    """The images of `row_indices`, at least one, decoded as `eval_batches` does: uint8 [N, image_px, image_px,
    channels], 0..255."""
    read = Reader(RecordReader(dataset, split), dataset, len(row_indices), channels)
    return read(tf.constant(row_indices, tf.int64), image_px)[0].numpy()


def num_eval_batches(count: int, batch_size: int) -> int:
    """Batches that hold `count` images, the last one padded."""
    return -(-count // batch_size)


def _map_batches(numbers: tf.data.Dataset, batch: Callable) -> tf.data.Dataset:
    batch = tf.autograph.experimental.do_not_convert(batch)  # nothing to convert; saves 0.9 s of each start (8 s)
    # One call more than cores: while one waits for its turn to deliver a batch, another decodes.
    ds = numbers.map(batch, num_parallel_calls=process_pool.count(0) + 1, deterministic=True)
    return ds.prefetch(2)  # enough to hide a batch's decoding behind a step; each more costs a batch of memory


class _CallTracker:
    """Tracks calls from TensorFlow's threads into Python, to end them before the interpreter exits.

    An iterator that lives to the end is deleted by an interpreter that runs no other thread any more. It waits for its
    calls, and forever if one of them has yet to begin.
    """

    QUIET_S = 0.05  # after so long without a call no more will come: the queues are full

    def __init__(self) -> None:
        self._lock, self._running, self._last, self._ended = threading.Lock(), 0, 0.0, False
        atexit.register(self._end)

    @contextmanager
    def track(self) -> Iterator[None]:
        """Tracks one call. Raises: RuntimeError when the interpreter exits."""
        with self._lock:
            self._running, self._last = self._running + 1, time.monotonic()
        try:
            if self._ended:
                raise RuntimeError("the program ends")
            yield
        finally:
            with self._lock:
                self._running, self._last = self._running - 1, time.monotonic()

    def _end(self) -> None:
        self._ended = True
        while self._running or time.monotonic() < self._last + self.QUIET_S:
            time.sleep(self.QUIET_S / 5)


_calls = _CallTracker()


class Reader:
    """Reads rows into a batch of pixels and labels.

    The split decides how JPEGs of one size are decoded: quickly for training, exactly for evaluation. All other images
    are decoded exactly. `at_once` images of a batch may be decoded in parallel, unless Python decodes them one after
    the other.
    """

    def __init__(
        self, rows: RecordReader, dataset: Dataset, batch_size: int, channels: int, at_once: int = decode.AT_ONCE
    ) -> None:
        self._rows, self._channels, self._exact = rows, channels, rows.split != "train"
        self._at_once = at_once
        self._encoding, self._px = dataset.metadata["encoding"], dataset.image_px
        self._size = batch_size
        self._filled = self._encoding == "raw" or (self._encoding == "jpeg" and self._px > 0)
        stored = dataset.metadata["channels"] if self._encoding == "raw" else channels
        self._shape = [batch_size, self._px, self._px, stored]
        self._batches = decode.BufferPool(self._shape)
        self._ahead: list[list[int]] = []

    def __call__(
        self, row_indices: tf.Tensor, image_px: int, windows: tf.Tensor | tuple[()] = ()
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads a batch in a graph.

        Args:
            row_indices: int64 [up to B].
            image_px: side of the images.
            windows: int64 [n, 2], first rows and sizes of the windows to read ahead.

        Returns:
            (image uint8 [B, image_px, image_px, channels], label int32 [B]), 0 on padding.
        """
        if self._filled:
            image, label = tf.numpy_function(
                self._decode_batch, [row_indices, windows], (tf.uint8, tf.int32), stateful=False
            )
            image = decode.to_channels(tf.ensure_shape(image, self._shape), self._channels)
            image = decode.to_size(image, image_px)
        else:
            data, label = tf.numpy_function(
                self._fetch_encoded, [row_indices, windows], (tf.string, tf.int32), stateful=False
            )
            data = tf.ensure_shape(data, [None])
            image = decode.decode(data, self._encoding, self._px, image_px, self._channels, self._at_once)
            image = tf.pad(image, [[0, self._size - tf.shape(data)[0]], [0, 0], [0, 0], [0, 0]])
            image = tf.ensure_shape(image, [self._size, image_px, image_px, self._channels])
        return image, tf.ensure_shape(label, [self._size])

    @_calls.track()
    def _decode_batch(self, row_indices: np.ndarray, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._read_ahead(windows)
        image, label = self._batches.acquire(), np.zeros(self._size, np.int32)
        for position, row in enumerate(row_indices.tolist()):
            data, label[position] = self._rows.fetch(row)
            try:
                decode.decode_into(image[position], data, self._encoding, self._exact)
            except ValueError as error:
                raise UserError(f"{self._rows.name(row)}: {error}; convert the images again") from error
        image[len(row_indices) :] = 0
        return image, label

    @_calls.track()
    def _fetch_encoded(self, row_indices: np.ndarray, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._read_ahead(windows)
        label = np.zeros(self._size, np.int32)
        records = [self._rows.fetch(row) for row in row_indices.tolist()]
        label[: len(records)] = [label for _, label in records]
        return np.asarray([bytes(data) for data, _ in records], object), label

    def _read_ahead(self, windows: np.ndarray) -> None:
        """Reads each window ahead once, until the next ones come."""
        requested = windows.tolist()
        before, self._ahead = self._ahead, requested or self._ahead
        for window in requested:
            if window not in before:
                self._rows.read_ahead(*window)


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Whole batches in an epoch of `count` images, at least one."""
    return max(1, count // batch_size)


def paths_and_groups(dataset: Dataset, split: str) -> tuple[list[str], np.ndarray]:
    """(source paths, int64 [N] groups) of a split, in the order of `eval_batches`."""
    rows = RecordReader(dataset, split)
    records = [rows.fields(row) for row in range(rows.count)]
    paths = [record["path"].decode("utf-8", "surrogateescape") for record in records]
    return paths, np.asarray([record["group"] for record in records], np.int64)
