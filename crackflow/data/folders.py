"""Listing of the files below a folder of photographs, without those that operating systems leave there."""

import collections
import os
from collections.abc import Iterator

from crackflow.core import system_files


def walk(
    root: str,
    folder: str,
    rejected: list[tuple[str, str]],
    without: str = "",
    passed_over: collections.Counter | None = None,
) -> Iterator[str]:
    """Yields the paths, relative to `root`, of all files under `folder`. Links to folders are followed, once each.

    Args:
        root: folder that the paths are relative to.
        folder: folder to list, relative to `root`; empty for `root` itself.
        rejected: receives (path, reason) of each folder that can't be read.
        without: folder that is skipped, such as results that lie among the photographs.
        passed_over: counts the files and folders of the system that are skipped, by kind.
    """
    own = os.path.realpath(without) if without else ""
    seen = set()
    pending = [folder.replace(os.sep, "/")]  # a dataset names its files alike on every system
    while pending:
        current = pending.pop()
        try:
            status = os.stat(os.path.join(root, current))
            entries = sorted(os.scandir(os.path.join(root, current)), key=lambda entry: entry.name)
        except OSError as error:
            rejected.append((current, f"unreadable folder: {error.strerror}"))
            continue
        # Some file systems of Windows number no files.
        folder_id = (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(os.path.join(root, current))
        if folder_id in seen:
            rejected.append((current, "a link to a folder that was read already (a loop?)"))
            continue
        seen.add(folder_id)
        for entry in entries:
            path = f"{current}/{entry.name}" if current else entry.name
            is_a_folder = is_folder(entry)
            if kind := system_files.kind(entry.name, is_a_folder):
                if passed_over is not None:
                    passed_over[kind] += 1
            elif is_a_folder:
                if os.path.realpath(entry.path) != own:
                    pending.append(path)
            else:
                yield path


def is_folder(entry: os.DirEntry) -> bool:
    """Whether `entry` is a folder or a link to one; False where that can't be determined."""
    try:
        return entry.is_dir()
    except OSError:
        return False
