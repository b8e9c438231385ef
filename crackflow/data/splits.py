"""Groups go to train, val or test whole, with the classes in the asked proportions.

Synopsis::

    split = splits.assign(labels, groups, fractions=(0.8, 0.1, 0.1), seed=0)    # int64 [N]: 0 train, 1 val, 2 test
"""

import numpy as np

NAMES = ("train", "val", "test")
TRAIN, VAL, TEST = range(3)


def assign(labels: np.ndarray, groups: np.ndarray, fractions: tuple[float, ...], seed: int) -> np.ndarray:
    """int64 [N]: the split of each item. `labels`: int [N], 0 or 1; `groups`: int [N], equal stays together.

    Groups come largest first, in random order within a size, and each goes where its classes are missed most:
    large groups are placed while every split can still hold them, and single images even out the rest. A split that
    was asked for is empty only where there are fewer groups than splits.
    """
    _, group = np.unique(groups, return_inverse=True)
    size = np.stack([np.bincount(group[labels == label], minlength=group.max(initial=-1) + 1) for label in (0, 1)], 1)
    order = np.random.default_rng([seed, 1]).permutation(len(size))
    order = order[np.argsort(-size[order].sum(1), kind="stable")]
    missing = np.outer(fractions, size.sum(0)).tolist()
    wanted = [part > 0 for part in fractions]
    chosen = np.zeros(len(size), np.int64)
    for one, (clean, cracked) in zip(order.tolist(), size[order].tolist(), strict=True):
        best = max((missing[k][0] * clean + missing[k][1] * cracked, k) for k in range(len(fractions)) if wanted[k])[1]
        missing[best][0] -= clean
        missing[best][1] -= cracked
        chosen[one] = best
    for part in range(len(fractions) if len(size) else 0):
        largest = np.bincount(chosen).argmax()
        if wanted[part] and part not in chosen and (chosen == largest).sum() > 1:
            chosen[order[chosen[order] == largest][-1]] = part  # its smallest group
    return chosen[group]


def twins(pictures: np.ndarray, split: np.ndarray) -> int:
    """How many test items have another item of the same picture in train. `pictures`, `split`: int [N]."""
    return int(np.isin(pictures[split == TEST], np.unique(pictures[split == TRAIN])).sum())
