"""Groups go to train, val or test whole, with the classes in the asked proportions.

Synopsis::

    split = splits.assign(labels, groups, fractions=(0.8, 0.1, 0.1), seed=0)    # int64 [N]: 0 train, 1 val, 2 test
    splits.thin({"val": {"clean": 6, "cracked": 0}})    # {"val": {"clean": 6, "cracked": 0}}
"""

from collections.abc import Mapping

import numpy as np

NAMES = ("train", "val", "test")
TRAIN, VAL, TEST = range(3)
MIN_IMAGES = 10  # of a class in a split: of ten right ones, the 95 % interval of their share still begins at 69 %
FEW_IMAGES = 100
# A class that is this far from what was asked for, in images and as a part of it, is evened out.
TOLERANCE_IMAGES, TOLERANCE = 1.5, 0.1
MAX_SWAPPED_GROUPS = 400  # swaps are tried in pairs: at 400 groups 160,000 a round
MAX_ROUNDS = 200


def default_fractions(images: int) -> tuple[float, float, float]:
    """Of train, val and test where nobody asks for others. A tenth of forty images is four, by which nothing can be
    chosen and of which a guess tells all rightly once in six times; of eight, once in seventy."""
    return (0.8, 0.1, 0.1) if images >= FEW_IMAGES else (0.7, 0.2, 0.1)


def assign(labels: np.ndarray, groups: np.ndarray, fractions: tuple[float, ...], seed: int) -> np.ndarray:
    """int64 [N]: the split of each item. `labels`: int [N], 0 or 1; `groups`: int [N], equal stays together.

    Groups come largest first, in random order within a size, and each goes where its classes are missed most:
    large groups are placed while every split can still hold them, and single images even out the rest. A split that
    was asked for has each class of which there are as many groups as splits; it is empty only where there are fewer
    groups than splits. Where few or unequal groups leave a class far from what was asked for, groups are moved and
    swapped while that brings the sizes nearer.
    """
    _, group = np.unique(groups, return_inverse=True)
    size = np.stack([np.bincount(group[labels == label], minlength=group.max(initial=-1) + 1) for label in (0, 1)], 1)
    order = np.random.default_rng([seed, 1]).permutation(len(size))
    order = order[np.argsort(-size[order].sum(1), kind="stable")]
    parts = np.array(fractions, np.float64)
    chosen = _fill(size, order, parts, np.full(len(size), -1))
    if not _covers(size, chosen, parts):
        chosen = _fill(size, order, parts, _reserved(size, order, parts))
    if _is_uneven(size, chosen, parts):
        chosen = _evened_out(size, order, parts, chosen)
    return chosen[group]


def _fill(size: np.ndarray, order: np.ndarray, parts: np.ndarray, reserved: np.ndarray) -> np.ndarray:
    """int64 [G]: the split of each group. `size`: int [G, 2], clean and cracked images; `reserved`: int [G], the split
    that is settled, or -1."""
    missing = np.outer(parts, size.sum(0))
    for part in range(len(parts)):
        missing[part] -= size[reserved == part].sum(0)
    missing, wanted, chosen = missing.tolist(), [part > 0 for part in parts], reserved.copy()
    for one, (clean, cracked) in zip(order.tolist(), size[order].tolist(), strict=True):
        if chosen[one] >= 0:
            continue
        best = max((missing[k][0] * clean + missing[k][1] * cracked, k) for k in range(len(parts)) if wanted[k])[1]
        missing[best][0] -= clean
        missing[best][1] -= cracked
        chosen[one] = best
    for part in range(len(parts) if len(size) else 0):
        largest = np.bincount(chosen).argmax()
        if wanted[part] and part not in chosen and (chosen == largest).sum() > 1:
            chosen[order[chosen[order] == largest][-1]] = part  # its smallest group
    return chosen


def _covers(size: np.ndarray, chosen: np.ndarray, parts: np.ndarray) -> bool:
    """Whether each split that is asked for has each class of which there are groups enough."""
    return not _required(size, parts)[~_present(size, chosen, len(parts))].any()


def _required(size: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """bool [K, 2]: whether a split must have a class."""
    enough = (size > 0).sum(0) >= np.count_nonzero(parts)
    return np.outer(parts > 0, enough)


def _present(size: np.ndarray, chosen: np.ndarray, count: int) -> np.ndarray:
    """bool [count, 2]: whether a split has a class."""
    return np.stack([(size[chosen == part] > 0).any(0) for part in range(count)])


def _reserved(size: np.ndarray, order: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """int64 [G]: a split for as many groups as it takes for each to have each class that it must have; -1 for the rest.

    Groups of both classes come first, for two splits can't both be helped by one group; then those of a class alone.
    Each split takes the group whose size is nearest to what it is to have, the smallest splits first. With as many
    groups of a class as splits this never fails: what groups of both classes don't cover, others are left for.
    """
    reserved, required = np.full(len(size), -1), _required(size, parts)
    asked = np.outer(parts, size.sum(0))
    wanted = sorted((k for k in range(len(parts)) if parts[k] > 0), key=lambda k: (parts[k], k))
    both = (size > 0).all(1)
    for kind in (both, ~both):
        for part in wanted:
            lacks = required[part] & ~(size[reserved == part] > 0).any(0)
            for label in np.flatnonzero(lacks):
                useful = [one for one in order[::-1] if kind[one] and reserved[one] < 0 and size[one, label]]
                if useful and not (size[reserved == part][:, label] > 0).any():
                    nearest = min(useful, key=lambda one: abs(size[one] - asked[part])[size[one] > 0].sum())
                    reserved[nearest] = part
    return reserved


def _is_uneven(size: np.ndarray, chosen: np.ndarray, parts: np.ndarray) -> bool:
    asked, have = np.outer(parts, size.sum(0)), _have(size, chosen, len(parts))
    return bool((np.abs(have - asked) > TOLERANCE_IMAGES + TOLERANCE * asked).any())


def _have(size: np.ndarray, chosen: np.ndarray, count: int) -> np.ndarray:
    """float64 [count, 2]: images of each class in each split."""
    return np.stack([size[chosen == part].sum(0) for part in range(count)]).astype(np.float64)


def _evened_out(size: np.ndarray, order: np.ndarray, parts: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """`chosen` after moves of a group, and swaps of two, that each bring the sizes nearer to what is asked for.

    How far they are: the sum over splits and classes of (have - asked)^2 / asked, as in a chi-squared test, so that a
    small split counts as much as a large one.
    """
    chosen, asked = chosen.copy(), np.outer(parts, size.sum(0))
    wanted = np.flatnonzero(parts > 0)
    required = _required(size, parts)
    required &= _present(size, chosen, len(parts))  # what is missing already can't be lost
    for _ in range(MAX_ROUNDS):
        now = _distance(_have(size, chosen, len(parts)), asked)
        best = min(_steps(size, order, wanted, chosen, asked, required), key=lambda step: step[0], default=(np.inf, []))
        if best[0] > now - 1e-9:
            break
        for one, part in best[1]:
            chosen[one] = part
    return chosen


def _distance(have: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """float64 [...]: of splits [..., K, 2] from what is asked for [K, 2]."""
    return ((have - asked) ** 2 / np.maximum(asked, 1e-9) * (asked > 0)).sum((-2, -1))


def _steps(size, order, wanted, chosen, asked, required):
    """(distance after it, [(group, split), ...]) of the best move, and of the best swap, between each two splits."""
    have, groups = _have(size, chosen, len(asked)), _counts(size, chosen, len(asked))
    for source in wanted:
        leaving = order[chosen[order] == source]
        for target in wanted[wanted != source]:
            nothing = np.array([-1])
            coming = order[chosen[order] == target] if len(order) <= MAX_SWAPPED_GROUPS and source < target else nothing
            coming = np.append(coming, -1) if coming is not nothing else coming
            if not len(leaving):
                continue
            out = size[leaving][:, None, :]
            back = np.where(coming[:, None] >= 0, size[coming], 0)[None]
            after = np.broadcast_to(have, (len(leaving), len(coming), *have.shape)).copy()
            after[:, :, source] += back - out
            after[:, :, target] += out - back
            kept = np.ones(after.shape[:2], bool) & ((coming >= 0) | (len(leaving) > 1))  # no split becomes empty
            for part, change in ((source, (back > 0) * 1 - (out > 0)), (target, (out > 0) * 1 - (back > 0))):
                kept &= ((groups[part] + change > 0) | ~required[part]).all(-1)
            distance = np.where(kept, _distance(after, asked), np.inf)
            row, column = np.unravel_index(distance.argmin(), distance.shape)
            step = [(leaving[row], target)] + ([(coming[column], source)] if coming[column] >= 0 else [])
            yield distance[row, column], step


def _counts(size: np.ndarray, chosen: np.ndarray, count: int) -> np.ndarray:
    """int64 [count, 2]: groups with each class in each split."""
    return np.stack([(size[chosen == part] > 0).sum(0) for part in range(count)])


def thin(class_counts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Of the counts of each class in each split those below MIN_IMAGES; splits that have enough of all are left out."""
    few = {
        split: {kind: count for kind, count in counts.items() if count < MIN_IMAGES}
        for split, counts in class_counts.items()
    }
    return {split: counts for split, counts in few.items() if counts}


def twins(pictures: np.ndarray, split: np.ndarray) -> int:
    """How many test items have another item of the same picture in train. `pictures`, `split`: int [N]."""
    return int(np.isin(pictures[split == TEST], np.unique(pictures[split == TRAIN])).sum())
