"""Group files that show the same picture, so that all copies of it stay in one split.

Synopsis::

    signatures = near_duplicates.ImageSignatures.empty(count)  # digests, thumbnails, brightness: filled file by file
    groups = near_duplicates.duplicate_groups(signatures, near=True)     # int64 [N]: equal for copies

Covered: byte copies; any combination of re-encoding, a small change of brightness and the 8 flips and quarter turns.
Not covered: shifted crops of one photograph, unless the layout names the photograph.

Method. A thumbnail is 16 x 16 grey area means less their mean (so brightness does not matter). Two files are copies
if, under the best of the 8 symmetries, two conditions hold. The thumbnails differ by at most `threshold` grey levels
(root mean square). And their residuals correlate by at least MIN_CORRELATION; the residual is the thumbnail less a
polynomial of degree 8, which removes shadows and the vignetting of the lens. Two photographs of one blank wall differ
no more than two copies of one photograph, but their noise does not correlate.

Candidates come from a range search over 20 features per thumbnail: for each pair u <= v below 6 of its orthonormal
discrete cosine transform X, sqrt(X[u,v]^2 + X[v,u]^2). Flips change signs of X and a quarter turn swaps u and v, so
the features do not depend on the orientation. Each feature is a norm of some coefficients, so two thumbnails are never
closer than their features. A range search with the same threshold therefore finds everything that comparing all pairs
would find. All frames of a fixed camera are candidates of each other, but most pairs are in one group before they are
compared, and are skipped (see duplicate_search).
"""

import dataclasses
import errno
import math
import os
from collections.abc import Sequence

import numpy as np
import scipy  # loads its submodules on first use: the workers that scan files need none of them
import threadpoolctl

from crackflow.conversion import duplicate_search, orientations
from crackflow.data.thumbnail import THUMB_PX

# In METU, 3,512 pairs of copies differ by at most 0.41 grey levels; the closest pair of different images by 1.37,
# at a contrast of 1.9. The relative term allows a change of contrast by a few percent, and strong re-encoding.
NOISE_FLOOR = 0.6
CONTRAST_FRACTION = 0.06
MAX_BRIGHTNESS_SHIFT = 40.0
FREQUENCIES = 6
# In METU, the residuals of two copies correlate by at least 0.99. For 227 px photographs of a blank wall, copies
# re-encoded at quality 60 correlate by 0.80 at a noise of 6 grey levels, and at quality 80 by 0.65 at a noise of 2;
# different photographs by at most 0.31. At degrees 4 and 6, the vignetting of one lens made different ones correlate
# by 0.98 and 0.75.
MIN_CORRELATION = 0.5
SMOOTH_DEGREE = 8
# Float32 sums of 256 products have a relative error of about 1e-6; correlations of residuals have that error divided by
# the fraction of the residual in the whole. Below MIN_RESIDUAL_FRACTION (float16 alone gives 1e-4), only the exact
# comparison decides.
SUM_SLACK = 1e-4
CORRELATION_SLACK = 0.02
MIN_RESIDUAL_FRACTION = 5e-5
ROUNDING = 1e-9  # relative; bounds the error of float64 sums of 256 products
CHUNK = 4_000  # number of thumbnails processed at once
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclasses.dataclass
class ImageSignatures:
    """Digests and thumbnails of N files, 0.6 KB per file.

    Attributes:
        digest: uint8 [N, 32], SHA-256 of the bytes.
        thumb: float16 [N, 16, 16], grey levels less their mean, upright.
        mean: float32 [N], 0..255.
    """

    digest: np.ndarray
    thumb: np.ndarray
    mean: np.ndarray

    @classmethod
    def empty(cls, count: int, file: str | None = None) -> "ImageSignatures":
        """Creates signatures of `count` files, all zeros.

        Args:
            count: Number of files.
            file: Path of a file for the thumbnails. They stay in memory if it is None, or if the disk cannot reserve
                the space.

        Raises:
            OSError: The disk is full.
        """
        shape = (count, THUMB_PX, THUMB_PX)
        on_disk = file and count and _reserve_space(file, 2 * math.prod(shape))
        thumb = np.memmap(file, np.float16, "r+", shape=shape) if on_disk else np.zeros(shape, np.float16)
        return cls(np.zeros((count, 32), np.uint8), thumb, np.zeros(count, np.float32))

    @classmethod
    def of(cls, digests: Sequence[bytes], thumbnails: Sequence[np.ndarray]) -> "ImageSignatures":
        """Creates signatures from `digests` and as many `thumbnails`, each float32 [16, 16], 0..255."""
        digest = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
        grey = np.array(thumbnails, np.float32).reshape(-1, THUMB_PX, THUMB_PX)
        mean = grey.mean((1, 2))
        return cls(digest, (grey - mean[:, None, None]).astype(np.float16), mean)

    def put(self, row: int, signatures: "ImageSignatures") -> None:
        """Writes all rows of `signatures` into this object, starting at `row`."""
        rows = slice(row, row + len(signatures.digest))
        self.digest[rows], self.thumb[rows], self.mean[rows] = signatures.digest, signatures.thumb, signatures.mean

    def first(self, count: int) -> "ImageSignatures":
        """Returns a view of the first `count` rows."""
        return ImageSignatures(self.digest[:count], self.thumb[:count], self.mean[:count])


def _reserve_space(file: str, size: int) -> bool:
    """Creates `file` with `size` bytes of zeros for which disk space is allocated.

    Writing to a mapped hole on a full disk would end the process.

    Returns:
        False, and leaves no file, where space cannot be allocated: macOS and Windows lack posix_fallocate; musl and
        some file systems refuse it.

    Raises:
        OSError: The disk is full, or the file would be too large.
    """
    try:
        with open(file, "wb") as handle:
            os.posix_fallocate(handle.fileno(), 0, size)
        return True
    except AttributeError:
        os.remove(file)
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            raise
        os.remove(file)
    return False


def duplicate_groups(signatures: ImageSignatures, near: bool) -> np.ndarray:
    """Groups copies of one picture.

    Args:
        signatures: Of N files.
        near: Whether near copies count as copies, besides byte copies.

    Returns:
        int64 [N]: for each row, the smallest row of its group.
    """
    count = len(signatures.digest)
    if not count:
        return np.zeros(0, np.int64)
    by_bytes = _first_equal(signatures.digest)
    if not near:
        return by_bytes
    # Equal thumbnails of equal brightness (blank frames, lossless copies) need no search: one of each enters it.
    by_thumb = _first_equal(np.asarray(signatures.thumb).reshape(count, -1))
    by_signature = _first_equal(np.stack([by_thumb, signatures.mean.view(np.int32)], 1))
    all_rows = np.arange(count)
    different = np.flatnonzero((by_bytes == all_rows) & (by_signature == all_rows))
    pairs = different[_find_links(signatures, different)]
    return connect(
        count, np.concatenate([pairs, np.stack([all_rows, by_bytes], 1), np.stack([all_rows, by_signature], 1)])
    )


def _first_equal(values: np.ndarray) -> np.ndarray:
    """int64 [N]: for each row of `values` [N, ...], the first row with the same bytes."""
    keys = np.ascontiguousarray(values).view(f"V{values[0].nbytes}")[:, 0]
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def connect(count: int, links: np.ndarray) -> np.ndarray:
    """Finds connected components.

    Args:
        count: Number of rows.
        links: int64 [M, 2], pairs of rows.

    Returns:
        int64 [count]: for each row, the smallest row of its component.
    """
    graph = scipy.sparse.coo_array((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=(count, count))
    _, component = scipy.sparse.csgraph.connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)
    return first[component].astype(np.int64)


def _find_links(signatures: ImageSignatures, rows: np.ndarray) -> np.ndarray:
    """int64 [M, 2]: positions in `rows` of pairs of copies, enough to connect every group of copies."""
    features, threshold = _features_and_thresholds(signatures, rows)
    # On two shared cores, two BLAS threads took 10 s where one took 0.3 s: they wait for each other.
    with threadpoolctl.threadpool_limits(1):
        return duplicate_search.links(
            features,
            threshold,
            lambda row_positions, column_positions: _may_match(signatures, rows[row_positions], rows[column_positions]),
            lambda left, right: _matches(signatures, rows[left], rows[right]),
        )


def _dct_matrix() -> np.ndarray:
    """float32 [16, 16]: the orthonormal discrete cosine transform (DCT-II) as a matrix; row k has frequency k."""
    frequency, position = np.arange(THUMB_PX)[:, None], np.arange(THUMB_PX) + 0.5
    waves = math.sqrt(2 / THUMB_PX) * np.cos(np.pi / THUMB_PX * frequency * position)
    waves[0] /= math.sqrt(2)
    return waves.astype(np.float32)


_DCT = _dct_matrix()


def _features_and_thresholds(signatures: ImageSignatures, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 [N, 20] orientation-free features; float64 [N] the largest difference, in grey levels, of a copy."""
    frequencies = [(u, v) for u in range(FREQUENCIES) for v in range(u, FREQUENCIES) if v]
    features = np.empty((len(rows), len(frequencies)), np.float32)
    threshold = np.empty(len(rows))
    for start in range(0, len(rows), CHUNK):
        part = slice(start, min(start + CHUNK, len(rows)))
        thumb = signatures.thumb[rows[part]].astype(np.float32)
        threshold[part] = _threshold(_power(thumb))
        spectrum = _DCT @ thumb @ _DCT.T / THUMB_PX
        for column, (u, v) in enumerate(frequencies):
            magnitude = np.abs(spectrum[:, u, u]) if u == v else np.hypot(spectrum[:, u, v], spectrum[:, v, u])
            features[part, column] = magnitude
    # Thumbnails are float16 and sums float32: rounding must not push a pair just outside the search radius.
    return features, threshold * 1.001 + 1e-3


def _power(thumb: np.ndarray) -> np.ndarray:
    """float64 [N]: mean square of each thumbnail [N, 16, 16]."""
    return np.einsum("nij,nij->n", thumb, thumb, dtype=np.float64) / THUMB_PX**2


def _threshold(power: np.ndarray) -> np.ndarray:
    """Largest difference, in grey levels, between copies of a picture whose contrast is sqrt(`power`)."""
    return np.sqrt(NOISE_FLOOR**2 + CONTRAST_FRACTION**2 * power)


def _matches(signatures: ImageSignatures, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """bool [M]: whether `left[k]` and `right[k]` are copies."""
    a, b = (signatures.thumb[side].astype(np.float32) for side in (left, right))
    power_a, power_b = _power(a), _power(b)
    overlap = np.max([np.einsum("nij,nij->n", a, transformed) for transformed in _symmetries(b)], 0) / THUMB_PX**2
    square = power_a + power_b - 2 * overlap
    close = square <= _threshold(np.minimum(power_a, power_b)) ** 2
    close &= np.abs(signatures.mean[left] - signatures.mean[right]) <= MAX_BRIGHTNESS_SHIFT
    close[close] = _correlates(_subtract_smooth(a[close]), _subtract_smooth(b[close]))
    return close


def _may_match(signatures: ImageSignatures, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """bool [L, R]: whether each of the rows `left` may be a copy of each of the rows `right`, by matrix products.

    Rounding never rules out a copy: the limits exceed the exact ones by some hundred times the rounding error.
    """
    may_match = np.abs(signatures.mean[left][:, None] - signatures.mean[right]) <= MAX_BRIGHTNESS_SHIFT + 0.01
    a, b = (orientations.coefficients(signatures.thumb[side]) for side in (left, right))
    may_match &= _may_correlate(a, b)
    candidate_rows, candidate_columns = np.flatnonzero(may_match.any(1)), np.flatnonzero(may_match.any(0))
    if len(candidate_rows):
        may_match[np.ix_(candidate_rows, candidate_columns)] &= _may_be_close(a[candidate_rows], b[candidate_columns])
    return may_match


def _may_correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """bool [L, R]: whether the residuals of the thumbnails with coefficients `a` and `b` may correlate."""
    (unit_a, is_smooth_a), (unit_b, is_smooth_b) = _unit_residual(a), _unit_residual(b)
    may_correlate = orientations.overlaps(unit_a, unit_b) >= MIN_CORRELATION - CORRELATION_SLACK
    may_correlate[is_smooth_a] = True
    may_correlate[:, is_smooth_b] = True
    return may_correlate


def _unit_residual(coefs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(float32 [N, 16, 16] residuals of length 1; bool [N] whether the residual may be mere rounding error)."""
    residual, power = orientations.residual(coefs, SMOOTH_DEGREE), _power(coefs)
    residual_power = _power(residual)
    is_smooth = residual_power <= MIN_RESIDUAL_FRACTION**2 * power
    length = np.sqrt(np.where(is_smooth, 1, residual_power)).astype(np.float32) * THUMB_PX
    return residual / length[:, None, None], is_smooth


def _may_be_close(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """bool [L, R]: whether the thumbnails with coefficients `a` and `b` may differ by at most the threshold."""
    (half_a, limit_a), (half_b, limit_b) = (
        (_power(coefs) / 2, _threshold(_power(coefs)) ** 2 / 2 + 1e-3) for coefs in (a, b)
    )
    # The mean square of a - b is power_a + power_b - 2 overlap.
    least = (half_a[:, None] + half_b) * (1 - SUM_SLACK) - np.minimum(limit_a[:, None], limit_b)
    return orientations.overlaps(a, b) / THUMB_PX**2 >= least.astype(np.float32)


def _polynomial_basis() -> np.ndarray:
    """float64 [256, 45]: orthonormal polynomials of at most degree 8 over a thumbnail."""
    side = (np.arange(THUMB_PX) + 0.5) / THUMB_PX * 2 - 1
    powers = [(u, v) for u in range(SMOOTH_DEGREE + 1) for v in range(SMOOTH_DEGREE + 1 - u)]
    values = np.stack([np.outer(side**u, side**v).ravel() for u, v in powers], 1)
    return np.linalg.qr(values)[0]


_POLYNOMIALS = _polynomial_basis()


def _subtract_smooth(thumb: np.ndarray) -> np.ndarray:
    """float64 [N, 16, 16]: thumbnails less their fit of degree 8; zeros where only rounding error would be left."""
    flat = thumb.reshape(len(thumb), THUMB_PX**2).astype(np.float64)
    residual = (flat - flat @ _POLYNOMIALS @ _POLYNOMIALS.T).reshape(thumb.shape)
    residual[_power(residual) <= ROUNDING**2 * _power(thumb)] = 0
    return residual


def _correlates(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """bool [N]: whether `a` and `b` [N, 16, 16] correlate under the best of the 8 symmetries; blank residuals do."""
    overlap = np.max([np.einsum("nij,nij->n", a, transformed) for transformed in _symmetries(b)], 0) / THUMB_PX**2
    return overlap >= MIN_CORRELATION * np.sqrt(_power(a) * _power(b))


def _symmetries(thumb: np.ndarray) -> list[np.ndarray]:
    """The 8 flips and quarter turns of each of `thumb` [N, S, S]."""
    both = (thumb, thumb.swapaxes(1, 2))
    return [transformed[:, ::rows, ::columns] for transformed in both for rows in (1, -1) for columns in (1, -1)]
