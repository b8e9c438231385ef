"""From scores to decisions: temperature, threshold by rule, and the abstention band for human review.

Synopsis::

    temperature = thresholds.fit_temperature(val_labels, val_logits)                   # 1.7
    threshold = thresholds.choose_threshold(val_labels, val_probabilities, ThresholdRule.parse("cost:20"))  # 0.08
    low, high = thresholds.abstention_band(val_probabilities, threshold, share=0.01)   # 0.05, 0.13
    covered, error = thresholds.coverage(labels, probabilities, threshold)             # float64 [N], float64 [N]

All of them are chosen on validation images. labels: int or bool [N], 1 means cracked; probabilities: float [N], 0..1,
of cracked, after the temperature; logits: float [N].
"""

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit

from crackflow.core.config.threshold import F1, RuleKind, ThresholdRule
from crackflow.core.config.training import SETTLED_IMAGES
from crackflow.evaluation import metrics

MIN_THRESHOLD, MAX_THRESHOLD = 0.01, 0.99
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
MAX_LOGIT = 40.0  # a probability of 1 - 4e-18, which float64 rounds to 1


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """Fits the temperature: Guo et al. 2017 (ICML), in the binary form.

    The targets are Platt's (1999): (n1 + 1) / (n1 + 2) for the n1 cracked images, 1 / (n0 + 2) for the n0 clean ones.
    With 0 and 1, validation images without a mistake would send T to 0.

    Args:
        labels: int or bool [N], 1 means cracked.
        logits: float [N], finite.

    Returns:
        T, 0.05..20, with the least cross-entropy of sigmoid(logits / T); 1.0 when only one class is present.

    Raises:
        ValueError: when a logit isn't finite, or the shapes differ.
    """
    labels, logits = _checked_logits("fit_temperature", labels, logits)
    if labels.all() or not labels.any():
        return 1.0
    target = _platt_targets(labels)

    def entropy(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0.0, scaled) - target * scaled))

    # Convex in 1 / T, so there is one minimum.
    optimum = minimize_scalar(entropy, bounds=(np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)), method="bounded")
    return float(np.exp(optimum.x))


def fit_sigmoid(labels: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    """Fits temperature and bias: Platt, Probabilistic outputs for support vector machines, 1999.

    His targets, as in `fit_temperature`; both classes count alike, however many images each has.

    Args:
        labels: int or bool [N], 1 means cracked.
        logits: float [N], finite.

    Returns:
        (T, b), with the least cross-entropy of sigmoid(logits / T + b), T in 0.05..20 and b in -4.6..4.6 (a threshold
        of 0.01..0.99); (1.0, 0.0) when only one class is present.

    Raises:
        ValueError: when a logit isn't finite, or the shapes differ.
    """
    labels, logits = _checked_logits("fit_sigmoid", labels, logits)
    if labels.all() or not labels.any():
        return 1.0, 0.0
    target, weight = _platt_targets(labels), np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())

    def entropy(values: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = logits * values[0] + values[1]
        slope = weight * (expit(scaled) - target)
        return float(weight @ (np.logaddexp(0.0, scaled) - target * scaled)), np.array([slope @ logits, slope.sum()])

    most = float(logit(MAX_THRESHOLD))
    bounds = [(1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE), (-most, most)]
    # Convex in 1 / T and b, so there is one minimum.
    best = minimize(entropy, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds)
    return float(1 / best.x[0]), float(best.x[1])


def _checked_logits(name: str, labels: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(labels as bool [N], logits as float64 [N]).

    Raises:
        ValueError: when a logit isn't finite, or the shapes differ.
    """
    labels, logits = np.asarray(labels).astype(bool), np.asarray(logits, np.float64)
    if labels.shape != logits.shape or labels.ndim != 1 or not np.isfinite(logits).all():
        raise ValueError(
            f"{name}: expected finite logits [N] and as many labels, received {logits.shape} and {labels.shape}"
        )
    return labels, logits


def _platt_targets(labels: np.ndarray) -> np.ndarray:
    """float64 [N], between 0 and 1, of `labels` bool [N] of both classes."""
    cracked, clean = labels.sum(), (~labels).sum()
    return np.where(labels, (cracked + 1) / (cracked + 2), 1 / (clean + 2))


def choose_threshold(labels: np.ndarray, probabilities: np.ndarray, rule: ThresholdRule = F1) -> float:
    """Chooses the threshold by `rule`, in O(N log N).

    Candidates lie halfway between neighbouring scores, so that they are as far from both sides as they can be; 0 and 1
    count as scores.

    Args:
        labels: int or bool [N], 1 means cracked.
        probabilities: float [N], 0..1, of cracked.
        rule: one of the following.
            f1: the best F1.
            youden: the largest recall + specificity (Youden 1950).
            recall:R: of the thresholds that find a fraction R of the cracked images, one with the fewest false alarms;
                0.01 if none does.
            cost:C: the least C x missed cracks + false alarms.
            bayes:C: 1 / (1 + C), the least such cost in the long run if the probabilities are true (Elkan, The
                foundations of cost-sensitive learning, IJCAI 2001), whatever these images say.

    Returns:
        The threshold, 0.01..0.99: among equally good ones the nearest to 0.5, the lower of two. 0.5 when only one class
        is present, because then there is nothing to choose by.
    """
    labels, probabilities = metrics.checked("choose_threshold", labels, probabilities)
    if rule.kind is RuleKind.BAYES:
        return float(np.clip(1 / (1 + rule.value), MIN_THRESHOLD, MAX_THRESHOLD))
    if labels.all() or not labels.any():
        return 0.5
    scores = np.unique(np.concatenate([[0.0], probabilities, [1.0]]))
    halfway = scores[:-1] + np.diff(scores) / 2
    # Between two adjacent floats there is no halfway: rounding may land on the lower one, which then would pass.
    halfway = np.where(halfway > scores[:-1], halfway, scores[1:])
    candidates = np.unique(np.clip(halfway, MIN_THRESHOLD, MAX_THRESHOLD))
    called = len(labels) - np.searchsorted(np.sort(probabilities), candidates, side="left")
    true_positives = labels.sum() - np.searchsorted(np.sort(probabilities[labels]), candidates, side="left")
    objective = _objective(rule, true_positives, called - true_positives, int(labels.sum()), int((~labels).sum()))
    best = candidates[objective == objective.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])


def shrunk(threshold: float, rule: ThresholdRule, images: int) -> float:
    """Shrinks `threshold` towards the value that `rule` gives when the probabilities are true.

    The move, in the logit, is in proportion to the images missing to SETTLED_IMAGES. The expected value is 0.5 for f1
    and youden and 1 / (1 + C) for cost:C; recall:R has none and keeps its threshold. Thresholds chosen on ten brick
    windows of each class gave models with a ROC AUC of 0.98 an accuracy of 82 to 92 % on other windows.

    Args:
        threshold: as chosen by `rule`, 0..1.
        rule: as in `choose_threshold`.
        images: number of images of the rarer class that it was chosen on.
    """
    if rule.kind in (RuleKind.RECALL, RuleKind.BAYES):
        return threshold
    expected = 1 / (1 + rule.value) if rule.kind is RuleKind.COST else 0.5
    weight = min(images / SETTLED_IMAGES, 1.0)
    return float(expit(weight * logit(threshold) + (1 - weight) * logit(expected)))


def _objective(
    rule: ThresholdRule, true_positives: np.ndarray, alarms: np.ndarray, cracked: int, clean: int
) -> np.ndarray:
    """The value of each candidate under the rule, higher is better. `true_positives`, `alarms`: int [candidates],
    cracked and clean images called cracked."""
    if rule.kind is RuleKind.F1:
        return 2 * true_positives / (cracked + true_positives + alarms)
    if rule.kind is RuleKind.YOUDEN:
        # Whole numbers: equal merits stay equal.
        return true_positives * clean - alarms * cracked
    if rule.kind is RuleKind.COST:
        return -(rule.value * (cracked - true_positives) + alarms)
    enough = true_positives >= rule.value * cracked - 1e-9
    if not enough.any():
        return -np.arange(len(true_positives))
    return np.where(enough, -alarms, -clean - 1)


def can_choose(labels: np.ndarray, rule: ThresholdRule) -> bool:
    """Whether `rule` can choose a threshold by `labels` [N]: it needs both classes, except for bayes."""
    return rule.kind is RuleKind.BAYES or bool(np.any(labels) and not np.all(labels))


def abstention_band(probabilities: np.ndarray, threshold: float, share: float) -> tuple[float, float]:
    """Chooses the band of probabilities that are left for human review.

    The band is equally wide on both sides of the threshold in the logit. It needs no labels, so it can be chosen again
    for other surfaces.

    Args:
        probabilities: float [N], 0..1.
        threshold: 0..1.
        share: fraction of `probabilities` that the band should contain, 0..1.

    Returns:
        (low, high): low is inside the band, high is not. It contains `share` of `probabilities` as nearly as their ties
        allow; (threshold, threshold) for none.
    """
    distance = np.sort(np.abs(_logit(np.asarray(probabilities, np.float64)) - logit(threshold)))
    count = int(np.floor(share * len(distance) + 1e-9))
    if not count:
        return threshold, threshold
    width = distance[count - 1 : count + 1].mean()
    return float(expit(logit(threshold) - width)), float(expit(logit(threshold) + width))


def coverage(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The risk-coverage curve (Geifman and El-Yaniv 2017, NeurIPS).

    Confidence is the distance from the threshold in the logit.

    Returns:
        (covered, error), float64 [N] each: when the k most confident of N images are decided, k / N and the fraction
        of mistakes among those k.
    """
    labels, probabilities = metrics.checked("coverage", labels, probabilities)
    order = np.argsort(-np.abs(_logit(probabilities) - logit(threshold)), kind="stable")
    wrong = ((probabilities >= threshold) != labels)[order]
    count = np.arange(1, len(labels) + 1)
    return count / len(labels), np.cumsum(wrong) / count


def label_issues(labels: np.ndarray, probabilities: np.ndarray, count: int) -> np.ndarray:
    """Finds images whose label is probably wrong.

    Confident learning (Northcutt et al. 2021, J. Artif. Intell. Res. 70:1373): the model gives the other class at least
    the probability that it gives, on average, to images labelled so.

    Returns:
        int64 [<= count]: rows, the surest first. Empty with one class only.
    """
    labels, probabilities = metrics.checked("suspects", labels, probabilities)
    if labels.all() or not labels.any():
        return np.zeros(0, np.int64)
    mean_probability = np.array([(1 - probabilities[~labels]).mean(), probabilities[labels].mean()])
    of_other_class = np.where(labels, 1 - probabilities, probabilities)
    doubtful = np.flatnonzero((of_other_class >= mean_probability[1 - labels.astype(int)]) & (of_other_class > 0.5))
    return doubtful[np.argsort(-of_other_class[doubtful], kind="stable")][: max(count, 0)]


def _logit(probabilities: np.ndarray) -> np.ndarray:
    return np.clip(logit(probabilities), -MAX_LOGIT, MAX_LOGIT)
