"""Photographs to be looked at: which ones are asked for, what their file says of place and time, and their pixels.

Synopsis::

    files, rejected = photo_files.list_photos("site/*.jpg", without="findings")      # a file, a folder or a pattern
    photo = photo_files.read(files[0], channels=3, max_megapixels=200)
    photo.pixels, photo.sha256, photo.place                   # uint8 [H, W, 3], upright; ...; (46.2, 7.1) or None
"""

import collections
import glob
import io
import math
import os
import warnings
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from crackflow.core import csv_files, system_files
from crackflow.core.errors import UserError
from crackflow.data import folders, image_file, rejections

NULL_ISLAND = 1e-6  # degrees from 0, 0: a tenth of a metre, nearer than any camera knows


class PhotoPath(NamedTuple):
    """A photograph at `file`; `path` is what it is called in tables: relative to the folder that was asked for."""

    file: str
    path: str


class Photo(NamedTuple):
    """pixels: uint8 [H, W, C], 0..255, upright; sha256: of the file, in hexadecimal; place: latitude and longitude in
    degrees, where the camera wrote them; notes: what was changed on the way."""

    pixels: np.ndarray
    sha256: str
    place: tuple[float, float] | None
    notes: tuple[str, ...]


def list_photos(
    wanted: str, without: str = "", passed_over: collections.Counter | None = None
) -> tuple[list[PhotoPath], list[tuple[str, str]]]:
    """The photographs that `wanted` names, in the order of their names; and (path, reason) of what could not be looked
    into. Those in the folder `without`, where results lie, and what the system keeps among photographs, which
    `passed_over` counts by kind, are no photographs unless one is named. Raises: UserError when there is none."""
    passed_over = collections.Counter() if passed_over is None else passed_over
    rejected: list[tuple[str, str]] = []
    if os.path.isdir(wanted):
        paths = sorted(folders.walk(wanted, "", rejected, without, passed_over))
        found = [PhotoPath(os.path.join(wanted, path), path) for path in paths]
    elif os.path.exists(wanted):
        found = [PhotoPath(wanted, wanted)]
    else:
        paths = sorted(glob.glob(wanted, recursive=True))
        own = (os.path.join(os.path.realpath(without), ""),) if without else ()
        files = [path for path in paths if not os.path.isdir(path) and not os.path.realpath(path).startswith(own)]
        kinds = {path: _system_kind(path, wanted) for path in files}
        passed_over.update(kind for kind in kinds.values() if kind)
        found = [PhotoPath(path, path) for path in files if not kinds[path]]
    if not found:
        why = rejections.most_common(rejected) or system_files.summary(passed_over) or "nothing there"
        raise UserError(
            f"--photos: expected a photograph, a folder of them or a pattern such as 'site/*.jpg', received {wanted!r} "
            f"({why})"
        )
    return [named._replace(path=csv_files.utf8_name(named.path)) for named in found], rejected


def _system_kind(path: str, pattern: str) -> str:
    """Of what a pattern gave: the kind of the system's folder or file that it lies in or is, unless that is named."""
    *folders, name = os.path.normpath(path).split(os.sep)
    named = set(os.path.normpath(pattern).split(os.sep))
    kinds = [system_files.kind(part, True) for part in folders if part not in named | {"", os.curdir, os.pardir}]
    if name not in named:
        kinds.append(system_files.kind(name, False))
    return next((kind for kind in kinds if kind), "")


def read(file: str, channels: int, max_megapixels: float) -> Photo:
    """Raises: ImageError with the reason when it cannot be used."""
    photo = image_file.open_photo(file, max_megapixels)
    values = image_file.pixels(photo, channels, image_px=0)
    return Photo(values, image_file.digest(photo.data).hex(), parse_gps_position(photo.data), photo.notes)


def parse_gps_position(data: bytes) -> tuple[float, float] | None:
    """Latitude and longitude in degrees, north and east positive, from the EXIF of an image file; None without, or
    when they make no sense: a camera without a fix (GPSStatus V) writes its last place or 0, 0, and without a word on
    the hemisphere the place may be on another continent."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            told = Image.open(io.BytesIO(data)).getexif().get_ifd(ExifTags.IFD.GPSInfo)
            if _letter(told.get(ExifTags.GPS.GPSStatus)) == "V":
                return None
            latitude = _degrees(told, ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, "NS", 90)
            longitude = _degrees(told, ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, "EW", 180)
    except Exception:  # damaged EXIF can raise nearly anything, and the picture is read without it
        return None
    if latitude is None or longitude is None or max(abs(latitude), abs(longitude)) < NULL_ISLAND:
        return None
    return latitude, longitude


def _degrees(told: dict, value: int, side: int, sides: str, most: int) -> float | None:
    """Signed degrees; None where they make no sense. `sides`: the letters of the positive and the negative side."""
    parts = [float(part) for part in np.atleast_1d(np.array(told[value], object))]
    letter = _letter(told.get(side))
    if not 1 <= len(parts) <= 3 or not all(math.isfinite(part) for part in parts) or any(p < 0 for p in parts[1:]):
        return None
    size = abs(parts[0]) + sum(part / 60**power for power, part in enumerate(parts[1:], 1))
    is_negative = math.copysign(1, parts[0]) < 0
    if letter and letter not in sides:
        return None
    if is_negative and letter == sides[0]:  # "-33, N": one of the two is wrong
        return None
    if (not letter and not is_negative) or size > most:
        return None
    return -size if is_negative or letter == sides[1] else size


def _letter(text: object) -> str:
    """The first letter of what EXIF holds as text, in capitals; empty without one."""
    text = text.decode("latin-1") if isinstance(text, bytes) else str(text or "")
    return text.strip(" \t\r\n\0").upper()[:1]
