"""A counter-based random number generator: integer arithmetic on (seed, step, position in the global batch).

Synopsis::

    keys = counter_rng.per_example_keys(seed=7, step=step, first=0, count=64)      # uint32 [64], one per image
    u = counter_rng.uniform(keys, 16)                                              # float32 [64, 16], 0 <= u < 1

TensorFlow's stateless functions draw other numbers inside XLA than outside (measured: BUILD_NOTES.md), so the same run
would see other images on another device. Here the numbers of an image depend on the seed, the step and its position in
the global batch, and not on XLA or the number of replicas. The mixing is MurmurHash3's finalizer (Appleby, 2011),
applied to a counter, as in Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
"""

import numpy as np

from crackflow.core.backend import tf

_WORD = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9  # 2^32 / golden ratio: successive multiples lie far apart
_NOISE = 0x5851F42D  # separates the numbers of pixels from those of images


def per_example_keys(seed: int, step: tf.Tensor | int, first: tf.Tensor | int, count: tf.Tensor | int) -> tf.Tensor:
    """Derives one key per image of a step.

    Args:
      seed: any integer from 0.
      step: an integer from 0, taken modulo 2^32.
      first: the index of the first image in the global batch, from 0, taken modulo 2^32.
      count: the number of images.

    Returns:
      uint32 [count], for the images `first`, `first` + 1, ... of the global batch.
    """
    key = _mix(_as_word((seed & _WORD) ^ _GOLDEN))
    key = _mix(key + _as_word(seed >> 32 & _WORD))
    key = _mix(key + _as_unsigned(step))
    positions = _as_unsigned(tf.cast(first, tf.int64) + tf.range(tf.cast(count, tf.int64)))
    return _mix(key + positions)


def uniform(keys: tf.Tensor, numbers: int) -> tf.Tensor:
    """Returns float32 [B, numbers], 0 <= u < 1 in steps of 2^-24, from `per_example_keys` uint32 [B]."""
    counters = np.arange(1, numbers + 1, dtype=np.uint64) * _GOLDEN & _WORD
    bits = _mix(keys[:, None] + tf.constant(counters.astype(np.uint32)))
    return tf.cast(tf.bitcast(_shift_right(bits, 8), tf.int32), tf.float32) * 2.0**-24


def noise(keys: tf.Tensor, size: int) -> tf.Tensor:
    """Draws nearly normal numbers of mean 0 and standard deviation 1, within 3.5.

    Each is the sum of the four bytes of a number (Irwin and Hall's distribution), which takes a tenth of the time of a
    logarithm and a cosine.

    Args:
      keys: uint32 [B] of `per_example_keys`.
      size: the count of numbers per key.

    Returns:
      float32 [B, size].
    """
    # Number i of an image is the counter of its key at i, so that each pixel needs a single mixing.
    bits = _mix(_mix(keys + _as_word(_NOISE))[:, None] + tf.cast(tf.range(size), tf.uint32))
    pairs = (bits & _as_word(0x00FF00FF)) + (_shift_right(bits, 8) & _as_word(0x00FF00FF))
    total = (pairs + _shift_right(pairs, 16)) & _as_word(0xFFFF)
    deviation = (4 * (256**2 - 1) / 12) ** 0.5
    return (tf.cast(tf.bitcast(total, tf.int32), tf.float32) - 4 * 127.5) * (1 / deviation)


def _mix(word: tf.Tensor) -> tf.Tensor:
    """MurmurHash3's fmix32 of uint32 numbers: every bit of the result depends on every bit of `word`."""
    word = (word ^ _shift_right(word, 16)) * _as_word(0x85EBCA6B)
    word = (word ^ _shift_right(word, 13)) * _as_word(0xC2B2AE35)
    return word ^ _shift_right(word, 16)


def _shift_right(word: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.right_shift(word, _as_word(bits))


def _as_word(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint32)


def _as_unsigned(value: tf.Tensor | int) -> tf.Tensor:
    return tf.cast(tf.cast(value, tf.int64) & _WORD, tf.uint32)
