"""Coordinates of a coordinate reference system (CRS) as longitude and latitude, by PROJ.

Synopsis::

    degrees = coordinates.to_wgs84("EPSG:25832", points)      # .points float64 [N, 2], longitude first; or None
    coordinates.unit_name("EPSG:2263")                        # "us_survey_foot"

pyproj (extra `geo`) does the work. Without it EPSG:4326 alone is understood: its coordinates are what is asked for.
"""

import contextlib
import functools
import importlib
import types
from typing import Any, NamedTuple

import numpy as np

WGS84 = ("EPSG:4326", "EPSG:4979", "OGC:CRS84")
WGS84_UNIT = "degree"
UNIT_NAMES = {"metre": "metre", "foot": "foot", "US survey foot": "us_survey_foot", "degree": "degree"}  # of PROJ
MISSING = "latitude and longitude need pyproj, which is not installed: pip install 'crackflow[geo]'"


class Degrees(NamedTuple):
    """Positions on the WGS 84 ellipsoid.

    Attributes:
        points: float64 [N, 2], longitude and latitude in degrees.
        accuracy_m: of the transformation in metres as EPSG states it, or None where it states none.
    """

    points: np.ndarray
    accuracy_m: float | None


def is_installed() -> bool:
    """Whether pyproj is installed."""
    return _pyproj() is not None


def to_wgs84(crs: str, points: np.ndarray) -> Degrees | None:
    """Converts coordinates of `crs` to WGS 84.

    Args:
        crs: its name, such as "EPSG:25832".
        points: float64 [N, 2], easting or longitude first.

    Returns:
        The positions, or None where pyproj is missing or does not know `crs`, or the points lie outside it.
    """
    if crs in WGS84:
        return Degrees(np.array(points, np.float64), 0.0) if _are_degrees(points) else None
    pyproj = _pyproj()
    if pyproj is None or not crs:
        return None
    try:
        transformer = _transformer(crs)
        longitude, latitude = transformer.transform(points[:, 0], points[:, 1], errcheck=True)
    except pyproj.exceptions.ProjError:  # CRSError is one
        return None
    degrees = np.stack([longitude, latitude], 1)
    return Degrees(degrees, _accuracy(transformer)) if _are_degrees(degrees) else None


def unit_name(crs: str) -> str:
    """metre, foot, us_survey_foot or degree: the unit of `crs`; "" where pyproj is missing or does not know it."""
    if crs in WGS84:
        return WGS84_UNIT
    pyproj = _pyproj()
    if pyproj is None or not crs:
        return ""
    try:
        return UNIT_NAMES.get(pyproj.CRS.from_user_input(crs).axis_info[0].unit_name, "")
    except (pyproj.exceptions.ProjError, IndexError):
        return ""


@functools.lru_cache(maxsize=16)  # the search for the best operation takes 0.1 s
def _transformer(crs: str) -> Any:
    return importlib.import_module("pyproj").Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def _accuracy(transformer: Any) -> float | None:
    """In metres. PROJ chooses among several operations when it transforms."""
    accuracy = transformer.accuracy
    with contextlib.suppress(Exception):  # PROJ before 9.1 can't say, nor can it where nothing had to be done
        accuracy = transformer.get_last_used_operation().accuracy
    return float(accuracy) if accuracy is not None and accuracy >= 0 else None


def _are_degrees(points: np.ndarray) -> bool:
    return bool(np.isfinite(points).all() and (np.abs(points) <= (180, 90)).all())


def _pyproj() -> types.ModuleType | None:
    try:
        return importlib.import_module("pyproj")
    except ImportError:
        return None
