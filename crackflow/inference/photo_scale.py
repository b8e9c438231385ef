"""Millimetres per pixel of a photograph: from a marker, a table, a flag, or what the camera recorded.

Synopsis::

    sources = photo_scale.ScaleSources(marker_mm=50.0, table=photo_scale.read_table("scales.csv", paths))
    scale, notes = sources.measure(pixels, camera, "site/wall.jpg")
    scale.mm_per_px, scale.source, scale.relative_error, scale.plane    # plane: of the marker, else None
    scale.as_dict()                                                     # what findings.json says

The first source that has a scale for a photograph counts, in the order of `Source`. A source that was asked for and has
none is a note. Errors are relative, 95 %: of a marker from its corners and its print, of a camera from the tolerance of
focal lengths and of its distance (`inference.camera_scale`); of a table or a flag nothing is known.
"""

import collections
import csv
import dataclasses
import enum
import hashlib
import io
import math
import os
from collections.abc import Collection, Iterable

import numpy as np

from crackflow.core import errors, escaping
from crackflow.core.config.card import MarkerDictionary
from crackflow.core.config.trained import PredictConfig
from crackflow.core.errors import UserError
from crackflow.data import card_layout, image_file
from crackflow.inference import camera_scale, card_lines, marker_cover, marker_plane
from crackflow.inference.camera_scale import CameraFacts
from crackflow.inference.marker_plane import MarkerPlane

COLUMNS = ("path", "mm_per_px")
MAX_MM_PER_PX = 1000.0  # a pixel of more than a metre is a mistake of units
MAX_ANGLE = 30.0  # degrees of the view, above which a photograph is called oblique
PRINT_ERROR = 0.005  # of a printed marker: half a millimetre on the card's ruler of 100
MAX_RELATIVE_ERROR = 0.05  # above which a marker is called too small
MIN_SIDE_PX = 40.0  # of a marker; errors of smaller ones were not measured (benchmarks/card.py)
MAX_DISAGREEMENT = 0.05  # of the sides of two markers on one wall


class Source(enum.Enum):
    """Where the scale of a photograph comes from, the most trusted first."""

    MARKER = "marker"
    SCALES = "scales"
    MM_PER_PX = "mm_per_px"
    EXIF = "exif"
    XMP = "xmp"


@dataclasses.dataclass(frozen=True)
class PhotoScale:
    """The scale of a photograph.

    Attributes:
        mm_per_px: millimetres per pixel; with a marker, in the middle of the photograph.
        source: where it comes from.
        relative_error: of mm_per_px, 95 %, 0..1; None: unknown.
        note: a sentence on where it comes from, or "".
        plane: of the marker, through which lengths are measured; None without one.
        details: what findings.json says besides.
        covered: outlines of markers, (x, y) in pixels, that the network should not see.
        warnings: sentences for the user.
    """

    mm_per_px: float
    source: Source
    relative_error: float | None = None
    note: str = ""
    plane: MarkerPlane | None = None
    details: dict = dataclasses.field(default_factory=dict)
    covered: tuple[np.ndarray, ...] = ()
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict:
        """What findings.json says of it."""
        return {
            "mm_per_px": _significant(self.mm_per_px),
            "source": self.source.value,
            "relative_error": None if self.relative_error is None else round(self.relative_error, 4),
            "note": self.note or None,
        } | self.details


class ScaleTable:
    """The scales of a file: `mm_per_px` by path, and the `sha256` of the file."""

    def __init__(self, mm_per_px: dict[str, float], sha256: str) -> None:
        self.mm_per_px, self.sha256 = mm_per_px, sha256


@dataclasses.dataclass(frozen=True)
class ScaleSources:
    """The sources of a run.

    Attributes:
        marker_mm: side of the markers in mm, 0: they are not looked for.
        marker_dictionary: which markers.
        table: the file of scales, or None.
        mm_per_px: of every photograph, 0: unknown.
        distance_m: of the camera from the surface, 0: unknown.
    """

    marker_mm: float = 0.0
    marker_dictionary: MarkerDictionary = MarkerDictionary.APRILTAG_36H11
    table: ScaleTable | None = None
    mm_per_px: float = 0.0
    distance_m: float = 0.0

    def measure(self, pixels: np.ndarray, camera: CameraFacts, path: str) -> tuple[PhotoScale | None, tuple[str, ...]]:
        """The scale of a photograph.

        Args:
            pixels: uint8 [H, W, C], 0..255, upright.
            camera: what the file says of its camera.
            path: its name in tables.

        Returns:
            The scale or None, and why sources that were asked for have none.

        Raises:
            UserError: OpenCV is needed and not installed.
        """
        notes = []
        if self.marker_mm:
            markers = marker_plane.find_markers(pixels, self.marker_dictionary)
            if markers:
                return scale_from_markers(pixels, markers, self.marker_mm, self.marker_dictionary), ()
            notes.append(f"no marker of {self.marker_dictionary.value} was seen in it")
        if self.table:
            listed = self.table.mm_per_px.get(os.path.normpath(path))
            if listed:
                return PhotoScale(listed, Source.SCALES), tuple(notes)
            notes.append("--scales has no line for it")
        if self.mm_per_px:
            return PhotoScale(self.mm_per_px, Source.MM_PER_PX), tuple(notes)
        result = camera_scale.at_distance(camera, self.distance_m)
        if isinstance(result, str):
            return None, (*notes, *filter(None, [result]))
        source = Source.EXIF if self.distance_m else Source.XMP
        if not 0 < result.mm_per_px <= MAX_MM_PER_PX:
            return None, (*notes, f"no scale from {result.note}: {result.mm_per_px:.3g} mm a pixel")
        return PhotoScale(result.mm_per_px, source, result.relative_error, result.note), tuple(notes)


def scale_from_markers(
    pixels: np.ndarray, markers: list[marker_plane.Marker], side_mm: float, dictionary: MarkerDictionary
) -> PhotoScale:
    """The scale by the largest of `markers`, which come from `pixels`, uint8 [H, W, C]; the others check it."""
    height, width = pixels.shape[:2]
    marker, plane = markers[0], MarkerPlane.of(markers[0].corners, side_mm)
    place = np.array([[width / 2, height / 2]])
    value, error = plane.mm_per_px(place)[0], plane.relative_error(place)[0]
    at_marker = float(plane.mm_per_px(plane.center)[0])
    # Far from a small marker, or beyond the horizon of its plane, nothing is known of the middle of the photograph: the
    # scale is then that of the marker, with the error of the middle.
    if not (math.isfinite(error) and error <= 0.5 and 0 < value <= MAX_MM_PER_PX):
        place, value = plane.center, at_marker
    error = min(math.hypot(float(error), PRINT_ERROR), 1.0) if math.isfinite(error) else 1.0
    angle = plane.view_angle(place)
    is_card = dictionary is MarkerDictionary.APRILTAG_36H11 and marker.number == card_layout.CARD_ID
    readings = card_lines.measure(pixels, plane) if is_card else []
    note = card_lines.sentence(readings)
    if is_card and not readings:
        note = (
            "the marker is that of the scale card, but its lines could not be read: they are not in the picture, too "
            "small, or printed for another --marker_mm"
        )
    details = {
        "marker": {
            "number": marker.number,
            "dictionary": dictionary.value,
            "side_mm": side_mm,
            "side_px": round(marker.side_px, 1),
            "corners": [[round(float(side), 2) for side in corner] for corner in marker.corners],
            "angle_degrees": round(angle, 1),
            "mm_per_px": _significant(at_marker),
            "homography": [list(row) for row in plane.homography],
        },
        "card_lines": [
            {"true_mm": line.true_mm, "read_mm": None if line.read_mm is None else round(line.read_mm, 3)}
            for line in readings
        ],
    }
    warnings = _marker_warnings(marker, plane, error, angle) + _disagreement(markers, plane)
    covered = [marker_cover.outline(plane, bool(readings))]
    covered += [marker_cover.outline(MarkerPlane.of(other.corners, side_mm), False) for other in markers[1:]]
    return PhotoScale(float(value), Source.MARKER, error, note, plane, details, tuple(covered), tuple(warnings))


def _marker_warnings(marker: marker_plane.Marker, plane: MarkerPlane, error: float, angle: float) -> list[str]:
    warnings = []
    if angle > MAX_ANGLE:
        warnings.append(
            f"it was taken at {angle:.0f} degrees from straight ahead: lengths are corrected for that, but cracks look "
            f"thinner and are missed; take it at {MAX_ANGLE:.0f} degrees or less"
        )
    if error > MAX_RELATIVE_ERROR or marker.side_px < MIN_SIDE_PX:
        warnings.append(
            f"its marker of {plane.side_mm:g} mm is {marker.side_px:.0f} pixels wide, too small to be precise: "
            f"millimetres in the middle of the photograph are within {error:.0%}; go nearer, or print a larger one"
        )
    return warnings


def _disagreement(markers: list[marker_plane.Marker], plane: MarkerPlane) -> list[str]:
    """A warning if another marker is not as large on the plane of the first as it should be."""
    for marker in markers[1:]:
        corners = plane.to_mm(marker.corners)
        side = float(np.hypot(*(np.roll(corners, -1, 0) - corners).T).mean())
        expected = plane.relative_error(marker.corners.mean(0, keepdims=True))[0] + MAX_DISAGREEMENT
        if not abs(side / plane.side_mm - 1) <= expected:
            return [
                f"its {len(markers)} markers do not agree: number {marker.number} measures {side:.1f} mm by number "
                f"{markers[0].number}, not {plane.side_mm:g}; they are of different sizes or on different planes, and "
                f"lengths hold on that of number {markers[0].number}"
            ]
    return []


def sources_of(config: PredictConfig, known: Collection[str] | None) -> ScaleSources:
    """The sources that a command names; `known`: the paths of its photographs, None: any may be named.

    Raises:
        UserError: the file of scales can't be used, or markers are asked for and OpenCV is not installed.
    """
    if config.marker_mm:
        marker_plane.load_opencv("--marker_mm")
    table = read_table(config.scales, known) if config.scales else None
    return ScaleSources(config.marker_mm, config.marker_dictionary, table, config.mm_per_px, config.distance_m)


def is_requested(config: PredictConfig) -> bool:
    """Whether a command asks for the scale of each photograph."""
    return bool(config.marker_mm or config.scales or config.distance_m)


def summary(photos: Iterable[dict]) -> str:
    """How many photographs of findings.json have their scale from where."""
    counts = collections.Counter(photo["scale"]["source"] if photo["scale"] else "none" for photo in photos)
    names = [*(source.value for source in Source), "none"]
    return "scale of the photographs by " + ", ".join(f"{name} {counts[name]:,}" for name in names if counts[name])


def rectify_widths(findings: Iterable[dict], scale: dict | None) -> None:
    """Replace `width_mm` of findings by their `width_px` through the plane of a marker.

    A width lies across its line: at the widest place the local scale across the nearest piece of `centerline` counts,
    for the median and the 95th percentile the mean over the line; without a line, the mean of all directions at the
    middle of the box.

    Args:
        findings: of findings.json; those without `width_px` stay as they are.
        scale: of findings.json; nothing changes without a marker in it.
    """
    if not scale or "marker" not in scale:
        return
    plane = MarkerPlane.of(scale["marker"]["corners"], scale["marker"]["side_mm"])
    for finding in findings:
        if not finding.get("width_px"):
            continue
        places, normals = _across(finding)
        x, y, width, height = finding["box"]
        if len(places):
            factor = float(plane.mm_per_px_along(places, normals).mean())
        else:
            factor = float(plane.mm_per_px([[x + width / 2, y + height / 2]])[0])
        if not math.isfinite(factor):
            finding["width_mm"] = None
            continue
        widths = finding["width_mm"] = {}
        for name, width_px in finding["width_px"].items():
            local = factor
            if len(places) and "at" in width_px:
                at = np.array([width_px["at"]], np.float64)
                nearest = np.hypot(*(places - at).T).argmin()
                local = float(plane.mm_per_px_along(at, normals[[nearest]])[0])
            widths[name] = {
                key: value if key == "at" or value is None else round(value * local, 4)
                for key, value in width_px.items()
            }


def _across(finding: dict) -> tuple[np.ndarray, np.ndarray]:
    """The middles of the pieces of a finding's `centerline`, and the directions across them, float64 [N, 2] each."""
    places, normals = [np.zeros((0, 2))], [np.zeros((0, 2))]
    for branch in finding.get("centerline") or ():
        points = np.array(branch["points"], np.float64).reshape(-1, 2)
        pieces = np.diff(points, axis=0)
        has_length = np.hypot(*pieces.T) > 0
        places.append(((points[1:] + points[:-1]) / 2)[has_length])
        normals.append((pieces @ np.array([[0.0, 1.0], [-1.0, 0.0]]))[has_length])
    return np.concatenate(places), np.concatenate(normals)


def read_table(path: str, known: Collection[str] | None) -> ScaleTable:
    """Read a file of scales: CSV with the columns path and mm_per_px.

    Args:
        path: the file.
        known: the paths of the photographs; None: any.

    Returns:
        Millimetres per pixel by normalised path.

    Raises:
        UserError: the file can't be read, or a line is damaged, or has an unknown path, or one that was there before.
    """
    try:
        data = image_file.read_file(path)
    except errors.ImageError as error:
        raise UserError(f"--scales: expected a CSV file, received {path!r}: {error}") from error
    text = data.decode("utf-8-sig", "surrogateescape")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names = None if known is None else {os.path.normpath(name) for name in known}
    scales: dict[str, float] = {}
    number = 0
    try:
        header = [cell.strip() for cell in next(reader, [])]
        if sorted(header) != sorted(COLUMNS):
            raise _line_error(path, 1, f"the columns {','.join(COLUMNS)}", ",".join(header))
        for row in reader:
            number = reader.line_num
            if not row:
                continue
            if len(row) != len(header):
                raise _line_error(path, number, f"{len(header)} cells separated by a comma", ",".join(row))
            cells = dict(zip(header, row, strict=True))
            name = os.path.normpath(escaping.from_cell(cells["path"]))
            if names is not None and name not in names:
                raise _line_error(path, number, "the path of one of the photographs, as predictions.csv has it", name)
            if name in scales:
                raise _line_error(path, number, "each path once", name)
            scales[name] = _parse_scale(path, number, cells["mm_per_px"])
    except csv.Error as error:
        raise _line_error(
            path, max(reader.line_num, 1), f"CSV ({error})", text.splitlines()[number : number + 1]
        ) from error
    return ScaleTable(scales, hashlib.sha256(data).hexdigest())


def _parse_scale(path: str, number: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= MAX_MM_PER_PX:
        raise _line_error(path, number, f"mm_per_px above 0 and up to {MAX_MM_PER_PX:,.0f}, such as 0.4", text)
    return value


def _line_error(path: str, number: int, expected: str, received: object) -> UserError:
    return UserError(f"--scales: {path!r}, line {number}: expected {expected}, received {received!r}; correct the file")


def _significant(value: float) -> float:
    return float(f"{value:.6g}")
