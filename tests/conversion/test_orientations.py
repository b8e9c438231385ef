import numpy as np
import pytest

from crackflow.conversion import orientations
from tests.helpers.symmetries import SYMMETRIES, less_smooth, moved


@pytest.fixture(scope="module")
def thumbs():
    return np.random.default_rng(0).normal(0, 20, (2, 9, 16, 16)).astype(np.float32)


def test_overlaps_are_the_best_of_the_eight_symmetries(thumbs):
    a, b = thumbs
    expected = [
        [max((moved(first, *symmetry) * second).sum() for symmetry in SYMMETRIES) for second in b] for first in a
    ]
    overlaps = orientations.overlaps(orientations.coefficients(a), orientations.coefficients(b))
    np.testing.assert_allclose(overlaps, expected, rtol=1e-4, atol=0.1)


def test_each_symmetry_of_a_thumbnail_overlaps_with_it_wholly(thumbs):
    thumb = thumbs[0, 0]
    transformed = np.stack([moved(thumb, *symmetry) for symmetry in SYMMETRIES])
    overlaps = orientations.overlaps(orientations.coefficients(thumb[None]), orientations.coefficients(transformed))
    np.testing.assert_allclose(overlaps, np.full((1, 8), (thumb**2).sum()), rtol=1e-5)


def test_what_is_rough_is_what_the_best_polynomial_leaves(thumbs):
    for thumb in thumbs[0]:
        residual = orientations.residual(orientations.coefficients(thumb[None]), 8)[0]
        expected = orientations.coefficients(less_smooth(thumb)[None])[0]
        np.testing.assert_allclose(residual, expected, atol=1e-3)
