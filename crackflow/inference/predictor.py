"""A trained model on photographs of any size.

Synopsis::

    model = predictor.load("runs/metu")                 # "" is the model that comes with crackflow
    for found in model.predict(["wall.jpg", pixels]):    # files, or arrays uint8 [H, W, C]
        found.decision, found.probability, found.findings

A photograph is scored window by window (`inference.sliding_window`), resized as the training images were, and by
default at half and twice that size as well; the scores of the three scales are averaged per position. `scale` or
`mm_per_px` name the one size to use instead. The brightness of a photograph is first adjusted to the mean of the
training images: all its levels are multiplied, as by a longer exposure.

A photograph goes through two halves, because its pixels (300 MB for 100 megapixels) are released between them:
`score` runs the network, `extract_findings` traces cracks in the scores.
"""

import dataclasses
import math
import os
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from crackflow.core import errors
from crackflow.core.config.trained import SCALE_RANGE, PredictConfig
from crackflow.core.errors import UserError
from crackflow.data import resize, surface
from crackflow.inference import crack_tracing, crack_width, photo_files, photo_threshold, sliding_window, suggestions
from crackflow.inference.cross_profiles import GreyPixels
from crackflow.inference.multi_scale import MultiScaleScorer, MultiScaleScores, PhotoDecision, ScaleScores
from crackflow.inference.photo_scale import PhotoScale, Source
from crackflow.inference.prediction import Finding, Prediction
from crackflow.model import model_file

CRACKED, CLEAN, REVIEW = "cracked", "clean", "review"
SCALES = (1.0, 0.5, 2.0)  # where nothing says how large a pixel is
# Cells by which the scales may place one crack apart, for the decision. Of 12 cracks in walls of 12 megapixels 10 are
# found with 0 and 12 with 2, 23 of 24 clean walls being left alone; uav75, ROC AUC: .791, .800, with 4 .801.
MISPLACED_CELLS = 2
MAX_SCALE_MISMATCH = 2.0  # times finer or coarser than in training, above which a warning is given
OOD_SCALE_HINT_RATIO = 0.7  # of the distance at the scale of training, for another scale to be named in a warning
# The shorter side of a photograph that is called clean is at least this fraction of a window. Of 20 cracked METU images
# cropped to 48 px around their middle 9 were called clean, to 64 px 5, to 96 px 3, to 128 px, a window, none.
MIN_WINDOW_FILL = 0.5
# Of several photographs at their finest scale, together. Half of it cost as much CPU time with METU's at 128 pixels, a
# quarter a fourth more, twice as many a tenth less, with twice the memory of a tile.
BATCH_PIXELS = sliding_window.TILE_PX**2


class Model:
    """A trained model that predicts photographs.

    Args:
        loaded: the model with its metadata.
        threshold: replaces the model's own, 0..1; no photograph is then for human review unless it is too small. 0: its
            own.
    """

    def __init__(self, loaded: model_file.TrainedModel, threshold: float = 0.0) -> None:
        if threshold:
            card = dataclasses.replace(loaded.card, threshold=threshold, threshold_rule="given", review=(0.0, 0.0))
            loaded = dataclasses.replace(loaded, card=card)
        self.bundle = loaded
        self._scorer = MultiScaleScorer(loaded)
        self._window_px, self._stride = self._scorer.windows.px, self._scorer.windows.step

    @property
    def card(self) -> model_file.ModelMetadata:
        """Classes, threshold, temperature, sizes and origin of the model."""
        return self.bundle.card

    @property
    def is_slow(self) -> bool:
        """Whether it scores one window at a time: minutes for a photograph of 12 megapixels."""
        return self._scorer.is_slow

    def predict(
        self,
        photos: str | os.PathLike | np.ndarray | Sequence[str | os.PathLike | np.ndarray],
        scale: float = 0.0,
        mm_per_px: float = 0.0,
        max_megapixels: float = PredictConfig.max_megapixels,
    ) -> list[Prediction]:
        """Predicts one photograph or several.

        Args:
            photos: a file, an array uint8 [H, W, 3] or [H, W], 0..255, or a sequence of them.
            scale: factor by which photographs are resized relative to the training images; 0: SCALES.
            mm_per_px: millimetres per pixel on the surface; 0: unknown.
            max_megapixels: larger files are refused.

        Returns:
            One prediction per photograph.

        Raises:
            UserError: a file is no usable photograph, an array has another shape or dtype, or a number is out of range.
        """
        PredictConfig(photos="photos", scale=scale, mm_per_px=mm_per_px, max_megapixels=max_megapixels)
        is_single = isinstance(photos, str | os.PathLike | np.ndarray)
        predictions = []
        for number, photo in enumerate([photos] if is_single else photos):
            if isinstance(photo, np.ndarray):
                name, pixels, mask = f"array {number}", self.checked(photo), None
            else:
                name = os.fspath(photo)
                try:
                    opened = photo_files.read(name, self.card.channels, max_megapixels)
                except errors.ImageError as error:
                    raise UserError(f"expected a photograph, received {name!r}: {error}") from error
                pixels, mask = opened.pixels, opened.surface
            predictions.append(self.extract_findings(self.score(pixels, scale, mm_per_px, surface=mask), name))
        return predictions

    def checked(self, pixels: np.ndarray) -> np.ndarray:
        """Converts `pixels`, uint8 [H, W, 1 or 3] or [H, W], to the channels of the model.

        Raises:
            UserError: another shape or dtype.
        """
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

    def predict_array(self, pixels: np.ndarray, name: str, scale: float = 0.0, mm_per_px: float = 0.0) -> Prediction:
        """Predicts `pixels`, uint8 [H, W, C] with the channels of the model. The other arguments are those of
        `predict`."""
        return self.extract_findings(self.score(pixels, scale, mm_per_px), name)

    def score(
        self,
        pixels: np.ndarray,
        scale: float = 0.0,
        mm_per_px: float = 0.0,
        measured: PhotoScale | None = None,
        surface: np.ndarray | None = None,
    ) -> MultiScaleScores:
        """Runs the network on a photograph.

        Args:
            pixels: uint8 [H, W, C]: of these, the scores have what is needed after that.
            scale: as in `predict`.
            mm_per_px: as in `predict`.
            measured: the scale of this photograph, instead of `mm_per_px`.
            surface: bool [H, W], where there is anything to see; None: everywhere.
        """
        is_measured = measured is not None and measured.source is not Source.MM_PER_PX
        mm_per_px, plane = (measured.mm_per_px, measured.plane) if measured else (mm_per_px, None)
        scales, warnings = self._scales(scale, mm_per_px, is_measured)
        warnings = [*(measured.warnings if measured else ()), *warnings]
        # Resized for the network: of a larger photograph this is smaller, and nothing that was scored is lost.
        image = resize.scaled(pixels, *self._scorer.resized_size(pixels.shape[:2], scales[0]))
        scale_scores = [scores.first for scores in self._scorer.score(pixels[None], scales, image[None])]
        warnings = warnings + self._too_small(pixels, image)
        size = pixels.shape[1], pixels.shape[0]
        scores = MultiScaleScores(*size, image, scale_scores, warnings, mm_per_px, plane=plane, surface=surface)
        return scores._replace(own_pixels=self._own_pixels(pixels, scores))

    def _own_pixels(self, pixels: np.ndarray, scores: MultiScaleScores) -> GreyPixels:
        """The pixels across which widths may be measured: without a copy if `scores.image` has all of them."""
        if scores.image.shape == pixels.shape:
            return GreyPixels.of(scores.image)
        raw = self._fused(scores.scale_scores, scores.image.shape[:2], "heat")
        is_probable = np.maximum(raw, self.heat(scores)) >= self.card.finding_threshold
        return GreyPixels.of(pixels, ndimage.binary_dilation(is_probable, np.ones((3, 3)), crack_tracing.REACH))

    def _too_small(self, pixels: np.ndarray, image: np.ndarray) -> list[str]:
        """A warning if `image`, `pixels` resized for the network, does not fill one of its windows."""
        (height, width), (image_height, image_width) = pixels.shape[:2], image.shape[:2]
        if min(image_height, image_width) >= self._window_px:
            return []
        return [
            f"{width} x {height} pixels, to the network {image_width} x {image_height}: its window of "
            f"{self._window_px} is filled up with the picture mirrored, and what it says may be wrong"
        ]

    def extract_findings(self, scores: MultiScaleScores, name: str) -> Prediction:
        """Traces the cracks in the scores of a photograph, and decides about it."""
        main, step = scores.scale_scores[0], self._stride
        height, width = scores.image.shape[:2]
        raw = self._on_surface(self._fused(scores.scale_scores, (height, width), "heat"), scores)
        heat = self.heat(scores)
        has_cells = main.cell_probabilities is not None
        cells = self._fused(scores.scale_scores, (height, width), "cell_probabilities") if has_cells else None
        lowest = self.card.finding_threshold
        factors = scores.width / width, scores.height / height
        traced = crack_tracing.extract_cracks(raw, step, self._window_px // step, scores.image, lowest, cells, heat)
        lines = [[line * factors for line in crack.lines] for crack in traced]
        own_pixels = scores.own_pixels or GreyPixels.of(scores.image)
        widths, limits = crack_width.measure(own_pixels, lines, scores.mm_per_px)
        verdict = self._decide(float(heat.max()), (height, width))
        known = self.bundle.familiarity
        return Prediction(
            name=name,
            width=scores.width,
            height=scores.height,
            probability=verdict.probability,
            decision=verdict.decision,
            label=self.card.classes[verdict.is_cracked],
            findings=[
                self._finding(crack, width, factors, scores) for crack, width in zip(traced, widths, strict=True)
            ],
            warnings=scores.warnings + (self._ood_warnings(scores.scale_scores) if known else []),
            distance=main.distance / known.limit if known else None,
            scales=tuple(scale.scale for scale in scores.scale_scores),
            heat=heat,
            shift=self.card.shift_of(verdict.windows),
            width_limits=limits,
        )

    def window_candidates(self, scores: MultiScaleScores, heat: np.ndarray) -> list[suggestions.Candidate]:
        """The windows of a photograph that are worth a label, by its scores and its heat map, `Prediction.heat`."""
        size = scores.height, scores.width
        return suggestions.candidates(heat, scores.image, size, self._window_px, self._stride, self.card.threshold)

    def decide(self, photographs: Sequence[np.ndarray]) -> list[PhotoDecision]:
        """Decides about photographs, uint8 [H, W, C] with the channels of the model, at SCALES, without tracing.

        Those of one size go through the network together, as many as BATCH_PIXELS allow.

        Returns:
            One decision per photograph, the same as that of `predict_array`.
        """
        decisions: dict[int, PhotoDecision] = {}
        indices_by_size: dict[tuple[int, int], list[int]] = {}
        for index, pixels in enumerate(photographs):
            indices_by_size.setdefault(pixels.shape[:2], []).append(index)
        for size, indices in indices_by_size.items():
            batch_size = max(BATCH_PIXELS // math.prod(self._scorer.resized_size(size, max(SCALES))), 1)
            for start in range(0, len(indices), batch_size):
                batch = indices[start : start + batch_size]
                scale_scores = self._scorer.score(np.stack([photographs[index] for index in batch]), list(SCALES))
                image_size = self._scorer.resized_size(size, SCALES[0])
                for index, heat in zip(batch, self._heat(scale_scores, image_size), strict=True):
                    decisions[index] = self._decide(float(heat.max()), image_size)
        return [decisions[index] for index in range(len(photographs))]

    def _decide(self, probability: float, image_size: tuple[int, int]) -> PhotoDecision:
        """The decision for a maximum of the heat map and a height and width at the first scale."""
        decision = self._decision(probability)
        if decision == CLEAN and min(image_size) < MIN_WINDOW_FILL * self._window_px:
            decision = REVIEW  # too small to show much
        is_cracked = probability >= self.card.threshold
        return PhotoDecision(probability, decision, is_cracked, self._num_windows(image_size))

    def _num_windows(self, image_size: tuple[int, int]) -> float:
        """How many windows a photograph has room for, by its area."""
        return max(math.prod(image_size) / self._window_px**2, 1.0)

    def heat(self, scores: MultiScaleScores) -> np.ndarray:
        """float32 [h, w], 0..1: the probability of every position of the photograph, corrected for their number."""
        return self._on_surface(self._heat(scores.scale_scores, scores.image.shape[:2]), scores)

    def _on_surface(self, heat: np.ndarray, scores: MultiScaleScores) -> np.ndarray:
        """`heat`, float32 [h, w], 0 in cells that show no surface."""
        if scores.surface is None:
            return heat
        sides = tuple(
            self._stride * side / small for side, small in zip(scores.surface.shape, scores.image.shape, strict=False)
        )
        return heat * surface.cells(scores.surface, *heat.shape, sides)

    def _heat(self, scale_scores: list[ScaleScores], image_size: tuple[int, int]) -> np.ndarray:
        """float32 [h, w], or [B, h, w] for a batch of B photographs."""
        fused = self._fused(scale_scores, image_size, "heat", MISPLACED_CELLS)
        return photo_threshold.corrected(fused, self.card.shift_of(self._num_windows(image_size)))

    def _fused(
        self, scale_scores: list[ScaleScores], image_size: tuple[int, int], name: str, reach: int = 0
    ) -> np.ndarray:
        """float32 [h, w] or [B, h, w], 0..1: the attribute `name` of all scales, fused over the photograph by
        `crack_tracing.fuse_scales`."""
        main, step = scale_scores[0], self._stride
        rows, columns = (-(-side // step) for side in image_size)  # the rest is the photograph mirrored
        maps = [(scores.scale / main.scale, getattr(scores, name)) for scores in scale_scores]
        return crack_tracing.fuse_scales(maps, main.heat.shape[-2:], reach)[..., :rows, :columns]

    def _scales(self, scale: float, mm_per_px: float, is_measured: bool = False) -> tuple[list[float], list[str]]:
        """(the scales to score at, relative to the training images; cracks are traced at the first), and warnings.

        What was measured of one photograph (`is_measured`) refuses no run: --scale goes before it.
        """
        if scale and mm_per_px and self.card.mm_per_px and not is_measured:
            raise UserError(
                f"--scale: expected nothing beside --mm_per_px, which gives it for this model, received {scale:g}"
            )
        if not scale and mm_per_px and self.card.mm_per_px:
            low, high = (self.card.mm_per_px * ratio for ratio in SCALE_RANGE)
            if is_measured and not low <= mm_per_px <= high:
                return list(SCALES), [
                    f"its pixels are {mm_per_px:.3g} mm, and the model was trained on {self.card.mm_per_px:g}: too far "
                    "apart, so that it was looked at as if its scale were unknown"
                ]
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
                    f"({mm_per_px:g} mm, not {self.card.mm_per_px:g}): it is made smaller, and cracks finer than those "
                    "in training are lost"
                ]
        return [scale] if scale else list(SCALES), []

    def _ood_warnings(self, scale_scores: list[ScaleScores]) -> list[str]:
        limit, main = self.bundle.familiarity.limit, scale_scores[0]
        if main.distance <= limit:
            return []
        warnings = [
            f"it looks unlike the training images ({main.distance / limit:.1f} times as far from them as nearly all of "
            "them are): what the model says of it may be wrong"
        ]
        best = min(scale_scores, key=lambda scores: scores.distance)
        if best.distance < OOD_SCALE_HINT_RATIO * main.distance:
            warnings.append(
                f"its scale seems far from that of training: made {best.scale:g} times as large it looks more like it; "
                f"try --scale={best.scale:g}, or give --mm_per_px"
            )
        return warnings

    def _decision(self, probability: float) -> str:
        if photo_threshold.abstains(np.array([probability]), self.card.review)[0]:
            return REVIEW
        return CRACKED if probability >= self.card.threshold else CLEAN

    def _finding(
        self,
        crack: crack_tracing.TracedCrack,
        width: crack_width.CrackWidth,
        factors: tuple[float, float],
        scores: MultiScaleScores,
    ) -> Finding:
        (x, y, box_width, box_height), (right, down) = crack.box, factors
        length = None if crack.length_px is None else crack.length_px * math.sqrt(right * down)
        length_mm = length * scores.mm_per_px if length is not None and scores.mm_per_px else None
        if length is not None and scores.plane:
            length_mm = scores.plane.length_mm([line * factors for line in crack.lines])
            length_mm = length_mm if math.isfinite(length_mm) else None  # beyond the horizon of the plane
        return Finding(
            (x * right, y * down, box_width * right, box_height * down),
            [[(float(at[0]) * right, float(at[1]) * down) for at in outline] for outline in crack.outlines],
            crack.probability,
            self._decision(crack.probability),
            length,
            length_mm,
            crack.length_note,
            width.centerline,
            width.width_px,
            width.width_mm,
            width.note,
        )


def load(path: str | os.PathLike = "", threshold: float = 0.0) -> Model:
    """The model in the file or run folder `path`; without one that which comes with crackflow. Raises: UserError."""
    return Model(model_file.load(os.fspath(path)), threshold)
