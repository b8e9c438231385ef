"""Surfaces without cracks, from noise: their materials and the marks on them.

Synopsis::

    rng = numpy.random.default_rng([seed, index])
    surface = draw_surface(rng, 227)                # reflectance of red, green and blue light, float32
    planes = surface.tone * surface.colour          # [3, 227, 227], 0..2; `synthesis.cracks` adds cracks

Lengths in this file are pixels of an image `reference` wide; `image_px / reference` scales them. With 227 that is an
image of METU, about a metre away; a smaller reference shows the same surface from nearer by, a larger one from afar.
"""

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

REFERENCE_PX = 227
SUPERSAMPLE = 2  # marks are drawn at twice the size and averaged
NORMAL = np.array([statistics.NormalDist().inv_cdf((byte + 0.5) / 256) for byte in range(256)], np.float32)
NEUTRAL = 128  # grey of the marks canvas that leaves the surface as it is
Field = np.ndarray  # float32 [px, px]


@dataclasses.dataclass(frozen=True)
class Surface:
    """Brightness and colour, separate, so that blurring or darkening changes one plane and not three.

    Attributes:
        tone: float32 [px, px], 0.02..2, mostly near 1.
        colour: float32 [3, px, px] or, for one colour, [3, 1, 1], 0..1.
    """

    tone: Field
    colour: np.ndarray


def draw_surface(rng: np.random.Generator, image_px: int, reference: float = REFERENCE_PX) -> Surface:
    """Draws a surface of a random material, with marks and perhaps stains."""
    shares = np.cumsum([share for share, _ in MATERIALS])
    material = MATERIALS[int(np.searchsorted(shares, rng.random() * shares[-1]))][1]
    surface = material(rng, image_px, reference)
    colour = surface.colour * stains(rng, image_px, reference) if rng.random() < 0.45 else surface.colour
    return Surface(np.maximum(surface.tone * marks(rng, image_px, reference), 0.02), colour)


def white(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draws white noise: float32 [*shape], normal deviates of 256 sizes, in a quarter of the time of normal()."""
    size = math.prod(shape)
    words = rng.integers(0, 2**64, -(-size // 8), np.uint64)
    return NORMAL[words.view(np.uint8)[:size].reshape(shape)]


def enlarge(grid: np.ndarray, width: int, height: int) -> np.ndarray:
    """Interpolates `grid` smoothly to float32 [height, width], in a third of Pillow's time."""
    return _interpolate_rows(_interpolate_rows(grid.T, width).T, height)


def _interpolate_rows(grid: np.ndarray, size: int) -> np.ndarray:
    grid = np.ascontiguousarray(grid)
    out = None
    for row, weight in _interpolation_taps(len(grid), size):
        part = grid.take(row, axis=0)
        part *= weight
        out = part if out is None else np.add(out, part, out=out)
    return out


@functools.lru_cache(maxsize=1024)
def _interpolation_taps(points: int, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Interpolation taps: pairs of int [size], a point per value, and float32 [size, 1], its weight. Values are sums
    over the pairs.

    Cubic (Catmull-Rom), but linear when points are 4 px apart or less: those creases are invisible.
    """
    position = (np.arange(size) + 0.5) * points / size - 0.5
    before = np.floor(position).astype(int)
    t = (position - before)[:, None]
    if 4 * points >= size:
        weights = {0: 1 - t, 1: t}
    else:
        cubic = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
        weights = {offset: weight / 2 for offset, weight in zip((-1, 0, 1, 2), cubic, strict=True)}
    return [(np.clip(before + offset, 0, points - 1), weight.astype(np.float32)) for offset, weight in weights.items()]


def fractal(
    rng: np.random.Generator,
    image_px: int,
    coarse_px: float,
    fine_px: float,
    gain: float,
    stretch: float = 1.0,
    reference: float = REFERENCE_PX,
) -> Field:
    """Draws fractal noise with grains from `coarse_px` down to `fine_px`.

    Each octave is a third as coarse and `gain` times as strong. It is added on its small grid, so that all octaves cost
    little more than the last enlargement. `stretch` stretches the grains sideways.

    Returns:
        float32 [px, px], mean near 0, standard deviation near 1.
    """
    scale = image_px / reference
    step, weight, power, field = coarse_px * scale, 1.0, 0.0, None
    last = max(fine_px * min(scale, 1), 1.0)  # larger images show finer grains
    while field is None or step >= last:
        high, wide = int(image_px / step) + 2, int(image_px / (step * stretch)) + 2
        grid = white(rng, (high, wide)) * np.float32(weight)
        field = grid if field is None else enlarge(field, wide, high) + grid
        power += weight * weight
        step, weight = step / 3, weight * gain
    return enlarge(field, image_px, image_px) / np.float32(power**0.5)


def soften(field: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blurs along the last two axes, borders repeated: float32 [..., h, w] in, same out."""
    passes = 0 if sigma_px < 0.05 else math.ceil(2 * sigma_px * sigma_px)  # a smaller sigma changes no grey level
    for _ in range(passes):
        side = sigma_px * sigma_px / passes / 2  # a pass adds 2 * side to the variance
        field = _convolve_three_taps(_convolve_three_taps(field, 1 / side - 2, -2), 1 / side - 2, -1) * np.float32(
            side * side
        )
    return field


def _convolve_three_taps(field: np.ndarray, centre: float, axis: int) -> np.ndarray:
    """Convolves with (1, `centre`, 1) along `axis`, on the flat array, three times faster than row by row."""
    away, flat = (field.shape[-1] if axis == -2 else 1), field.ravel()
    out = flat * np.float32(centre)
    out[away:] += flat[:-away]
    out[:-away] += flat[away:]
    out = out.reshape(field.shape)
    to, source = out.swapaxes(axis, 0), field.swapaxes(axis, 0)
    for border, within in ((0, 1), (-1, -2)):  # the flat neighbours of a border lie on the opposite one
        to[border] = source[border] * np.float32(centre + 1) + source[within]
    return out


def slope(height: Field, angle: float) -> Field:
    """Shades the relief `height`, lit from `angle` radians: float32 [px, px], mean near 0."""
    flat, wide = height.ravel(), height.shape[1]
    lit = np.zeros_like(flat)
    lit[1:] = (flat[1:] - flat[:-1]) * np.float32(np.cos(angle))
    lit[::wide] = 0  # the left border has no neighbour
    lit[wide:] += (flat[wide:] - flat[:-wide]) * np.float32(np.sin(angle))
    return lit.reshape(height.shape)


def shades(red: float, green: float, blue: float) -> np.ndarray:
    """One colour for all pixels: float32 [3, 1, 1]."""
    return np.array([red, green, blue], np.float32)[:, None, None]


def _draw_grey(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """Draws a grey with the warm cast of METU's images (red 4.5 above green, blue 8.5 below, of 170)."""
    return rng.uniform(low, high) * shades(1 + rng.normal(0.025, 0.025), 1, 1 + rng.normal(-0.045, 0.045))


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """Draws a log-uniform number between `low` and `high`."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def concrete(rng: np.random.Generator, image_px: int, reference: float) -> Surface:
    tone = 1 + between(rng, 0.008, 0.05) * fractal(rng, image_px, 110, 14, rng.uniform(0.6, 1.0), reference=reference)
    stretch = between(rng, 1, 6) if rng.random() < 0.25 else 1.0
    grain = fractal(rng, image_px, between(rng, 7, 28), 2, rng.uniform(0.7, 1.3), stretch, reference=reference)
    grain = np.ascontiguousarray(grain.T) if rng.random() < 0.5 else grain
    if rng.random() < 0.7:
        tone += between(rng, 0.015, 0.11) * slope(grain, rng.uniform(0, 2 * np.pi))
    tone += between(rng, 0.012, 0.06) * grain
    return Surface(tone, _draw_grey(rng, 0.4, 0.9))


def plaster(rng: np.random.Generator, image_px: int, reference: float) -> Surface:
    trowel = fractal(
        rng, image_px, between(rng, 15, 80), 8, rng.uniform(0.6, 1.0), between(rng, 1, 4), reference=reference
    )
    grain = fractal(rng, image_px, between(rng, 3, 10), 2, 0.9, reference=reference)
    angle = rng.uniform(0, 2 * np.pi)
    tone = 1 + between(rng, 0.02, 0.15) * slope(trowel, angle) + between(rng, 0.01, 0.08) * slope(grain, angle)
    tone += between(rng, 0.005, 0.03) * trowel
    wash = shades(*rng.normal(1, [0.05, 0.02, 0.07]))  # paint: cream, pale blue, pale green, rose
    return Surface(tone, rng.uniform(0.55, 0.95) * np.clip(wash, 0.8, 1.15))


def asphalt(rng: np.random.Generator, image_px: int, reference: float) -> Surface:
    """Draws stones of every size in dark binder; the finest are noise."""
    scale = SUPERSAMPLE * image_px / reference
    bed, draw = _new_canvas(image_px, NEUTRAL)
    size = between(rng, 4, 14)
    spread = int(rng.integers(15, 70))
    for share in (0.5, 1.0):
        count = int(min(250, 15_000 / size**2 / share))
        _draw_blots(rng, draw, bed.width, count, share * size * scale, NEUTRAL - spread // 2, NEUTRAL + spread)
    stones = soften(np.asarray(bed.reduce(SUPERSAMPLE), np.float32) / NEUTRAL, rng.uniform(0.3, 0.8))
    grain = fractal(rng, image_px, between(rng, 2.5, 6), 1.8, 0.9, reference=reference)
    angle = rng.uniform(0, 2 * np.pi)
    tone = stones + between(rng, 0.04, 0.12) * grain + between(rng, 0.1, 0.6) * slope(stones, angle)
    return Surface(np.maximum(tone, 0.2), _draw_grey(rng, 0.2, 0.6))


def brick(rng: np.random.Generator, image_px: int, reference: float) -> Surface:
    scale = image_px / reference
    wall = soften(np.asarray(_draw_courses(rng, image_px, scale).reduce(SUPERSAMPLE), np.float32) / 255, scale)
    cover = np.clip(wall * 3 - 0.5, 0, 1)
    grain = fractal(rng, image_px, between(rng, 4, 16), 2, 0.9, reference=reference)
    tone = 1 + between(rng, 0.015, 0.07) * grain + between(rng, 0.01, 0.08) * slope(grain, rng.uniform(0, 6.28))
    tone += rng.uniform(0, 0.5) * slope(cover, rng.uniform(0, 2 * np.pi))  # the joints lie deeper
    green = rng.uniform(0.65, 0.97)
    red = shades(1, green, green * rng.uniform(0.7, 0.98)) * rng.uniform(0.4, 0.8)
    joint = _draw_grey(rng, 0.4, 0.8) * rng.uniform(0.7, 1.1)
    return Surface(tone, cover * (0.5 + 0.6 * wall) * red + (1 - cover) * joint)


def _draw_courses(rng: np.random.Generator, image_px: int, scale: float) -> Image.Image:
    """Bricks in grey 180 to 255 on mortar in 0, at twice the size: Pillow L [2 px, 2 px]."""
    wall, draw = _new_canvas(image_px, 0)
    side = wall.width
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


Material = Callable[[np.random.Generator, int, float], Surface]
# Mostly concrete, as in METU and SDNET2018; the rest so that a network meets other grounds too.
MATERIALS: tuple[tuple[float, Material], ...]
MATERIALS = ((0.62, concrete), (0.18, plaster), (0.12, asphalt), (0.08, brick))


def _new_canvas(image_px: int, grey: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.new("L", (image_px * SUPERSAMPLE, image_px * SUPERSAMPLE), grey)
    return canvas, ImageDraw.Draw(canvas)


def marks(rng: np.random.Generator, image_px: int, reference: float = REFERENCE_PX) -> Field:
    """Draws pits, grit, scratches and joints: float32 [px, px], factors 0.06..1.8, most of them 1."""
    scale = image_px / reference
    canvas, draw = _new_canvas(image_px, NEUTRAL)
    drawn = [mark(rng, draw, canvas.width, scale * SUPERSAMPLE) for share, mark in MARKS if rng.random() < share]
    if not drawn:
        return np.ones((image_px, image_px), np.float32)
    relief = (np.asarray(canvas.reduce(SUPERSAMPLE), np.float32) - NEUTRAL) / NEUTRAL
    relief = soften(relief, rng.uniform(0.2, 0.7))
    lit = slope(relief, rng.uniform(0, 2 * np.pi)) * np.float32(rng.uniform(0, 0.6))
    return np.clip(1 + relief + lit, 0.06, 1.8)


def _draw_blots(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, count: int, size: float, low: int, high: int
) -> None:
    """Draws `count` ragged spots, most of them near `size` across, in greys from `low` to `high`."""
    corners = 7
    angles = np.sort(rng.uniform(0, 2 * np.pi, (count, corners)), axis=1)
    radii = 0.5 * size * np.exp(rng.normal(0, 0.5, (count, 1))) * rng.uniform(0.6, 1.2, (count, corners))
    points = np.stack([np.cos(angles), np.sin(angles) * rng.uniform(0.5, 1, (count, 1))], axis=-1) * radii[..., None]
    points += rng.uniform(0, side, (count, 1, 2))
    greys = rng.integers(low, high, count)
    for outline, grey in zip(points.reshape(count, -1).tolist(), greys.tolist(), strict=True):
        draw.polygon(outline, fill=grey)


def _draw_pits(rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, scale: float) -> None:
    darkest = int(rng.integers(8, 110))  # deep holes are as dark as cracks: darkness alone must not decide
    _draw_blots(rng, draw, side, int(between(rng, 2, 35)), between(rng, 2, 7) * scale, darkest, NEUTRAL - 8)


def _draw_grit(rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, scale: float) -> None:
    lightest = int(rng.integers(140, 200))
    _draw_blots(rng, draw, side, int(between(rng, 4, 60)), between(rng, 1.5, 6) * scale, NEUTRAL + 4, lightest)


def _draw_patches(rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, scale: float) -> None:
    _draw_blots(rng, draw, side, int(rng.integers(1, 7)), between(rng, 10, 30) * scale, 105, 150)


def _draw_scratches(rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, scale: float) -> None:
    """Draws thin smooth arcs, mostly lighter: a crack is ragged and darker than any of them."""
    along = np.linspace(0, 1, 12)[:, None]
    for _ in range(int(rng.integers(1, 6))):
        start, bend = rng.uniform(0, side, 2), rng.normal(0, 0.06 * side, 2)
        end = start + rng.normal(0, 0.3 * side, 2)
        path = start + (end - start) * along + 4 * bend * along * (1 - along)
        grey = int(rng.integers(135, 190)) if rng.random() < 0.75 else int(rng.integers(105, 122))
        width = max(1, round(rng.uniform(0.6, 1.8) * scale))
        draw.line(path.ravel().tolist(), fill=grey, width=width)


def _draw_joints(rng: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, scale: float) -> None:
    """Draws formwork seams and cut joints: straight, even in width, from side to side."""
    angle = rng.normal(0, 0.08) + rng.integers(2) * np.pi / 2 if rng.random() < 0.7 else rng.uniform(0, np.pi)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    middle = rng.uniform(0.1 * side, 0.9 * side, 2)
    grey = int(rng.integers(15, 118)) if rng.random() < 0.7 else int(rng.integers(140, 175))
    width = max(1, round(between(rng, 1.5, 9) * scale))
    for offset in [0.0, between(rng, 0.1, 0.5) * side][: int(rng.integers(1, 3))]:
        ends = middle + across * offset + np.array([[-2 * side], [2 * side]]) * along
        draw.line(ends.ravel().tolist(), fill=grey, width=width)


Mark = Callable[[np.random.Generator, ImageDraw.ImageDraw, int, float], None]
MARKS: tuple[tuple[float, Mark], ...]
MARKS = ((0.25, _draw_patches), (0.13, _draw_joints), (0.65, _draw_pits), (0.45, _draw_grit), (0.22, _draw_scratches))


def stains(rng: np.random.Generator, image_px: int, reference: float = REFERENCE_PX) -> np.ndarray:
    """Draws damp, rust or lime: float32 [3, px, px], factors 0.7..1.3 in soft-edged regions, 1 elsewhere."""
    blotch = fractal(rng, image_px, between(rng, 30, 120), 12, rng.uniform(0.6, 1.0), reference=reference)
    edge = between(rng, 0.4, 2.5)
    cover = np.clip((blotch - np.float32(rng.uniform(-0.5, 1.4))) * edge, 0, 1)
    tint = shades(*rng.normal(rng.normal(-0.03, 0.06), 0.015, 3))
    return 1 + np.clip(tint, -0.3, 0.3) * cover
