import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crackflow.core.backend import tf
from crackflow.pipeline import shuffle


@given(st.integers(1, 200), st.integers(0, 2**40), st.integers(0, 5))
@settings(max_examples=25)
def test_every_epoch_of_the_order_holds_every_row_once(count, seed, epoch):
    rows = shuffle.shuffled_index(tf.range(epoch * count, (epoch + 1) * count, dtype=tf.int64), count, seed).numpy()
    assert sorted(rows.tolist()) == list(range(count))


def test_epochs_and_seeds_are_shuffled_differently():
    orders = {
        tuple(shuffle.shuffled_index(tf.range(50, dtype=tf.int64) + 50 * epoch, 50, seed).numpy())
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(orders) == 4


def test_no_row_is_likelier_at_any_place():
    epochs, count = 4000, 8
    drawn = shuffle.shuffled_index(tf.range(epochs * count, dtype=tf.int64), count, 0).numpy().reshape(epochs, count)
    share = np.stack([np.bincount(drawn[:, position], minlength=count) for position in range(count)]) / epochs
    assert np.abs(share - 1 / count).max() < 0.1  # with so few rows, some are 0.05 likelier however many rounds


@pytest.mark.parametrize("count", [50, 1000, 8000])
def test_an_epoch_tells_nothing_of_places_or_of_the_next(count):
    epochs = 20
    drawn = shuffle.shuffled_index(tf.range(epochs * count, dtype=tf.int64), count, 0).numpy().reshape(epochs, count)
    with_position = [np.corrcoef(np.arange(count), order)[0, 1] for order in drawn]
    with_next = [np.corrcoef(order, following)[0, 1] for order, following in zip(drawn, drawn[1:], strict=False)]
    for correlations in (with_position, with_next):  # by chance their squares are 1 / count on average
        assert count * np.mean(np.square(correlations)) < 3


@given(st.integers(1, 200), st.integers(1, 220), st.integers(0, 2**40), st.integers(0, 5))
@settings(max_examples=40)
def test_every_epoch_in_windows_holds_every_row_once(count, window, seed, epoch):
    positions = tf.range(epoch * count, (epoch + 1) * count, dtype=tf.int64)
    assert sorted(shuffle.shuffled_index(positions, count, seed, window).numpy().tolist()) == list(range(count))


@given(st.integers(2, 200), st.integers(1, 220), st.integers(0, 2**40), st.integers(0, 5))
@settings(max_examples=40)
def test_rows_come_from_the_window_that_is_announced(count, window, seed, epoch):
    positions = tf.range(epoch * count, (epoch + 1) * count, dtype=tf.int64)
    rows = shuffle.shuffled_index(positions, count, seed, window).numpy()
    first, size = (array.numpy() for array in shuffle.shuffle_windows(positions, count, seed, window))
    assert np.all((rows - first) % count < size)
    runs = len(np.unique(np.stack([first, size], 1), axis=0))
    assert runs == (-(-count // window) if window < count else 1)


def test_windows_are_cut_and_ordered_anew_each_epoch():
    positions = tf.range(5 * 100, dtype=tf.int64)
    first, _ = shuffle.shuffle_windows(positions, 100, 0, 30)
    epochs = first.numpy().reshape(5, 100)[:, ::30]
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_a_window_that_holds_all_gives_the_perfect_shuffle():
    positions = tf.range(100, dtype=tf.int64)
    whole = shuffle.shuffled_index(positions, 100, 3).numpy()
    np.testing.assert_array_equal(shuffle.shuffled_index(positions, 100, 3, 100).numpy(), whole)
