"""What a few labelled images can say about a model: folds, balanced accuracy with an interval, before against after.

Synopsis::

    fold = cross_validation.assign_folds(labels, groups, 5, seed=0)      # int [N]; groups stay together
    estimate = cross_validation.balanced_accuracy(labels, decisions, groups)
    estimate.value, estimate.low, estimate.high                          # 0.94, 0.84, 0.98
    cross_validation.compare(labels, before, after, groups, seed=0)      # p of "after is no better than before"

Images of one group (copies, windows of one photograph) are one piece of evidence, which counts by the share of it that
is right. A photograph with windows of both classes is one piece as well: what it says of the one and of the other
varies together, and is exchanged together. The interval of balanced accuracy is that of Agresti and Caffo (Am. Stat.
54:280, 2000) for two proportions: a success and a failure are added to each. For 10 to 50 groups per class it held the
truth in 94 to 98 % of 3,000 draws; Wilson's limits added in quadrature (Newcombe 1998) in 92 to 97 %.
"""

import math
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from crackflow.evaluation import metrics

EXACT_PAIRS = 14  # differing groups whose 2^k exchanges are all counted
EXCHANGES = 20_000


class Estimate(NamedTuple):
    """A rate, 0..1, and its 95 % interval."""

    value: float
    low: float
    high: float

    def in_words(self) -> str:
        """'94 % [84, 98]'."""
        return f"{self.value:.0%} [{100 * self.low:.0f}, {100 * self.high:.0f}]".replace("%", " %")

    def of_all_folds(self, folds: int) -> "Estimate":
        """The estimate for a model that is fitted to all images, by models that were fitted to all folds but one.

        The former has seen folds / (folds - 1) times as many images. How much better that makes it is not known; where
        a fit can be perfect, its error falls with the inverse of their number, and hardly ever faster. So the upper end
        of the interval is that of an error so many times smaller. With the interval of the folds' models alone, 8 of 10
        draws of brickwork held the truth, and both others lay above it.
        """
        return self._replace(high=1 - (1 - self.high) * (folds - 1) / folds)


def assign_folds(labels: np.ndarray, groups: np.ndarray, most: int, seed: int) -> np.ndarray | None:
    """Divides images into folds of about the same share of both classes, no group in two of them.

    Args:
        labels: int or bool [N], 1 means cracked.
        groups: int [N].
        most: the number of folds; fewer where a class has fewer groups.
        seed: shuffles the groups.

    Returns:
        int64 [N], the fold of each image; None where a class that is there has fewer than two groups.
    """
    labels, groups = np.asarray(labels).astype(int), np.asarray(groups)
    count = min(most, *(len(np.unique(groups[labels == label])) for label in np.unique(labels)))
    if count < 2:
        return None
    fold = np.zeros(len(labels), np.int64)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed % 2**32)
    for number, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
        fold[held_out] = number
    return fold


def rate(right: np.ndarray, groups: np.ndarray) -> Estimate:
    """The share of images that are right, each group counting once. `right`: bool [N]; `groups`: int [N]."""
    shares = _per_group(right, groups)
    return Estimate(float(shares.mean()) if len(shares) else math.nan, *metrics.wilson(shares.sum(), len(shares)))


def balanced_accuracy(labels: np.ndarray, decisions: np.ndarray, groups: np.ndarray) -> Estimate:
    """The mean of recall and specificity.

    Args:
        labels: int or bool [N], 1 means cracked; with one class only, the rate of that class.
        decisions: bool [N], whether the image is called cracked.
        groups: int [N], equal for images that are one piece of evidence.
    """
    labels, decisions, groups = np.asarray(labels).astype(bool), np.asarray(decisions, bool), np.asarray(groups)
    right = decisions == labels
    if labels.all() or not labels.any():
        return rate(right, groups)
    values, centres, variances = [], [], []
    for part in (labels, ~labels):
        shares = _per_group(right[part], groups[part])
        trials, share = len(shares) + 2, (shares.sum() + 1) / (len(shares) + 2)
        values.append(shares.mean())
        centres.append(share)
        variances.append(share * (1 - share) / trials)
    variances.append(2 * _covariance(right, labels, groups))
    value, centre, half = np.mean(values), np.mean(centres), metrics.Z95 * math.sqrt(sum(variances)) / 2
    return Estimate(
        float(value), float(max(0.0, min(centre - half, value))), float(min(1.0, max(centre + half, value)))
    )


def compare(labels: np.ndarray, before: np.ndarray, after: np.ndarray, groups: np.ndarray, seed: int) -> float:
    """Tests whether decisions are better than others about the same images, by exchanging the two within groups.

    Args:
        labels: int or bool [N], 1 means cracked.
        before: bool [N], the decisions to be better than.
        after: bool [N], the decisions.
        groups: int [N].
        seed: draws the exchanges where there are too many to count.

    Returns:
        The one-sided p-value: the share of all exchanges whose balanced accuracy gains as much as `after` does.
    """
    labels, (names, groups) = np.asarray(labels).astype(bool), np.unique(groups, return_inverse=True)
    gain = np.zeros(len(names))
    for part in (labels, ~labels):
        if part.any():
            difference = (np.asarray(after)[part] == labels[part]).astype(float)
            difference -= np.asarray(before)[part] == labels[part]
            own = np.unique(groups[part])
            gain[own] += _per_group(difference, groups[part]) / len(own)
    observed, gain = gain.sum(), gain[gain != 0]
    if not len(gain):
        return 1.0
    if len(gain) <= EXACT_PAIRS:
        bits = np.arange(2 ** len(gain))[:, None] >> np.arange(len(gain)) & 1
        return float(((1 - 2 * bits) @ gain >= observed - 1e-12).mean())
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (EXCHANGES, len(gain)))
    return float((1 + (signs @ gain >= observed - 1e-12).sum()) / (1 + EXCHANGES))


def _covariance(right: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """Of the mean recall and the mean specificity, by the groups that have images of both classes; 0 or more."""
    own = [np.unique(groups[part]) for part in (labels, ~labels)]
    both = np.intersect1d(*own)
    if len(both) < 2:
        return 0.0
    shares = [
        _per_group(right[part], groups[part])[np.isin(names, both)]
        for part, names in zip((labels, ~labels), own, strict=True)
    ]
    return max(float(np.cov(*shares)[0, 1]), 0.0) * len(both) / (len(own[0]) * len(own[1]))


def _per_group(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """float64 [G]: the mean of `values` of each group."""
    _, member = np.unique(groups, return_inverse=True)
    return np.bincount(member, np.asarray(values, float)) / np.bincount(member)
