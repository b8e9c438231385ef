"""Covers markers in a photograph by what surrounds them, before the network looks: a card's lines look like cracks.

Synopsis::

    pixels = marker_cover.cover(pixels, [marker_cover.outline(plane, is_card=True)])     # uint8 [H, W, C]

A marker that is no card is covered with the white margin that it needs, a module of the smallest dictionary; a card
with the A5 page that crackflow.card makes and some wall around it, for the edge of the paper and its shadow.
"""

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from crackflow.inference import marker_plane
from crackflow.inference.marker_plane import MarkerPlane

# Of the A5 page, from the upper left corner of the marker, in mm: left, top, right, bottom; 3 mm of wall around it.
PAGE_MM = (-18.0, -23.0, 136.0, 193.0)
QUIET_MODULES = 1 / 6  # of a marker's side
FILLED_PX = 160  # longer side of the part in which the surroundings are continued
SURROUNDINGS = 0.15  # of the longer side of the covered part, on each side


def outline(plane: MarkerPlane, is_card: bool) -> np.ndarray:
    """float64 [4, 2]: the corners of what is covered, in pixels; NaN beyond the horizon."""
    margin = QUIET_MODULES * plane.side_mm
    left, top, right, bottom = (
        PAGE_MM if is_card else (-margin, -margin, plane.side_mm + margin, plane.side_mm + margin)
    )
    return plane.to_px([(left, top), (right, top), (right, bottom), (left, bottom)])


def cover(pixels: np.ndarray, outlines: Sequence[np.ndarray]) -> np.ndarray:
    """Replace parts of a photograph by their surroundings, continued smoothly.

    Args:
        pixels: uint8 [H, W, C], 0..255; it stays as it is.
        outlines: float64 [4, 2] each, (x, y); one with NaN covers nothing.

    Returns:
        uint8 [H, W, C], `pixels` itself if nothing is covered.
    """
    covered = pixels
    for corners in outlines:
        if np.isfinite(corners).all():
            covered = _cover_part(covered.copy() if covered is pixels else covered, corners)
    return covered


def _cover_part(pixels: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """`pixels`, changed in place. The part is filled at a low resolution, which is smooth when enlarged."""
    opencv = marker_plane.load_opencv("--marker_mm")
    beside = SURROUNDINGS * np.ptp(corners, axis=0).max() + 4
    limits = pixels.shape[1], pixels.shape[0]
    low = np.clip(np.floor(corners.min(0) - beside), 0, limits).astype(int)
    high = np.clip(np.ceil(corners.max(0) + beside), 0, limits).astype(int)
    if (high - low < 2).any():
        return pixels
    part = pixels[low[1] : high[1], low[0] : high[0]]
    size = high - low
    small_size = np.maximum(np.round(size * min(1.0, FILLED_PX / size.max())), 1).astype(int)
    mask = np.zeros(part.shape[:2], np.uint8)
    opencv.fillConvexPoly(mask, np.round(corners - low).astype(np.int32), 255)
    # Every small pixel that has any of the card in it is filled.
    small_mask = opencv.resize(mask, small_size.tolist(), interpolation=opencv.INTER_AREA)
    small_mask = opencv.dilate((small_mask > 0).astype(np.uint8), np.ones((3, 3), np.uint8))
    if small_mask.all():
        return pixels  # no surroundings are in the picture
    small = opencv.resize(np.ascontiguousarray(part), small_size.tolist(), interpolation=opencv.INTER_AREA)
    filled = _continue_smoothly(small.reshape(*small.shape[:2], -1), small_mask > 0)
    weight = mask.astype(np.float32) / 255
    weight = opencv.GaussianBlur(weight, (0, 0), max(size.max() / FILLED_PX / 2, 0.5))[..., None]
    weight = np.maximum(weight, mask[..., None] / 255.0)
    for channel in range(pixels.shape[2]):
        wide = opencv.resize(filled[..., channel], size.tolist(), interpolation=opencv.INTER_LINEAR)
        part[..., channel] = np.round(part[..., channel] * (1 - weight[..., 0]) + wide * weight[..., 0])
    return pixels


def _continue_smoothly(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """float32 [h, w, C]: `values` with the pixels of `mask`, bool [h, w], each the mean of its neighbours (Laplace)."""
    count, filled = int(mask.sum()), values.astype(np.float32)
    index = np.full(mask.shape, -1)
    index[mask] = np.arange(count)
    indices = np.pad(index, 1, constant_values=-2)  # outside the picture
    around = np.pad(values.astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    degree, known, rows, columns = np.zeros(count), np.zeros((count, values.shape[2])), [], []
    height, width = mask.shape
    for y, x in ((0, 1), (2, 1), (1, 0), (1, 2)):
        neighbor = indices[y : y + height, x : x + width][mask]
        degree += neighbor != -2
        known += np.where((neighbor == -1)[:, None], around[y : y + height, x : x + width][mask], 0)
        rows.append(np.flatnonzero(neighbor >= 0))
        columns.append(neighbor[neighbor >= 0])
    row, column = np.concatenate(rows), np.concatenate(columns)
    matrix = sparse.diags(degree) - sparse.coo_matrix((np.ones(len(row)), (row, column)), (count, count))
    filled[mask] = linalg.splu(matrix.tocsc()).solve(known)
    return filled
