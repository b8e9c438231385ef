"""Locates the cracks of a photograph: from the scores of its windows to outlines, lengths and probabilities.

Synopsis::

    heatmap = crack_tracing.window_heatmap(probabilities, 8)  # float32 [h, w] of windows -> [h + 7, w + 7] of cells
    cracks = crack_tracing.extract_cracks(heatmap, cell_px=16, window_cells=8, pixels=pixels, threshold=0.4)
    cracks[0].outlines, cracks[0].length_px, cracks[0].probability

The score of a window says that there is a crack somewhere in it. The probability of a cell is the mean over the windows
that contain it, because all of them contain a crack that lies there. Inside the probable area, the dark line itself is
searched in the pixels, and its middle (`inference.centerline`) gives the length: an estimate of the visible crack, not
of the real one.
"""

import dataclasses
from concurrent import futures

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage, special
from skimage import filters, measure

from crackflow.core import process_pool
from crackflow.inference import centerline

LINE_PX = 1.5  # sigma of the Gaussian that detects dark lines, in pixels of the image and of its downscaled octaves:
OCTAVES = 4  # 1.5, 3, 6 and 12 pixels; a Gaussian responds most to a band twice as wide, the last up to 40 pixels
PEAK_FRACTION = 0.5  # of the local peak: more than half a window away from a crack the probability is lower
# If the network can tell which cells are cracked: the certain ones, and the likely ones that are connected to them
# (hysteresis, as in Canny, IEEE PAMI 8:679, 1986). Chosen on synthetic surfaces: BUILD_NOTES.md, "Places".
LOW_THRESHOLD, HIGH_THRESHOLD = 0.5, 0.8
HYSTERESIS_RATIO = 0.5  # of the typical strength of a line, above which connected pixels belong to it
REACH = 4  # cells (half a window) beyond a crack's own cells, in which its dark line is followed while it is probable
MIN_LINE_PX = 8  # pixels of the line in a cell for the cell to belong to the crack
DILATION_PX = 3  # by which lines are dilated to their outline
TILE_PX, HALO_PX = 512, 64  # of the line search; the widest Gaussian reaches 48 pixels
SAMPLED = 4_000_000  # pixels from which the line threshold is chosen
OUTLINED = 4_000_000  # pixels of the largest mask that is outlined at full resolution
SIMPLIFY_TOLERANCE_PX = 1.5  # maximum error of a simplified outline
LOGIT_CLIP = 1e-6  # limits the certainty of a heat map, so that one scale alone does not decide


@dataclasses.dataclass(frozen=True)
class TracedCrack:
    """A crack, in pixels of the image it was traced in, x to the right, y down.

    Attributes:
        box: x, y, width, height.
        outlines: float64 [N, 2] each, (x, y), closed.
        probability: of the most probable cell, 0..1.
        length_px: along the middle of the dark line, or None.
        length_note: the reason why there is no length, else "".
        lines: its middle lines, float64 [N, 2] each, (x, y).
    """

    box: tuple[float, float, float, float]
    outlines: list[np.ndarray]
    probability: float
    length_px: float | None
    length_note: str = ""
    lines: tuple[np.ndarray, ...] = ()


def window_heatmap(probabilities: np.ndarray, window_cells: int) -> np.ndarray:
    """Average the windows that contain each cell.

    Args:
        probabilities: float [..., h, w], 0..1, of windows that are one cell apart.
        window_cells: side of a window in cells, n.

    Returns:
        float32 [..., h + n - 1, w + n - 1], 0..1: the mean probability of the windows that contain the cell.
    """
    total, window_counts = (
        _windowed_sums(values, window_cells)
        for values in (probabilities.astype(np.float64), np.ones(probabilities.shape[-2:]))
    )
    return (total / window_counts).astype(np.float32)


def _windowed_sums(values: np.ndarray, window_cells: int) -> np.ndarray:
    """The sum of the `window_cells` x `window_cells` values up to and including each; values outside count as 0."""
    for axis in (values.ndim - 2, values.ndim - 1):
        padding = [(window_cells, window_cells - 1) if pad_axis == axis else (0, 0) for pad_axis in range(values.ndim)]
        wide = np.pad(values, padding)
        sums = np.cumsum(wide, axis)
        count = values.shape[axis] + window_cells - 1
        values = np.take(sums, np.arange(window_cells, window_cells + count), axis) - np.take(
            sums, np.arange(count), axis
        )
    return values


def fuse_scales(maps: list[tuple[float, np.ndarray]], shape: tuple[int, int], reach: int = 0) -> np.ndarray:
    """Average heat maps of several scales in logits, cell by cell.

    Args:
        maps: (scale, float32 [..., h, w], 0..1) of each; its cells are 1 / scale times as large as those of the result.
        shape: of the result.
        reach: if there are several maps, each contributes its maximum within so many cells.

    Returns:
        float32 [..., *shape], 0..1.
    """
    total = 0.0
    for scale, heatmap in maps:
        logits = special.logit(np.clip(heatmap.astype(np.float64), LOGIT_CLIP, 1 - LOGIT_CLIP))
        if scale != 1 or heatmap.shape[-2:] != shape:
            for axis, count in zip((-2, -1), shape, strict=True):
                logits = _interpolate(logits, (np.arange(count) + 0.5) * scale - 0.5, axis)
        sizes = [1] * (logits.ndim - 2) + [2 * reach + 1] * 2
        total += ndimage.maximum_filter(logits, sizes) if len(maps) > 1 else logits
    return special.expit(total / len(maps)).astype(np.float32)


def _interpolate(values: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    """`values` at `positions`, float64 [N], along `axis`, linearly; the first and last values continue beyond them."""
    positions = np.clip(positions, 0, values.shape[axis] - 1)
    low = positions.astype(np.int64)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    weight = (positions - low).reshape(-1, *[1] * (-1 - axis))
    return values.take(low, axis) * (1 - weight) + values.take(high, axis) * weight


def extract_cracks(
    heatmap: np.ndarray,
    cell_px: int,
    window_cells: int,
    pixels: np.ndarray,
    threshold: float,
    cell_probabilities: np.ndarray | None = None,
    corrected: np.ndarray | None = None,
) -> list[TracedCrack]:
    """Trace the cracks of an image in its heat map.

    Args:
        heatmap: float32 [h, w], 0..1, of cells of `cell_px` pixels.
        cell_px: side of a cell in pixels.
        window_cells: side of a window in cells.
        pixels: the image, uint8 [H, W, C], 0..255.
        threshold: probability, 0..1, that a crack reaches.
        cell_probabilities: float32 [h, w], 0..1, of each cell by itself: locates the crack within the area where
            `heatmap` reaches `threshold`. None if the network can't tell.
        corrected: float32 [h, w], `heatmap` less what the size of the photograph explains. A crack must reach
            `threshold` in it somewhere, but extends as far as `heatmap` does. None: `heatmap` itself.

    Returns:
        The cracks, the most probable first.
    """
    corrected = heatmap if corrected is None else corrected
    # Where scales place a crack a little apart, `corrected`, which decides about the photograph, may be the larger one.
    above_threshold = (heatmap >= threshold) | (corrected >= threshold)
    near_peak = above_threshold & (heatmap >= PEAK_FRACTION * ndimage.maximum_filter(heatmap, window_cells))
    areas, count = ndimage.label(
        near_peak if cell_probabilities is None else _hysteresis_mask(above_threshold, near_peak, cell_probabilities),
        np.ones((3, 3)),
    )
    unassigned, cracks = above_threshold & (areas == 0), []
    probabilities = _peak_probabilities(above_threshold, areas, count, corrected, threshold)
    for number, area_slices in enumerate(ndimage.find_objects(areas), start=1):
        neighborhood = tuple(slice(max(side.start - REACH, 0), side.stop + REACH) for side in area_slices)
        cells = areas[neighborhood] == number
        top, left = (side.start * cell_px for side in neighborhood)
        crop = pixels[top : top + cells.shape[0] * cell_px, left : left + cells.shape[1] * cell_px]
        probability = probabilities[number - 1]
        if probability >= threshold and _upsample_cells(cells, cell_px, crop.shape[:2]).any():
            traced, used = _trace_crack(crop, cells, unassigned[neighborhood], cell_px, probability)
            unassigned[neighborhood] &= ~used
            cracks.append(_translate(traced, left, top))
    return sorted(cracks, key=lambda crack: -crack.probability)


def _peak_probabilities(
    above_threshold: np.ndarray, areas: np.ndarray, count: int, corrected: np.ndarray, threshold: float
) -> list[float]:
    """The maximum of `corrected` in each of `areas`, int [h, w], 1 to `count`.

    If a component of `above_threshold` reaches `threshold` only beside its areas, that maximum counts for the areas, so
    that whatever makes a photograph cracked yields a finding.
    """
    if not count:
        return []
    pieces, _ = ndimage.label(above_threshold, np.ones((3, 3)))
    numbers = np.arange(1, count + 1)
    own, piece = ndimage.maximum(corrected, areas, numbers), ndimage.maximum(pieces, areas, numbers).astype(int)
    highest = ndimage.maximum(corrected, pieces, piece)
    has_own_peak = np.isin(piece, piece[own >= threshold])
    return np.where(has_own_peak, own, highest).tolist()


def _translate(traced: TracedCrack, left: int, top: int) -> TracedCrack:
    x, y, *size = traced.box
    outlines = [outline + (left, top) for outline in traced.outlines]
    lines = tuple(line + (left, top) for line in traced.lines)
    return dataclasses.replace(traced, box=(x + left, y + top, *size), outlines=outlines, lines=lines)


def _upsample_cells(cells: np.ndarray, cell_px: int, shape: tuple[int, int]) -> np.ndarray:
    """bool `shape`: the pixels of `cells`, bool [h, w]."""
    return cells.repeat(cell_px, 0).repeat(cell_px, 1)[: shape[0], : shape[1]]


def _hysteresis_mask(above_threshold: np.ndarray, near_peak: np.ndarray, cell_probabilities: np.ndarray) -> np.ndarray:
    """bool [h, w]: the cells of `above_threshold` that are certainly cracked by themselves, and the likely ones that
    are connected to them. A component of `above_threshold` without a certain cell contributes its `near_peak` cells."""
    cracked = _components_containing(
        above_threshold & (cell_probabilities >= LOW_THRESHOLD),
        above_threshold & (cell_probabilities >= HIGH_THRESHOLD),
    )
    return cracked | near_peak & ~_components_containing(above_threshold, cracked)


def _components_containing(cells: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """bool [h, w]: the components of `cells` that contain any of `seeds`."""
    pieces, count = ndimage.label(cells, np.ones((3, 3)))
    has_seed = np.zeros(count + 1, bool)
    has_seed[pieces[seeds]] = True
    return has_seed[pieces]


def _trace_crack(
    crop: np.ndarray, cells: np.ndarray, unassigned: np.ndarray, cell_px: int, probability: float
) -> tuple[TracedCrack, np.ndarray]:
    """Trace the crack in `cells` of the image `crop`.

    Returns:
        The crack, and bool like `cells`: the `unassigned` cells into which its line continues.
    """
    shape = crop.shape[:2]
    near = unassigned & ndimage.binary_dilation(cells, np.ones((3, 3)), iterations=REACH)
    area = _upsample_cells(cells, cell_px, shape)
    strength = _line_strength(crop, _upsample_cells(cells | near, cell_px, shape))
    threshold = _line_threshold(strength, area)
    used, lines = np.zeros(cells.shape, bool), []
    if threshold:
        typical_strength = float(np.median(strength[area & (strength > threshold)]))
        used = _follow_line(strength, cells, near, typical_strength, cell_px)
        area = _upsample_cells(cells | used, cell_px, shape)
        lines = centerline.trace(strength, area, threshold, cell_px)
    mask = (
        _dark_line_mask(strength, area, max(threshold, HYSTERESIS_RATIO * typical_strength), lines) if lines else area
    )
    mask = mask if mask.any() else area  # a line may lie beside all pixels
    outlines = [np.clip(outline, 0, shape[::-1]) for outline in _find_outlines(mask, DILATION_PX if lines else 0)]
    points = np.concatenate(outlines)
    low, high = points.min(0), points.max(0)
    length, note = centerline.length(lines), centerline.no_length(lines, sum(map(_polygon_area, outlines)))
    box = (*low.tolist(), *(high - low).tolist())
    return TracedCrack(box, outlines, probability, None if note else length, note, tuple(lines)), used


def _follow_line(
    strength: np.ndarray, cells: np.ndarray, near: np.ndarray, typical_strength: float, cell_px: int
) -> np.ndarray:
    """bool [h, w]: the cells of `near` into which the dark line of `cells` continues at its typical strength."""
    shape, square = strength.shape, np.ones((3, 3))
    area, near_area = (_upsample_cells(mask, cell_px, shape) for mask in (cells, near))
    strong = (strength >= typical_strength) & (area | near_area)
    pieces, _ = ndimage.label(_components_containing(strong, strong & area) & near_area, square)
    is_long = [max(side.stop - side.start for side in slices) >= cell_px for slices in ndimage.find_objects(pieces)]
    line = np.zeros((near.shape[0] * cell_px, near.shape[1] * cell_px), bool)
    line[: shape[0], : shape[1]] = np.array([False, *is_long])[pieces]
    return near & (line.reshape(near.shape[0], cell_px, near.shape[1], cell_px).sum((1, 3)) >= MIN_LINE_PX)


def _polygon_area(outline: np.ndarray) -> float:
    x, y = outline.T
    return abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2


def _find_outlines(mask: np.ndarray, dilation_px: int) -> list[np.ndarray]:
    """Closed outlines, float64 [N, 2] each, (x, y), of the components of `mask`, bool [H, W], dilated by `dilation_px`.

    A large mask is outlined at a half or a third of its resolution: a contour takes a hundred bytes per point.
    """
    step = max(int(np.ceil(np.sqrt(mask.size / OUTLINED))), 1)
    height, width = (-(-side // step) for side in mask.shape)
    padded = np.zeros((height * step, width * step), bool)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    border = -(-dilation_px // step) + 1
    coarse = np.pad(padded.reshape(height, step, width, step).any((1, 3)), border)
    if dilation_px:
        coarse = ndimage.binary_dilation(coarse, iterations=border - 1)
    contours = [contour for contour in measure.find_contours(coarse.astype(np.float32), 0.5) if _is_outer(contour)]
    # From pixel centres to corners: pixel 0 begins at 0.
    return [
        (_simplify_contour(contour, SIMPLIFY_TOLERANCE_PX / step)[:, ::-1] - border + 0.5) * step
        for contour in contours
    ]


def _simplify_contour(contour: np.ndarray, tolerance: float) -> np.ndarray:
    """Fewer points (Douglas and Peucker, 1973), unless no area would remain."""
    simple = measure.approximate_polygon(contour, tolerance)
    return simple if len(simple) >= 4 else contour


def _is_outer(contour: np.ndarray) -> bool:
    """Whether a contour is an outer one; those of holes have the opposite orientation."""
    y, x = contour[:, 0], contour[:, 1]
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) > 0


def _line_threshold(strength: np.ndarray, area: np.ndarray) -> float:
    """The strength above which a pixel of `area` lies on a line, by Otsu's method; 0 if no line stands out."""
    stride = max(int(np.ceil(np.sqrt(area.size / SAMPLED))), 1)
    values = strength[::stride, ::stride][area[::stride, ::stride]]
    return float(filters.threshold_otsu(values.astype(np.float32))) if values.any() else 0.0


def _dark_line_mask(strength: np.ndarray, area: np.ndarray, threshold: float, lines: list[np.ndarray]) -> np.ndarray:
    """bool [H, W]: the pixels of `lines`, float64 [N, 2] each, (x, y), and those of `area` that are stronger than
    `threshold` and connected to them."""
    canvas = Image.new("1", area.shape[::-1])
    for line in lines:
        points = [tuple(point) for point in line]
        ImageDraw.Draw(canvas).line(points, fill=1)
        ImageDraw.Draw(canvas).point(points, fill=1)  # a line of one point draws nothing
    middle = np.asarray(canvas)
    return _components_containing(middle | (strength > threshold) & area, middle)


def _line_strength(crop: np.ndarray, area: np.ndarray) -> np.ndarray:
    """float16 [H, W]: how strongly each pixel of `area` lies on a dark line, 0 outside `area`.

    Works in tiles on all cores: of a large photograph only the result is in memory as a whole. The strength is the
    larger eigenvalue of the Hessian less the absolute value of the other: dark across a line, even along it (Frangi et
    al. 1998, Multiscale vessel enhancement filtering). It is the maximum over several widths: with narrow ones alone,
    each edge of a wide crack would be a line.
    """
    strength, coarsest = np.zeros(area.shape, np.float16), 2 ** (OCTAVES - 1)

    def fill(top: int, left: int) -> None:
        inside = slice(top, top + TILE_PX), slice(left, left + TILE_PX)
        if not area[inside].any():
            return
        # Starts at a multiple of the coarsest pixel, so that tiles agree.
        y, x = (max(start - HALO_PX, 0) // coarsest * coarsest for start in (top, left))
        strongest = _multi_scale_ridges(
            crop[y : top + TILE_PX + HALO_PX, x : left + TILE_PX + HALO_PX].astype(np.float32).mean(-1)
        )
        height, width = area[inside].shape
        strength[inside] = strongest[top - y : top - y + height, left - x : left - x + width]

    corners = [(top, left) for top in range(0, area.shape[0], TILE_PX) for left in range(0, area.shape[1], TILE_PX)]
    with futures.ThreadPoolExecutor(process_pool.count(0)) as pool:
        for future in [pool.submit(fill, *corner) for corner in corners]:
            future.result()
    strength[~area] = 0
    return strength


def _multi_scale_ridges(grey: np.ndarray) -> np.ndarray:
    """float32 [H, W]: the maximum of the ridge strength over all octaves, which average 2 x 2, 4 x 4, ... pixels."""
    coarsest, (height, width) = 2 ** (OCTAVES - 1), grey.shape
    small = np.pad(grey, [(0, -side % coarsest) for side in grey.shape], mode="edge")
    size, strongest = small.shape[::-1], _ridge_strength(small)
    for _ in range(OCTAVES - 1):
        small = small.reshape(small.shape[0] // 2, 2, small.shape[1] // 2, 2).mean((1, 3))
        wide = Image.fromarray(_ridge_strength(small)).resize(size, Image.Resampling.BILINEAR)
        np.maximum(strongest, np.asarray(wide), out=strongest)
    return strongest[:height, :width]


def _ridge_strength(grey: np.ndarray) -> np.ndarray:
    """float [H, W]: the larger eigenvalue of the Hessian less the absolute value of the other, at least 0."""
    down, across, both = (
        LINE_PX**2 * ndimage.gaussian_filter(grey, LINE_PX, order=order, mode="nearest")
        for order in ((2, 0), (0, 2), (1, 1))
    )
    middle, half = (down + across) / 2, np.hypot((down - across) / 2, both)
    return np.maximum(middle + half - np.abs(middle - half), 0)
