"""Shapes that a person drew on a photograph in a labelling tool, and the mask they amount to.

Synopsis::

    shape = Shape(Kind.POLYGON, ((10.0, 10.0), (60.0, 12.0), (60.0, 15.0)), name="annotations[7].segmentation[0]")
    mask = Drawing((shape,), width=640, height=480).mask(640, 480)     # uint8 [480, 640]: 255 in the crack, else 0

Coordinates are those of COCO, labelme, CVAT and YOLO: x to the right and y down, in pixels, (0, 0) is the upper left
corner of the first pixel and (0.5, 0.5) its centre. A pixel is crack where its centre is inside the polygon. Cracks are
thin: a polygon with a mean width below 1.5 px may lie between the centres, so the pixels that its outline crosses are
crack as well.
"""

import dataclasses
import enum

import numpy as np
from skimage import draw

from crackflow.core.errors import ImageError

CRACK = 255
MIN_POINTS = 3
OUTSIDE_PX = 1.0  # tools write points on the border as -0.4 or as width + 0.4
THIN_PX = 1.5  # twice the area by the circumference: the mean width of a long strip
DECIMALS = 6  # of a pixel: 0.1 * 640 is not 64, and a centre must not change sides for that


class Kind(enum.Enum):
    POLYGON = "polygon"
    LINE = "line"
    RUNS = "runs"
    BOX = "box"
    TAG = "tag"


OUTLINES = (Kind.POLYGON, Kind.LINE, Kind.RUNS)


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """One shape.

    Attributes:
        kind: POLYGON, LINE and RUNS say which pixels are crack; BOX and TAG only that there is a crack.
        points: (x, y) in pixels, or in fractions of the sides if `is_relative`; two corners of a BOX.
        name: where it stands, for messages.
        width_px: of a LINE.
        is_relative: whether `points` are fractions of the sides.
        runs: of RUNS, lengths in pixels, of the ground and of the crack by turns; the first is of the ground.
        by_column: whether runs go down the columns (COCO) and not along the rows (CVAT).
        frame: of RUNS, (left, top, width, height) in pixels; width 0 for the whole image.
    """

    kind: Kind
    points: tuple[tuple[float, float], ...] = ()
    name: str = ""
    width_px: float = 0.0
    is_relative: bool = False
    runs: tuple[int, ...] = ()
    by_column: bool = False
    frame: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclasses.dataclass(frozen=True, slots=True)
class Drawing:
    """All shapes of the crack on one photograph.

    Attributes:
        shapes: may be empty, for a photograph without a crack.
        width, height: of the photograph, in pixels, as its annotations say; 0 if they do not.
        file: that holds the annotations, for messages.
    """

    shapes: tuple[Shape, ...] = ()
    width: int = 0
    height: int = 0
    file: str = ""

    @property
    def has_outlines(self) -> bool:
        return any(shape.kind in OUTLINES for shape in self.shapes)

    @property
    def has_boxes(self) -> bool:
        return any(shape.kind not in OUTLINES for shape in self.shapes)

    def require_fit(self, width: int, height: int) -> None:
        """Raises ImageError unless the drawing is of a photograph of `width` x `height` pixels, and inside it."""
        if self.width and (self.width, self.height) != (width, height):
            raise ImageError(
                f"{self.file}: drawn on {self.width} x {self.height} pixels, the picture has {width} x {height}: "
                "expected the same size"
            )
        for shape in self.shapes:
            _require_inside(shape, width, height, self.file)

    def mask(self, width: int, height: int) -> np.ndarray:
        """Draws the crack.

        Args:
            width, height: of the photograph, in pixels.

        Returns:
            uint8 [height, width], 255 in the crack and 0 elsewhere.

        Raises:
            ImageError: a shape does not fit the photograph.
        """
        self.require_fit(width, height)
        mask = np.zeros((height, width), np.uint8)
        for shape in self.shapes:
            if shape.kind is Kind.POLYGON:
                _fill_polygon(mask, _in_pixels(shape, width, height))
            elif shape.kind is Kind.LINE:
                _draw_line(mask, _in_pixels(shape, width, height), shape.width_px)
            elif shape.kind is Kind.RUNS:
                _fill_runs(mask, shape, self.file)
        return mask


def _in_pixels(shape: Shape, width: int, height: int) -> np.ndarray:
    """Returns the points in pixels, float64 [N, 2]."""
    points = np.array(shape.points, np.float64).reshape(-1, 2)
    return np.round(points * (width, height) if shape.is_relative else points, DECIMALS)


def _require_inside(shape: Shape, width: int, height: int, file: str) -> None:
    points = _in_pixels(shape, width, height)
    outside = ((points < -OUTSIDE_PX) | (points > np.array([width, height]) + OUTSIDE_PX)).any(1)
    if outside.any():
        x, y = points[outside][0].tolist()
        raise ImageError(f"{file}: {shape.name}: the point ({x:g}, {y:g}) is outside the picture, {width} x {height}")
    left, top, frame_width, frame_height = shape.frame
    if min(shape.frame) < 0 or left + frame_width > width or top + frame_height > height:
        raise ImageError(f"{file}: {shape.name}: its mask reaches outside the picture, {width} x {height}")


def _fill_polygon(mask: np.ndarray, points: np.ndarray) -> None:
    x, y = (points - 0.5).T
    rows, columns = draw.polygon(y, x, mask.shape)
    mask[rows, columns] = CRACK
    following = np.roll(points, -1, 0)
    area = abs(np.sum(points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1])) / 2
    around = np.linalg.norm(following - points, axis=1).sum()
    if 2 * area < THIN_PX * around:
        for start, end in zip(points, following, strict=True):
            _cross(mask, start, end)


def _cross(mask: np.ndarray, start: np.ndarray, end: np.ndarray) -> None:
    """Sets the pixels along the line between two points of the image."""
    highest = np.array(mask.shape[::-1]) - 1
    first, last = (np.clip(np.floor(point), 0, highest).astype(int).tolist() for point in (start, end))
    rows, columns = draw.line(first[1], first[0], last[1], last[0])
    mask[rows, columns] = CRACK


def _draw_line(mask: np.ndarray, points: np.ndarray, width_px: float) -> None:
    """Draws a line of a width: strips with round ends."""
    for start, end in zip(points[:-1], points[1:], strict=True):
        if length := float(np.hypot(*(end - start))):
            across = np.array([start[1] - end[1], end[0] - start[0]]) / length * width_px / 2
            _fill_polygon(mask, np.stack([start + across, end + across, end - across, start - across]))
    for x, y in points - 0.5:
        rows, columns = draw.disk((y, x), max(width_px / 2, 0.51), shape=mask.shape)
        mask[rows, columns] = CRACK


def _fill_runs(mask: np.ndarray, shape: Shape, file: str) -> None:
    left, top, width, height = shape.frame if shape.frame[2] else (0, 0, mask.shape[1], mask.shape[0])
    runs = np.array(shape.runs, np.int64)
    if runs.sum() != width * height:
        raise ImageError(
            f"{file}: {shape.name}: its runs cover {runs.sum():,} pixels, expected {width} x {height} = "
            f"{width * height:,}"
        )
    flat = np.repeat((np.arange(len(runs)) % 2 * CRACK).astype(np.uint8), runs)
    values = flat.reshape(width, height).T if shape.by_column else flat.reshape(height, width)
    mask[top : top + height, left : left + width] |= values
