"""Draws a synthetic window of any surface from any distance, to train networks that work on walls they have never seen.

Synopsis::

    example = draw_example(seed=0, index=1, image_px=128, donors_in="data/metu")    # as in `synthesis.concrete`

Unlike `synthesis.concrete`, which imitates METU, it has grounds of every kind, magnified 0.3 to 1.3 times; distractors
on them; cracks anywhere in the window, also in its corner alone, as in a window of a larger photograph; and cameras of
every kind. With donors, every fifth ground and two of five cracks come from the training split of that dataset. Odd
indices are cracked; nothing but the crack differs between the classes.
"""

import dataclasses
import math

import numpy as np
import simplejpeg
from scipy.spatial import Voronoi

from crackflow.synthesis import concrete, cracks, distractors, donors, materials, surfaces
from crackflow.synthesis.concrete import Camera, Example
from crackflow.synthesis.cracks import Crack, Stroke
from crackflow.synthesis.surfaces import Surface, between, fractal

MAGNIFIED = 0.3, 1.3  # pixels of the window on one of METU's photographs, 227 wide
LENT_GROUNDS, LENT_CRACKS = 0.2, 0.4  # fractions that come from donors, if there are any
CENTRED, MAPS = 0.3, 0.15  # fractions of the synthetic cracks: through the middle; a net of them, as in old asphalt
MAX_WIDTH = 16.0  # of an image 227 wide; the narrowest are a pixel of the window
MIN_SHARE = 0.006  # fraction of the window that a crack covers: above 0.005, from which `convert` calls it cracked
# Darker by this fraction, and by so many standard deviations, as in `synthesis.cracks`, but fainter than there.
MIN_CONTRAST = (0.10, 0.75)
FAINT, FAINTEST = 0.4, (0.08, 0.65)  # fraction of the cracks that are mostly thin, as on asphalt; their MIN_CONTRAST
ATTEMPTS = 9


def draw_example(seed: int, index: int, image_px: int, donors_in: str = "") -> Example:
    """Draws example `index` of the endless series `seed`: the same bytes on every call, in any process.

    Args:
        seed: of the series.
        index: of the example; odd ones are cracked.
        image_px: side of the image.
        donors_in: folder of a dataset, or "".

    Raises:
        UserError: when the dataset can't be used for donors.
    """
    rng = np.random.default_rng([seed, index])
    source_donors = donors.open_donors(donors_in)
    reference = image_px / between(rng, *MAGNIFIED)

    def ground(rng: np.random.Generator, image_px: int) -> Surface:
        return _draw_ground(rng, image_px, reference, source_donors)

    surface = distractors.scatter(rng, ground(rng, image_px), reference, ground)
    lit = concrete.light(rng, image_px) * distractors.light(rng, image_px, reference)
    surface = dataclasses.replace(surface, tone=surface.tone * lit)
    camera, grey, compressed = draw_camera(rng, surface), rng.random() < 0.2, rng.random() < 0.6
    if index % 2 == 0:
        nothing = np.zeros((image_px, image_px), np.uint8)
        return Example(_develop(surface, camera, grey, compressed), nothing, 0, camera.jpeg_quality)
    faint = rng.random() < FAINT
    for attempt in range(ATTEMPTS):
        boldness = attempt / (ATTEMPTS - 1)
        borrows = source_donors is not None and rng.random() < LENT_CRACKS
        if borrows:
            crack = source_donors.crack(rng, image_px, boldness, faint)
        else:
            crack = draw_crack(rng, image_px, reference, boldness, faint)
        cracked = cracks.darken(surface, crack)
        if is_visible(concrete.expose(cracked, camera), crack.mask, faint):
            return Example(_develop(cracked, camera, grey, compressed), crack.mask, 1, camera.jpeg_quality)
    return draw_example(seed, index + (1 << 40), image_px, donors_in)  # the ground is too dark or too rough


def _draw_ground(
    rng: np.random.Generator, image_px: int, reference: float, source_donors: donors.Donors | None
) -> Surface:
    if source_donors is None or rng.random() >= LENT_GROUNDS:
        return materials.draw_material(rng, image_px, reference)
    ground = source_donors.ground(rng, image_px)
    if rng.random() < 0.6:  # with the grain of another material
        grain = materials.draw_material(rng, image_px, reference).tone
        tone = ground.tone * (1 + np.float32(rng.uniform(0.1, 1)) * (grain - 1))
        ground = dataclasses.replace(ground, tone=np.clip(tone, 0.02, 2))
    return ground


def draw_crack(rng: np.random.Generator, image_px: int, reference: float, boldness: float, faint: bool) -> Crack:
    """Draws a crack of any width, sometimes filled, with an inside of any brightness.

    Args:
        rng: the generator.
        image_px: side of the image.
        reference: width of the image in which the constants of this file are pixels.
        boldness: 0..1, raises the narrowest width and the least darkness that may be drawn.
        faint: mostly thin and pale.
    """
    scale = image_px / reference
    narrowest, skew = 3.0**boldness, 1.3 - 0.3 * boldness if faint else 1.0
    usual = narrowest * (MAX_WIDTH / narrowest) ** (rng.random() ** skew)
    width = max(usual * scale, between(rng, 0.8, 1.4) * (1 + boldness))
    cover = _draw_cover(rng, image_px, width, boldness, scale)
    shade = cover
    if rng.random() < 0.25:
        filling = fractal(rng, image_px, between(rng, 10, 60), 4, 0.7, reference=reference)
        shade = cover * np.clip(np.float32(1.2) * filling + np.float32(rng.uniform(0.2, 1.2)), 0.1, 1)
    shade = surfaces.soften(shade, rng.uniform(0, min(0.25 * width, 1.0)) * (1 - boldness))
    angle = rng.uniform(0, 2 * np.pi)
    if width > 3 * scale:
        shade = shade * (1 - cracks.wall(rng, shade, angle, width, reference))
    wide = min(max(math.log(max(width / scale, 1.2) / 1.2) / math.log(13 / 1.2), 0), 1)
    palest = (0.85 - 0.35 * wide) * (1 - 0.6 * boldness)
    depth = rng.beta(1.1, 1.6 - 0.5 * boldness) if faint else rng.beta(1.3, 1.3)
    inside = palest - (palest - 0.03) * depth
    tint = cracks.tint(rng)
    beside = cracks.edge(rng, cover, angle, width, reference)
    return Crack(shade, inside, tint, beside, (cover >= cracks.MASK_COVER) * np.uint8(255))


def _draw_cover(rng: np.random.Generator, image_px: int, width: float, boldness: float, scale: float) -> np.ndarray:
    """Draws the fraction of each pixel that is crack: float32 [px, px], 0..1."""
    if rng.random() < MAPS:
        return cracks.rasterise(_draw_net(rng, image_px, min(width, 6 * scale + 1), scale), image_px)
    for _ in range(0 if rng.random() < CENTRED else 4):
        larger = int(image_px * rng.uniform(1.1, 2.6))
        strokes = cracks.strokes(rng, larger, width, boldness, scale)
        for corner in rng.uniform(0, larger - image_px, (3, 2)):
            away = complex(*corner)
            seen = [Stroke(stroke.left - away, stroke.right - away, stroke.depth) for stroke in strokes]
            cover = cracks.rasterise(seen, image_px)
            if (cover >= cracks.MASK_COVER).mean() >= MIN_SHARE:
                return cover
    return cracks.rasterise(cracks.strokes(rng, image_px, width, boldness, scale), image_px)


def _draw_net(rng: np.random.Generator, image_px: int, width: float, scale: float) -> list[Stroke]:
    """Draws map cracking: ragged edges of a Voronoi diagram, some of them missing."""
    points = rng.uniform(-0.4 * image_px, 1.4 * image_px, (max(int((1.8 * rng.uniform(1.5, 4.5)) ** 2), 6), 2))
    diagram, ridge_fraction, strokes = Voronoi(points), rng.uniform(0.4, 1), []
    for first, last in diagram.ridge_vertices:
        ends = diagram.vertices[[first, last]]
        far = first < 0 or last < 0 or np.abs(ends).max() > 2 * image_px or np.abs(ends[0] - ends[1]).sum() < 6
        outside = (ends.max(0) < 0).any() or (ends.min(0) > image_px).any()
        if rng.random() > ridge_fraction or far or outside:
            continue
        path = cracks.wander(rng, complex(*ends[0]), complex(*ends[1]), cracks.piece(scale, width))
        fades = (rng.random() < 0.1, rng.random() < 0.1)
        strokes.append(cracks.stroke(rng, path, max(width * rng.uniform(0.4, 1.1), 0.8), fades))
    return strokes or cracks.strokes(rng, image_px, width, 0.5, scale)


def draw_camera(rng: np.random.Generator, surface: Surface) -> Camera:
    """Draws a camera with darker and lighter exposures, more noise and worse files than in `synthesis.concrete`.

    Args:
        rng: the generator.
        surface: without its crack, so that brightness does not separate the classes.
    """
    image_px = len(surface.tone)
    level = min(max(rng.normal(140, 45), 45), 225)
    balance = np.clip(surfaces.shades(*rng.normal(1, [0.04, 0.02, 0.05])), 0.8, 1.2)
    gains = np.float32(level / max(float((surface.tone * surface.colour).mean()), 0.02)) * balance
    grain = surfaces.white(rng, (image_px, image_px)) * np.float32(between(rng, 0.4, 14))
    grain = surfaces.soften(grain, rng.uniform(0, 0.8))
    blur = between(rng, 0.15, 1.1) if rng.random() < 0.85 else between(rng, 1.1, 1.8)
    sharpen = rng.uniform(0.3, 2) if rng.random() < 0.4 else 0.0
    return Camera(gains, blur, sharpen, grain, float(rng.uniform(0, 0.6)), int(rng.integers(30, 97)))


def _develop(surface: Surface, camera: Camera, grey: bool, compressed: bool) -> np.ndarray:
    """Takes the photograph: uint8 [px, px, 3]; `compressed`: as decoded from a JPEG file of the camera's quality."""
    image = concrete.expose(surface, camera)
    if grey:
        luma = (image @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.uint8)
        image = np.repeat(luma[..., None], 3, axis=2)
    if compressed:
        data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), camera.jpeg_quality, "RGB", "420")
        image = simplejpeg.decode_jpeg(data)
    return image


def is_visible(image: np.ndarray, mask: np.ndarray, faint: bool) -> bool:
    """Whether the crack of `image` uint8 [px, px, 3] is large and dark enough to be called one.

    Args:
        image: uint8 [px, px, 3], 0..255.
        mask: uint8 [px, px], 255 on the crack.
        faint: whether a fainter crack will do.
    """
    return cracks.is_visible(image, mask, MIN_SHARE, *(FAINTEST if faint else MIN_CONTRAST))
