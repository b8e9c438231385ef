import numpy as np
import pytest

from crackflow.synthesis import pasted_cracks
from tests.helpers import support


def walls(count=6, channels=3):
    images = np.stack([support.picture(number, 64, 64) // 2 + 90 for number in range(count)])
    return images if channels == 3 else images.mean(-1, keepdims=True).astype(np.uint8)


def test_the_same_seed_gives_the_same_pictures_and_another_seed_others():
    first, again, other = (pasted_cracks.onto(walls(), 8, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("channels", [1, 3])
def test_each_picture_is_its_window_with_something_darker_on_it(channels):
    """Cracks, nets of them and dirty edges cover up to three quarters; what they leave is the window."""
    windows = walls(channels=channels)
    for picture in pasted_cracks.onto(windows, 20, 3):
        differences = [picture.astype(int) - window for window in windows]
        difference = min(differences, key=lambda values: (values != 0).sum())
        as_it_was = np.abs(difference).max(-1) <= 1
        assert 0.2 < as_it_was.mean() < 0.997
        assert difference[~as_it_was].mean() < -5


def test_no_picture_comes_of_windows_on_which_a_crack_would_not_be_seen():
    assert pasted_cracks.onto(np.zeros((3, 64, 64, 3), np.uint8), 2, 0).shape == (0, 64, 64, 3)


def test_no_picture_comes_of_no_window():
    assert pasted_cracks.onto(np.zeros((0, 64, 64, 3), np.uint8), 2, 0).shape == (0, 64, 64, 3)
