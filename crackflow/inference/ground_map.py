"""Where on the ground the pixels of a photograph lie.

Synopsis::

    ground = ground_map.of_photo(photo, mm_per_px=0)        # an entry of findings.json; None where it can't be said
    ground.to_lonlat([[0, 0]]), ground.to_crs([[0, 0]])     # float64 [N, 2] of pixels [N, 2]

A GeoTIFF says it by its georeference. A photograph says it if its camera looked straight down and its position, its
heading from true north and its scale are known; the ground is then taken as a plane. Every other photograph has one
position at most, that of its camera.
"""

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from crackflow.data import coordinates, geotiff

NADIR_PITCH_DEG, MAX_TILT_DEG = (
    -90.0,
    5.0,
)  # a tilt of 5 degrees moves the middle of the photograph by 9 % of the height
SEMI_MAJOR_M, ECCENTRICITY_SQUARED = 6378137.0, 0.0066943799901413165  # WGS 84
MAX_LATITUDE_DEG = 89.0  # nearer to a pole a degree of longitude is too short for the plane
GEOTIFF, CAMERA = "geotiff", "camera"


@dataclasses.dataclass(frozen=True)
class GroundMap:
    """The map of one photograph.

    Attributes:
        source: geotiff or camera.
        transform: of pixels to x and y, as in `geotiff.GeoReference`: coordinates of `crs`; of a camera metres to the
            east and the north of `origin`.
        crs: "EPSG:25832", or "" for a camera, and for a file that names none.
        unit: of x and y: metre, foot, us_survey_foot, degree or "".
        origin: longitude and latitude of the middle of a camera's photograph, else None.
        uncertainty_m: of a position on the ground in metres, None where it is unknown.
    """

    source: str
    transform: tuple[float, ...]
    crs: str
    unit: str
    origin: tuple[float, float] | None = None
    uncertainty_m: float | None = None

    def to_crs(self, pixels: npt.ArrayLike) -> np.ndarray | None:
        """Easting and northing float64 [N, 2] of pixels [N, 2], in the CRS; None for a camera."""
        return geotiff.apply_transform(self.transform, pixels) if self.source == GEOTIFF else None

    def to_lonlat(self, pixels: npt.ArrayLike) -> np.ndarray | None:
        """Longitude and latitude in degrees float64 [N, 2] of pixels [N, 2]; None where they can't be computed."""
        points = geotiff.apply_transform(self.transform, pixels)
        if self.origin is None:
            degrees = coordinates.to_wgs84(self.crs, points)
            return None if degrees is None else degrees.points
        return _offset(self.origin, points)

    def accuracy_m(self) -> float | None:
        """How exact longitude and latitude are, in metres; of a GeoTIFF only what the change of CRS adds is known."""
        if self.origin is not None:
            return self.uncertainty_m
        corner = geotiff.apply_transform(self.transform, [[0.0, 0.0]])
        degrees = coordinates.to_wgs84(self.crs, corner)
        return None if degrees is None else degrees.accuracy_m


def of_photo(photo: dict, mm_per_px: float | None = None) -> GroundMap | None:
    """The map of a photograph.

    Args:
        photo: its entry in findings.json.
        mm_per_px: millimetres on the surface per pixel, where `photo` has no `scale` of its own.
    """
    place = photo.get("place")
    if not place:
        return None
    if place.get("transform"):
        return GroundMap(GEOTIFF, tuple(place["transform"]), place.get("crs") or "", place.get("crs_unit") or "")
    scale = photo.get("scale") or {}
    mm_per_px = scale.get("mm_per_px") or mm_per_px
    latitude, longitude = place["latitude"], place["longitude"]
    if not mm_per_px or not _looks_down(place) or abs(latitude) > MAX_LATITUDE_DEG:
        return None
    transform = _plane(photo["width"], photo["height"], place["heading_deg"], mm_per_px / 1000)
    half_diagonal_m = math.hypot(photo["width"], photo["height"]) / 2 * mm_per_px / 1000
    uncertainty = place.get("uncertainty_m")
    if uncertainty is not None:  # at a corner, where an error of the scale moves points most
        uncertainty = math.hypot(uncertainty, half_diagonal_m * (scale.get("relative_error") or 0.0))
    return GroundMap(CAMERA, transform, "", "metre", (longitude, latitude), uncertainty)


def _looks_down(place: dict) -> bool:
    """Whether the camera looked straight down, and its heading from true north is known."""
    pitch = place.get("pitch_deg")
    is_nadir = pitch is not None and abs(pitch - NADIR_PITCH_DEG) <= MAX_TILT_DEG
    return is_nadir and place.get("heading_deg") is not None and place.get("heading_reference") == "true"


def _plane(width: int, height: int, heading_deg: float, m_per_px: float) -> tuple[float, ...]:
    """Pixels to metres east and north of the middle, for a photograph whose top points to `heading_deg`."""
    sine, cosine = math.sin(math.radians(heading_deg)) * m_per_px, math.cos(math.radians(heading_deg)) * m_per_px
    a, b, d, e = cosine, -sine, -sine, -cosine
    return a, b, -(a * width + b * height) / 2, d, e, -(d * width + e * height) / 2


def _offset(origin: tuple[float, float], metres: np.ndarray) -> np.ndarray:
    """Longitude and latitude [N, 2] of the points `metres` east and north of `origin`, on the tangent plane, by the
    radii of curvature of the ellipsoid. Within 100 m it is exact to 5 mm below 70
    degrees of latitude."""
    longitude, latitude = origin
    sine = math.sin(math.radians(latitude))
    base = 1 - ECCENTRICITY_SQUARED * sine**2
    across_m = SEMI_MAJOR_M / math.sqrt(base)  # prime vertical
    along_m = SEMI_MAJOR_M * (1 - ECCENTRICITY_SQUARED) / base**1.5  # meridian
    east = np.degrees(metres[:, 0] / (across_m * math.cos(math.radians(latitude))))
    north = np.degrees(metres[:, 1] / along_m)
    return np.stack([(longitude + east + 180) % 360 - 180, latitude + north], 1)
