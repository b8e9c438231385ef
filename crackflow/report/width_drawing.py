"""Widths of cracks as coloured lines: the middle of each crack, cut where its width changes from one band to the next.

Synopsis::

    scheme = width_drawing.scheme(mm_per_px=0.05)          # bands in mm; in pixels where mm_per_px is None
    scheme.bands[0].label                                  # 'under 0.1 mm'
    for line in width_drawing.lines(finding["centerline"], scheme, spacing_px=2):
        line.band, line.path                               # 0, 'M10 20L14 22': an SVG path in pixels of the photograph

Colours are five of matplotlib's map plasma: its lightness rises from thin to wide, so that it can be read without
colour, too (Smith and van der Walt 2015). Wider bands are drawn thicker.
"""

import bisect
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from crackflow.report.inspection import MM, PX

MM_EDGES = (0.1, 0.2, 0.3, 0.4)  # the last three are limits for concrete in EN 1992-1-1, table 7.1N
PX_EDGES = (1, 2, 4, 8)
COLOURS = ("#0d0887", "#8f0da4", "#cc4778", "#f89540", "#f0f921")
UNKNOWN = "none"  # the band of what has no width
UNKNOWN_COLOUR = "#9aa3b0"


class WidthBand(NamedTuple):
    """A band of widths. `name` is part of CSS classes, `thickness` in pixels of the screen."""

    name: str
    label: str
    colour: str
    thickness: float


class ColourScheme(NamedTuple):
    """The bands of a photograph. `factor`: units per pixel of the photograph."""

    unit: str
    factor: float
    edges: Sequence[float]
    bands: Sequence[WidthBand]


class WidthLine(NamedTuple):
    """All parts of a crack in one band. `path`: an SVG path in pixels of the photograph."""

    band: str
    path: str


def scheme(mm_per_px: float | None) -> ColourScheme:
    """The bands in mm, or in pixels if `mm_per_px` is None."""
    unit, factor, edges = (MM, mm_per_px, MM_EDGES) if mm_per_px else (PX, 1.0, PX_EDGES)
    inner = [f"{low:g} to {high:g} {unit}" for low, high in zip(edges, edges[1:], strict=False)]
    labels = [f"under {edges[0]:g} {unit}", *inner, f"{edges[-1]:g} {unit} and more"]
    bands = [
        WidthBand(str(index), label, colour, 2 + index / 2)
        for index, (label, colour) in enumerate(zip(labels, COLOURS, strict=True))
    ]
    return ColourScheme(unit, factor, edges, bands)


def lines(branches: Sequence[dict] | None, colours: ColourScheme, spacing_px: float) -> list[WidthLine]:
    """The lines of a crack, at most one for each band; those of unknown width first, the widest last.

    Args:
        branches: the `centerline` of a finding, or None.
        colours: the bands.
        spacing_px: points nearer than this to the one before are left out, except at the ends of a part.
    """
    parts: dict[str, list[str]] = {}
    for branch in branches or ():
        for band, points in _runs(branch["points"], branch["widths_px"], colours):
            parts.setdefault(band, []).append(_path(points, spacing_px))
    order = (UNKNOWN, *(band.name for band in colours.bands))
    return [WidthLine(band, "".join(parts[band])) for band in order if band in parts]


def _runs(points: Sequence, widths: Sequence[float | None], colours: ColourScheme) -> Iterator[tuple[str, list]]:
    """Cuts a branch into stretches of one band. A segment has the mean of the widths at its two ends."""
    current, stretch = None, []
    for index in range(1, len(points)):
        known = [width for width in widths[index - 1 : index + 1] if width is not None]
        mean = sum(known) / len(known) * colours.factor if known else None
        band = UNKNOWN if mean is None else colours.bands[bisect.bisect_right(colours.edges, mean)].name
        if band != current:
            if stretch:
                yield current, stretch
            current, stretch = band, [points[index - 1]]
        stretch.append(points[index])
    if stretch:
        yield current, stretch


def _path(points: Sequence, spacing_px: float) -> str:
    last = points[0]
    texts = [_coordinates(last)]
    for point in points[1:-1]:
        if math.dist(point, last) >= spacing_px:
            texts.append(_coordinates(point))
            last = point
    return "M" + "L".join([*texts, _coordinates(points[-1])])


def _coordinates(point: Sequence[float]) -> str:
    return " ".join(f"{value:.1f}".removesuffix(".0") for value in point[:2])
