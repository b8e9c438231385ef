"""Where the cracks of a photograph are: from the scores of its windows to outlines, lengths and probabilities.

Synopsis::

    heat = crack_tracing.window_heatmap(probabilities, across=8)  # float32 [h, w] of windows -> [h + 7, w + 7] of cells
    found = crack_tracing.extract_cracks(heat, cell_px=16, across=8, pixels=pixels, lowest=0.4)
    found[0].outlines, found[0].length_px, found[0].probability

A window says that there is a crack somewhere in it. A place is as probable as the windows that hold it are on average:
all of them hold a crack that lies there. Inside what is probable enough, the dark line itself is looked for in the
pixels, and its middle (`inference.centerline`) gives the length, an estimate of what can be seen, not of what there is.
"""

import dataclasses
from concurrent import futures

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage, special
from skimage import filters, measure

from crackflow.core import process_pool
from crackflow.inference import centerline

LINE_PX = 1.5  # Gaussian, in pixels, that dark lines are looked for with, of the picture and of it made smaller:
OCTAVES = 4  # 1.5, 3, 6 and 12 pixels; a Gaussian answers most to a band twice as wide, the last up to 40 pixels
PEAK_FRACTION = 0.5  # of the most probable place around: further than half a window beside a crack it is less
# Where the network can tell which cells are cracked: those that surely are, and the likely ones that hang together with
# them (hysteresis, as in Canny, IEEE PAMI 8:679, 1986). Chosen on made surfaces: BUILD_NOTES.md, "Places".
LOW_THRESHOLD, HIGH_THRESHOLD = 0.5, 0.8
HYSTERESIS_RATIO = 0.5  # of the usual strength of a line, for what hangs together with it to be part of it
REACH = 4  # cells, half a window, beyond those of a crack in which its dark line is followed while it is probable there
GOES_ON = 8  # pixels of the line in a cell, for it to be one of the crack's
DILATION_PX = 3  # by which lines are widened to their outline
TILE_PX, HALO_PX = 512, 64  # of the search for lines; the widest Gaussian reaches 48 pixels
SAMPLED = 4_000_000  # pixels from which a threshold is chosen
OUTLINED = 4_000_000  # pixels of the largest shape that is outlined as it is
SIMPLIFY_TOLERANCE_PX = 1.5  # by which an outline may be off
LOGIT_CLIP = 1e-6  # a heat map counts as no surer, so that one scale alone does not decide


@dataclasses.dataclass(frozen=True)
class TracedCrack:
    """A crack, in pixels of the picture it was traced in, x to the right, y down.

    box: x, y, width, height; outlines: float64 [N, 2] each, closed, (x, y); probability: the most probable place, 0..1;
    length_px: along the middle of the dark line, None for the reason that `length_note` gives.
    """

    box: tuple[float, float, float, float]
    outlines: list[np.ndarray]
    probability: float
    length_px: float | None
    length_note: str = ""


def window_heatmap(probabilities: np.ndarray, across: int) -> np.ndarray:
    """float32 [..., h + across - 1, w + across - 1]: for each cell the mean over the windows that hold it.

    `probabilities`: float [..., h, w] of windows that are `across` cells wide and one cell apart.
    """
    total, holding = (
        _sums(values, across) for values in (probabilities.astype(np.float64), np.ones(probabilities.shape[-2:]))
    )
    return (total / holding).astype(np.float32)


def _sums(values: np.ndarray, across: int) -> np.ndarray:
    """Of the `across` x `across` values up to and with each, what lies outside being 0."""
    for axis in (values.ndim - 2, values.ndim - 1):
        wide = np.pad(values, [(across, across - 1) if one == axis else (0, 0) for one in range(values.ndim)])
        sums = np.cumsum(wide, axis)
        count = values.shape[axis] + across - 1
        values = np.take(sums, np.arange(across, across + count), axis) - np.take(sums, np.arange(count), axis)
    return values


def fuse_scales(maps: list[tuple[float, np.ndarray]], shape: tuple[int, int], reach: int = 0) -> np.ndarray:
    """float32 [..., *shape]: the mean in logits, place by place, of heat maps (scale, float32 [..., h, w]) whose cells
    are 1 / scale times as large as those of the result. Of several, each counts by its best place within `reach`."""
    total = 0.0
    for scale, one in maps:
        sure = special.logit(np.clip(one.astype(np.float64), LOGIT_CLIP, 1 - LOGIT_CLIP))
        if scale != 1 or one.shape[-2:] != shape:
            for axis, count in zip((-2, -1), shape, strict=True):
                sure = _between(sure, (np.arange(count) + 0.5) * scale - 0.5, axis)
        sizes = [1] * (sure.ndim - 2) + [2 * reach + 1] * 2
        total += ndimage.maximum_filter(sure, sizes) if len(maps) > 1 else sure
    return special.expit(total / len(maps)).astype(np.float32)


def _between(values: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """`values` at `places`, float64 [N], along `axis`, in straight lines; beyond the first and last as these are."""
    places = np.clip(places, 0, values.shape[axis] - 1)
    low = places.astype(np.int64)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    share = (places - low).reshape(-1, *[1] * (-1 - axis))
    return values.take(low, axis) * (1 - share) + values.take(high, axis) * share


def extract_cracks(
    warm: np.ndarray,
    cell_px: int,
    across: int,
    pixels: np.ndarray,
    lowest: float,
    spots: np.ndarray | None = None,
    decided: np.ndarray | None = None,
) -> list[TracedCrack]:
    """The cracks of `pixels`, uint8 [H, W, C], where its heat map `warm`, float32 [h, w], of cells of `cell_px` pixels,
    `across` to a window, reaches `lowest`; the most probable first. `spots`, float32 [h, w], the probability of
    each cell by itself, says where in what is warm the crack lies. `decided`, float32 [h, w]: `warm` less what the size
    of the photograph explains; a crack reaches `lowest` in it somewhere, and goes as far as `warm` does."""
    decided = warm if decided is None else decided
    hot = warm >= lowest
    near = hot & (warm >= PEAK_FRACTION * ndimage.maximum_filter(warm, across))
    areas, count = ndimage.label(near if spots is None else _hysteresis_mask(hot, near, spots), np.ones((3, 3)))
    free, found = hot & (areas == 0), []
    probabilities = _peaks(hot, areas, count, decided, lowest)
    for number, place in enumerate(ndimage.find_objects(areas), start=1):
        around = tuple(slice(max(side.start - REACH, 0), side.stop + REACH) for side in place)
        cells = areas[around] == number
        top, left = (side.start * cell_px for side in around)
        part = pixels[top : top + cells.shape[0] * cell_px, left : left + cells.shape[1] * cell_px]
        probability = probabilities[number - 1]
        if probability >= lowest and _in_pixels(cells, cell_px, part.shape[:2]).any():
            traced, used = _traced(part, cells, free[around], cell_px, probability)
            free[around] &= ~used
            found.append(_moved(traced, left, top))
    return sorted(found, key=lambda one: -one.probability)


def _peaks(hot: np.ndarray, areas: np.ndarray, count: int, decided: np.ndarray, lowest: float) -> list[float]:
    """The highest of `decided` in each of `areas`, int [h, w], 1 to `count`. Where it reaches `lowest` in a piece of
    `hot` beside its areas alone, that counts for them: what makes a photograph cracked is found in it."""
    if not count:
        return []
    pieces, _ = ndimage.label(hot, np.ones((3, 3)))
    numbers = np.arange(1, count + 1)
    own, piece = ndimage.maximum(decided, areas, numbers), ndimage.maximum(pieces, areas, numbers).astype(int)
    highest = ndimage.maximum(decided, pieces, piece)
    served = np.isin(piece, piece[own >= lowest])
    return np.where(served, own, highest).tolist()


def _moved(traced: TracedCrack, left: int, top: int) -> TracedCrack:
    x, y, *size = traced.box
    outlines = [one + (left, top) for one in traced.outlines]
    return dataclasses.replace(traced, box=(x + left, y + top, *size), outlines=outlines)


def _in_pixels(cells: np.ndarray, cell_px: int, shape: tuple[int, int]) -> np.ndarray:
    """bool `shape`: the pixels of `cells`."""
    return cells.repeat(cell_px, 0).repeat(cell_px, 1)[: shape[0], : shape[1]]


def _hysteresis_mask(hot: np.ndarray, near: np.ndarray, spots: np.ndarray) -> np.ndarray:
    """bool [h, w]: the cells of `hot` that are surely cracked by themselves, with the likely ones that hang together
    with them; `near` where of what hangs together in `hot` no cell is sure."""
    cracked = _components_containing(hot & (spots >= LOW_THRESHOLD), hot & (spots >= HIGH_THRESHOLD))
    return cracked | near & ~_components_containing(hot, cracked)


def _components_containing(cells: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """bool [h, w]: of `cells`, the pieces that hold a `wanted` one."""
    pieces, count = ndimage.label(cells, np.ones((3, 3)))
    kept = np.zeros(count + 1, bool)
    kept[pieces[wanted]] = True
    return kept[pieces]


def _traced(
    part: np.ndarray, cells: np.ndarray, free: np.ndarray, cell_px: int, probability: float
) -> tuple[TracedCrack, np.ndarray]:
    """(the crack in `cells` of `part`, and bool like `cells`: those of `free` that its line goes on in)."""
    shape = part.shape[:2]
    near = free & ndimage.binary_dilation(cells, np.ones((3, 3)), iterations=REACH)
    area = _in_pixels(cells, cell_px, shape)
    strength = _strength(part, _in_pixels(cells | near, cell_px, shape))
    enough = _enough(strength, area)
    used, lines = np.zeros(cells.shape, bool), []
    if enough:
        usual = float(np.median(strength[area & (strength > enough)]))
        used = _continued(strength, cells, near, usual, cell_px)
        area = _in_pixels(cells | used, cell_px, shape)
        lines = centerline.trace(strength, area, enough, cell_px)
    line = _dark_line(strength, area, max(enough, HYSTERESIS_RATIO * usual), lines) if lines else area
    outlines = [np.clip(one, 0, shape[::-1]) for one in _outlines(line, DILATION_PX if lines else 0)]
    every = np.concatenate(outlines)
    low, high = every.min(0), every.max(0)
    length, note = centerline.length(lines), centerline.no_length(lines, sum(map(_area, outlines)))
    box = (*low.tolist(), *(high - low).tolist())
    return TracedCrack(box, outlines, probability, None if note else length, note), used


def _continued(strength: np.ndarray, cells: np.ndarray, near: np.ndarray, usual: float, cell_px: int) -> np.ndarray:
    """bool [h, w]: the cells of `near` in which the dark line of `cells` goes on, as strong as it mostly is there."""
    shape, square = strength.shape, np.ones((3, 3))
    area, beside = (_in_pixels(one, cell_px, shape) for one in (cells, near))
    strong = (strength >= usual) & (area | beside)
    pieces, _ = ndimage.label(_components_containing(strong, strong & area) & beside, square)
    long = [max(side.stop - side.start for side in place) >= cell_px for place in ndimage.find_objects(pieces)]
    line = np.zeros((near.shape[0] * cell_px, near.shape[1] * cell_px), bool)
    line[: shape[0], : shape[1]] = np.array([False, *long])[pieces]
    return near & (line.reshape(near.shape[0], cell_px, near.shape[1], cell_px).sum((1, 3)) >= GOES_ON)


def _area(outline: np.ndarray) -> float:
    x, y = outline.T
    return abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2


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
    return [(_simpler(one, SIMPLIFY_TOLERANCE_PX / step)[:, ::-1] - border + 0.5) * step for one in found]


def _simpler(contour: np.ndarray, by: float) -> np.ndarray:
    """Fewer points (Douglas and Peucker, 1973), as long as an area is left."""
    simple = measure.approximate_polygon(contour, by)
    return simple if len(simple) >= 4 else contour


def _is_outer(contour: np.ndarray) -> bool:
    """Holes run the other way round."""
    y, x = contour[:, 0], contour[:, 1]
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) > 0


def _enough(strength: np.ndarray, area: np.ndarray) -> float:
    """From which strength on a pixel of `area` surely lies on a line, by Otsu's method; 0 where none stands out."""
    every = max(int(np.ceil(np.sqrt(area.size / SAMPLED))), 1)
    values = strength[::every, ::every][area[::every, ::every]]
    return float(filters.threshold_otsu(values.astype(np.float32))) if values.any() else 0.0


def _dark_line(strength: np.ndarray, area: np.ndarray, enough: float, lines: list[np.ndarray]) -> np.ndarray:
    """bool [H, W]: `lines`, float64 [N, 2] each, (x, y), and what of `area` is stronger than `enough` and touches
    them."""
    page = Image.new("1", area.shape[::-1])
    for line in lines:
        ImageDraw.Draw(page).line([tuple(at) for at in line], fill=1)
    middle = np.asarray(page)
    return _components_containing(middle | (strength > enough) & area, middle)


def _strength(part: np.ndarray, area: np.ndarray) -> np.ndarray:
    """float16 [H, W]: how dark a line each pixel of `area` lies on. In tiles, on all cores: of a large photograph only
    the result is kept whole.

    The larger eigenvalue of the Hessian, less the size of the other: dark across a line, even along it (Frangi et al.
    1998, Multiscale vessel enhancement filtering), the largest over several widths: where only narrow ones are looked
    for, each edge of a wide crack is a line.
    """
    found, coarsest = np.zeros(area.shape, np.float16), 2 ** (OCTAVES - 1)

    def fill(top: int, left: int) -> None:
        inside = slice(top, top + TILE_PX), slice(left, left + TILE_PX)
        if not area[inside].any():
            return
        # From a multiple of the coarsest pixel on, so that tiles agree.
        y, x = (max(start - HALO_PX, 0) // coarsest * coarsest for start in (top, left))
        strongest = _ridges(part[y : top + TILE_PX + HALO_PX, x : left + TILE_PX + HALO_PX].astype(np.float32).mean(-1))
        height, width = area[inside].shape
        found[inside] = strongest[top - y : top - y + height, left - x : left - x + width]

    places = [(top, left) for top in range(0, area.shape[0], TILE_PX) for left in range(0, area.shape[1], TILE_PX)]
    with futures.ThreadPoolExecutor(process_pool.count(0)) as pool:
        for done in [pool.submit(fill, *place) for place in places]:
            done.result()
    found[~area] = 0
    return found


def _ridges(grey: np.ndarray) -> np.ndarray:
    """float32 [H, W]: the largest of all octaves; the coarser ones of means of 2 x 2, 4 x 4, ... pixels."""
    coarsest, (height, width) = 2 ** (OCTAVES - 1), grey.shape
    small = np.pad(grey, [(0, -side % coarsest) for side in grey.shape], mode="edge")
    size, strongest = small.shape[::-1], _ridge(small)
    for _ in range(OCTAVES - 1):
        small = small.reshape(small.shape[0] // 2, 2, small.shape[1] // 2, 2).mean((1, 3))
        wide = Image.fromarray(_ridge(small)).resize(size, Image.Resampling.BILINEAR)
        np.maximum(strongest, np.asarray(wide), out=strongest)
    return strongest[:height, :width]


def _ridge(grey: np.ndarray) -> np.ndarray:
    down, across, both = (
        LINE_PX**2 * ndimage.gaussian_filter(grey, LINE_PX, order=order, mode="nearest")
        for order in ((2, 0), (0, 2), (1, 1))
    )
    middle, half = (down + across) / 2, np.hypot((down - across) / 2, both)
    return np.maximum(middle + half - np.abs(middle - half), 0)
