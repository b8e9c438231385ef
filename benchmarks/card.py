"""How exact are millimetres by the scale card? A rendered wall with the card, seen from 0 to 50 degrees.

  python -m benchmarks.card --json=benchmarks/results/card.json

The card is the PNG of crackflow.card on a wall, through a virtual camera (benchmarks.card_scenes) with blur, noise and
JPEG. For each angle and size of a pixel, over azimuths: `found`, photographs in which the marker was detected;
`corner_px`, root mean square error of its corners, and `corner_px_opencv` that of OpenCV's own refinement;
`angle_degrees`, the largest error of the angle; `length_before` and `length_after`, relative errors (mean of absolute
values, and the largest) of lines of 100 mm in three directions, 20 to 120 mm from the marker, by the scale of the
middle of the photograph, and through the homography; `within`, the share of local scales at their ends that the stated
error holds. `lines`: of each printed width, the median and the largest error of what was read, in mm, and in how many
photographs it was read.

A virtual camera has no distortion, a rendered card is flat, and its print is exact: with a real card errors are larger.
"""

import io

import numpy as np
from PIL import Image

from benchmarks import card_scenes, harness
from crackflow.core.config.card import MarkerDictionary
from crackflow.data import card_layout
from crackflow.inference import card_lines, marker_plane
from crackflow.inference.marker_plane import MarkerPlane

ANGLES, AZIMUTHS, MM_PER_PX = (0, 15, 30, 40, 50), (0, 110, 235), (0.12, 0.2, 0.4)
SIZE, FOCAL_PX, AIM_MM = (2000, 1500), 2000.0, (74.0, 70.0)
DICTIONARY = MarkerDictionary.APRILTAG_36H11
# Upper left corner, direction: on the wall beside and below the card.
DRAWN_MM = (((160.0, 40.0), (0.0, 1.0)), ((40.0, 160.0), (1.0, 0.0)), ((100.0, 60.0), (0.6, 0.8)))


def photographs(angle: float, mm_per_px: float):
    """(matrix, uint8 [H, W, 3]) of each azimuth, through a JPEG of quality 92."""
    for number, azimuth in enumerate(AZIMUTHS):
        matrix = card_scenes.camera(angle, mm_per_px * FOCAL_PX, FOCAL_PX, SIZE, AIM_MM, azimuth)
        buffer = io.BytesIO()
        Image.fromarray(card_scenes.photograph(matrix, SIZE, seed=number)).save(buffer, "JPEG", quality=92)
        yield matrix, np.asarray(Image.open(buffer))


def opencv_corners(pixels: np.ndarray) -> np.ndarray:
    """float64 [4, 2]: the corners by OpenCV's CORNER_REFINE_SUBPIX."""
    opencv = marker_plane.load_opencv("the benchmark")
    parameters = opencv.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = opencv.aruco.CORNER_REFINE_SUBPIX
    markers = opencv.aruco.getPredefinedDictionary(opencv.aruco.DICT_APRILTAG_36h11)
    corners, _, _ = opencv.aruco.ArucoDetector(markers, parameters).detectMarkers(pixels[..., 0].copy())
    return corners[0].reshape(4, 2) + 0.5 if corners else np.full((4, 2), np.nan)


def length_errors(matrix: np.ndarray, plane: MarkerPlane) -> tuple[list[float], list[float], list[bool]]:
    """Relative errors of the drawn lines before and after, and whether the stated error holds at their ends."""
    middle = np.array([[SIZE[0] / 2, SIZE[1] / 2]])
    exact = MarkerPlane.of(card_scenes.marker_corners(matrix), 50.0)
    before, after, within = [], [], []
    for start, direction in DRAWN_MM:
        wall = np.array(start) + np.linspace(0, 100, 101)[:, None] * np.array(direction)
        line = card_scenes.project(matrix, wall)
        length_px = np.hypot(*np.diff(line, axis=0).T).sum()
        before.append(length_px * plane.mm_per_px(middle)[0] / 100 - 1)
        after.append(plane.length_mm([line]) / 100 - 1)
        ends = line[[0, -1]]
        off = np.abs(plane.mm_per_px(ends) / exact.mm_per_px(ends) - 1)
        within += (off <= plane.relative_error(ends)).tolist()
    return before, after, within


def spread(errors: list[float]) -> dict:
    """Mean and largest absolute value."""
    return {"mean": round(float(np.abs(errors).mean()), 5), "largest": round(float(np.abs(errors).max()), 5)}


def measure(angle: float, mm_per_px: float, readings: dict[float, list]) -> dict:
    """The figures of an angle and a size of a pixel; what was read of the lines goes to `readings`."""
    corner, opencv, angles, before, after, within, seen = [], [], [], [], [], [], 0
    for matrix, pixels in photographs(angle, mm_per_px):
        markers = marker_plane.find_markers(pixels, DICTIONARY)
        if not markers:
            continue
        seen += 1
        exact = card_scenes.marker_corners(matrix)
        corner.append(((markers[0].corners - exact) ** 2).mean())
        opencv.append(opencv_corners(pixels) - exact)
        plane = MarkerPlane.of(markers[0].corners, 50.0)
        angles.append(abs(plane.view_angle([(SIZE[0] / 2, SIZE[1] / 2)]) - angle))
        for total, errors in zip((before, after, within), length_errors(matrix, plane), strict=True):
            total += errors
        lines = card_lines.measure(pixels, plane)
        for width in card_layout.LINE_WIDTHS_MM:
            readings.setdefault(width, []).append(next((x.read_mm for x in lines if x.true_mm == width), None))
    if not seen:
        return {"found": 0, "of": len(AZIMUTHS)}
    return {
        "found": seen,
        "of": len(AZIMUTHS),
        "corner_px": round(float(np.sqrt(np.mean(corner))), 3),
        # Less their mean, which another convention for the centres of pixels would explain.
        "corner_px_opencv": round(float(np.nanstd(np.concatenate(opencv), axis=0).mean()), 3),
        "angle_degrees": round(max(angles), 2),
        "length_before": spread(before),
        "length_after": spread(after),
        "within": round(float(np.mean(within)), 3),
    }


def line_figures(readings: dict[float, list]) -> dict:
    """The errors of each line, in mm."""
    figures = {}
    for width, values in readings.items():
        errors = [value - width for value in values if value is not None]
        figures[f"{width:g}"] = {"read": len(errors), "of": len(values)}
        if errors:
            figures[f"{width:g}"] |= {
                "median": round(float(np.median(errors)), 4),
                "largest": round(float(np.abs(errors).max()), 4),
            }
    return figures


if __name__ == "__main__":
    options = harness.arguments(__doc__)
    content: dict = {"size": SIZE, "marker_mm": 50, "views": {}, "lines": {}}
    for size in MM_PER_PX:
        read_by_angle: dict[str, dict] = {"0 to 30 degrees": {}, "40 and 50 degrees": {}}
        for view in ANGLES:
            group = "0 to 30 degrees" if view <= 30 else "40 and 50 degrees"
            content["views"][f"{size:g} mm, {view} degrees"] = measure(view, size, read_by_angle[group])
        content["lines"][f"{size:g} mm"] = {name: line_figures(read) for name, read in read_by_angle.items()}
    harness.save(options.json, content)
