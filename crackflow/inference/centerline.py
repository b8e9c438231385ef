"""Traces the centerlines of a crack and measures their total length.

Synopsis::

    lines = centerline.trace(strength, area, threshold, cell_px=16)   # float64 [N, 2] each, (x, y), smooth
    note = centerline.no_length(lines, outline_area)                  # why they have no length, "" if they have one
    centerline.length(lines)                                          # pixels

A threshold on dark pixels leaves spurs at every grain beside a crack and loops around every grain in it, and their
skeleton adds them all up. Here the crack is the cheapest path through `area` between the ends that lie farthest apart,
where a pixel costs less on a darker line (minimal paths: Cohen and Kimmel, IJCV 24:57, 1997). The surroundings of that
path are then removed; branches are the cheapest paths from the remaining area, the farthest first (TEASAR: Sato et al.,
Pacific Graphics 2000). So there are no loops, a wide crack has one line, not two edges, and short spurs are dropped.
"""

import numpy as np
from scipy import ndimage
from skimage import graph

MAX_GRID = 3_000_000  # nodes of the path grid, 130 MB: in a large area about every third pixel
STEP_PX = 2  # minimum distance of grid nodes; the strongest pixel of each block is its node
GROUND_COST = 0.1  # of a line's strength, added to all: paths cross gaps instead of going around them
COST_POWER = 1.5  # of the strength; with 1, paths cut the bends of a faint crack
MAX_STRENGTH = 2.0  # times `threshold`, above which a pixel gets no cheaper: a darker stretch is no shorter path
BESIDE_PX, BESIDE = 12, 1.5  # the removed surroundings of a path: so many pixels, or times half the width of the band
MAX_BESIDE_PX = 48  # their maximum, which suffices for a band of 64 pixels
MIN_BRANCH_CELLS = 1.5  # the network does not locate a crack any better
# Of the removed surroundings, three times half the band: its corners are no branches. At 2 the end of a band of 32
# pixels was a branch in two directions of twelve, 7 % of a line of 600.
MIN_BRANCH_WIDTHS = 2.5
MIN_CONTRAST = 0.5  # of `threshold`, for a line to lead to a pixel; and of the first line's median, for a branch
SMOOTHING_PX = 3.0  # standard deviation of the Gaussian along a path before it is measured: directions within 1 %
# A line longer than twice the width plus height of its box is a net: a path from corner to corner along the sides of
# the box is once, and of the cracks drawn in CFD, DeepCrack and uav75 95, 98 and 99 % are below twice.
MAX_TURNS = 2.0
NET_TRACED = 2.0  # times that, after which tracing of a net stops: noise took 5 s for 1.5 megapixels
MIN_WIDTH_PX = 4.0  # of the outline along a line, which extends 3 pixels on each side; less means a line drawn twice
NO_LINE = "no dark line stands out from the surface"
NET = "a net of lines, not one line: its area says more than a length"


def length(lines: list[np.ndarray]) -> float:
    """The total length of `lines`, float64 [N, 2] each, in pixels."""
    return float(sum(np.hypot(*np.diff(line, axis=0).T).sum() for line in lines))


def no_length(lines: list[np.ndarray], outline_px: float) -> str:
    """Why a crack has no length.

    Args:
        lines: float64 [N, 2] each, (x, y).
        outline_px: area of the crack's outlines in pixels.

    Returns:
        The reason, or "" if the length counts: it is then at most outline_px / MIN_WIDTH_PX, and that of branched
        lines at most MAX_TURNS times the width plus height of their box.
    """
    if not lines:
        return NO_LINE
    total = length(lines)
    if len(lines) > 1 and total > MAX_TURNS * np.ptp(np.concatenate(lines), axis=0).sum():
        return NET
    return NET if total * MIN_WIDTH_PX > outline_px else ""


def smooth(line: np.ndarray, spacing_px: float = 1.0) -> np.ndarray:
    """Smooth away the pixel steps of a line; its ends stay.

    Each point becomes the mean of itself and its neighbours, repeatedly, until that equals a Gaussian of SMOOTHING_PX.

    Args:
        line: [N, 2], (x, y).
        spacing_px: approximate distance of its points in pixels.

    Returns:
        float64 [N, 2].
    """
    line = line.astype(np.float64)
    for _ in range(max(round(1.5 * (SMOOTHING_PX / spacing_px) ** 2), 1)):
        line[1:-1] = (line[:-2] + line[1:-1] + line[2:]) / 3
    return line


def trace(strength: np.ndarray, area: np.ndarray, threshold: float, cell_px: int) -> list[np.ndarray]:
    """Trace the centerlines of a crack.

    Args:
        strength: float [H, W], how strongly each pixel lies on a dark line.
        area: bool [H, W], where to trace.
        threshold: the strength, above 0, above which a pixel certainly lies on a line.
        cell_px: side of the square cells that compose `area`, in pixels.

    Returns:
        The first path and its branches, float64 [N, 2] each, (x, y); (0, 0) is the corner of the first pixel. [] if no
        pixel exceeds `threshold`.
    """
    step = max(int(np.ceil(np.sqrt(area.size / MAX_GRID))), STEP_PX)
    side = max(cell_px // step, 1)
    grid, points = _block_maxima(np.where(area, strength, 0), step)
    inside = _split_blocks(area, step).any(2)
    certain, likely = np.argwhere(grid > threshold), _likely_cell_maxima(grid, threshold, side)
    if not len(certain):
        return []
    costs = np.where(inside, (GROUND_COST + np.minimum(grid / threshold, MAX_STRENGTH)) ** -COST_POWER, -1)
    strongest = np.unravel_index(grid.argmax(), grid.shape)
    end = _sort_farthest_first(graph.MCP_Geometric(costs).find_costs([strongest])[0], certain)[0]
    paths = graph.MCP_Geometric(costs)
    path_cost = paths.find_costs([tuple(end)])[0]
    # The ends of the first path are certain pixels: paths to merely likely ones are expensive, so they seem far away.
    targets = np.concatenate([_sort_farthest_first(path_cost, certain), _sort_farthest_first(path_cost, likely)])
    cells = np.pad(_split_blocks(inside, side).any(2), 1)
    thickness = ndimage.distance_transform_edt(cells)[1:-1, 1:-1] * cell_px
    min_branch_px = np.maximum(thickness, MIN_BRANCH_CELLS * cell_px).repeat(side, 0).repeat(side, 1)
    half_width = ndimage.distance_transform_edt(np.pad(grid > MIN_CONTRAST * threshold, 1))[1:-1, 1:-1] * step
    beside = np.clip(BESIDE * half_width, BESIDE_PX, MAX_BESIDE_PX)
    return _trace_branches(paths, targets, grid, points, step, min_branch_px, np.ceil(beside / step).astype(int))


def _sort_farthest_first(path_cost: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The reachable ones of `targets`, int [N, 2], by descending `path_cost`, float [h, w]."""
    costs = path_cost[tuple(targets.T)]
    is_reachable = np.isfinite(costs)
    return targets[is_reachable][np.argsort(-costs[is_reachable], kind="stable")]


def _trace_branches(
    paths: graph.MCP_Geometric,
    targets: np.ndarray,
    grid: np.ndarray,
    points: np.ndarray,
    step: int,
    min_branch_px: np.ndarray,
    beside: np.ndarray,
) -> list[np.ndarray]:
    """Lines to those `targets`, in their order, that no earlier line has passed within `beside`.

    Args:
        paths: cheapest paths from the end of the first line.
        targets: int [N, 2], (row, column) in the grid, in order of priority.
        grid: float32 [h, w], the strength of each node.
        points: float64 [h, w, 2], (x, y) of each node.
        step: distance of the nodes in pixels.
        min_branch_px: [h, w], the minimum length of a branch from there; at least half the thickness of the area.
        beside: int [h, w], radius around a line, in nodes, that is removed.
    """
    disks = {disk_radius: _disk(disk_radius) for disk_radius in np.unique(beside)}
    radius = max(disks)
    visited = np.zeros((grid.shape[0] + 2 * radius, grid.shape[1] + 2 * radius), bool)  # padded by `radius`
    lines, line_points, widths, first_contrast, total = [], np.zeros((0, 2)), np.zeros(0), 0.0, 0.0
    max_total = NET_TRACED * MAX_TURNS * step * sum(grid.shape)
    for target in targets:
        if visited[target[0] + radius, target[1] + radius]:
            continue
        path = np.array(paths.traceback(tuple(target)))[::-1]
        is_visited = visited[path[:, 0] + radius, path[:, 1] + radius]
        path = path[: is_visited.argmax()] if is_visited.any() else path
        for row, column in path:
            width = beside[row, column]
            rows, columns = (slice(center + radius - width, center + radius + width + 1) for center in (row, column))
            visited[rows, columns] |= disks[width]
        line, contrast, width = points[tuple(path.T)], float(np.median(grid[tuple(path.T)])), beside[tuple(path.T)]
        if lines:  # extend the branch to the nearest point of the lines so far
            distance = np.hypot(*(line_points - line[-1]).T)
            nearest, thickest = distance.argmin(), widths[distance <= distance.min() + MAX_BESIDE_PX].max()
            line = smooth(np.concatenate([line, line_points[[nearest]]]), step)
            limit = max(min_branch_px[tuple(path[-1])], MIN_BRANCH_WIDTHS * step * thickest)
            if length([line]) < limit or contrast < MIN_CONTRAST * first_contrast:
                continue
            width = np.append(width, widths[nearest])
        else:
            line, first_contrast = smooth(line, step), contrast
        lines.append(line)
        total += length([line])
        if total > max_total:
            break
        line_points, widths = np.concatenate([line_points, line]), np.concatenate([widths, width])
    return lines


def _disk(radius: int) -> np.ndarray:
    return np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) <= radius


def _split_blocks(values: np.ndarray, step: int) -> np.ndarray:
    """[h, w, step * step]: the blocks of `values`, [H, W], padded with 0."""
    height, width = (-(-side // step) for side in values.shape)
    padded = np.zeros((height * step, width * step), values.dtype)
    padded[: values.shape[0], : values.shape[1]] = values
    return padded.reshape(height, step, width, step).swapaxes(1, 2).reshape(height, width, step * step)


def _block_maxima(strength: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """The maximum of each block, float32 [h, w], and the centre of its pixel, float64 [h, w, 2], (x, y)."""
    blocks = _split_blocks(strength, step)
    best = blocks.argmax(2)
    rows, columns = np.indices(best.shape)
    points = np.stack([columns * step + best % step, rows * step + best // step], 2) + 0.5
    return blocks.max(2).astype(np.float32), points


def _likely_cell_maxima(grid: np.ndarray, threshold: float, side: int) -> np.ndarray:
    """int [N, 2], (row, column) in `grid`: the strongest node of each cell that a line may cross."""
    blocks = _split_blocks(grid, side)
    best = blocks.argmax(2)
    rows, columns = np.indices(best.shape)
    positions = np.stack([rows * side + best // side, columns * side + best % side], 2)
    return positions[blocks.max(2) > MIN_CONTRAST * threshold]
