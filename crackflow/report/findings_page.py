"""Photographs with their cracks as one self-contained HTML page: summary, tables, zoom, threshold, and a review.

Synopsis::

    page = findings_page.FindingsPage(most=100)
    page.add(prediction, small)             # predictor.Prediction, and its downscaled photograph, uint8 [h, w, C]
    page.write("findings/report.html", content, total=250, flagfile=text)

The page needs no server and no network. It begins with what the inspection says as a whole (`report.inspection`), which
can be printed and signed. Photographs are opened one by one; on paper all that have findings are open. What a person
says of the findings stays in the browser until it is downloaded as reviews.json (`data.reviews`), with which a page can
go on.
"""

import base64
import datetime
import hashlib
import heapq
import io
import json
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image

from crackflow.core import atomic
from crackflow.data import overlays
from crackflow.inference.predictor import Prediction
from crackflow.report import inspection, rendering, width_drawing

SCRIPTS = ("album.js", "tables.js", "review.js")
THUMBNAIL_PX = 128  # longest side; displayed at most 72 px wide
OPENED_PHOTOS = 3  # a page of so few photographs begins with all of them open
DISPLAYED_ROWS = (
    200  # of a table before a person asks for all: sorting 2,981 rows took 0.32 s, with 200 laid out 0.22 s
)
SOURCES = {"marker": "a marker", "scales": "--scales", "mm_per_px": "--mm_per_px", "exif": "EXIF", "xmp": "XMP"}


class RankedPhoto(NamedTuple):
    """A photograph on the page. `order`: sorts the most probable first, and among equals the first added."""

    order: tuple[float, int]
    prediction: Prediction
    picture: bytes


class PhotoSheet(NamedTuple):
    """What the template displays of a photograph.

    Attributes:
        number: from 1, in the order of the page.
        prediction: what the model predicts.
        picture: the JPEG file of the downscaled photograph.
        thumbnail: the JPEG file of a thumbnail.
        row: its figures, or None if findings.json does not have it.
        mm_per_px: the size of a pixel, or None.
        scale_note: where the size of a pixel comes from, or "".
        place: where it was taken, in words, or "".
        heading: of the camera, in degrees clockwise from north, or None.
        lines: for each finding, its lines of one width.
        bands: the bands of width that occur, for the legend.
    """

    number: int
    prediction: Prediction
    picture: bytes
    thumbnail: bytes
    row: inspection.PhotoRow | None
    mm_per_px: float | None
    scale_note: str
    place: str
    heading: float | None
    lines: list[list[width_drawing.WidthLine]]
    bands: list[width_drawing.WidthBand]

    @property
    def lengths_in_mm(self) -> bool:
        return any(finding.length_mm is not None for finding in self.prediction.findings)

    @property
    def has_unknown_widths(self) -> bool:
        return any(line.band == width_drawing.UNKNOWN for finding_lines in self.lines for line in finding_lines)

    @property
    def finding_count(self) -> int:
        return len(self.row.findings) if self.row else 0

    @property
    def has_widths(self) -> bool:
        return self.row is not None and any(row.width_max or row.width_note for row in self.row.findings)


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
        sheets = self._sheets(content)
        rows = [sheet.row for sheet in sheets if sheet.row]
        return environment.get_template("album.html.j2").render(
            doubts=content.get("warnings", []),
            photos=sheets,
            table_rows=[sheet for sheet in sheets if sheet.row],
            summary=inspection.summarise(content),
            length_unit=_unit(finding.length for row in rows for finding in row.findings),
            width_unit=_unit(finding.width_max for row in rows for finding in row.findings),
            all_bands={band.name: band for sheet in sheets for band in sheet.bands}.values(),
            unknown_colour=width_drawing.UNKNOWN_COLOUR,
            opened=len(sheets) <= OPENED_PHOTOS,
            displayed_rows=DISPLAYED_ROWS,
            content=content,
            date=datetime.date.today().isoformat(),
            lowest=int(1000 * lowest) / 1000,
            total=total,
            flagfile=flagfile,
            digests=digests,
            reviews=reviews,
            storage_key=_storage_key(content["model"]["sha256"], digests, reviews),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )

    def _sheets(self, content: dict) -> list[PhotoSheet]:
        entries = {photo["path"]: photo for photo in content.get("photos", ())}
        photos = sorted(self._heap, reverse=True)
        return [
            _sheet(number, photo, entries.get(photo.prediction.name), content) for number, photo in enumerate(photos, 1)
        ]


def _sheet(number: int, photo: RankedPhoto, entry: dict | None, content: dict) -> PhotoSheet:
    """The sheet of a photograph; `entry` is what findings.json says of it, None if it says nothing."""
    prediction, details = photo.prediction, entry or {"findings": ()}
    mm_per_px = inspection.mm_per_px(details, content)
    colours = width_drawing.scheme(mm_per_px)
    spacing_px = max(prediction.width, prediction.height) / overlays.SHOWN_PX  # a pixel of the picture
    lines = [width_drawing.lines(finding.get("centerline"), colours, spacing_px) for finding in details["findings"]]
    lines += [[]] * (len(prediction.findings) - len(lines))
    drawn = {line.band for finding_lines in lines for line in finding_lines}
    place = details.get("place") or {}
    return PhotoSheet(
        number=number,
        prediction=prediction,
        picture=photo.picture,
        thumbnail=_thumbnail(photo.picture),
        row=inspection.photo_row(entry) if entry else None,
        mm_per_px=mm_per_px,
        scale_note=_scale_note(details.get("scale") or {}),
        place=inspection.place_in_words(place),
        heading=place.get("heading_deg"),
        lines=lines,
        bands=[band for band in colours.bands if band.name in drawn],
    )


def _scale_note(scale: dict) -> str:
    """', from a marker, ± 2 %' where that is known."""
    source, error = SOURCES.get(scale.get("source", "")), scale.get("relative_error")
    return (f", from {source}" if source else "") + (f", ± {100 * error:.2g} %" if error is not None else "")


def _thumbnail(picture: bytes) -> bytes:
    """Returns a JPEG file of at most THUMBNAIL_PX pixels a side from that of a picture."""
    image = Image.open(io.BytesIO(picture))
    image.draft("RGB", (2 * THUMBNAIL_PX, 2 * THUMBNAIL_PX))  # decoded at up to an eighth
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=75)
    return file.getvalue()


def _unit(measures: Iterable[inspection.Measure | None]) -> str:
    """The unit by which a column is sorted: mm if any is known in mm, else px; "" if none is known."""
    units = {measure.unit for measure in measures if measure is not None}
    return inspection.MM if inspection.MM in units else inspection.PX if units else ""


def _storage_key(model_sha256: str, digests: dict[str, str], reviews: dict | None) -> str:
    """Under which the browser stores the review: the same for the same findings that begin with the same reviews."""
    parts = [model_sha256, sorted(digests.values()), reviews]
    return f"crackflow-review-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()}"
