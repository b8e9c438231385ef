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
def test_pictures_are_their_windows_with_something_darker_on_them(channels):
    """Cracks, nets of them and dirty edges cover a part, seldom all; what they leave is the window."""
    windows, left = walls(channels=channels), []
    for picture in pasted_cracks.onto(windows, 20, 3):
        differences = [picture.astype(int) - window for window in windows]
        difference = max(differences, key=lambda values: (np.abs(values).max(-1) <= 1).sum())
        as_it_was = np.abs(difference).max(-1) <= 1
        left.append(as_it_was.mean())
        assert difference[~as_it_was].mean() < 0 and (difference < -20).any()
    assert np.median(left) > 0.7 and sorted(left)[2] > 0.2 and max(left) < 0.997


def test_no_picture_comes_of_windows_on_which_a_crack_would_not_be_seen():
    assert pasted_cracks.onto(np.zeros((3, 64, 64, 3), np.uint8), 2, 0).shape == (0, 64, 64, 3)


def test_no_picture_comes_of_no_window():
    assert pasted_cracks.onto(np.zeros((0, 64, 64, 3), np.uint8), 2, 0).shape == (0, 64, 64, 3)
