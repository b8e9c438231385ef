"""The georeference of a GeoTIFF: how its pixels map to coordinates, and in which coordinate reference system (CRS).

Synopsis::

    reference = geotiff.read_reference(data)          # None without one; raises GeoTiffError where it is unusable
    reference.crs, reference.unit                     # "EPSG:25832", "metre"
    easting, northing = reference.to_crs([[0, 0]])[0] # of the upper left corner of the photograph
    nodata = geotiff.read_nodata(data)                # the value of pixels that show nothing, or None

Covered (OGC GeoTIFF Standard 1.1, 19-008r4): one ModelTiepoint with ModelPixelScale, ModelTransformation, PixelIsArea
and PixelIsPoint, EPSG codes. Not covered: several tie points (ground control points), a CRS that the file defines
itself, rasters with an orientation, heights. World files (.tfw) are not read.
"""

import io
import math
import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tifffile

from crackflow.data import tiff_file

GEO_KEYS_TAG, TIEPOINT_TAG, TRANSFORMATION_TAG, NODATA_TAG = 34735, 33922, 34264, 42113
PIXEL_SCALE_TAG, DOUBLES_TAG, TEXTS_TAG = 33550, 34736, 34737  # the two last hold values of keys
READ_TAGS = (GEO_KEYS_TAG, TIEPOINT_TAG, TRANSFORMATION_TAG, NODATA_TAG, PIXEL_SCALE_TAG, DOUBLES_TAG, TEXTS_TAG)
PROJECTED, GEOGRAPHIC = 1, 2  # GTModelTypeGeoKey
PIXEL_IS_POINT = 2  # GTRasterTypeGeoKey
UNDEFINED_CODES = (0, 32767)  # undefined, and defined by the user in other keys
LINEAR_UNITS = {9001: "metre", 9002: "foot", 9003: "us_survey_foot"}  # ProjLinearUnitsGeoKey, codes of EPSG
DEGREE = "degree"


class GeoTiffError(ValueError):
    """The georeference of this TIFF cannot be used; the message is the reason."""


class GeoReference(NamedTuple):
    """Maps pixels to coordinates.

    Attributes:
        transform: a, b, c, d, e, f: x = a column + b row + c and y = d column + e row + f. Column and row count from
            the upper left corner of the photograph, whose first pixel lies between 0 and 1. x is the easting or the
            longitude, y the northing or the latitude, whatever the order of axes in the CRS.
        crs: "EPSG:25832", or "" where the file names none.
        unit: of x and y: metre, foot, us_survey_foot, degree, or "" where the file names none.
    """

    transform: tuple[float, float, float, float, float, float]
    crs: str
    unit: str

    def to_crs(self, points: npt.ArrayLike) -> np.ndarray:
        """Maps pixels [N, 2] (column, row) to coordinates float64 [N, 2] (x, y)."""
        return apply_transform(self.transform, points)


def apply_transform(transform: tuple[float, ...] | list[float], points: npt.ArrayLike) -> np.ndarray:
    """Applies a, b, c, d, e, f of `GeoReference` to `points` [N, 2]; returns float64 [N, 2]."""
    a, b, c, d, e, f = transform
    column, row = np.asarray(points, np.float64).reshape(-1, 2).T
    return np.stack([a * column + b * row + c, d * column + e * row + f], 1)


def read_reference(source: bytes | str) -> GeoReference | None:
    """Reads the georeference of the first page of `source`, the bytes of a file or its path.

    Returns:
        The georeference, or None for a file without one.

    Raises:
        GeoTiffError: there is one that cannot be used.
    """
    page = first_page(source)
    if page is None or not any(tag in page.tags for tag in (GEO_KEYS_TAG, TIEPOINT_TAG, TRANSFORMATION_TAG)):
        return None
    keys = _read_keys(page)
    transform = _transform(keys)
    if transform is None:
        return None
    orientation = page.tags.get(tiff_file.ORIENTATION_TAG)
    if orientation is not None and orientation.value != 1:
        raise GeoTiffError("it has an orientation as well, and it is not defined which of the two comes first")
    if _code(keys, "GTRasterTypeGeoKey") == PIXEL_IS_POINT:  # 0, 0 is the middle of the first pixel, not its corner
        a, b, c, d, e, f = transform
        transform = (a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)
    if not all(map(math.isfinite, transform)) or transform[0] * transform[4] == transform[1] * transform[3]:
        raise GeoTiffError("its pixels have no size on the ground")
    return GeoReference(transform, *_crs(keys))


def is_geotiff(source: bytes | str) -> bool:
    """Whether `source`, the bytes of a file or its path, has a georeference, or the tags that GDAL adds."""
    page = first_page(source)
    return page is not None and any(tag in page.tags for tag in (GEO_KEYS_TAG, TIEPOINT_TAG, NODATA_TAG))


def read_nodata(source: bytes | str) -> float | None:
    """The value of pixels that show nothing (tag GDAL_NODATA) in `source`, or None where it names none."""
    page = first_page(source)
    tag = page.tags.get(NODATA_TAG) if page is not None else None
    try:
        return None if tag is None else float(str(tag.value).strip(" \0"))
    except ValueError:
        return None


def first_page(source: bytes | str) -> tifffile.TiffPage | None:
    """The tags of the first page of `source`, the bytes of a file or its path; None for other and damaged files."""
    if isinstance(source, bytes) and not tiff_file.is_tiff(source):
        return None
    try:
        with tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            page = file.pages[0]
            if not isinstance(page, tifffile.TiffPage):
                return None
            for tag in page.tags:
                if tag.code in READ_TAGS:
                    _ = tag.value  # tifffile reads longer ones at their first use, when the file is closed
            return page
    except Exception:  # a damaged file can raise nearly anything; whether it can be used is decided elsewhere
        return None


def _read_keys(page: tifffile.TiffPage) -> dict[str, Any]:
    try:
        return page.geotiff_tags or {}
    except Exception as error:  # of damaged keys
        raise GeoTiffError(f"its keys are damaged: {error}") from error


def _transform(keys: dict[str, Any]) -> tuple[float, float, float, float, float, float] | None:
    """a to f of `GeoReference`, of a PixelIsArea raster; None without any."""
    if "ModelTransformation" in keys:
        rows = np.asarray(keys["ModelTransformation"], np.float64).reshape(-1, 4)
        (a, b, _, c), (d, e, _, f) = rows[:2].tolist()
        return a, b, c, d, e, f
    if "ModelTiepoint" not in keys:
        return None
    tiepoints = np.asarray(keys["ModelTiepoint"], np.float64).reshape(-1, 6)
    if "ModelPixelScale" not in keys or len(tiepoints) != 1:
        raise GeoTiffError(
            f"it has {len(tiepoints)} tie points: expected one with a pixel scale; orthorectify it first"
        )
    column, row, _, x, y, _ = tiepoints[0].tolist()
    right, down = (float(side) for side in keys["ModelPixelScale"][:2])
    return right, 0.0, x - column * right, 0.0, -down, y + row * down


def _crs(keys: dict[str, Any]) -> tuple[str, str]:
    """(name of the CRS, unit), each "" where the file names none."""
    kind = _code(keys, "GTModelTypeGeoKey")
    projected, geographic = _code(keys, "ProjectedCSTypeGeoKey"), _code(keys, "GeographicTypeGeoKey")
    if kind == GEOGRAPHIC:
        return _epsg(geographic), DEGREE
    if kind == PROJECTED or projected:
        return _epsg(projected), LINEAR_UNITS.get(_code(keys, "ProjLinearUnitsGeoKey"), "")
    return "", ""


def _epsg(code: int) -> str:
    return "" if code in UNDEFINED_CODES else f"EPSG:{code}"


def _code(keys: dict[str, Any], name: str) -> int:
    value = keys.get(name, 0)  # an enum of tifffile, or a number that it does not know
    match = re.fullmatch(r"\d+", str(int(value))) if isinstance(value, int) else None
    return int(match[0]) if match else 0
