"""Cracks: where they run, how wide they gape, how they darken a surface, and whether they can be seen.

Synopsis::

    crack = draw(rng, 227, boldness=0.0)
    cracked = darken(surface, crack)            # float32 [3, 227, 227] in, same out
    held = is_visible(image, crack.mask)        # of the finished photograph, uint8 [227, 227, 3]

Widths in this file are pixels of a picture 227 wide, as METU has them; `px / REFERENCE_PX` scales them.
"""

import dataclasses

import numpy as np
from PIL import Image, ImageDraw

from crackflow.data.surfaces import REFERENCE_PX, enlarge, fractal, shift, slope, soften

SUPERSAMPLE = 3  # cracks are drawn at three times the size and averaged: soft edges, hairlines without steps
MIN_WIDTH_PX = 1.0  # of the finished picture, whatever its size: thinner lines vanish between the pixels
NARROW, WIDE = 1.2, 13.0  # usual widths: METU's cracks measure 2 to 20, DeepCrack's hairlines 1
MASK_COVER = 0.35  # a pixel is crack where a third of it is; half would tear hairlines apart
DARKEST = 0.05  # the inside of a crack, relative to the surface: never quite black
MIN_MASK_FRACTION = 0.003  # of the pixels, in every cracked picture: 155 of 227 x 227, a hairline two thirds across
USUAL_MASK_FRACTION = 0.005  # nine of ten exceed this, the share from which `convert` calls a window cracked
MIN_CONTRAST = 0.15  # the crack is so much darker than the surface within RING_PX of it, as a share of that surface
MIN_CONTRAST_DEVIATIONS = 1.25  # and by so many standard deviations of that surface, so that texture can't hide it
RING_PX = 5  # of a picture 227 wide
EPSILON = 1e-6


@dataclasses.dataclass(frozen=True)
class Stroke:
    """One crack or branch: corners float32 [n + 1, 2] of its two banks, and of each of the n pieces how deep (0..1)."""

    left: np.ndarray
    right: np.ndarray
    depth: np.ndarray


@dataclasses.dataclass(frozen=True)
class Crack:
    """What a crack does to a surface.

    shade: float32 [px, px], 0..1, the share of the surface that gives way to the inside of the crack.
    inside: float32 [3, 1, 1], 0..1, how bright that inside is, relative to the surface.
    edge: float32 [px, px], near 0, relative brightness added by lit, broken or dirty edges.
    mask: uint8 [px, px], 255 on the crack, 0 elsewhere.
    """

    shade: np.ndarray
    inside: np.ndarray
    edge: np.ndarray
    mask: np.ndarray


def draw(rng: np.random.Generator, px: int, boldness: float = 0.0) -> Crack:
    """One crack with its branches for a picture of `px` x `px`.

    `boldness` 0..1 lifts the narrowest width and the least darkness that may be drawn: 0 takes all that nature offers, 1 a wide, dark crack
    from side to side.
    """
    width = _width(rng, px, boldness)
    cover = _rasterise(_strokes(rng, px, width, boldness), px)
    mask = np.where(cover >= MASK_COVER, 255, 0).astype(np.uint8)
    scale = px / REFERENCE_PX
    shade = soften(cover, rng.uniform(0, min(0.25 * width, 1.6 * scale)) * (1 - boldness))
    angle = rng.uniform(0, 2 * np.pi)
    if width > 3 * scale:
        shade = shade * (1 - _wall(rng, shade, angle, width))
    palest = 0.62 - 0.45 * boldness
    bright = palest - (palest - DARKEST) * rng.beta(1.5, 1.2)
    tint = np.clip(1 + rng.normal(0.03, 0.06) * np.array([1.0, 0.2, -0.8]), 0.7, 1.3)
    inside = (bright * tint).astype(np.float32)[:, None, None]
    return Crack(shade, inside, _edge(rng, cover, angle, width), mask)


def darken(surface: np.ndarray, crack: Crack) -> np.ndarray:
    """`surface` with `crack` in it: float32 [3, px, px] in, same out, above 0.

    The inside shows the surface's own grain from elsewhere (upside down), darker.
    """
    around = surface * np.clip(1 + crack.edge, 0.3, 1.9)
    inside = np.minimum(surface[:, ::-1] * crack.inside, around)
    return around + (inside - around) * crack.shade


def is_visible(image: np.ndarray, mask: np.ndarray) -> bool:
    """Whether the crack of `mask` is large and dark enough in `image` (uint8 [px, px, 3]) to be called one."""
    if np.count_nonzero(mask) < MIN_MASK_FRACTION * mask.size:
        return False
    drop, deviations = contrast(image, mask)
    return drop >= MIN_CONTRAST and deviations >= MIN_CONTRAST_DEVIATIONS


def contrast(image: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """How much darker the crack is than the surface beside it: as a share of that surface, and in its deviations.

    Inputs: image uint8 [px, px, 3]; mask uint8 [px, px], 255 on the crack.
    """
    grey = np.asarray(Image.fromarray(image).convert("L"))
    cracked = mask > 0
    ring = grown(cracked, max(2, round(RING_PX * len(mask) / REFERENCE_PX))) & ~cracked
    if not ring.any() or not cracked.any():
        return 0.0, 0.0
    beside = grey[ring].astype(np.float32)
    drop = float(beside.mean() - grey[cracked].mean(dtype=np.float32))
    return drop / max(float(beside.mean()), 1.0), drop / max(float(beside.std()), 1.0)


def grown(cracked: np.ndarray, by_px: int) -> np.ndarray:
    """True within `by_px` rows and columns of a True: bool [px, px] in, same out."""
    for turned in (False, True):
        reach, wide = 0, cracked.T if turned else cracked
        while reach < by_px:
            step = min(2 * reach + 1, by_px - reach)  # the longest that leaves no gap
            wide, narrow = wide.copy(), wide
            wide[step:] |= narrow[:-step]
            wide[:-step] |= narrow[step:]
            reach += step
        cracked = wide.T if turned else wide
    return cracked


def _width(rng: np.random.Generator, px: int, boldness: float) -> float:
    """In pixels of the finished picture, as often in one doubling as in the next."""
    low, high = np.log(NARROW), np.log(WIDE)
    low += 0.85 * boldness * (high - low)
    return max(float(np.exp(rng.uniform(low, high))) * px / REFERENCE_PX, MIN_WIDTH_PX * (1 + 2 * boldness))


def _strokes(rng: np.random.Generator, px: int, width: float, boldness: float) -> list[Stroke]:
    """Branches first, so that the main crack lies over them."""
    strokes: list[Stroke] = []
    for main in range(1 + int(rng.random() < 0.08) + int(rng.random() < 0.03)):
        inner = 0.0 if main else max(0.0, rng.random() - 0.65 - 0.35 * boldness)
        own = width * (1.0 if not main else rng.uniform(0.3, 1))
        path = _wander(rng, *_chord(rng, px, inner), _piece(px, own))
        strokes.insert(0, _stroke(rng, path, own, (inner > 0 and rng.random() < 0.4, inner > 0)))
        for _ in range(int(rng.choice(4, p=[0.55, 0.25, 0.13, 0.07]))):
            strokes.insert(0, _branch(rng, path, own, px))
    return strokes


def _chord(rng: np.random.Generator, px: int, inner: float) -> tuple[np.ndarray, np.ndarray]:
    """Two points beyond opposite borders, the line between them through the middle region; `inner` cuts its far end."""
    angle = rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    middle = rng.uniform(0.22 * px, 0.78 * px, 2)
    with np.errstate(divide="ignore"):
        walls = np.sort(np.stack([-middle / along, (px - middle) / along]), axis=0)
    enter, leave = walls[0].max() - 0.06 * px, walls[1].min() + 0.06 * px
    return middle + along * enter, middle + along * (leave - inner * (leave - enter))


def _wander(rng: np.random.Generator, start: np.ndarray, end: np.ndarray, piece_px: float) -> np.ndarray:
    """A ragged way from `start` to `end` in pieces of about `piece_px`, by midpoint displacement: float64 [n, 2]."""
    points = np.stack([start, end])
    pieces = max(np.hypot(*(end - start)) / max(piece_px, 2), 4)
    sway, growth = rng.uniform(0.03, 0.13), rng.uniform(0.85, 1.22)
    for level in range(int(np.ceil(np.log2(pieces)))):
        step = points[1:] - points[:-1]
        normal = np.stack([-step[:, 1], step[:, 0]], axis=1)
        size = np.clip(rng.normal(0, min(sway * growth**level, 0.22), (len(step), 1)), -0.5, 0.5)
        middle = (points[1:] + points[:-1]) / 2 + normal * size
        joined = np.empty((2 * len(points) - 1, 2))
        joined[::2], joined[1::2] = points, middle
        points = joined
    return points


def _wave(rng: np.random.Generator, count: int, knots: int) -> np.ndarray:
    """A random line of `count` values through `knots` normal deviates."""
    return np.interp(np.linspace(0, knots - 1, count), np.arange(knots), rng.normal(0, 1, knots))


def _stroke(rng: np.random.Generator, path: np.ndarray, width: float, fades: tuple[bool, bool]) -> Stroke:
    """A gap of varying width around `path`; `fades` tells which ends run out."""
    count = len(path)
    swell = rng.uniform(0.05, 0.4) * (_wave(rng, count, 4) + 0.5 * _wave(rng, count, 12))
    widths = width * np.exp(np.clip(swell, -1.2, 0.5))
    along = np.linspace(0, 1, count)
    if fades[0]:
        widths *= np.minimum(1, along * 3) ** 0.6
    if fades[1]:
        widths *= np.minimum(1, (1 - along) * 3) ** 0.6
    bridged = _bridges(rng, along)
    widths = np.maximum(widths * bridged, 0.7)
    heading = np.gradient(path, axis=0)
    normal = np.stack([-heading[:, 1], heading[:, 0]], axis=1) / (np.hypot(*heading.T)[:, None] + EPSILON)
    rough = rng.uniform(0.02, 0.3)
    banks = [0.5 * widths * (1 + rough * np.clip(_wave(rng, count, count // 2 + 2), -2, 2)) for _ in range(2)]
    left, right = (path + side * normal * np.maximum(bank, 0.3)[:, None] for side, bank in zip((1, -1), banks, strict=True))
    return Stroke(left, right, _depth(rng, count - 1) * (bridged[1:] > 0.2))


def _depth(rng: np.random.Generator, count: int) -> np.ndarray:
    """How deep each of `count` pieces is, 0.55..1: mostly 1, sometimes half filled with dirt."""
    if rng.random() < 0.75:
        return np.ones(count)
    return np.clip(rng.uniform(0.75, 1.0) + 0.15 * _wave(rng, count, 7), 0.55, 1)


def _bridges(rng: np.random.Generator, along: np.ndarray) -> np.ndarray:
    """Factors 0..1 of the width at places `along` (0..1): 1, but for cracks that close here and there."""
    open_share = np.ones_like(along)
    for middle in rng.uniform(0, 1, int(rng.integers(1, 4)) if rng.random() < 0.12 else 0):
        half = rng.uniform(0.01, 0.04)
        open_share = np.minimum(open_share, np.clip((np.abs(along - middle) - half) / (2 * half), 0, 1) ** 0.5)
    return open_share


def _branch(rng: np.random.Generator, path: np.ndarray, width: float, px: int) -> Stroke:
    """A thinner crack that leaves `path` at 20 to 75 degrees and runs out."""
    at = int(rng.integers(len(path) // 6, len(path) - len(path) // 6))
    ahead = path[min(at + 3, len(path) - 1)] - path[max(at - 3, 0)]
    turn = np.arctan2(ahead[1], ahead[0]) + rng.choice([-1, 1]) * rng.uniform(0.35, 1.3) + rng.integers(2) * np.pi
    reach = rng.uniform(0.15, 0.7) * px
    end = path[at] + reach * np.array([np.cos(turn), np.sin(turn)])
    thinner = max(width * rng.uniform(0.2, 0.7), 0.9)
    return _stroke(rng, _wander(rng, path[at], end, _piece(px, thinner)), thinner, (False, True))


def _piece(px: int, width: float) -> float:
    """Length of the straight pieces of a crack: wide ones run straighter."""
    return max(5 * px / REFERENCE_PX, 0.8 * width)


def _rasterise(strokes: list[Stroke], px: int) -> np.ndarray:
    """How much of each pixel the strokes take, weighed by their depth: float32 [px, px], 0..1."""
    canvas = Image.new("L", (px * SUPERSAMPLE, px * SUPERSAMPLE))
    pen = ImageDraw.Draw(canvas)
    for stroke in strokes:
        quads = np.concatenate([stroke.left[:-1], stroke.left[1:], stroke.right[1:], stroke.right[:-1]], axis=1)
        greys = np.round(255 * stroke.depth).astype(int)
        for quad, grey in zip((quads * SUPERSAMPLE).tolist(), greys.tolist(), strict=True):
            if grey:
                pen.polygon(quad, fill=grey)
    return np.asarray(canvas.reduce(SUPERSAMPLE), np.float32) / 255


def _wall(rng: np.random.Generator, shade: np.ndarray, angle: float, width: float) -> np.ndarray:
    """What the light still reaches inside a gap: one side of it, and rubble. float32 [px, px], 0..0.7 of the shade."""
    reach = rng.uniform(0.2, 0.5) * width
    seen = np.zeros_like(shade)
    if rng.random() < 0.5:
        side = shade - shift(shade, round(reach * np.cos(angle)), round(reach * np.sin(angle)))
        seen += np.float32(rng.uniform(0.15, 0.6)) * np.clip(side, 0, 1)
    if rng.random() < 0.5:
        rubble = fractal(rng, len(shade), 12, 3, 0.9)
        seen += np.float32(rng.uniform(0.05, 0.3)) * np.clip(rubble, 0, 2)
    return np.minimum(seen, 0.7)


def _edge(rng: np.random.Generator, cover: np.ndarray, angle: float, width: float) -> np.ndarray:
    """Lit lips, broken chips and dirt beside the crack: float32 [px, px], relative brightness, mostly 0."""
    px = len(cover)
    scale = px / REFERENCE_PX
    edge = np.zeros_like(cover)
    if rng.random() < 0.5:  # a lip towards the light, in patches
        reach = max(1.0, rng.uniform(0.8, 3.0) * scale)
        lip = shift(cover, -round(reach * np.cos(angle)), -round(reach * np.sin(angle))) - cover
        patches = np.clip(fractal(rng, px, 40, 10, 0.9) + np.float32(rng.uniform(-0.5, 1)), 0, 1)
        edge += np.float32(rng.uniform(0.1, 0.55)) * np.clip(lip, 0, 1) * patches
    if rng.random() < 0.35:  # broken or dirty ground on both sides
        band = _far_blur(cover, _reach(rng, width, scale))
        ground = fractal(rng, px, 16, 4, 0.9)
        edge += band * (np.float32(rng.normal(-0.06, 0.12)) + np.float32(rng.uniform(0, 0.1)) * slope(ground, angle))
    return edge * (1 - cover)


def _reach(rng: np.random.Generator, width: float, scale: float) -> float:
    return float(rng.uniform(2, 6)) * scale + 0.5 * width


def _far_blur(cover: np.ndarray, reach_px: float) -> np.ndarray:
    """`cover` spread over about `reach_px` and brought back to 0..1; on a small grid, as it is smooth anyway."""
    px = len(cover)
    step = max(2, round(reach_px / 2))
    small = np.asarray(Image.fromarray(cover).resize((px // step + 1, px // step + 1), Image.Resampling.BOX))
    spread = enlarge(soften(small, 1.2), px, px)
    return np.clip(spread / max(float(spread.max()), EPSILON), 0, 1)
