"""What a camera recorded beside latitude and longitude: altitude, the directions it looked in, and how exact that is.

Synopsis::

    details = gps_details.parse(data)            # of a file's bytes; {} where it says nothing
    details.get("altitude_m"), details.get("heading_deg"), details.get("uncertainty_m")

Read from EXIF (CIPA DC-008 2.32 and 3.0: GPS attributes, CameraElevationAngle) and, where EXIF is silent, from the XMP
of DJI's cameras (drone-dji:GimbalPitchDegree, GimbalYawDegree, RtkStdLat, RtkStdLon).
"""

import io
import math
import re
import warnings

from PIL import ExifTags, Image

CAMERA_ELEVATION_TAG = 0x9405  # degrees, -90: straight down
ORIENTATION_TAG = 0x0112
POSITIONING_ERROR_TAG = 31  # GPSHPositioningError, metres
BELOW = (1, 3)  # GPSAltitudeRef: below sea level, and in EXIF 3.0 below the ellipsoid
MAX_ALTITUDE_M, MAX_UNCERTAINTY_M = 100_000.0, 1e6
HEADING_REFERENCES = {"T": "true", "M": "magnetic"}
XMP = re.compile(rb"<x:xmpmeta.{0,200000}?</x:xmpmeta>", re.DOTALL)
NUMBER = r"\s*(?:=\s*[\"']|>)\s*([+-]?\d+(?:\.\d+)?)"  # an attribute, or the text of an element
Details = dict[str, float | str]


def parse(data: bytes) -> Details:
    """Reads the details that the image file `data` records.

    Returns:
        Those of these keys that are known: altitude_m, above sea level or the ellipsoid; heading_deg, 0 to 360
        clockwise from north, the direction of the top of the photograph for a camera that looks down;
        heading_reference, true or magnetic; pitch_deg, -90 for a camera that looks straight down, 0 for a level one;
        uncertainty_m, of the horizontal position.
    """
    details: Details = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exif = Image.open(io.BytesIO(data)).getexif()
            gps, camera = exif.get_ifd(ExifTags.IFD.GPSInfo), exif.get_ifd(ExifTags.IFD.Exif)
            orientation = exif.get(ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF can raise nearly anything, and the image is usable without it
        return {}
    xmp = _xmp_text(data)
    _add_altitude(details, gps)
    _add_heading(details, gps, xmp)
    pitch = _number(camera.get(CAMERA_ELEVATION_TAG), -180, 180)
    pitch = _xmp_number(xmp, "GimbalPitchDegree", -180, 180) if pitch is None else pitch
    if pitch is not None and orientation == 1:  # which side is up says nothing when a camera looks down
        details["pitch_deg"] = pitch
    uncertainty = _number(gps.get(POSITIONING_ERROR_TAG), 0, MAX_UNCERTAINTY_M)
    if uncertainty is None:
        north, east = (_xmp_number(xmp, name, 0, MAX_UNCERTAINTY_M) for name in ("RtkStdLat", "RtkStdLon"))
        uncertainty = math.hypot(north, east) if north is not None and east is not None else None
    if uncertainty:  # 0 is what cameras write that do not know
        details["uncertainty_m"] = round(uncertainty, 4)
    return details


def _add_altitude(details: Details, gps: dict) -> None:
    altitude = _number(gps.get(ExifTags.GPS.GPSAltitude), -MAX_ALTITUDE_M, MAX_ALTITUDE_M)
    if altitude is None:
        return
    reference = gps.get(ExifTags.GPS.GPSAltitudeRef, 0)
    reference = reference[0] if isinstance(reference, bytes) and reference else reference
    details["altitude_m"] = round(-abs(altitude) if reference in BELOW else altitude, 3)


def _add_heading(details: Details, gps: dict, xmp: str) -> None:
    heading = _number(gps.get(ExifTags.GPS.GPSImgDirection), 0, 360)
    if heading is not None:
        details["heading_deg"] = round(heading % 360, 3)
        letter = str(gps.get(ExifTags.GPS.GPSImgDirectionRef) or "").strip(" \0").upper()[:1]
        if letter in HEADING_REFERENCES:
            details["heading_reference"] = HEADING_REFERENCES[letter]
        return
    yaw = _xmp_number(xmp, "GimbalYawDegree", -360, 360)
    if yaw is not None:
        details |= {"heading_deg": round(yaw % 360, 3), "heading_reference": HEADING_REFERENCES["T"]}


def _number(value: object, low: float, high: float) -> float | None:
    """`value` as a float within its range, else None; an EXIF rational may be 0/0."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and low <= number <= high else None


def _xmp_text(data: bytes) -> str:
    match = XMP.search(data)
    return match[0].decode("utf-8", "replace") if match else ""


def _xmp_number(xmp: str, name: str, low: float, high: float) -> float | None:
    match = re.search(rf"drone-dji:{name}{NUMBER}", xmp)
    return _number(match[1], low, high) if match else None
