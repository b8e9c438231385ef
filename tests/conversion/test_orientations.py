import numpy as np
import pytest

from crackflow.conversion import orientations
from tests.conversion.test_near_duplicates import SYMMETRIES, less_smooth, moved


@pytest.fixture(scope="module")
def thumbs():
    return np.random.default_rng(0).normal(0, 20, (2, 9, 16, 16)).astype(np.float32)


def test_overlaps_are_the_best_of_the_eight_symmetries(thumbs):
    a, b = thumbs
    expected = [[max((moved(one, *how) * other).sum() for how in SYMMETRIES) for other in b] for one in a]
    found = orientations.overlaps(orientations.coefficients(a), orientations.coefficients(b))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=0.1)


def test_each_symmetry_of_a_thumbnail_overlaps_with_it_wholly(thumbs):
    one = thumbs[0, 0]
    turned = np.stack([moved(one, *how) for how in SYMMETRIES])
    found = orientations.overlaps(orientations.coefficients(one[None]), orientations.coefficients(turned))
    np.testing.assert_allclose(found, np.full((1, 8), (one**2).sum()), rtol=1e-5)


def test_what_is_rough_is_what_the_best_polynomial_leaves(thumbs):
    for one in thumbs[0]:
        left = orientations.rough(orientations.coefficients(one[None]), 8)[0]
        expected = orientations.coefficients(less_smooth(one)[None])[0]
        np.testing.assert_allclose(left, expected, atol=1e-3)
