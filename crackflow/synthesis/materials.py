"""Grounds of many kinds, beside the concrete of `synthesis.surfaces`: rubble, tiles, boards, pebbles, anything rough.

Synopsis::

    surface = draw_material(rng, 128, reference=300)    # a Surface, as `synthesis.surfaces` describes it

Lengths in this file are pixels of an image `reference` wide, as in `synthesis.surfaces`.
"""

import math

import numpy as np
from scipy.spatial import cKDTree

from crackflow.synthesis import surfaces
from crackflow.synthesis.surfaces import Field, Material, Surface, between, fractal, shades, slope, soften

DARKEST, LIGHTEST = 0.05, 2.0  # of a tone


def draw_material(rng: np.random.Generator, image_px: int, reference: float) -> Surface:
    """Draws a ground of a random material, without anything on it."""
    shares = np.cumsum([share for share, _ in MATERIALS])
    material = MATERIALS[int(np.searchsorted(shares, rng.random() * shares[-1]))][1]
    return material(rng, image_px, reference)


def rubble(rng: np.random.Generator, image_px: int, reference: float) -> Surface:
    """Draws natural stones in mortar, from cobbles to large blocks."""
    size = max(between(rng, 8, 110) * image_px / reference, 4)
    nearest, gap, count = _voronoi_cells(rng, image_px, size, rng.uniform(0.5, 1))
    gap = gap + fractal(rng, image_px, 12, 3, 0.8, reference=reference) * np.float32(rng.uniform(0, 0.036) * size)
    joint = rng.uniform(0.03, 0.2) * size
    cover = np.clip((gap - joint) / max(1.0, joint * rng.uniform(0.2, 1)), 0, 1).astype(np.float32)
    stones = rng.normal(1, rng.uniform(0.03, 0.25), count).astype(np.float32)[nearest]
    tints = np.clip(1 + rng.normal(0, rng.uniform(0.01, 0.08), (3, count)), 0.6, 1.4).astype(np.float32)[:, nearest]
    mortar = np.float32(rng.uniform(0.35, 1.5) if rng.random() < 0.8 else 0.35)
    tone = cover * stones + (1 - cover) * mortar
    tone += np.float32(between(rng, 0.01, 0.08)) * fractal(
        rng, image_px, between(rng, 3, 14), 2, 0.9, reference=reference
    )
    tone += np.float32(rng.uniform(0, 0.5)) * slope(cover, rng.uniform(0, 2 * np.pi))
    colour = np.clip(tints * cover + (1 - cover), 0.4, 1.4) * _draw_paint(rng, 0.3, 0.85, 0.06)
    return _clip_surface(soften(tone, rng.uniform(0, 0.5)), colour)


def tiles(rng: np.random.Generator, image_px: int, reference: float) -> Surface:
    """Draws slabs, tiles or blocks in courses: straight joints that cross, dark or light."""
    scale = image_px / reference
    wide = between(rng, 30, 160) * scale
    high, gap = wide * rng.choice([1, 1, 0.5, 0.33, 2]), rng.uniform(1, 6) * scale
    angle = rng.normal(0, 0.05) + (rng.uniform(0, np.pi) if rng.random() < 0.3 else 0)
    y, x = np.mgrid[:image_px, :image_px].astype(np.float32)
    along = np.cos(angle) * x + np.sin(angle) * y + rng.uniform(0, wide)
    up = np.cos(angle) * y - np.sin(angle) * x + rng.uniform(0, high)
    row = np.floor(up / high)
    along = along + row % 2 * wide / 2 if rng.random() < 0.4 else along
    column = np.floor(along / wide)
    beside = np.minimum(along - column * wide, (column + 1) * wide - along)
    above = np.minimum(up - row * high, (row + 1) * high - up)
    cover = np.clip((np.minimum(beside, above) - gap / 2) / max(0.7, 0.2 * gap) + 0.5, 0, 1).astype(np.float32)
    drawn = np.sin(row * 12.9898 + column * 78.233 + rng.uniform(0, 100)) * 43758.5453  # a pseudorandom number per tile
    own = (drawn - np.floor(drawn)).astype(np.float32) - 0.5
    joint = np.float32(rng.uniform(0.25, 0.95) if rng.random() < 0.7 else rng.uniform(1.05, 1.5))
    tone = cover * (1 + np.float32(rng.uniform(0, 0.15)) * own) + (1 - cover) * joint
    grain = fractal(rng, image_px, between(rng, 4, 40), 2, rng.uniform(0.6, 1.1), reference=reference)
    tone += np.float32(between(rng, 0.008, 0.06)) * grain
    tone += np.float32(rng.uniform(0, 0.4)) * slope(cover, rng.uniform(0, 2 * np.pi))
    return _clip_surface(tone, _draw_paint(rng, 0.35, 0.9, 0.08))


def boards(rng: np.random.Generator, image_px: int, reference: float) -> Surface:
    """Draws texture stretched in one direction: the print of formwork boards, wood, brushed or trowelled faces."""
    grain = fractal(
        rng, image_px, between(rng, 6, 40), 1.6, rng.uniform(0.7, 1.1), between(rng, 4, 25), reference=reference
    )
    grain = np.ascontiguousarray(grain.T) if rng.random() < 0.5 else grain
    fine = fractal(rng, image_px, between(rng, 3, 10), 1.8, 0.9, reference=reference)
    tone = 1 + np.float32(between(rng, 0.02, 0.14)) * grain + np.float32(between(rng, 0.01, 0.06)) * fine
    tone += np.float32(rng.uniform(0, 0.12)) * slope(grain, rng.uniform(0, 2 * np.pi))
    return _clip_surface(tone, _draw_paint(rng, 0.3, 0.9, 0.07))


def rough(rng: np.random.Generator, image_px: int, reference: float) -> Surface:
    """Draws noise of a random spectrum and skew: asphalt from afar, render, gravel."""
    noise = fractal(rng, image_px, between(rng, 1.5, 12), 1.2, rng.uniform(0.6, 1.4), reference=reference)
    noise = soften(noise, rng.uniform(0, 0.6)) if image_px > 0.6 * reference else noise
    noise = noise / max(float(noise.std()), 1e-3)
    skew = rng.uniform(0.02, 0.5)
    noise = np.expm1(np.float32(skew) * noise) / np.float32(skew)
    noise = np.clip(noise if rng.random() < 0.5 else -noise, -3, 4)
    tone = 1 + np.float32(between(rng, 0.03, 0.3)) * noise
    tone += np.float32(between(rng, 0.005, 0.06)) * fractal(
        rng, image_px, between(rng, 40, 160), 14, 0.7, reference=reference
    )
    if rng.random() < 0.5:
        tone += np.float32(rng.uniform(0, 0.15)) * slope(noise, rng.uniform(0, 2 * np.pi))
    return _clip_surface(np.maximum(tone, 0.1), _draw_paint(rng, 0.2, 0.9, 0.05))


def pebbles(rng: np.random.Generator, image_px: int, reference: float) -> Surface:
    """Draws exposed aggregate: small stones side by side, each with its own colour."""
    size = max(between(rng, 4, 20) * image_px / reference, 2.5)
    nearest, gap, count = _voronoi_cells(rng, image_px, size, 1.0)
    stones = rng.normal(1, rng.uniform(0.05, 0.35), count).astype(np.float32)[nearest]
    dome = np.clip(gap / (size * 0.35), 0, 1)
    low = np.float32(rng.uniform(0.5, 0.95))
    tone = stones * (low + (1 - low) * dome) + np.float32(rng.uniform(0, 0.3)) * slope(dome, rng.uniform(0, 2 * np.pi))
    tints = np.clip(1 + rng.normal(0, rng.uniform(0, 0.07), (3, count)), 0.6, 1.4).astype(np.float32)[:, nearest]
    return _clip_surface(
        np.maximum(soften(tone, rng.uniform(0.2, 0.8)), 0.1), tints * _draw_paint(rng, 0.25, 0.8, 0.05)
    )


# Concrete, plaster, asphalt and brick are those of `synthesis.surfaces`.
MATERIALS: tuple[tuple[float, Material], ...]
MATERIALS = (
    *((0.16, surfaces.concrete), (0.12, surfaces.plaster), (0.14, surfaces.asphalt), (0.10, surfaces.brick)),
    *((0.08, rubble), (0.06, tiles), (0.06, boards), (0.18, rough), (0.10, pebbles)),
)


def _voronoi_cells(
    rng: np.random.Generator, image_px: int, size: float, jitter: float
) -> tuple[np.ndarray, Field, int]:
    """Draws a Voronoi diagram of points about `size` pixels apart.

    Returns:
        (int [px, px], the nearest point of each pixel; float32 [px, px], how much farther the second nearest is, in
        pixels; the number of points).
    """
    side = math.ceil(1.4 * image_px / size)
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
    points = (grid + 0.5 + rng.uniform(-0.5, 0.5, grid.shape) * jitter) * size - 0.2 * image_px
    y, x = np.mgrid[:image_px, :image_px]
    distance, index = cKDTree(points).query(np.stack([x.ravel(), y.ravel()], 1), k=2)
    gap = (distance[:, 1] - distance[:, 0]).reshape(image_px, image_px).astype(np.float32)
    return index[:, 0].reshape(image_px, image_px), gap, len(points)


def _draw_paint(rng: np.random.Generator, low: float, high: float, cast: float) -> np.ndarray:
    """Draws a colour with a brightness from `low` to `high` and channels that differ by about `cast`: float32
    [3, 1, 1]."""
    return rng.uniform(low, high) * np.clip(shades(*(1 + rng.normal(0, cast, 3))), 0.5, 1.5)


def _clip_surface(tone: Field, colour: np.ndarray) -> Surface:
    return Surface(np.clip(tone, DARKEST, LIGHTEST).astype(np.float32), colour.astype(np.float32))
