"""Assign scanned images to splits: groups, label conflicts, splits, and the leaks of a random split.

Synopsis::

    assignment = grouping.assign_splits(files, scan_result, signatures, config, classes=("clean", "cracked"))
    assignment.entries["train"], assignment.leaks["random_split_twins"]
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from crackflow.conversion import large_groups, near_duplicates
from crackflow.conversion.scan import ScanResult
from crackflow.conversion.shards import SourceImage
from crackflow.conversion.source_files import UNLABELLED, SourceFile
from crackflow.core.config.data import ConvertConfig, GroupBy
from crackflow.data import splits

NO_SPLIT = -1
IN_OTHER_CLASS = "the same picture is in the other class"


@dataclasses.dataclass(frozen=True)
class SplitAssignment:
    """The result of `assign_splits`.

    Attributes:
        entries: The source images of each split.
        rejected: (path, reason) of images found in both classes and of near copies beyond the limit.
        leaks: Counts for the summary.
        advice: Lines on groups that are too large for the splits.
        conflict: A line on a large group that is in both classes, or empty.
    """

    entries: dict[str, list[SourceImage]]
    rejected: list[tuple[str, str]]
    leaks: dict[str, int]
    advice: list[str]
    conflict: str


def assign_splits(
    files: Sequence[SourceFile],
    scan_result: ScanResult,
    signatures: near_duplicates.ImageSignatures,
    config: ConvertConfig,
    classes: Sequence[str],
) -> SplitAssignment:
    """Assigns every accepted file to a split, such that each group stays in one split.

    Args:
        files: All source files.
        scan_result: The scan of `files`.
        signatures: Row k belongs to the k-th accepted file.
        config: Determines the groups, the number of near copies to keep, the split fractions and the seed.
        classes: Names of the clean and the cracked class.
    """
    accepted = [files[row] for row in scan_result.accepted]
    signatures, group_by = signatures.first(len(accepted)), config.group_by
    byte_groups = near_duplicates.duplicate_groups(signatures, near=False)
    near_groups = near_duplicates.duplicate_groups(signatures, near=True)
    requested_groups = near_groups if group_by is GroupBy.NEAR_DUPLICATES else byte_groups
    conflicts = _find_label_conflicts(accepted, requested_groups if group_by is not GroupBy.NONE else byte_groups)
    surplus = _find_surplus(accepted, near_groups, conflicts, config.max_near_copies)
    groups = np.arange(len(accepted)) if group_by is GroupBy.NONE else _merge_same_source(requested_groups, accepted)
    settled = np.array([splits.NAMES.index(file.split) if file.split else NO_SPLIT for file in accepted], np.int64)
    straddling = _find_straddling(accepted, groups, settled, conflicts | surplus)
    rejected = conflicts | surplus | straddling
    remaining = np.array([row for row in range(len(accepted)) if row not in rejected], np.int64)

    # One row per image from here on: an image with a mask counts once per tile.
    windows = [[window.label for window in scan_result.windows[row]] or [accepted[row].label] for row in remaining]
    owner = np.repeat(remaining, [len(labels) for labels in windows])
    labels = np.array([label for file_labels in windows for label in file_labels], np.int64)
    has_any = labels != UNLABELLED
    owner, labels = owner[has_any], labels[has_any]
    fractions = config.split or splits.default_fractions(len(labels))
    is_settled = bool(len(settled)) and bool((settled != NO_SPLIT).all())
    if is_settled:
        split = _keep_splits(settled[owner], labels, groups[owner], fractions, config.seed)
    else:
        split = splits.assign(labels, groups[owner], fractions, config.seed)
    counts = _count_leaks(
        byte_groups[remaining],
        near_groups[remaining],
        _merge_same_source(near_groups, accepted)[owner],
        labels,
        split,
        config.seed,
    )
    counts |= {"images": len(owner), "groups": len(np.unique(groups[owner])), "conflicts": len(conflicts)}
    if config.max_near_copies:
        counts["surplus"] = len(surplus)
    if is_settled:
        counts["straddling"] = len(straddling)
    paths = [file.path for file in accepted]
    images = large_groups.Images(labels, groups[owner], split, owner, near_groups[owner])
    return SplitAssignment(
        _entries_by_split(accepted, scan_result, signatures, groups, owner, split),
        [(accepted[row].path, reason) for row, reason in sorted(rejected.items())],
        counts,
        [] if is_settled else large_groups.advice(images, paths, config.split, config.seed, classes, group_by),
        _conflict_advice(accepted, near_groups, conflicts) if group_by is GroupBy.NEAR_DUPLICATES else "",
    )


def _conflict_advice(accepted: Sequence[SourceFile], near_groups: np.ndarray, conflicts: dict[int, str]) -> str:
    labels = np.array([file.label for file in accepted])
    return large_groups.conflict_advice([file.path for file in accepted], near_groups, labels, sorted(conflicts))


def _find_surplus(
    accepted: Sequence[SourceFile], near_groups: np.ndarray, rejected: dict[int, str], limit: int
) -> dict[int, str]:
    """Row -> reason for every near copy beyond `limit` per group and class; empty if `limit` is 0."""
    if not limit:
        return {}
    rows = np.array([row for row in range(len(accepted)) if row not in rejected], np.int64)
    labels = np.array([accepted[row].label for row in rows], np.int64)
    left_out = rows[large_groups.surplus(near_groups[rows], labels, limit)]
    size = np.bincount(near_groups[rows], minlength=len(accepted))
    return {
        row: f"one of {size[near_groups[row]]:,} near copies, such as {accepted[near_groups[row]].path!r}, of which "
        f"--max_near_copies={limit} keeps {limit} of a class"
        for row in left_out.tolist()
    }


def _find_straddling(
    accepted: Sequence[SourceFile], groups: np.ndarray, settled: np.ndarray, rejected: dict[int, str]
) -> dict[int, str]:
    """Row -> reason for every file of a group that is also in a later split: test comes last, after val.

    The test images stay as they were published, and what would give them away leaves the training images.

    Args:
        accepted: The files.
        groups: int64 [files], equal for what must stay in one split.
        settled: int64 [files], index into `splits.NAMES`, or `NO_SPLIT`.
        rejected: Files that are left out already.
    """
    rows = np.array([row for row in range(len(accepted)) if row not in rejected], np.int64)
    highest = np.full(len(accepted), NO_SPLIT)
    np.maximum.at(highest, groups[rows], settled[rows])
    straddling = rows[settled[rows] < highest[groups[rows]]]
    witness = {}
    for row in rows.tolist():
        if settled[row] == highest[groups[row]]:
            witness.setdefault(int(groups[row]), accepted[row].path)
    return {
        row: f"the same picture or photograph is in {splits.NAMES[highest[groups[row]]]}: "
        f"{witness[int(groups[row])]!r}; --split=0.8,0.1,0.1 keeps it, and splits anew"
        for row in straddling.tolist()
    }


def _keep_splits(
    settled: np.ndarray, labels: np.ndarray, groups: np.ndarray, fractions: tuple[float, ...], seed: int
) -> np.ndarray:
    """int64 [images]: the splits of the folders; where they have no val, part of train, by which training chooses."""
    split, train = settled.copy(), np.flatnonzero(settled == splits.TRAIN)
    if not (settled == splits.VAL).any() and len(train):
        share = fractions[splits.VAL] / (fractions[splits.TRAIN] + fractions[splits.VAL])
        split[train] = splits.assign(labels[train], groups[train], (1 - share, share, 0.0), seed)
    return split


def _find_label_conflicts(accepted: Sequence[SourceFile], groups: np.ndarray) -> dict[int, str]:
    """Row -> reason for every file whose group has both labels."""
    labels = np.array([file.label for file in accepted])
    lowest = np.full(len(accepted), 2)
    highest = np.full(len(accepted), -1)
    np.minimum.at(lowest, groups, labels)
    np.maximum.at(highest, groups, labels)
    conflicts = np.flatnonzero((lowest != highest)[groups])
    first = {}
    for row in conflicts.tolist():
        first.setdefault((int(groups[row]), int(labels[row])), accepted[row].path)
    return {row: f"{IN_OTHER_CLASS}: {first[int(groups[row]), 1 - int(labels[row])]!r}" for row in conflicts.tolist()}


def _merge_same_source(groups: np.ndarray, accepted: Sequence[SourceFile]) -> np.ndarray:
    """int64 [N]: `groups`, merged where files come from the same source photograph."""
    first, links = {}, []
    for row, file in enumerate(accepted):
        first_row = first.setdefault(file.source, row)
        if first_row != row:
            links.append((row, first_row))
    if not links:
        return groups
    rows = np.arange(len(accepted))
    return near_duplicates.connect(len(accepted), np.concatenate([np.stack([rows, groups], 1), np.array(links)]))


def _entries_by_split(
    accepted: Sequence[SourceFile],
    scan_result: ScanResult,
    signatures: near_duplicates.ImageSignatures,
    groups: np.ndarray,
    owner: np.ndarray,
    split: np.ndarray,
) -> dict[str, list[SourceImage]]:
    entries = {name: [] for name in splits.NAMES}
    _, number = np.unique(groups, return_inverse=True)
    rows, first = np.unique(owner, return_index=True)
    for row, split_index in zip(rows.tolist(), split[first].tolist(), strict=True):
        file, digest = accepted[row], signatures.digest[row].tobytes()
        entry = SourceImage(
            file.path,
            file.label,
            int(number[row]),
            digest,
            scan_result.can_store_as_is[row],
            scan_result.windows[row],
            scan_result.mask_bits[row],
        )
        entries[splits.NAMES[split_index]].append(entry)
    return {name: members for name, members in entries.items() if members}


def _count_leaks(
    byte_groups: np.ndarray,
    near_groups: np.ndarray,
    related: np.ndarray,
    labels: np.ndarray,
    split: np.ndarray,
    seed: int,
) -> dict[str, int]:
    """Counts copies, and test images that are related to a training image in this split and in a random split.

    Args:
        byte_groups: int64 [files], equal for byte copies.
        near_groups: int64 [files], equal for near copies.
        related: int64 [images], equal for near copies and for images from the same source photograph.
        labels: int64 [images], 0 or 1.
        split: int [images], index into `splits.NAMES`.
        seed: Of the random split.
    """
    byte_copies = len(byte_groups) - len(np.unique(byte_groups))
    split_fractions = np.bincount(split, minlength=len(splits.NAMES)) / max(len(split), 1)
    random = splits.assign(labels, np.arange(len(labels)), tuple(split_fractions), seed)
    return {
        "byte_copies": byte_copies,
        "near_copies": len(near_groups) - len(np.unique(near_groups)) - byte_copies,
        "random_split_test": int((random == splits.TEST).sum()),
        "random_split_twins": splits.twins(related, random),
        "split_twins": splits.twins(related, split),
    }
