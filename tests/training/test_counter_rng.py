import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackflow.core.backend import tf
from crackflow.training import counter_rng

MASK = 0xFFFFFFFF


def fmix32(word):
    """MurmurHash3's finalizer on Python's integers."""
    word = ((word ^ word >> 16) * 0x85EBCA6B) & MASK
    word = ((word ^ word >> 13) * 0xC2B2AE35) & MASK
    return word ^ word >> 16


def keys_in_python(seed, step, first, count):
    key = fmix32(seed & MASK ^ 0x9E3779B9)
    key = fmix32((key + (seed >> 32)) & MASK)
    key = fmix32((key + step) & MASK)
    return [fmix32((key + first + position) & MASK) for position in range(count)]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(0, 2**20))
def test_the_numbers_are_those_of_plain_integers(seed, step, first):
    keys = counter_rng.per_example_keys(seed, tf.constant(step, tf.int64), first, 3)
    expected = keys_in_python(seed, step & MASK, first, 3)
    assert keys.numpy().tolist() == expected
    u = counter_rng.uniform(keys, 2).numpy()
    for row, key in zip(u, expected, strict=True):
        assert row.tolist() == [(fmix32((key + k * 0x9E3779B9) & MASK) >> 8) * 2.0**-24 for k in (1, 2)]


def test_a_picture_has_its_numbers_on_any_number_of_replicas():
    batch = counter_rng.per_example_keys(5, 17, 0, 12).numpy()
    parts = [counter_rng.per_example_keys(5, 17, first, 4).numpy() for first in (0, 4, 8)]
    np.testing.assert_array_equal(np.concatenate(parts), batch)


@pytest.mark.parametrize("what", ["keys", "uniform", "noise"])
def test_xla_gives_the_same_numbers(what):
    def draw(step):
        keys = counter_rng.per_example_keys(3, step, 0, 64)
        return {"keys": keys, "uniform": counter_rng.uniform(keys, 20), "noise": counter_rng.noise(keys, 300)}[what]

    compiled, graph = tf.function(draw, jit_compile=True), tf.function(draw)
    for step in (0, 1, 12345):
        np.testing.assert_array_equal(draw(tf.constant(step)), graph(tf.constant(step)))
        np.testing.assert_array_equal(draw(tf.constant(step)), compiled(tf.constant(step)))


def test_seeds_steps_places_and_numbers_do_not_follow_each_other():
    u = np.stack(
        [
            [counter_rng.uniform(counter_rng.per_example_keys(s, t, 0, 32), 8).numpy() for t in range(16)]
            for s in range(8)
        ]
    )
    assert len(np.unique(u)) > 0.998 * u.size  # 2^24 values: few coincide by chance
    centred = u - u.mean()
    for axis in range(4):
        earlier, later = (np.take(centred, range(*ends), axis) for ends in ((0, u.shape[axis] - 1), (1, u.shape[axis])))
        assert abs((earlier * later).mean() / centred.var()) < 4 / np.sqrt(earlier.size)


def test_all_values_from_0_to_1_come_alike_often():
    u = counter_rng.uniform(counter_rng.per_example_keys(1, 0, 0, 4000), 25).numpy()
    counts = np.bincount((u.ravel() * 64).astype(int), minlength=64)
    expected = u.size / 64
    assert u.min() >= 0 and u.max() < 1 and len(counts) == 64
    # 63 degrees of freedom: above 121 once in a hundred thousand times.
    assert ((counts - expected) ** 2 / expected).sum() < 121


def test_noise_has_mean_0_and_deviation_1_and_no_pattern():
    noise = counter_rng.noise(counter_rng.per_example_keys(9, 3, 0, 40), 10_000).numpy()
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert np.abs(noise).max() < 3.47
    for a, b in ((noise[:, 1:], noise[:, :-1]), (noise[1:], noise[:-1]), (noise[:, 384:], noise[:, :-384])):
        assert abs((a * b).mean()) < 4 / np.sqrt(a.size)
