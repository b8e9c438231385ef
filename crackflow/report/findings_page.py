"""Photographs with their cracks as one self-contained HTML page with zoom and a movable threshold.

Synopsis::

    page = findings_page.FindingsPage(most=100)
    page.add(prediction, small)             # predictor.Prediction, and its downscaled photograph, uint8 [h, w, C]
    page.write("findings/report.html", content, total=250, flagfile=text)
"""

import base64
import hashlib
import heapq
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from crackflow.core import atomic
from crackflow.data import overlays
from crackflow.inference.predictor import Prediction
from crackflow.report import rendering


class RankedPhoto(NamedTuple):
    """A photograph on the page. `order`: sorts the most probable first, and among equals the first added."""

    order: tuple[float, int]
    prediction: Prediction
    picture: bytes


class FindingsPage:
    """Keeps the `most` most probable of the photographs that are added."""

    def __init__(self, most: int) -> None:
        self._most, self._count, self._heap = most, 0, []

    def add(self, prediction: Prediction, small: np.ndarray) -> bytes | None:
        """Add a photograph if it is among the most probable so far.

        Args:
            prediction: what the model predicts for the photograph.
            small: the downscaled photograph, uint8 [h, w, C], 0..255.

        Returns:
            The JPEG file of `small`, or None if the page does not have the photograph.
        """
        return self.offer(prediction, lambda: overlays.as_jpeg(small))

    def offer(self, prediction: Prediction, picture: Callable[[], bytes]) -> bytes | None:
        """Like `add`, with the JPEG file that `picture` returns; it is called only if the page takes the photograph."""
        self._count += 1
        order = (prediction.probability, -self._count)
        if not self._most or (len(self._heap) == self._most and order < self._heap[0].order):
            return None
        photo = RankedPhoto(order, prediction, picture())
        push = heapq.heappush if len(self._heap) < self._most else heapq.heapreplace
        push(self._heap, photo)
        return photo.picture

    def write(self, path: str | os.PathLike, content: dict, total: int, flagfile: str) -> None:
        """Write the page to `path` atomically.

        Args:
            path: the HTML file.
            content: the content of findings.json.
            total: how many photographs were analysed.
            flagfile: the flags of the run, as text.
        """
        atomic.write_text(os.fspath(path), self.render(content, total, flagfile))

    def render(self, content: dict, total: int, flagfile: str) -> str:
        """The page as HTML text; the arguments are those of `write`."""
        environment = rendering.environment()
        script = environment.loader.get_source(environment, "album.js")[0]
        low, high = content["review"]
        lowest = min(content["threshold"], low) if low < high else content["threshold"]
        return environment.get_template("album.html.j2").render(
            doubts=content.get("warnings", []),
            photos=sorted(self._heap, reverse=True),
            content=content,
            lowest=int(1000 * lowest) / 1000,
            total=total,
            flagfile=flagfile,
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
