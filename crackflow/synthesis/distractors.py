"""Distractors, which lie on a wall or a road and are no crack: cables, stripes, edges of materials, rims of stains,
leaves, shadows.

Synopsis::

    surface = scatter(rng, surface, reference, other_ground)    # Surface to Surface
    field = light(rng, 128, reference)                          # float32 [128, 128], factors

Images with and without a crack get the same distractors, so that they say nothing about the class. Lengths in this file
are pixels of an image `reference` wide, as in `synthesis.surfaces`.
"""

from collections.abc import Callable

import numpy as np

from crackflow.synthesis import surfaces
from crackflow.synthesis.surfaces import Field, Surface, between, fractal

Ground = Callable[[np.random.Generator, int], Surface]


def scatter(rng: np.random.Generator, surface: Surface, reference: float, other_ground: Ground) -> Surface:
    """Adds stains, pits, joints and other distractors to `surface`; `other_ground` draws the ground beyond an edge."""
    image_px = len(surface.tone)
    colour = surface.colour * surfaces.stains(rng, image_px, reference) if rng.random() < 0.45 else surface.colour
    tone = surface.tone * surfaces.marks(rng, image_px, reference) if rng.random() < 0.7 else surface.tone
    scale = image_px / reference
    tone = _add_cable(rng, tone, scale) if rng.random() < 0.10 else tone
    tone = _add_stripe(rng, tone, scale, reference) if rng.random() < 0.08 else tone
    if rng.random() < 0.08:
        tone, colour = _add_seam(rng, tone, colour, other_ground(rng, image_px))
    tone = _add_rim(rng, tone, reference) if rng.random() < 0.06 else tone
    tone = _add_debris(rng, tone, scale) if rng.random() < 0.06 else tone
    return Surface(np.clip(tone, 0.02, 2).astype(np.float32), np.asarray(colour, np.float32))


def light(rng: np.random.Generator, image_px: int, reference: float) -> Field:
    """Draws slants, and the ragged shadow of leaves or a fence: float32 [px, px], factors 0.3..2."""
    field = np.ones((image_px, image_px), np.float32)
    if rng.random() < 0.15:
        shape = fractal(rng, image_px, between(rng, 30, 200), between(rng, 8, 20), 0.6, reference=reference)
        cover = np.clip((shape - np.float32(rng.uniform(-0.5, 1))) * np.float32(between(rng, 1, 8)), 0, 1)
        field = field * (1 - np.float32(rng.uniform(0.2, 0.6)) * cover)
    if rng.random() < 0.3:
        line, slant = np.linspace(-1, 1, image_px, dtype=np.float32), rng.normal(0, 0.15, 2).astype(np.float32)
        field = field * np.clip(1 + slant[0] * line[:, None] + slant[1] * line, 0.3, 2)
    return field


def _line_distance(rng: np.random.Generator, image_px: int) -> Field:
    """Signed distance in pixels from a random line, straight or bent."""
    angle, middle = np.float32(rng.uniform(0, 2 * np.pi)), image_px / 2
    y, x = np.mgrid[:image_px, :image_px].astype(np.float32) - np.float32(middle)
    away = np.cos(angle) * x + np.sin(angle) * y - np.float32(rng.uniform(-0.5, 0.5) * image_px)
    if rng.random() < 0.4:
        along = np.cos(angle) * y - np.sin(angle) * x
        away = away + np.float32(rng.normal(0, 0.25) / image_px) * along * along
    return away


def _add_cable(rng: np.random.Generator, tone: Field, scale: float) -> Field:
    """Adds a cable, pipe or rope: round, lit from one side, with a shadow beside it."""
    width = max(between(rng, 2, 14) * scale, 0.8)
    across = _line_distance(rng, len(tone)) / np.float32(width)
    cover = np.clip((1 - np.abs(across)) * np.float32(width) + 0.5, 0, 1)
    body = np.float32(rng.uniform(0.15, 1.6)) * (1 + np.float32(rng.uniform(-0.6, 0.6)) * np.clip(across, -1, 1))
    shadow = np.exp(-((across - np.float32(rng.uniform(-1.5, 1.5))) ** 2))
    return tone * (1 - np.float32(rng.uniform(0, 0.5)) * shadow) * (1 - cover) + body * cover


def _add_stripe(rng: np.random.Generator, tone: Field, scale: float, reference: float) -> Field:
    """Adds paint, tape or a strip of repair, perhaps worn."""
    image_px, half = len(tone), rng.uniform(8, 60) * scale
    cover = np.clip((np.float32(half) - np.abs(_line_distance(rng, image_px))) / np.float32(between(rng, 0.5, 3)), 0, 1)
    worn = 0.8 + np.float32(rng.uniform(0, 0.6)) * fractal(rng, image_px, 20, 2, 0.9, reference=reference)
    cover = cover * np.float32(rng.uniform(0.4, 1)) * np.clip(worn, 0, 1)
    return tone * (1 - cover) + cover * np.float32(rng.uniform(0.5, 1.7)) * (1 + 0.3 * (tone - 1))


def _add_seam(
    rng: np.random.Generator, tone: Field, colour: np.ndarray, other_ground: Surface
) -> tuple[Field, np.ndarray]:
    """Adds another ground on one side of a line, and perhaps a dark gap along it."""
    away = _line_distance(rng, len(tone))
    side = np.clip(away / np.float32(between(rng, 0.5, 2)) + 0.5, 0, 1)
    tone, colour = other_ground.tone * side + tone * (1 - side), other_ground.colour * side + colour * (1 - side)
    if rng.random() < 0.5:
        gap = np.exp(-((away / np.float32(between(rng, 0.7, 4))) ** 2))
        tone = tone * (1 - np.float32(rng.uniform(0, 0.6)) * gap)
    return tone, colour


def _add_rim(rng: np.random.Generator, tone: Field, reference: float) -> Field:
    """Adds the stain of dried damp: darker within, darkest at its outline."""
    shape = fractal(rng, len(tone), between(rng, 40, 140), 20, 0.5, reference=reference)
    level = np.float32(rng.uniform(-0.3, 1))
    inside = np.clip((shape - level) * 4, 0, 1)
    outline = np.exp(-(((shape - level) / np.float32(rng.uniform(0.03, 0.15))) ** 2))
    darker = (1 - np.float32(rng.uniform(0, 0.3)) * inside) * (1 - np.float32(rng.uniform(0, 0.35)) * outline)
    return tone * darker


def _add_debris(rng: np.random.Generator, tone: Field, scale: float) -> Field:
    """Adds leaves, gum, holes or bolts: ovals, lighter or darker."""
    image_px = len(tone)
    y, x = np.mgrid[:image_px, :image_px].astype(np.float32)
    for _ in range(int(rng.integers(1, 6))):
        middle, long, angle = rng.uniform(0, image_px, 2), between(rng, 4, 30) * scale, rng.uniform(0, np.pi)
        short = long * rng.uniform(0.25, 1)
        along = (np.cos(angle) * (x - middle[0]) + np.sin(angle) * (y - middle[1])) / long
        across = (np.cos(angle) * (y - middle[1]) - np.sin(angle) * (x - middle[0])) / short
        cover = np.clip((1 - np.hypot(along, across)) * 0.7 * long, 0, 1).astype(np.float32)
        tone = tone * (1 - cover) + cover * np.float32(rng.uniform(0.2, 1.5)) * (1 + 0.1 * along)
    return tone
