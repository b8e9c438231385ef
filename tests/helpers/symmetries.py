"""Pictures under the eight symmetries of the square."""

import functools

import numpy as np

SYMMETRIES = [(turns, flip) for turns in range(4) for flip in (False, True)]


def moved(values, turns, flip):
    return np.ascontiguousarray(np.rot90(values[:, ::-1] if flip else values, turns))


@functools.cache
def smooth():
    """float64 [256, 45]: an orthonormal basis of the polynomials of at most degree 8 over a thumbnail."""
    side = np.linspace(-1, 1, 16)
    powers = np.polynomial.legendre.legvander2d(*np.meshgrid(side, side, indexing="ij"), [8, 8]).reshape(256, 9, 9)
    return np.linalg.qr(powers[:, np.add.outer(np.arange(9), np.arange(9)) <= 8])[0]


def less_smooth(thumb):
    """The thumbnail less the polynomial of degree 8 that fits it best."""
    return thumb - (smooth() @ (smooth().T @ thumb.ravel())).reshape(16, 16)
