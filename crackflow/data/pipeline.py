"""The stream, from shards to batches of pixels: one column of steps for training, one for evaluation.

Synopsis::

    made = dataset.load("data/metu")
    batches = pipeline.train_batches(made, batch_size=64, image_px=128, channels=3, seed=0)
    # image: uint8 [64, 128, 128, 3], 0..255;  label: int32 [64]
    for image, label, weight in pipeline.eval_batches(made, "test", 64, 128, 3): ...

Memory, whatever the size of the data set: `SHUFFLE_IMAGES` encoded images, `READERS` read buffers, and a decoded batch
for each core and two more.
"""

from collections.abc import Callable

import numpy as np

from crackflow.core.backend import tf
from crackflow.core.errors import UserError
from crackflow.data.dataset import Dataset

# Shuffled before decoding: 6 KB an image and not 155 (METU); 16,384 of them are 100 MB.
SHUFFLE_IMAGES = 16_384
READERS = 16
READ_BYTES = 1 << 20
# Records that a reader hands over at once: one by one, waking the next thread costs 7 us more an image.
READ_RECORDS = 32
WRITTEN_OUT = 512  # largest batch whose decoding is written out image by image in the graph
FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
    "path": tf.io.FixedLenFeature([], tf.string),
    "group": tf.io.FixedLenFeature([], tf.int64),
}


def train_batches(
    made: Dataset, batch_size: int, image_px: int, channels: int, seed: int, split: str = "train"
) -> tf.data.Dataset:
    """Endless batches: image uint8 [batch_size, image_px, image_px, channels], 0..255; label int32 [batch_size].

    The order depends on `seed` alone; every image comes once an epoch, whose last partial batch runs on into the
    next. Raises: UserError when the split is empty.
    """
    ds = record_batches(made, batch_size, seed, split)
    ds = ds.map(
        lambda records: decode_records(records, made, image_px, channels),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return ds.prefetch(2)  # enough to hide a batch's decoding behind a step; each more costs a batch of memory


def record_batches(made: Dataset, batch_size: int, seed: int, split: str) -> tf.data.Dataset:
    """Endless batches of shuffled records, still encoded: string [batch_size]."""
    files, count = _files(made, split), made.count(split)
    ds = tf.data.Dataset.from_tensor_slices(files)
    # Shards in another order each epoch: the buffer mixes what lies near, this mixes what lies far apart.
    ds = ds.shuffle(len(files), seed=seed, reshuffle_each_iteration=True)
    ds = ds.interleave(
        lambda file: _records(file).batch(READ_RECORDS),
        cycle_length=READERS,
        num_parallel_calls=READERS,
        deterministic=True,
    )
    ds = ds.unbatch()
    ds = ds.shuffle(min(count, SHUFFLE_IMAGES), seed=seed, reshuffle_each_iteration=True)
    ds = ds.repeat()
    return ds.batch(batch_size, drop_remainder=True)  # parsing and decoding then cost one call a batch


def _records(file: tf.Tensor) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(file, buffer_size=READ_BYTES)


def eval_batches(made: Dataset, split: str, batch_size: int, image_px: int, channels: int) -> tf.data.Dataset:
    """Every image once, in the order of the shards: image, label int32 [B], weight float32 [B] (0 on padding).

    Raises: UserError when the split is empty.
    """
    files, count = _files(made, split), made.count(split)
    ds = _records(files).batch(batch_size)

    def filled(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        image, label = decode_records(records, made, image_px, channels)
        missing = batch_size - tf.shape(label)[0]
        weight = tf.pad(tf.ones_like(label, tf.float32), [[0, missing]])
        image = tf.pad(image, [[0, missing], [0, 0], [0, 0], [0, 0]])
        # A fixed shape for the compiled step.
        image = tf.ensure_shape(image, [batch_size, image_px, image_px, channels])
        label = tf.ensure_shape(tf.pad(label, [[0, missing]]), [batch_size])
        return image, label, tf.ensure_shape(weight, [batch_size])

    ds = ds.map(filled, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    ds = ds.apply(tf.data.experimental.assert_cardinality(-(-count // batch_size)))
    return ds.prefetch(2)


def steps(count: int, batch_size: int) -> int:
    """Whole batches that an epoch of `count` images takes, one at least."""
    return max(1, count // batch_size)


def identities(made: Dataset, split: str) -> tuple[list[str], np.ndarray]:
    """(source paths, int64 [N] groups) of a split, in the order of `eval_batches`."""
    paths, groups = [], []
    keep = {name: FEATURES[name] for name in ("path", "group")}
    ds = tf.data.TFRecordDataset(_files(made, split)).batch(1024)
    for batch in ds.map(lambda records: tf.io.parse_example(records, keep)).as_numpy_iterator():
        paths += [path.decode("utf-8", "surrogateescape") for path in batch["path"].tolist()]
        groups.append(batch["group"])
    return paths, np.concatenate(groups)


def expect_images(made: Dataset, split: str) -> None:
    """Raises: UserError when `split` has none."""
    if split not in made.facts["splits"] or not made.count(split):
        raise UserError(
            f"{made.folder!r}: expected images in the split {split!r}, found none; convert with another --split"
        )


def _files(made: Dataset, split: str) -> list[str]:
    expect_images(made, split)
    return made.files(split)


def decode_records(records: tf.Tensor, made: Dataset, image_px: int, channels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Serialized records (string [B]) to image uint8 [B, image_px, image_px, channels] and label int32 [B]."""
    fields = tf.io.parse_example(records, {name: FEATURES[name] for name in ("image", "label")})
    facts = made.facts
    image = decode(fields["image"], facts["encoding"], facts["image_px"], facts["channels"], image_px, channels)
    return image, tf.cast(fields["label"], tf.int32)


def decode(
    data: tf.Tensor, encoding: str, stored_px: int, stored_channels: int, image_px: int, channels: int
) -> tf.Tensor:
    """Encoded images (string [B]) to uint8 [B, image_px, image_px, channels], 0..255: how bytes become pixels,
    everywhere. `stored_px`: side of the stored images, 0 when they differ; `stored_channels`: of raw pixels.

    Compressed images are decoded within the batch: batches in parallel keep every core busy, and handing single images
    from step to step costs more.
    """
    if encoding == "raw":
        pixels = tf.reshape(tf.io.decode_raw(data, tf.uint8), [-1, stored_px, stored_px, stored_channels])
        return to_size(_with_channels(pixels, stored_channels, channels), image_px)
    if stored_px:  # of one size: resized in one go
        kind = tf.TensorSpec([stored_px, stored_px, channels], tf.uint8)
        pixels = _each(lambda one: _decode_one(one, encoding, channels), data, kind)
        return to_size(pixels, image_px)
    kind = tf.TensorSpec([image_px, image_px, channels], tf.uint8)
    return tf.map_fn(
        lambda one: to_size(_decode_one(one, encoding, channels), image_px), data, fn_output_signature=kind
    )


def _each(function: Callable[[tf.Tensor], tf.Tensor], data: tf.Tensor, kind: tf.TensorSpec) -> tf.Tensor:
    """`function` of every string in `data` (string [B]), put together: [B, ...].

    Written out where the size of the batch is known: the loop's own operations cost 30 to 45 us an image beside the
    190 of decoding (227 px).
    """
    if data.shape[0] is None or data.shape[0] > WRITTEN_OUT:
        return tf.map_fn(function, data, fn_output_signature=kind)
    return tf.stack([tf.ensure_shape(function(one), kind.shape) for one in tf.unstack(data)])


def _decode_one(data: tf.Tensor, encoding: str, channels: int) -> tf.Tensor:
    if encoding == "jpeg":
        # The accurate inverse transform: the fast one differs by up to 3 levels and gained nothing measurable here.
        return tf.io.decode_jpeg(data, channels=channels, dct_method="INTEGER_ACCURATE")
    return tf.io.decode_png(data, channels=channels)


def _with_channels(image: tf.Tensor, stored: int, channels: int) -> tf.Tensor:
    if stored == channels:
        return image
    return tf.image.grayscale_to_rgb(image) if channels == 3 else tf.image.rgb_to_grayscale(image)


def to_size(image: tf.Tensor, image_px: int) -> tf.Tensor:
    """uint8 [..., H, W, C] to uint8 [..., image_px, image_px, C]: area means when it shrinks, linear when it grows."""
    if tuple(image.shape[-3:-1]) == (image_px, image_px):
        return image
    shape, size = tf.shape(image)[-3:-1], [image_px, image_px]

    def resized() -> tf.Tensor:
        values = tf.cond(
            tf.reduce_all(shape >= image_px),
            lambda: tf.image.resize(image, size, "area"),
            lambda: tf.image.resize(image, size, "bilinear"),
        )
        return tf.cast(values + 0.5, tf.uint8)

    image = tf.cond(tf.reduce_all(shape == image_px), lambda: image, resized)
    return tf.ensure_shape(image, [*image.shape[:-3], image_px, image_px, image.shape[-1]])
