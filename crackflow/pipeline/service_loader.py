"""The stream, decoded by other processes or hosts with the tf.data service.

Synopsis::

    batches = service_loader.train_batches(dataset, "grpc://input:5050", BatchSpec(64, 128, 3))

The graph that the service's workers run contains the numbers of this process's parts, and the position of each record.
The dispatcher gives each number to one worker, so every part comes once. Parts come when they are ready, not in order.
All workers must see the shards under the same path as this process.
"""

import socket

from crackflow.core import rendezvous
from crackflow.core.backend import tf
from crackflow.core.errors import UserError
from crackflow.core.sharding import NO_SHARDING, ShardOptions
from crackflow.data.dataset import Dataset
from crackflow.data.record_reader import RecordReader
from crackflow.pipeline import decode, shuffle, tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec, batch_positions

SCHEME = "grpc://"
CONNECT_S = 10


def train_batches(
    dataset: Dataset,
    address: str,
    spec: BatchSpec,
    first_batch: int = 0,
    shard: ShardOptions = NO_SHARDING,
    with_cells: bool = False,
) -> tf.data.Dataset:
    """The same parts of the same batches as `tfrecord_loader.train_batches`, in any order. Raises the same errors."""
    rows = RecordReader(dataset, "train")
    window = tfrecord_loader.window_rows(rows.count, rows.bytes)
    size = shard.size(spec.batch_size)

    def select_rows(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        positions = batch_positions(number, spec.batch_size, shard)
        return shuffle.shuffled_index(positions, rows.count, spec.seed, window), tf.ones([size])

    numbers = tf.data.Dataset.counter(first_batch * shard.count)
    batches = _decode_records(numbers.map(select_rows), rows, dataset, size, spec)
    return _distribute(
        batches.map(lambda image, label, _, mask_bits: (image, label, mask_bits)[: 2 + with_cells]), address
    )


def eval_batches(
    dataset: Dataset,
    split: str,
    address: str,
    spec: BatchSpec,
    shard: ShardOptions = NO_SHARDING,
) -> tf.data.Dataset:
    """Every image once, as `tfrecord_loader.eval_batches`, in any order. Raises the same errors."""
    rows = RecordReader(dataset, split)
    size = shard.size(spec.batch_size)

    def select_rows(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        positions = batch_positions(number, spec.batch_size, shard)
        return tf.minimum(positions, rows.count - 1), tf.cast(positions < rows.count, tf.float32)

    numbers = tf.data.Dataset.range(tfrecord_loader.num_eval_batches(rows.count, spec.batch_size) * shard.count)
    batches = _decode_records(numbers.map(select_rows), rows, dataset, size, spec)
    return _distribute(batches.map(lambda image, label, weight, _: (image, label, weight)), address)


def _decode_records(
    selected: tf.data.Dataset, rows: RecordReader, dataset: Dataset, size: int, spec: BatchSpec
) -> tf.data.Dataset:
    """Maps (rows int64 [b], weight float32 [b]) to (image, label, weight, cells), by operations that can be sent in a
    graph."""
    files, shard, first, cells = (tf.constant(table) for table in (*rows.positions(), rows.mask_bits))
    encoding, stored_px = dataset.metadata["encoding"], dataset.image_px
    stored = dataset.metadata["channels"]

    def read(row: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, ...]:
        record = tf.data.experimental.from_variant(
            tf.raw_ops.TFRecordDatasetV2(
                filenames=files[shard[row], None],
                compression_type="",
                buffer_size=tf.constant(0, tf.int64),
                byte_offsets=first[row, None],
            ),
            tf.TensorSpec([], tf.string),
        )
        record = record.take(1).get_single_element()
        fields = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}
        fields = tf.io.parse_single_example(record, fields)
        if encoding == "raw":
            image = tf.reshape(tf.io.decode_raw(fields["image"], tf.uint8), [stored_px, stored_px, stored])
            image = decode.to_size(decode.to_channels(image, spec.channels), spec.image_px)
        else:
            image = decode.decode(fields["image"][None], encoding, stored_px, spec.image_px, spec.channels)[0]
        label = tf.cast(fields["label"], tf.int32) * tf.cast(weight, tf.int32)
        return image * tf.cast(weight, tf.uint8), label, weight, cells[row]

    each = selected.flat_map(lambda *parts: tf.data.Dataset.from_tensor_slices(parts))
    return each.map(read, num_parallel_calls=tf.data.AUTOTUNE).batch(size, drop_remainder=True)


def _distribute(batches: tf.data.Dataset, address: str) -> tf.data.Dataset:
    """Lets the workers of the service at `address` compute `batches`, each element by one of them."""
    distribute = tf.data.experimental.service.distribute(
        tf.data.experimental.service.ShardingPolicy.DYNAMIC,
        address,
        compression=None,  # pixels of photographs hardly shrink, and compression would cost the workers time
    )
    return batches.apply(distribute).prefetch(2)


def check_connection(address: str) -> None:
    """Raises: OSError when nothing listens at `address`."""
    host, _, port = address.removeprefix(SCHEME).rpartition(":")
    socket.create_connection((host, int(port)), timeout=CONNECT_S).close()


def require_reachable(address: str) -> None:
    """Raises: UserError when no gRPC server listens at `address`, where TensorFlow itself would wait for an hour."""
    try:
        answer = "" if rendezvous.is_grpc(address.removeprefix(SCHEME)) else "something else that answers"
    except OSError as error:
        answer = error.strerror or str(error)
    if answer:
        raise UserError(
            f"--data_service: expected a dispatcher at {address!r}, received {answer}; start one with "
            "launch/data_service.sh, for other hosts with --host, without which it listens to its own machine alone"
        )
