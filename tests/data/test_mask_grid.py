import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crackflow.data import mask_grid

GRIDS = hnp.arrays(bool, (8, 8))


def unpacked(bits):
    return np.array([bits >> bit & 1 for bit in range(64)], bool).reshape(8, 8)


@given(GRIDS, st.integers(1, 9), st.integers(1, 9))
def test_a_cell_is_set_where_the_mask_has_any_pixel_in_it(grid, high, wide):
    mask = np.zeros((8 * high, 8 * wide), bool)
    mask[high - 1 :: high, wide - 1 :: wide] = grid  # one pixel in the lower right corner of each cell
    assert (unpacked(mask_grid.from_mask(mask)) == grid).all()


@given(st.integers(8, 300), st.integers(8, 300), st.data())
def test_every_pixel_belongs_to_the_cell_around_it_whatever_the_size(height, width, data):
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    mask = np.zeros((height, width), bool)
    mask[y, x] = True
    ((row, column),) = np.argwhere(unpacked(mask_grid.from_mask(mask)))
    assert abs((y + 0.5) / height * 8 - (row + 0.5)) <= 0.5 + 4 / height
    assert abs((x + 0.5) / width * 8 - (column + 0.5)) <= 0.5 + 4 / width


@given(st.integers(1, 9), st.integers(1, 9))
def test_an_image_smaller_than_the_grid_has_cells_too(height, width):
    assert mask_grid.from_mask(np.zeros((height, width), bool)) == 0
    assert mask_grid.from_mask(np.ones((height, width), bool)) == 2**64 - 1


@given(st.integers(0, 2**64 - 1))
def test_text_keeps_the_bits_as_an_int64_has_them(bits):
    assert np.array([mask_grid.parse(mask_grid.text(bits))], np.int64).view(np.uint64)[0] == bits


def test_nothing_is_no_text_and_no_text_is_nothing():
    assert mask_grid.text(0) == "" and mask_grid.parse("") == 0


def test_what_is_no_hexadecimal_number_is_refused():
    with pytest.raises(ValueError, match="invalid literal"):
        mask_grid.parse("not so")
