"""From the most probable place of a photograph to the decision about all of it, however large it is.

Synopsis::

    chosen = photo_threshold.choose(small, groups, large, windows, threshold=0.5, false_alarms=0.02, seed=0)
    chosen.shift, chosen.level, chosen.growth      # 1.1, -0.4, 0.9: see PhotoThreshold
    photo_threshold.corrected(heat, shift=2.1)     # probabilities, so many logits lower

The more places a clean photograph has, the higher the most probable of them scores by chance. Where the scores of
places have an exponential tail of scale b, the largest of n lies b log n higher (Gumbel, Statistics of extremes, 1958;
for the fit to what exceeds a threshold: Coles, An introduction to statistical modeling of extreme values, 2001). So
much is taken off the logit of a photograph of n windows, and one threshold holds for every size. A photograph of a few
windows is mostly border, where networks see less and err more: for these there is a least amount of their own.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import special

TAIL = 0.2  # share of the photographs, the highest, whose excess tells how fast the tail falls
ROUNDS = 4  # of fitting the tail to logits less growth x log(windows): it has settled by then
# A tail as calibrated probabilities have it: where p is true, clean windows of logit t are exp(-t) as many as cracked
# ones. It counts as so many exceeding photographs beside those that were seen.
TRUE_TAIL, COUNTS_AS = 1.0, 5.0
MIN_PHOTOS = 10  # photographs from which anything is chosen
# Of the scale of a tail: beyond them the fit is chance, or a wrong label. The growth is at most TRUE_TAIL: a few clean
# images that look cracked, and perhaps are, must not cost every crack in a large wall.
MIN_SCALE, MAX_SCALE = 0.1, 3.0
BOOTSTRAP_SAMPLES = 200
# Beyond the highest clean place that was seen the line is a guess, and a dear one: the shipped model's would take 5.0
# logits off a photograph of 12 megapixels, in which METU's cracks have 4.4 to 4.8. Where nothing was seen, so many.
DEFAULT_MAX_SHIFT = 3.0


@dataclasses.dataclass(frozen=True)
class PhotoThreshold:
    """Logits taken off every place of a photograph of n windows: max(shift, min(level + growth log n, most)). shift,
    most: 0 or more; shift and level with a 95 % interval by a bootstrap; photos: clean ones it was chosen by."""

    shift: float
    level: float
    growth: float
    most: float
    shift_ci95: tuple[float, float]
    level_ci95: tuple[float, float]
    photos: int


UNKNOWN = PhotoThreshold(0.0, 0.0, TRUE_TAIL, DEFAULT_MAX_SHIFT, (0.0, 0.0), (0.0, 0.0), 0)


def choose(
    small: np.ndarray,
    groups: Sequence,
    large: np.ndarray,
    windows: np.ndarray,
    threshold: float,
    false_alarms: float,
    seed: int,
) -> PhotoThreshold:
    """By which a share `false_alarms`, above 0, of clean photographs of any size reaches `threshold`, 0..1.

    small: float [N], logits of the most probable place of clean photographs of few windows; groups: [N], equal for
    those that are not independent; large: float [M], the same of photographs of many windows, and windows: float [M],
    how many. What rests on fewer than FEWEST is as `UNKNOWN` has it. The logit of no photograph is raised.
    """
    own, random = float(special.logit(threshold)), np.random.default_rng(seed)
    small, large, windows = (np.asarray(one, np.float64) for one in (small, large, windows))
    _, members = np.unique(np.asarray(groups), return_inverse=True)
    chosen = dataclasses.replace(UNKNOWN, photos=len(small))
    if members.max(initial=-1) + 1 >= MIN_PHOTOS:
        shift = max(_fit(small, np.ones(len(small)), false_alarms, MAX_SCALE)[1] - own, 0.0)
        draws = _group_draws(members, random)
        shifts = [max(_fit(small[some], np.ones(len(some)), false_alarms, MAX_SCALE)[1] - own, 0.0) for some in draws]
        chosen = dataclasses.replace(chosen, shift=shift, shift_ci95=_interval(shifts, shift))
    if len(large) >= MIN_PHOTOS:
        growth, level = _fit(large, windows, false_alarms, TRUE_TAIL)
        draws = random.integers(0, len(large), (BOOTSTRAP_SAMPLES, len(large)))
        levels = [_fit(large[some], windows[some], false_alarms, TRUE_TAIL)[1] - own for some in draws]
        interval = _interval(levels, level - own)
        most = max(float(large.max()) - own, 0.0)
        chosen = dataclasses.replace(chosen, level=level - own, growth=growth, most=most, level_ci95=interval)
    return chosen


def _fit(logits: np.ndarray, windows: np.ndarray, false_alarms: float, largest: float) -> tuple[float, float]:
    """(growth, at most `largest`, and the logit that a share `false_alarms` of clean photographs of one window
    exceeds)."""
    sizes, growth = np.log(windows), TRUE_TAIL
    for _ in range(ROUNDS if sizes.any() else 1):
        alone = logits - growth * sizes
        start = np.quantile(alone, 1 - TAIL)
        above = alone[alone > start] - start
        growth = (above.sum() + TRUE_TAIL * COUNTS_AS) / (len(above) + COUNTS_AS)
        growth = float(np.clip(growth, MIN_SCALE, largest))
    alone = logits - growth * sizes
    if false_alarms >= TAIL:
        return growth, float(np.quantile(alone, 1 - false_alarms))
    return growth, float(np.quantile(alone, 1 - TAIL) + growth * math.log(TAIL / false_alarms))


def _group_draws(members: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
    """Rows of RESAMPLES draws of whole groups, with replacement. `members`: int [N], which group a row is in."""
    rows = [np.flatnonzero(members == number) for number in range(members.max() + 1)]
    draws = random.integers(0, len(rows), (BOOTSTRAP_SAMPLES, len(rows)))
    return [np.concatenate([rows[number] for number in draw]) for draw in draws]


def _interval(values: Sequence[float], value: float) -> tuple[float, float]:
    """The middle 95 % of `values`, and `value`, which a bootstrap may miss by a hair."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(min(low, value)), float(max(high, value))


def corrected(heat: np.ndarray, shift: float) -> np.ndarray:
    """float32, 0..1: probabilities `heat`, 0..1, of any shape, `shift` logits lower."""
    if not shift:
        return heat
    return special.expit(special.logit(heat.astype(np.float64)) - shift).astype(np.float32)


def abstains(probabilities: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    """bool [N]: which images are left to a person."""
    probabilities = np.asarray(probabilities, np.float64)
    return (probabilities >= band[0]) & (probabilities < band[1])
