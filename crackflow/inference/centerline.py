"""The middle lines of a crack, and how long they are together.

Synopsis::

    lines = centerline.trace(strength, area, enough, cell_px=16)   # float64 [N, 2] each, (x, y), smooth
    note = centerline.no_length(lines, outline_area)               # why they have no length, "" where they have one
    centerline.length(lines)                                       # pixels

A threshold on dark pixels leaves spurs at every grain beside a crack and loops around every grain in it, and a skeleton
of them adds all up. Here the crack is the cheapest path through `area` between the ends that lie farthest apart,
where a pixel costs the less the darker the line is that it lies on (minimal paths: Cohen and Kimmel, IJCV 24:57, 1997).
What lies beside that path is done with; branches are the cheapest paths from what is left, the farthest first (TEASAR:
Sato et al., Pacific Graphics 2000). So no loop is left, the edges of a wide crack are one, and short spurs are none.
"""

import numpy as np
from scipy import ndimage
from skimage import graph

MAX_GRID = 3_000_000  # nodes of the grid that paths are looked for in, 130 MB: of a large area every third pixel or so
STEP_PX = 2  # between them, at least; of each block the strongest pixel is the node
GROUND_COST = 0.1  # of a line's strength, added to all: gaps are crossed, and not gone around
COST_POWER = 1.5  # of the strength; 1 cuts the bends of a faint crack
MAX_STRENGTH = 2.0  # times `enough`, from which on a pixel gets no cheaper: a stretch that is darker is no shorter way
BESIDE_PX, BESIDE = 12, 1.5  # what is done with beside a path: so many pixels, or times half the width of the band
MAX_BESIDE_PX = 48  # which is as far as the band of 64 pixels
MIN_BRANCH_CELLS = 1.5  # the network does not place a crack any better
# Of what is done with beside, three times half the band: its corners are no branches. At 2 the end of a band of 32
# pixels was one in two directions of twelve, 7 % of a line of 600.
MIN_BRANCH_WIDTHS = 2.5
MIN_CONTRAST = 0.5  # of `enough`, for a line to lead to a pixel; and of the first one's median, for a branch
SMOOTHING_PX = 3.0  # standard deviation of the Gaussian along a path before it is measured: directions within 1 %
# What is longer than twice the width and height of its box together is a net: the way from corner to corner of a box
# along its sides is once, and of the cracks drawn in CFD, DeepCrack and uav75 95, 98 and 99 % are below twice.
MAX_TURNS = 2.0
NET_TRACED = 2.0  # times that, after which a net is traced no further: noise took 5 s for 1.5 megapixels
MIN_WIDTH_PX = 4.0  # of the outline along a line, which is drawn 3 pixels beyond it on each side; less is drawn twice
NO_LINE = "no dark line stands out from the surface"
NET = "a net of lines, not one line: its area says more than a length"


def length(lines: list[np.ndarray]) -> float:
    """Pixels along `lines`, float64 [N, 2] each."""
    return float(sum(np.hypot(*np.diff(line, axis=0).T).sum() for line in lines))


def no_length(lines: list[np.ndarray], outline_px: float) -> str:
    """Why `lines`, float64 [N, 2] each, in outlines that hold `outline_px` pixels, have no length; "" where they have
    one: it is then at most outline_px / MIN_WIDTH_PX, and that of branched ones MAX_TURNS times the width and height of
    their box."""
    if not lines:
        return NO_LINE
    long = length(lines)
    if len(lines) > 1 and long > MAX_TURNS * np.ptp(np.concatenate(lines), axis=0).sum():
        return NET
    return NET if long * MIN_WIDTH_PX > outline_px else ""


def smooth(line: np.ndarray, spacing_px: float = 1.0) -> np.ndarray:
    """float64 [N, 2]: `line`, points about `spacing_px` apart, without the stairs of its pixels; its ends stay.

    Every point becomes the mean of itself and its neighbours, so often that it is a Gaussian of SMOOTHING_PX.
    """
    line = line.astype(np.float64)
    for _ in range(max(round(1.5 * (SMOOTHING_PX / spacing_px) ** 2), 1)):
        line[1:-1] = (line[:-2] + line[1:-1] + line[2:]) / 3
    return line


def trace(strength: np.ndarray, area: np.ndarray, enough: float, cell_px: int) -> list[np.ndarray]:
    """The lines in `area`, bool [H, W]: the first path and its branches, float64 [N, 2] each, (x, y), (0, 0) being the
    corner of the first pixel. `strength`, float [H, W]: how dark a line each pixel lies on, from `enough`, above 0, on
    surely. `cell_px`: side of the squares that the area is made of."""
    step = max(int(np.ceil(np.sqrt(area.size / MAX_GRID))), STEP_PX)
    side = max(cell_px // step, 1)
    grid, points = _strongest(np.where(area, strength, 0), step)
    inside = _blocks(area, step).any(2)
    sure, likely = np.argwhere(grid > enough), _strongest_of_cells(grid, enough, side)
    if not len(sure):
        return []
    costs = np.where(inside, (GROUND_COST + np.minimum(grid / enough, MAX_STRENGTH)) ** -COST_POWER, -1)
    strongest = np.unravel_index(grid.argmax(), grid.shape)
    end = _farthest_first(graph.MCP_Geometric(costs).find_costs([strongest])[0], sure)[0]
    paths = graph.MCP_Geometric(costs)
    far = paths.find_costs([tuple(end)])[0]
    # The ends of the first path are surely on a line: to what is likely alone the way is dear, and so it seems far.
    targets = np.concatenate([_farthest_first(far, sure), _farthest_first(far, likely)])
    cells = np.pad(_blocks(inside, side).any(2), 1)
    thickness = ndimage.distance_transform_edt(cells)[1:-1, 1:-1] * cell_px
    shortest = np.maximum(thickness, MIN_BRANCH_CELLS * cell_px).repeat(side, 0).repeat(side, 1)
    half_width = ndimage.distance_transform_edt(np.pad(grid > MIN_CONTRAST * enough, 1))[1:-1, 1:-1] * step
    beside = np.clip(BESIDE * half_width, BESIDE_PX, MAX_BESIDE_PX)
    return _branches(paths, targets, grid, points, step, shortest, np.ceil(beside / step).astype(int))


def _farthest_first(far: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Those of `targets` that can be reached, `far`, float [h, w], being what it costs."""
    costs = far[tuple(targets.T)]
    known = np.isfinite(costs)
    return targets[known][np.argsort(-costs[known], kind="stable")]


def _branches(
    paths: graph.MCP_Geometric,
    targets: np.ndarray,
    grid: np.ndarray,
    points: np.ndarray,
    step: int,
    shortest: np.ndarray,
    beside: np.ndarray,
) -> list[np.ndarray]:
    """Lines to the `targets`, one after the other, that no earlier line has passed by, within `beside`, int [h, w].
    `shortest`, [h, w]: how long a branch from there has to be, no less than half the thickness of the area."""
    disks = {one: _disk(one) for one in np.unique(beside)}
    radius = max(disks)
    done = np.zeros((grid.shape[0] + 2 * radius, grid.shape[1] + 2 * radius), bool)  # moved by `radius`
    lines, along, widths, usual, total = [], np.zeros((0, 2)), np.zeros(0), 0.0, 0.0
    most = NET_TRACED * MAX_TURNS * step * sum(grid.shape)
    for target in targets:
        if done[target[0] + radius, target[1] + radius]:
            continue
        path = np.array(paths.traceback(tuple(target)))[::-1]
        met = done[path[:, 0] + radius, path[:, 1] + radius]
        path = path[: met.argmax()] if met.any() else path
        for row, column in path:
            wide = beside[row, column]
            rows, columns = (slice(at + radius - wide, at + radius + wide + 1) for at in (row, column))
            done[rows, columns] |= disks[wide]
        line, contrast, wide = points[tuple(path.T)], float(np.median(grid[tuple(path.T)])), beside[tuple(path.T)]
        if lines:  # and on to the nearest point of what is there
            away = np.hypot(*(along - line[-1]).T)
            nearest, thickest = away.argmin(), widths[away <= away.min() + MAX_BESIDE_PX].max()
            line = smooth(np.concatenate([line, along[[nearest]]]), step)
            limit = max(shortest[tuple(path[-1])], MIN_BRANCH_WIDTHS * step * thickest)
            if length([line]) < limit or contrast < MIN_CONTRAST * usual:
                continue
            wide = np.append(wide, widths[nearest])
        else:
            line, usual = smooth(line, step), contrast
        lines.append(line)
        total += length([line])
        if total > most:
            break
        along, widths = np.concatenate([along, line]), np.concatenate([widths, wide])
    return lines


def _disk(radius: int) -> np.ndarray:
    return np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) <= radius


def _blocks(values: np.ndarray, step: int) -> np.ndarray:
    """[h, w, step * step]: the blocks of `values`, [H, W], filled up with 0."""
    height, width = (-(-side // step) for side in values.shape)
    page = np.zeros((height * step, width * step), values.dtype)
    page[: values.shape[0], : values.shape[1]] = values
    return page.reshape(height, step, width, step).swapaxes(1, 2).reshape(height, width, step * step)


def _strongest(strength: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """(float32 [h, w], the largest of each block, and float64 [h, w, 2], (x, y), the middle of its pixel)."""
    blocks = _blocks(strength, step)
    best = blocks.argmax(2)
    rows, columns = np.indices(best.shape)
    points = np.stack([columns * step + best % step, rows * step + best // step], 2) + 0.5
    return blocks.max(2).astype(np.float32), points


def _strongest_of_cells(grid: np.ndarray, enough: float, side: int) -> np.ndarray:
    """int [N, 2], (row, column) in `grid` of each cell that a line may lie in."""
    blocks = _blocks(grid, side)
    best = blocks.argmax(2)
    rows, columns = np.indices(best.shape)
    places = np.stack([rows * side + best // side, columns * side + best % side], 2)
    return places[blocks.max(2) > MIN_CONTRAST * enough]
