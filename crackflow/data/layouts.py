"""Which files a folder holds, what each one shows, and which photograph it was cut from.

Synopsis::

    found = layouts.scan("photos", Layout.AUTO, positive_class="")
    found.layout, found.classes                 # Layout.CLASSES, ("Negative", "Positive")
    found.files[0].path, found.files[0].label   # "Positive/00001.jpg", 1

Covered: one folder a class, with `masks/` of the cracked pictures beside them or without; SDNET2018 (`D|P|W` /
`C?|U?`); `images/` + `masks/`, cut to labelled windows later.
"""

import dataclasses
import os
import re
from collections.abc import Iterator

from crackflow.core.config import Layout
from crackflow.core.errors import UserError

UNLABELLED = -1
LITTER = {"thumbs.db", "desktop.ini"}
POSITIVE = {"positive", "pos", "crack", "cracks", "cracked", "withcrack", "withcracks", "defect", "defects", "damaged"}
NEGATIVE = {
    *("negative", "neg", "nocrack", "nocracks", "noncrack", "noncracks", "noncracked", "uncracked", "notcracked"),
    *("crackfree", "withoutcrack", "withoutcracks", "nodefect", "undamaged", "clean", "intact", "sound", "background"),
}
SDNET_SURFACES = ("D", "P", "W")  # bridge decks, pavements, walls


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """One file. `label`: 0 clean, 1 cracked, -1 told by its mask. `source`: files of one source stay together.
    `mask`: path of a picture of the same size, empty where there is none."""

    path: str
    label: int
    source: str
    mask: str = ""


@dataclasses.dataclass(frozen=True)
class Found:
    layout: Layout
    classes: tuple[str, str]
    files: list[File]
    rejected: list[tuple[str, str]]


def scan(root: str, layout: Layout, positive_class: str) -> Found:
    """The files under `root`, sorted by path. Raises: UserError when the folder can't be read as a data set."""
    folders = _subfolders(root)
    layout = _detect(root, folders) if layout is Layout.AUTO else layout
    if layout is Layout.MASKS:
        found = _scan_masks(root, folders)
    elif layout is Layout.SDNET:
        found = _scan_sdnet(root, folders)
    else:
        found = _scan_classes(root, folders, positive_class)
    _expect_both(root, found)
    return found


def _subfolders(root: str) -> list[str]:
    if not os.path.isdir(root):
        what = "a file" if os.path.exists(root) else "nothing there"
        raise UserError(f"--images: expected a folder, received {root!r} ({what}); check the path")
    names = sorted(entry.name for entry in os.scandir(root) if _is_folder(entry) and not entry.name.startswith("."))
    if not names:
        raise UserError(
            f"--images: expected class folders in {root!r}, such as Positive/ and Negative/, found none; "
            "put the images of each class in a folder of its own"
        )
    return names


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _detect(root: str, folders: list[str]) -> Layout:
    if {"images", "masks"} <= set(folders):
        return Layout.MASKS
    surfaces = [name for name in folders if name in SDNET_SURFACES]
    if surfaces and all(_sdnet_classes(root, name) for name in surfaces):
        return Layout.SDNET
    return Layout.CLASSES


def _sdnet_classes(root: str, surface: str) -> list[str]:
    inside = (entry.name for entry in os.scandir(os.path.join(root, surface)) if _is_folder(entry))
    return sorted(name for name in inside if name in (f"C{surface}", f"U{surface}"))


def _expect_both(root: str, found: Found) -> None:
    if found.layout is Layout.MASKS:
        if not found.files:
            raise UserError(f"--images: expected pictures in {os.path.join(root, 'images')!r}, found none")
        return
    for label, name in enumerate(found.classes):
        if not any(file.label == label for file in found.files):
            raise UserError(f"--images: expected images of both classes, found none of {name!r} in {root!r}; add some")


def _scan_classes(root: str, folders: list[str], positive_class: str) -> Found:
    has_masks = "masks" in folders
    folders = [name for name in folders if name != "masks"]
    if len(folders) != 2:
        listed = ", ".join(folders[:6])
        raise UserError(
            f"--images: expected two class folders in {root!r}, one with cracks and one without, "
            f"found {len(folders)}: {listed}; move the others elsewhere"
        )
    positive = _positive_of(folders, positive_class)
    negative = next(name for name in folders if name != positive)
    files, rejected = [], []
    masks = _masks(root, rejected) if has_masks else {}
    for label, name in enumerate((negative, positive)):
        for path in walk(root, name, rejected):
            mask = masks.get(os.path.splitext(path[len(name) + 1 :])[0], "") if label else ""
            files.append(File(path, label, path, mask))
    return Found(Layout.CLASSES, (negative, positive), sorted(files, key=_by_path), rejected)


def _positive_of(folders: list[str], positive_class: str) -> str:
    if positive_class:
        if positive_class not in folders:
            raise UserError(f"--positive_class: expected one of {', '.join(folders)}, received {positive_class!r}")
        return positive_class
    # Letters of every script stay, and digits but for a number in front: "无crack" and "0 cracks" mean no crack.
    plain = {name: re.sub(r"^\d+[-_.]|[\W_]", "", name.lower()) for name in folders}
    positive = [name for name in folders if plain[name] in POSITIVE]
    negative = [name for name in folders if plain[name] in NEGATIVE]
    if len(positive) == 1:
        return positive[0]
    if len(negative) == 1:
        return next(name for name in folders if name != negative[0])
    raise UserError(f"expected --positive_class to name the folder that means cracked: {' or '.join(folders)}")


def _scan_sdnet(root: str, folders: list[str]) -> Found:
    files, rejected = [], []
    for surface in (name for name in folders if name in SDNET_SURFACES):
        for name in _sdnet_classes(root, surface):
            for path in walk(root, f"{surface}/{name}", rejected):
                # 7001-115.jpg is window 115 of photograph 7001: windows of one photograph stay together.
                photograph = os.path.basename(path).rsplit("-", 1)[0]
                files.append(File(path, int(name[0] == "C"), f"{surface}/{photograph}"))
    return Found(Layout.SDNET, ("uncracked", "cracked"), sorted(files, key=_by_path), rejected)


def _scan_masks(root: str, folders: list[str]) -> Found:
    missing = [name for name in ("images", "masks") if name not in folders]
    if missing:
        raise UserError(f"--layout=masks: expected {missing[0]}/ in {root!r}, found {', '.join(folders)}")
    files, rejected = [], []
    masks = _masks(root, rejected)
    for path in walk(root, "images", rejected):
        mask = masks.get(os.path.splitext(path[len("images/") :])[0])
        if mask is None:
            rejected.append((path, "no mask of the same name in masks/"))
        else:
            files.append(File(path, UNLABELLED, path, mask))
    return Found(Layout.MASKS, ("uncracked", "cracked"), sorted(files, key=_by_path), rejected)


def _masks(root: str, rejected: list[tuple[str, str]]) -> dict[str, str]:
    """Paths of the masks by what they are of: their name within `masks/`, without its ending."""
    return {os.path.splitext(path[len("masks/") :])[0]: path for path in walk(root, "masks", rejected)}


def _by_path(file: File) -> str:
    return file.path


def walk(root: str, folder: str, rejected: list[tuple[str, str]], without: str = "") -> Iterator[str]:
    """Paths relative to `root` of all files under `folder`, empty for `root` itself; links to folders are followed,
    once each. The folder `without` is passed over: results that lie among the photographs."""
    own = os.path.realpath(without) if without else ""
    seen = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            facts = os.stat(os.path.join(root, here))
            entries = sorted(os.scandir(os.path.join(root, here)), key=lambda entry: entry.name)
        except OSError as error:
            rejected.append((here, f"unreadable folder: {error.strerror}"))
            continue
        # Some file systems of Windows number no files.
        folder_id = (facts.st_dev, facts.st_ino) if facts.st_ino else os.path.realpath(os.path.join(root, here))
        if folder_id in seen:
            rejected.append((here, "a link to a folder that was read already (a loop?)"))
            continue
        seen.add(folder_id)
        for entry in entries:
            path = f"{here}/{entry.name}" if here else entry.name  # a data set names its files alike on every system
            if entry.name.startswith(".") or entry.name.lower() in LITTER:
                continue
            if _is_folder(entry):
                if os.path.realpath(entry.path) != own:
                    waiting.append(path)
            else:
                yield path
