import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackflow.core.sharding import NO_SHARDING, ShardOptions


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.integers(0, 20))
def test_the_shares_of_all_processes_cover_each_batch_once(processes, here, part, batch):
    of = processes * here
    size = part * of
    seen = []
    for process in range(processes):
        share = ShardOptions(process * here, here, of)
        for number in range(batch * here, (batch + 1) * here):
            position = share.position(number, size)
            assert position.batch == batch and share.size(size) == part
            seen += range(position.first, position.first + part)
    assert sorted(seen) == list(range(size))


def test_one_device_gets_whole_batches():
    assert NO_SHARDING.position(7, 64) == (7, 0)


def test_places_can_be_arrays():
    positions = ShardOptions(2, 2, 4).position(np.arange(4), 8)
    np.testing.assert_array_equal(positions.batch, [0, 0, 1, 1])
    np.testing.assert_array_equal(positions.first, [4, 6, 4, 6])


def test_unequal_parts_are_refused():
    with pytest.raises(ValueError, match="expected a batch size that 3 parts divide, received 64"):
        ShardOptions(0, 1, 3).size(64)
