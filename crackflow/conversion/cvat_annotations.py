"""Read CVAT's annotations: an XML file, "CVAT for images 1.1".

Synopsis::

    folder = cvat_annotations.read(root, ["annotations.xml"], index)
    folder.images[0].path, folder.images[0].shapes      # "images/1.jpg", (("crack", Shape(Kind.POLYGON, ...)),)

Format: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/. Polygons, polylines and masks say which
pixels are crack; boxes, tags, points, ellipses and cuboids only that there is a crack. The attribute `width` of a
polyline is its width in pixels. XML from outside is parsed by defusedxml, without DTDs and entities.
"""

import importlib
import posixpath
from typing import Any

from crackflow.conversion import annotation_files
from crackflow.conversion.annotation_files import AnnotatedFolder, AnnotatedImage, EntryError, ImageIndex
from crackflow.conversion.labelme_annotations import LINE_WIDTH_PX
from crackflow.core.errors import UserError
from crackflow.data.drawings import MIN_POINTS, Kind, Shape

TAGS = ("tag", "points", "ellipse", "cuboid", "skeleton")
SHAPES = ("polygon", "polyline", "box", "mask", *TAGS)


def read(root: str, files: list[str], index: ImageIndex) -> AnnotatedFolder:
    """Reads the annotations of all `files`.

    Raises:
        UserError: A file is no "CVAT for images 1.1".
    """
    folder = AnnotatedFolder(files=files)
    for file in files:
        try:
            _read_file(root, file, index, folder)
        except EntryError as error:
            raise UserError(f"--images: {file}: {error}; export it from CVAT as 'CVAT for images 1.1'") from error
    return folder


def _read_file(root: str, file: str, index: ImageIndex, folder: AnnotatedFolder) -> None:
    tree = _parse_xml(annotation_files.read_text_file(root, file))
    if tree.tag != "annotations":
        raise EntryError(f"expected <annotations>, received <{tree.tag}>")
    if tree.find("track") is not None:
        raise EntryError("expected <image>, received <track>, which a film has")
    names = [element.text or "" for element in tree.findall("meta//labels/label/name")]
    folder.add_classes(names)
    ids: set[str] = set()
    for position, element in enumerate(tree.findall("image")):
        key = f"image[{position}]"
        name = _require(element, "name", key)
        number = element.get("id", name)
        if number in ids:
            raise EntryError(f"{key}: the id {number!r} is there twice")
        ids.add(number)
        width, height = (_whole_number(element, side, key) for side in ("width", "height"))
        try:
            path = index.find(name, posixpath.dirname(file))
        except EntryError as error:
            folder.rejected.append((name, f"{file}: {key}: {error}"))
            continue
        try:
            shapes = _read_shapes(element, key, names)
        except EntryError as error:
            folder.rejected.append((path, f"{file}: {error}"))
            continue
        folder.add_classes(label for label, _ in shapes)
        split = annotation_files.split_of(element.get("subset", "") + "/") or annotation_files.folder_split(path)
        folder.images.append(AnnotatedImage(path, f"{file}: {key}", tuple(shapes), width, height, split))


def _parse_xml(data: bytes) -> Any:
    try:
        parser, refused = (importlib.import_module(f"defusedxml.{name}") for name in ("ElementTree", "common"))
    except ImportError as error:
        message = "--layout=cvat: expected defusedxml, received none; pip install 'crackflow[annotations]'"
        raise UserError(message) from error
    try:
        return parser.fromstring(data, forbid_dtd=True)
    except refused.DefusedXmlException as error:
        raise EntryError(f"expected XML without DTD and entities, received {type(error).__name__}") from error
    except (parser.ParseError, ValueError, LookupError) as error:
        line, column = getattr(error, "position", (0, 0))
        raise EntryError(f"line {line}, column {column}: expected XML ({error})") from error


def _require(element: Any, attribute: str, name: str) -> str:
    value = element.get(attribute)
    if value is None:
        raise EntryError(f"{name}: expected the attribute {attribute!r}")
    return value


def _whole_number(element: Any, attribute: str, name: str) -> int:
    text = _require(element, attribute, name)
    if not (text.isascii() and text.isdigit()):
        raise EntryError(f"{name}.{attribute}: expected a whole number, received {annotation_files.shortened(text)}")
    return int(text)


def _read_shapes(image: Any, name: str, declared: list[str]) -> list[tuple[str, Shape]]:
    shapes = []
    for position, element in enumerate(child for child in image if child.tag in SHAPES):
        key = f"{name}.{element.tag}[{position}]"
        label = _require(element, "label", key)
        if declared and label not in declared:
            raise EntryError(f"{key}.label: expected one of {', '.join(declared)}, received {label!r}")
        shapes.append((label, _parse_shape(element, key)))
    return shapes


def _parse_shape(element: Any, name: str) -> Shape:
    if element.tag in TAGS:
        return Shape(Kind.TAG, name=name)
    if element.tag == "box":
        sides = [_require(element, side, name) for side in ("xtl", "ytl", "xbr", "ybr")]
        return Shape(Kind.BOX, annotation_files.polygon_points(sides, name, 2), name)
    if element.tag == "mask":
        runs = [_run(text, f"{name}.rle") for text in _require(element, "rle", name).split(",")]
        left, top, width, height = (_whole_number(element, side, name) for side in ("left", "top", "width", "height"))
        return Shape(Kind.RUNS, name=name, runs=tuple(runs), frame=(left, top, width, height))
    values = [value for pair in _require(element, "points", name).split(";") for value in pair.split(",")]
    if element.tag == "polygon":
        return Shape(Kind.POLYGON, annotation_files.polygon_points(values, f"{name}.points", MIN_POINTS), name)
    points = annotation_files.polygon_points(values, f"{name}.points", 2)
    return Shape(Kind.LINE, points, name, _line_width(element, name))


def _run(text: str, name: str) -> int:
    if not text.strip().isdigit():
        raise EntryError(f"{name}: expected whole numbers, received {annotation_files.shortened(text)}")
    return int(text)


def _line_width(element: Any, name: str) -> float:
    for attribute in element.findall("attribute"):
        if (attribute.get("name") or "").lower() in ("width", "width_px"):
            return annotation_files.finite([attribute.text], f"{name}.width")[0]
    return LINE_WIDTH_PX
