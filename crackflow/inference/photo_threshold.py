"""From the most probable position in a photograph to the decision about the whole, at any size.

Synopsis::

    fitted = photo_threshold.choose(small, groups, large, windows, threshold=0.5, false_alarms=0.02, seed=0)
    fitted.shift, fitted.level, fitted.growth      # 1.1, -0.4, 0.9: see PhotoThreshold
    photo_threshold.corrected(heat, shift=2.1)     # probabilities, so many logits lower

The more positions a clean photograph has, the higher the most probable of them scores by chance. If the scores have an
exponential tail of scale b, the maximum of n lies b log n higher (Gumbel, Statistics of extremes, 1958; for the fit to
the excesses over a threshold: Coles, An introduction to statistical modeling of extreme values, 2001). That amount is
subtracted from the logit of a photograph of n windows, so that one threshold serves every size. A photograph of a few
windows is mostly border, where networks see less and err more: such photographs have a minimum amount of their own.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import special

TAIL = 0.2  # fraction of the photographs, the highest, whose excess determines how fast the tail falls
ROUNDS = 4  # of fitting the tail to logits less growth x log(windows): it has converged by then
# The tail of calibrated probabilities: if p is true, clean windows of logit t are exp(-t) times as many as cracked
# ones. It serves as a prior that counts as so many photographs in the tail.
TRUE_TAIL, COUNTS_AS = 1.0, 5.0
MIN_PHOTOS = 10  # photographs needed to fit anything
# Limits of the scale of a tail: beyond them the fit is chance, or a wrong label. The growth is at most TRUE_TAIL: a few
# clean images that look cracked, and perhaps are, must not cost every crack in a large wall.
MIN_SCALE, MAX_SCALE = 0.1, 3.0
BOOTSTRAP_SAMPLES = 200
# Above the highest observed logit of a clean photograph, the line is an expensive guess: the shipped model's would
# subtract 5.0 logits from a photograph of 12 megapixels, in which METU's cracks have 4.4 to 4.8. Without observations:
DEFAULT_MAX_SHIFT = 3.0


@dataclasses.dataclass(frozen=True)
class PhotoThreshold:
    """The logits subtracted everywhere in a photograph of n windows: max(shift, min(level + growth log n, most)).

    Attributes:
        shift: the minimum, 0 or more.
        level: the amount for one window.
        growth: the amount per unit of log n.
        most: the maximum of level + growth log n, 0 or more.
        shift_ci95: 95 % bootstrap interval of `shift`.
        level_ci95: 95 % bootstrap interval of `level`.
        photos: number of clean photographs of few windows it was fitted to.
    """

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
    """Fit the subtraction so that a fraction `false_alarms` of clean photographs of any size reaches `threshold`.

    Logits are never raised.

    Args:
        small: float [N], logits of the most probable position of clean photographs of few windows.
        groups: [N], equal for photographs that are not independent.
        large: float [M], the same logits of clean photographs of many windows.
        windows: float [M], the number of windows of each of `large`.
        threshold: 0..1.
        false_alarms: fraction of clean photographs, above 0.
        seed: of the bootstrap.

    Returns:
        The fit. Values that would rest on fewer than MIN_PHOTOS independent photographs are those of `UNKNOWN`.
    """
    threshold_logit, random = float(special.logit(threshold)), np.random.default_rng(seed)
    small, large, windows = (np.asarray(values, np.float64) for values in (small, large, windows))
    _, members = np.unique(np.asarray(groups), return_inverse=True)
    fitted = dataclasses.replace(UNKNOWN, photos=len(small))
    if members.max(initial=-1) + 1 >= MIN_PHOTOS:
        shift = max(_fit_tail(small, np.ones(len(small)), false_alarms, MAX_SCALE)[1] - threshold_logit, 0.0)
        draws = _draw_groups(members, random)
        shifts = [
            max(_fit_tail(small[rows], np.ones(len(rows)), false_alarms, MAX_SCALE)[1] - threshold_logit, 0.0)
            for rows in draws
        ]
        fitted = dataclasses.replace(fitted, shift=shift, shift_ci95=_confidence_interval(shifts, shift))
    if len(large) >= MIN_PHOTOS:
        growth, level = _fit_tail(large, windows, false_alarms, TRUE_TAIL)
        draws = random.integers(0, len(large), (BOOTSTRAP_SAMPLES, len(large)))
        levels = [_fit_tail(large[rows], windows[rows], false_alarms, TRUE_TAIL)[1] - threshold_logit for rows in draws]
        interval = _confidence_interval(levels, level - threshold_logit)
        most = max(float(large.max()) - threshold_logit, 0.0)
        fitted = dataclasses.replace(
            fitted, level=level - threshold_logit, growth=growth, most=most, level_ci95=interval
        )
    return fitted


def _fit_tail(logits: np.ndarray, windows: np.ndarray, false_alarms: float, max_growth: float) -> tuple[float, float]:
    """The growth, at most `max_growth`, and the logit that a fraction `false_alarms` of clean photographs of one window
    exceeds."""
    log_windows, growth = np.log(windows), TRUE_TAIL
    for _ in range(ROUNDS if log_windows.any() else 1):
        residuals = logits - growth * log_windows
        tail_start = np.quantile(residuals, 1 - TAIL)
        excess = residuals[residuals > tail_start] - tail_start
        growth = (excess.sum() + TRUE_TAIL * COUNTS_AS) / (len(excess) + COUNTS_AS)
        growth = float(np.clip(growth, MIN_SCALE, max_growth))
    residuals = logits - growth * log_windows
    if false_alarms >= TAIL:
        return growth, float(np.quantile(residuals, 1 - false_alarms))
    return growth, float(np.quantile(residuals, 1 - TAIL) + growth * math.log(TAIL / false_alarms))


def _draw_groups(members: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
    """The rows of BOOTSTRAP_SAMPLES draws of whole groups, with replacement. `members`: int [N], the group of a row."""
    rows = [np.flatnonzero(members == number) for number in range(members.max() + 1)]
    draws = random.integers(0, len(rows), (BOOTSTRAP_SAMPLES, len(rows)))
    return [np.concatenate([rows[number] for number in draw]) for draw in draws]


def _confidence_interval(values: Sequence[float], value: float) -> tuple[float, float]:
    """The middle 95 % of `values`, extended to contain `value`, which a bootstrap may narrowly miss."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(min(low, value)), float(max(high, value))


def corrected(heat: np.ndarray, shift: float) -> np.ndarray:
    """Lower probabilities in logits.

    Args:
        heat: probabilities, 0..1, of any shape.
        shift: logits to subtract.

    Returns:
        float32, 0..1; `heat` itself if `shift` is 0.
    """
    if not shift:
        return heat
    return special.expit(special.logit(heat.astype(np.float64)) - shift).astype(np.float32)


def abstains(probabilities: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    """bool [N]: whether `probabilities`, float [N], 0..1, lie in `band`, low <= p < high: images for human review."""
    probabilities = np.asarray(probabilities, np.float64)
    return (probabilities >= band[0]) & (probabilities < band[1])
