"""From the most probable place of a photograph to the decision about all of it, however large it is.

Synopsis::

    chosen = photo_threshold.choose(logits, windows, groups, threshold=0.5, false_alarms=0.02, seed=0)
    chosen.shift, chosen.growth                    # 1.3, 0.7: logits taken off, and for each e-fold of windows
    photo_threshold.corrected(heat, shift=2.1)     # probabilities, so many logits lower

The more places a clean photograph has, the higher the most probable of them scores by chance. Of windows whose scores
have an exponential tail of scale b the largest of n lies b log n higher (Gumbel, 1958; for the peaks over a threshold:
Coles, An introduction to statistical modeling of extreme values, 2001). So much is taken off the logit of a photograph
of n windows, and one threshold holds for every size. All of it is chosen on clean validation photographs, looked at as
crackflow.predict does.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import special

TAIL = 0.2  # share of the photographs, the highest, whose excess tells how fast the tail falls
ROUNDS = 10  # of fitting the tail to logits less growth x log(windows), which settles in three or four
# A tail as calibrated probabilities have it: where p is true, clean windows of logit t are exp(-t) as many as cracked
# ones. It counts as so many photographs beside those that were seen.
TRUE_TAIL, COUNTS_AS = 1.0, 5.0
FEWEST = 10  # clean photographs from which a shift is chosen; with fewer the tail of calibrated probabilities is taken
SMALLEST, LARGEST = 0.1, 3.0  # of the growth: beyond them the fit is chance
RESAMPLES = 400


@dataclasses.dataclass(frozen=True)
class PhotoThreshold:
    """shift: logits taken off a photograph of one window; growth: and for each e-fold of windows; shift_ci95: of the
    shift, by a bootstrap over groups; photos: clean ones it was chosen by."""

    shift: float
    growth: float
    shift_ci95: tuple[float, float]
    photos: int


UNKNOWN = PhotoThreshold(0.0, TRUE_TAIL, (0.0, 0.0), 0)


def choose(
    logits: np.ndarray, windows: np.ndarray, groups: Sequence, threshold: float, false_alarms: float, seed: int
) -> PhotoThreshold:
    """By which a share `false_alarms`, above 0, of clean photographs of any size reaches `threshold`, 0..1.

    logits: float [N], of the most probable place of each clean photograph; windows: float [N], 1 or more, how many the
    photograph would make; groups: [N], equal for photographs that are not independent. With fewer than FEWEST groups
    `UNKNOWN`. Nothing is added to a logit: where clean photographs score low, their probability stays what it is.
    """
    logits, windows, names = np.asarray(logits, np.float64), np.asarray(windows, np.float64), np.asarray(groups)
    _, members = np.unique(names, return_inverse=True)
    count = int(members.max(initial=-1)) + 1
    if count < FEWEST:
        return dataclasses.replace(UNKNOWN, photos=len(logits))
    growth, level = _fit(logits, windows, false_alarms)
    drawn = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    rows = [np.flatnonzero(members == number) for number in range(count)]
    levels = []
    for some in drawn:
        again = np.concatenate([rows[number] for number in some])
        levels.append(_fit(logits[again], windows[again], false_alarms)[1])
    own = special.logit(threshold)
    low, high = np.quantile(levels, [0.025, 0.975])
    shift = max(level - own, 0.0)
    # The bootstrap may miss the value itself by a hair; an interval holds it.
    bounds = min(max(low - own, 0.0), shift), max(high - own, shift)
    return PhotoThreshold(float(shift), growth, (float(bounds[0]), float(bounds[1])), len(logits))


def _fit(logits: np.ndarray, windows: np.ndarray, false_alarms: float) -> tuple[float, float]:
    """(growth, the logit that a share `false_alarms` of clean photographs of one window exceeds)."""
    sizes, growth = np.log(windows), TRUE_TAIL
    for _ in range(ROUNDS):
        alone = logits - growth * sizes
        start = np.quantile(alone, 1 - TAIL)
        above = alone[alone > start] - start
        growth = (above.sum() + TRUE_TAIL * COUNTS_AS) / (len(above) + COUNTS_AS)
        growth = float(np.clip(growth, SMALLEST, LARGEST))
    alone = logits - growth * sizes
    if false_alarms >= TAIL:
        return growth, float(np.quantile(alone, 1 - false_alarms))
    return growth, float(np.quantile(alone, 1 - TAIL) + growth * math.log(TAIL / false_alarms))


def corrected(heat: np.ndarray, shift: float) -> np.ndarray:
    """float32, 0..1: probabilities `heat`, 0..1, of any shape, `shift` logits lower."""
    if not shift:
        return heat
    return special.expit(special.logit(heat.astype(np.float64)) - shift).astype(np.float32)
