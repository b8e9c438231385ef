"""Classification metrics: point values and 95 % intervals.

Synopsis::

    measured = metrics.measure(labels, probabilities, groups, threshold, resamples=1000, seed=0)
    measured["recall"], measured["recall_ci95"]                                     # 0.994, [0.987, 0.9972]
    worst = metrics.worst_mistakes(labels, probabilities, threshold, count=12)      # int64 [<= 12]

labels: int or bool [N], 1 means cracked; probabilities: float [N], 0..1, of cracked; groups: [N] of any kind that
sorts, equal for images that are not independent (copies or patches of one photograph).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

Z95 = 1.959963984540054  # 97.5 % point of the standard normal distribution
ECE_BINS = 15  # as in Guo et al. 2017
NAMES = tuple("accuracy balanced_accuracy precision recall specificity f1 mcc roc_auc pr_auc ece".split())


def wilson(successes: float, trials: float) -> tuple[float, float]:
    """95 % interval of a proportion, within 0..1; (0, 1) with no trials, because then nothing is known.

    The score interval of Wilson 1927, J. Am. Stat. Assoc. 22:209. It is useful at 0 and 1 and for few trials, where
    p +- 1.96 sqrt(p (1 - p) / n) has no width. Trials count as independent.

    Raises:
        ValueError: unless 0 <= successes <= trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"wilson: expected 0 <= successes <= trials, received {successes} of {trials}")
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    scale = 1 + Z95**2 / trials
    centre = (share + Z95**2 / (2 * trials)) / scale
    half = Z95 / scale * math.sqrt(share * (1 - share) / trials + (Z95 / (2 * trials)) ** 2)
    # min and max: rounding must not put the value itself outside the interval at 0 and 1.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def measure(
    labels: np.ndarray, probabilities: np.ndarray, groups: Sequence, threshold: float, resamples: int, seed: int
) -> dict:
    """Measures the content of metrics.json. An image is called cracked when its probability >= threshold.

    A value is undefined when it divides by zero (precision without a predicted positive, recall without a positive, F1
    with neither). mcc, balanced_accuracy and the areas under the curves are undefined with one class only (mcc also
    when all decisions are equal). Intervals of accuracy, precision, recall and specificity are Wilson's, each image a
    trial. The others are from a cluster bootstrap over `groups` (`_bootstrap`), which is the more cautious of the two
    when a group holds copies of one image.

    Args:
        labels: int or bool [N], 1 means cracked.
        probabilities: float [N], 0..1, of cracked.
        groups: [N], equal for images that are not independent.
        threshold: 0..1.
        resamples: bootstrap samples.
        seed: seed of the bootstrap.

    Returns:
        Metrics by name with their `_ci95`, `threshold`, `n` and `confusion`: Python numbers, None where undefined.

    Raises:
        ValueError: when shapes or values are not as described.
    """
    labels, probabilities = checked("measure", labels, probabilities)
    if len(groups) != len(labels) or resamples < 1:
        raise ValueError(
            f"measure: expected one group for each of {len(labels)} labels and 1 resample or more, "
            f"received {len(groups)} groups, {resamples} resamples"
        )
    decisions = probabilities >= threshold
    confusion = _confusion(labels, decisions)
    tn, fp, fn, tp = confusion.values()
    both = labels.any() and not labels.all()
    values = _confusion_metrics(confusion) | {
        "roc_auc": float(roc_auc_score(labels, probabilities)) if both else None,
        "pr_auc": float(average_precision_score(labels, probabilities)) if both else None,
        "ece": calibration_error(labels, probabilities),
    }
    intervals = _bootstrap(labels, probabilities, decisions, groups, resamples, seed)
    rates = {
        "accuracy": (tp + tn, len(labels)),
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "specificity": (tn, tn + fp),
    }
    result = {}
    for name in NAMES:
        result[name] = _ratio(*rates[name]) if name in rates else values[name]
        result[f"{name}_ci95"] = _wilson_or_none(*rates[name]) if name in rates else intervals[name]
    return result | {"threshold": float(threshold), "n": len(labels), "confusion": confusion}


def _confusion_metrics(confusion: dict[str, float]) -> dict[str, float | None]:
    """balanced_accuracy, f1 and mcc from counts or weights; None where undefined.

    mcc: Matthews 1975, Biochim. Biophys. Acta 405:442."""
    tn, fp, fn, tp = confusion.values()
    both = tp + fn > 0 and tn + fp > 0
    margins = (tp + fp) * (tn + fn) * (tp + fn) * (tn + fp)
    return {
        "balanced_accuracy": (tp / (tp + fn) + tn / (tn + fp)) / 2 if both else None,
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "mcc": (tp * tn - fp * fn) / math.sqrt(margins) if margins else None,
    }


def checked(caller: str, labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Validates and converts to labels bool [N] and probabilities float64 [N]; `caller` opens the message of a
    ValueError."""
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
    if labels.ndim != 1 or labels.shape != probabilities.shape or not len(labels):
        raise ValueError(
            f"{caller}: expected labels and probabilities of one shape [N], N >= 1, "
            f"received {labels.shape} and {probabilities.shape}"
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"{caller}: expected labels 0 or 1, received {np.unique(labels)[:5].tolist()}")
    legal = (probabilities >= 0) & (probabilities <= 1)
    if not legal.all():
        row = int(np.argmin(legal))
        raise ValueError(
            f"{caller}: expected probabilities from 0 to 1, received {probabilities[row]} at {row}; "
            "not a number means that the training diverged"
        )
    return labels.astype(bool), probabilities


def _confusion(labels: np.ndarray, decisions: np.ndarray) -> dict[str, int]:
    """Counts of `labels` and `decisions`, bool [N]; cracked is the positive class."""
    tn, fp, fn, tp = np.bincount(2 * labels.astype(np.int64) + decisions, minlength=4).tolist()
    return {"tn": tn, "fp": fp, "fn": fn, "tp": tp}


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _wilson_or_none(successes: int, trials: int) -> list[float] | None:
    return list(wilson(successes, trials)) if trials else None


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = ECE_BINS) -> tuple[np.ndarray, ...]:
    """The reliability diagram, in bins of equal width over 0..1.

    Returns:
        (count int64 [bins], cracked int64 [bins], mean probability float64 [bins], NaN in empty bins).
    """
    labels, probabilities = checked("reliability", labels, probabilities)
    bin_index = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    count = np.bincount(bin_index, minlength=bins)
    cracked = np.bincount(bin_index[labels], minlength=bins)
    total = np.bincount(bin_index, probabilities, minlength=bins)
    return count, cracked, np.divide(total, count, out=np.full(bins, np.nan), where=count > 0)


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error, 0..1: sum over 15 bins of fraction of images x |observed - stated frequency|.

    Naeini et al. 2015 (AAAI), in the binary form: the bins hold the probability of cracked, not that of the predicted
    class as in Guo et al. 2017 (ICML), because people act on the probability of cracked here.
    """
    count, cracked, stated = reliability(labels, probabilities)
    used = count > 0
    return float(np.abs(cracked[used] - count[used] * stated[used]).sum() / count.sum())


def ranked_auc(labels: np.ndarray, probabilities: np.ndarray) -> Callable[[np.ndarray], float | None]:
    """Builds a function of weights, float64 [N], that returns the weighted ROC AUC, or None, in O(N).

    It sorts once. The area is the weight of the pairs (cracked, clean) in the right order, ties counting half: Mann and
    Whitney 1947. With whole-number weights all sums are exact.
    """
    negatives = np.flatnonzero(~labels)
    negatives = negatives[np.argsort(probabilities[negatives], kind="stable")]
    positives = np.flatnonzero(labels)
    positives = positives[np.argsort(probabilities[positives], kind="stable")]
    scores = probabilities[negatives]
    below = np.searchsorted(scores, probabilities[positives], side="left")
    not_above = np.searchsorted(scores, probabilities[positives], side="right")

    def area(weights: np.ndarray) -> float | None:
        up_to = np.concatenate([[0.0], np.cumsum(weights[negatives])])
        positive = weights[positives]
        pairs = up_to[-1] * positive.sum()
        if not pairs:
            return None
        return _dot(positive, up_to[below] + up_to[not_above]) / (2 * pairs)

    return area


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    """The sum of products. Not `@`: BLAS threads waiting for a busy core made the bootstrap ten times slower."""
    return float(np.einsum("i,i", a, b))


def ranked_precision(labels: np.ndarray, probabilities: np.ndarray) -> Callable[[np.ndarray], float | None]:
    """Builds a function of weights, float64 [N], that returns the weighted average precision, or None, in O(N). It
    sorts once."""
    order = np.argsort(-probabilities, kind="stable")
    positive = labels[order].astype(np.float64)
    last = np.append(np.flatnonzero(np.diff(probabilities[order])), len(order) - 1)  # of equal scores

    def average(weights: np.ndarray) -> float | None:
        weights = weights[order]
        true_positives, called = np.cumsum(weights * positive)[last], np.cumsum(weights)[last]
        if not true_positives[-1]:
            return None
        precision = np.divide(true_positives, called, out=np.zeros(len(last)), where=called > 0)
        return _dot(np.diff(true_positives, prepend=0.0), precision) / true_positives[-1]

    return average


def binned_error(labels: np.ndarray, probabilities: np.ndarray) -> Callable[[np.ndarray], float | None]:
    """Builds a function of weights, float64 [N], that returns the weighted calibration error, or None, in O(N)."""
    bin_index = np.minimum((probabilities * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    gap = labels - probabilities

    def error(weights: np.ndarray) -> float | None:
        total = weights.sum()
        return float(np.abs(np.bincount(bin_index, weights * gap, ECE_BINS)).sum() / total) if total else None

    return error


def _bootstrap(
    labels: np.ndarray,
    probabilities: np.ndarray,
    decisions: np.ndarray,
    groups: Sequence,
    resamples: int,
    seed: int,
) -> dict[str, list[float] | None]:
    """95 % intervals of the metrics that are not rates: percentiles over `resamples` draws of whole groups, with
    replacement.

    Cluster bootstrap: Davison and Hinkley 1997, section 3.8; Field and Welsh 2007, J. R. Stat. Soc. B 69:369.
    Draws in which a value is undefined are left out. When no two draws differ (f1 or an area of 1.0, a single group),
    the bootstrap says nothing, and the functions `_..._without_spread` give the interval. A calibration error is never
    below zero, so its draws lie above it on average: its interval errs on the cautious side.
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    count = int(group.max()) + 1
    cells = 2 * labels.astype(np.int64) + decisions
    in_group = np.bincount(4 * group + cells, minlength=4 * count).reshape(count, 4).astype(np.float64)
    measured = {
        "roc_auc": ranked_auc(labels, probabilities),
        "pr_auc": ranked_precision(labels, probabilities),
        "ece": binned_error(labels, probabilities),
    }
    generator = np.random.default_rng(seed)
    drawn_values = {name: [] for name in ("balanced_accuracy", "f1", "mcc", *measured)}
    for _ in range(resamples):
        drawn = np.bincount(generator.integers(0, count, count), minlength=count).astype(np.float64)
        tn, fp, fn, tp = (_dot(drawn, in_group[:, cell]) for cell in range(4))
        weights = drawn[group]
        values = _confusion_metrics({"tn": tn, "fp": fp, "fn": fn, "tp": tp})
        for name, value in (
            values | {name: measure_weighted(weights) for name, measure_weighted in measured.items()}
        ).items():
            drawn_values[name].append(value)
    intervals = {name: _percentiles(values) for name, values in drawn_values.items()}
    unit_weights = np.ones(len(labels))
    without_spread = _values_without_spread(in_group)
    intervals["f1"] = intervals["f1"] or _f1_without_spread(in_group[:, 3], in_group[:, 1] + in_group[:, 2])
    for name in ("balanced_accuracy", "mcc"):
        intervals[name] = intervals[name] or without_spread[name]
    for name in ("roc_auc", "pr_auc"):
        both = labels.any() and not labels.all()
        intervals[name] = intervals[name] or _auc_without_spread(
            labels, group, measured[name](unit_weights) if both else None
        )
    return intervals


def _percentiles(values: list[float | None]) -> list[float] | None:
    """The 2.5 and 97.5 % points; None when there are no values, or no two that differ."""
    known = [value for value in values if value is not None]
    if not known or min(known) == max(known):
        return None
    return np.percentile(known, [2.5, 97.5]).tolist()


def _f1_without_spread(hits: np.ndarray, misses: np.ndarray) -> list[float] | None:
    """Wilson's interval of F* = TP / (TP + FP + FN), as F1 = 2 F* / (1 + F*); each group that counts is one trial.

    "Wilson indirect" of Lam 2023, arXiv:2309.14621. `hits`, `misses`: float64 [G], TP and FP + FN of each group.
    """
    trials = int(((hits + misses) > 0).sum())
    if not trials:
        return None
    share = hits.sum() / (hits.sum() + misses.sum())
    return [2 * bound / (1 + bound) for bound in wilson(float(share * trials), trials)]


def _values_without_spread(in_group: np.ndarray) -> dict[str, list[float] | None]:
    """balanced_accuracy and mcc with recall and specificity at the lower, and at the upper ends of their Wilson
    intervals, each group a trial. `in_group`: float64 [G, 4], tn, fp, fn, tp of each group."""
    tn, fp, fn, tp = in_group.sum(0)
    if not (tn + fp and fn + tp):
        return {"balanced_accuracy": None, "mcc": None}
    trials = [int((in_group[:, cells].sum(1) > 0).sum()) for cells in ((0, 1), (2, 3))]
    specificity = wilson(tn / (tn + fp) * trials[0], trials[0])
    recall = wilson(tp / (tp + fn) * trials[1], trials[1])
    ends = [
        _confusion_metrics(
            {
                "tn": specificity_bound * trials[0],
                "fp": (1 - specificity_bound) * trials[0],
                "fn": (1 - recall_bound) * trials[1],
                "tp": recall_bound * trials[1],
            }
        )
        for specificity_bound, recall_bound in zip(specificity, recall, strict=True)
    ]
    return {
        name: None if any(end[name] is None for end in ends) else [end[name] for end in ends]
        for name in ("balanced_accuracy", "mcc")
    }


def _auc_without_spread(labels: np.ndarray, group: np.ndarray, value: float | None) -> list[float] | None:
    """Wilson's interval of P(a cracked image scores above a clean one), from as many pairs as share no group; for
    average precision the same, as both are 1 together."""
    if value is None:
        return None
    pairs = min(len(np.unique(group[labels])), len(np.unique(group[~labels])))
    return list(wilson(value * pairs, pairs))


def worst_mistakes(labels: np.ndarray, probabilities: np.ndarray, threshold: float, count: int) -> np.ndarray:
    """int64 [<= count]: rows decided wrongly, the lowest probability of the true class first; ties by row."""
    labels, probabilities = checked("worst_mistakes", labels, probabilities)
    wrong = np.flatnonzero((probabilities >= threshold) != labels)
    of_truth = np.where(labels, probabilities, 1 - probabilities)[wrong]
    return wrong[np.argsort(of_truth, kind="stable")][: max(count, 0)]
