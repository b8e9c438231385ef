"""Draws a synthetic photograph from a seed and an index: surface, light, crack and camera; and writes many as files.

Synopsis::

    example = draw_example(seed=0, index=1, image_px=227)
    example.image, example.mask, example.label     # uint8 [227, 227, 3], uint8 [227, 227], 1

Odd indices are cracked. Nothing but the crack differs between the classes: surface, marks, light, camera and file
are drawn in the same way and before the crack.
"""

import dataclasses
import io
import os
from collections.abc import Callable

import numpy as np
import simplejpeg
from PIL import Image

from crackflow.synthesis import cracks, surfaces

POSITIVE, NEGATIVE, MASKS = "Positive", "Negative", "masks"  # METU's names of the classes
CACHE_BYTES = 16 << 20  # above any array of a 1024 px image; glibc ignores hints above 32 MiB
ATTEMPTS = 8  # cracks are drawn bolder each time until one can be seen; none of 36,000 needed more than three


@dataclasses.dataclass(frozen=True)
class Example:
    """One synthetic photograph and its ground truth.

    image: uint8 [px, px, 3], red green blue, 0..255.
    mask: uint8 [px, px], 255 on the crack, 0 elsewhere.
    label: 1 = cracked, 0 = whole.
    jpeg_quality: 75..96, of the file that the camera would write.
    """

    image: np.ndarray
    mask: np.ndarray
    label: int
    jpeg_quality: int


@dataclasses.dataclass(frozen=True)
class Camera:
    """One exposure: gains float32 [3, 1, 1] to grey levels, grain float32 [px, px] in grey levels."""

    gains: np.ndarray
    blur_px: float
    sharpen: float
    grain: np.ndarray
    colour_noise: float
    jpeg_quality: int


def draw_example(seed: int, index: int, image_px: int) -> Example:
    """Draws example `index` of the endless series `seed`: the same bytes on every call, in any process.

    Raises:
        RuntimeError: when no attempt gives a visible crack.
    """
    rng = np.random.default_rng([seed, index])
    surface = surfaces.draw_surface(rng, image_px)
    surface = dataclasses.replace(surface, tone=surface.tone * light(rng, image_px))
    camera = _draw_camera(rng, surface)
    if index % 2 == 0:
        mask = np.zeros((image_px, image_px), np.uint8)
        return Example(expose(surface, camera), mask, 0, camera.jpeg_quality)
    for attempt in range(ATTEMPTS):
        crack = cracks.draw(rng, image_px, boldness=attempt / (ATTEMPTS - 1))
        image = expose(cracks.darken(surface, crack), camera)
        if cracks.is_visible(image, crack.mask):
            return Example(image, crack.mask, 1, camera.jpeg_quality)
    raise RuntimeError(f"seed {seed}, index {index}, {image_px} px: no visible crack in {ATTEMPTS} attempts")


def light(rng: np.random.Generator, image_px: int) -> np.ndarray:
    """Draws a slant, a vignette and sometimes a soft shadow: float32 [px, px], factors 0.3..1.3."""
    line = np.linspace(-1, 1, image_px, dtype=np.float32)
    slant = rng.normal(0, 0.05, 2).astype(np.float32)
    vignette = np.float32(rng.uniform(0, 0.04))
    field = (1 + slant[0] * line - vignette * line**2)[:, None] + slant[1] * line - vignette * line**2
    if rng.random() < 0.12:
        field *= _draw_shadow(rng, line)
    return field


def _draw_shadow(rng: np.random.Generator, line: np.ndarray) -> np.ndarray:
    """Draws the edge of a shadow: straight, soft, lighter than a crack."""
    angle = rng.uniform(0, 2 * np.pi)
    away = np.float32(np.cos(angle)) * line + np.float32(np.sin(angle)) * line[:, None] - np.float32(rng.normal(0, 0.4))
    return 1 - np.float32(rng.uniform(0.1, 0.45)) * np.clip(away * np.float32(surfaces.between(rng, 2, 15)) + 0.5, 0, 1)


def _draw_camera(rng: np.random.Generator, surface: surfaces.Surface) -> Camera:
    """Draws a camera exposed for the surface without its crack, so that brightness does not separate the classes."""
    image_px = len(surface.tone)
    level = min(max(rng.normal(168, 32), 60), 225)  # METU: mean grey 133 to 214 in nine of ten
    balance = np.clip(surfaces.shades(*rng.normal(1, [0.02, 0.008, 0.03])), 0.9, 1.1)
    gains = np.float32(level / float(surface.tone.mean() * surface.colour.mean())) * balance
    grain = surfaces.white(rng, (image_px, image_px)) * np.float32(surfaces.between(rng, 0.4, 6))
    grain = surfaces.soften(grain, rng.uniform(0, 0.6))  # phones smooth it away, and blotches remain
    blur = max(0.3, rng.uniform(0.3, 1.0) * (image_px / surfaces.REFERENCE_PX) ** 0.5)
    sharpen = rng.uniform(0.3, 1.6) if rng.random() < 0.4 else 0.0
    return Camera(gains, blur, sharpen, grain, float(rng.uniform(0, 0.4)), int(rng.integers(75, 97)))


def expose(surface: surfaces.Surface, camera: Camera) -> np.ndarray:
    """Photographs `surface` with `camera`: uint8 [px, px, 3]."""
    tone = surfaces.soften(surface.tone, camera.blur_px)
    if camera.sharpen:
        tone = tone + np.float32(camera.sharpen) * (tone - surfaces.soften(tone, 0.7))
    seen = tone * (surface.colour * camera.gains)
    seen += camera.grain + np.float32(0.5)  # conversion to uint8 truncates; 0.5 makes it round
    colour = np.float32(camera.colour_noise) * camera.grain[::-1]  # mirrored, it stands in for noise of its own
    seen[0] += colour
    seen[2] -= colour
    planes = np.clip(seen, 0, 255, out=seen).astype(np.uint8)
    return np.asarray(Image.merge("RGB", [Image.fromarray(plane) for plane in planes]))  # 1/3 of numpy's time


@dataclasses.dataclass(frozen=True)
class Batch:
    """Examples range(start, stop) of `maker(index=...)`, to be written below `folder`."""

    folder: str
    maker: Callable[..., Example]
    start: int
    stop: int


def write_images(batch: Batch) -> int:
    """Draws and saves the examples of `batch`. The class folders must exist.

    Returns:
        The number of examples.

    Raises:
        OSError: of the write itself (Pillow's own file handling would hide that the disk is full).
    """
    _keep_memory()
    for index in range(batch.start, batch.stop):
        example = batch.maker(index=index)
        name = f"{index:08d}"
        folder = POSITIVE if example.label else NEGATIVE
        _write_file(os.path.join(batch.folder, folder, f"{name}.jpg"), jpeg(example))
        if example.label:
            _write_file(os.path.join(batch.folder, MASKS, f"{name}.png"), png(example))
    return batch.stop - batch.start


def jpeg(example: Example) -> bytes:
    """Encodes the photograph as a colour JPEG file."""
    return simplejpeg.encode_jpeg(example.image, example.jpeg_quality, "RGB", "420")  # 0.24 ms; Pillow took 0.57


def png(example: Example) -> bytes:
    """Encodes the mask as a PNG file of one bit per pixel, 1 = crack."""
    high, wide = example.mask.shape
    bits = Image.frombytes("1", (wide, high), np.packbits(example.mask > 0, axis=1).tobytes())
    file = io.BytesIO()
    bits.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _write_file(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _keep_memory() -> None:
    """Keeps freed memory in the process: glibc returns freed arrays of this size to the system until it has seen a
    larger one freed.

    Every new array then faults in page by page: 1,230 faults and 4 of 14 ms per image (2 cores, 2026-11).
    """
    np.empty(CACHE_BYTES, np.uint8)
