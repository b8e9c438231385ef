"""Assignment of groups of images to train, val and test, with each class in the requested proportions.

Synopsis::

    split = splits.assign(labels, groups, fractions=(0.8, 0.1, 0.1), seed=0)    # int64 [N]: 0 train, 1 val, 2 test
    splits.thin({"val": {"clean": 6, "cracked": 0}})    # {"val": {"clean": 6, "cracked": 0}}

A group is never divided between splits.
"""

from collections.abc import Iterator, Mapping

import numpy as np

NAMES = ("train", "val", "test")
TRAIN, VAL, TEST = range(3)
MIN_IMAGES = 10  # per class and split: with ten correct of ten, the 95 % interval of the accuracy begins at 69 %
FEW_IMAGES = 100
# The split is rebalanced when a class differs from its target by more than TOLERANCE_IMAGES + TOLERANCE * target.
TOLERANCE_IMAGES, TOLERANCE = 1.5, 0.1
MAX_SWAPPED_GROUPS = 400  # swaps are tried in pairs: 160,000 per round at 400 groups
MAX_ROUNDS = 200


def default_fractions(images: int) -> tuple[float, float, float]:
    """Returns the fractions of train, val and test that are used when the user requests none.

    A small set gets a larger val split. A tenth of forty images is four, which is too few to choose anything by, and a
    random guess gets all four right about once in six times. With eight, it does so once in seventy.
    """
    return (0.8, 0.1, 0.1) if images >= FEW_IMAGES else (0.7, 0.2, 0.1)


def assign(labels: np.ndarray, groups: np.ndarray, fractions: tuple[float, ...], seed: int) -> np.ndarray:
    """Assigns each item to a split.

    The largest groups come first, in random order within one size. Each goes to the split that lacks most of its
    classes. Large groups are placed while every split can still hold them, and single images even out the rest. Every
    requested split gets each class of which there are at least as many groups as splits. A split is empty only when
    there are fewer groups than splits. Where few or unequal groups leave a class far from its target, groups are moved
    and swapped for as long as that brings the sizes nearer to it.

    Args:
        labels: int [N], 0 or 1.
        groups: int [N]. Items with equal values stay in one split.
        fractions: of train, val and test; they add up to 1.
        seed: decides the order of groups of one size.

    Returns:
        int64 [N]: the split of each item.
    """
    _, group = np.unique(groups, return_inverse=True)
    size = np.stack([np.bincount(group[labels == label], minlength=group.max(initial=-1) + 1) for label in (0, 1)], 1)
    order = np.random.default_rng([seed, 1]).permutation(len(size))
    order = order[np.argsort(-size[order].sum(1), kind="stable")]
    split_fractions = np.array(fractions, np.float64)
    assignment = _fill(size, order, split_fractions, np.full(len(size), -1))
    if not _covers(size, assignment, split_fractions):
        assignment = _fill(size, order, split_fractions, _reserve_groups(size, order, split_fractions))
    if _is_uneven(size, assignment, split_fractions):
        assignment = _rebalance(size, order, split_fractions, assignment)
    return assignment[group]


def _fill(size: np.ndarray, order: np.ndarray, fractions: np.ndarray, reserved: np.ndarray) -> np.ndarray:
    """Returns the split of each group, int64 [G].

    Args:
        size: int [G, 2], clean and cracked images of each group.
        order: int [G], the order in which groups are placed.
        fractions: float64 [K], of each split.
        reserved: int [G], the split of a group that is already settled, or -1.
    """
    missing = np.outer(fractions, size.sum(0))
    for split in range(len(fractions)):
        missing[split] -= size[reserved == split].sum(0)
    missing, is_requested, assignment = missing.tolist(), [split > 0 for split in fractions], reserved.copy()
    for group, (clean, cracked) in zip(order.tolist(), size[order].tolist(), strict=True):
        if assignment[group] >= 0:
            continue
        best = max(
            (missing[k][0] * clean + missing[k][1] * cracked, k) for k in range(len(fractions)) if is_requested[k]
        )[1]
        missing[best][0] -= clean
        missing[best][1] -= cracked
        assignment[group] = best
    for split in range(len(fractions) if len(size) else 0):
        largest = np.bincount(assignment).argmax()
        if is_requested[split] and split not in assignment and (assignment == largest).sum() > 1:
            assignment[order[assignment[order] == largest][-1]] = split  # its smallest group
    return assignment


def _covers(size: np.ndarray, assignment: np.ndarray, fractions: np.ndarray) -> bool:
    """Whether each requested split has each class of which there are enough groups."""
    return not _required(size, fractions)[~_present(size, assignment, len(fractions))].any()


def _required(size: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Whether a split must have a class, bool [K, 2]."""
    enough = (size > 0).sum(0) >= np.count_nonzero(fractions)
    return np.outer(fractions > 0, enough)


def _present(size: np.ndarray, assignment: np.ndarray, count: int) -> np.ndarray:
    """Whether a split has a class, bool [count, 2]."""
    return np.stack([(size[assignment == split] > 0).any(0) for split in range(count)])


def _reserve_groups(size: np.ndarray, order: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Reserves as many groups as are needed for each split to have each class that it must have.

    Groups that hold both classes come first, because one group can't help two splits; groups of one class follow. The
    smallest splits choose first, and each takes the group whose size is nearest to its target. With as many groups of a
    class as splits this never fails: groups of one class remain for what the groups of both classes don't cover.

    Returns:
        int64 [G]: the reserved split of each group, or -1.
    """
    reserved, required = np.full(len(size), -1), _required(size, fractions)
    target_counts = np.outer(fractions, size.sum(0))
    requested = sorted((k for k in range(len(fractions)) if fractions[k] > 0), key=lambda k: (fractions[k], k))
    both: np.ndarray = np.all(size > 0, axis=1)
    for kind in (both, ~both):
        for split in requested:
            lacks = required[split] & ~(size[reserved == split] > 0).any(0)
            for label in np.flatnonzero(lacks):
                useful = [group for group in order[::-1] if kind[group] and reserved[group] < 0 and size[group, label]]
                if useful and not (size[reserved == split][:, label] > 0).any():
                    nearest = min(
                        useful, key=lambda group: abs(size[group] - target_counts[split])[size[group] > 0].sum()
                    )
                    reserved[nearest] = split
    return reserved


def _is_uneven(size: np.ndarray, assignment: np.ndarray, fractions: np.ndarray) -> bool:
    """Whether some class of some split is too far from its target."""
    target_counts, counts = np.outer(fractions, size.sum(0)), _image_counts(size, assignment, len(fractions))
    return bool((np.abs(counts - target_counts) > TOLERANCE_IMAGES + TOLERANCE * target_counts).any())


def _image_counts(size: np.ndarray, assignment: np.ndarray, count: int) -> np.ndarray:
    """Returns the number of images of each class in each split, float64 [count, 2]."""
    return np.stack([size[assignment == split].sum(0) for split in range(count)]).astype(np.float64)


def _rebalance(size: np.ndarray, order: np.ndarray, fractions: np.ndarray, assignment: np.ndarray) -> np.ndarray:
    """Returns `assignment` after moves of one group, and swaps of two, that each bring the sizes nearer to the targets.

    The distance is the sum over splits and classes of (count - target)^2 / target, as in a chi-squared test, so that a
    small split counts as much as a large one.
    """
    assignment, target_counts = assignment.copy(), np.outer(fractions, size.sum(0))
    requested = np.flatnonzero(fractions > 0)
    required = _required(size, fractions)
    required &= _present(size, assignment, len(fractions))  # a class that is missing already can't be lost
    for _ in range(MAX_ROUNDS):
        now = _distance(_image_counts(size, assignment, len(fractions)), target_counts)
        best: tuple[float, list[tuple[int, int]]] = min(
            _best_steps(size, order, requested, assignment, target_counts, required),
            key=lambda step: step[0],
            default=(np.inf, []),
        )
        if best[0] > now - 1e-9:
            break
        for group, split in best[1]:
            assignment[group] = split
    return assignment


def _distance(counts: np.ndarray, target_counts: np.ndarray) -> np.ndarray:
    """Returns the distance of splits [..., K, 2] from the targets [K, 2], float64 [...]."""
    return ((counts - target_counts) ** 2 / np.maximum(target_counts, 1e-9) * (target_counts > 0)).sum((-2, -1))


def _best_steps(
    size: np.ndarray,
    order: np.ndarray,
    requested: np.ndarray,
    assignment: np.ndarray,
    target_counts: np.ndarray,
    required: np.ndarray,
) -> Iterator[tuple[float, list[tuple[int, int]]]]:
    """Yields the best move and the best swap between each two splits.

    Yields:
        (the distance after the step, [(group, its new split), ...]).
    """
    image_counts, group_counts = (
        _image_counts(size, assignment, len(target_counts)),
        _group_counts(size, assignment, len(target_counts)),
    )
    for source in requested:
        leaving = order[assignment[order] == source]
        for target in requested[requested != source]:
            nothing = np.array([-1])
            coming = (
                order[assignment[order] == target] if len(order) <= MAX_SWAPPED_GROUPS and source < target else nothing
            )
            coming = np.append(coming, -1) if coming is not nothing else coming
            if not len(leaving):
                continue
            out = size[leaving][:, None, :]
            back = np.where(coming[:, None] >= 0, size[coming], 0)[None]
            after = np.broadcast_to(image_counts, (len(leaving), len(coming), *image_counts.shape)).copy()
            after[:, :, source] += back - out
            after[:, :, target] += out - back
            is_allowed = np.ones(after.shape[:2], bool) & (
                (coming >= 0) | (len(leaving) > 1)
            )  # no split may become empty
            for split, change in ((source, (back > 0) * 1 - (out > 0)), (target, (out > 0) * 1 - (back > 0))):
                is_allowed &= ((group_counts[split] + change > 0) | ~required[split]).all(-1)
            distance = np.where(is_allowed, _distance(after, target_counts), np.inf)
            row, column = np.unravel_index(distance.argmin(), distance.shape)
            moves = [(leaving[row], target)] + ([(coming[column], source)] if coming[column] >= 0 else [])
            yield distance[row, column], moves


def _group_counts(size: np.ndarray, assignment: np.ndarray, count: int) -> np.ndarray:
    """Returns the number of groups with each class in each split, int64 [count, 2]."""
    return np.stack([(size[assignment == split] > 0).sum(0) for split in range(count)])


def thin(class_counts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Returns the counts below MIN_IMAGES of each class in each split, without splits that have enough of both."""
    few = {
        split: {kind: count for kind, count in counts.items() if count < MIN_IMAGES}
        for split, counts in class_counts.items()
    }
    return {split: counts for split, counts in few.items() if counts}


def twins(pictures: np.ndarray, split: np.ndarray) -> int:
    """Returns how many test items show the same image as some training item. `pictures`, `split`: int [N]."""
    return int(np.isin(pictures[split == TEST], np.unique(pictures[split == TRAIN])).sum())
