"""From what was seen to who goes where: groups, conflicts, splits, and what a random split would have leaked.

Synopsis::

    sorted_out = grouping.assign_splits(files, seen, looks, config, classes=("clean", "cracked"))
    sorted_out.entries["train"], sorted_out.leaks["random_split_twins"]
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from crackflow.conversion import large_groups, near_duplicates
from crackflow.conversion.layouts import UNLABELLED, SourceFile
from crackflow.conversion.scan import ScanResult
from crackflow.conversion.shards import SourceImage
from crackflow.core.config.data import ConvertConfig, GroupBy
from crackflow.data import splits

IN_OTHER_CLASS = "the same picture is in the other class"


@dataclasses.dataclass(frozen=True)
class SplitAssignment:
    """`entries`: per split; `rejected`: (path, reason) of pictures in both classes and of near copies beyond the limit;
    `leaks`: counts for the summary; `advice`: on groups that are too large for the splits, line by line;
    `conflict`: on a large group in both classes."""

    entries: dict[str, list[SourceImage]]
    rejected: list[tuple[str, str]]
    leaks: dict[str, int]
    advice: list[str]
    conflict: str


def assign_splits(
    files: Sequence[SourceFile],
    seen: ScanResult,
    looks: near_duplicates.ImageSignatures,
    config: ConvertConfig,
    classes: Sequence[str],
) -> SplitAssignment:
    """`files`, `seen.accepted`: as scanned and looked at; row k of `looks` is the k-th accepted file; of `config`: what
    must stay together, how many near copies stay at all, the splits and the seed."""
    used = [files[row] for row in seen.accepted]
    looks, group_by = looks.first(len(used)), config.group_by
    by_bytes = near_duplicates.duplicate_groups(looks, near=False)
    picture = near_duplicates.duplicate_groups(looks, near=True)
    asked = picture if group_by is GroupBy.NEAR_DUPLICATES else by_bytes
    torn = _in_both_classes(used, asked if group_by is not GroupBy.NONE else by_bytes)
    surplus = _surplus(used, picture, torn, config.max_near_copies)
    rejected = torn | surplus
    keep = np.array([row for row in range(len(used)) if row not in rejected], np.int64)
    group = np.arange(len(used)) if group_by is GroupBy.NONE else _with_sources(asked, used)

    # One row an image from here on: a photograph with a mask counts once for each of its windows.
    windows = [[window.label for window in seen.windows[row]] or [used[row].label] for row in keep]
    owner = np.repeat(keep, [len(labels) for labels in windows])
    labels = np.array([label for one in windows for label in one], np.int64)
    has_any = labels != UNLABELLED
    owner, labels = owner[has_any], labels[has_any]
    fractions = config.split or splits.default_fractions(len(labels))
    split = splits.assign(labels, group[owner], fractions, config.seed)
    counts = _leak_counts(
        by_bytes[keep], picture[keep], _with_sources(picture, used)[owner], labels, split, config.seed
    )
    counts |= {"images": len(owner), "groups": len(np.unique(group[owner])), "conflicts": len(torn)}
    if config.max_near_copies:
        counts["surplus"] = len(surplus)
    paths = [file.path for file in used]
    images = large_groups.Images(labels, group[owner], split, owner, picture[owner])
    return SplitAssignment(
        _entries(used, seen, looks, group, owner, split),
        [(used[row].path, reason) for row, reason in sorted(rejected.items())],
        counts,
        large_groups.advice(images, paths, config.split, config.seed, classes, group_by),
        _conflict_advice(used, picture, torn) if group_by is GroupBy.NEAR_DUPLICATES else "",
    )


def _conflict_advice(used: Sequence[SourceFile], picture: np.ndarray, torn: dict[int, str]) -> str:
    labels = np.array([file.label for file in used])
    return large_groups.conflict_advice([file.path for file in used], picture, labels, sorted(torn))


def _surplus(used: Sequence[SourceFile], picture: np.ndarray, rejected: dict[int, str], limit: int) -> dict[int, str]:
    """Row -> reason, for every near copy beyond `limit` of one picture and class; none when `limit` is 0."""
    if not limit:
        return {}
    rows = np.array([row for row in range(len(used)) if row not in rejected], np.int64)
    labels = np.array([used[row].label for row in rows], np.int64)
    left_out = rows[large_groups.surplus(picture[rows], labels, limit)]
    size = np.bincount(picture[rows], minlength=len(used))
    return {
        row: f"one of {size[picture[row]]:,} near copies, such as {used[picture[row]].path!r}, of which "
        f"--max_near_copies={limit} keeps {limit} of a class"
        for row in left_out.tolist()
    }


def _in_both_classes(used: Sequence[SourceFile], picture: np.ndarray) -> dict[int, str]:
    """Row -> reason, for every file whose picture is found under both labels."""
    labels = np.array([file.label for file in used])
    lowest = np.full(len(used), 2)
    highest = np.full(len(used), -1)
    np.minimum.at(lowest, picture, labels)
    np.maximum.at(highest, picture, labels)
    torn = np.flatnonzero((lowest != highest)[picture])
    first = {}
    for row in torn.tolist():
        first.setdefault((int(picture[row]), int(labels[row])), used[row].path)
    return {row: f"{IN_OTHER_CLASS}: {first[int(picture[row]), 1 - int(labels[row])]!r}" for row in torn.tolist()}


def _with_sources(picture: np.ndarray, used: Sequence[SourceFile]) -> np.ndarray:
    """Groups that also hold together all files of one source photograph."""
    first, links = {}, []
    for row, file in enumerate(used):
        other = first.setdefault(file.source, row)
        if other != row:
            links.append((row, other))
    if not links:
        return picture
    rows = np.arange(len(used))
    return near_duplicates.connect(len(used), np.concatenate([np.stack([rows, picture], 1), np.array(links)]))


def _entries(
    used: Sequence[SourceFile],
    seen: ScanResult,
    looks: near_duplicates.ImageSignatures,
    group: np.ndarray,
    owner: np.ndarray,
    split: np.ndarray,
) -> dict[str, list[SourceImage]]:
    found = {name: [] for name in splits.NAMES}
    _, number = np.unique(group, return_inverse=True)
    rows, first = np.unique(owner, return_index=True)
    for row, where in zip(rows.tolist(), split[first].tolist(), strict=True):
        file, digest = used[row], looks.digest[row].tobytes()
        entry = SourceImage(
            file.path, file.label, int(number[row]), digest, seen.plain[row], seen.windows[row], seen.cells[row]
        )
        found[splits.NAMES[where]].append(entry)
    return {name: members for name, members in found.items() if members}


def _leak_counts(
    by_bytes: np.ndarray, picture: np.ndarray, kin: np.ndarray, labels: np.ndarray, split: np.ndarray, seed: int
) -> dict[str, int]:
    """What copies there are, and how many test images have kin in train: in this split, and in a random one.

    `by_bytes`, `picture`: per file; `kin` (one picture or one source photograph), `labels`, `split`: per image.
    """
    byte_copies = len(by_bytes) - len(np.unique(by_bytes))
    share = np.bincount(split, minlength=len(splits.NAMES)) / max(len(split), 1)
    random = splits.assign(labels, np.arange(len(labels)), tuple(share), seed)
    return {
        "byte_copies": byte_copies,
        "near_copies": len(picture) - len(np.unique(picture)) - byte_copies,
        "random_split_test": int((random == splits.TEST).sum()),
        "random_split_twins": splits.twins(kin, random),
        "split_twins": splits.twins(kin, split),
    }
