"""Random numbers that follow from (seed, step, place in the global batch) by integer arithmetic alone.

Synopsis::

    keys = counter_rng.per_example_keys(seed=7, step=step, first=0, count=64)      # uint32 [64], one for each picture
    u = counter_rng.uniform(keys, 16)                                  # float32 [64, 16], 0 <= u < 1

TensorFlow's stateless functions draw other numbers inside XLA than outside (measured: BUILD_NOTES.md), so the same run
would see other pictures on another device. Here a picture's numbers depend on its place in the global batch and on
nothing else: not on XLA, not on the number of replicas. The mixing is MurmurHash3's finalizer (Appleby, 2011), applied
to a counter, as in Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
"""

import numpy as np

from crackflow.core.backend import tf

_WORD = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9  # 2^32 / golden ratio: successive multiples lie far apart
_NOISE = 0x5851F42D  # sets the pixels' numbers apart from the pictures'


def per_example_keys(seed: int, step: tf.Tensor | int, first: tf.Tensor | int, count: tf.Tensor | int) -> tf.Tensor:
    """uint32 [count]: for the pictures `first`, `first` + 1, ... of the global batch of step `step`.

    `seed`: any integer from 0; `step`, `first`: integers from 0, taken modulo 2^32.
    """
    key = _mix(_word((seed & _WORD) ^ _GOLDEN))
    key = _mix(key + _word(seed >> 32 & _WORD))
    key = _mix(key + _unsigned(step))
    places = _unsigned(tf.cast(first, tf.int64) + tf.range(tf.cast(count, tf.int64)))
    return _mix(key + places)


def uniform(keys: tf.Tensor, numbers: int) -> tf.Tensor:
    """float32 [B, numbers], 0 <= u < 1 in steps of 2^-24, from `per_example_keys` uint32 [B]."""
    apart = np.arange(1, numbers + 1, dtype=np.uint64) * _GOLDEN & _WORD
    bits = _mix(keys[:, None] + tf.constant(apart.astype(np.uint32)))
    return tf.cast(tf.bitcast(_right(bits, 8), tf.int32), tf.float32) * 2.0**-24


def noise(keys: tf.Tensor, size: int) -> tf.Tensor:
    """float32 [B, size] of mean 0 and deviation 1, nearly normal, within 3.5: the sum of the four bytes of a number
    (Irwin and Hall's distribution), which takes a tenth of the time of a logarithm and a cosine."""
    # Number i of a picture is its key's counter at i: one mixing for each pixel is all the work.
    bits = _mix(_mix(keys + _word(_NOISE))[:, None] + tf.cast(tf.range(size), tf.uint32))
    pairs = (bits & _word(0x00FF00FF)) + (_right(bits, 8) & _word(0x00FF00FF))
    total = (pairs + _right(pairs, 16)) & _word(0xFFFF)
    deviation = (4 * (256**2 - 1) / 12) ** 0.5
    return (tf.cast(tf.bitcast(total, tf.int32), tf.float32) - 4 * 127.5) * (1 / deviation)


def _mix(word: tf.Tensor) -> tf.Tensor:
    """MurmurHash3's fmix32 of uint32 numbers: every bit of the result depends on every bit of `word`."""
    word = (word ^ _right(word, 16)) * _word(0x85EBCA6B)
    word = (word ^ _right(word, 13)) * _word(0xC2B2AE35)
    return word ^ _right(word, 16)


def _right(word: tf.Tensor, places: int) -> tf.Tensor:
    return tf.bitwise.right_shift(word, _word(places))


def _word(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint32)


def _unsigned(value: tf.Tensor | int) -> tf.Tensor:
    return tf.cast(tf.cast(value, tf.int64) & _WORD, tf.uint32)
