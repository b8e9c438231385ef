"""Read labelme's annotations: a JSON file for each image, which may contain the image.

Synopsis::

    folder = labelme_annotations.read(root, ["1.json", "2.json"], index)
    folder.images[0].path       # "1.jpg"; "1.json" if the image lies inside it alone

Format: https://github.com/wkentaro/labelme. Polygons, circles, lines and masks say which pixels are crack, rectangles
and points only that there is a crack. A line has no width in labelme: `width=2.5` in its description gives one.
"""

import base64
import binascii
import io
import math
import posixpath
import re
from typing import Any

import numpy as np
from PIL import Image

from crackflow.conversion import annotation_files
from crackflow.conversion.annotation_files import AnnotatedFolder, AnnotatedImage, EntryError, ImageIndex
from crackflow.core.errors import UserError
from crackflow.data.drawings import MIN_POINTS, Kind, Shape

MAX_BYTES = 256 << 20
LINE_WIDTH_PX = 3.0
CIRCLE_POINTS = 64
# Type -> (kind, least number of points).
KINDS = {
    "polygon": (Kind.POLYGON, MIN_POINTS),
    "rectangle": (Kind.BOX, 2),
    "linestrip": (Kind.LINE, 2),
    "line": (Kind.LINE, 2),
    "circle": (Kind.POLYGON, 2),
    "mask": (Kind.RUNS, 2),
    "point": (Kind.TAG, 1),
    "points": (Kind.TAG, 1),
}


def read(root: str, files: list[str], index: ImageIndex) -> AnnotatedFolder:
    """Reads all `files`. One that cannot be used rejects its image."""
    folder = AnnotatedFolder(files=files)
    for file in files:
        try:
            image = _read_file(root, file, index)
        except EntryError as error:
            folder.rejected.append((file, str(error)))
            continue
        except UserError as error:
            folder.rejected.append((file, str(error).removeprefix("--images: ")))
            continue
        folder.add_classes(name for name, _ in image.shapes)
        folder.images.append(image)
    return folder


def _read_file(root: str, file: str, index: ImageIndex) -> AnnotatedImage:
    content = annotation_files.load_json(root, file, MAX_BYTES)
    name = annotation_files.require_key(content, "imagePath", str, "top level")
    try:
        path = index.find(name, posixpath.dirname(file))
    except EntryError as error:
        if "not there" not in str(error) or not content.get("imageData"):
            raise EntryError(f"imagePath: {error}") from error
        path = file
    shapes = annotation_files.require_key(content, "shapes", list, "top level")
    drawn = tuple(_parse_shape(shape, f"shapes[{position}]") for position, shape in enumerate(shapes))
    sides = [content.get(side) or 0 for side in ("imageWidth", "imageHeight")]
    width, height = (int(side) for side in annotation_files.finite(sides, "imageWidth, imageHeight"))
    return AnnotatedImage(path, file, drawn, width, height, annotation_files.folder_split(path))


def _parse_shape(shape: Any, name: str) -> tuple[str, Shape]:
    label = annotation_files.require_key(shape, "label", str, name)
    shape_type = shape.get("shape_type", "polygon")
    if shape_type not in KINDS:
        raise EntryError(f"{name}.shape_type: expected one of {', '.join(KINDS)}, received {shape_type!r}")
    kind, at_least = KINDS[shape_type]
    pairs = annotation_files.require_key(shape, "points", list, name)
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise EntryError(f"{name}.points: expected pairs [x, y], received {annotation_files.shortened(pairs)}")
    points = annotation_files.polygon_points([value for pair in pairs for value in pair], f"{name}.points", at_least)
    if shape_type == "circle":
        points = _circle(*points[:2])
    if kind is Kind.RUNS:
        return label, _parse_mask(annotation_files.require_key(shape, "mask", str, name), points, f"{name}.mask")
    width_px = line_width(str(shape.get("description") or "")) if kind is Kind.LINE else 0.0
    return label, Shape(kind, points, f"{name}.points", width_px)


def line_width(description: str) -> float:
    """Returns the width of a line in pixels, as `description` says (width=2.5), or 3."""
    match = re.search(r"width\D{0,3}(\d+(?:\.\d+)?)", description)
    return float(match[1]) if match else LINE_WIDTH_PX


def _circle(centre: tuple[float, float], edge: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    radius = math.dist(centre, edge)
    angles = [2 * math.pi * step / CIRCLE_POINTS for step in range(CIRCLE_POINTS)]
    return tuple((centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle)) for angle in angles)


def _parse_mask(encoded: str, corners: tuple[tuple[float, float], ...], name: str) -> Shape:
    """A mask of labelme 5.3 and later: a PNG between two corners, of which both pixels belong to it."""
    left, top = (int(value) for value in corners[0])
    try:
        with Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)), formats=["PNG"]) as picture:
            if picture.width * picture.height > MAX_BYTES:
                raise EntryError(f"{name}: {picture.width} x {picture.height} pixels are too many")
            crack = np.asarray(picture.convert("L")) > 0
    except (binascii.Error, OSError, ValueError, SyntaxError) as error:
        raise EntryError(f"{name}: expected a PNG as base64 ({error})") from error
    height, width = crack.shape
    return Shape(Kind.RUNS, name=name, runs=tuple(runs_of(crack)), frame=(left, top, width, height))


def runs_of(crack: np.ndarray) -> list[int]:
    """Returns lengths of the runs along the rows of `crack`, bool [H, W], the first of which is of False."""
    flat = np.concatenate([[False], crack.ravel()])
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]), [crack.size]])
    return np.diff(edges).tolist()
