"""Millimetres per pixel from what a camera recorded: focal length, sensor, and a drone's distance.

Synopsis::

    camera = camera_scale.read_camera(data, width=4000, height=3000)     # the bytes of the file, upright pixels
    camera.focal_px, camera.focal_note                                   # 2773.5, "" or why there is none
    scale = camera_scale.at_distance(camera, distance_m=2.5)             # .mm_per_px, .relative_error, .note

A pinhole camera that looks at a plane at a right angle sees distance / focal length on it per pixel, with the focal
length in pixels. That is its focal length in mm times the pixels per mm of the sensor (EXIF FocalPlaneXResolution), or
the focal length that a camera of 36 x 24 mm needs for the same angle of view times the diagonal of the picture over
the 43.27 mm of theirs (CIPA DC-008-2019, FocalLengthIn35mmFilm).

Covered: pictures that were made smaller as a whole after they were taken. Not covered: cropped ones, which are refused
where EXIF says how large the picture was; distortion of the lens; views at an angle.
"""

import io
import math
import warnings
from typing import NamedTuple

from PIL import ExifTags, Image

from crackflow.data import xmp

DIAGONAL_35MM = math.hypot(36.0, 24.0)
UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # FocalPlaneResolutionUnit; 4 and 5 are written by some cameras
ASPECT_TOLERANCE = 0.01  # between the picture as it was taken and as it is; above, it was cropped
FOCAL_RANGE = 0.2, 50.0  # focal length over the diagonal, of a fisheye and of a long telescope
DISTANCE_ERROR = 0.05  # of a distance that a person states
LASER_ERROR, ALTITUDE_ERROR = 0.03, 0.2  # of a laser at some metres, and of a height over the take-off point
FOCAL_ERROR = 0.02  # of a nominal focal length: tolerance of lenses, and focus at short distances
PITCH_TOLERANCE = 10.0  # degrees from straight down; the scale is then within 2 % (1 / cos)
MAX_DISTANCE_M = 10_000.0


class CameraFacts(NamedTuple):
    """What a photograph says of its camera.

    Attributes:
        focal_px: focal length in pixels of the photograph as it is now, 0: unknown.
        focal_error: its relative error, 95 %.
        focal_note: where it comes from, or why there is none.
        distance_m: of a drone, along its view, 0: unknown.
        distance_error: its relative error, 95 %.
        distance_note: where it comes from, or why there is none; "" if the file has no tags of a drone.
    """

    focal_px: float = 0.0
    focal_error: float = 0.0
    focal_note: str = "it has no EXIF"
    distance_m: float = 0.0
    distance_error: float = 0.0
    distance_note: str = ""


class CameraScale(NamedTuple):
    """Millimetres per pixel, the relative error (95 %), and a sentence on where they come from."""

    mm_per_px: float
    relative_error: float
    note: str


def read_camera(data: bytes, width: int, height: int) -> CameraFacts:
    """Read what an image file says of its camera. Never raises for damaged tags.

    Args:
        data: the bytes of the file.
        width: of the picture in pixels; a turned picture may have its sides exchanged.
        height: of the picture in pixels.
    """
    tags = _exif(data)
    drone = xmp.properties(data, xmp.DJI)
    focal, error, note = _focal_px(tags, drone, width, height)
    return CameraFacts(focal, error, note, *_drone_distance(drone))


def at_distance(camera: CameraFacts, distance_m: float = 0.0) -> CameraScale | str:
    """The scale at a distance.

    Args:
        camera: what the photograph says.
        distance_m: that a person stated, 0: that of the drone.

    Returns:
        The scale, or a sentence why there is none.
    """
    distance, error, source = distance_m, DISTANCE_ERROR, f"a distance of {distance_m:g} m"
    if not distance_m:
        distance, error, source = camera.distance_m, camera.distance_error, camera.distance_note
        if not distance:
            return camera.distance_note
    if not camera.focal_px:
        return f"no scale from {source}: {camera.focal_note}"
    value = 1000 * distance / camera.focal_px
    return CameraScale(
        value, math.hypot(error, camera.focal_error), f"{source}, and {camera.focal_note}, looking straight at it"
    )


def _exif(data: bytes) -> dict:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exif = Image.open(io.BytesIO(data)).getexif()
            return {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    except Exception:  # damaged EXIF can raise nearly anything, and the image is usable without it
        return {}


def _number(value: object) -> float:
    """A tag's value, or the number at the start of a text; NaN for anything else, as for 0/0 and infinity."""
    try:
        number = float(value.strip("\0 ") if isinstance(value, str) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _focal_px(tags: dict, drone: dict[str, str], width: int, height: int) -> tuple[float, float, str]:
    """(focal length in pixels or 0, its relative error, where it comes from or why there is none)."""
    if not tags and not drone:
        return 0.0, 0.0, "it has no EXIF"
    zoom = _number(tags.get(ExifTags.Base.DigitalZoomRatio, 0))
    if zoom > 1.001:
        return 0.0, 0.0, f"it was taken with a digital zoom of {zoom:g}, which its focal length may not include"
    resized = _resize_ratio(tags, width, height)
    if resized is None:
        return 0.0, 0.0, "it was cropped since it was taken, so that its focal length does not give its angle of view"
    diagonal = math.hypot(width, height)
    candidates = (
        (_number(drone.get("CalibratedFocalLength")) * resized, 0.005, "the calibrated focal length in its XMP"),
        (_focal_plane_px(tags) * resized, FOCAL_ERROR, "its focal length and sensor in EXIF"),
        _equivalent_px(tags, diagonal),
    )
    refused = []
    for focal, error, note in candidates:
        if math.isnan(focal):
            continue
        if FOCAL_RANGE[0] * diagonal <= focal <= FOCAL_RANGE[1] * diagonal:
            return focal, error, note
        refused.append(f"{note}: {focal / diagonal:.3g} diagonals of the picture, which no lens has")
    return 0.0, 0.0, refused[0] if refused else "its EXIF has no focal length with a sensor, nor one for 35 mm film"


def _focal_plane_px(tags: dict) -> float:
    """Focal length times the pixels per mm of the sensor; NaN if a tag is missing or of no use."""
    focal = _number(tags.get(ExifTags.Base.FocalLength))
    resolution = _number(tags.get(ExifTags.Base.FocalPlaneXResolution))
    vertical = _number(tags.get(ExifTags.Base.FocalPlaneYResolution, resolution))
    unit = UNIT_MM.get(tags.get(ExifTags.Base.FocalPlaneResolutionUnit, 2))
    if unit is None or not focal > 0 or not resolution > 0 or not abs(vertical / resolution - 1) < ASPECT_TOLERANCE:
        return math.nan
    return focal * resolution / unit


def _equivalent_px(tags: dict, diagonal: float) -> tuple[float, float, str]:
    focal = _number(tags.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if not focal > 0:  # 0 means unknown (EXIF 2.32)
        return math.nan, 0.0, ""
    error = math.hypot(0.5 / focal, FOCAL_ERROR)  # the tag is a whole number
    return focal * diagonal / DIAGONAL_35MM, error, f"the focal length of {focal:g} mm for 35 mm film in EXIF"


def _resize_ratio(tags: dict, width: int, height: int) -> float | None:
    """How many times as large the picture is as when it was taken; 1 if EXIF does not say; None if it was cropped."""
    taken = (_number(tags.get(ExifTags.Base.ExifImageWidth)), _number(tags.get(ExifTags.Base.ExifImageHeight)))
    if not min(taken) > 0:
        return 1.0
    long, short = max(width, height) / max(taken), min(width, height) / min(taken)
    return (long + short) / 2 if abs(long / short - 1) < ASPECT_TOLERANCE else None


def _drone_distance(drone: dict[str, str]) -> tuple[float, float, str]:
    """(distance in m or 0, its relative error, where it comes from or why there is none)."""
    refused = ""
    if "LRFTargetDistance" in drone:
        distance, status = _number(drone["LRFTargetDistance"]), drone.get("LRFStatus", "Normal")
        if status.lower() == "normal" and 0 < distance <= MAX_DISTANCE_M:
            return distance, LASER_ERROR, f"the drone's laser, {distance:g} m"
        refused = f"the drone's laser says {drone['LRFTargetDistance']!r} m ({status}), which is no distance"
    if "RelativeAltitude" not in drone:
        return 0.0, 0.0, refused
    altitude, pitch = _number(drone["RelativeAltitude"]), _number(drone.get("GimbalPitchDegree"))
    if not 0 < altitude <= MAX_DISTANCE_M:
        reason = f"the drone's height over its take-off point is {drone['RelativeAltitude']!r}, which is no distance"
    elif not abs(pitch + 90) <= PITCH_TOLERANCE:
        reason = "the drone did not look straight down, so its height is not its distance"
    else:
        return altitude, ALTITUDE_ERROR, f"the drone's height over its take-off point, {altitude:g} m"
    return 0.0, 0.0, "; ".join(filter(None, (refused, reason)))
