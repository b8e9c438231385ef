"""List the files of a source folder with their labels, masks and source photographs.

Synopsis::

    layout_scan = layouts.scan_layout("photos", Layout.AUTO, positive_class="")
    layout_scan.layout, layout_scan.classes                 # Layout.CLASSES, ("Negative", "Positive")
    layout_scan.files[0].path, layout_scan.files[0].label   # "Positive/00001.jpg", 1

Covered: one folder per class, with or without `masks/` of the cracked images beside them, and such pairs of folders
inside others (bridge 1/cracked, train/cracked, test/cracked); SDNET2018 (`D|P|W` / `C?|U?`, or Decks/Cracked ...);
`images/` + `masks/`, cut to labelled tiles later; annotations of labelling tools (`annotations`). `folder_names`
defines the meaning of folder names, `folder_splits` what becomes of train/ and test/.
"""

import collections
import dataclasses
import os
import re
from collections.abc import Iterable

from crackflow.conversion import annotations, class_folders, folder_names, photograph_names
from crackflow.conversion.class_folders import ClassFolder, Tree
from crackflow.conversion.source_files import CRACK_CLASSES, UNLABELLED, LayoutScan, SourceFile
from crackflow.core import system_files
from crackflow.core.config.data import Layout
from crackflow.core.errors import UserError
from crackflow.data import mask_names, rejections
from crackflow.data.folders import walk

SDNET_CLASSES = CRACK_CLASSES


def scan_layout(
    root: str, layout: Layout, positive_class: str, group_by_name: bool = True, both_classes: bool = True
) -> LayoutScan:
    """Lists the files under `root`.

    Args:
        root: The source folder.
        layout: The expected layout, or `Layout.AUTO`.
        positive_class: Name of the folder that means cracked; empty to infer it from the names.
        group_by_name: Whether files named as windows of one photograph get the same source.
        both_classes: Whether a folder of one class alone is refused.

    Raises:
        UserError: The folder cannot be read as a dataset.
    """
    if recognised := _recognise_annotations(root, layout, positive_class):
        layout_scan = annotations.scan(root, *recognised, positive_class, both_classes)
    else:
        layout_scan = _scan_folders(class_folders.tree(root, positive_class), layout, positive_class, both_classes)
        if both_classes:
            _require_both_classes(root, layout_scan)
    if group_by_name:
        return dataclasses.replace(
            layout_scan, **photograph_names.grouped(layout_scan.files, layout_scan.layout, layout_scan.notes)
        )
    return dataclasses.replace(
        layout_scan, files=[dataclasses.replace(file, source=file.path) for file in layout_scan.files]
    )


def _recognise_annotations(root: str, layout: Layout, positive_class: str) -> tuple[Layout, list[str]] | None:
    """The annotations in a folder and their layout; None if its folders are classes or masks, or are asked for."""
    if layout in (Layout.CLASSES, Layout.SDNET, Layout.MASKS) or not os.path.isdir(root):
        return None
    if layout is Layout.AUTO and class_folders.subfolders(root, collections.Counter()):
        tree = class_folders.tree(root, positive_class)
        if len({folder.label for folder in class_folders.find(tree, positive_class).folders}) == 2:
            return None
        if any(class_folders.holds_images(part.root, part.inside, masks) for part, _, masks in _mask_trees(tree)):
            return None
    return annotations.recognise(root, layout)


def _scan_folders(tree: Tree, layout: Layout, positive_class: str, both_classes: bool) -> LayoutScan:
    """Scans folders of images and masks, or of classes."""
    if layout in (Layout.AUTO, Layout.MASKS):
        trees = _mask_trees(tree)
        if not trees and (pair := _find_mask_folders(tree, layout)):
            trees = [(tree, *pair)]
        if trees:
            return _merged([_scan_masks(*parts) for parts in trees])
    return _scan_labelled(tree, layout, positive_class, both_classes)


def _mask_trees(tree: Tree) -> list[tuple[Tree, str, str]]:
    """(tree, folder of the images, folder of the masks): in the tree itself, or in each of the splits in it."""
    if pair := _find_mask_folders(tree, Layout.AUTO):
        return [(tree, *pair)]
    parts = []
    for name in tree.folders:
        inside = os.path.join(tree.inside, name)
        names = class_folders.subfolders(os.path.join(tree.root, inside), collections.Counter())
        part = dataclasses.replace(tree, inside=inside, folders=names)
        if folder_names.split(name) and (pair := _find_mask_folders(part, Layout.AUTO)):
            parts.append((part, *pair))
    return parts if len(parts) > 1 else []


def _merged(scans: list[LayoutScan]) -> LayoutScan:
    """All files of several folders with masks."""
    files = sorted((file for part in scans for file in part.files), key=_by_path)
    rejected = [row for part in scans for row in part.rejected]
    notes = sum((part.notes for part in scans), collections.Counter())
    return dataclasses.replace(scans[0], files=files, rejected=rejected, notes=notes)


def _find_mask_folders(tree: Tree, layout: Layout) -> tuple[str, str] | None:
    """Names of the folders of the images and of their masks, or None if the names are not unambiguous.

    Raises:
        UserError: The masks layout was requested and one of the folders is missing.
    """
    if {"images", "masks"} <= set(tree.folders):
        return "images", "masks"
    roles = {role: [name for name in tree.folders if folder_names.role(name) == role] for role in ("images", "masks")}
    if layout is Layout.MASKS:
        missing = next((role for role, names in roles.items() if len(names) != 1), None)
        if missing:
            listed = ", ".join(tree.folders)
            raise UserError(f"--layout=masks: expected {missing}/ in {tree.root!r}, found {listed}")
    elif any(len(names) != 1 for names in roles.values()) or len(tree.folders) != 2:
        return None
    return roles["images"][0], roles["masks"][0]


def find_masks(root: str, images: Iterable[str]) -> dict[str, str]:
    """Finds the masks of images in a folder that `scan_layout` has read with the masks layout.

    Args:
        root: The source folder.
        images: Paths relative to `root`.

    Returns:
        Path of each image that has a mask -> path of its mask, both relative to `root`.

    Raises:
        UserError: The folder can no longer be read with the masks layout.
    """
    tree = class_folders.tree(root, "")
    images, mask_of = list(images), {}
    for part, images_folder, masks_folder in _mask_trees(tree) or [(tree, *_find_mask_folders(tree, Layout.MASKS))]:
        masks, folder = _Masks(part, masks_folder, []), os.path.join(part.inside, images_folder)
        within = [image for image in images if image.startswith(folder.replace(os.sep, "/") + "/")]
        mask_of |= {image: mask for image in within if (mask := masks.find_or_empty(image, folder))}
    return mask_of


def _require_no_splits(tree: Tree) -> None:
    """Raises UserError if two or more of the folders are splits, in which there are no folders of both classes."""
    names = {folder_names.split(name): name for name in tree.folders if folder_names.split(name)}
    if len(names) > 1:
        listed = " and ".join(sorted(names.values()))
        raise UserError(
            f"--images: {listed} in {tree.root!r} look like splits of one set: expected folders of both classes in "
            "them, such as cracked/ and clean/, or images/ and masks/ in each; name the class that means cracked with "
            "--positive_class"
        )


def _scan_labelled(tree: Tree, layout: Layout, positive_class: str, both_classes: bool) -> LayoutScan:
    """Scans class folders that lie directly in the folder, or deeper."""
    is_direct = any(name == positive_class or folder_names.label(name) is not None for name in tree.folders)
    if is_direct and layout is not Layout.SDNET:
        return _scan_classes(tree, positive_class, both_classes)
    nested = class_folders.find(tree, positive_class)
    if layout is Layout.SDNET and not nested.folders:
        raise UserError(
            f"--layout=sdnet: expected folders such as D/CD and D/UD, or Decks/Cracked and Decks/Non-cracked, in "
            f"{tree.root!r}, found {', '.join(tree.folders[:6])}"
        )
    if layout is not Layout.SDNET and len({folder.label for folder in nested.folders}) != 2:
        _require_no_splits(tree)
        return _scan_classes(tree, positive_class, both_classes)
    tree.passed_over.update(nested.passed_over)
    return _scan_nested(tree, layout, nested.folders, nested.strays)


def _scan_nested(tree: Tree, layout: Layout, folders: list[ClassFolder], strays: list[str]) -> LayoutScan:
    rejected = [(stray, "pictures in no class folder, passed over") for stray in strays]
    files = []
    for folder in folders:
        for path in walk(tree.root, folder.path, rejected, passed_over=tree.passed_over):
            files.append((SourceFile(path, folder.label, path), folder.surface))
    is_sdnet = layout is Layout.SDNET or (layout is Layout.AUTO and _is_sdnet(folders, files))
    names = [{os.path.basename(folder.path) for folder in folders if folder.label == label} for label in (0, 1)]
    classes = SDNET_CLASSES
    if not is_sdnet and all(len(class_names) == 1 for class_names in names):
        classes = names[0].pop(), names[1].pop()
    if is_sdnet:
        # 7001-115.jpg is window 115 of photograph 7001: windows of one photograph stay together.
        files = [(dataclasses.replace(file, source=_sdnet_source(file.path, surface)), "") for file, surface in files]
    kind = Layout.SDNET if is_sdnet else Layout.CLASSES
    return LayoutScan(
        kind, classes, sorted((file for file, _ in files), key=_by_path), rejected, passed_over=tree.passed_over
    )


def _is_sdnet(folders: list[ClassFolder], files: list[tuple[SourceFile, str]]) -> bool:
    """Whether the folders are named as in SDNET2018; if only the surfaces are, most files must be as well."""
    if not all(folder.surface for folder in folders):
        return False
    named = sum(re.fullmatch(r"\d+-\d+\.\w+", os.path.basename(file.path)) is not None for file, _ in files)
    return all(folder.is_coded for folder in folders) or named > 0.8 * len(files)


def _sdnet_source(path: str, surface: str) -> str:
    return f"{surface}/{os.path.basename(path).rsplit('-', 1)[0]}"


def _require_both_classes(root: str, layout_scan: LayoutScan) -> None:
    if layout_scan.layout is Layout.MASKS:
        if not layout_scan.files:
            why = rejections.most_common(layout_scan.rejected)
            expected = "pictures that have masks" if layout_scan.rejected else "pictures"
            images_folder = os.path.join(root, "images")
            raise UserError(
                f"--images: expected {expected} in {images_folder!r}, found none" + (f"; {why}" if why else "")
            )
        return
    for label, name in enumerate(layout_scan.classes):
        if not any(file.label == label for file in layout_scan.files):
            class_rejected = [row for row in layout_scan.rejected if name in row[0].split("/")]
            why = (
                rejections.most_common(class_rejected)
                or system_files.summary(layout_scan.passed_over)
                or "the folder is empty"
            )
            raise UserError(
                f"--images: expected images of both classes, found none of {name!r} in {root!r}; add some ({why})"
            )


def _scan_classes(tree: Tree, positive_class: str, both_classes: bool) -> LayoutScan:
    masks_folders = [name for name in tree.folders if folder_names.role(name) == "masks"]
    # "target" and "background" are two classes; beside two other folders, or beside "cracked", "target" contains masks.
    others = [name for name in tree.folders if name not in masks_folders]
    is_beside = len(others) == 2 or (len(others) == 1 and folder_names.label(others[0]) == 1 and not positive_class)
    masks_folder = (
        "masks" if "masks" in tree.folders else masks_folders[0] if len(masks_folders) == 1 and is_beside else ""
    )
    folders = [name for name in tree.folders if name != masks_folder]
    if not both_classes and len(folders) == 1:
        return _scan_one_class(tree, folders[0], positive_class)
    unlabelled = [name for name in folders if folder_names.role(name) == "unlabelled"] if len(folders) > 2 else []
    folders = [name for name in folders if name not in unlabelled]
    if len(folders) != 2:
        listed = ", ".join(folders[:6])
        raise UserError(
            f"--images: expected two class folders in {tree.root!r}, one with cracks and one without, "
            f"found {len(folders)}: {listed}; move the others elsewhere"
        )
    positive = _choose_positive_class(folders, positive_class)
    negative = next(name for name in folders if name != positive)
    if folder_names.role(negative) == "images" and not positive_class:
        raise UserError(
            f"--images: expected a folder of clean images beside {positive!r} in {tree.root!r}, received {negative!r}, "
            f"whose name does not say that they are clean; rename it, or give --positive_class={positive}"
        )
    files, rejected, notes = [], [], collections.Counter()
    if class_folders.has_images(os.path.join(tree.root, tree.inside)):
        rejected.append((tree.inside or os.curdir, "pictures in no class folder, passed over"))
    for folder in (os.path.join(tree.inside, name) for name in unlabelled):
        if any(True for _ in walk(tree.root, folder, [])):
            rejected.append((folder, "pictures without a label, passed over"))
    masks = _Masks(tree, masks_folder, rejected) if masks_folder else None
    for label, name in enumerate((negative, positive)):
        folder = os.path.join(tree.inside, name)
        paths = list(walk(tree.root, folder, rejected, passed_over=tree.passed_over))
        strangers = class_folders.strangers(folder, label, paths)
        rejected += strangers.items()
        for path in paths:
            if path not in strangers:
                mask = masks.find_or_empty(path, folder) if label and masks else ""
                files.append(SourceFile(path, label, path, mask))
    if masks:
        masks.add_note(notes)
        if without := sum(file.label == 1 and not file.mask for file in files):
            notes[f"pictures of {positive!r} to which no mask in {masks_folder}/ belongs by its name"] += without
    return LayoutScan(
        Layout.CLASSES, (negative, positive), sorted(files, key=_by_path), rejected, notes, tree.passed_over
    )


def _scan_one_class(tree: Tree, name: str, positive_class: str) -> LayoutScan:
    label = 1 if name == positive_class else folder_names.label(name)
    if label is None:
        raise UserError(f"--images: expected a name that says whether {name!r} in {tree.root!r} is cracked; rename it")
    rejected: list[tuple[str, str]] = []
    paths = walk(tree.root, os.path.join(tree.inside, name), rejected, passed_over=tree.passed_over)
    files = sorted((SourceFile(path, label, path) for path in paths), key=_by_path)
    classes = SDNET_CLASSES[0] if label else name, name if label else SDNET_CLASSES[1]
    return LayoutScan(Layout.CLASSES, classes, files, rejected, passed_over=tree.passed_over)


def _choose_positive_class(folders: list[str], positive_class: str) -> str:
    if positive_class:
        if positive_class not in folders:
            raise UserError(f"--positive_class: expected one of {', '.join(folders)}, received {positive_class!r}")
        return positive_class
    positive = [name for name in folders if folder_names.label(name) == 1]
    negative = [name for name in folders if folder_names.label(name) == 0]
    if len(positive) == 1:
        return positive[0]
    if len(negative) == 1:
        return next(name for name in folders if name != negative[0])
    raise UserError(f"expected --positive_class to name the folder that means cracked: {' or '.join(folders)}")


def _scan_masks(tree: Tree, images_folder: str, masks_folder: str) -> LayoutScan:
    files, rejected, notes = [], [], collections.Counter()
    masks = _Masks(tree, masks_folder, rejected)
    folder = os.path.join(tree.inside, images_folder)
    for path in walk(tree.root, folder, rejected, passed_over=tree.passed_over):
        try:
            files.append(SourceFile(path, UNLABELLED, path, masks.find(path, folder)))
        except LookupError as error:
            rejected.append((path, f"{error.args[0]} in {masks_folder}/"))
    masks.add_note(notes)
    return LayoutScan(Layout.MASKS, SDNET_CLASSES, sorted(files, key=_by_path), rejected, notes, tree.passed_over)


class _Masks:
    """The masks in the folder `name` of `tree`, indexed by the names of their images."""

    def __init__(self, tree: Tree, name: str, rejected: list[tuple[str, str]]) -> None:
        self._folder = os.path.join(tree.inside, name)
        paths = walk(tree.root, self._folder, rejected, passed_over=tree.passed_over)
        self._index = mask_names.MaskIndex(os.path.relpath(path, self._folder) for path in paths)

    def find(self, path: str, folder: str) -> str:
        """Returns the mask of the image `path` in the folder `folder`. Raises LookupError with the reason."""
        return os.path.join(self._folder, self._index.find(os.path.relpath(path, folder)))

    def find_or_empty(self, path: str, folder: str) -> str:
        """Like `find`, but returns an empty string if there is no mask."""
        try:
            return self.find(path, folder)
        except LookupError:
            return ""

    def add_note(self, notes: collections.Counter) -> None:
        if self._index.loosely:
            notes["masks found by a name that differs from the picture's, as 1_mask.png does from 1.jpg"] += (
                self._index.loosely
            )


def _by_path(file: SourceFile) -> str:
    return file.path
