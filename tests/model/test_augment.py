import numpy as np
import pytest

from crackflow.core.backend import tf
from crackflow.model import augment

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 6, 6, 3), np.uint8)


def symmetries(picture):
    """The 8 flips and quarter turns of [H, H, C], made by NumPy alone."""
    turns = [np.rot90(picture, k) for k in range(4)]
    return turns + [turn[:, ::-1] for turn in turns]


def test_each_picture_becomes_one_of_its_eight_symmetries():
    for before, after in zip(IMAGE, augment.d4(IMAGE, (0, 1)).numpy(), strict=True):
        assert any(np.array_equal(after, one) for one in symmetries(before))


def test_all_eight_symmetries_come_alike_often():
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    drawn = augment.d4(np.repeat(picture[None], 8000, 0), (0, 7)).numpy()
    counts = [sum(np.array_equal(one, wanted) for one in drawn) for wanted in symmetries(picture)]
    assert sum(counts) == 8000
    assert 850 < min(counts) and max(counts) < 1150


def test_the_same_seed_gives_the_same_pixels_and_another_gives_others():
    first, again, other = (augment.d4(IMAGE, seed).numpy() for seed in ((3, 4), (3, 4), (3, 5)))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("dtype", [tf.uint8, tf.float32])
def test_the_graph_gives_what_eager_gives_and_keeps_the_type(dtype):
    image = tf.cast(IMAGE, dtype)
    inside = tf.function(augment.d4)(image, tf.constant((1, 2)))
    assert inside.dtype == dtype
    np.testing.assert_array_equal(inside, augment.d4(image, (1, 2)))
