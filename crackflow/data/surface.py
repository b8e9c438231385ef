"""Which pixels of a GeoTIFF show a surface, and what stands in for the others.

Synopsis::

    mask = surface.find(photo, pixels)        # bool [H, W], or None where all of them do
    surface.fill(pixels, mask)                # in place: no border is left that looks like a line

Orthophotos are rarely rectangles: what lies beside them has the value GDAL_NODATA, is transparent, or is left out by a
mask page. Networks would see its borders. It is filled by the colours around it, smoothly (push-pull: Gortler et al.,
The lumigraph, SIGGRAPH 1996), and `predictor` gives it no probability.
"""

import io

import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage

from crackflow.core.errors import ImageError
from crackflow.data import geotiff, image_file, tiff_file

CELL_PX = 16  # colours are averaged over cells of this side
BORDER_PX = 2  # beside the border are not trusted: resampling mixes surface and nothing there
BAND_PX = 32 * CELL_PX  # rows that are filled at once
OPAQUE = 255
NOTHING = "a GeoTIFF that shows no surface: all of it is transparent, or has the value of no data"


def find(photo: image_file.EncodedImage, pixels: np.ndarray) -> np.ndarray | None:
    """The surface in a TIFF.

    Args:
        photo: the encoded image.
        pixels: uint8 [H, W, C], the same, decoded.

    Returns:
        bool [H, W], or None where all of it is surface, and for other formats.

    Raises:
        ImageError: nothing of it is.
    """
    if photo.format != "TIFF" or not geotiff.is_geotiff(photo.data):
        return None
    masks = [mask for mask in (_alpha(photo), _mask_page(photo), _nodata(photo, pixels)) if mask is not None]
    return reliable(np.logical_and.reduce(masks)) if masks else None


def reliable(mask: np.ndarray) -> np.ndarray | None:
    """`mask`, bool [H, W], less its border, changed in place; None where it is True everywhere.

    Raises:
        ImageError: it is True nowhere.
    """
    if mask.all():
        return None
    above = mask[:0].copy()
    for top in range(0, len(mask), BAND_PX):
        band = slice(top, top + BAND_PX)
        rows = np.concatenate([above, mask[top : top + BAND_PX + BORDER_PX]])
        start = len(above)
        above = mask[band][-BORDER_PX:].copy()
        eroded = ndimage.binary_erosion(rows, iterations=BORDER_PX, border_value=1)
        mask[band] = eroded[start : start + len(mask[band])]
    if not mask.any():
        raise ImageError(NOTHING)
    return mask


def _alpha(photo: image_file.EncodedImage) -> np.ndarray | None:
    picture = image_file.upright(photo.decoded, photo.orientation) if photo.decoded else None
    return np.asarray(picture.getchannel("A")) == OPAQUE if picture and picture.mode in ("RGBA", "LA") else None


def _mask_page(photo: image_file.EncodedImage) -> np.ndarray | None:
    """Of the page that GDAL writes as a mask of the first."""
    try:
        with tifffile.TiffFile(io.BytesIO(photo.data)) as file:
            for number in range(1, len(file.pages)):
                page = file.pages[number]
                size = photo.height, photo.width
                if isinstance(page, tifffile.TiffPage) and page.subfiletype & tiff_file.MASK and page.shape[:2] == size:
                    return page.asarray().reshape(size) > 0
    except Exception:  # the photograph itself was read; a damaged mask says nothing
        return None
    return None


def _nodata(photo: image_file.EncodedImage, pixels: np.ndarray) -> np.ndarray | None:
    value = geotiff.read_nodata(photo.data)
    if value is None:
        return None
    if photo.decoded is None:  # 8 bits a channel
        return ~(pixels == value).all(-1)
    try:
        stored = tiff_file.read_samples(photo.data).colours
    except tiff_file.TiffError:
        return None
    return ~(np.isnan(stored) if np.isnan(value) else stored == value).all(-1)


def fill(pixels: np.ndarray, mask: np.ndarray) -> None:
    """Replaces what is no surface by a smooth continuation of the colours around it.

    Args:
        pixels: uint8 [H, W, C], changed in place; may lie in a file.
        mask: bool [H, W], True on the surface.
    """
    height, width, channels = pixels.shape
    rows, columns = -(-height // CELL_PX), -(-width // CELL_PX)
    means, weights = np.zeros((rows, columns, channels), np.float32), np.zeros((rows, columns, 1), np.float32)
    starts = np.arange(0, width, CELL_PX)
    for row in range(rows):
        band = slice(row * CELL_PX, (row + 1) * CELL_PX)
        counts = np.add.reduceat(mask[band].sum(0, dtype=np.float32), starts)
        sums = (pixels[band] * mask[band][..., None]).sum(0, dtype=np.float32)
        means[row] = np.add.reduceat(sums, starts, axis=0) / np.maximum(counts, 1)[:, None]
        weights[row, :, 0] = counts > 0
    coarse = [Image.fromarray(channel) for channel in np.moveaxis(_push_pull(means, weights), -1, 0)]
    for top in range(0, height, BAND_PX):
        band = slice(top, min(top + BAND_PX, height))
        absent = ~mask[band]
        if absent.any():
            box = 0, top / CELL_PX, width / CELL_PX, band.stop / CELL_PX
            size = width, band.stop - top
            smooth = [channel.resize(size, Image.Resampling.BILINEAR, box) for channel in coarse]
            pixels[band][absent] = (np.stack([np.asarray(channel) for channel in smooth], -1) + 0.5)[absent]


def _push_pull(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float32 [h, w, C]: `values` where `weights` [h, w, 1] is 1, elsewhere means of ever larger surroundings."""
    if weights.all() or max(values.shape[:2]) == 1:
        return values
    height, width = values.shape[:2]
    even = (0, height % 2), (0, width % 2), (0, 0)
    padded, padded_weights = np.pad(values * weights, even), np.pad(weights, even)

    def halved(array: np.ndarray) -> np.ndarray:
        return array.reshape(array.shape[0] // 2, 2, array.shape[1] // 2, 2, -1).sum((1, 3))

    counts = halved(padded_weights)
    means = _push_pull(halved(padded) / np.maximum(counts, 1), (counts > 0).astype(np.float32))
    bands = [
        np.asarray(Image.fromarray(channel).resize((width, height), Image.Resampling.BILINEAR))
        for channel in np.moveaxis(means, -1, 0)
    ]
    return values * weights + np.stack(bands, -1) * (1 - weights)


def cells(mask: np.ndarray, rows: int, columns: int, sides: tuple[float, float]) -> np.ndarray:
    """Which cells of a grid over a photograph hold any surface.

    Args:
        mask: bool [H, W], True on the surface.
        rows, columns: of the grid, which may reach beyond the photograph.
        sides: height and width of a cell in pixels of the photograph.

    Returns:
        bool [rows, columns].
    """
    tops, lefts = (
        np.minimum(np.arange(count) * side, length - 1).astype(int)
        for count, side, length in zip((rows, columns), sides, mask.shape, strict=True)
    )
    out = np.empty((rows, columns), bool)
    for row, top in enumerate(tops):
        bottom = tops[row + 1] if row + 1 < rows else mask.shape[0]
        out[row] = np.logical_or.reduceat(mask[top : max(bottom, top + 1)].any(0), lefts)
    return out
