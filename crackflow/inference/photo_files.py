"""Photographs to predict: which files are requested, their GPS position, and their pixels.

Synopsis::

    files, rejected = photo_files.list_photos("site/*.jpg", exclude="findings")      # a file, a folder or a pattern
    photo = photo_files.read(files[0], channels=3, max_megapixels=200)
    photo.pixels, photo.sha256, photo.place                   # uint8 [H, W, 3], upright; ...; (46.2, 7.1) or None
"""

import collections
import contextlib
import glob
import io
import math
import os
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from crackflow.core import csv_files, json_schema, system_files
from crackflow.core.errors import UserError
from crackflow.data import coordinates, folders, geotiff, image_file, mosaic_file, rejections, surface
from crackflow.inference import camera_scale, gps_details

# What tells a folder of results from one of photographs.
RESULT_FILES, UNFINISHED_FILE = (json_schema.FINDINGS, "predictions.csv"), os.path.join("unfinished", "photos.jsonl")
NULL_ISLAND = 1e-6  # degrees from 0, 0: a tenth of a metre, finer than any camera's GPS


class PhotoPath(NamedTuple):
    """A photograph at `file`; `path` is its name in tables, relative to the folder that was requested."""

    file: str
    path: str


class Photo(NamedTuple):
    """A decoded photograph. prediction_log writes the names of the fields to JSON.

    Attributes:
        pixels: uint8 [H, W, C], 0..255, upright.
        sha256: of the file, in hexadecimal.
        place: latitude and longitude in degrees, of the camera if it recorded them, or of the middle of a GeoTIFF, or
            None.
        notes: the changes made while decoding, and what is wrong with a georeference.
        location: more on the place, by the names in findings.json: those of `gps_details.parse`, and of a GeoTIFF
            transform, crs and crs_unit (`geotiff.GeoReference`).
        camera: what the file says of its camera; prediction_log does not write it.
        surface: bool [H, W], where a GeoTIFF shows anything, None: everywhere. Elsewhere `pixels` are made up.
    """

    pixels: np.ndarray
    sha256: str
    place: tuple[float, float] | None
    notes: tuple[str, ...]
    location: dict | None = None
    camera: camera_scale.CameraFacts = camera_scale.CameraFacts()
    surface: np.ndarray | None = None

    def place_entry(self) -> dict | None:
        """`place` of this photograph in findings.json. Latitude and longitude are None for a GeoTIFF whose CRS can't be
        converted."""
        location = self.location or {}
        if self.place is None and "transform" not in location:
            return None
        latitude, longitude = self.place or (None, None)
        return {"latitude": latitude, "longitude": longitude} | location


def list_photos(
    source: str, exclude: str = "", passed_over: collections.Counter | None = None
) -> tuple[list[PhotoPath], list[tuple[str, str]]]:
    """List the photographs that `source` names.

    Files in the results folder `exclude`, the pictures in other results of crackflow.predict, and the files that
    operating systems keep among photographs, do not count as photographs unless `source` names them.

    Args:
        source: a file, a folder or a glob pattern.
        exclude: a folder to skip, "" for none.
        passed_over: receives the counts of skipped system files by kind.

    Returns:
        The photographs, sorted by name, and (path, reason) of what could not be read, and of results.

    Raises:
        UserError: there is no photograph.
    """
    passed_over = collections.Counter() if passed_over is None else passed_over
    rejected: list[tuple[str, str]] = []
    if os.path.isdir(source):
        paths = sorted(folders.walk(source, "", rejected, exclude, passed_over))
        photos = [PhotoPath(os.path.join(source, path), path) for path in paths]
    elif os.path.exists(source):
        photos = [PhotoPath(source, source)]
    else:
        paths = sorted(glob.glob(source, recursive=True))
        excluded_prefix = (os.path.join(os.path.realpath(exclude), ""),) if exclude else ()
        files = [
            path for path in paths if not os.path.isdir(path) and not os.path.realpath(path).startswith(excluded_prefix)
        ]
        kinds = {path: _system_file_kind(path, source) for path in files}
        passed_over.update(kind for kind in kinds.values() if kind)
        photos = [PhotoPath(path, path) for path in files if not kinds[path]]
    photos, results = _without_results(photos, source)
    rejected += [(path, "results of crackflow.predict, and no photographs") for path in results]
    if not photos:
        reason = rejections.most_common(rejected) or system_files.summary(passed_over) or "nothing there"
        raise UserError(
            f"--photos: expected a photograph, a folder of them or a pattern such as 'site/*.jpg', received {source!r} "
            f"({reason})"
        )
    return [photo._replace(path=csv_files.utf8_name(photo.path)) for photo in photos], rejected


def _without_results(photos: list[PhotoPath], source: str) -> tuple[list[PhotoPath], list[str]]:
    """(photographs that lie in no results of crackflow.predict below `source`, the folders of such results)."""
    named_parts, are_results = set(os.path.normpath(source).split(os.sep)), {}

    def results_above(photo: PhotoPath) -> str:
        folder, parts = photo.file, len(os.path.normpath(photo.path).split(os.sep)) - 1
        for _ in range(parts):
            folder = os.path.dirname(folder)
            if os.path.basename(folder) in named_parts:
                continue
            if folder not in are_results:
                are_results[folder] = all(
                    os.path.exists(os.path.join(folder, name)) for name in RESULT_FILES
                ) or os.path.exists(os.path.join(folder, UNFINISHED_FILE))
            if are_results[folder]:
                return folder
        return ""

    kept = [photo for photo in photos if not results_above(photo)]
    return kept, sorted(folder for folder, found in are_results.items() if found)


def _system_file_kind(path: str, pattern: str) -> str:
    """The kind of system folder or file that `path` lies in or is, "" for none or if `pattern` names it."""
    *folders, name = os.path.normpath(path).split(os.sep)
    named_parts = set(os.path.normpath(pattern).split(os.sep))
    kinds = [system_files.kind(part, True) for part in folders if part not in named_parts | {"", os.curdir, os.pardir}]
    if name not in named_parts:
        kinds.append(system_files.kind(name, False))
    return next((kind for kind in kinds if kind), "")


def read(file: str, channels: int, max_megapixels: float) -> Photo:
    """Read a photograph, upright and at full size.

    Args:
        file: path of an image file.
        channels: 1 (grey) or 3 (RGB).
        max_megapixels: upper limit of the image's size.

    Raises:
        ImageError: the file cannot be used; the message is the reason.
    """
    photo = image_file.open_photo(file, max_megapixels)
    values = image_file.pixels(photo, channels, image_px=0)
    mask = surface.find(photo, values)
    if mask is not None:
        values = values.copy()
        surface.fill(values, mask)
    place, location, notes = _locate(photo.data, photo.width, photo.height)
    camera = camera_scale.read_camera(photo.data, photo.width, photo.height)
    return Photo(values, image_file.digest(photo.data).hex(), place, photo.notes + notes, location, camera, mask)


@contextlib.contextmanager
def open_any(file: str, channels: int, max_megapixels: float, folder: str) -> Iterator[Photo]:
    """As `read`, but a GeoTIFF of more than `max_megapixels` is decoded into a file in `folder`, where its pixels and
    its surface lie until the block ends."""
    if not mosaic_file.is_mosaic(file, max_megapixels):
        yield read(file, channels, max_megapixels)
        return
    with mosaic_file.unpack(file, channels, folder) as mosaic:
        height, width = mosaic.pixels.shape[:2]
        place, location, notes = _locate(file, width, height)
        yield Photo(mosaic.pixels, mosaic.sha256, place, notes, location, surface=mosaic.surface)


def _locate(
    source: bytes | str, width: int, height: int
) -> tuple[tuple[float, float] | None, dict | None, tuple[str, ...]]:
    """`place`, `location` and further `notes` of a photograph, the bytes of a file or the path of a GeoTIFF. A
    georeference goes before the position of a camera."""
    notes: tuple[str, ...] = ()
    try:
        reference = geotiff.read_reference(source)
    except geotiff.GeoTiffError as error:
        reference, notes = None, (f"its georeference is not used: {error}",)
    if reference is None:
        if isinstance(source, str):
            return None, None, notes
        return parse_gps_position(source), gps_details.parse(source) or None, notes
    unit = reference.unit or coordinates.unit_name(reference.crs)
    location = {"crs": reference.crs or None, "crs_unit": unit or None, "transform": list(reference.transform)}
    middle = reference.to_crs([[width / 2, height / 2]])
    degrees = coordinates.to_wgs84(reference.crs, middle)
    if degrees is None:
        return None, location, notes
    longitude, latitude = degrees.points[0].tolist()
    return (round(latitude, 9), round(longitude, 9)), location, notes


def parse_gps_position(data: bytes) -> tuple[float, float] | None:
    """Latitude and longitude from the EXIF of an image file.

    A camera without a fix (GPSStatus V) writes its last position or 0, 0, and without a hemisphere the position may be
    on another continent: such positions are ignored.

    Args:
        data: the bytes of the file.

    Returns:
        Degrees, north and east positive, or None if they are absent or implausible.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tags = Image.open(io.BytesIO(data)).getexif().get_ifd(ExifTags.IFD.GPSInfo)
            if _first_letter(tags.get(ExifTags.GPS.GPSStatus)) == "V":
                return None
            latitude = _parse_degrees(tags, ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, "NS", 90)
            longitude = _parse_degrees(tags, ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, "EW", 180)
    except Exception:  # damaged EXIF can raise nearly anything, and the image is usable without it
        return None
    if latitude is None or longitude is None or max(abs(latitude), abs(longitude)) < NULL_ISLAND:
        return None
    return latitude, longitude


def _parse_degrees(tags: dict, value_tag: int, ref_tag: int, letters: str, limit: int) -> float | None:
    """Signed degrees, or None if they are implausible. `letters`: those of the positive and the negative hemisphere."""
    parts = [float(part) for part in np.atleast_1d(np.array(tags[value_tag], object))]
    letter = _first_letter(tags.get(ref_tag))
    if not 1 <= len(parts) <= 3 or not all(math.isfinite(part) for part in parts) or any(p < 0 for p in parts[1:]):
        return None
    degrees = abs(parts[0]) + sum(part / 60**power for power, part in enumerate(parts[1:], 1))
    is_negative = math.copysign(1, parts[0]) < 0
    if letter and letter not in letters:
        return None
    if is_negative and letter == letters[0]:  # "-33, N": one of the two is wrong
        return None
    if (not letter and not is_negative) or degrees > limit:
        return None
    return -degrees if is_negative or letter == letters[1] else degrees


def _first_letter(text: object) -> str:
    """The first letter of an EXIF text, in upper case; "" if there is none."""
    text = text.decode("latin-1") if isinstance(text, bytes) else str(text or "")
    return text.strip(" \t\r\n\0").upper()[:1]
