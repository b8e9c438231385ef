"""Read YOLO's annotations: data.yaml, and a text file for each image.

Synopsis::

    folder = yolo_annotations.read(root, ["data.yaml"], index)
    folder.images[0].path, folder.images[0].split      # "train/images/1.jpg", "train"

Format: https://docs.ultralytics.com/datasets/segment/. A line is a class and a box (centre x, centre y, width, height)
or a polygon (x, y, x, y, ...), all in fractions of the sides. The text file of train/images/1.jpg is
train/labels/1.txt. An image without one, or with an empty one, is clean. Roboflow writes ../train/images for a folder
beside data.yaml.
"""

import importlib
import os
import posixpath
import re
from typing import Any

from crackflow.conversion import annotation_files
from crackflow.conversion.annotation_files import AnnotatedFolder, AnnotatedImage, EntryError, ImageIndex
from crackflow.core.errors import UserError
from crackflow.data.drawings import Kind, Shape

MAX_YAML_BYTES, MAX_LABELS_BYTES = 4 << 20, 64 << 20
BOX_NUMBERS = 5


def read(root: str, files: list[str], index: ImageIndex) -> AnnotatedFolder:
    """Reads data.yaml and the text files of all images that it names.

    Raises:
        UserError: data.yaml cannot be used.
    """
    folder = AnnotatedFolder(files=files)
    for file in files:
        try:
            content = _load_yaml(root, file)
            names = _class_names(content)
            folder.add_classes(names.values())
            for split in ("train", "val", "test"):
                key = "valid" if split == "val" and "val" not in content else split
                for path in _images(root, file, content, key, index):
                    _read_image(root, path, file, names, split, folder)
        except EntryError as error:
            raise UserError(f"--images: {file}: {error}; see https://docs.ultralytics.com/datasets/") from error
    return folder


def _load_yaml(root: str, file: str) -> dict:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError as error:
        message = "--layout=yolo: expected PyYAML, received none; pip install 'crackflow[annotations]'"
        raise UserError(message) from error
    data = annotation_files.read_text_file(root, file, MAX_YAML_BYTES)
    try:
        content = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise EntryError(f"{line}expected YAML ({getattr(error, 'problem', None) or error})") from error
    if not isinstance(content, dict):
        raise EntryError(f"expected keys such as train, val and names, received {annotation_files.shortened(content)}")
    if not any(content.get(key) for key in ("train", "val", "valid", "test")):
        raise EntryError("expected the key 'train', 'val' or 'test'")
    return content


def _class_names(content: dict) -> dict[int, str]:
    names = annotation_files.require_key(content, "names", (list, dict), "top level")
    items = names.items() if isinstance(names, dict) else enumerate(names)
    if not all(isinstance(key, int) for key, _ in items) or not names:
        raise EntryError(f"names: expected a list or numbers with names, received {annotation_files.shortened(names)}")
    return {key: str(name) for key, name in (names.items() if isinstance(names, dict) else enumerate(names))}


def _images(root: str, file: str, content: dict, key: str, index: ImageIndex) -> list[str]:
    """The images that `key` of data.yaml names: a folder, a text file with one image a line, or a list of these."""
    sources = content.get(key) or []
    base, images = str(content.get("path") or ""), []
    for source in sources if isinstance(sources, list) else [sources]:
        if not isinstance(source, str):
            raise EntryError(f"{key}: expected a folder, received {annotation_files.shortened(source)}")
        path = _locate(root, posixpath.dirname(file), base, source, key)
        if path.endswith(".txt"):
            images += _listed_images(root, path, index)
        else:
            images += index.below("" if path == "." else path)
    return list(dict.fromkeys(images))


def _locate(root: str, folder: str, base: str, source: str, key: str) -> str:
    """Path, relative to the root, of the folder or file that data.yaml names."""
    tail = re.sub(r"^(\.\./)+", "", source.replace("\\", "/"))
    annotation_files.safe_path(tail, folder)
    if base.startswith(("/", "\\")) or re.match("[A-Za-z]:", base):
        raise EntryError(f"path: expected a path relative to the file, received the absolute path {base!r}")
    for candidate in (posixpath.join(base.replace("\\", "/"), source.replace("\\", "/")), source, tail):
        try:
            path = annotation_files.safe_path(candidate, folder)
        except EntryError:  # Roboflow's ../train/images
            continue
        if os.path.exists(os.path.join(root, path)):
            return path
    raise EntryError(f"{key}: the folder {source!r} is not there")


def _listed_images(root: str, path: str, index: ImageIndex) -> list[str]:
    text = annotation_files.read_text_file(root, path, MAX_LABELS_BYTES).decode("utf-8-sig", "surrogateescape")
    images = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                images.append(index.find(line.strip(), posixpath.dirname(path)))
            except EntryError as error:
                raise EntryError(f"{path}, line {number}: {error}") from error
    return images


def _read_image(root: str, path: str, file: str, names: dict[int, str], split: str, folder: AnnotatedFolder) -> None:
    labels = labels_path(path)
    if not os.path.exists(os.path.join(root, labels)):
        folder.images.append(AnnotatedImage(path, file, split=split))
        return
    shapes = []
    try:
        data = annotation_files.read_text_file(root, labels, MAX_LABELS_BYTES)
        for number, line in enumerate(data.decode("utf-8-sig").splitlines(), 1):
            if line.strip():
                shapes.append(_parse_line(line.split(), f"line {number}", names))
    except (EntryError, UnicodeDecodeError) as error:
        folder.rejected.append((path, f"{labels}: {error}"))
        return
    folder.images.append(AnnotatedImage(path, labels, tuple(shapes), split=split))


def labels_path(path: str) -> str:
    """Returns the text file of an image: the last folder named images is labels there, as in ultralytics."""
    before, found_folder, after = f"/{path}".rpartition("/images/")
    stem = posixpath.splitext(f"{before}/labels/{after}" if found_folder else path)[0]
    return f"{stem.lstrip('/')}.txt"


def _parse_line(words: list[str], name: str, names: dict[int, str]) -> tuple[str, Shape]:
    if not re.fullmatch(r"\d+(\.0+)?", words[0]) or int(float(words[0])) not in names:
        known = ", ".join(map(str, names))
        raise EntryError(f"{name}: expected a class of data.yaml's names ({known}), received {words[0]!r}")
    numbers: list[Any] = annotation_files.finite(words[1:], name)
    label = names[int(float(words[0]))]
    if len(words) == BOX_NUMBERS:
        x, y, width, height = numbers
        corners = ((x - width / 2, y - height / 2), (x + width / 2, y + height / 2))
        return label, Shape(Kind.BOX, corners, name, is_relative=True)
    points = annotation_files.polygon_points(numbers, name)
    return label, Shape(Kind.POLYGON, points, name, is_relative=True)
