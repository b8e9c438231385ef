"""What the readers of annotations share: their result, checked JSON, and images that are found by their names.

Synopsis::

    content = annotation_files.load_json(root, "annotations/instances_train.json")   # UserError: file, line and column
    index = annotation_files.ImageIndex(paths)
    index.find("1.jpg", folder="annotations")          # "train2017/1.jpg"; EntryError where there is none

A fault of one image (a polygon that leaves it, a file that is missing) raises EntryError, and the image is rejected
with this reason. A fault of a file that holds the annotations of all images raises UserError.
"""

import collections
import dataclasses
import json
import math
import os
import posixpath
import re
from collections.abc import Iterable, Sequence
from typing import Any

from crackflow.conversion import folder_names
from crackflow.core.errors import UserError
from crackflow.data import image_file
from crackflow.data.drawings import MIN_POINTS, Shape

MAX_BYTES = 512 << 20  # COCO's instances_train2017.json has 448 MiB
IMAGE_ENDINGS = tuple(ending for endings in image_file.EXTENSIONS.values() for ending in endings)


class EntryError(Exception):
    """The annotations of one image cannot be used; the message is the reason that rejected.csv gives."""


@dataclasses.dataclass(frozen=True)
class AnnotatedImage:
    """One image and what is drawn on it.

    Attributes:
        path: Relative to the root folder.
        entry: File and key or line of its annotations, for messages.
        shapes: (class, shape) of each annotation.
        width, height: In pixels, as the annotations say; 0 if they do not.
        split: "train", "val", "test" or empty.
    """

    path: str
    entry: str
    shapes: tuple[tuple[str, Shape], ...] = ()
    width: int = 0
    height: int = 0
    split: str = ""


@dataclasses.dataclass
class AnnotatedFolder:
    """All annotations of a folder.

    Attributes:
        images: In the order of the files.
        classes: All names of classes.
        rejected: (path, reason) of images that cannot be used.
        files: The files that were read.
        notes: For each remark, the number of what it is about.
    """

    images: list[AnnotatedImage] = dataclasses.field(default_factory=list)
    classes: list[str] = dataclasses.field(default_factory=list)
    rejected: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    files: list[str] = dataclasses.field(default_factory=list)
    notes: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def add_classes(self, names: Iterable[str]) -> None:
        self.classes += [name for name in dict.fromkeys(names) if name not in self.classes]


class ImageIndex:
    """The images below a folder. `paths`: relative to it, with slashes."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = sorted(path for path in paths if path.lower().endswith(IMAGE_ENDINGS))
        self._known = set(self.paths)
        self._by_name: dict[str, list[str]] = collections.defaultdict(list)
        for path in self.paths:
            self._by_name[posixpath.basename(path)].append(path)

    def find(self, name: str, folder: str, split: str = "") -> str:
        """Returns the path of an image.

        Args:
            name: As the annotations have it, relative to `folder` or to another folder below the root.
            folder: Of the annotations, relative to the root.
            split: Of several images of this name, that in a folder of this split is meant.

        Raises:
            EntryError: There is no such image, there are several, or the path leads out of the root.
        """
        path = safe_path(name, folder)
        inside = [candidate for candidate in (path, posixpath.join(folder, "images", name)) if candidate in self._known]
        if inside:
            return inside[0]
        tail = "/" + re.sub(r"^(\.\./)+", "", posixpath.normpath(name.replace("\\", "/")))
        fitting = [path for path in self._by_name[posixpath.basename(tail)] if f"/{path}".endswith(tail)]
        if len(fitting) > 1 and split:
            fitting = [path for path in fitting if split_of(path) == split] or fitting
        if len(fitting) > 1:
            raise EntryError(f"several images of the name {name!r}: {fitting[0]!r}, {fitting[1]!r}")
        if not fitting:
            raise EntryError(f"the image {name!r} is not there")
        return fitting[0]

    def below(self, folder: str) -> list[str]:
        """Returns the images in `folder` and in the folders inside it."""
        return [path for path in self.paths if path.startswith(f"{folder}/")] if folder else self.paths


def safe_path(name: str, folder: str) -> str:
    """Joins `folder` and `name`. Raises EntryError if the result is not below the root folder."""
    plain = name.replace("\\", "/")
    if plain.startswith("/") or re.match(r"[A-Za-z]:", plain):
        raise EntryError(f"expected a path relative to --images, received the absolute path {name!r}")
    path = posixpath.normpath(posixpath.join(folder, plain))
    if path == ".." or path.startswith("../") or "\0" in path:
        raise EntryError(f"expected a path inside --images, received {name!r}, which leads out of it")
    return path


def split_of(path: str) -> str:
    """Returns "train", "val" or "test" if a folder of `path`, or a word in a file's name, says so, else ""."""
    folders, name = posixpath.split(path)
    parts = [*folders.split("/")[::-1], *re.split(r"[\W_]+", posixpath.splitext(name)[0])]
    return next((split for part in parts if part and (split := folder_names.split(part))), "")


def folder_split(path: str) -> str:
    """Returns "train", "val" or "test" if a folder of `path` says so, else ""."""
    return split_of(posixpath.dirname(path) + "/")


def read_text_file(root: str, file: str, max_bytes: int = MAX_BYTES) -> bytes:
    """Reads a file of annotations. Raises UserError if it is too large or cannot be read."""
    path = os.path.join(root, file)
    try:
        size = os.path.getsize(path)
        if size > max_bytes:
            raise UserError(
                f"--images: {file}: expected annotations of at most {max_bytes >> 20:,} MiB, received "
                f"{size >> 20:,}; divide the file"
            )
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise UserError(f"--images: {file}: expected a readable file ({error.strerror}); check it") from error


def load_json(root: str, file: str, max_bytes: int = MAX_BYTES) -> dict:
    """Reads a JSON object.

    Raises:
        UserError: The file is no JSON object, or holds NaN or Infinity, which JSON does not have.
    """
    data = read_text_file(root, file, max_bytes)
    try:
        content = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"--images: {file}, {line}: expected JSON ({error.msg}); export it again") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"--images: {file}: expected JSON ({error}); export it again") from error
    if not isinstance(content, dict):
        raise UserError(f"--images: {file}: expected a JSON object, received {type(content).__name__}")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def require_key(entry: Any, key: str, kind: type | tuple[type, ...], name: str) -> Any:
    """Returns `entry[key]`.

    Args:
        entry: An object of the JSON.
        key: The key.
        kind: The type of its value.
        name: Of the object, for the message.

    Raises:
        EntryError: There is no such key, or its value is of another type.
    """
    if not isinstance(entry, dict) or key not in entry:
        raise EntryError(f"{name}: expected the key {key!r}")
    value = entry[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise EntryError(f"{name}.{key}: expected {_describe_kind(kind)}, received {shortened(value)}")
    return value


def _describe_kind(kind: type | tuple[type, ...]) -> str:
    words = {list: "a list", dict: "an object", str: "a text", int: "a whole number", float: "a number"}
    return words[kind[-1] if isinstance(kind, tuple) else kind]


def shortened(value: Any) -> str:
    """Returns `value` in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def finite(values: Sequence[Any], name: str) -> list[float]:
    """Returns `values` as floats. Raises EntryError if one is no finite number."""
    numbers = []
    for value in values:
        try:
            number = math.nan if isinstance(value, bool) or value is None else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise EntryError(f"{name}: expected numbers, received {shortened(value)}")
        numbers.append(number)
    return numbers


def polygon_points(values: Sequence[Any], name: str, at_least: int = MIN_POINTS) -> tuple[tuple[float, float], ...]:
    """Pairs x, y, x, y, ... to points.

    Raises:
        EntryError: A value is no number, there is an odd number of them, or there are too few points.
    """
    numbers = finite(values, name)
    if len(numbers) % 2:
        raise EntryError(f"{name}: expected pairs x, y, received {len(numbers)} numbers")
    points = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    if len(points) < at_least:
        raise EntryError(f"{name}: expected {at_least} points or more, received {len(points)}")
    return points
