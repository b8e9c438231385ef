"""Groups that are larger than the splits can share out, and what helps.

Synopsis::

    told = large_groups.advice(images, kept, (0.8, 0.1, 0.1), seed=0, classes=("clean", "cracked"))
    # [] or one line on what happened and one on what to do
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from crackflow.core.config import GroupBy
from crackflow.core.errors import one_line
from crackflow.data import splits

# A split has too little of a class below this part of what was asked for.
FAR = 0.5
LARGE = splits.MIN_IMAGES  # fewer images that stay together are no matter of one group
LIMITS = [part * 10**power for power in range(4, -1, -1) for part in (5, 2, 1)]


@dataclasses.dataclass(frozen=True)
class Images:
    """One entry an image, or window of one. `labels`: int [N], 0 or 1; `groups`: int [N], equal stays together;
    `split`: int [N]; `files`: int [N], its file; `pictures`: int [N], equal for near copies."""

    labels: np.ndarray
    groups: np.ndarray
    split: np.ndarray
    files: np.ndarray
    pictures: np.ndarray

    def only(self, chosen: np.ndarray) -> "Images":
        return Images(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))


def surplus(pictures: np.ndarray, labels: np.ndarray, limit: int) -> np.ndarray:
    """int64 [M]: the items beyond `limit` of one picture and label, the kept ones being every n-th of them."""
    key = pictures * 3 + labels
    order = np.argsort(key, kind="stable")
    _, start, size = np.unique(key[order], return_index=True, return_counts=True)
    rank = np.arange(len(key)) - np.repeat(start, size)
    members = np.repeat(size, size)
    # Of `members` the k-th of `limit` is at floor(k members / limit): ranks at which this product passes a multiple.
    is_kept = (members <= limit) | (rank * limit % members < limit)
    return np.sort(order[~is_kept])


def advice(
    images: Images, paths: Sequence[str], fractions: tuple[float, ...], seed: int, classes: Sequence[str], by: GroupBy
) -> list[str]:
    """Empty where no group keeps a split far below what it is to have of a class; else what happened, and what helps.

    `paths`: of the files that `images.files` number.
    """
    short = _short(images.labels, images.split, fractions)
    if by is GroupBy.NONE or not short.any():
        return []
    told, first = [], None
    for label in np.flatnonzero(short.any(0)):
        members = images.only(images.labels == label)
        number, size = _largest(members.groups)
        asked = np.array(fractions) * len(members.labels)
        if size < LARGE or size <= asked[short[:, label]].min():
            continue
        group = members.only(members.groups == number)
        first = group if first is None or size > len(first.labels) else first
        lacks = ", ".join(
            f"{splits.NAMES[part]} has {(members.split == part).sum():,} of {asked[part]:,.0f} asked for"
            for part in np.flatnonzero(short[:, label])
        )
        told.append(
            f"{size:,} of {len(members.labels):,} images of {one_line(classes[label])!r} {_kinship(group, by)} and "
            f"stay in one split, {splits.NAMES[group.split[0]]}: {lacks}"
        )
    if first is None:
        return []
    return ["; ".join(told), _remedy(images, first, paths, fractions, seed, by)]


def conflict_advice(paths: Sequence[str], pictures: np.ndarray, labels: np.ndarray, rows: Sequence[int]) -> str:
    """A line on the largest group of near copies that is in both classes, where it is no single mistake; else empty.

    `paths`, `pictures`, `labels`: of all files; `rows`: those that were left out for it.
    """
    left_out = np.array(rows, np.int64)
    number, size = _largest(pictures[left_out]) if len(left_out) else (0, 0)
    if size < LARGE:
        return ""
    members = left_out[pictures[left_out] == number]
    clean, cracked = (paths[members[labels[members] == label][0]] for label in (0, 1))
    return (
        f"{size:,} images that look alike are in both classes, such as {one_line(clean)!r} and {one_line(cracked)!r}, "
        "and are left out: if a fixed camera saw a crack appear, --group_by=content leaves out byte copies alone"
    )


def _short(labels: np.ndarray, split: np.ndarray, fractions: tuple[float, ...]) -> np.ndarray:
    """bool [3, 2]: splits that have far fewer images of a class than asked for, of one at least."""
    have = np.stack([np.bincount(split[labels == label], minlength=len(splits.NAMES)) for label in (0, 1)], 1)
    asked = np.outer(fractions, np.bincount(labels, minlength=2))
    return (asked >= 1) & (have < FAR * asked)


def _largest(groups: np.ndarray) -> tuple[int, int]:
    """(number, size)."""
    numbers, sizes = np.unique(groups, return_counts=True)
    return int(numbers[sizes.argmax()]), int(sizes.max())


def _is_alike(group: Images) -> bool:
    """Whether a group is held together by looks, rather than by its names or one file."""
    _, first = np.unique(group.files, return_index=True)
    return len(first) > 1 and 2 * _largest(group.pictures[first])[1] > len(first)


def _kinship(group: Images, by: GroupBy) -> str:
    if _is_alike(group):
        return "are the same file" if by is GroupBy.CONTENT else "look alike, as frames of a fixed camera do,"
    if len(np.unique(group.files)) > 1:
        return "belong to one photograph by their names"
    return "are windows of one photograph"


def _remedy(
    images: Images, group: Images, paths: Sequence[str], fractions: tuple[float, ...], seed: int, by: GroupBy
) -> str:
    named = f"such as {one_line(paths[group.files[0]])!r} and {one_line(paths[group.files[-1]])!r}"
    better = "add photographs of other places"
    if len(np.unique(group.files)) == 1:
        return f"{one_line(paths[group.files[0]])!r} has them all: {better}"
    if not _is_alike(group):
        return f"{named}: {better}; or --group_by_name=false, if the names don't mean that"
    limit = _sufficient_limit(images, fractions, seed)
    if limit:
        better += (
            f", or keep every n-th frame: --max_near_copies={limit} keeps {limit} of each class of such a group, "
            "and lists the others in rejected.csv"
        )
    else:
        better += " (no choice among these frames fills three splits)"
    if by is GroupBy.NEAR_DUPLICATES:
        better += "; --group_by=content lets near copies into several splits, but then figures on test measure memory"
    return f"{named}: {better}"


def _sufficient_limit(images: Images, fractions: tuple[float, ...], seed: int) -> int:
    """The largest of LIMITS to --max_near_copies with which no split is far below what it is to have; 0: none."""
    files, first = np.unique(images.files, return_index=True)
    largest = _largest(images.pictures[first])[1]
    for limit in (one for one in LIMITS if one < largest):
        left_out = files[surplus(images.pictures[first], images.labels[first], limit)]
        some = images.only(~np.isin(images.files, left_out))
        if not _short(some.labels, splits.assign(some.labels, some.groups, fractions, seed), fractions).any():
            return limit
    return 0
