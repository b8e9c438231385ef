"""Two synthetic surfaces that no training of crackflow has: to measure what a model is worth on a kind it has not seen.

Synopsis::

    images, labels = strange_surfaces.draw("shingles", count=700, image_px=128)   # uint8 [700, 128, 128, 3], int [700]

`shingles`: overlapping rows of slates or wooden shingles, each with a shadow below its edge. `travertine`: banded stone
with long dark pits. Neither may become a material of `crackflow.synthesis`. Cracks and cameras are those of
`synthesis.varied`: what is strange here is the ground.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from crackflow.synthesis import concrete, cracks, varied
from crackflow.synthesis.concrete import Example
from crackflow.synthesis.surfaces import Surface, between, fractal, soften

REFERENCE_PX = 227
ATTEMPTS = 9
SEED = 20_261_201


def shingles(rng: np.random.Generator, image_px: int) -> Surface:
    """Overlapping rows of shingles: a dark lower edge with a soft shadow below it, and narrow gaps side by side."""
    wide, high = between(rng, 18, 60), between(rng, 14, 50)
    y, x = np.mgrid[:image_px, :image_px].astype(np.float32)
    sag = np.float32(between(rng, 0.4, 2.5)) * fractal(rng, image_px, 60, 12, 0.6)
    up = y + sag + np.float32(rng.uniform(0, high))
    row = np.floor(up / high)
    along = x + row % 2 * wide / 2 + np.float32(rng.uniform(0, wide)) + np.sin(row * 7.1) * np.float32(0.2 * wide)
    column = np.floor(along / wide)
    hashed = np.sin(row * 12.9898 + column * 78.233 + np.float32(rng.uniform(0, 100))) * 43758.5453
    own = (hashed - np.floor(hashed)).astype(np.float32) - 0.5
    below = (
        up - row * high - own * np.float32(0.12 * high)
    )  # distance below the edge of the row above; edges are uneven
    shadow = np.exp(-np.clip(below, 0, None) / np.float32(between(rng, 1.0, 3.5))) * np.float32(rng.uniform(0.3, 0.8))
    beside = np.minimum(along - column * wide, (column + 1) * wide - along)
    gap = np.clip(1 - beside / np.float32(between(rng, 0.8, 1.8)), 0, 1) * np.float32(rng.uniform(0.3, 0.8))
    grain = fractal(rng, image_px, between(rng, 10, 40), 1.5, 0.8, stretch=between(rng, 1, 6)).T
    tone = (1 + np.float32(rng.uniform(0.1, 0.5)) * own) * (1 - np.maximum(shadow, gap))
    tone = tone * (1 + np.float32(between(rng, 0.02, 0.1)) * grain)
    colour = rng.uniform(0.25, 0.75) * np.clip(1 + rng.normal(0, 0.08, (3, 1, 1)), 0.6, 1.4)
    return Surface(np.clip(tone, 0.03, 2).astype(np.float32), colour.astype(np.float32))


def travertine(rng: np.random.Generator, image_px: int) -> Surface:
    """Stone in wavy bands, with pits that are long along the bands and dark inside."""
    bands = fractal(rng, image_px, between(rng, 20, 70), 3, 0.8, stretch=between(rng, 5, 14))
    pits = fractal(rng, image_px, between(rng, 5, 14), 2, 0.7, stretch=between(rng, 2, 7))
    depth = np.clip((pits - np.float32(rng.uniform(1.2, 1.9))) * np.float32(between(rng, 2, 6)), 0, 1)
    depth = soften(depth, rng.uniform(0.2, 0.7)) * np.float32(rng.uniform(0.25, 0.8))
    tone = (1 + np.float32(between(rng, 0.03, 0.15)) * bands) * (1 - depth)
    tone += np.float32(between(rng, 0.01, 0.04)) * fractal(rng, image_px, between(rng, 3, 8), 1.5, 0.9)
    if rng.random() < 0.5:
        tone = np.ascontiguousarray(tone.T)
    colour = rng.uniform(0.45, 0.9) * np.clip(np.array([1.05, 1.0, 0.9]) + rng.normal(0, 0.04, 3), 0.6, 1.3)
    return Surface(np.clip(tone, 0.03, 2).astype(np.float32), colour.astype(np.float32)[:, None, None])


SURFACES: dict[str, Callable[[np.random.Generator, int], Surface]] = {"shingles": shingles, "travertine": travertine}


def draw(name: str, count: int, image_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws `count` windows of a surface, every second one cracked, the same on every call.

    Returns:
        (uint8 [count, px, px, 3], 0..255; int [count], 1 means cracked).
    """
    examples = [draw_example(name, index, image_px) for index in range(count)]
    return np.stack([example.image for example in examples]), np.array([example.label for example in examples])


def draw_example(name: str, index: int, image_px: int) -> Example:
    """Draws picture `index` of a surface; odd ones are cracked. Larger pictures show more of it, at the same scale."""
    rng = np.random.default_rng([SEED, sorted(SURFACES).index(name), index])
    for _ in range(100):  # until a crack can be seen, on clean pictures as well, so that both are of the same grounds
        surface = SURFACES[name](rng, image_px)
        surface = dataclasses.replace(surface, tone=surface.tone * concrete.light(rng, image_px))
        camera = varied.draw_camera(rng, surface)
        faint = rng.random() < varied.FAINT
        for attempt in range(ATTEMPTS):
            crack = varied.draw_crack(rng, image_px, REFERENCE_PX, attempt / (ATTEMPTS - 1), faint)
            image = concrete.expose(cracks.darken(surface, crack), camera)
            if not varied.is_visible(image, crack.mask, faint):
                continue
            if index % 2 == 0:
                image, nothing = concrete.expose(surface, camera), np.zeros_like(crack.mask)
                return Example(image, nothing, 0, camera.jpeg_quality)
            return Example(image, crack.mask, 1, camera.jpeg_quality)
    raise RuntimeError(f"{name}, picture {index}: no visible crack")
