"""Synthetic cracks: their path, their width, how they darken a surface, and whether they are visible.

Synopsis::

    crack = draw(rng, 227, boldness=0.0)
    cracked = darken(surface, crack)            # Surface to Surface
    visible = is_visible(image, crack.mask)     # of the finished photograph, uint8 [227, 227, 3]

Widths in this file are pixels of an image `reference` wide, as in `synthesis.surfaces`; `image_px / reference` scales
them.
"""

import dataclasses
import math

import numpy as np
from PIL import Image, ImageDraw

from crackflow.synthesis.surfaces import REFERENCE_PX, Surface, between, enlarge, fractal, shades, slope, soften

SUPERSAMPLE = 3  # cracks are drawn at three times the size and averaged: soft edges, hairlines without steps
MIN_WIDTH_PX = 1.0  # of the finished image, whatever its size: thinner lines vanish between the pixels
NARROW, WIDE = 1.2, 13.0  # usual widths: METU's cracks measure 2 to 20, DeepCrack's hairlines 1
MASK_COVER = 0.35  # a pixel is crack where a third of it is; half would tear hairlines apart
DARKEST, PALEST = 0.05, 0.68  # brightness of the inside of a crack, relative to the surface: never quite black
MIN_MASK_FRACTION = 0.003  # of the pixels, in every cracked image: 155 of 227 x 227, a hairline two thirds across
MIN_CONTRAST = 0.15  # a crack is darker by this fraction than the surface within RING_PX of it
MIN_CONTRAST_DEVIATIONS = 1.25  # and by so many standard deviations of that surface, so that texture can't hide it
BRANCHES = (0.55, 0.8, 0.93)  # fractions of the cracks with no branch, with one at most, with two at most
RING_PX = 5  # of an image 227 wide
EPSILON = 1e-6


@dataclasses.dataclass(frozen=True)
class Stroke:
    """One crack or branch in n pieces.

    Attributes:
        left, right: its two edges, complex [n + 1], x + iy in pixels.
        depth: float [n], depth of each piece, 0..1.
    """

    left: np.ndarray
    right: np.ndarray
    depth: np.ndarray


@dataclasses.dataclass(frozen=True)
class Crack:
    """The effect of a crack on a surface.

    Attributes:
        shade: float32 [px, px], 0..1, the fraction of the surface that is replaced by the inside of the crack.
        inside: 0..1, brightness of that inside, relative to the surface.
        tint: float32 [3, 1, 1], its colour cast, near 1.
        edge: float32 [px, px], near 0, relative brightness added by lit, broken or dirty edges.
        mask: uint8 [px, px], 255 on the crack, 0 elsewhere.
    """

    shade: np.ndarray
    inside: float
    tint: np.ndarray
    edge: np.ndarray
    mask: np.ndarray


def draw(rng: np.random.Generator, image_px: int, boldness: float = 0.0, reference: float = REFERENCE_PX) -> Crack:
    """Draws a crack with its branches.

    Args:
        rng: the generator.
        image_px: side of the image.
        boldness: 0..1, raises the narrowest width and the least darkness that may be drawn: 0 allows anything, 1 gives
            a wide, dark crack from side to side.
        reference: width of the image in which the constants of this file are pixels.
    """
    scale = image_px / reference
    width = _draw_width(rng, scale, boldness)
    cover = rasterise(strokes(rng, image_px, width, boldness, scale), image_px)
    mask = (cover >= MASK_COVER) * np.uint8(255)
    shade = soften(cover, rng.uniform(0, min(0.25 * width, 1.0 * math.sqrt(scale))) * (1 - boldness))
    angle = rng.uniform(0, 2 * np.pi)
    if width > 3 * scale:
        shade = shade * (1 - wall(rng, shade, angle, width, reference))
    bright = _draw_brightness(rng, width / scale, boldness)
    return Crack(shade, bright, tint(rng), edge(rng, cover, angle, width, reference), mask)


def tint(rng: np.random.Generator) -> np.ndarray:
    """Draws the colour cast of the inside of a crack, mostly warm: float32 [3, 1, 1], near 1."""
    warmth = rng.normal(0.03, 0.06)
    return shades(1 + warmth, 1 + 0.2 * warmth, 1 - 0.8 * warmth)


def darken(surface: Surface, crack: Crack) -> Surface:
    """Adds `crack` to `surface`. The inside has the surface's own grain from elsewhere (upside down), darker."""
    around = surface.tone * np.clip(1 + crack.edge, 0.3, 1.9)
    inside = np.minimum(surface.tone[::-1] * np.float32(crack.inside), around)
    return Surface(around + (inside - around) * crack.shade, surface.colour * (1 + (crack.tint - 1) * crack.shade))


def is_visible(
    image: np.ndarray,
    mask: np.ndarray,
    least_share: float = MIN_MASK_FRACTION,
    least_drop: float = MIN_CONTRAST,
    least_deviations: float = MIN_CONTRAST_DEVIATIONS,
) -> bool:
    """Whether a crack is large and dark enough to be called one.

    Args:
        image: uint8 [px, px, 3].
        mask: uint8 [px, px], 255 on the crack.
        least_share: least fraction of the pixels, 0..1.
        least_drop, least_deviations: least values of `contrast`.
    """
    if np.count_nonzero(mask) < least_share * mask.size:
        return False
    drop, deviations = contrast(image, mask)
    return drop >= least_drop and deviations >= least_deviations


def contrast(image: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Measures how much darker the crack is than the surface beside it.

    Args:
        image: uint8 [px, px, 3].
        mask: uint8 [px, px], 255 on the crack.

    Returns:
        The drop in brightness as a fraction of that of the surface, and in standard deviations of the surface.
    """
    grey = image[..., 1].astype(np.float32)  # green: most of what the eye calls brightness
    cracked = mask > 0
    ring = grown(cracked, max(2, round(RING_PX * len(mask) / REFERENCE_PX))) & ~cracked
    pixels, beside = np.count_nonzero(cracked), np.count_nonzero(ring)
    if not pixels or not beside:
        return 0.0, 0.0
    around = (grey * ring).sum() / beside  # a product and a sum take a third of the time of grey[ring]
    drop = around - (grey * cracked).sum() / pixels
    deviation = math.sqrt((((grey - around) * ring) ** 2).sum() / beside)
    return float(drop / max(around, 1)), float(drop / max(deviation, 1))


def shift(field: np.ndarray, right_px: int, down_px: int) -> np.ndarray:
    """Shifts `field` by whole pixels, its border repeated: same shape."""
    rows = np.clip(np.arange(len(field)) - down_px, 0, len(field) - 1)
    columns = np.clip(np.arange(field.shape[1]) - right_px, 0, field.shape[1] - 1)
    return field.take(rows, axis=0).take(columns, axis=1)


def grown(cracked: np.ndarray, by_px: int) -> np.ndarray:
    """Dilates by a square: True within `by_px` rows and columns of a True, bool [px, px] in, same out."""
    for transposed in (False, True):
        reach, wide = 0, cracked.T if transposed else cracked
        while reach < by_px:
            step = min(reach + 1, by_px - reach)  # the longest that leaves no gap, not even at the border
            wide, narrow = wide.copy(), wide
            wide[step:] |= narrow[:-step]
            wide[:-step] |= narrow[step:]
            reach += step
        cracked = wide.T if transposed else wide
    return cracked


def _draw_width(rng: np.random.Generator, scale: float, boldness: float) -> float:
    """Draws a width in pixels of the finished image, log-uniform."""
    usual = between(rng, NARROW * (WIDE / NARROW) ** (0.85 * boldness), WIDE)
    return max(usual * scale, MIN_WIDTH_PX * (1 + 2 * boldness))


def _draw_brightness(rng: np.random.Generator, width: float, boldness: float) -> float:
    """Draws the brightness of the inside, relative to the surface. Wide gaps are deep and dark: a wide pale one looks
    like tape."""
    wide = min(max(math.log(width / NARROW) / math.log(WIDE / NARROW), 0), 1)
    palest = (PALEST - 0.25 * wide) * (1 - 0.7 * boldness)
    return palest - (palest - DARKEST) * rng.beta(1.5, 1.2)


def strokes(rng: np.random.Generator, image_px: int, width: float, boldness: float, scale: float) -> list[Stroke]:
    """Draws a crack `width` pixels wide through the middle of an image, rarely two or three. Branches come first, so
    that the main crack lies over them."""
    result: list[Stroke] = []
    for main in range(1 + int(rng.random() < 0.08) + int(rng.random() < 0.03)):
        inner = 0.0 if main else max(0.0, rng.random() - 0.65 - 0.35 * boldness)
        own_width = width * (1.0 if not main else rng.uniform(0.3, 1))
        path = wander(rng, *_draw_chord(rng, image_px, inner), piece(scale, own_width))
        result.insert(0, stroke(rng, path, own_width, (inner > 0 and rng.random() < 0.4, inner > 0)))
        for _ in range(int(np.searchsorted(BRANCHES, rng.random()))):
            result.insert(0, _draw_branch(rng, path, own_width, image_px, scale))
    return result


def _draw_chord(rng: np.random.Generator, image_px: int, inner: float) -> tuple[complex, complex]:
    """Draws two points beyond opposite borders, so that the line between them crosses the middle region; `inner` cuts
    off its far end."""
    angle = rng.uniform(0, 2 * np.pi)
    along = (math.cos(angle) or EPSILON, math.sin(angle) or EPSILON)
    middle = rng.uniform(0.22 * image_px, 0.78 * image_px, 2).tolist()
    walls = [
        sorted((-position / step, (image_px - position) / step)) for position, step in zip(middle, along, strict=True)
    ]
    enter, leave = max(low for low, _ in walls) - 0.06 * image_px, min(high for _, high in walls) + 0.06 * image_px
    leave -= inner * (leave - enter)
    return complex(*middle) + complex(*along) * enter, complex(*middle) + complex(*along) * leave


def wander(rng: np.random.Generator, start: complex, end: complex, piece_px: float) -> np.ndarray:
    """Draws a ragged path from `start` to `end` in pieces of about `piece_px`, by midpoint displacement: complex
    [n]."""
    pieces = max(abs(end - start) / max(piece_px, 2), 4)
    sway, growth = rng.uniform(0.03, 0.13), rng.uniform(0.85, 1.22)
    points = np.array([start, end])
    for level in range(math.ceil(math.log2(pieces))):
        aside = rng.normal(0, min(sway * growth**level, 0.22), len(points) - 1)
        step = points[1:] - points[:-1]
        joined = np.empty(2 * len(points) - 1, complex)
        joined[::2] = points
        joined[1::2] = points[:-1] + step * (0.5 + 1j * np.maximum(np.minimum(aside, 0.5), -0.5))
        points = joined
    return points


def piece(scale: float, width: float) -> float:
    """Length of the straight pieces of a crack: wide ones run straighter."""
    return max(6 * scale, 0.8 * width)


def _draw_wave(rng: np.random.Generator, count: int, knots: int) -> np.ndarray:
    """Draws a piecewise linear curve of `count` values through `knots` normal deviates."""
    return np.interp(np.arange(count) * ((knots - 1) / (count - 1)), np.arange(knots), rng.normal(0, 1, knots))


def stroke(rng: np.random.Generator, path: np.ndarray, width: float, fades: tuple[bool, bool]) -> Stroke:
    """Draws a gap of varying width around `path`; `fades` says which ends taper off."""
    count = len(path)
    swell = rng.uniform(0.05, 0.4) * (_draw_wave(rng, count, 4) + 0.5 * _draw_wave(rng, count, 12))
    along = np.arange(count) / (count - 1)
    bridged = _draw_bridges(rng, along)
    widths = width * np.exp(np.maximum(np.minimum(swell, 0.5), -1.2)) * bridged
    if fades[0]:
        widths *= np.minimum(1, along * 3) ** 0.6
    if fades[1]:
        widths *= np.minimum(1, (1 - along) * 3) ** 0.6
    half = 0.5j * np.maximum(widths, 0.7)
    heading = np.empty(count, complex)
    heading[1:-1] = path[2:] - path[:-2]
    heading[0], heading[-1] = path[1] - path[0], path[-1] - path[-2]
    half *= heading / (np.abs(heading) + EPSILON)
    rough, knots = rng.uniform(0.02, 0.3), count // 2 + 2
    left = path + half * np.maximum(1 + rough * _draw_wave(rng, count, knots), 0.4)
    right = path - half * np.maximum(1 + rough * _draw_wave(rng, count, knots), 0.4)
    return Stroke(left, right, _draw_depth(rng, count - 1) * (bridged[1:] > 0.2))


def _draw_depth(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draws the depth of each of `count` pieces, 0.55..1: mostly 1, sometimes half filled with dirt."""
    if rng.random() < 0.75:
        return np.ones(count)
    return np.clip(rng.uniform(0.75, 1.0) + 0.15 * _draw_wave(rng, count, 7), 0.55, 1)


def _draw_bridges(rng: np.random.Generator, along: np.ndarray) -> np.ndarray:
    """Draws factors 0..1 of the width at the positions `along` (0..1): 1, except for cracks that close here and
    there."""
    open_share = np.ones_like(along)
    for middle in rng.uniform(0, 1, int(rng.integers(1, 4)) if rng.random() < 0.12 else 0):
        half = rng.uniform(0.01, 0.04)
        open_share = np.minimum(open_share, np.clip((np.abs(along - middle) - half) / (2 * half), 0, 1) ** 0.5)
    return open_share


def _draw_branch(rng: np.random.Generator, path: np.ndarray, width: float, image_px: int, scale: float) -> Stroke:
    """Draws a thinner crack that leaves `path` at 20 to 75 degrees and tapers off."""
    start_index = int(rng.integers(len(path) // 6, len(path) - len(path) // 6))
    ahead = path[min(start_index + 3, len(path) - 1)] - path[max(start_index - 3, 0)]
    turn = np.angle(ahead) + rng.uniform(0.35, 1.3) * (1 - 2 * rng.integers(2)) + rng.integers(2) * np.pi
    end = path[start_index] + rng.uniform(0.15, 0.7) * image_px * np.exp(1j * turn)
    thinner = max(width * rng.uniform(0.2, 0.7), 0.9)
    return stroke(rng, wander(rng, path[start_index], end, piece(scale, thinner)), thinner, (False, True))


def rasterise(strokes: list[Stroke], image_px: int) -> np.ndarray:
    """Renders the fraction of each pixel that the strokes cover, weighted by their depth: float32 [px, px], 0..1."""
    canvas = Image.new("L", (image_px * SUPERSAMPLE, image_px * SUPERSAMPLE))
    pen = ImageDraw.Draw(canvas)
    for stroke in strokes:
        corners = np.stack([stroke.left[:-1], stroke.left[1:], stroke.right[1:], stroke.right[:-1]], axis=1)
        greys = (255 * stroke.depth).astype(int).tolist()
        for quad, grey in zip((corners * SUPERSAMPLE).view(float).tolist(), greys, strict=True):
            if grey:
                pen.polygon(quad, fill=grey)
    return np.asarray(canvas.reduce(SUPERSAMPLE), np.float32) / 255


def wall(
    rng: np.random.Generator, shade: np.ndarray, angle: float, width: float, reference: float = REFERENCE_PX
) -> np.ndarray:
    """Draws what the light still reaches inside a gap, one side of it and rubble: float32 [px, px], 0..0.7 of the
    shade."""
    reach = rng.uniform(0.2, 0.5) * width
    seen = np.zeros_like(shade)
    if rng.random() < 0.5:
        side = shade - shift(shade, round(reach * np.cos(angle)), round(reach * np.sin(angle)))
        seen += np.float32(rng.uniform(0.15, 0.6)) * np.clip(side, 0, 1)
    if rng.random() < 0.5:
        rubble = fractal(rng, len(shade), 12, 3, 0.9, reference=reference)
        seen += np.float32(rng.uniform(0.05, 0.3)) * np.clip(rubble, 0, 2)
    return np.minimum(seen, 0.7)


def edge(
    rng: np.random.Generator, cover: np.ndarray, angle: float, width: float, reference: float = REFERENCE_PX
) -> np.ndarray:
    """Draws lit lips, and broken and dirty ground beside the crack: float32 [px, px], relative brightness, mostly
    0."""
    image_px = len(cover)
    scale = image_px / reference
    beside = np.zeros_like(cover)
    lip, band = rng.random() < 0.5, rng.random() < 0.35
    if not lip and not band:
        return beside
    ground = fractal(rng, image_px, 36, 4, 0.8, reference=reference)
    if lip:  # towards the light, in patches
        reach = max(1.0, rng.uniform(0.8, 3.0) * scale)
        lit = shift(cover, -round(reach * math.cos(angle)), -round(reach * math.sin(angle))) - cover
        patches = np.clip(ground + np.float32(rng.uniform(-0.5, 1)), 0, 1)
        beside += np.float32(rng.uniform(0.1, 0.55)) * np.clip(lit, 0, 1) * patches
    if band:
        relief = np.float32(rng.uniform(0, 0.1)) * slope(ground, angle)
        beside += _blur_cover(cover, rng.uniform(2, 6) * scale + 0.5 * width) * (
            relief + np.float32(rng.normal(-0.06, 0.12))
        )
    return beside * (1 - cover)


def _blur_cover(cover: np.ndarray, reach_px: float) -> np.ndarray:
    """Blurs `cover` over about `reach_px` and rescales it to 0..1; on a small grid, because it is smooth anyway."""
    image_px = len(cover)
    small = np.asarray(Image.fromarray(cover).reduce(max(2, round(reach_px / 2))))
    spread = enlarge(soften(small, 1.2), image_px, image_px)
    return np.clip(spread / max(float(spread.max()), EPSILON), 0, 1)
