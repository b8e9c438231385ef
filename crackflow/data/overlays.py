"""Heat maps, filters and activation maps as pictures.

Synopsis::

    pixels = overlays.overlay(photograph, heat)             # uint8 [H, W, C], float32 [h, w] -> uint8 [H, W, 3]
    pixels = overlays.sheet([[one, two], [three, four]])    # a grid of pictures on white
    pixels = overlays.filters(kernel)                       # float32 [3, 3, C, K] -> one square for each of the K
    data = overlays.as_png(pixels)
"""

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from crackflow.data import image_file, resize

GAP = 4  # pixels between pictures
SMOOTH = 1 / 100  # of the side: so that maps of single pixels can be seen at all; for looking, never for scores
HOTTEST = 99.5  # percentile of a map that is drawn in full colour: one pixel must not darken the rest
STRENGTH = 0.85  # of the hottest colour over the picture
MAX_MAPS = 64  # channels shown of a layer
SHOWN_PX = 1600  # longest side of a photograph in reports
MARKED = {"cracked": (214, 24, 44), "review": (240, 176, 0), "clean": (120, 120, 120)}
ENLARGED = 4  # a 3 x 3 filter is drawn with 24 pixels and more a side


def overlay(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]: `picture` uint8 [H, W, C], greyed, under `heat` float32 [h, w], 0 or more, from none over yellow
    to dark red. The map is stretched over the picture; its scale is its own: colours of two pictures are not
    comparable."""
    grey = picture.astype(np.float32).mean(-1, keepdims=True)
    soft = ndimage.gaussian_filter(heat.astype(np.float32), SMOOTH * max(heat.shape))
    top = np.percentile(soft, HOTTEST) or soft.max()
    share = np.clip(soft / top, 0, 1) if top > 0 else np.zeros_like(soft)
    share = np.asarray(Image.fromarray(share).resize(picture.shape[1::-1], Image.Resampling.BILINEAR))
    colour = 255 * matplotlib.colormaps["YlOrRd"](share)[..., :3]
    cover = STRENGTH * np.sqrt(share)[..., None]
    return np.round(grey * (1 - cover) + colour * cover).astype(np.uint8)


def sheet(rows: Sequence[Sequence[np.ndarray]], side: int = 0, names: Sequence[str] = ()) -> np.ndarray:
    """uint8 [.., .., 3]: pictures uint8 [H, W, C] in a grid on white, each fitted to `side` pixels; 0: the first one's.
    `names`: over the columns."""
    side = side or max(rows[0][0].shape[:2])
    top = 14 if names else 0
    width = max(len(row) for row in rows) * (side + GAP) + GAP
    page = Image.new("RGB", (width, len(rows) * (side + GAP) + GAP + top), "white")
    for column, name in enumerate(names):
        ImageDraw.Draw(page).text((GAP + column * (side + GAP), 2), name, fill="black")
    for down, row in enumerate(rows):
        for right, pixels in enumerate(row):
            one = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
            one = one.convert("RGB").resize(_fitted(one.size, side), Image.Resampling.BILINEAR)
            page.paste(one, (GAP + right * (side + GAP), top + GAP + down * (side + GAP)))
    return np.asarray(page)


def _fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = side / max(size)
    return tuple(max(round(length * scale), 1) for length in size)


def filters(kernel: np.ndarray) -> np.ndarray:
    """uint8 [.., .., 3]: the filters of `kernel` float32 [h, w, C, K]. Of 1 or 3 input channels one coloured square for
    each of the K; of more a row for each of the first 16 K, with its first 16 input channels. Middle grey is 0, and
    every filter has its own scale."""
    height, width, channels, count = kernel.shape
    scale = np.abs(kernel).max((0, 1, 2), keepdims=True)
    shown = 127.5 * (1 + np.divide(kernel, scale, out=np.zeros(kernel.shape), where=scale > 0))
    shown = np.round(shown).astype(np.uint8)
    side = max(ENLARGED * 6, ENLARGED * max(height, width))
    if channels in (1, 3):
        squares = [_enlarged(shown[..., one], side) for one in range(count)]
        across = int(np.ceil(np.sqrt(count)))
        return sheet([squares[at : at + across] for at in range(0, count, across)], side)
    return sheet(
        [
            [_enlarged(shown[:, :, one : one + 1, out], side) for one in range(min(channels, 16))]
            for out in range(min(count, 16))
        ],
        side,
    )


def _enlarged(pixels: np.ndarray, side: int) -> np.ndarray:
    one = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return np.asarray(one.convert("RGB").resize((side, side), Image.Resampling.NEAREST))


def activations(maps: np.ndarray, side: int = 96) -> np.ndarray:
    """uint8 [.., .., 3]: `maps` float32 [h, w, K], up to 64 channels, the most active first, each on its own scale."""
    order = np.argsort(-np.abs(maps).mean((0, 1)), kind="stable")[:MAX_MAPS]
    squares = []
    for channel in order:
        one = maps[..., channel] - maps[..., channel].min()
        top = one.max()
        colour = matplotlib.colormaps["viridis"](one / top if top > 0 else one)[..., :3]
        squares.append(_enlarged(np.round(255 * colour).astype(np.uint8), side))
    across = int(np.ceil(np.sqrt(len(squares))))
    return sheet([squares[at : at + across] for at in range(0, len(squares), across)], side)


def fitted(picture: np.ndarray, most: int) -> np.ndarray:
    """uint8 [h, w, C]: `picture`, uint8 [H, W, C], no side longer than `most` pixels."""
    height, width = picture.shape[:2]
    share = most / max(height, width)
    if share >= 1:
        return picture
    return resize.scaled(picture, max(round(height * share), 1), max(round(width * share), 1))


def marked(picture: np.ndarray, found) -> np.ndarray:
    """uint8 [h, w, 3]: `picture`, uint8 [h, w, C], a smaller copy of a photograph, with the outlines of a
    `predictor.Prediction`: red is cracked, yellow left to a person; a number for each, as in findings.json."""
    page = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).convert("RGB")
    draw, factor = ImageDraw.Draw(page), picture.shape[1] / found.width
    line = max(round(max(page.size) / 700), 1)
    for number, one in enumerate(found.findings, start=1):
        colour = MARKED[one.decision]
        for outline in one.outlines:
            draw.line([(x * factor, y * factor) for x, y in outline], fill=colour, width=line)
        place = one.box[0] * factor, max(one.box[1] * factor - 8 * line, 0)
        draw.text(place, f"{number}: {one.probability:.2f}", fill=colour, font_size=7 * line + 4)
    return np.asarray(page)


def as_jpeg(pixels: np.ndarray) -> bytes:
    """`pixels` uint8 [H, W, 3] as a JPEG file."""
    return image_file.encode(pixels, "jpeg", jpeg_quality=85)


def as_png(pixels: np.ndarray) -> bytes:
    """`pixels` uint8 [H, W, C] as a PNG file."""
    return image_file.encode(pixels, "png", jpeg_quality=0)


def from_png(data: bytes) -> np.ndarray:
    """The pixels of a PNG file."""
    return np.asarray(Image.open(io.BytesIO(data)))
