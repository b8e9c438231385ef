"""From the share of cracked images in training to that of a site: probabilities corrected, and the share estimated.

Synopsis::

    prior_shift.trained_share(loaded.card)                                        # 0.25; 0.5 where nothing is known
    prior_shift.correct([0.9, 0.5], trained=0.5, expected=0.02)                   # float64 [0.155, 0.02]
    estimated = prior_shift.estimate(probabilities, trained=0.5)
    estimated.share, estimated.ci95                                               # 0.07, (0.03, 0.12)

A probability p that is calibrated where a share t of the images is cracked is p' where that share is e, if cracked
images look alike in both places, and clean ones too:

    logit p' = logit p + logit e - logit t

The share of a site is estimated without labels: by Saerens, Latinne and Decaestecker, Adjusting the outputs of a
classifier to new a priori probabilities, Neural Computation 14:21, 2002. With r_i = (odds of p_i) / (odds of t), which
is the likelihood ratio of image i, the log likelihood of a share s is

    l(s) = sum_i log(1 - s + s r_i)

Its maximum is where their expectation maximisation ends, s <- mean_i of p_i corrected to s. l is concave, so the
maximum is bracketed by the sign of its slope instead, which is exact near 0 and 1 too, where the iteration creeps.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

from crackflow.model.model_file import ModelMetadata

BALANCED = 0.5  # the share of cracked images in the training of a model whose file does not say it
# Probabilities are no surer than the heat map can be (crack_tracing.LOGIT_CLIP): one image alone then forbids no share.
CLIP = 1e-6
HALF_DROP95 = float(stats.chi2.ppf(0.95, 1)) / 2  # of the log likelihood, at the ends of a 95 % interval


class ShareEstimate(NamedTuple):
    """The share of cracked images among some without labels.

    Attributes:
        share: the most likely one, 0..1.
        ci95: 95 % interval of it by the likelihood ratio.
        images: the number of images.
    """

    share: float
    ci95: tuple[float, float]
    images: int


def trained_share(card: ModelMetadata) -> float:
    """The share of cracked images for which the probabilities of a model are calibrated.

    It is that of the validation images, which is that of the training images, too, unless the model says otherwise.

    Returns:
        0 < share < 1; BALANCED where a class is missing or nothing is said.
    """
    if card.calibrated_share:
        return card.calibrated_share
    clean, cracked = card.validation.get("clean") or 0, card.validation.get("cracked") or 0
    return cracked / (clean + cracked) if clean > 0 and cracked > 0 else BALANCED


def correct(probabilities: np.ndarray | Sequence[float], trained: float, expected: float) -> np.ndarray:
    """Corrects probabilities for another share of cracked images; their order does not change.

    Args:
        probabilities: float [...], 0..1, calibrated for `trained`.
        trained: the share of cracked images in training, 0 < share < 1.
        expected: the share where the probabilities are used, 0 < share < 1.

    Returns:
        float64 of the same shape, 0..1; 0 and 1 stay what they are.

    Raises:
        ValueError: a share or a probability is out of range.
    """
    _require_share(expected)
    return special.expit(_log_ratios(probabilities, trained) + special.logit(expected))


def estimate(probabilities: np.ndarray | Sequence[float], trained: float) -> ShareEstimate:
    """Estimates the share of cracked images.

    Args:
        probabilities: float [N], 0..1, of independent images, calibrated for `trained`.
        trained: the share of cracked images in training, 0 < share < 1.

    Returns:
        The estimate: 0 or 1 if the likelihood still grows there, with an interval that reaches it and has a width
        nevertheless. If the images say nothing, because there are none or all have the probability `trained`, the
        share is `trained` and the interval 0 to 1.

    Raises:
        ValueError: the share or a probability is out of range.
    """
    ratios = _log_ratios(np.clip(_checked(probabilities), CLIP, 1 - CLIP), trained).ravel()
    if not ratios.any():
        return ShareEstimate(trained, (0.0, 1.0), len(ratios))

    def slope(share: float) -> float:
        """Of the log likelihood: the sum of (r - 1) / (1 - s + s r), both parts divided by the larger of r and 1."""
        larger = np.maximum(ratios, 0.0)
        high, low = np.exp(ratios - larger), np.exp(-larger)
        return float(((high - low) / ((1 - share) * low + share * high)).sum())

    def log_likelihood(share: float) -> float:
        with np.errstate(divide="ignore"):  # log 0 at the borders
            return float(np.logaddexp(np.log1p(-share), np.log(share) + ratios).sum())

    best = _crossing(slope)
    limit = log_likelihood(best) - HALF_DROP95

    def below_limit(share: float) -> float:
        return log_likelihood(share) - limit

    low = 0.0 if below_limit(0.0) >= 0 else optimize.brentq(below_limit, 0.0, best)
    high = 1.0 if below_limit(1.0) >= 0 else optimize.brentq(below_limit, best, 1.0)
    return ShareEstimate(best, (float(low), float(high)), len(ratios))


def _crossing(slope: Callable[[float], float]) -> float:
    """Where a falling function on 0..1 is 0; the border nearest to it if it is 0 nowhere."""
    if slope(0.0) <= 0:
        return 0.0
    if slope(1.0) >= 0:
        return 1.0
    return float(optimize.brentq(slope, 0.0, 1.0, xtol=1e-12))


def _log_ratios(probabilities: np.ndarray | Sequence[float], trained: float) -> np.ndarray:
    """float64 [...]: the logarithms of the likelihood ratios."""
    _require_share(trained)
    return special.logit(_checked(probabilities)) - special.logit(trained)


def _checked(probabilities: np.ndarray | Sequence[float]) -> np.ndarray:
    probabilities = np.asarray(probabilities, np.float64)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("expected probabilities from 0 to 1, received others")
    return probabilities


def _require_share(share: float) -> None:
    if not 0 < share < 1:
        raise ValueError(f"expected a share between 0 and 1, received {share}")
