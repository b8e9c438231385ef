"""Which windows of photographs to label next: those that would teach the model most.

Synopsis::

    windows = suggestions.candidates(heat, image, (3000, 4000), window_px=128, step=16, threshold=0.5)    # 64 at most
    windows[0].box, windows[0].probability, windows[0].features
    chosen = suggestions.select(photographs, boxes, probabilities, features, count=40, threshold=0.5)
    chosen[0].index, chosen[0].reason                                            # 117, "near the threshold"

Windows near the threshold are those that the model is least certain of (Lewis and Gale, A sequential algorithm for
training text classifiers, SIGIR 1994). Many of them look alike, and the second teaches little: so each next one is the
best by its rank times its distance, in texture and colour, from those chosen so far (greedy k-center: Sener and
Savarese, Active learning for convolutional neural networks: a core-set approach, ICLR 2018). A quarter is left to the
most probable windows, which are cracks or the false alarms that cost most, and an eighth to the least probable, so that
the sound surface of the site is among the labels as well.

Nothing of the network is run again: probabilities are those of the heat map, and features are computed from the
photograph as it was resized for the network.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage, special

# Candidates of a photograph: the most probable, near the threshold, the least probable. So many that one photograph of
# 12 megapixels gives forty windows, and so few that ten thousand photographs fit into memory.
MOST, UNCERTAIN, LEAST = 16, 32, 16
MAX_CANDIDATES = MOST + UNCERTAIN + LEAST
MAX_IOU = 0.2  # of two windows of one photograph
SEED = 0  # of the order of windows that are equal in all else
PROBABLE_SHARE, IMPROBABLE_SHARE = 1 / 4, 1 / 8  # of the windows that are chosen; the others lie near the threshold
NEAR_THRESHOLD = "near the threshold"
MOST_PROBABLE = "among the most probable: a crack or a false alarm"
LEAST_PROBABLE = "among the least probable"
LOGIT_CLIP = 1e-6  # as of the heat map
DIFFERENCES = tuple((step * y, step * x) for step in (1, 2, 4) for y, x in ((0, 1), (1, 0), (1, 1), (1, -1)))
NUM_FEATURES = 3 + 1 + len(DIFFERENCES)
LOG_EPSILON = 1 / 255  # a grey level, added before the logarithm
MIN_DISTANCE = 1e-6  # of windows that look the same, so that their ranks still decide


class Candidate(NamedTuple):
    """A window that may be labelled.

    Attributes:
        x, y, width, height: in pixels of the photograph.
        probability: of its most probable place, 0..1, as in the heat map.
        features: of its colour and texture (`describe`).
    """

    x: int
    y: int
    width: int
    height: int
    probability: float
    features: tuple[float, ...]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x, y, width and height."""
        return self[:4]


class Choice(NamedTuple):
    """A window that was chosen: its index among the candidates, and why."""

    index: int
    reason: str


def candidates(
    heat: np.ndarray, image: np.ndarray, size: tuple[int, int], window_px: int, step: int, threshold: float
) -> list[Candidate]:
    """Picks windows of one photograph around places that are more probable than all within half a window.

    The places around a crack that are less probable than it count for no window: half the crack lies in such a window.

    Args:
        heat: float32 [h, w], 0..1, the heat map of cells of `step` pixels of `image`.
        image: uint8 [H, W, C], 0..255, the photograph as it was resized for the network.
        size: height and width of the photograph itself, in pixels.
        window_px: side of a window in pixels of `image`.
        step: side of a cell in pixels of `image`.
        threshold: probability from which a place is cracked, 0 < threshold < 1.

    Returns:
        At most MAX_CANDIDATES, of which no two overlap by more than MAX_IOU; the most probable first, then those near
        the threshold, then the least probable.
    """
    peaks = _peaks(heat, max(window_px // step, 1))
    peaks = peaks[np.random.default_rng(SEED).permutation(len(peaks))]
    sides = np.minimum(window_px, image.shape[:2])
    corners = np.clip(peaks * step + step // 2 - window_px // 2, 0, np.array(image.shape[:2]) - sides)
    values = _logits(heat[tuple(peaks.T)])
    boxes = np.concatenate([corners[:, ::-1], np.broadcast_to(sides[::-1], corners.shape)], 1)
    is_free, picked = np.ones(len(peaks), bool), []
    for keys, count in ((-values, MOST), (np.abs(values - _logits(threshold)), UNCERTAIN), (values, LEAST)):
        order = np.argsort(keys, kind="stable")
        for _ in range(count):
            left = order[is_free[order]]
            if not len(left):
                break
            picked.append(left[0])
            is_free &= overlaps(boxes, boxes[left[0]]) <= MAX_IOU
            is_free[left[0]] = False
    return [_candidate(heat, image, size, boxes[index], step) for index in picked]


def _peaks(heat: np.ndarray, cells: int) -> np.ndarray:
    """int64 [P, 2], row and column: cells that no cell within half a window of `cells` exceeds.

    Where all of these are equal, as on a wall that is certainly sound, every cell is one: of those one in a window.
    """
    across = 2 * (cells // 2) + 1
    highest, lowest = ndimage.maximum_filter(heat, across), ndimage.minimum_filter(heat, across)
    in_lattice = np.zeros(heat.shape, bool)
    in_lattice[cells // 2 :: cells, cells // 2 :: cells] = True
    in_lattice |= np.array(heat.shape).min() <= cells // 2  # too small to have one
    return np.argwhere((heat >= highest) & ((highest > lowest) | in_lattice))


def _candidate(heat: np.ndarray, image: np.ndarray, size: tuple[int, int], box: np.ndarray, step: int) -> Candidate:
    """The window `box`, x, y, width and height in pixels of `image`, in pixels of a photograph of `size`."""
    x, y, width, height = box.tolist()
    rows, columns = slice(y // step, -(-(y + height) // step)), slice(x // step, -(-(x + width) // step))
    probability = float(heat[rows, columns].max())
    features = tuple(round(float(value), 4) for value in describe(image[y : y + height, x : x + width]))
    down, right = (side / resized for side, resized in zip(size, image.shape[:2], strict=True))
    own_width, own_height = (max(round(width * right), 1), max(round(height * down), 1))
    if width == height:  # of which rounding makes no oblong
        own_width = own_height = min(max(round(width * (right * down) ** 0.5), 1), *size)
    own_x, own_y = min(round(x * right), size[1] - own_width), min(round(y * down), size[0] - own_height)
    return Candidate(own_x, own_y, own_width, own_height, probability, features)


def describe(window: np.ndarray) -> np.ndarray:
    """float64 [NUM_FEATURES]: colour and texture of a window, uint8 [H, W, C], 0..255.

    The mean of red, green and blue and the deviation of the grey levels, 0..1; the logarithms of the mean differences
    of pixels that lie 1, 2 and 4 apart, along rows, columns and both diagonals: bricks, grain and lines differ there.
    """
    values = window.astype(np.float32) / 255
    grey = values.mean(-1)
    differences = [_mean_difference(grey, down, right) for down, right in DIFFERENCES]
    colour = np.broadcast_to(values.mean((0, 1), dtype=np.float64), 3)  # one channel counts as three equal ones
    return np.concatenate([colour, [grey.std()], np.log(np.array(differences) + LOG_EPSILON)]).astype(np.float64)


def _mean_difference(grey: np.ndarray, down: int, right: int) -> float:
    """Of pixels and those so many rows down and columns to the right (to the left if negative); 0 if there are none."""
    height, width = grey.shape
    if down >= height or abs(right) >= width:
        return 0.0
    first = grey[: height - down, max(-right, 0) : width - max(right, 0)]
    second = grey[down:, max(right, 0) : width - max(-right, 0)]
    return float(np.abs(first - second).mean())


def are_valid(windows: Sequence[Candidate], width: int, height: int) -> bool:
    """Whether `windows` may be candidates of a photograph of that size: what a file says of them is not trusted."""
    return len(windows) <= MAX_CANDIDATES and all(
        all(type(value) is int for value in window.box)
        and all(type(value) in (int, float) and math.isfinite(value) for value in window.features)
        and len(window.features) == NUM_FEATURES
        and type(window.probability) in (int, float)
        and 0 <= window.probability <= 1
        and 0 <= window.x < window.x + window.width <= width
        and 0 <= window.y < window.y + window.height <= height
        for window in windows
    )


def overlaps(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """float64 [N]: intersection over union of `boxes`, [N, 4], with `box`, all x, y, width and height."""
    boxes, box = np.asarray(boxes, np.float64), np.asarray(box, np.float64)
    starts, ends = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, :2] + boxes[:, 2:], box[:2] + box[2:])
    shared = np.clip(ends - starts, 0, None).prod(1)
    return shared / (boxes[:, 2:].prod(1) + box[2:].prod() - shared)


def select(
    photographs: np.ndarray,
    boxes: np.ndarray,
    probabilities: np.ndarray,
    features: np.ndarray,
    count: int,
    threshold: float,
) -> list[Choice]:
    """Chooses the windows to label.

    Args:
        photographs: int [N], the number of each window's photograph.
        boxes: [N, 4], x, y, width and height in pixels of the photograph.
        probabilities: float [N], 0..1.
        features: float [N, K], of any scale; a distance counts each by its own deviation.
        count: how many to choose.
        threshold: probability from which a place is cracked, 0 < threshold < 1.

    Returns:
        At most `count`, in the order in which they were chosen: a quarter of the most probable, then those near the
        threshold, then an eighth of the least probable. Of one photograph at most twice its equal part, none that
        overlaps another by more than MAX_IOU. Equal arguments give equal windows.
    """
    photographs, boxes = np.asarray(photographs), np.asarray(boxes)
    if not len(photographs) or count <= 0:
        return []
    logits, scaled = _logits(probabilities), _standardized(np.asarray(features, np.float64))
    limit = 2 * -(-count // len(np.unique(photographs)))
    probable, improbable = int(count * PROBABLE_SHARE), int(count * IMPROBABLE_SHARE)
    quotas = (
        (MOST_PROBABLE, probable, -logits),
        (NEAR_THRESHOLD, count - probable - improbable, np.abs(logits - _logits(threshold))),
        (LEAST_PROBABLE, improbable, logits),
    )
    is_free, distances, choices = np.ones(len(logits), bool), np.ones(len(logits)), []
    for reason, quota, keys in quotas:
        # Rank 0 weighs 1, rank `quota` a half: a place in the order counts, and not how sure the model is.
        weights = 1 / (1 + _ranks(keys) / max(quota, 1))
        for _ in range(quota):
            if not is_free.any():
                return choices
            index = int(np.argmax(np.where(is_free, weights * (distances + MIN_DISTANCE), -1.0)))
            away = np.sqrt(((scaled - scaled[index]) ** 2).sum(1))
            distances = np.minimum(distances, away) if choices else away
            choices.append(Choice(index, reason))
            is_same = photographs == photographs[index]
            is_free[is_same] &= overlaps(boxes[is_same], boxes[index]) <= MAX_IOU
            is_free[index] = False
            if sum(photographs[choice.index] == photographs[index] for choice in choices) >= limit:
                is_free[is_same] = False
    return choices


def _ranks(keys: np.ndarray) -> np.ndarray:
    """int64 [N]: 0 for the smallest of `keys`; equal ones have the rank of the first of them."""
    return np.searchsorted(np.sort(keys), keys, side="left")


def _standardized(features: np.ndarray) -> np.ndarray:
    """float64 [N, K]: each feature in units of its deviation over the candidates, all together of about 1."""
    deviations = features.std(0)
    scaled = (features - features.mean(0)) / np.where(deviations > 0, deviations, 1.0)
    return scaled / np.sqrt(max(features.shape[1], 1))


def _logits(probabilities: np.ndarray | float) -> np.ndarray:
    return special.logit(np.clip(np.asarray(probabilities, np.float64), LOGIT_CLIP, 1 - LOGIT_CLIP))
