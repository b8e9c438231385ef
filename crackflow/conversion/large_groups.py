"""Groups that are larger than the splits can share out, and what helps.

Synopsis::

    told = large_groups.advice(images, paths, (0.8, 0.1, 0.1), 0, ("clean", "cracked"), GroupBy.NEAR_DUPLICATES)
    # [] or one line on what happened and one on what to do
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from crackflow.core.config.data import GroupBy
from crackflow.core.escaping import one_line
from crackflow.data import splits

# A split has too little of a class below this part of what was asked for.
FAR = 0.5
ALIKE = "look alike"
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
    # The k-th of `limit` is at k members / limit, rounded up.
    is_kept = (members <= limit) | (rank * limit % members < limit)
    return np.sort(order[~is_kept])


def advice(
    images: Images, paths: Sequence[str], asked_split: tuple[float, ...], seed: int, classes: Sequence[str], by: GroupBy
) -> list[str]:
    """Empty where no group keeps a split far below what it is to have of a class; else what happened, and what helps.

    `paths`: of the files that `images.files` number; `asked_split`: of --split, none: the default.
    """
    fractions = asked_split or splits.default_fractions(len(images.labels))
    short = _short(images.labels, images.split, fractions)
    blamed = [] if by is GroupBy.NONE else [_blamed(images, label, short) for label in np.flatnonzero(short.any(0))]
    blamed = [group for group in blamed if group]
    if not blamed:
        return []
    first = max(blamed, key=lambda group: len(group.labels))
    told = "; ".join(_fact(images, group, short, fractions, classes, by) for group in blamed)
    camera = ": frames of a fixed camera are near copies" if _kinship(first, by) == ALIKE else ""
    return [f"{told}; such as {_examples(first, paths)}{camera}", _remedy(images, first, asked_split, seed, by)]


def _blamed(images: Images, label: int, short: np.ndarray) -> Images | None:
    """The largest group of a class, where it is larger than what a split lacks; else the few images are to blame."""
    members = images.only(images.labels == label)
    number, size = _largest(members.groups)
    have = [(members.split == part).sum() for part in np.flatnonzero(short[:, label])]
    return members.only(members.groups == number) if size >= LARGE and size > min(have) else None


def _fact(
    images: Images, group: Images, short: np.ndarray, fractions: tuple[float, ...], classes: Sequence[str], by: GroupBy
) -> str:
    label = group.labels[0]
    split = images.split[images.labels == label]
    lacks = " and ".join(
        f"{(split == part).sum():,} of {fractions[part] * len(split):,.0f} for {splits.NAMES[part]}"
        for part in np.flatnonzero(short[:, label])
    )
    return (
        f"{len(group.labels):,} of {len(split):,} images of {one_line(classes[label])!r} {_kinship(group, by)} "
        f"and stay in one split, {splits.NAMES[group.split[0]]}, which leaves {lacks}"
    )


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
        "and are left out: if a fixed camera saw a crack appear, --group_by=content leaves out byte copies alone, but "
        "figures on test then measure memory"
    )


def _short(labels: np.ndarray, split: np.ndarray, fractions: tuple[float, ...]) -> np.ndarray:
    """bool [3, 2]: splits that have far fewer images of a class than asked for, of one at least."""
    asked = _asked(labels, fractions)
    return (asked >= 1) & (_have(labels, split) < FAR * asked)


def _asked(labels: np.ndarray, fractions: tuple[float, ...]) -> np.ndarray:
    """float64 [3, 2]: images of each class that each split is to have."""
    return np.outer(fractions, np.bincount(labels, minlength=2))


def _have(labels: np.ndarray, split: np.ndarray) -> np.ndarray:
    """int64 [3, 2]: images of each class that each split has."""
    return np.stack([np.bincount(split[labels == label], minlength=len(splits.NAMES)) for label in (0, 1)], 1)


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
        return "are byte copies" if by is GroupBy.CONTENT else ALIKE
    return "are windows of one photograph" + (" by their names" if len(np.unique(group.files)) > 1 else "")


def _examples(group: Images, paths: Sequence[str]) -> str:
    return " and ".join(repr(one_line(paths[file])) for file in sorted({group.files[0], group.files[-1]}))


def _remedy(images: Images, group: Images, asked_split: tuple[float, ...], seed: int, by: GroupBy) -> str:
    if not _is_alike(group):
        is_named = len(np.unique(group.files)) > 1
        return (
            "add photographs of other places"
            + "; or, if the names mean no such thing, --group_by_name=false" * is_named
        )
    limit = _sufficient_limit(images, asked_split, seed)
    told = "add photographs of other places"
    if limit:
        told += f", or keep every n-th image with --max_near_copies={limit} (the others are listed in rejected.csv)"
    else:
        told += ": there are too few different ones here to fill all splits"
    if by is GroupBy.NEAR_DUPLICATES:
        told += "; --group_by=content lets near copies into several splits, but figures on test then measure memory"
    return told


def _sufficient_limit(images: Images, asked_split: tuple[float, ...], seed: int) -> int:
    """The largest of LIMITS to --max_near_copies by which every split gets what it is to have; 0: none."""
    files, first = np.unique(images.files, return_index=True)
    largest = _largest(images.pictures[first])[1]
    for limit in (one for one in LIMITS if one < largest):
        left_out = files[surplus(images.pictures[first], images.labels[first], limit)]
        some = images.only(~np.isin(images.files, left_out))
        fractions = asked_split or splits.default_fractions(len(some.labels))
        if _is_served(some.labels, splits.assign(some.labels, some.groups, fractions, seed), fractions):
            return limit
    return 0


def _is_served(labels: np.ndarray, split: np.ndarray, fractions: tuple[float, ...]) -> bool:
    """Whether each split that is to have images has both classes, and nearly as many of each as it is to have."""
    asked, have = _asked(labels, fractions), _have(labels, split)
    enough = have >= np.maximum((1 - splits.TOLERANCE) * asked - splits.TOLERANCE_IMAGES, 1)
    return bool(enough[np.array(fractions) > 0].all())
