"""Brightness across a crack: profiles at right angles to its line, in linear light, from a photograph's own pixels.

Synopsis::

    grey = cross_profiles.GreyPixels.of(pixels)                           # all of uint8 [H, W, C], or only tiles of it
    stations = cross_profiles.stations(grey, line, spacing_px=1.0)        # centred on the dark line, with rough widths
    offsets, profiles = cross_profiles.pooled(grey, stations, half_px=8)  # float [M], float32 [N, M]

A camera adds up light, and a file holds about the 2.2th root of it (sRGB: IEC 61966-2-1): what a lens blurs are sums of
light, so profiles are in light. Positions are pixels of the photograph; (0, 0) is the corner of the first pixel.
"""

import dataclasses

import numpy as np
from scipy import ndimage

from crackflow.data import resize

LEVELS = np.arange(256) / 255
LIGHT = np.where(LEVELS <= 0.04045, LEVELS / 12.92, ((LEVELS + 0.055) / 1.055) ** 2.4).astype(np.float32)
TILE_PX = 128  # side of the tiles that are stored of a photograph
MAX_HALF_PX = 64  # half the length of a profile: a crack up to 64 pixels wide with as much ground beside it
COARSE_PX = 48  # half the length of the first profiles, which only tell about how wide the crack is
SEARCH_PX = 6.0  # by which a traced line may lie beside the dark one
SAMPLE_PX = 0.5  # distance of the samples of a profile
POOL = 7  # profiles, a pixel apart, that become one: grains and JPEG blocks average out, bends of 20 pixels stay
TRIM = 1  # of them that are left out on each side, sample by sample
TANGENT_PX = 4.0  # standard deviation of the Gaussian along a line before directions are taken from it
CENTERING_PX = 2.0  # the same for the middle of the dark line
MAX_CROP_PIXELS = 500_000  # of a photograph in floating point at once


@dataclasses.dataclass(frozen=True)
class GreyPixels:
    """The grey levels of a photograph, or of the tiles of it that are needed.

    Attributes:
        shape: height and width of the photograph.
        tiles: uint8 [TILE_PX, TILE_PX] or less at the borders, by row and column of tiles; None: `whole` has all.
        whole: uint8 [H, W, C], or None.
    """

    shape: tuple[int, int]
    tiles: dict[tuple[int, int], np.ndarray] | None
    whole: np.ndarray | None

    @staticmethod
    def of(pixels: np.ndarray, needed: np.ndarray | None = None) -> "GreyPixels":
        """Keeps a view of `pixels`, or copies of the tiles that are needed.

        Args:
            pixels: uint8 [H, W, C], 0..255.
            needed: bool [h, w], of a grid over the photograph; None: all of it, without a copy.
        """
        shape = pixels.shape[:2]
        if needed is None:
            return GreyPixels(shape, None, pixels)
        tiles = {}
        for row in range(-(-shape[0] // TILE_PX)):
            for column in range(-(-shape[1] // TILE_PX)):
                area = slice(row * TILE_PX, (row + 1) * TILE_PX), slice(column * TILE_PX, (column + 1) * TILE_PX)
                cells = tuple(
                    slice(side.start * cells // length, -(-min(side.stop, length) * cells // length))
                    for side, cells, length in zip(area, needed.shape, shape, strict=True)
                )
                if needed[cells].any():
                    tiles[row, column] = _grey(pixels[area]).copy()
        return GreyPixels(shape, tiles, None)

    def crop(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """float32 [height, width], linear light, 0..1; not a number where there are no pixels."""
        rows, columns = slice(max(top, 0), top + height), slice(max(left, 0), left + width)
        crop = np.full((height, width), np.nan, np.float32)
        if self.whole is not None:
            light = LIGHT[_grey(self.whole[rows, columns])]
            crop[rows.start - top :, columns.start - left :][: light.shape[0], : light.shape[1]] = light
            return crop
        for row in range(rows.start // TILE_PX, -(-min(rows.stop, self.shape[0]) // TILE_PX)):
            for column in range(columns.start // TILE_PX, -(-min(columns.stop, self.shape[1]) // TILE_PX)):
                tile = self.tiles.get((row, column))
                if tile is not None:
                    y, x = row * TILE_PX - top, column * TILE_PX - left
                    part = LIGHT[tile[max(-y, 0) : height - y, max(-x, 0) : width - x]]
                    crop[max(y, 0) :, max(x, 0) :][: part.shape[0], : part.shape[1]] = part
        return crop


@dataclasses.dataclass(frozen=True)
class Stations:
    """Points on the dark line of a crack.

    Attributes:
        points: float64 [N, 2], (x, y).
        normals: float64 [N, 2], unit vectors across the line.
        rough_widths: float64 [N], pixels, at half the depth; not a number where there is no dark line.
    """

    points: np.ndarray
    normals: np.ndarray
    rough_widths: np.ndarray

    def __getitem__(self, index) -> "Stations":
        return Stations(self.points[index], self.normals[index], self.rough_widths[index])

    def __len__(self) -> int:
        return len(self.points)


def stations(grey: GreyPixels, line: np.ndarray, spacing_px: float = 1.0) -> Stations:
    """Points along `line`, moved onto the middle of the dark line that lies there.

    Args:
        grey: the photograph.
        line: float64 [N, 2], (x, y), at least two points.
        spacing_px: distance of the points.
    """
    points = resample(line, spacing_px)
    normals = _normals(points, spacing_px)
    offsets = np.arange(-COARSE_PX, COARSE_PX + 0.5)
    profiles = _sample(grey, Stations(points, normals, np.zeros(len(points))), offsets, order=1)
    pooled = ndimage.uniform_filter1d(np.nan_to_num(profiles, nan=1.0), max(round(5 / spacing_px), 1), axis=0)
    middle, width = _half_depth(offsets, pooled)
    size = max(round(9 / spacing_px), 1)
    is_dark = np.isfinite(width)
    fallback = float(np.median(width[is_dark])) if is_dark.any() else 1.0
    middle = ndimage.median_filter(np.where(is_dark, middle, 0), size, mode="nearest")
    middle = ndimage.gaussian_filter1d(middle, CENTERING_PX / spacing_px, mode="nearest")
    rough = ndimage.median_filter(np.where(is_dark, width, fallback), 2 * size + 1, mode="nearest")
    points = points + middle[:, None] * normals
    return Stations(points, _normals(points, spacing_px), np.where(is_dark, rough, np.nan))


def pooled(grey: GreyPixels, near: Stations, half_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Profiles across the crack, each the trimmed mean of POOL neighbours.

    Args:
        grey: the photograph.
        near: POOL times as many stations as there will be profiles, neighbours one after another.
        half_px: half the length of the profiles.

    Returns:
        (offsets in pixels, float64 [M]; float32 [N, M], linear light, not a number outside the photograph).
    """
    count = round(half_px / SAMPLE_PX)
    offsets = np.arange(-count, count + 1) * SAMPLE_PX
    profiles = _sample(grey, near, offsets, order=3).reshape(-1, POOL, len(offsets))
    return offsets, np.sort(profiles, axis=1)[:, TRIM : POOL - TRIM].mean(1)


def resample(line: np.ndarray, spacing_px: float) -> np.ndarray:
    """Points evenly along `line`, float64 [N, 2], about `spacing_px` apart; its ends stay."""
    steps = np.hypot(*np.diff(line, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    is_new = np.concatenate([[True], steps > 0])
    along, line = along[is_new], line[is_new]
    new_along = np.linspace(0, along[-1], max(round(along[-1] / spacing_px), 1) + 1)
    return np.stack([np.interp(new_along, along, line[:, axis]) for axis in (0, 1)], 1)


def _normals(points: np.ndarray, spacing_px: float) -> np.ndarray:
    if len(points) < 2:
        return np.tile([0.0, 1.0], (len(points), 1))
    smooth = ndimage.gaussian_filter1d(points, TANGENT_PX / spacing_px, axis=0, mode="nearest")
    tangents = np.gradient(smooth, axis=0)
    lengths = np.hypot(*tangents.T)
    tangents = np.where(lengths[:, None] > 1e-9, tangents / np.maximum(lengths, 1e-9)[:, None], [1.0, 0.0])
    return np.stack([-tangents[:, 1], tangents[:, 0]], 1)


def _half_depth(offsets: np.ndarray, profiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(middle, width) of the dark line at half its depth, float64 [N] each; nan without a dark line."""
    rows = np.arange(len(profiles))
    near = np.abs(offsets) <= SEARCH_PX
    # A slight preference for the nearer of two dark lines.
    bottom = np.flatnonzero(near)[(profiles[:, near] + 0.01 * (offsets[near] / SEARCH_PX) ** 2).argmin(1)]
    depth = profiles[rows, bottom]
    ground = np.quantile(profiles, 0.7, axis=1)
    level = (depth + ground) / 2
    is_above = profiles > level[:, None]
    index = np.arange(profiles.shape[1])
    right = np.where(is_above & (index > bottom[:, None]), index, profiles.shape[1] - 1).min(1)
    left = np.where(is_above & (index < bottom[:, None]), index, 0).max(1)
    edges = []
    for outside, inside in ((left, np.minimum(left + 1, bottom)), (right, np.maximum(right - 1, bottom))):
        high, low = profiles[rows, outside], profiles[rows, inside]
        fraction = np.where(high > low, (level - low) / np.where(high > low, high - low, 1), 0.5)
        edges.append(offsets[inside] + (offsets[outside] - offsets[inside]) * np.clip(fraction, 0, 1))
    width = edges[1] - edges[0]
    is_dark = (ground - depth > 0.04 * ground) & (right < profiles.shape[1] - 1) & (left > 0)
    return np.where(is_dark, (edges[0] + edges[1]) / 2, np.nan), np.where(is_dark, width, np.nan)


def _sample(grey: GreyPixels, near: Stations, offsets: np.ndarray, order: int) -> np.ndarray:
    """float32 [N, M]: light at `offsets` across `near`, by splines of `order`, from crops of limited size."""
    profiles = np.full((len(near), len(offsets)), np.nan, np.float32)
    margin = float(np.abs(offsets).max()) + 4
    pending = [np.arange(len(near))] if len(near) else []
    while pending:
        index = pending.pop()
        low = np.floor(near.points[index].min(0) - margin).astype(int)
        high = np.ceil(near.points[index].max(0) + margin).astype(int)
        width, height = high - low
        if width * height > MAX_CROP_PIXELS and len(index) > 1:
            pending += [index[: len(index) // 2], index[len(index) // 2 :]]
            continue
        light = grey.crop(int(low[1]), int(low[0]), int(height), int(width))
        positions = near.points[index, None] + offsets[None, :, None] * near.normals[index, None] - low - 0.5
        at = positions[..., ::-1].transpose(2, 0, 1)
        is_absent = np.isnan(light)
        if is_absent.any():
            light = np.where(is_absent, np.nanmean(light) if not is_absent.all() else 0, light)
        values = ndimage.map_coordinates(light, at, order=order, mode="nearest", output=np.float32)
        if is_absent.any():
            nearest = tuple(np.clip(np.rint(at).astype(int), 0, np.array(light.shape)[:, None, None] - 1))
            values[is_absent[nearest]] = np.nan
        profiles[index] = values
    return profiles


def _grey(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W] of uint8 [H, W, C]."""
    if not pixels.size or pixels.shape[2] == 1:
        return pixels[..., 0]
    return resize.grey(pixels)[..., 0]
