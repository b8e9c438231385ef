"""The annotations of labelling tools as a layout: which tool wrote them, and what they say of each image.

Synopsis::

    layout, files = annotations.recognise(root, Layout.AUTO)       # Layout.COCO, ["annotations/instances.json"]
    layout_scan = annotations.scan(root, layout, files, positive_class="")

Outlines (polygons, lines, masks) become masks: the image is cut to tiles, which they label. Boxes and tags say that an
image is cracked: it stays whole. An image that is listed and has no annotation is clean; one that is not listed is
rejected, since nobody may have looked at it.
"""

import collections
import os
from collections.abc import Callable, Sequence

from crackflow.conversion import (
    class_names,
    coco_annotations,
    cvat_annotations,
    folder_names,
    label_tables,
    labelme_annotations,
    yolo_annotations,
)
from crackflow.conversion.annotation_files import AnnotatedFolder, AnnotatedImage, ImageIndex
from crackflow.conversion.source_files import CRACK_CLASSES, UNLABELLED, LayoutScan, SourceFile
from crackflow.core import system_files
from crackflow.core.config.data import Layout
from crackflow.core.errors import UserError
from crackflow.data.drawings import Drawing, Kind
from crackflow.data.folders import walk

READERS: dict[Layout, Callable[[str, list[str], ImageIndex], AnnotatedFolder]] = {
    Layout.COCO: coco_annotations.read,
    Layout.YOLO: yolo_annotations.read,
    Layout.LABELME: labelme_annotations.read,
    Layout.CVAT: cvat_annotations.read,
    Layout.CSV: label_tables.read,
}
ENDINGS = {
    Layout.COCO: (".json",),
    Layout.YOLO: (".yaml", ".yml"),
    Layout.LABELME: (".json",),
    Layout.CVAT: (".xml",),
    Layout.CSV: (".csv",),
}
EXPECTED = {
    Layout.COCO: "a JSON file with images, annotations and categories",
    Layout.YOLO: "data.yaml with names, and train, val or test",
    Layout.LABELME: "JSON files with shapes and imagePath",
    Layout.CVAT: "an XML file that begins with <annotations>",
    Layout.CSV: "a CSV file with the columns path and label",
}
MAX_DEPTH = 3  # folders between the root and a file of annotations
PEEK_BYTES = 1 << 20
MAX_PEEKED = 50  # JSON files that are opened to see what they are
ONLY_BOX = "has boxes, where others have polygons: a box does not say which windows are cracked; outline the crack"
NOT_LISTED = "not listed in the annotations, so nobody may have looked at it"


def recognise(root: str, layout: Layout) -> tuple[Layout, list[str]] | None:
    """Finds the annotations in a folder.

    Args:
        root: The folder.
        layout: The tool that wrote them, or `Layout.AUTO`.

    Returns:
        (the layout, its files relative to `root`), or None if there are no annotations.

    Raises:
        UserError: The layout was requested and there are none, or there are those of several tools.
    """
    paths = [path for path in walk(root, "", []) if path.count("/") <= MAX_DEPTH]
    files = {kind: _files_of(root, kind, paths) for kind in READERS if layout in (kind, Layout.AUTO)}
    files = {kind: names for kind, names in files.items() if names}
    if layout is not Layout.AUTO:
        if layout not in files:
            raise UserError(f"--layout={layout.value}: expected {EXPECTED[layout]} in {root!r}, found none")
        return layout, files[layout]
    if len(files) > 1:
        listed = ", ".join(f"{kind.value} ({names[0]})" for kind, names in files.items())
        raise UserError(f"--images: found annotations of several kinds in {root!r}: {listed}; name one with --layout")
    return next(iter(files.items()), None)


def _files_of(root: str, layout: Layout, paths: Sequence[str]) -> list[str]:
    named = [path for path in paths if path.lower().endswith(ENDINGS[layout])]
    if layout is Layout.CSV:
        return [path for path in named if label_tables.is_table(root, path)]
    if layout is Layout.LABELME:
        first = [path for path in named[:MAX_PEEKED] if _is_labelme(_peek(root, path))]
        return [path for path in named if path in first or _is_labelme(_peek(root, path))] if first else []
    tests = {Layout.COCO: _is_coco, Layout.YOLO: _is_yolo, Layout.CVAT: _is_cvat}
    return [path for path in named[:MAX_PEEKED] if tests[layout](_peek(root, path))]


def _peek(root: str, path: str) -> bytes:
    """The beginning and the end of a file."""
    try:
        with open(os.path.join(root, path), "rb") as stream:
            head = stream.read(PEEK_BYTES)
            stream.seek(max(os.fstat(stream.fileno()).st_size - PEEK_BYTES, 0))
            return head + stream.read(PEEK_BYTES)
    except OSError:
        return b""


def _is_coco(text: bytes) -> bool:
    return sum(f'"{key}"'.encode() in text for key in coco_annotations.KEYS) >= 2


def _is_labelme(text: bytes) -> bool:
    return sum(key in text for key in (b'"shapes"', b'"imagePath"', b'"imageData"')) >= 2


def _is_yolo(text: bytes) -> bool:
    lines = text.decode("utf-8-sig", "replace").splitlines()
    keys = {line.split(":")[0].strip() for line in lines if ":" in line and line[:1] not in "# -"}
    return "names" in keys and bool(keys & {"train", "val", "valid", "test"})


def _is_cvat(text: bytes) -> bool:
    return b"<annotations" in text[:PEEK_BYTES]


def scan(root: str, layout: Layout, files: list[str], positive_class: str, both_classes: bool = True) -> LayoutScan:
    """Reads the annotations `files` of the folder `root`.

    Args:
        root: The folder.
        layout: Their layout, as `recognise` returns it.
        files: Relative to `root`.
        positive_class: The class or, separated by commas, the classes that mean crack; empty to infer them.
        both_classes: Whether a folder of one class alone is refused.

    Raises:
        UserError: The annotations cannot be used, or do not say which class means crack.
    """
    rejected: list[tuple[str, str]] = []
    passed_over: collections.Counter = collections.Counter()
    index = ImageIndex(walk(root, "", rejected, passed_over=passed_over))
    folder = READERS[layout](root, files, index)
    _require_once(folder.images)
    positive = class_names.choose(folder.classes, positive_class) if folder.classes else set()
    notes = folder.notes + _class_notes(layout, folder, positive)
    source_files, unusable = _source_files(folder.images, positive)
    rejected += folder.rejected + unusable
    listed = {image.path for image in folder.images} | {path for path, _ in rejected}
    if layout is not Layout.YOLO:  # where an image without a file of labels is clean
        rejected += [(path, NOT_LISTED) for path in index.paths if path not in listed]
    layout_scan = LayoutScan(layout, CRACK_CLASSES, source_files, rejected, notes, passed_over)
    if both_classes:
        _require_usable(root, layout_scan)
    return layout_scan


def _require_once(images: Sequence[AnnotatedImage]) -> None:
    entries: dict[str, str] = {}
    for image in images:
        if image.path in entries:
            raise UserError(
                f"--images: {image.path!r} is listed twice, in {entries[image.path]} and {image.entry}; remove one"
            )
        entries[image.path] = image.entry


def _source_files(
    images: Sequence[AnnotatedImage], positive: set[str]
) -> tuple[list[SourceFile], list[tuple[str, str]]]:
    """The files, and (path, reason) of those that only have boxes where others have outlines."""
    drawings = {
        image.path: Drawing(
            tuple(shape for name, shape in image.shapes if name in positive),
            image.width,
            image.height,
            image.entry.partition(": ")[0],
        )
        for image in images
    }
    is_cut = any(drawing.has_outlines for drawing in drawings.values())
    files, rejected = [], []
    for image in images:
        drawing = drawings[image.path]
        if is_cut and drawing.has_boxes:
            rejected.append((image.path, f"{image.entry}: {ONLY_BOX}"))
            continue
        label = UNLABELLED if is_cut else int(bool(drawing.shapes))
        files.append(SourceFile(image.path, label, image.path, drawing=drawing, split=image.split))
    return sorted(files, key=lambda file: file.path), rejected


def _class_notes(layout: Layout, folder: AnnotatedFolder, positive: set[str]) -> collections.Counter:
    """What was recognised, which classes count as crack, and how many annotations are of others."""
    notes: collections.Counter = collections.Counter()
    names = f"{folder.files[0]}" + (f" and {len(folder.files) - 1:,} more" if len(folder.files) > 1 else "")
    counted = ", ".join(map(repr, sorted(positive))) or "none"
    notes[f"images listed by {layout.value} annotations ({names}); classes that count as crack: {counted}"] = len(
        folder.images
    )
    others = collections.Counter(
        name
        for image in folder.images
        for name, _ in image.shapes
        if name not in positive and folder_names.label(name) != 0 and name.lower() not in class_names.NUMBERS
    )
    if others:
        listed = ", ".join(f"{name} {count:,}" for name, count in others.most_common(6))
        notes[f"annotations of other classes, ignored ({listed})"] = others.total()
    lines = sum(
        shape.kind is Kind.LINE and shape.width_px == labelme_annotations.LINE_WIDTH_PX
        for image in folder.images
        for name, shape in image.shapes
        if name in positive
    )
    if lines:
        notes[f"lines without a width, drawn {labelme_annotations.LINE_WIDTH_PX:g} pixels wide"] = lines
    return notes


def _require_usable(root: str, layout_scan: LayoutScan) -> None:
    """Raises UserError if there is no image, or none of one class."""
    labels = {file.label for file in layout_scan.files}
    if layout_scan.is_cut and labels:
        return
    missing = [name for label, name in enumerate(CRACK_CLASSES) if label not in labels]
    if missing:
        listed = sorted(layout_scan.rejected)
        why = f"{listed[0][0]!r}: {listed[0][1]}" if listed else system_files.summary(layout_scan.passed_over)
        raise UserError(
            f"--images: expected annotated images of both classes in {root!r}, found none "
            f"{' and none '.join(missing)}" + (f"; {len(listed):,} rejected, such as {why}" if listed else "")
        )
