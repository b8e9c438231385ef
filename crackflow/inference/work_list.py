"""How the photographs of a visit are worked through: by which share of cracked ones, in which order, and how far.

Synopsis::

    prior = work_list.choose_prior(probabilities, trained=0.5, expected=0.02)     # expected=0: unknown
    prior.used, prior.share                                                       # "expected", 0.02
    visit = work_list.rank(prior.correct(probabilities))
    visit.ranks, visit.count                                                      # int64 [N] from 1, 40
    work_list.sentence(visit, prior)          # "Look at 40 of 300 photographs, ...: they hold 95 % of all cracks ..."

Decisions do not depend on any of this: they are made by the threshold, which was chosen on validation data.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crackflow.inference import prior_shift

HOLDS = 0.95  # of the cracked photographs expected: the share that the first ones of the list hold
MIN_PHOTOGRAPHS = 10  # from which on the share of a visit is estimated
FEW = 0.05  # cracked photographs expected, below which a list that holds most of them would mislead


class SitePrior(NamedTuple):
    """The shares of cracked photographs that are known of a visit.

    Attributes:
        trained: that of the model's training.
        expected: that which the user expects, or None.
        estimate: that which the photographs show, or None for fewer than MIN_PHOTOGRAPHS.
        used: expected, estimated or trained: the first of them that there is.
        share: the value used, 0 < share < 1.
        photographs: the number of photographs.
    """

    trained: float
    expected: float | None
    estimate: prior_shift.ShareEstimate | None
    used: str
    share: float
    photographs: int

    def correct(self, probabilities: Sequence[float] | np.ndarray) -> np.ndarray:
        """float64 [N], 0..1: probabilities for the share used; as they are if that is the share of training."""
        if self.share == self.trained:
            return np.asarray(probabilities, np.float64)
        return prior_shift.correct(probabilities, self.trained, self.share)

    def as_dict(self) -> dict:
        """The object `prior` of findings.json."""
        estimated = self.estimate
        return {
            "trained": round(self.trained, 6),
            "expected": self.expected,
            "estimated": None if estimated is None else round(estimated.share, 6),
            "estimated_ci95": None if estimated is None else [round(bound, 6) for bound in estimated.ci95],
            "photographs": self.photographs,
            "used": self.used,
            "share": round(self.share, 6),
        }


class WorkList(NamedTuple):
    """The order of photographs.

    Attributes:
        ranks: int64 [N], 1 for the most probable one.
        count: how many of the first ones hold HOLDS of the cracked photographs expected.
        expected_cracked: the number of cracked photographs expected, the sum of their probabilities.
    """

    ranks: np.ndarray
    count: int
    expected_cracked: float

    def as_dict(self) -> dict:
        """The object `work_list` of findings.json."""
        expected = float(f"{self.expected_cracked:.6g}")
        return {"photographs": self.count, "of": len(self.ranks), "holds": HOLDS, "expected_cracked": expected}


def choose_prior(probabilities: Sequence[float] | np.ndarray, trained: float, expected: float = 0.0) -> SitePrior:
    """Chooses the share by which the photographs of a visit are ranked.

    Args:
        probabilities: float [N], 0..1, of the photographs, calibrated for `trained`.
        trained: the share of cracked images in training, 0 < share < 1.
        expected: the share that the user expects, 0 < share < 1; 0: unknown.
    """
    count = len(probabilities)
    estimate = prior_shift.estimate(probabilities, trained) if count >= MIN_PHOTOGRAPHS else None
    if expected:
        return SitePrior(trained, expected, estimate, "expected", expected, count)
    if estimate is None:
        return SitePrior(trained, None, None, "trained", trained, count)
    # A share of 0 would exclude any crack, and 1 any clean wall: N photographs show no less than half of one.
    share = float(np.clip(estimate.share, 0.5 / count, 1 - 0.5 / count))
    return SitePrior(trained, None, estimate, "estimated", share, count)


def rank(probabilities: Sequence[float] | np.ndarray) -> WorkList:
    """Ranks photographs, the most probable first; equal ones as they come.

    Args:
        probabilities: float [N], 0..1, N at least 1.
    """
    probabilities = np.asarray(probabilities, np.float64)
    order = np.argsort(-probabilities, kind="stable")
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(1, len(order) + 1)
    sums = np.cumsum(probabilities[order])
    count = int(np.searchsorted(sums, HOLDS * sums[-1] * (1 - 1e-12))) + 1  # less what a sum loses by rounding
    return WorkList(ranks, min(count, len(order)), float(sums[-1]))


def sentence(visit: WorkList, prior: SitePrior) -> str:
    """Says which photographs to look at, and by which share that was counted."""
    total = prior.photographs
    photographs = f"{total:,} photograph{'' if total == 1 else 's'}"
    if visit.expected_cracked < FEW:
        text = f"By the model fewer than {FEW:g} of {photographs} are expected to be cracked; look at rank 1 first"
    else:
        text = (
            f"Look at {visit.count:,} of {photographs}, by rank: they hold {100 * HOLDS:.0f} % of all cracks expected "
            f"({visit.expected_cracked:,.1f} cracked photographs)"
        )
    return f"{text}, counted by {_basis(prior)}"


def _basis(prior: SitePrior) -> str:
    by_themselves = ""
    if prior.estimate is not None:
        low, high = prior.estimate.ci95
        share = prior.share if prior.used == "estimated" else prior.estimate.share
        by_themselves = f"{_percent(share)} (95 % interval {_percent(low)} to {_percent(high)})"
    if prior.used == "expected":
        doubt = f"; the photographs by themselves show {by_themselves}" if by_themselves else ""
        return f"the expected share of cracked ones, {_percent(prior.share)}{doubt}"
    if prior.used == "estimated":
        return f"the share of cracked ones that they show, {by_themselves}; --expected_cracked says a known one"
    return (
        f"nothing but the share in the model's training, {_percent(prior.trained)}, which is hardly that of a site: "
        f"give --expected_cracked, or {MIN_PHOTOGRAPHS} photographs and more, which show their own"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
