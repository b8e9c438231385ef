import numpy as np
import pytest

from crackflow.synthesis import mosaics
from tests.helpers import support


def lay(height, width, side=40, seed=0, count=5):
    pictures = [support.picture(number, side, side) for number in range(count)]
    return mosaics.lay(pictures, height, width, np.random.default_rng(seed))


@pytest.mark.parametrize("height, width", [(40, 40), (41, 200), (10, 7), (333, 150)])
def test_a_wall_is_as_large_as_asked_for(height, width):
    wall = lay(height, width)
    assert wall.shape == (height, width, 3) and wall.dtype == np.uint8


def test_the_same_seed_lays_the_same_wall_and_another_another():
    assert np.array_equal(lay(90, 90), lay(90, 90)) and not np.array_equal(lay(90, 90), lay(90, 90, seed=1))


def test_pictures_of_several_colours_leave_no_seam():
    """Plain light and dark images give one plain wall, and between textures no step is as high as inside them."""
    plain = [np.full((40, 40, 1), grey, np.uint8) for grey in (60, 120, 200)]
    wall = mosaics.lay(plain, 200, 200, np.random.default_rng(0))
    assert wall.max() - wall.min() <= 1
    random = np.random.default_rng(0)
    rough = [np.clip(random.normal(mean, 10, (40, 40, 1)), 0, 255).astype(np.uint8) for mean in (80, 160)]
    wall = mosaics.lay(rough, 400, 400, np.random.default_rng(0)).astype(int)
    steps = np.abs(np.diff(wall[..., 0], axis=1)).mean(0)
    assert steps.max() < 1.5 * np.median(steps)


def test_pictures_of_other_sizes_are_made_as_large_as_the_first():
    pictures = [support.picture(0, 32, 48), support.picture(1, 90, 70)]
    assert mosaics.lay(pictures, 100, 100, np.random.default_rng(0)).shape == (100, 100, 3)


def test_what_is_exposed_otherwise_keeps_its_relative_contrast():
    picture = support.picture(0, 40, 40)
    dark = mosaics.exposed(picture, np.array([20.0, 30.0, 40.0]))
    assert dark.mean((0, 1)) == pytest.approx([20, 30, 40], rel=1e-4)
    relative = picture / picture.mean((0, 1))
    assert dark / dark.mean((0, 1)) == pytest.approx(relative, rel=1e-3, abs=1e-4)
    assert not mosaics.exposed(np.zeros((4, 4, 1), np.uint8), np.array([9.0])).any()  # black stays black


@pytest.mark.parametrize("side", [1, 2, 5])
def test_the_smallest_pictures_make_a_wall_as_well(side):
    wall = mosaics.lay([np.full((side, side, 3), 9, np.uint8)], 20, 20, np.random.default_rng(0))
    assert (wall == 9).all()
