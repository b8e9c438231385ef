"""What the network predicts for a photograph at several scales.

Synopsis::

    scorer = multi_scale.MultiScaleScorer(loaded)
    at_training, at_half = scorer.score(batch, [1.0, 0.5])     # uint8 [B, H, W, C] -> ScaleScores each
"""

from typing import NamedTuple

import numpy as np

from crackflow.data import resize
from crackflow.inference import crack_tracing, exposure, sliding_window
from crackflow.inference.cross_profiles import GreyPixels
from crackflow.inference.marker_plane import MarkerPlane
from crackflow.model import model_file, ood

NUM_OOD_WINDOWS = 64  # windows of a photograph, evenly spread, by which the distance from training is measured
BLOCK_PIXELS = 16_000_000  # of a photograph that are resized and scored at once


class ScaleScores(NamedTuple):
    """The scores of a photograph, or of B photographs of one size, at one scale.

    Attributes:
        scale: how many times as large the photograph was made for the network.
        heat: float32 [h, w] or [B, h, w], 0..1, of cells.
        cell_probabilities: float32 [h, w], 0..1, of each cell by itself; None if the network can't tell.
        distance: of its windows from the training images, or None; B of them.
    """

    scale: float
    heat: np.ndarray
    cell_probabilities: np.ndarray | None
    distance: float | list[float] | None

    @property
    def first(self) -> "ScaleScores":
        """Of the first photograph of several."""
        return ScaleScores(self.scale, *(part if part is None else part[0] for part in self[1:]))


class MultiScaleScores(NamedTuple):
    """The scores of a photograph at all scales.

    Attributes:
        width: of the photograph in pixels.
        height: of the photograph in pixels.
        image: uint8 [h, w, C], 0..255, the photograph resized to the first scale.
        scale_scores: the scores of each scale.
        warnings: about the scale of the photograph.
        mm_per_px: millimetres per pixel of the photograph, 0: unknown.
        own_pixels: of the photograph itself, wherever cracks may be; None: nothing but `image` is known.
        plane: of a marker in the photograph, through which lengths are measured, or None.
        surface: bool [H, W] of the photograph, where it shows a surface; None: everywhere.
    """

    width: int
    height: int
    image: np.ndarray
    scale_scores: list[ScaleScores]
    warnings: list[str]
    mm_per_px: float
    own_pixels: GreyPixels | None = None
    plane: MarkerPlane | None = None
    surface: np.ndarray | None = None


class PhotoDecision(NamedTuple):
    """The decision about a photograph.

    Attributes:
        probability: 0..1.
        decision: cracked, clean or review.
        is_cracked: on which side of the threshold the probability lies.
        windows: how many of the network's windows the photograph has room for, 1 or more.
    """

    probability: float
    decision: str
    is_cracked: bool
    windows: float


class MultiScaleScorer:
    """Runs a network over photographs at several scales.

    Args:
        loaded: the model with its metadata.
    """

    def __init__(self, loaded: model_file.TrainedModel) -> None:
        self._card, self._detector = loaded.card, loaded.familiarity
        self.windows = sliding_window.create_scorer(loaded.model, loaded.locator)
        # The temperature was fitted to logits of windows; a mask head has logits of its own.
        self._cell_temperature = 1.0 if loaded.locator else loaded.card.temperature
        self._feature_statistics = ood.FeatureStatistics(loaded.model) if loaded.familiarity else None

    @property
    def is_slow(self) -> bool:
        """Whether it scores one window at a time: minutes for a photograph of 12 megapixels."""
        return isinstance(self.windows, sliding_window.SlidingWindowScorer)

    def resized_size(self, size: tuple[int, int], scale: float) -> tuple[int, int]:
        """Height and width to which a photograph of height and width `size` is resized."""
        return tuple(max(round(side * scale * self._card.scale), 1) for side in size)

    def score(self, batch: np.ndarray, scales: list[float], first: np.ndarray | None = None) -> list[ScaleScores]:
        """Scores `batch`, uint8 [B, H, W, C], at the first of `scales` and at every other one at which it fills a
        window. `first`: `batch` at the first scale, where that is there already."""
        size = batch.shape[1:3]
        scales = [
            scale for scale in scales if scale >= scales[0] or min(self.resized_size(size, scale)) >= self.windows.px
        ]
        levels = [exposure.levels_for(pixels, self._card.brightness) for pixels in batch]
        return [self._score_scale(batch, scale, levels, first if scale == scales[0] else None) for scale in scales]

    def _score_scale(
        self, batch: np.ndarray, scale: float, levels: list[np.ndarray], resized: np.ndarray | None
    ) -> ScaleScores:
        """Scores `batch` at one scale, in blocks, so that memory is bounded.

        The windows of a block begin where those of the one before ended, and a block is scored with the pixels around
        it that the network needs.

        Args:
            batch: uint8 [B, H, W, C].
            scale: factor by which it is resized.
            levels: uint8 [256] per photograph, which replace its levels.
            resized: `batch` at this scale, where that is there already.
        """
        height, width = self.resized_size(batch.shape[1:3], scale)
        step, px = self.windows.step, self.windows.px
        extent = [max(side - px + step, 1) for side in (height, width)]  # within which windows begin
        side = self._block(height, width)
        known = _some([(y, x) for y in _apart(height, px) for x in _apart(width, px)], NUM_OOD_WINDOWS)
        known = known if self._feature_statistics else []
        logits, cells, windows = [], [], []
        for top in range(0, extent[0], side[0]):
            row_logits, row_cells = [], []
            for left in range(0, extent[1], side[1]):
                rows, y = self._block_slices(top, side[0], extent[0])
                columns, x = self._block_slices(left, side[1], extent[1])
                if resized is None:
                    part = resize.scaled_batch(batch, height, width, rows, columns)
                else:
                    part = resized[:, rows, columns]
                part = exposure.apply_levels(part, levels)
                window_logits, cell_logits = self.windows.places(part)
                row_logits.append(window_logits[:, y, x])
                row_cells.append(cell_logits if cell_logits is None else cell_logits[:, y, x])
                for at in known:
                    if top <= at[0] < top + side[0] and left <= at[1] < left + side[1]:
                        y0, x0 = at[0] - rows.start, at[1] - columns.start
                        windows.append(part[:, y0 : y0 + px, x0 : x0 + px].copy())  # a view would keep all the block
            logits.append(np.concatenate(row_logits, 2))
            cells.append(None if row_cells[0] is None else np.concatenate(row_cells, 2))
        heat = crack_tracing.window_heatmap(_probabilities(logits, self._card.temperature), px // step)
        if cells[0] is None:
            return ScaleScores(scale, heat, None, self._distances(windows))
        return ScaleScores(scale, heat, _probabilities(cells, self._cell_temperature), self._distances(windows))

    def _block(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a block of a photograph of that size: multiples of a window."""
        px, beside = self.windows.px, 2 * self.windows.around + self.windows.px
        rows = columns = 1
        while True:
            sides = (-(-height // rows), -(-width // columns))
            pixels = (sides[0] + beside * (rows > 1)) * (sides[1] + beside * (columns > 1))
            if pixels <= BLOCK_PIXELS or max(sides) <= px:
                return tuple(-(-side // px) * px for side in sides)
            rows, columns = (rows + 1, columns) if sides[0] >= sides[1] else (rows, columns + 1)

    def _block_slices(self, start: int, side: int, end: int) -> tuple[slice, slice]:
        """(the pixels that a block needs, which of the scores of their windows are its own), along one axis.

        The block has `side` pixels from `start` on; windows begin before `end`.
        """
        first = max(start - self.windows.around, 0)
        step, last = self.windows.step, start + side >= end
        pixels = slice(first, start + side + self.windows.px - step + self.windows.around)
        return pixels, slice((start - first) // step, None if last else (start - first + side) // step)

    def _distances(self, windows: list[np.ndarray]) -> list[float] | None:
        """Distances of B photographs from the training images, by `windows`, each uint8 [B, h, w, C]."""
        if self._feature_statistics is None:
            return None
        distances = []
        for photograph_windows in zip(*windows, strict=True):
            features = self._feature_statistics(
                np.stack([resize.resize_array(window, self.windows.px) for window in photograph_windows])
            )
            distances.append(float(np.median(self._detector.distances(features))))
        return distances


def _probabilities(logits: list[np.ndarray], temperature: float) -> np.ndarray:
    return model_file.to_probabilities(np.concatenate(logits, 1), temperature)


def _apart(length: int, px: int) -> range:
    """Where windows of `px` begin that don't overlap; at the start where not even one fits."""
    return range(0, max(length - px + 1, 1), px)


def _some(items: list, limit: int) -> list:
    """At most so many of `items`, evenly spread."""
    return [items[index] for index in np.linspace(0, len(items) - 1, min(len(items), limit)).round().astype(int)]
