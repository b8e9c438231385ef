"""Pairwise overlaps of thumbnails under the 8 flips and quarter turns, by matrix products.

Synopsis::

    a, b = orientations.coefficients(thumbs_a), orientations.coefficients(thumbs_b)     # float32 [N, 16, 16]
    orientations.overlaps(a, b)                      # float32 [N, M]: the largest inner product of the 8
    orientations.overlaps(orientations.residual(a, 8), orientations.residual(b, 8))

Method. In a basis of polynomials that are orthonormal over the 16 positions of a side (Gram polynomials), a thumbnail
is 16 x 16 coefficients. A flip changes the signs of the coefficients of odd degree along one axis; a quarter turn also
swaps the axes. The inner products under all 8 symmetries are therefore sums of 8 partial inner products: of the
coefficients with even or odd degree down and across, of one thumbnail as it is and transposed. A polynomial of degree
8 in two variables consists of the coefficients whose degrees add up to at most 8.
"""

import numpy as np

from crackflow.data.thumbnail import THUMB_PX

PARITIES = ((0, 0), (1, 1), (0, 1), (1, 0))


def _gram_polynomials() -> np.ndarray:
    """float32 [16, 16]: row k is the orthonormal polynomial of degree k over the positions of a side."""
    side = (np.arange(THUMB_PX) + 0.5) / THUMB_PX * 2 - 1
    return np.linalg.qr(np.polynomial.legendre.legvander(side, THUMB_PX - 1))[0].T.astype(np.float32)


_POLYNOMIALS = _gram_polynomials()
_DEGREE = np.add.outer(np.arange(THUMB_PX), np.arange(THUMB_PX))


def coefficients(thumbs: np.ndarray) -> np.ndarray:
    """float32 [N, 16, 16]: coefficients of thumbnails [N, 16, 16]; inner products are preserved."""
    return _POLYNOMIALS @ thumbs.astype(np.float32) @ _POLYNOMIALS.T


def residual(coefs: np.ndarray, degree: int) -> np.ndarray:
    """Returns `coefs` [N, 16, 16] without the polynomial part of that degree in two variables."""
    return coefs * (_DEGREE > degree)


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns float32 [N, M]: the largest of 8 inner products of coefficients `a` [N, 16, 16] and `b` [M, 16, 16]."""
    return np.maximum(_max_over_flips(a, b), _max_over_flips(a, b.swapaxes(1, 2)))


def _max_over_flips(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Like `overlaps`, for the 4 flips only: two of `both_odd`, `across`, `down` change their signs, or none does."""
    both_even, both_odd, across, down = (_parity_part(a, *parity) @ _parity_part(b, *parity).T for parity in PARITIES)
    alike, unlike = across + down, np.subtract(across, down, out=across)
    np.abs(alike, out=alike)
    np.abs(unlike, out=unlike)
    alike += both_odd
    unlike -= both_odd
    return np.add(both_even, np.maximum(alike, unlike, out=alike), out=alike)


def _parity_part(coefs: np.ndarray, down: int, across: int) -> np.ndarray:
    """float32 [N, 64]: the coefficients whose degrees are even (0) or odd (1)."""
    return np.ascontiguousarray(coefs[:, down::2, across::2]).reshape(len(coefs), -1)
