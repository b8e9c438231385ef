"""What the network says of a photograph at several scales."""

from typing import NamedTuple

import numpy as np


class ScaleScores(NamedTuple):
    """A photograph at one scale: heat, float32 [h, w] of cells; `spots`, float32 [h, w], how cracked a cell is by
    itself, where the network can tell; and how far its windows are from training's. Of B photographs at once: float32
    [B, h, w] and B distances."""

    scale: float
    heat: np.ndarray
    spots: np.ndarray | None
    distance: float | list[float] | None

    @property
    def first(self) -> "ScaleScores":
        """Of the first photograph of several."""
        return ScaleScores(self.scale, *(part if part is None else part[0] for part in self[1:]))


class MultiScaleScores(NamedTuple):
    """A photograph after the network. width, height: its own; seen: uint8 [h, w, C], as large as the network saw it;
    looks: at each scale, the first that of `seen`."""

    width: int
    height: int
    seen: np.ndarray
    looks: list[ScaleScores]
    warnings: list[str]
    mm_per_px: float


class PhotoDecision(NamedTuple):
    """What is decided about a photograph. probability: 0..1; decision: cracked, clean or review; is_cracked: on which
    side of the threshold it is; windows: how many of the network's it would make, 1 or more."""

    probability: float
    decision: str
    is_cracked: bool
    windows: float
