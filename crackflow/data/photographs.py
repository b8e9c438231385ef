"""Photographs to be looked at: which ones are asked for, what their file says of place and time, and their pixels.

Synopsis::

    files, rejected = photographs.listed("site/*.jpg", without="findings")      # a file, a folder or a pattern
    photo = photographs.read(files[0], channels=3, max_megapixels=200)
    photo.pixels, photo.sha256, photo.place                   # uint8 [H, W, 3], upright; ...; (46.2, 7.1) or None
"""

import glob
import io
import math
import os
import warnings
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from crackflow.core import tables
from crackflow.core.errors import UserError
from crackflow.data import images, layouts


class Named(NamedTuple):
    """A photograph at `file`; `path` is what it is called in tables: relative to the folder that was asked for."""

    file: str
    path: str


class Photograph(NamedTuple):
    """pixels: uint8 [H, W, C], 0..255, upright; sha256: of the file, in hexadecimal; place: latitude and longitude in
    degrees, where the camera wrote them; notes: what was changed on the way."""

    pixels: np.ndarray
    sha256: str
    place: tuple[float, float] | None
    notes: tuple[str, ...]


def listed(wanted: str, without: str = "") -> tuple[list[Named], list[tuple[str, str]]]:
    """The photographs that `wanted` names, in the order of their names; and (path, reason) of what could not be looked
    into. Those in the folder `without`, where results lie, are no photographs unless one is named. Raises: UserError
    when there is none."""
    rejected: list[tuple[str, str]] = []
    if os.path.isdir(wanted):
        found = [
            Named(os.path.join(wanted, path), path) for path in sorted(layouts.walk(wanted, "", rejected, without))
        ]
    elif os.path.exists(wanted):
        found = [Named(wanted, wanted)]
    else:
        paths = sorted(glob.glob(wanted, recursive=True))
        own = (os.path.join(os.path.realpath(without), ""),) if without else ()
        found = [
            Named(path, path)
            for path in paths
            if not os.path.isdir(path) and not os.path.realpath(path).startswith(own)
        ]
    if not found:
        raise UserError(
            f"--photos: expected a photograph, a folder of them or a pattern such as 'site/*.jpg', received {wanted!r} "
            "(nothing there)"
        )
    return [named._replace(path=tables.utf8_name(named.path)) for named in found], rejected


def read(file: str, channels: int, max_megapixels: float) -> Photograph:
    """Raises: BadImage with the reason when it cannot be used."""
    photo = images.open_photo(file, max_megapixels)
    values = images.pixels(photo, channels, image_px=0)
    return Photograph(values, images.digest(photo.data).hex(), place(photo.data), photo.notes)


def place(data: bytes) -> tuple[float, float] | None:
    """Latitude and longitude in degrees, north and east positive, from the EXIF of an image file; None without, or
    when they make no sense."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            told = Image.open(io.BytesIO(data)).getexif().get_ifd(ExifTags.IFD.GPSInfo)
            latitude = _degrees(told, ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, "S")
            longitude = _degrees(told, ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, "W")
    except Exception:  # damaged EXIF can raise nearly anything, and the picture is read without it
        return None
    sensible = math.isfinite(latitude) and abs(latitude) <= 90 and math.isfinite(longitude) and abs(longitude) <= 180
    return (latitude, longitude) if sensible else None


def _degrees(told: dict, value: int, side: int, negative: str) -> float:
    degrees, minutes, seconds = (float(part) for part in told[value])
    sign = -1 if str(told[side]).strip().upper().startswith(negative) else 1
    return sign * (degrees + minutes / 60 + seconds / 3600)
