"""A trained model on photographs of any size.

Synopsis::

    model = predictor.load("runs/metu")                 # "" is the model that comes with crackflow
    for found in model.predict(["wall.jpg", pixels]):    # files, or arrays uint8 [H, W, C]
        found.decision, found.probability, found.findings

A photograph is looked at as the training images were, window by window (`inference.sliding_window`), as large as they
were made for the network; by default also half and twice as large, and the three opinions of a place are averaged.
`scale` or `mm_per_px` say the size instead. A dark or light one is first exposed as the training images were on
average: all its levels are multiplied, as by a longer exposure.
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crackflow.core import errors
from crackflow.core.config.trained import SCALE_RANGE, PredictConfig
from crackflow.core.errors import UserError
from crackflow.data import resize
from crackflow.inference import crack_tracing, exposure, photo_files, photo_threshold, sliding_window
from crackflow.inference.multi_scale import MultiScaleScores, PhotoDecision, ScaleScores
from crackflow.model import model_file, ood

CRACKED, CLEAN, REVIEW = "cracked", "clean", "review"
SCALES = (1.0, 0.5, 2.0)  # where nothing says how large a pixel is
# Cells by which the scales may place one crack apart, for the decision. Of 12 cracks in walls of 12 megapixels 10 are
# found with 0 and 12 with 2, 23 of 24 clean walls being left alone; uav75, ROC AUC: .791, .800, with 4 .801.
MISPLACED_CELLS = 2
MAX_SCALE_MISMATCH = 2.0  # times finer or coarser than in training, above which a warning is given
OOD_SCALE_HINT_RATIO = 0.7  # of the distance at the scale of training, for another scale to be named in a warning
# Of a window, that the shorter side of a photograph must be for "clean" to be said of it. Of 20 cracked METU images cut
# down to 48 px around their middle 9 were called clean, to 64 px 5, to 96 px 3, to 128 px, a window, none.
MIN_WINDOW_FILL = 0.5
NUM_OOD_WINDOWS = 64  # of a photograph, evenly spread, by which it is told whether training's looked like it
BLOCK_PIXELS = 16_000_000  # of a photograph that are scaled for the network and looked at at once
# Of several photographs at their finest scale, together. Half of it cost as much CPU time with METU's at 128 pixels, a
# quarter a fourth more, twice as many a tenth less, with twice the memory of a tile.
BATCH_PIXELS = sliding_window.TILE_PX**2


class Finding(NamedTuple):
    """A crack. box: x, y, width, height; outlines: (x, y) each; both in pixels of the photograph. probability: 0..1;
    decision: cracked or review; length_px, length_mm: estimates along the middle of the dark line, or None;
    length_note: why there is none, or ""."""

    box: tuple[float, float, float, float]
    outlines: list[list[tuple[float, float]]]
    probability: float
    decision: str
    length_px: float | None
    length_mm: float | None
    length_note: str = ""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a model says of one photograph.

    probability: of its most probable place, 0..1, less what the number of its places explains; decision: cracked, clean
    or review (left to a person); label: the model's name for the class on this side of the threshold; distance: from
    the training images, above 1 is unlike them, None where the model does not know; scales: photographs were made so
    many times as large for the network; heat: float32 [h, w], 0..1, the probability of every place; shift: logits that
    were taken off it, for their number.
    """

    name: str
    width: int
    height: int
    probability: float
    decision: str
    label: str
    findings: list[Finding]
    warnings: list[str]
    distance: float | None
    scales: tuple[float, ...]
    heat: np.ndarray
    shift: float = 0.0


class Model:
    """A trained model, ready to look at photographs. `threshold`: not its own; nothing is left to a
    person then but photographs that are too small."""

    def __init__(self, loaded: model_file.TrainedModel, threshold: float = 0.0) -> None:
        if threshold:
            card = dataclasses.replace(loaded.card, threshold=threshold, threshold_rule="given", review=(0.0, 0.0))
            loaded = dataclasses.replace(loaded, card=card)
        self.bundle = loaded
        self._scorer = sliding_window.create_scorer(loaded.model, loaded.locator)
        # Fitted on the logits of windows; those that were learnt from masks are another layer's.
        self._cell_temperature = 1.0 if loaded.locator else loaded.card.temperature
        self._looks = ood.FeatureStatistics(loaded.model) if loaded.familiarity else None

    @property
    def card(self) -> model_file.ModelMetadata:
        """Classes, threshold, temperature, sizes and origin of the model."""
        return self.bundle.card

    @property
    def is_slow(self) -> bool:
        """Whether it goes through a photograph window by window: minutes for one of 12 megapixels."""
        return isinstance(self._scorer, sliding_window.SlidingWindowScorer)

    def predict(
        self,
        photos: str | os.PathLike | np.ndarray | Sequence[str | os.PathLike | np.ndarray],
        scale: float = 0.0,
        mm_per_px: float = 0.0,
        max_megapixels: float = PredictConfig.max_megapixels,
    ) -> list[Prediction]:
        """One for each of `photos`, a file or an array uint8 [H, W, 3] or [H, W], 0..255, or several of them.

        `scale`: how many times as large as the training photographs' a pixel of the surface is to be made, 0: as the
        model's card says, and at SCALES; `mm_per_px`: what a pixel of the photographs is on the surface, 0: unknown.
        Raises: UserError for a file that is no usable photograph, an array of another kind, a number out of its range.
        """
        PredictConfig(photos="photos", scale=scale, mm_per_px=mm_per_px, max_megapixels=max_megapixels)
        is_single = isinstance(photos, str | os.PathLike | np.ndarray)
        predictions = []
        for number, photo in enumerate([photos] if is_single else photos):
            if isinstance(photo, np.ndarray):
                name, pixels = f"array {number}", self.checked(photo)
            else:
                name = os.fspath(photo)
                try:
                    pixels = photo_files.read(name, self.card.channels, max_megapixels).pixels
                except errors.ImageError as error:
                    raise UserError(f"expected a photograph, received {name!r}: {error}") from error
            predictions.append(self.look(pixels, name, scale, mm_per_px))
        return predictions

    def checked(self, pixels: np.ndarray) -> np.ndarray:
        """`pixels`, uint8 [H, W, 1 or 3] or [H, W], with the channels of the model. Raises: UserError for others."""
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
            raise UserError(
                f"expected pixels uint8 [H, W, 3] or [H, W], 0..255, received {pixels.dtype} {pixels.shape}"
            )
        if pixels.shape[2] == self.card.channels:
            return pixels
        if pixels.shape[2] == 1:
            return np.repeat(pixels, self.card.channels, 2)
        return resize.grey(pixels)

    def look(self, pixels: np.ndarray, name: str, scale: float = 0.0, mm_per_px: float = 0.0) -> Prediction:
        """What is in `pixels`, uint8 [H, W, C] with the channels of the model. The rest as `predict`."""
        return self.tell(self.glance(pixels, scale, mm_per_px), name)

    def glance(self, pixels: np.ndarray, scale: float = 0.0, mm_per_px: float = 0.0) -> MultiScaleScores:
        """The first half of `look`, after which `pixels` may go: of 100 megapixels they are 300 MB."""
        scales, warnings = self._scales(scale, mm_per_px)
        looks = [look.first for look in self._looks_at(pixels[None], scales)]
        # As it was for the network: of a larger photograph this is smaller, and of what it saw nothing is lost.
        seen = resize.scaled(pixels, *self._size(pixels.shape[:2], scales[0]))
        warnings = warnings or self._too_small(pixels, seen)
        return MultiScaleScores(pixels.shape[1], pixels.shape[0], seen, looks, warnings, mm_per_px)

    def _looks_at(self, batch: np.ndarray, scales: list[float]) -> list[ScaleScores]:
        """At each of `scales` that makes no less than a window of `batch`, uint8 [B, H, W, C], and at the first."""
        size = batch.shape[1:3]
        scales = [scale for scale in scales if scale >= scales[0] or min(self._size(size, scale)) >= self._scorer.px]
        levels = [exposure.levels_for(pixels, self.card.brightness) for pixels in batch]
        return [self._look(batch, scale, levels) for scale in scales]

    def _too_small(self, pixels: np.ndarray, seen: np.ndarray) -> list[str]:
        """A warning when `seen`, what the network saw of `pixels`, does not fill one of its windows."""
        (height, width), (seen_height, seen_width) = pixels.shape[:2], seen.shape[:2]
        if min(seen_height, seen_width) >= self._scorer.px:
            return []
        return [
            f"{width} x {height} pixels, to the network {seen_width} x {seen_height}: its window of {self._scorer.px} "
            "is filled up with the picture mirrored, and what it says may be wrong"
        ]

    def tell(self, glance: MultiScaleScores, name: str) -> Prediction:
        """The second half of `look`: findings in what was seen."""
        main, step = glance.looks[0], self._scorer.step
        height, width = glance.seen.shape[:2]
        raw = self._fused(glance.looks, (height, width), "heat")
        heat = self.heat(glance)
        spots = None if main.spots is None else self._fused(glance.looks, (height, width), "spots")
        low, high = self.card.review
        lowest = min(self.card.threshold, low) if low < high else self.card.threshold
        factors = glance.width / width, glance.height / height
        traced = crack_tracing.extract_cracks(raw, step, self._scorer.px // step, glance.seen, lowest, spots, heat)
        verdict = self._verdict(float(heat.max()), (height, width))
        known = self.bundle.familiarity
        return Prediction(
            name=name,
            width=glance.width,
            height=glance.height,
            probability=verdict.probability,
            decision=verdict.decision,
            label=self.card.classes[verdict.is_cracked],
            findings=[self._finding(crack, factors, glance.mm_per_px) for crack in traced],
            warnings=glance.warnings + (self._unlike(glance.looks) if known else []),
            distance=main.distance / known.limit if known else None,
            scales=tuple(look.scale for look in glance.looks),
            heat=heat,
            shift=self.card.shift_of(verdict.windows),
        )

    def judge(self, glance: MultiScaleScores) -> PhotoDecision:
        """The decision of `tell` alone."""
        return self._verdict(float(self.heat(glance).max()), glance.seen.shape[:2])

    def judge_all(self, photographs: Sequence[np.ndarray]) -> list[PhotoDecision]:
        """`judge` of each of `photographs`, uint8 [H, W, C] with the channels of the model, at SCALES. Those of one
        size go through the network together, as many as BATCH_PIXELS allow."""
        verdicts: dict[int, PhotoDecision] = {}
        numbers: dict[tuple[int, int], list[int]] = {}
        for number, pixels in enumerate(photographs):
            numbers.setdefault(pixels.shape[:2], []).append(number)
        for size, alike in numbers.items():
            count = max(BATCH_PIXELS // math.prod(self._size(size, max(SCALES))), 1)
            for start in range(0, len(alike), count):
                batch = alike[start : start + count]
                looks = self._looks_at(np.stack([photographs[number] for number in batch]), list(SCALES))
                seen = self._size(size, SCALES[0])
                for number, heat in zip(batch, self._heat(looks, seen), strict=True):
                    verdicts[number] = self._verdict(float(heat.max()), seen)
        return [verdicts[number] for number in range(len(photographs))]

    def _verdict(self, probability: float, seen: tuple[int, int]) -> PhotoDecision:
        """`seen`: height and width that the network saw."""
        decision = self._decision(probability)
        if decision == CLEAN and min(seen) < MIN_WINDOW_FILL * self._scorer.px:
            decision = REVIEW  # too small to show much
        return PhotoDecision(probability, decision, probability >= self.card.threshold, self._windows(seen))

    def _windows(self, seen: tuple[int, int]) -> float:
        """How many windows there is room for, by the area."""
        return max(math.prod(seen) / self._scorer.px**2, 1.0)

    def heat(self, glance: MultiScaleScores) -> np.ndarray:
        """float32 [h, w], 0..1: how probable every place of the photograph is, less what their number explains."""
        return self._heat(glance.looks, glance.seen.shape[:2])

    def _heat(self, looks: list[ScaleScores], seen: tuple[int, int]) -> np.ndarray:
        """float32 [h, w], or [B, h, w] of B photographs at once."""
        most = self._fused(looks, seen, "heat", MISPLACED_CELLS)
        return photo_threshold.corrected(most, self.card.shift_of(self._windows(seen)))

    def _fused(self, looks: list[ScaleScores], seen: tuple[int, int], name: str, reach: int = 0) -> np.ndarray:
        """float32 [h, w] or [B, h, w], 0..1: `heat` or `spots` of all scales as one, over the photograph:
        `crack_tracing.fuse_scales`."""
        main, step = looks[0], self._scorer.step
        rows, columns = (-(-side // step) for side in seen)  # the rest is the photograph mirrored
        each = [(look.scale / main.scale, getattr(look, name)) for look in looks]
        return crack_tracing.fuse_scales(each, main.heat.shape[-2:], reach)[..., :rows, :columns]

    def _scales(self, scale: float, mm_per_px: float) -> tuple[list[float], list[str]]:
        """Those to look at, relative to training's photographs, the first to trace in; and warnings."""
        if not scale and mm_per_px and self.card.mm_per_px:
            low, high = (self.card.mm_per_px * ratio for ratio in SCALE_RANGE)
            if not low <= mm_per_px <= high:
                raise UserError(
                    f"--mm_per_px: expected {low:.3g} to {high:.3g} for a model that was trained on "
                    f"{self.card.mm_per_px:g}, received {mm_per_px:g}"
                )
            scale = mm_per_px / self.card.mm_per_px
            if scale > MAX_SCALE_MISMATCH:
                return [scale], [
                    f"its pixels are {scale:.1f} times as coarse as those the model was trained on "
                    f"({mm_per_px:g} mm, not {self.card.mm_per_px:g}): fine cracks cannot be seen in it"
                ]
            if scale < 1 / MAX_SCALE_MISMATCH:
                return [scale], [
                    f"its pixels are {1 / scale:.1f} times as fine as those the model was trained on "
                    f"({mm_per_px:g} mm, not {self.card.mm_per_px:g}): it is looked at made smaller, and cracks finer "
                    "than those in training are lost"
                ]
        return [scale] if scale else list(SCALES), []

    def _size(self, size: tuple[int, int], scale: float) -> tuple[int, int]:
        """Height and width that a photograph of height and width `size` is made for the network."""
        return tuple(max(round(side * scale * self.card.scale), 1) for side in size)

    def _look(self, batch: np.ndarray, scale: float, levels: list[np.ndarray]) -> ScaleScores:
        """Of `batch`, uint8 [B, H, W, C], with the levels of each exchanged for its `levels`, uint8 [256]. In blocks,
        so that memory is bounded; the windows of one begin where those of the last ended. Each is seen with what lies
        around it, where the network would miss it."""
        height, width = self._size(batch.shape[1:3], scale)
        step, px = self._scorer.step, self._scorer.px
        across = [max(side - px + step, 1) for side in (height, width)]  # where windows begin
        side = self._block(height, width)
        known = _some([(y, x) for y in _apart(height, px) for x in _apart(width, px)], NUM_OOD_WINDOWS)
        known = known if self._looks else []
        logits, cells, windows = [], [], []
        for top in range(0, across[0], side[0]):
            scores, spots = [], []
            for left in range(0, across[1], side[1]):
                rows, y = self._seen(top, side[0], across[0])
                columns, x = self._seen(left, side[1], across[1])
                part = exposure.apply_levels(resize.scaled_batch(batch, height, width, rows, columns), levels)
                window_logits, cell_logits = self._scorer.places(part)
                scores.append(window_logits[:, y, x])
                spots.append(cell_logits if cell_logits is None else cell_logits[:, y, x])
                for at in known:
                    if top <= at[0] < top + side[0] and left <= at[1] < left + side[1]:
                        y0, x0 = at[0] - rows.start, at[1] - columns.start
                        windows.append(part[:, y0 : y0 + px, x0 : x0 + px].copy())  # a view would keep all the block
            logits.append(np.concatenate(scores, 2))
            cells.append(None if spots[0] is None else np.concatenate(spots, 2))
        warm = crack_tracing.window_heatmap(_probabilities(logits, self.card.temperature), px // step)
        if cells[0] is None:
            return ScaleScores(scale, warm, None, self._distances(windows))
        return ScaleScores(scale, warm, _probabilities(cells, self._cell_temperature), self._distances(windows))

    def _block(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns that are looked at at once, of a photograph made so large: multiples of a window."""
        px, beside = self._scorer.px, 2 * self._scorer.around + self._scorer.px
        rows = columns = 1
        while True:
            sides = (-(-height // rows), -(-width // columns))
            seen = (sides[0] + beside * (rows > 1)) * (sides[1] + beside * (columns > 1))
            if seen <= BLOCK_PIXELS or max(sides) <= px:
                return tuple(-(-side // px) * px for side in sides)
            rows, columns = (rows + 1, columns) if sides[0] >= sides[1] else (rows, columns + 1)

    def _seen(self, start: int, side: int, end: int) -> tuple[slice, slice]:
        """(pixels, and of the scores of their windows its own) of the block of `side` pixels from `start` on, along one
        side of a photograph, on which windows begin up to `end`."""
        first = max(start - self._scorer.around, 0)
        step, last = self._scorer.step, start + side >= end
        pixels = slice(first, start + side + self._scorer.px - step + self._scorer.around)
        return pixels, slice((start - first) // step, None if last else (start - first + side) // step)

    def _distances(self, windows: list[np.ndarray]) -> list[float] | None:
        """One for each of B photographs, of each of `windows`, uint8 [B, h, w, C]."""
        if self._looks is None:
            return None
        distances = []
        for photograph_windows in zip(*windows, strict=True):
            features = self._looks(
                np.stack([resize.resize_array(window, self._scorer.px) for window in photograph_windows])
            )
            distances.append(float(np.median(self.bundle.familiarity.distances(features))))
        return distances

    def _unlike(self, looks: list[ScaleScores]) -> list[str]:
        limit, main = self.bundle.familiarity.limit, looks[0]
        if main.distance <= limit:
            return []
        said = [
            f"it looks unlike the training images ({main.distance / limit:.1f} times as far from them as nearly all of "
            "them are): what the model says of it may be wrong"
        ]
        best = min(looks, key=lambda look: look.distance)
        if best.distance < OOD_SCALE_HINT_RATIO * main.distance:
            said.append(
                f"its scale seems far from that of training: made {best.scale:g} times as large it looks more like it; "
                f"try --scale={best.scale:g}, or give --mm_per_px"
            )
        return said

    def _decision(self, probability: float) -> str:
        if photo_threshold.abstains(np.array([probability]), self.card.review)[0]:
            return REVIEW
        return CRACKED if probability >= self.card.threshold else CLEAN

    def _finding(self, crack: crack_tracing.TracedCrack, factors: tuple[float, float], mm_per_px: float) -> Finding:
        (x, y, width, height), (right, down) = crack.box, factors
        length = None if crack.length_px is None else crack.length_px * math.sqrt(right * down)
        return Finding(
            (x * right, y * down, width * right, height * down),
            [[(float(at[0]) * right, float(at[1]) * down) for at in outline] for outline in crack.outlines],
            crack.probability,
            self._decision(crack.probability),
            length,
            length * mm_per_px if length is not None and mm_per_px else None,
            crack.length_note,
        )


def _probabilities(logits: list[np.ndarray], temperature: float) -> np.ndarray:
    return model_file.to_probabilities(np.concatenate(logits, 1), temperature)


def load(path: str | os.PathLike = "", threshold: float = 0.0) -> Model:
    """The model in the file or run folder `path`; without one that which comes with crackflow. Raises: UserError."""
    return Model(model_file.load(os.fspath(path)), threshold)


def _apart(length: int, px: int) -> range:
    """Where windows of `px` begin that don't overlap; at the start where not even one fits."""
    return range(0, max(length - px + 1, 1), px)


def _some(items: list, limit: int) -> list:
    """At most so many of `items`, evenly spread."""
    return [items[index] for index in np.linspace(0, len(items) - 1, min(len(items), limit)).round().astype(int)]
