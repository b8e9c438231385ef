"""Splits that the folders or the annotations of a dataset name: train/, valid/, test/.

Synopsis::

    layout_scan = folder_splits.settle(layout_scan, fractions=())
    layout_scan.files[0].split       # "train"; empty for all files if the images are to be split anew

They are kept if every file has one and there are two or more, and if the user did not ask for other fractions. A
published test set is thus the test set of the conversion, and figures on it can be compared.
"""

import collections
import dataclasses
from collections.abc import Sequence

from crackflow.conversion import folder_names
from crackflow.conversion.source_files import LayoutScan
from crackflow.data import splits


def settle(layout_scan: LayoutScan, fractions: Sequence[float]) -> LayoutScan:
    """Decides whether the splits of the folders are kept, and notes it.

    Args:
        layout_scan: The files; those without a split get that of their folders.
        fractions: Of --split; empty if the user did not ask for any.

    Returns:
        The files with their splits, all of which are empty if they are not kept.
    """
    names = [file.split or of_path(file.path) for file in layout_scan.files]
    counts = collections.Counter(names)
    is_kept = len(counts) > 1 and not counts[""] and not fractions
    files = [
        dataclasses.replace(file, split=name if is_kept else "")
        for file, name in zip(layout_scan.files, names, strict=True)
    ]
    notes = layout_scan.notes.copy()
    if is_kept:
        described = ", ".join(f"{name} {counts[name]:,}" for name in splits.NAMES if counts[name])
        notes[_kept_note(described, has_val=counts["val"] > 0)] += len(files)
    elif len(set(counts) - {""}) > 1:
        listed = ", ".join(sorted(set(counts) - {""}))
        why = "as --split asks" if fractions else "since others are in none"
        notes[f"in folders that look like splits ({listed}): they are put together and split anew, {why}"] += sum(
            count for name, count in counts.items() if name
        )
    return dataclasses.replace(layout_scan, files=files, notes=notes)


def _kept_note(described: str, has_val: bool) -> str:
    note = f"in the splits of their folders or annotations, which are kept ({described})"
    return note if has_val else f"{note}; there is no val, so part of train becomes it"


def of_path(path: str) -> str:
    """Returns "train", "val" or "test" if a folder of `path` says so, else ""."""
    return next((split for part in path.split("/")[:-1] if (split := folder_names.split(part))), "")
