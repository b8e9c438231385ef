"""Advice on groups that are too large to divide among the splits.

Synopsis::

    lines = large_groups.advice(images, paths, (0.8, 0.1, 0.1), 0, ("clean", "cracked"), GroupBy.NEAR_DUPLICATES)
    # [] or a line on the problem and a line on the remedy
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from crackflow.core.config.data import GroupBy
from crackflow.core.escaping import one_line
from crackflow.data import splits

# A split lacks images of a class if it has less than this fraction of the requested number.
SHORTAGE_FRACTION = 0.5
LOOK_ALIKE = "look alike"
MIN_LARGE_GROUP = splits.MIN_IMAGES  # a smaller group is not to blame for a shortage
LIMITS = [part * 10**power for power in range(4, -1, -1) for part in (5, 2, 1)]


@dataclasses.dataclass(frozen=True)
class Images:
    """One entry per image or tile.

    Attributes:
        labels: int [N], 0 or 1.
        groups: int [N], equal for images that must stay in one split.
        split: int [N], index into `splits.NAMES`.
        files: int [N], index of the source file.
        near_groups: int [N], equal for near copies.
    """

    labels: np.ndarray
    groups: np.ndarray
    split: np.ndarray
    files: np.ndarray
    near_groups: np.ndarray

    def only(self, selection: np.ndarray) -> "Images":
        return Images(*(getattr(self, field.name)[selection] for field in dataclasses.fields(self)))


def surplus(near_groups: np.ndarray, labels: np.ndarray, limit: int) -> np.ndarray:
    """Selects the items to drop so that at most `limit` of each group and label remain, evenly spaced.

    Args:
        near_groups: int [N], equal for near copies.
        labels: int [N], -1, 0 or 1.
        limit: Maximum number of items per group and label.

    Returns:
        int64 [M]: sorted indices of the items to drop.
    """
    key = near_groups * 3 + labels
    order = np.argsort(key, kind="stable")
    _, start, size = np.unique(key[order], return_index=True, return_counts=True)
    rank = np.arange(len(key)) - np.repeat(start, size)
    members = np.repeat(size, size)
    # The k-th of `limit` items is at k members / limit, rounded up.
    is_kept = (members <= limit) | (rank * limit % members < limit)
    return np.sort(order[~is_kept])


def advice(
    images: Images,
    paths: Sequence[str],
    requested_split: tuple[float, ...],
    seed: int,
    classes: Sequence[str],
    group_by: GroupBy,
) -> list[str]:
    """Describes the groups that leave a split far below its requested number of images of a class.

    Args:
        images: All images with their splits.
        paths: Paths of the files that `images.files` refers to.
        requested_split: The fractions of --split; empty for the default.
        seed: Seed of the split.
        classes: Names of the clean and the cracked class.
        group_by: How groups were formed.

    Returns:
        A line on the problem and a line on the remedy; empty if there is no such group.
    """
    fractions = requested_split or splits.default_fractions(len(images.labels))
    shortages = _find_shortages(images.labels, images.split, fractions)
    blamed = (
        []
        if group_by is GroupBy.NONE
        else [_find_blamed_group(images, label, shortages) for label in np.flatnonzero(shortages.any(0))]
    )
    blamed = [group for group in blamed if group]
    if not blamed:
        return []
    first = max(blamed, key=lambda group: len(group.labels))
    message = "; ".join(_describe_group(images, group, shortages, fractions, classes, group_by) for group in blamed)
    camera = ": frames of a fixed camera are near copies" if _describe_kinship(first, group_by) == LOOK_ALIKE else ""
    return [
        f"{message}; such as {_format_examples(first, paths)}{camera}",
        _suggest_remedy(images, first, requested_split, seed, group_by),
    ]


def _find_blamed_group(images: Images, label: int, shortages: np.ndarray) -> Images | None:
    """The largest group of a class if its size explains the shortage; else None: there are too few images."""
    members = images.only(images.labels == label)
    number, size = _largest_group(members.groups)
    actual = [(members.split == part).sum() for part in np.flatnonzero(shortages[:, label])]
    return members.only(members.groups == number) if size >= MIN_LARGE_GROUP and size > min(actual) else None


def _describe_group(
    images: Images,
    group: Images,
    shortages: np.ndarray,
    fractions: tuple[float, ...],
    classes: Sequence[str],
    group_by: GroupBy,
) -> str:
    label = group.labels[0]
    split = images.split[images.labels == label]
    lacks = " and ".join(
        f"{(split == part).sum():,} of {fractions[part] * len(split):,.0f} for {splits.NAMES[part]}"
        for part in np.flatnonzero(shortages[:, label])
    )
    return (
        f"{len(group.labels):,} of {len(split):,} images of {one_line(classes[label])!r} "
        f"{_describe_kinship(group, group_by)} and stay in one split, {splits.NAMES[group.split[0]]}, "
        f"which leaves {lacks}"
    )


def conflict_advice(paths: Sequence[str], near_groups: np.ndarray, labels: np.ndarray, rows: Sequence[int]) -> str:
    """Describes the largest group of near copies that is in both classes.

    Args:
        paths: Paths of all files.
        near_groups: int [N], equal for near copies.
        labels: int [N], 0 or 1.
        rows: Rows of the files that were rejected because of it.

    Returns:
        One line; empty if the group is so small that it may be a single mistake.
    """
    left_out = np.array(rows, np.int64)
    number, size = _largest_group(near_groups[left_out]) if len(left_out) else (0, 0)
    if size < MIN_LARGE_GROUP:
        return ""
    members = left_out[near_groups[left_out] == number]
    clean, cracked = (paths[members[labels[members] == label][0]] for label in (0, 1))
    return (
        f"{size:,} images that look alike are in both classes, such as {one_line(clean)!r} and {one_line(cracked)!r}, "
        "and are left out: if a fixed camera saw a crack appear, --group_by=content leaves out byte copies alone, but "
        "figures on test then measure memory"
    )


def _find_shortages(labels: np.ndarray, split: np.ndarray, fractions: tuple[float, ...]) -> np.ndarray:
    """bool [3, 2]: splits that have far fewer images of a class than requested, where at least one is requested."""
    requested = _requested_counts(labels, fractions)
    return (requested >= 1) & (_actual_counts(labels, split) < SHORTAGE_FRACTION * requested)


def _requested_counts(labels: np.ndarray, fractions: tuple[float, ...]) -> np.ndarray:
    """float64 [3, 2]: requested number of images per split and class."""
    return np.outer(fractions, np.bincount(labels, minlength=2))


def _actual_counts(labels: np.ndarray, split: np.ndarray) -> np.ndarray:
    """int64 [3, 2]: actual number of images per split and class."""
    return np.stack([np.bincount(split[labels == label], minlength=len(splits.NAMES)) for label in (0, 1)], 1)


def _largest_group(groups: np.ndarray) -> tuple[int, int]:
    """(group, number of its items)."""
    numbers, sizes = np.unique(groups, return_counts=True)
    return int(numbers[sizes.argmax()]), int(sizes.max())


def _is_held_by_looks(group: Images) -> bool:
    """Whether a group consists of copies, rather than of files related by name or tiles of one file."""
    _, first = np.unique(group.files, return_index=True)
    return len(first) > 1 and 2 * _largest_group(group.near_groups[first])[1] > len(first)


def _describe_kinship(group: Images, group_by: GroupBy) -> str:
    if _is_held_by_looks(group):
        return "are byte copies" if group_by is GroupBy.CONTENT else LOOK_ALIKE
    return "are windows of one photograph" + (" by their names" if len(np.unique(group.files)) > 1 else "")


def _format_examples(group: Images, paths: Sequence[str]) -> str:
    return " and ".join(repr(one_line(paths[file])) for file in sorted({group.files[0], group.files[-1]}))


def _suggest_remedy(
    images: Images, group: Images, requested_split: tuple[float, ...], seed: int, group_by: GroupBy
) -> str:
    if not _is_held_by_looks(group):
        is_named = len(np.unique(group.files)) > 1
        return (
            "add photographs of other places"
            + "; or, if the names mean no such thing, --group_by_name=false" * is_named
        )
    limit = _find_sufficient_limit(images, requested_split, seed)
    message = "add photographs of other places"
    if limit:
        message += f", or keep every n-th image with --max_near_copies={limit} (the others are listed in rejected.csv)"
    else:
        message += ": there are too few different ones here to fill all splits"
    if group_by is GroupBy.NEAR_DUPLICATES:
        message += "; --group_by=content lets near copies into several splits, but figures on test then measure memory"
    return message


def _find_sufficient_limit(images: Images, requested_split: tuple[float, ...], seed: int) -> int:
    """The largest of LIMITS for --max_near_copies that gives every split enough images; 0 if there is none."""
    files, first = np.unique(images.files, return_index=True)
    largest = _largest_group(images.near_groups[first])[1]
    for limit in (candidate for candidate in LIMITS if candidate < largest):
        left_out = files[surplus(images.near_groups[first], images.labels[first], limit)]
        remaining = images.only(~np.isin(images.files, left_out))
        fractions = requested_split or splits.default_fractions(len(remaining.labels))
        if _has_enough_images(
            remaining.labels, splits.assign(remaining.labels, remaining.groups, fractions, seed), fractions
        ):
            return limit
    return 0


def _has_enough_images(labels: np.ndarray, split: np.ndarray, fractions: tuple[float, ...]) -> bool:
    """Whether each requested split has both classes, and nearly the requested number of images of each."""
    requested, actual = _requested_counts(labels, fractions), _actual_counts(labels, split)
    is_enough = actual >= np.maximum((1 - splits.TOLERANCE) * requested - splits.TOLERANCE_IMAGES, 1)
    return bool(is_enough[np.array(fractions) > 0].all())
