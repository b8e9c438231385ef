"""What the network predicts for a photograph at several scales."""

from typing import NamedTuple

import numpy as np


class ScaleScores(NamedTuple):
    """The scores of a photograph, or of B photographs of one size, at one scale.

    Attributes:
        scale: how many times as large the photograph was made for the network.
        heat: float32 [h, w] or [B, h, w], 0..1, of cells.
        spots: float32 [h, w], 0..1, the probability of each cell by itself; None if the network can't tell.
        distance: of its windows from the training images, or None; B of them.
    """

    scale: float
    heat: np.ndarray
    spots: np.ndarray | None
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
        seen: uint8 [h, w, C], 0..255, the photograph as large as the network saw it.
        looks: the scores of each scale; the first is the scale of `seen`.
        warnings: about the scale of the photograph.
        mm_per_px: millimetres per pixel of the photograph, 0: unknown.
    """

    width: int
    height: int
    seen: np.ndarray
    looks: list[ScaleScores]
    warnings: list[str]
    mm_per_px: float


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
