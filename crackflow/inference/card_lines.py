"""The lines of a scale card, measured in a photograph of it: what a crack of a known width is read as.

Synopsis::

    lines = card_lines.measure(pixels, plane)         # the plane of the card's marker
    lines[2].true_mm, lines[2].read_mm                # 0.2, 0.22; None where it cannot be read
    card_lines.sentence(lines)                        # "on this photograph 0.20 mm was read as 0.22 mm, ..."

The light across a line is that of a black slit, blurred by a Gaussian. The black is that of the marker, so that a line
thinner than the blur still has a width: the light that it takes away over the light between paper and black. A profile
is the mean over a piece of the line, and the width is the median of the pieces.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from crackflow.data import card_layout
from crackflow.inference.marker_plane import MarkerPlane, sample_light

PIECES, ROWS = 8, 24  # of a line, and profiles in each piece
MARGIN_MM = 2.0  # of a line's ends that are left out
REACH_MM = 3.5  # to each side of a line's middle: the next line begins 7 mm away or more
MAX_SHIFT_MM = 1.5  # of a line from its place: distortion of the lens, a card that is not flat
MIN_CONTRAST = 0.1  # of light between paper and black
# A piece whose line takes away less light than so many standard deviations of the paper's noise is not read.
MIN_SIGNAL = 4.0
MIN_PIECES = 4
MIN_READ = 3  # of the lines of 0.8 mm and more, for the sheet to be a card


class LineReading(NamedTuple):
    """The printed width of a line, and the one that was read, None where it cannot be read."""

    true_mm: float
    read_mm: float | None


def measure(pixels: np.ndarray, plane: MarkerPlane) -> list[LineReading]:
    """Measure the lines of the card whose marker has this plane.

    Args:
        pixels: uint8 [H, W, C], 0..255.
        plane: of the marker.

    Returns:
        A reading per line, thinnest first; [] if there is no such card on the plane or it is not seen whole.
    """
    height, width = pixels.shape[:2]
    layout = card_layout.CardLayout(plane.side_mm)
    first, last = layout.lines[0].x - REACH_MM, layout.lines[-1].x + REACH_MM
    corners = plane.to_px([(x, y) for x in (first, last) for y in layout.line_y])
    if not (np.isfinite(corners).all() and (corners > 0).all() and (corners < (width, height)).all()):
        return []
    low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    marker = np.array(plane.corners)
    low, high = np.minimum(low, marker.min(0)).astype(int), np.maximum(high, marker.max(0)).astype(int) + 1
    low = np.maximum(low, 0)
    # Weights of Pillow and JPEG, on the part with the card alone.
    part = pixels[low[1] : high[1], low[0] : high[0]]
    grey = part[..., 0] if part.shape[2] == 1 else (part @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)
    black = _black(grey, plane, low)
    readings = [
        LineReading(line.width_mm, _read_line(grey, plane, low, line.x, layout.line_y, black)) for line in layout.lines
    ]
    wide = [reading for reading in readings if reading.true_mm >= 0.8 and reading.read_mm is not None]
    is_card = sum(abs(reading.read_mm / reading.true_mm - 1) < 0.5 for reading in wide) >= MIN_READ
    return readings if is_card else []


def sentence(readings: Sequence[LineReading]) -> str:
    """What an inspector should know of the readings; "" without any."""
    if not readings:
        return ""
    read = [reading for reading in readings if reading.read_mm is not None]
    named = [reading for reading in read if reading.true_mm in (0.1, 0.2, 0.3, 0.5, 1.0)][:3]
    parts = [f"{reading.true_mm:.2f} mm was read as {reading.read_mm:.2f} mm" for reading in named]
    lost = [f"{reading.true_mm:.2f}" for reading in readings if reading.read_mm is None]
    if lost:
        parts.append(f"{', '.join(lost)} mm could not be read")
    return "on this photograph, of the lines on the card, " + ", ".join(parts)


def _black(grey: np.ndarray, plane: MarkerPlane, origin: np.ndarray) -> float:
    """The light of the marker's black border, a module wide: the median along the middle of its four sides."""
    module, side = plane.side_mm / 10, plane.side_mm
    near, along = module / 2, np.linspace(module, side - module, 60)
    border = [*((t, near) for t in along), *((t, side - near) for t in along)]
    border += [*((near, t) for t in along), *((side - near, t) for t in along)]
    return float(np.median(sample_light(grey, plane.to_px(border) - origin)))


def _read_line(
    grey: np.ndarray, plane: MarkerPlane, origin: np.ndarray, x: float, ends: tuple[float, float], black: float
) -> float | None:
    """The width in mm of the line at `x`, or None."""
    top, bottom = ends[0] + MARGIN_MM, ends[1] - MARGIN_MM
    middle = plane.to_px([(x, (top + bottom) / 2)])
    scale = float(plane.mm_per_px_along(middle, plane.to_px([(x + 1, (top + bottom) / 2)]) - middle)[0])
    across = np.arange(-REACH_MM, REACH_MM, min(scale / 2, 0.1))
    if len(across) > 4000 or scale > 1.0:  # a pixel of more than a millimetre shows no line
        return None
    widths = []
    for piece in np.array_split(np.linspace(top, bottom, PIECES * ROWS), PIECES):
        points = np.stack(np.broadcast_arrays(x + across, piece[:, None]), 2)
        light = sample_light(grey, (plane.to_px(points) - origin).reshape(points.shape))
        width = _fit_slit(across, light.mean(0), black, scale)
        if width is not None:
            widths.append(width)
    return float(np.median(widths)) if len(widths) >= MIN_PIECES else None


def _fit_slit(across: np.ndarray, light: np.ndarray, black: float, scale: float) -> float | None:
    """The width of a blurred black slit in a profile, or None where no slit stands out.

    Args:
        across: float64 [N], mm, evenly spaced.
        light: float64 [N], 0..1.
        black: the light of a slit that is wider than the blur.
        scale: mm per pixel across the slit.
    """
    paper = float(np.percentile(light, 80))
    depth = paper - black
    if depth < MIN_CONTRAST:
        return None
    smooth = np.convolve(light, np.ones(5) / 5, "same")
    near = np.abs(across) <= MAX_SHIFT_MM
    center = float(across[near][smooth[near].argmin()])
    spacing = float(across[1] - across[0])
    missing = np.clip(paper - light, 0, None) * (np.abs(across - center) < 2.2)
    start = [center, max(float(missing.sum()) * spacing / depth, 0.02), max(scale * 0.6, 0.02), paper, 0.0]

    def residuals(values: np.ndarray) -> np.ndarray:
        middle, width, blur, level, slope = values
        low, high = ((across - middle + sign * width / 2) / blur for sign in (1, -1))
        return level + slope * across - (level - black) * (special.ndtr(low) - special.ndtr(high)) - light

    def derivatives(values: np.ndarray) -> np.ndarray:
        middle, width, blur, level, _ = values
        low, high = ((across - middle + sign * width / 2) / blur for sign in (1, -1))
        low_density, high_density = (np.exp(-(edge**2) / 2) / np.sqrt(2 * np.pi) for edge in (low, high))
        contrast = (level - black) / blur
        return np.stack(
            [
                contrast * (low_density - high_density),
                -contrast * (low_density + high_density) / 2,
                contrast * (low_density * low - high_density * high),
                1 - (special.ndtr(low) - special.ndtr(high)),
                across,
            ],
            1,
        )

    lower, upper = [-REACH_MM, 0.0, 0.2 * scale, black + 1e-3, -0.1], [REACH_MM, 4.0, 4 * scale + 0.2, 1.2, 0.1]
    start = np.clip(start, np.array(lower) + 1e-6, np.array(upper) - 1e-6)
    result = optimize.least_squares(
        residuals, start, derivatives, (lower, upper), x_scale=0.1, ftol=1e-6, xtol=1e-6, max_nfev=60
    )
    middle, width = float(result.x[0]), float(result.x[1])
    # Noise of the mean light over the part that the slit covers, from what the fit leaves over.
    noise = float(np.std(result.fun)) * np.sqrt(max(scale / spacing, 1.0))
    area_noise = noise * np.sqrt(spacing * max(width, scale))
    if abs(middle) > MAX_SHIFT_MM or width * depth < MIN_SIGNAL * area_noise:
        return None
    return width
