"""Drawing of heat maps, filters and activation maps as images.

Synopsis::

    pixels = overlays.overlay(photograph, heat)             # uint8 [H, W, C], float32 [h, w] -> uint8 [H, W, 3]
    pixels = overlays.sheet([[a, b], [c, d]])               # a grid of images on white
    pixels = overlays.filters(kernel)                       # float32 [3, 3, C, K] -> one square for each of the K
    data = overlays.as_png(pixels)
"""

from collections.abc import Sequence
from typing import Protocol

import matplotlib
import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from crackflow.data import image_file, resize

GAP = 4  # pixels between images
SMOOTH = 1 / 100  # sigma as a fraction of the side, so that single pixels are visible; for display, never for scores
HOTTEST = 99.5  # percentile of a map that is drawn in full colour, so that one pixel does not darken the rest
STRENGTH = 0.85  # opacity of the hottest colour over the image
MAX_MAPS = 64  # displayed channels of a layer
SHOWN_PX = 1600  # longest side of a photograph in reports
MARKED = {"cracked": (214, 24, 44), "review": (240, 176, 0), "clean": (120, 120, 120)}
ENLARGED = 4  # a 3 x 3 filter is drawn with at least 24 pixels per side


def overlay(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Draws a heat map over a greyed image, from transparent over yellow to dark red.

    The map is stretched over the image and scaled by its own maximum, so that colours of two images can't be compared.

    Args:
        picture: uint8 [H, W, C], 0..255.
        heat: float32 [h, w], 0 or more.

    Returns:
        uint8 [H, W, 3], 0..255.
    """
    grey = picture.astype(np.float32).mean(-1, keepdims=True)
    soft = ndimage.gaussian_filter(heat.astype(np.float32), SMOOTH * max(heat.shape))
    top = np.percentile(soft, HOTTEST) or soft.max()
    intensity = np.clip(soft / top, 0, 1) if top > 0 else np.zeros_like(soft)
    intensity = np.asarray(Image.fromarray(intensity).resize(picture.shape[1::-1], Image.Resampling.BILINEAR))
    colour = 255 * matplotlib.colormaps["YlOrRd"](intensity)[..., :3]
    cover = STRENGTH * np.sqrt(intensity)[..., None]
    return np.round(grey * (1 - cover) + colour * cover).astype(np.uint8)


def sheet(rows: Sequence[Sequence[np.ndarray]], side: int = 0, names: Sequence[str] = ()) -> np.ndarray:
    """Arranges images in a grid on white.

    Args:
        rows: images, each uint8 [H, W, C] with C of 1 or 3.
        side: pixels that the longer side of each image is fitted to. 0: that of the first image.
        names: titles of the columns.

    Returns:
        uint8 [.., .., 3].
    """
    side = side or max(rows[0][0].shape[:2])
    top = 14 if names else 0
    width = max(len(row) for row in rows) * (side + GAP) + GAP
    page = Image.new("RGB", (width, len(rows) * (side + GAP) + GAP + top), "white")
    for column, name in enumerate(names):
        ImageDraw.Draw(page).text((GAP + column * (side + GAP), 2), name, fill="black")
    for down, row in enumerate(rows):
        for right, pixels in enumerate(row):
            image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
            image = image.convert("RGB").resize(_fit_size(image.size, side), Image.Resampling.BILINEAR)
            page.paste(image, (GAP + right * (side + GAP), top + GAP + down * (side + GAP)))
    return np.asarray(page)


def _fit_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Scales (width, height) so that the longer one is `side`."""
    width, height = size
    scale = side / max(size)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def filters(kernel: np.ndarray) -> np.ndarray:
    """Draws the filters of a convolution, each on its own scale, with 0 as middle grey.

    Args:
        kernel: float32 [h, w, C, K]. With 1 or 3 input channels, each of the K filters is one coloured square. With
            more, each of the first 16 filters is a row with its first 16 input channels.

    Returns:
        uint8 [.., .., 3].
    """
    height, width, channels, count = kernel.shape
    scale = np.abs(kernel).max((0, 1, 2), keepdims=True)
    levels = 127.5 * (1 + np.divide(kernel, scale, out=np.zeros(kernel.shape), where=scale > 0))
    levels = np.round(levels).astype(np.uint8)
    side = max(ENLARGED * 6, ENLARGED * max(height, width))
    if channels in (1, 3):
        squares = [_enlarge(levels[..., index], side) for index in range(count)]
        across = int(np.ceil(np.sqrt(count)))
        return sheet([squares[at : at + across] for at in range(0, count, across)], side)
    return sheet(
        [
            [_enlarge(levels[:, :, channel : channel + 1, index], side) for channel in range(min(channels, 16))]
            for index in range(min(count, 16))
        ],
        side,
    )


def _enlarge(pixels: np.ndarray, side: int) -> np.ndarray:
    """Returns `pixels` as an RGB square of `side` pixels, without interpolation."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.NEAREST))


def activations(maps: np.ndarray, side: int = 96) -> np.ndarray:
    """Draws up to 64 channels of an activation map, the most active first, each on its own scale.

    Args:
        maps: float32 [h, w, K].
        side: pixels per side of a channel.

    Returns:
        uint8 [.., .., 3].
    """
    order = np.argsort(-np.abs(maps).mean((0, 1)), kind="stable")[:MAX_MAPS]
    squares = []
    for channel in order:
        channel_map = maps[..., channel] - maps[..., channel].min()
        top = channel_map.max()
        colour = matplotlib.colormaps["viridis"](channel_map / top if top > 0 else channel_map)[..., :3]
        squares.append(_enlarge(np.round(255 * colour).astype(np.uint8), side))
    across = int(np.ceil(np.sqrt(len(squares))))
    return sheet([squares[at : at + across] for at in range(0, len(squares), across)], side)


def fitted(picture: np.ndarray, most: int) -> np.ndarray:
    """Shrinks `picture`, uint8 [H, W, C], so that no side is longer than `most` pixels; returns uint8 [h, w, C]."""
    height, width = picture.shape[:2]
    scale = most / max(height, width)
    if scale >= 1:
        return picture
    return resize.scaled(picture, max(round(height * scale), 1), max(round(width * scale), 1))


class OutlinedCrack(Protocol):
    """What is drawn of a `predictor.Finding`."""

    @property
    def box(self) -> tuple[float, float, float, float]: ...

    @property
    def outlines(self) -> Sequence[Sequence[tuple[float, float]]]: ...

    @property
    def probability(self) -> float: ...

    @property
    def decision(self) -> str: ...


class OutlinedPhoto(Protocol):
    """What is drawn of a `predictor.Prediction`."""

    @property
    def width(self) -> int: ...

    @property
    def findings(self) -> Sequence[OutlinedCrack]: ...


def marked(picture: np.ndarray, prediction: OutlinedPhoto) -> np.ndarray:
    """Draws the outlines of findings, each with its number in findings.json.

    Cracks are red; findings for human review are yellow.

    Args:
        picture: uint8 [h, w, C], a smaller copy of a photograph.
        prediction: the `predictor.Prediction` of that photograph.

    Returns:
        uint8 [h, w, 3].
    """
    page = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).convert("RGB")
    draw, factor = ImageDraw.Draw(page), picture.shape[1] / prediction.width
    line = max(round(max(page.size) / 700), 1)
    for number, finding in enumerate(prediction.findings, start=1):
        colour = MARKED[finding.decision]
        for outline in finding.outlines:
            draw.line([(x * factor, y * factor) for x, y in outline], fill=colour, width=line)
        position = finding.box[0] * factor, max(finding.box[1] * factor - 8 * line, 0)
        draw.text(position, f"{number}: {finding.probability:.2f}", fill=colour, font_size=7 * line + 4)
    return np.asarray(page)


def as_jpeg(pixels: np.ndarray) -> bytes:
    """Encodes `pixels`, uint8 [H, W, 3], as a JPEG file."""
    return image_file.encode(pixels, "jpeg", jpeg_quality=85)


def as_png(pixels: np.ndarray) -> bytes:
    """Encodes `pixels`, uint8 [H, W, C], as a PNG file."""
    return image_file.encode(pixels, "png", jpeg_quality=0)
