"""Photographs with their cracks as one HTML page that needs nothing beside it: to zoom in, and to move the threshold.

Synopsis::

    shown = findings_page.FindingsPage(most=100)
    shown.add(prediction, small)            # predictor.Prediction, and its photograph made small, uint8 [h, w, C]
    shown.write("findings/report.html", content, total=250, flagfile=text)
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


class Shown(NamedTuple):
    """A photograph of the page. `order`: the page has the most probable first, of equals the first added."""

    order: tuple[float, int]
    found: Prediction
    picture: bytes


class FindingsPage:
    """Keeps the `most` most probable photographs of those that are added."""

    def __init__(self, most: int) -> None:
        self._most, self._count, self._heap = most, 0, []

    def add(self, found: Prediction, small: np.ndarray) -> bytes | None:
        """`small`: its photograph, uint8 [h, w, C]. Gives its JPEG file where the page has it so far."""
        return self.offer(found, lambda: overlays.as_jpeg(small))

    def offer(self, found: Prediction, picture: Callable[[], bytes]) -> bytes | None:
        """As `add`, with the JPEG file that `picture` gives; it is asked only where the page has the photograph."""
        self._count += 1
        order = (found.probability, -self._count)
        if not self._most or (len(self._heap) == self._most and order < self._heap[0].order):
            return None
        one = Shown(order, found, picture())
        push = heapq.heappush if len(self._heap) < self._most else heapq.heapreplace
        push(self._heap, one)
        return one.picture

    def write(self, path: str | os.PathLike, content: dict, total: int, flagfile: str) -> None:
        """The page at `path`. `content`: of findings.json; `total`: photographs looked at."""
        atomic.write_text(os.fspath(path), self.render(content, total, flagfile))

    def render(self, content: dict, total: int, flagfile: str) -> str:
        """The page as text."""
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
