"""The files below a folder of photographs, less what systems leave there."""

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
    """Paths relative to `root` of all files under `folder`, empty for `root` itself; links to folders are followed,
    once each. The folder `without` is passed over: results that lie among the photographs; and what the system keeps
    there, which `passed_over` counts by kind."""
    own = os.path.realpath(without) if without else ""
    seen = set()
    waiting = [folder.replace(os.sep, "/")]  # a data set names its files alike on every system
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
            path = f"{here}/{entry.name}" if here else entry.name
            is_a_folder = is_folder(entry)
            if kind := system_files.kind(entry.name, is_a_folder):
                if passed_over is not None:
                    passed_over[kind] += 1
            elif is_a_folder:
                if os.path.realpath(entry.path) != own:
                    waiting.append(path)
            else:
                yield path


def is_folder(entry: os.DirEntry) -> bool:
    """Whether it is a folder or a link to one; not, where that can't be told."""
    try:
        return entry.is_dir()
    except OSError:
        return False
