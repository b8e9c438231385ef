"""Widths of cracks as findings.json holds them: lines with widths, intervals, millimetres, and checks of what was read.

Synopsis::

    width_results.centerline(lines, points, branches, widths)      # [{"points": [[x, y], ...], "widths_px": [...]}]
    width_results.in_mm({"median": {...}, "p95": {...}, "max": {...}}, mm_per_px=0.2)
    width_results.are_valid(centerline, width_px)                  # of a log that somebody may have edited
"""

import numpy as np
from scipy import spatial
from skimage import measure

SIMPLIFY_PX = 0.5  # of the lines that are reported
MAX_GAP_PX = 40.0  # between their points
NEAR_PX = 14.0  # of a point, within which a width was measured that counts for it
STATISTICS, LIMITS = ("median", "p95", "max"), ("blur_px", "measurable_px", "visible_px")


def centerline(lines: list[np.ndarray], points: np.ndarray, branches: np.ndarray, widths: np.ndarray) -> list[dict]:
    """The lines with fewer points, each with the width that was measured nearest to it in its branch.

    Args:
        lines: float64 [N, 2] each, (x, y), one per branch.
        points: float64 [M, 2], where widths were measured.
        branches: int [M], the branch of each.
        widths: float64 [M], pixels; not a number where there is none.

    Returns:
        One {"points": [[x, y], ...], "widths_px": [width or None, ...]} per branch.
    """
    result = []
    for number, line in enumerate(lines):
        own, simple = branches == number, _simplify(line)
        values: list[float | None] = [None] * len(simple)
        if own.any():
            distance, nearest = spatial.cKDTree(points[own]).query(simple)
            width = widths[own][nearest]
            usable = (distance <= NEAR_PX) & np.isfinite(width)
            values = [round(float(value), 2) if use else None for value, use in zip(width, usable, strict=True)]
        result.append({"points": [rounded(point) for point in simple], "widths_px": values})
    return result


def rounded(point: np.ndarray) -> list[float]:
    """[x, y] to a tenth of a pixel."""
    return [round(float(value), 1) for value in point]


def _simplify(line: np.ndarray) -> np.ndarray:
    """Fewer points (Douglas and Peucker, 1973), at most MAX_GAP_PX apart, so that widths are reported everywhere."""
    simple = measure.approximate_polygon(line, SIMPLIFY_PX)
    parts = [simple[:1]]
    for start, end in zip(simple[:-1], simple[1:], strict=True):
        count = max(int(np.ceil(np.hypot(*(end - start)) / MAX_GAP_PX)), 1)
        parts.append(start + (end - start) * (np.arange(1, count + 1) / count)[:, None])
    return np.concatenate(parts)


def in_mm(width_px: dict | None, mm_per_px: float) -> dict | None:
    """Intervals in millimetres, with `at` still in pixels; None without `mm_per_px`, 0."""
    if width_px is None or not mm_per_px:
        return None
    return {
        name: {key: value if key == "at" else _digits(value * mm_per_px) for key, value in interval.items()}
        for name, interval in width_px.items()
    }


def limits_in_mm(limits: dict | None, mm_per_px: float) -> dict | None:
    """`limits` with "measurable_mm" and "visible_mm", None without `mm_per_px`, 0."""
    if limits is None:
        return None
    names = ("measurable", "visible")
    return limits | {f"{name}_mm": _digits(limits[f"{name}_px"] * mm_per_px) if mm_per_px else None for name in names}


def _digits(value: float) -> float:
    return float(f"{value:.3g}")


def are_valid(centerlines: list, *widths: dict | None) -> bool:
    """Whether values that were read have the form that this module gives them."""
    for branch in centerlines:
        points, values = branch["points"], branch["widths_px"]
        if len(points) != len(values) or not all(_is_point(point) for point in points):
            return False
        if not all(value is None or _is_number(value) for value in values):
            return False
    return all(width is None or _is_summary(width) for width in widths)


def _is_summary(width: dict) -> bool:
    if set(width) != set(STATISTICS) or not _is_point(width["max"]["at"]):
        return False
    return all(_is_number(width[name][key]) for name in STATISTICS for key in ("value", "low", "high"))


def are_valid_limits(limits: dict | None) -> bool:
    """Whether limits that were read have the form of `limits_in_mm`."""
    if limits is None:
        return True
    optional = [limits[name] for name in ("measurable_mm", "visible_mm")]
    return all(_is_number(limits[name]) for name in LIMITS) and all(
        value is None or _is_number(value) for value in optional
    )


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _is_point(point: list) -> bool:
    return len(point) == 2 and all(map(_is_number, point))
