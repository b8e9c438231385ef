"""Read COCO's instances: a JSON with images, annotations and categories.

Synopsis::

    folder = coco_annotations.read(root, ["annotations/instances_train.json"], index)
    folder.images[0].path, folder.images[0].shapes      # "train2017/1.jpg", (("crack", Shape(Kind.POLYGON, ...)),)

Format: https://cocodataset.org/#format-data. A segmentation is a list of polygons, or the lengths of runs down the
columns (RLE), as numbers or in COCO's compressed text. `decode_counts` follows rleFrString of COCO's maskApi.c.
"""

import posixpath
from typing import Any

from crackflow.conversion import annotation_files
from crackflow.conversion.annotation_files import AnnotatedFolder, AnnotatedImage, EntryError, ImageIndex
from crackflow.core.errors import UserError
from crackflow.data.drawings import Kind, Shape

KEYS = ("images", "annotations", "categories")
MAX_CHARACTERS = 13  # of one run: 5 bits each


def read(root: str, files: list[str], index: ImageIndex) -> AnnotatedFolder:
    """Reads the annotations of all `files`.

    Raises:
        UserError: A file cannot be read as COCO's instances.
    """
    folder = AnnotatedFolder(files=files)
    for file in files:
        try:
            _read_file(root, file, index, folder)
        except EntryError as error:
            raise UserError(f"--images: {file}: {error}; see https://cocodataset.org/#format-data") from error
    return folder


def _read_file(root: str, file: str, index: ImageIndex, folder: AnnotatedFolder) -> None:
    content = annotation_files.load_json(root, file)
    entries, annotations, categories = (annotation_files.require_key(content, key, list, "top level") for key in KEYS)
    names = _category_names(categories)
    folder.add_classes(names.values())
    numbers = _image_numbers(entries)
    shapes: list[list[tuple[str, Shape]]] = [[] for _ in entries]
    faults: dict[int, str] = {}
    for position, annotation in enumerate(annotations):
        name = f"annotations[{position}]"
        number = numbers.get(annotation_files.require_key(annotation, "image_id", (str, int), name))
        if number is None:
            raise EntryError(f"{name}.image_id: no image has the id {annotation['image_id']!r}")
        category = annotation_files.require_key(annotation, "category_id", (str, int), name)
        if category not in names:
            raise EntryError(f"{name}.category_id: {category!r} is not in categories ({', '.join(map(str, names))})")
        try:
            shapes[number] += [(names[category], shape) for shape in _shapes(annotation, entries[number], name)]
        except EntryError as error:
            faults.setdefault(number, str(error))
    split = annotation_files.split_of(file)
    for number, entry in enumerate(entries):
        try:
            path = index.find(entry["file_name"], posixpath.dirname(file), split)
            if number in faults:
                folder.rejected.append((path, f"{file}: {faults[number]}"))
                continue
        except EntryError as error:
            folder.rejected.append((entry["file_name"], f"{file}: images[{number}].file_name: {error}"))
            continue
        size = entry["width"], entry["height"]
        own_split = split or annotation_files.folder_split(path)
        image = AnnotatedImage(path, f"{file}: images[{number}]", tuple(shapes[number]), *size, own_split)
        folder.images.append(image)


def _category_names(categories: list) -> dict[Any, str]:
    names = {}
    for position, category in enumerate(categories):
        key = annotation_files.require_key(category, "id", (str, int), f"categories[{position}]")
        if key in names:
            raise EntryError(f"categories[{position}].id: {key!r} is there twice")
        names[key] = annotation_files.require_key(category, "name", str, f"categories[{position}]")
    return names


def _image_numbers(entries: list) -> dict[Any, int]:
    """Position of each image in the file, by its id."""
    numbers = {}
    for position, entry in enumerate(entries):
        name = f"images[{position}]"
        key = annotation_files.require_key(entry, "id", (str, int), name)
        annotation_files.require_key(entry, "file_name", str, name)
        for side in ("width", "height"):
            if annotation_files.require_key(entry, side, int, name) < 1:
                raise EntryError(f"{name}.{side}: expected 1 pixel or more, received {entry[side]}")
        if key in numbers:
            raise EntryError(f"{name}.id: {key!r} is there twice, in images[{numbers[key]}] as well")
        numbers[key] = position
    return numbers


def _shapes(annotation: dict, image: dict, name: str) -> list[Shape]:
    """The polygons or runs of an annotation; its box if it has neither."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        return [_runs(segmentation, image, f"{name}.segmentation")]
    if isinstance(segmentation, list) and segmentation:
        shapes = []
        for part, values in enumerate(segmentation):
            key = f"{name}.segmentation[{part}]"
            if not isinstance(values, list):
                raise EntryError(
                    f"{key}: expected a list x, y, x, y, ..., received {annotation_files.shortened(values)}"
                )
            shapes.append(Shape(Kind.POLYGON, annotation_files.polygon_points(values, key), key))
        return shapes
    box = annotation_files.finite(annotation_files.require_key(annotation, "bbox", list, name), f"{name}.bbox")
    if len(box) != 4 or min(box[2:]) < 0:
        raise EntryError(f"{name}.bbox: expected x, y, width, height, received {annotation_files.shortened(box)}")
    left, top, width, height = box
    return [Shape(Kind.BOX, ((left, top), (left + width, top + height)), f"{name}.bbox")]


def _runs(segmentation: dict, image: dict, name: str) -> Shape:
    size = annotation_files.require_key(segmentation, "size", list, name)
    if size != [image["height"], image["width"]]:
        expected = f"[{image['height']}, {image['width']}]"
        raise EntryError(f"{name}.size: expected {expected}, height and width of the image, received {size}")
    counts = annotation_files.require_key(segmentation, "counts", (list, str), name)
    runs = decode_counts(counts, f"{name}.counts") if isinstance(counts, str) else counts
    if not all(isinstance(run, int) and run >= 0 for run in runs):
        raise EntryError(f"{name}.counts: expected whole numbers of 0 or more")
    return Shape(Kind.RUNS, name=name, runs=tuple(runs), by_column=True)


def decode_counts(text: str, name: str) -> list[int]:
    """Decodes COCO's compressed runs.

    Each character holds 5 bits and a sign that more follow, the lowest bits first; from the fourth run on, numbers are
    differences to the run before the last.

    Raises:
        EntryError: `text` is not in this form.
    """
    runs: list[int] = []
    position = 0
    while position < len(text):
        value, bits, more = 0, 0, True
        while more:
            code = ord(text[position]) - 48 if position < len(text) else -1
            if not 0 <= code < 64 or bits > 5 * MAX_CHARACTERS:
                raise EntryError(f"{name}: expected COCO's compressed runs, received another character or an end")
            value |= (code & 0x1F) << bits
            more = bool(code & 0x20)
            position, bits = position + 1, bits + 5
            if not more and code & 0x10:
                value -= 1 << bits
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
