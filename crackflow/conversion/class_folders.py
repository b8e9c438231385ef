"""Find the class folders: directly in the root folder, in its only subfolder, or deeper.

Synopsis::

    tree = class_folders.tree("archive", positive_class="")
    tree.inside, tree.folders       # "SDNET2018", ["Decks", "Walls"]
    result = class_folders.find(tree, "")
    result.folders[0]       # ClassFolder("SDNET2018/Decks/Cracked", label=1, surface="D", is_coded=False)
"""

import collections
import dataclasses
import os
from collections.abc import Sequence
from typing import NamedTuple

from crackflow.conversion import folder_names
from crackflow.core import system_files
from crackflow.core.errors import UserError
from crackflow.data import folders, image_file, mask_names

MAX_DEPTH = 6  # below the root folder
IMAGE_ENDINGS = tuple(ending for endings in image_file.EXTENSIONS.values() for ending in endings)


@dataclasses.dataclass(frozen=True)
class Tree:
    """The folders in which classes are searched.

    Attributes:
        root: The root folder.
        inside: Path, relative to `root`, of the folder that holds `folders`; empty for `root` itself.
        folders: Names of the folders in `inside`.
        passed_over: Number of skipped files and folders of the operating system, by kind.
    """

    root: str
    inside: str
    folders: list[str]
    passed_over: collections.Counter


@dataclasses.dataclass(frozen=True)
class ClassFolder:
    """One class folder.

    Attributes:
        path: Relative to the root.
        label: 1 for cracked, 0 for clean.
        surface: D, P or W of SDNET2018, or empty.
        is_coded: Whether its name is an SDNET2018 code such as CD or UW.
    """

    path: str
    label: int
    surface: str
    is_coded: bool


class ClassFolders(NamedTuple):
    """The result of `find`.

    Attributes:
        folders: Sorted by path.
        strays: Folders with images that belong to no class folder.
        passed_over: Number of skipped folders of the operating system, by kind.
    """

    folders: list[ClassFolder]
    strays: list[str]
    passed_over: collections.Counter


def tree(root: str, positive_class: str) -> Tree:
    """Returns the tree below `root`, descending while there is only one subfolder.

    Args:
        root: The root folder.
        positive_class: Name of the class folder that means cracked, or empty.

    Raises:
        UserError: `root` is not a folder, or contains no folder.
    """
    if not os.path.isdir(root):
        kind = "a file" if os.path.exists(root) else "nothing there"
        raise UserError(f"--images: expected a folder, received {root!r} ({kind}); check the path")
    passed_over = collections.Counter()
    inside, folders = "", subfolders(root, passed_over)
    if not folders:
        raise UserError(
            f"--images: expected class folders in {root!r}, such as Positive/ and Negative/, found none; "
            "put the images of each class in a folder of its own"
        )
    for _ in range(MAX_DEPTH):  # an archive unpacks into a folder of its own
        if len(folders) > 1 or folders[0] == positive_class or folder_names.label(folders[0]) is not None:
            break
        within = subfolders(os.path.join(root, inside, folders[0]), passed_over)
        if not within:
            break
        inside, folders = os.path.join(inside, folders[0]), within
    return Tree(root, inside, folders, passed_over)


def subfolders(folder: str, passed_over: collections.Counter) -> list[str]:
    """Returns the names of the folders in `folder` that may hold images; an empty list if it cannot be read."""
    try:
        names = [entry.name for entry in os.scandir(folder) if folders.is_folder(entry)]
    except OSError:
        return []
    kinds = {name: system_files.kind(name, True) for name in names}
    passed_over.update(kind for kind in kinds.values() if kind)
    return sorted(name for name, kind in kinds.items() if not kind)


def find(tree: Tree, positive_class: str) -> ClassFolders:
    """Returns the class folders in `tree`, down to `MAX_DEPTH`."""
    class_folders, strays, visited, passed_over = [], [], set(), collections.Counter()
    pending = [(tree.inside, tree.folders, 0)]
    while pending:
        inside, names, depth = pending.pop()
        real_path = os.path.realpath(os.path.join(tree.root, inside))
        if real_path in visited:
            continue
        visited.add(real_path)
        if has_images(real_path):
            strays.append(inside or os.curdir)
        labels = _labels(os.path.basename(real_path), names, positive_class)
        surface = folder_names.surface(os.path.basename(real_path))
        for name in reversed(names):
            path = os.path.join(inside, name)
            if name in labels:
                is_coded = name in CODES
                class_folders.append(ClassFolder(path, labels[name], name[1] if is_coded else surface, is_coded))
            elif depth < MAX_DEPTH:
                pending.append((path, subfolders(os.path.join(tree.root, path), passed_over), depth + 1))
    return ClassFolders(sorted(class_folders, key=lambda folder: folder.path), sorted(strays), passed_over)


CODES = {f"{kind}{surface}": int(kind == "C") for kind in "CU" for surface in "DPW"}  # SDNET2018's class folders


def _labels(parent: str, names: list[str], positive_class: str) -> dict[str, int]:
    """Labels of those folders among `names`, all in the folder `parent`, that are classes."""
    if positive_class in names and len(names) == 2:
        return {name: int(name == positive_class) for name in names}
    labels = {name: folder_names.label(name) for name in names}
    for name in names:
        if name in CODES and (folder_names.surface(parent) == name[1] or {f"C{name[1]}", f"U{name[1]}"} <= set(names)):
            labels[name] = CODES[name]
    return {name: label for name, label in labels.items() if label is not None}


def holds_images(root: str, inside: str, name: str) -> bool:
    """Whether there is an image in the folder `name`, or deeper, of the folder `inside` of `root`."""
    paths = folders.walk(root, os.path.join(inside, name), [])
    return any(path.lower().endswith(IMAGE_ENDINGS) for path in paths)


def strangers(folder: str, label: int, paths: Sequence[str]) -> dict[str, str]:
    """Finds files in a class folder that are no pictures of that class.

    Args:
        folder: The class folder, relative to the root.
        label: Of the class.
        paths: Of all files in it, relative to the root.

    Returns:
        Path -> why it is left out: it lies in a folder that names the other class, or it is the mask of a picture
        there, by the name of its folder or by its own.
    """
    stems = {os.path.splitext(path)[0].lower() for path in paths}
    parents = {os.path.dirname(path) for path in paths}
    reasons = {}
    for path in paths:
        inner = os.path.relpath(os.path.dirname(path), folder).split(os.sep)
        if any(folder_names.label(name) == 1 - label for name in inner):
            reasons[path] = "its folder names the other class"
        elif _is_among_masks(folder, inner, parents):
            reasons[path] = "a mask: its folder lies beside one of pictures"
        elif (picture := mask_names.stem_of_picture(path)) and picture in stems:
            reasons[path] = "a mask: the picture of that name lies beside it"
    return reasons


def _is_among_masks(folder: str, inner: Sequence[str], parents: set[str]) -> bool:
    """Whether the folder `inner`, its parts below the class folder, holds masks of pictures in it or beside it."""
    for depth, name in enumerate(inner):
        if folder_names.role(name) != "masks":
            continue
        above = os.path.join(folder, *inner[:depth])
        beside = {os.path.relpath(parent, above).split(os.sep)[0] for parent in parents if _is_within(parent, above)}
        if os.curdir in beside or any(folder_names.role(part) == "images" for part in beside):
            return True
    return False


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def has_images(folder: str) -> bool:
    """Whether there is an image directly in `folder`; False if it cannot be read."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return False
    return any(entry.name.lower().endswith(IMAGE_ENDINGS) and not folders.is_folder(entry) for entry in entries)
