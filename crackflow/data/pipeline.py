"""From shards to batches of pixels: one column of steps for training, one for evaluation.

Synopsis::

    made = dataset.load("data/metu")
    batches = pipeline.train_batches(made, batch_size=64, image_px=128, channels=3, seed=0)
    # image: uint8 [64, 128, 128, 3], 0..255;  label: int32 [64]
    for image, label, weight in pipeline.eval_batches(made, "test", 64, 128, 3): ...

Memory: a decoded split when that is at most `CACHE_BYTES`; otherwise, in training, `SHUFFLE_IMAGES` encoded images;
and a few decoded batches.
"""

import numpy as np

from crackflow.core.backend import tf
from crackflow.core.errors import UserError
from crackflow.data.dataset import Dataset

# 16,384 METU images are 100 MB encoded; what is not cached is shuffled before decoding, at 6 KB an image and not 49.
SHUFFLE_IMAGES = 16_384
READERS = 16
# Decoded splits up to this size stay in memory; METU's 8,000 at 64 px are 98 MB, at 128 px 393 MB.
CACHE_BYTES = 1 << 30
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
    files, count = _files(made, split), made.count(split)

    def image_and_label(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _image_and_label(record, made, image_px, channels)

    ds = tf.data.Dataset.from_tensor_slices(files)
    ds = ds.interleave(
        tf.data.TFRecordDataset, cycle_length=READERS, block_length=8, num_parallel_calls=READERS, deterministic=True
    )
    if count * image_px**2 * channels <= CACHE_BYTES:
        ds = ds.map(image_and_label, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        ds = ds.cache()  # decoding and resizing took 0.7 ms of CPU an image, as much as a quarter of the train step
        ds = ds.shuffle(count, seed=seed, reshuffle_each_iteration=True)
        ds = ds.repeat()
    else:
        ds = ds.shuffle(min(count, SHUFFLE_IMAGES), seed=seed, reshuffle_each_iteration=True)
        ds = ds.repeat()
        ds = ds.map(image_and_label, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    ds = ds.batch(batch_size, drop_remainder=True)  # a fixed shape: the step is traced once
    return ds.prefetch(2)  # enough to hide a batch's decoding behind a step; each more costs a batch of memory


def eval_batches(made: Dataset, split: str, batch_size: int, image_px: int, channels: int) -> tf.data.Dataset:
    """Every image once, in the order of the shards: image, label int32 [B], weight float32 [B] (0 on padding).

    Raises: UserError when the split is empty.
    """
    files = _files(made, split)
    padding = -made.count(split) % batch_size
    ds = tf.data.TFRecordDataset(files)
    ds = ds.map(
        lambda record: (*_image_and_label(record, made, image_px, channels), 1.0), num_parallel_calls=tf.data.AUTOTUNE
    )
    if made.count(split) * image_px**2 * channels <= CACHE_BYTES:
        ds = ds.cache()  # validation comes once an epoch, and once more for the threshold
    ds = ds.concatenate(_padding(padding, image_px, channels))
    ds = ds.batch(batch_size, drop_remainder=True)  # full already: the shape is fixed for the compiled step
    return ds.prefetch(2)


def _padding(count: int, image_px: int, channels: int) -> tf.data.Dataset:
    empty = tf.zeros([image_px, image_px, channels], tf.uint8)
    return tf.data.Dataset.from_tensors((empty, tf.zeros([], tf.int32), 0.0)).repeat(count)


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


def _files(made: Dataset, split: str) -> list[str]:
    if split not in made.facts["splits"] or not made.count(split):
        raise UserError(
            f"{made.folder!r}: expected images in the split {split!r}, found none; convert with another --split"
        )
    return made.files(split)


def _image_and_label(record: tf.Tensor, made: Dataset, image_px: int, channels: int) -> tuple[tf.Tensor, tf.Tensor]:
    fields = tf.io.parse_single_example(record, {name: FEATURES[name] for name in ("image", "label")})
    image = decode(fields["image"], made.facts["encoding"], made.facts["image_px"], made.facts["channels"], channels)
    return to_size(image, image_px, channels), tf.cast(fields["label"], tf.int32)


def decode(data: tf.Tensor, encoding: str, stored_px: int, stored_channels: int, channels: int) -> tf.Tensor:
    """Encoded bytes (string []) to uint8 [H, W, channels], 0..255: how bytes become pixels, everywhere.

    `stored_px`, `stored_channels`: shape of raw pixels, which do not carry it.
    """
    if encoding == "jpeg":
        # The accurate inverse transform: the fast one differs by up to 3 levels and gained nothing measurable here.
        return tf.io.decode_jpeg(data, channels=channels, dct_method="INTEGER_ACCURATE")
    if encoding == "png":
        return tf.io.decode_png(data, channels=channels)
    image = tf.reshape(tf.io.decode_raw(data, tf.uint8), [stored_px, stored_px, stored_channels])
    return _with_channels(image, stored_channels, channels)


def _with_channels(image: tf.Tensor, stored: int, channels: int) -> tf.Tensor:
    if stored == channels:
        return image
    return tf.image.grayscale_to_rgb(image) if channels == 3 else tf.image.rgb_to_grayscale(image)


def to_size(image: tf.Tensor, image_px: int, channels: int) -> tf.Tensor:
    """uint8 [H, W, C] to uint8 [image_px, image_px, C]: area means when it shrinks, linear when it grows."""
    shape = tf.shape(image)[:2]

    def resized() -> tf.Tensor:
        values = tf.cond(
            tf.reduce_all(shape >= image_px),
            lambda: tf.image.resize(image, [image_px, image_px], "area"),
            lambda: tf.image.resize(image, [image_px, image_px], "bilinear"),
        )
        return tf.cast(values + 0.5, tf.uint8)

    image = tf.cond(tf.reduce_all(shape == image_px), lambda: image, resized)
    return tf.ensure_shape(image, [image_px, image_px, channels])
