"""Augmentation on the device, on whole uint8 batches, from stateless seeds.

Synopsis::

    image = augment.d4(image, seed=(run_seed, step))     # uint8 [B, H, H, C] in, the same out

The same seed gives the same pixels on any number of threads or replicas. Drawing is separate from applying.
"""

from crackflow.core.backend import tf


def draw_d4(count: int | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """bool [3, count]: turn upside down, mirror, transpose; all 8 symmetries alike often. `seed`: int32 [2]."""
    return tf.random.stateless_uniform([3, count], seed) < 0.5


def apply_d4(image: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
    """`image` [B, H, H, C] turned as `drawn` bool [3, B] says. Exact: pixels move, none is mixed.

    A crack is a crack from every side, and photographs of surfaces have no upright.
    """
    down, mirror, transpose = (tf.reshape(which, [-1, 1, 1, 1]) for which in tf.unstack(drawn))
    image = tf.where(down, image[:, ::-1], image)
    image = tf.where(mirror, image[:, :, ::-1], image)
    return tf.where(transpose, tf.transpose(image, [0, 2, 1, 3]), image)


def d4(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Each picture of `image` [B, H, H, C] under one of the 8 flips and quarter turns. `seed`: int32 [2]."""
    return apply_d4(image, draw_d4(tf.shape(image)[0], seed))
