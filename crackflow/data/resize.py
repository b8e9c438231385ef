"""Enlarging and shrinking of arrays of pixels."""

import functools
from concurrent import futures

import numpy as np
from PIL import Image

from crackflow.core import process_pool

BAND_ROWS = 64  # rows of a photograph that are scaled at once


@functools.lru_cache(maxsize=64)
def area_weights(size: int, extent: float, cells: int) -> np.ndarray:
    """Returns the weights of area averaging, float32 [cells, size].

    They say how much of each of `size` pixels, of which `extent` count, lies in each of `cells` cells; each row adds up
    to 1. Pillow's own box filter takes a pixel entirely or not at all, which moves a flipped copy by part of a pixel.
    """
    edges = np.linspace(0, extent, cells + 1)
    left, right = np.arange(size), np.arange(size) + 1
    overlap = np.minimum(edges[1:, None], right) - np.maximum(edges[:-1, None], left)
    weights = np.clip(overlap, 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def resize_array(values: np.ndarray, image_px: int) -> np.ndarray:
    """Resizes uint8 [H, W, C] to uint8 [image_px, image_px, C]: area means to shrink a side, interpolation to enlarge.

    The sides scale independently, so that nothing is cut off and the label stays true. The pixels are those that
    `decode.to_size` computes during training, give or take one level; Pillow's box filter was up to 20 levels off on
    average.
    """
    height, width = values.shape[:2]
    if height == width == image_px:
        return values
    if min(height, width) >= image_px:
        rows, columns = area_weights(height, height, image_px), area_weights(width, width, image_px)
        means = np.einsum("yhc,xh->yxc", np.tensordot(rows, values.astype(np.float32), 1), columns, optimize=True)
        return (means + 0.5).astype(np.uint8)
    if max(height, width) > image_px:
        return scaled(values, image_px, image_px)
    image = Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)
    enlarged = np.asarray(image.resize((image_px, image_px), Image.Resampling.BILINEAR))
    return enlarged[..., None] if values.shape[-1] == 1 else enlarged


def grey(values: np.ndarray) -> np.ndarray:
    """Converts uint8 [H, W, 3] to uint8 [H, W, 1], with the weights of Pillow and JPEG."""
    return np.asarray(Image.fromarray(values).convert("L"))[..., None]


def scaled(
    values: np.ndarray, height: int, width: int, rows: slice = slice(None), columns: slice = slice(None)
) -> np.ndarray:
    """Resizes a photograph as `resize_array` does, in bands on all cores, with little memory beside the two images.

    12 megapixels to 3.9 take 0.06 s on 2 cores.

    Args:
        values: uint8 [H, W, C].
        height, width: the size of the result, in pixels.
        rows, columns: the contiguous part of the result that is computed.

    Returns:
        uint8 [height, width, C], or that part of it.
    """
    if values.shape[:2] == (height, width):
        return values[rows, columns]
    (first, last, _), (left, right, _) = rows.indices(height), columns.indices(width)
    row_taps = _taps(values.shape[0], height)
    column_indices, column_weights = (tap[left:right] for tap in _taps(values.shape[1], width))
    out = np.empty((last - first, right - left, values.shape[2]), np.uint8)

    def fill(top: int) -> None:
        band = slice(top, min(top + BAND_ROWS, last))
        means = _weighted_sums(values, row_taps[0][band], row_taps[1][band], axis=0)
        means = _weighted_sums(means, column_indices, column_weights, axis=1)
        out[band.start - first : band.stop - first] = np.add(means, 0.5, out=means)

    with futures.ThreadPoolExecutor(process_pool.count(0)) as pool:
        for done in [pool.submit(fill, top) for top in range(first, last, BAND_ROWS)]:
            done.result()
    return out


def scaled_batch(
    batch: np.ndarray, height: int, width: int, rows: slice = slice(None), columns: slice = slice(None)
) -> np.ndarray:
    """As `scaled` does with each of `batch`: uint8 [B, H, W, C] to uint8 [B, height, width, C]. All at once, as one
    picture of B x C channels: 9 of 227 pixels made as large as 256 take half the time each that they take alone."""
    count, *size, channels = batch.shape
    stacked = batch.transpose(1, 2, 0, 3).reshape(*size, count * channels)
    resized = scaled(stacked, height, width, rows, columns)
    return resized.reshape(*resized.shape[:2], count, channels).transpose(2, 0, 1, 3)


def _taps(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns which of `size` pixels each of `count` new pixels is computed from, and their weights.

    The new pixels are area means when there are fewer of them, and interpolate between neighbours when there are more.

    Returns:
        (int64 [count, T] indices, float32 [count, T] weights).
    """
    step = size / count
    if step >= 1:
        start = np.arange(count) * step
        indices = np.floor(start).astype(np.int64)[:, None] + np.arange(int(np.ceil(step)) + 1)
        weights = np.minimum(indices + 1, (start + step)[:, None]) - np.maximum(indices, start[:, None])
    else:
        middle = np.clip((np.arange(count) + 0.5) * step - 0.5, 0, size - 1)
        low = np.floor(middle).astype(np.int64)
        indices, weights = np.stack([low, low + 1], 1), np.stack([1 - (middle - low), middle - low], 1)
    weights = np.clip(weights, 0, None)
    return np.minimum(indices, size - 1), (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _weighted_sums(values: np.ndarray, indices: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """Returns weighted sums of rows (`axis` 0) or columns (1) of `values`: float32 [count, W, C] or [H, count, C].

    Columns are taken where they lie: rows of the transposed image took a third longer in all.
    """
    weights = weights.T[..., None, None] if axis == 0 else weights.T[:, None, :, None]
    total = values.take(indices[:, 0], axis) * weights[0]
    for tap in range(1, indices.shape[1]):
        total += values.take(indices[:, tap], axis) * weights[tap]
    return total
