"""Where the cracks of a photograph are: from the scores of its windows to outlines, lengths and probabilities.

Synopsis::

    heat = findings.heat(probabilities, across=8)            # float32 [h, w] of windows -> [h + 7, w + 7] of cells
    found = findings.trace(heat, cell_px=16, across=8, pixels=pixels, lowest=0.4)
    found[0].outlines, found[0].length_px, found[0].probability

A window says that there is a crack somewhere in it. A place is as probable as the windows that hold it are on average:
all of them hold a crack that lies there. Inside what is probable enough, the dark line itself is looked for in the
pixels, and its skeleton gives the length. It is an estimate: of what can be seen, not of what there is.
"""

import dataclasses
from concurrent import futures

import numpy as np
from scipy import ndimage, special
from skimage import filters, measure, morphology

from crackflow.core import workers

LINE_WIDTHS = (1.5, 3.0)  # Gaussians, in pixels, that dark lines are looked for with
NEAR = 0.5  # of the most probable place around: further than half a window beside a crack it is less
# Where the network can tell which cells are cracked: those that surely are, and the likely ones that hang together with
# them (hysteresis, as in Canny, IEEE PAMI 8:679, 1986). Chosen on made surfaces: BUILD_NOTES.md, "Places".
LIKELY, SURE = 0.5, 0.8
WEAKER = 0.5  # of the threshold of a line: what hangs together with it still belongs to it
SHORTEST_PX, SHORTEST = 12, 0.3  # of a piece of line, and as a share of the longest
JOINED_PX = 3  # by which lines are widened to their outline
TILE_PX, HALO_PX = 512, 16  # of the search for lines; the widest Gaussian reaches 12 pixels
SAMPLED = 4_000_000  # pixels from which a threshold is chosen
OUTLINED = 4_000_000  # pixels of the largest shape that is outlined as it is
SIMPLER_PX = 1.5  # by which an outline may be off
SUREST = 1e-6  # a heat map counts as no surer, so that one scale alone does not decide
DIAGONAL = np.sqrt(2)


@dataclasses.dataclass(frozen=True)
class Finding:
    """A crack, in pixels of the picture it was traced in, x to the right, y down.

    box: x, y, width, height; outlines: float64 [N, 2] each, closed, (x, y); probability: the most probable place, 0..1;
    length_px: along the middle of the dark line, None where none stands out from the surface.
    """

    box: tuple[float, float, float, float]
    outlines: list[np.ndarray]
    probability: float
    length_px: float | None


def heat(probabilities: np.ndarray, across: int) -> np.ndarray:
    """float32 [h + across - 1, w + across - 1]: for each cell the mean over the windows that hold it.

    `probabilities`: float [h, w] of windows that are `across` cells wide and one cell apart.
    """
    total, holding = (
        _sums(values, across) for values in (probabilities.astype(np.float64), np.ones(probabilities.shape))
    )
    return (total / holding).astype(np.float32)


def _sums(values: np.ndarray, across: int) -> np.ndarray:
    """Of the `across` x `across` values up to and with each, what lies outside being 0."""
    for axis in (0, 1):
        wide = np.pad(values, [(across, across - 1) if one == axis else (0, 0) for one in (0, 1)])
        sums = np.cumsum(wide, axis)
        count = values.shape[axis] + across - 1
        values = np.take(sums, np.arange(across, across + count), axis) - np.take(sums, np.arange(count), axis)
    return values


def together(maps: list[tuple[float, np.ndarray]], shape: tuple[int, int]) -> np.ndarray:
    """float32 `shape`: the mean in logits, place by place, of heat maps (scale, float32 [h, w]) whose cells are
    1 / scale times as large as those of the result."""
    total = np.zeros(shape)
    for scale, one in maps:
        rows, columns = ((np.arange(count) + 0.5) * scale - 0.5 for count in shape)
        sure = special.logit(np.clip(one.astype(np.float64), SUREST, 1 - SUREST))
        if scale != 1 or one.shape != shape:
            sure = ndimage.map_coordinates(sure, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")
        total += sure
    return special.expit(total / len(maps)).astype(np.float32)


def trace(
    warm: np.ndarray,
    cell_px: int,
    across: int,
    pixels: np.ndarray,
    lowest: float,
    spots: np.ndarray | None = None,
) -> list[Finding]:
    """The cracks of `pixels`, uint8 [H, W, C], where its heat map `warm`, float32 [h, w], of cells of `cell_px` pixels,
    `across` to a window, reaches `lowest`; the most probable first. `spots`, float32 [h, w], the probability of
    each cell by itself, says where in what is warm the crack lies."""
    hot = warm >= lowest
    near = hot & (warm >= NEAR * ndimage.maximum_filter(warm, across))
    areas, _ = ndimage.label(near if spots is None else _on_spots(hot, near, spots), np.ones((3, 3)))
    found = []
    for number, place in enumerate(ndimage.find_objects(areas), start=1):
        inside = areas[place] == number
        top, left = (side.start * cell_px for side in place)
        area = inside.repeat(cell_px, 0).repeat(cell_px, 1)
        part = pixels[top : top + area.shape[0], left : left + area.shape[1]]
        area = area[: part.shape[0], : part.shape[1]]
        if area.size:
            found.append(_traced(part, area, (left, top), float(warm[place][inside].max())))
    return sorted(found, key=lambda one: -one.probability)


def _on_spots(hot: np.ndarray, near: np.ndarray, spots: np.ndarray) -> np.ndarray:
    """bool [h, w]: the cells of `hot` that are surely cracked by themselves, with the likely ones that hang together
    with them; `near` where of what hangs together in `hot` no cell is sure."""
    cracked = _holding(hot & (spots >= LIKELY), hot & (spots >= SURE))
    return cracked | near & ~_holding(hot, cracked)


def _holding(cells: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """bool [h, w]: of `cells`, the pieces that hold a `wanted` one."""
    pieces, count = ndimage.label(cells, np.ones((3, 3)))
    kept = np.zeros(count + 1, bool)
    kept[pieces[wanted]] = True
    return kept[pieces]


def _traced(part: np.ndarray, area: np.ndarray, corner: tuple[int, int], probability: float) -> Finding:
    line = dark_line(part, area)
    seen = bool(line.any())
    length = _length(morphology.skeletonize(line)) if seen else None
    outlines = _outlines(line, JOINED_PX) if seen else _outlines(area, 0)
    limit = np.array(area.shape[::-1])
    outlines = [np.clip(one, 0, limit) + corner for one in outlines]
    every = np.concatenate(outlines)
    low, high = every.min(0), every.max(0)
    return Finding((*low.tolist(), *(high - low).tolist()), outlines, probability, length)


def _outlines(shape: np.ndarray, widened: int) -> list[np.ndarray]:
    """float64 [N, 2] each, (x, y), closed: around what of `shape`, bool [H, W], hangs together when it is widened by so
    many pixels. Of a large shape every second or third pixel is taken: a contour takes a hundred bytes a point."""
    step = max(int(np.ceil(np.sqrt(shape.size / OUTLINED))), 1)
    height, width = (-(-side // step) for side in shape.shape)
    page = np.zeros((height * step, width * step), bool)
    page[: shape.shape[0], : shape.shape[1]] = shape
    border = -(-widened // step) + 1
    coarse = np.pad(page.reshape(height, step, width, step).any((1, 3)), border)
    if widened:
        coarse = ndimage.binary_dilation(coarse, iterations=border - 1)
    found = [one for one in measure.find_contours(coarse.astype(np.float32), 0.5) if _is_outer(one)]
    # From the middles of pixels to their corners, where pixel 0 begins at 0.
    return [(_simpler(one, SIMPLER_PX / step)[:, ::-1] - border + 0.5) * step for one in found]


def _simpler(contour: np.ndarray, by: float) -> np.ndarray:
    """Fewer points (Douglas and Peucker, 1973), as long as an area is left."""
    simple = measure.approximate_polygon(contour, by)
    return simple if len(simple) >= 4 else contour


def _is_outer(contour: np.ndarray) -> bool:
    """Holes run the other way round."""
    y, x = contour[:, 0], contour[:, 1]
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) > 0


def dark_line(part: np.ndarray, area: np.ndarray) -> np.ndarray:
    """bool [H, W]: the dark lines of `part`, uint8 [H, W, C], inside `area`, bool [H, W]; none where none stands out.

    The larger eigenvalue of the Hessian, less the size of the other: dark across a line, even along it (Frangi et al.
    1998, Multiscale vessel enhancement filtering), over several widths. What counts is chosen by Otsu's method, and
    followed where it weakens.
    """
    strength = _strength(part, area)
    every = max(int(np.ceil(np.sqrt(area.size / SAMPLED))), 1)
    values = strength[::every, ::every][area[::every, ::every]]
    if not values.any():
        return np.zeros(area.shape, bool)
    enough = filters.threshold_otsu(values.astype(np.float32))
    pieces, count = ndimage.label(strength > WEAKER * enough, np.ones((3, 3)))
    sides = np.array([0, *(max(side.stop - side.start for side in place) for place in ndimage.find_objects(pieces))])
    kept = np.zeros(count + 1, bool)
    kept[pieces[strength > enough]] = True
    kept &= sides >= max(SHORTEST_PX, SHORTEST * sides[kept].max(initial=0))
    return kept[pieces]


def _strength(part: np.ndarray, area: np.ndarray) -> np.ndarray:
    """float16 [H, W]: how dark a line each pixel of `area` lies on. In tiles, on all cores: of a large photograph only
    the result is kept whole."""
    found = np.zeros(area.shape, np.float16)

    def fill(top: int, left: int) -> None:
        inside = slice(top, top + TILE_PX), slice(left, left + TILE_PX)
        if not area[inside].any():
            return
        y, x = max(top - HALO_PX, 0), max(left - HALO_PX, 0)
        grey = part[y : top + TILE_PX + HALO_PX, x : left + TILE_PX + HALO_PX].astype(np.float32).mean(-1)
        strongest = np.maximum.reduce([_ridge(grey, width) for width in LINE_WIDTHS])
        height, width = area[inside].shape
        found[inside] = strongest[top - y : top - y + height, left - x : left - x + width]

    places = [(top, left) for top in range(0, area.shape[0], TILE_PX) for left in range(0, area.shape[1], TILE_PX)]
    with futures.ThreadPoolExecutor(workers.count(0)) as pool:
        for done in [pool.submit(fill, *place) for place in places]:
            done.result()
    found[~area] = 0
    return found


def _ridge(grey: np.ndarray, width: float) -> np.ndarray:
    down, across, both = (
        width**2 * ndimage.gaussian_filter(grey, width, order=order, mode="nearest")
        for order in ((2, 0), (0, 2), (1, 1))
    )
    middle, half = (down + across) / 2, np.hypot((down - across) / 2, both)
    return np.maximum(middle + half - np.abs(middle - half), 0)


def _length(skeleton: np.ndarray) -> float:
    """Pixels along a skeleton one pixel wide: its links, those over a corner counted only where no straight ones lead
    the same way."""
    straight = sum(int((skeleton[a] & skeleton[b]).sum()) for a, b in _STRAIGHT)
    diagonal = int((skeleton[:-1, :-1] & skeleton[1:, 1:] & ~skeleton[:-1, 1:] & ~skeleton[1:, :-1]).sum())
    diagonal += int((skeleton[:-1, 1:] & skeleton[1:, :-1] & ~skeleton[:-1, :-1] & ~skeleton[1:, 1:]).sum())
    return float(straight + DIAGONAL * diagonal)


_ALL, _TO, _FROM = slice(None), slice(None, -1), slice(1, None)
_STRAIGHT = (((_TO, _ALL), (_FROM, _ALL)), ((_ALL, _TO), (_ALL, _FROM)))
