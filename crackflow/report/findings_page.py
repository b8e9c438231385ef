"""Photographs with their cracks as one self-contained HTML page: zoom, a movable threshold, and a person's review.

Synopsis::

    page = findings_page.FindingsPage(most=100)
    page.add(prediction, small)             # predictor.Prediction, and its downscaled photograph, uint8 [h, w, C]
    page.write("findings/report.html", content, total=250, flagfile=text)

The page needs no server and no network. What a person says of the findings stays in the browser until it is downloaded
as reviews.json (`data.reviews`), with which a page can go on.
"""

import base64
import hashlib
import heapq
import json
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from crackflow.core import atomic
from crackflow.data import overlays
from crackflow.inference.predictor import Prediction
from crackflow.report import rendering

SCRIPTS = ("album.js", "review.js")


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

    def write(
        self, path: str | os.PathLike, content: dict, total: int, flagfile: str, reviews: dict | None = None
    ) -> None:
        """Write the page to `path` atomically.

        Args:
            path: the HTML file.
            content: the content of findings.json.
            total: how many photographs were analysed.
            flagfile: the flags of the run, as text.
            reviews: the content of a reviews.json with which the page goes on, or None.
        """
        atomic.write_text(os.fspath(path), self.render(content, total, flagfile, reviews))

    def render(self, content: dict, total: int, flagfile: str, reviews: dict | None = None) -> str:
        """The page as HTML text; the arguments are those of `write`."""
        environment = rendering.environment()
        # One script, so that the policy of the page allows one hash.
        script = "".join(environment.loader.get_source(environment, name)[0] for name in SCRIPTS)
        digests = {photo["path"]: photo["sha256"] for photo in content.get("photos", ())}
        low, high = content["review"]
        lowest = min(content["threshold"], low) if low < high else content["threshold"]
        return environment.get_template("album.html.j2").render(
            doubts=content.get("warnings", []),
            photos=sorted(self._heap, reverse=True),
            content=content,
            lowest=int(1000 * lowest) / 1000,
            total=total,
            flagfile=flagfile,
            digests=digests,
            reviews=reviews,
            storage_key=_storage_key(content["model"]["sha256"], digests, reviews),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )


def _storage_key(model_sha256: str, digests: dict[str, str], reviews: dict | None) -> str:
    """Under which the browser stores the review: the same for the same findings that begin with the same reviews."""
    parts = [model_sha256, sorted(digests.values()), reviews]
    return f"crackflow-review-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()}"
