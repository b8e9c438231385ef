"""Surfaces without cracks, from noise: what they are made of, what lies on them and how the light falls.

Synopsis::

    rng = numpy.random.default_rng([seed, index])
    surface = make(rng, 227)                    # float32 [3, 227, 227], 0.02..1.5, share of the light thrown back
    surface = surface * (1 - crack)             # a crack is somebody else's business (`data.cracks`)

Planes come first: a plane times a number for each colour is four times faster than with the colours last.
Lengths in this file are pixels of a picture 227 wide, as METU has them; `px / REFERENCE_PX` scales them.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

REFERENCE_PX = 227
SUPERSAMPLE = 2  # marks are drawn at twice the size and averaged: soft edges for a tenth of a millisecond
NEUTRAL = 128  # grey of the marks canvas that leaves the surface as it is
Planes = np.ndarray  # float32 [3, px, px]
Field = np.ndarray  # float32 [px, px]


def make(rng: np.random.Generator, px: int) -> Planes:
    """One surface: float32 [3, px, px], red, green and blue, above 0, about 0.1 to 1.3."""
    shares = np.cumsum([share for share, _ in MATERIALS])
    material = MATERIALS[int(np.searchsorted(shares, rng.random() * shares[-1]))][1]
    surface = material(rng, px)
    surface *= marks(rng, px)
    if rng.random() < 0.45:
        _stain(rng, surface)
    surface *= light(rng, px)
    return np.maximum(surface, 0.02)


def white(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Uncorrelated noise: float32 [*shape], mean 0, variance 1. Bytes are six times faster than normal deviates."""
    size = int(np.prod(shape))
    pair = np.frombuffer(rng.bytes(2 * size), np.uint8).reshape(2, *shape)
    total = pair[0].astype(np.float32) + pair[1]
    return (total - np.float32(255)) / np.float32(104.5)  # 104.5: the deviation of a sum of two bytes


def enlarge(grid: np.ndarray, width: int, height: int) -> np.ndarray:
    """Smooth float32 [height, width] through the points of `grid`."""
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))


def fractal(
    rng: np.random.Generator, px: int, coarse_px: float, fine_px: float, gain: float, stretch: float = 1.0
) -> Field:
    """Noise whose grains go from `coarse_px` down to `fine_px`: float32 [px, px], mean near 0, deviation near 1.

    Each octave is half as coarse and `gain` times as strong; `stretch` draws the grains out sideways. Octaves are added on the
    small grids, so the whole costs little more than the last enlargement.
    """
    scale = px / REFERENCE_PX
    step, weight, power, field = coarse_px * scale, 1.0, 0.0, None
    last = max(fine_px * scale, 1.0)
    while field is None or step >= last:
        high, wide = int(px / step) + 2, int(px / (step * stretch)) + 2
        grid = white(rng, (high, wide)) * np.float32(weight)
        field = grid if field is None else enlarge(field, wide, high) + grid
        power += weight * weight
        step, weight = step / 2, weight * gain
    return enlarge(field, px, px) / np.float32(power**0.5)


def soften(field: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blurred along the last two axes: [..., h, w] in, same out. Three taps at a time: 1/10 of Pillow's time."""
    passes = max(1, int(np.ceil(2 * sigma_px * sigma_px)))
    side = np.float32(sigma_px * sigma_px / passes / 2)  # a pass adds 2 * side to the variance
    for _ in range(passes if sigma_px > 0 else 0):
        for axis in (-2, -1):
            field = _three_taps(field, side, axis)
    return field


def _three_taps(field: np.ndarray, side: np.float32, axis: int) -> np.ndarray:
    out = field * (1 - 2 * side)
    scaled = field * side
    to, source = np.moveaxis(out, axis, 0), np.moveaxis(scaled, axis, 0)
    to[1:] += source[:-1]
    to[:-1] += source[1:]
    to[0] += source[0]
    to[-1] += source[-1]
    return out


def shift(field: Field, right_px: int, down_px: int) -> Field:
    """`field` moved by whole pixels, its border repeated: same shape."""
    high, wide = field.shape
    rows = np.clip(np.arange(high) - down_px, 0, high - 1)
    columns = np.clip(np.arange(wide) - right_px, 0, wide - 1)
    return field[rows[:, None], columns]


def slope(height: Field, angle: float) -> Field:
    """Brightness of a relief lit from `angle` radians: float32 [px, px], mean near 0."""
    down = np.zeros_like(height)
    right = np.zeros_like(height)
    down[1:] = height[1:] - height[:-1]
    right[:, 1:] = height[:, 1:] - height[:, :-1]
    return np.float32(np.cos(angle)) * right + np.float32(np.sin(angle)) * down


def _paint(tone: Field, colour: np.ndarray) -> Planes:
    return tone * colour.astype(np.float32)[:, None, None]


def _mineral(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """A grey with the warm cast of METU's pictures (red 4.5 above green, blue 8.5 below, of 170)."""
    return rng.uniform(low, high) * np.array([1 + rng.normal(0.025, 0.025), 1.0, 1 + rng.normal(-0.045, 0.045)])


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """A factor between two others, as often in one doubling as in the next."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _concrete(rng: np.random.Generator, px: int) -> Planes:
    tone = 1 + _between(rng, 0.008, 0.05) * fractal(rng, px, 110, 14, rng.uniform(0.6, 1.0))
    stretch = _between(rng, 1, 6) if rng.random() < 0.25 else 1.0
    grain = fractal(rng, px, _between(rng, 7, 28), 2, rng.uniform(0.7, 1.3), stretch)
    grain = grain.T if rng.random() < 0.5 else grain
    if rng.random() < 0.7:
        tone += _between(rng, 0.015, 0.11) * slope(grain, rng.uniform(0, 2 * np.pi))
    tone += _between(rng, 0.012, 0.06) * grain
    return _paint(tone, _mineral(rng, 0.4, 0.9))


def _plaster(rng: np.random.Generator, px: int) -> Planes:
    trowel = fractal(rng, px, _between(rng, 15, 80), 8, rng.uniform(0.6, 1.0), _between(rng, 1, 4))
    grain = fractal(rng, px, _between(rng, 3, 10), 2, 0.9)
    angle = rng.uniform(0, 2 * np.pi)
    tone = 1 + _between(rng, 0.02, 0.15) * slope(trowel, angle) + _between(rng, 0.01, 0.08) * slope(grain, angle)
    tone += _between(rng, 0.005, 0.03) * trowel
    wash = np.clip(rng.normal(1, [0.05, 0.02, 0.07]), 0.8, 1.15)  # paint: cream, pale blue, pale green, rose
    return _paint(tone, rng.uniform(0.55, 0.95) * wash)


def _asphalt(rng: np.random.Generator, px: int) -> Planes:
    """Stones of every size in dark binder; the finest are noise."""
    scale = SUPERSAMPLE * px / REFERENCE_PX
    bed = Image.new("L", (px * SUPERSAMPLE, px * SUPERSAMPLE), NEUTRAL)
    draw, size = ImageDraw.Draw(bed), _between(rng, 4, 14)
    spread = int(rng.integers(15, 70))
    for share in (0.5, 1.0):
        count = int(min(450, 45_000 / size**2 / 3 / share))
        _blots(rng, draw, bed.width, count, share * size * scale, NEUTRAL - spread // 2, NEUTRAL + spread)
    stones = soften(np.asarray(bed.reduce(SUPERSAMPLE), np.float32) / NEUTRAL, rng.uniform(0.3, 0.8))
    grain = fractal(rng, px, _between(rng, 2.5, 6), 1.8, 0.9)
    angle = rng.uniform(0, 2 * np.pi)
    tone = stones + _between(rng, 0.04, 0.12) * grain + _between(rng, 0.1, 0.6) * slope(stones, angle)
    return _paint(np.maximum(tone, 0.2), _mineral(rng, 0.2, 0.6))


def _brick(rng: np.random.Generator, px: int) -> Planes:
    scale = px / REFERENCE_PX
    wall = soften(np.asarray(_courses(rng, px, scale).reduce(SUPERSAMPLE), np.float32) / 255, scale)
    cover = np.clip(wall * 3 - 0.5, 0, 1)
    grain = fractal(rng, px, _between(rng, 4, 16), 2, 0.9)
    tone = 1 + _between(rng, 0.015, 0.07) * grain + _between(rng, 0.01, 0.08) * slope(grain, rng.uniform(0, 6.28))
    tone += rng.uniform(0, 0.5) * slope(cover, rng.uniform(0, 2 * np.pi))  # the joints lie deeper
    red = np.array([1.0, rng.uniform(0.65, 0.97), rng.uniform(0.55, 0.95)]) * rng.uniform(0.4, 0.8)
    joint = _mineral(rng, 0.4, 0.8) * rng.uniform(0.7, 1.1)
    return _paint(cover * (0.5 + 0.6 * wall), red) * tone + _paint((1 - cover) * tone, joint)


def _courses(rng: np.random.Generator, px: int, scale: float) -> Image.Image:
    """Bricks in grey 180 to 255 on mortar in 0, at twice the size: Pillow L [2 px, 2 px]."""
    wall = Image.new("L", (px * SUPERSAMPLE, px * SUPERSAMPLE))
    draw, side = ImageDraw.Draw(wall), px * SUPERSAMPLE
    high, gap = rng.uniform(35, 90) * scale * SUPERSAMPLE, rng.uniform(3, 9) * scale * SUPERSAMPLE
    wide = high * rng.uniform(2, 3.2)
    angle = rng.normal(0, 0.03) + rng.integers(2) * np.pi / 2
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    row, column = np.mgrid[-20:21, -10:11].reshape(2, -1, 1)
    corners = np.array([[0, 0], [wide - gap, 0], [wide - gap, high - gap], [0, high - gap]])
    boxes = np.stack([(column + row % 2 / 2) * wide, row * high], axis=-1) + corners
    boxes = (boxes + rng.normal(0, 0.015 * high, boxes.shape)) @ turn + rng.uniform(0.3, 0.7, 2) * side
    seen = ((boxes.max(axis=1) > 0) & (boxes.min(axis=1) < side)).all(axis=1)
    for box in boxes[seen].reshape(-1, 8).tolist():
        draw.polygon(box, fill=int(rng.integers(180, 256)))
    return wall


Material = Callable[[np.random.Generator, int], Planes]
# Mostly concrete, as in METU and SDNET2018; the rest so that a network meets other grounds too.
MATERIALS: tuple[tuple[float, Material], ...] = (
    (0.62, _concrete),
    (0.18, _plaster),
    (0.12, _asphalt),
    (0.08, _brick),
)


def marks(rng: np.random.Generator, px: int) -> Field:
    """Pits, grit, scratches and joints: float32 [px, px], factors 0.2..1.8, most of them 1."""
    scale = px / REFERENCE_PX
    canvas = Image.new("L", (px * SUPERSAMPLE, px * SUPERSAMPLE), NEUTRAL)
    draw = ImageDraw.Draw(canvas)
    drawn = [mark(rng, draw, canvas.width, scale * SUPERSAMPLE) for share, mark in MARKS if rng.random() < share]
    if not drawn:
        return np.ones((px, px), np.float32)
    relief = (np.asarray(canvas.reduce(SUPERSAMPLE), np.float32) - NEUTRAL) / NEUTRAL
    relief = soften(relief, rng.uniform(0.2, 0.7))
    lit = slope(relief, rng.uniform(0, 2 * np.pi)) * np.float32(rng.uniform(0, 0.6))
    return np.clip(1 + relief + lit, 0.2, 1.8)


def _blots(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, count: int, size: float, low: int, high: int
) -> None:
    """`count` ragged spots, most of them near `size` across, in greys from `low` to `high`."""
    corners = 7
    angles = np.sort(rng.uniform(0, 2 * np.pi, (count, corners)), axis=1)
    radii = 0.5 * size * np.exp(rng.normal(0, 0.5, (count, 1))) * rng.uniform(0.6, 1.2, (count, corners))
    points = np.stack([np.cos(angles), np.sin(angles) * rng.uniform(0.5, 1, (count, 1))], axis=-1) * radii[..., None]
    points += rng.uniform(0, side, (count, 1, 2))
    greys = rng.integers(low, high, count)
    for outline, grey in zip(points.reshape(count, -1).tolist(), greys.tolist(), strict=True):
        draw.polygon(outline, fill=grey)


def _pits(rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, scale: float) -> None:
    darkest = int(rng.integers(35, 110))
    _blots(rng, draw, side, int(_between(rng, 2, 45)), _between(rng, 2, 7) * scale, darkest, NEUTRAL - 8)


def _grit(rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, scale: float) -> None:
    lightest = int(rng.integers(140, 200))
    _blots(rng, draw, side, int(_between(rng, 4, 90)), _between(rng, 1.5, 6) * scale, NEUTRAL + 4, lightest)


def _patches(rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, scale: float) -> None:
    _blots(rng, draw, side, int(rng.integers(1, 7)), _between(rng, 10, 30) * scale, 105, 150)


def _scratches(rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, scale: float) -> None:
    """Thin smooth arcs, mostly lighter: a crack is ragged and darker than any of them."""
    along = np.linspace(0, 1, 12)[:, None]
    for _ in range(int(rng.integers(1, 6))):
        start, bend = rng.uniform(0, side, 2), rng.normal(0, 0.06 * side, 2)
        end = start + rng.normal(0, 0.3 * side, 2)
        path = start + (end - start) * along + 4 * bend * along * (1 - along)
        grey = int(rng.integers(135, 190)) if rng.random() < 0.75 else int(rng.integers(105, 122))
        width = max(1, round(rng.uniform(0.6, 1.8) * scale))
        draw.line(path.ravel().tolist(), fill=grey, width=width)


def _joints(rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, scale: float) -> None:
    """Formwork seams and cut joints: straight, even in width, from side to side."""
    angle = rng.normal(0, 0.08) + rng.integers(2) * np.pi / 2 if rng.random() < 0.7 else rng.uniform(0, np.pi)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    middle = rng.uniform(0.1 * side, 0.9 * side, 2)
    grey = int(rng.integers(60, 118)) if rng.random() < 0.7 else int(rng.integers(140, 175))
    width = max(1, round(_between(rng, 1.5, 9) * scale))
    for offset in [0.0, _between(rng, 0.1, 0.5) * side][: int(rng.integers(1, 3))]:
        ends = middle + across * offset + np.array([[-2 * side], [2 * side]]) * along
        draw.line(ends.ravel().tolist(), fill=grey, width=width)


Mark = Callable[[np.random.Generator, ImageDraw.ImageDraw, int, float], None]
MARKS: tuple[tuple[float, Mark], ...] = (
    (0.25, _patches),
    (0.10, _joints),
    (0.65, _pits),
    (0.45, _grit),
    (0.22, _scratches),
)


def _stain(rng: np.random.Generator, surface: Planes) -> None:
    """Damp, rust, lime: soft-edged regions of another tint, in place."""
    px = surface.shape[-1]
    blotch = fractal(rng, px, _between(rng, 30, 120), 12, rng.uniform(0.6, 1.0))
    edge = _between(rng, 0.4, 2.5)
    cover = np.clip((blotch - np.float32(rng.uniform(-0.5, 1.4))) * edge, 0, 1)
    tint = rng.normal(rng.normal(-0.03, 0.06), 0.015, 3).astype(np.float32)
    for plane, change in zip(surface, np.clip(tint, -0.3, 0.3), strict=True):
        plane *= 1 + change * cover


def light(rng: np.random.Generator, px: int) -> Field:
    """Slant, vignette and sometimes a soft shadow: float32 [px, px], factors 0.3..1.3."""
    line = np.linspace(-1, 1, px, dtype=np.float32)
    slant = rng.normal(0, 0.05, 2).astype(np.float32)
    vignette = np.float32(rng.uniform(0, 0.04))
    field = (1 + slant[0] * line - vignette * line**2)[:, None] + slant[1] * line - vignette * line**2
    if rng.random() < 0.12:
        field *= _shadow(rng, line)
    return field


def _shadow(rng: np.random.Generator, line: np.ndarray) -> Field:
    """The edge of a shadow: straight, soft, lighter than a crack."""
    angle = rng.uniform(0, 2 * np.pi)
    away = np.float32(np.cos(angle)) * line + np.float32(np.sin(angle)) * line[:, None] - np.float32(rng.normal(0, 0.4))
    return 1 - np.float32(rng.uniform(0.1, 0.45)) * np.clip(away * np.float32(_between(rng, 2, 15)) + 0.5, 0, 1)
