"""The plane of a printed marker: from pixels of a photograph to millimetres on the wall.

Synopsis::

    markers = marker_plane.find_markers(pixels, MarkerDictionary.APRILTAG_36H11)     # uint8 [H, W, C]; largest first
    plane = marker_plane.MarkerPlane.of(markers[0].corners, side_mm=50.0)
    plane.to_mm(points), plane.mm_per_px(points)               # [N, 2] -> [N, 2] mm; [N], local scale
    plane.length_mm([line]), plane.relative_error(points), plane.view_angle(center)

Points are (x, y) in pixels of the photograph; (0, 0) is the corner of its first pixel. Millimetres start in the upper
left corner of the marker's black square, x along its upper side, y down. The homography is that of the four corners; a
wall that is not plane, and the distortion of a lens, are not in it.
"""

import importlib
import math
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np

from crackflow.core.config.card import MarkerDictionary
from crackflow.core.errors import UserError
from crackflow.data import resize

OPENCV_NAMES = {
    MarkerDictionary.APRILTAG_36H11: "DICT_APRILTAG_36h11",
    MarkerDictionary.APRILTAG_25H9: "DICT_APRILTAG_25h9",
    MarkerDictionary.APRILTAG_16H5: "DICT_APRILTAG_16h5",
    MarkerDictionary.ARUCO_4X4_50: "DICT_4X4_50",
    MarkerDictionary.ARUCO_5X5_100: "DICT_5X5_100",
    MarkerDictionary.ARUCO_6X6_250: "DICT_6X6_250",
    MarkerDictionary.ARUCO_7X7_1000: "DICT_7X7_1000",
    MarkerDictionary.ARUCO_ORIGINAL: "DICT_ARUCO_ORIGINAL",
}
DETECTED_PIXELS = 16_000_000  # a larger photograph is made smaller to find markers; corners are refined at full size
MIN_SIDE_PX = 12  # of a marker, below which its corners are no corners
# Standard deviation of a corner, each coordinate, in pixels: measured by benchmarks/card.py.
CORNER_PX = 0.1
Z_95 = 1.96
MIN_STEP = 0.02  # of light between the marker and its paper, 1: white
STEP_PX = 0.01  # of the numerical derivative by a corner
# Light by level: sRGB (IEC 61966-2-1). Blur mixes light, not levels: an edge or a line in levels seems displaced.
LEVELS = np.arange(256) / 255
LIGHT = np.where(LEVELS <= 0.04045, LEVELS / 12.92, ((LEVELS + 0.055) / 1.055) ** 2.4)


class Marker(NamedTuple):
    """A marker in a photograph.

    Attributes:
        number: its id in the dictionary.
        corners: float64 [4, 2], upper left, upper right, lower right, lower left as printed.
    """

    number: int
    corners: np.ndarray

    @property
    def side_px(self) -> float:
        """The mean length of its sides in pixels."""
        return float(np.hypot(*(np.roll(self.corners, -1, 0) - self.corners).T).mean())


def load_opencv(flag: str) -> ModuleType:
    """OpenCV. Raises: UserError, which names `flag`, where it is not installed or has no markers."""
    try:
        opencv = importlib.import_module("cv2")
    except ImportError as error:
        raise UserError(
            f"{flag} needs OpenCV, which is not installed: pip install 'crackflow[scale]', or leave it out"
        ) from error
    if not hasattr(opencv, "aruco") or not hasattr(opencv.aruco, "ArucoDetector"):
        raise UserError(
            f"{flag}: expected OpenCV 4.7 or newer with markers, received {getattr(opencv, '__version__', '?')}; "
            "pip install 'crackflow[scale]'"
        )
    return opencv


def _dictionary(opencv: ModuleType, dictionary: MarkerDictionary):
    return opencv.aruco.getPredefinedDictionary(getattr(opencv.aruco, OPENCV_NAMES[dictionary]))


def marker_modules(dictionary: MarkerDictionary, number: int) -> np.ndarray:
    """bool [n, n]: the modules of a marker with its border, True where black. Raises: UserError without OpenCV."""
    opencv = load_opencv("the marker")
    markers = _dictionary(opencv, dictionary)
    return opencv.aruco.generateImageMarker(markers, number, markers.markerSize + 2) < 128


def find_markers(pixels: np.ndarray, dictionary: MarkerDictionary) -> list[Marker]:
    """Find the markers of a dictionary in a photograph.

    Args:
        pixels: uint8 [H, W, C], 0..255.
        dictionary: which markers.

    Returns:
        The markers, the largest first.

    Raises:
        UserError: OpenCV is not installed.
    """
    opencv = load_opencv("--marker_mm")
    grey = np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else resize.grey(pixels)[..., 0])
    ratio = min(1.0, math.sqrt(DETECTED_PIXELS / grey.size))
    small = grey
    if ratio < 1:
        small = opencv.resize(grey, None, fx=ratio, fy=ratio, interpolation=opencv.INTER_AREA)
    factors = np.array(grey.shape[::-1]) / np.array(small.shape[::-1])
    parameters = opencv.aruco.DetectorParameters()
    # By default a marker has 3 % of the longer side or more, which a card on a wall that is seen whole has not.
    parameters.minMarkerPerimeterRate = min(4 * MIN_SIDE_PX / max(small.shape), 0.03)
    detector = opencv.aruco.ArucoDetector(_dictionary(opencv, dictionary), parameters)
    corners, numbers, _ = detector.detectMarkers(small)
    markers = []
    for quad, number in zip(corners, [] if numbers is None else np.ravel(numbers), strict=True):
        rough = (quad.reshape(4, 2).astype(np.float64) + 0.5) * factors
        refined = _refine(grey, rough)
        if refined is not None:
            markers.append(Marker(int(number), refined))
    return sorted(markers, key=lambda marker: -marker.side_px)


def _refine(grey: np.ndarray, corners: np.ndarray) -> np.ndarray | None:
    """The corners where straight lines through the edges of the black square meet, to a fraction of a pixel.

    Each edge is located in profiles across it, where half of its step is reached, and the line through these places
    leaves out those that lie apart (a shadow, dirt). Lines use all of an edge: a corner by itself is blurred.

    Args:
        grey: uint8 [H, W].
        corners: float64 [4, 2], within some pixels.

    Returns:
        float64 [4, 2], or None if the marker is too small or has no such edges.
    """
    for _ in range(2):  # the second time the profiles lie right across the edges
        edges = np.roll(corners, -1, 0) - corners
        lengths = np.hypot(*edges.T)
        if not np.isfinite(corners).all() or lengths.min() < MIN_SIDE_PX:
            return None
        lines = [
            _edge_line(grey, corner, edge, length) for corner, edge, length in zip(corners, edges, lengths, strict=True)
        ]
        if any(line is None for line in lines):
            return None
        moved = np.array([_crossing(lines[side - 1], lines[side]) for side in range(4)])
        if not np.isfinite(moved).all() or np.abs(moved - corners).max() > 0.1 * lengths.max() + 2:
            return None
        corners = moved
    return corners


def _edge_line(
    grey: np.ndarray, corner: np.ndarray, edge: np.ndarray, length: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """(a point, a direction) of the line through an edge that goes from `corner` along `edge`, dark on its right."""
    direction = edge / length
    inward = np.array([-direction[1], direction[0]])  # clockwise corners, y down
    reach = min(max(0.06 * length, 2.0), 8.0)  # half a module or less
    along = np.linspace(0.08, 0.92, int(np.clip(length, 12, 200)))
    across = np.arange(-reach, reach + 0.125, 0.25)
    bases = corner + along[:, None] * edge
    profiles = sample_light(grey, bases[:, None] + across[None, :, None] * inward)
    light, dark = np.percentile(profiles, 90, axis=1), np.percentile(profiles, 10, axis=1)
    step = light - dark
    # The area under the step gives the place of its middle, whatever the blur.
    share = np.clip((profiles - dark[:, None]) / np.maximum(step, 1e-6)[:, None], 0, 1)
    offsets = across[0] + share.sum(1) * 0.25 - 0.125
    usable = step > max(0.5 * float(np.median(step)), MIN_STEP)
    if usable.sum() < 6:
        return None
    position, offset = along[usable] * length, offsets[usable]
    for _ in range(3):
        slope, start = np.polyfit(position, offset, 1)
        residual = np.abs(offset - slope * position - start)
        near = residual <= max(2.5 * 1.4826 * float(np.median(residual)), 0.05)
        if near.all() or near.sum() < 6:
            break
        position, offset = position[near], offset[near]
    return corner + start * inward, direction + slope * inward


def _crossing(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    matrix = np.stack([first[1], -second[1]], 1)
    if abs(np.linalg.det(matrix)) < 1e-6:
        return np.full(2, np.nan)
    return first[0] + np.linalg.solve(matrix, second[0] - first[0])[0] * first[1]


def sample_light(grey: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The light at places of a photograph, linearly between the centres of pixels, and as at the edge beyond it.

    Args:
        grey: uint8 [H, W].
        points: float64 [..., 2], (x, y) from the corner of the first pixel.

    Returns:
        float64 [...], 0..1.
    """
    height, width = grey.shape
    x = np.clip(points[..., 0] - 0.5, 0, width - 1.001)
    y = np.clip(points[..., 1] - 0.5, 0, height - 1.001)
    left, top = x.astype(np.int64), y.astype(np.int64)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    x, y = x - left, y - top
    upper = LIGHT[grey[top, left]] * (1 - x) + LIGHT[grey[top, right]] * x
    return upper * (1 - y) + (LIGHT[grey[bottom, left]] * (1 - x) + LIGHT[grey[bottom, right]] * x) * y


class MarkerPlane(NamedTuple):
    """The plane of a marker.

    Attributes:
        homography: 3 x 3 numbers by rows, from pixels of the photograph to millimetres, scaled so that a point of the
            plane has a positive third coordinate.
        corners: the four corners of the marker in pixels.
        side_mm: side of the marker.
    """

    homography: tuple[tuple[float, ...], ...]
    corners: tuple[tuple[float, float], ...]
    side_mm: float

    @classmethod
    def of(cls, corners: Sequence | np.ndarray, side_mm: float) -> "MarkerPlane":
        """The plane of a marker with these corners, [4, 2] in pixels, and this side in mm."""
        corners = np.asarray(corners, np.float64)
        matrix = _solve(corners, side_mm)
        return cls(
            tuple(tuple(float(value) for value in row) for row in matrix),
            tuple((float(x), float(y)) for x, y in corners),
            float(side_mm),
        )

    @property
    def center(self) -> np.ndarray:
        """float64 [1, 2]: the middle of the marker in pixels."""
        return self.to_px([[self.side_mm / 2, self.side_mm / 2]])

    def to_mm(self, points: Sequence | np.ndarray) -> np.ndarray:
        """float64 [N, 2]: `points`, [N, 2] in pixels, on the plane in mm; NaN beyond its horizon."""
        return _apply(np.array(self.homography), points)

    def to_px(self, points: Sequence | np.ndarray) -> np.ndarray:
        """float64 [N, 2]: `points`, [N, 2] in mm on the plane, in pixels of the photograph."""
        return _apply(np.linalg.inv(np.array(self.homography)), points)

    def mm_per_px(self, points: Sequence | np.ndarray) -> np.ndarray:
        """float64 [N]: the local scale at `points`, [N, 2] in pixels: the root of mm2 on the plane per pixel."""
        ((a, b), (c, d)) = np.moveaxis(self._jacobian(points), 0, 2)
        return np.sqrt(np.abs(a * d - b * c))

    def mm_per_px_along(self, points: Sequence | np.ndarray, directions: Sequence | np.ndarray) -> np.ndarray:
        """float64 [N]: millimetres per pixel at `points` along `directions`, [N, 2] each, (x, y) in pixels."""
        directions = np.asarray(directions, np.float64)
        directions = directions / np.maximum(np.hypot(*directions.T), 1e-12)[:, None]
        return np.hypot(*np.einsum("nij,nj->ni", self._jacobian(points), directions).T)

    def length_mm(self, lines: Sequence[Sequence | np.ndarray]) -> float:
        """The total length of `lines`, [N, 2] each in pixels, on the plane in mm; NaN beyond its horizon."""
        return float(sum(np.hypot(*np.diff(self.to_mm(line), axis=0).T).sum() for line in lines))

    def relative_error(self, points: Sequence | np.ndarray, corner_px: float = CORNER_PX) -> np.ndarray:
        """float64 [N]: relative error of `mm_per_px` at `points`, 95 %, from that of the corners, `corner_px`.

        The error is that of the first order: the derivatives by the eight coordinates of the corners, in quadrature.
        """
        corners = np.array(self.corners)
        middle, total = np.log(self.mm_per_px(points)), 0.0
        for index in range(8):
            moved = corners.copy()
            moved.flat[index] += STEP_PX
            total = total + ((np.log(MarkerPlane.of(moved, self.side_mm).mm_per_px(points)) - middle) / STEP_PX) ** 2
        return Z_95 * corner_px * np.sqrt(total)

    def view_angle(self, center: Sequence | np.ndarray) -> float:
        """Degrees between the optical axis and the normal of the plane.

        Args:
            center: [1, 2], the middle of the photograph in pixels, where the axis is if it was not cropped. There, and
                there alone, the shortening of the plane in one direction is the cosine of the angle.
        """
        values = np.linalg.svd(self._jacobian(center)[0], compute_uv=False)
        return float(np.degrees(np.arccos(np.clip(values[1] / values[0], 0, 1))))

    def _jacobian(self, points: Sequence | np.ndarray) -> np.ndarray:
        """float64 [N, 2, 2]: derivatives of (x, y) in mm by x and y in pixels; NaN beyond the horizon."""
        matrix, points = np.array(self.homography), np.asarray(points, np.float64)
        third = points @ matrix[2, :2] + matrix[2, 2]
        third = np.where(third > 0, third, np.nan)
        places = (points @ matrix[:2, :2].T + matrix[:2, 2]) / third[:, None]
        return (matrix[None, :2, :2] - places[:, :, None] * matrix[None, None, 2, :2]) / third[:, None, None]


def _apply(matrix: np.ndarray, points: Sequence | np.ndarray) -> np.ndarray:
    points = np.asarray(points, np.float64).reshape(-1, 2)
    homogeneous = points @ matrix[:, :2].T + matrix[:, 2]
    third = homogeneous[:, 2:]
    return homogeneous[:, :2] / np.where(third > 0, third, np.nan)


def _solve(corners: np.ndarray, side_mm: float) -> np.ndarray:
    """float64 [3, 3]: the homography from `corners`, [4, 2], to those of a square of `side_mm`."""
    middle = corners.mean(0)  # numbers of one size make the equations well conditioned
    spread = float(np.abs(corners - middle).max())
    rows, right = [], []
    for (x, y), (u, v) in zip((corners - middle) / spread, ((0, 0), (1, 0), (1, 1), (0, 1)), strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    matrix = np.append(np.linalg.solve(np.array(rows), np.array(right, np.float64)), 1).reshape(3, 3)
    shift = np.array([[1 / spread, 0, -middle[0] / spread], [0, 1 / spread, -middle[1] / spread], [0, 0, 1]])
    return np.diag([side_mm, side_mm, 1]) @ matrix @ shift
