"""What crackflow.predict says of one photograph, and of each crack in it.

Synopsis::

    prediction = model.predict_array(pixels, "wall.jpg")
    prediction.decision, prediction.findings[0].length_px, prediction.findings[0].width_px
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Finding(NamedTuple):
    """A crack.

    Attributes:
        box: x, y, width and height in pixels of the photograph.
        outlines: polygons, each a list of (x, y) in pixels of the photograph.
        probability: 0..1.
        decision: cracked or review.
        length_px: length along the middle of the dark line in pixels, an estimate, or None.
        length_mm: the same in millimetres, or None.
        length_note: why there is no length, or "".
        centerline: one {"points": [[x, y], ...], "widths_px": [width or None, ...]} per branch, in pixels of the
            photograph.
        width_px: {"median": {"value", "low", "high"}, "p95": the same, "max": the same with "at": [x, y]}, with 95 %
            intervals, or None.
        width_mm: the same in millimetres, or None.
        width_note: why there is no width, or "".
    """

    box: tuple[float, float, float, float]
    outlines: list[list[tuple[float, float]]]
    probability: float
    decision: str
    length_px: float | None
    length_mm: float | None
    length_note: str = ""
    centerline: Sequence[dict] = ()
    width_px: dict | None = None
    width_mm: dict | None = None
    width_note: str = ""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction for one photograph.

    Attributes:
        name: its path, or the number of an array.
        width: of the photograph in pixels.
        height: of the photograph in pixels.
        probability: the maximum of `heat`, 0..1.
        decision: cracked, clean or review (for human review).
        label: the model's name for the class on this side of the threshold.
        findings: the cracks.
        warnings: sentences for the user.
        distance: from the training images; above 1 is out of distribution; None if the model has no detector.
        scales: factors by which the photograph was resized, relative to the training images.
        heat: float32 [h, w], 0..1, the probability of every position, corrected for their number.
        shift: the correction, in logits.
        width_limits: {"blur_px", "measurable_px", "visible_px", "measurable_mm", "visible_mm"}: cracks below the one
            can't be measured in it, below the other not be seen; None if nothing in it tells.
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
    width_limits: dict | None = None
