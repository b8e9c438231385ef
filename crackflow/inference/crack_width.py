"""Measures how wide the cracks of a photograph are, with errors, along their middle lines.

Synopsis::

    grey = cross_profiles.GreyPixels.of(pixels)                   # uint8 [H, W, C], the photograph's own pixels
    widths, limits = crack_width.measure(grey, [lines, lines])    # of each crack: float64 [N, 2] each, (x, y)
    widths[0].width_px["median"], widths[0].note, limits["measurable_px"]

Across each line, every POOL pixels, a blurred slit is fitted to the mean of POOL profiles (`inference.slit_fit`). This
is done twice. The first time little is assumed. Where the slit is wider than its blur, this tells the blur of the
photograph and the contrast of the crack. The second time both are assumed, so that narrower parts of the same crack can
be measured by the light that they take away. Junctions, line ends, what has no slit and what lies at the border of the
photograph are left out. A crack narrower than MEASURABLE_BLURS times the blur has no width, only an upper bound.
"""

import dataclasses

import numpy as np
from scipy import ndimage, spatial

from crackflow.inference import cross_profiles, slit_fit, width_results
from crackflow.inference.cross_profiles import POOL, GreyPixels, Stations

FIRST = slit_fit.Prior(blur_px=0.9, blur_spread=0.4, contrast=0.7, contrast_spread=0.2)
HALVES_PX = (10, 16, 28, cross_profiles.MAX_HALF_PX)  # lengths of profiles; one of them fits each crack
GROUND_PX = 7.0  # of ground on each side of a slit, at least
MIN_BLUR_SPREAD, MIN_CONTRAST_SPREAD = 0.06, 0.04  # by which slits of one crack differ
MAX_BLUR_DIFFERENCE, MAX_CONTRAST_DIFFERENCE = 0.2, 0.15  # standard deviation between cracks of one photograph
LOG_BLURS = np.log(slit_fit.MIN_BLUR_PX), np.log(8.0)
MAX_PROFILES = 6.0  # that tell more than one does: what the model does not tell, they have in common
CORRELATED = 2.0  # neighbouring profiles that tell as much as one, as grains are as long as POOL pixels
JUNCTION_PX, END_PX = 5.0, 4.0  # beside the other branch, and before the end of a line, in addition to half the width
MAX_GROUPS = 1200  # profiles of a photograph, about 0.6 s; of longer cracks every second is fitted, or every third ...
MIN_GROUPS = 3  # of a crack that has a width
MEASURABLE_BLURS = 2.0
MIN_MEASURABLE_PX = 1.0
# A slit as faint and narrow as this may as well be a darker one half as wide: both look alike.
FAINT_CONTRAST, FAINT_BLURS = 0.35, 5.0
VISIBLE_SIGMA = 3.0  # depth of the thinnest visible crack, by the noise of the ground
ERROR_FACTOR = 1.3  # of all errors, from benchmarks.width: where the ground is no straight line, more than noise
TONE_FRACTION = 0.5  # of the difference between blur in linear light and in the levels of the file, as an error
MODEL_ERROR_PX = 0.04
MAX_RELATIVE_ERROR = 0.5  # half the interval of a median by the median, beyond which it is no width
Z95 = 1.96
NO_LINE, NO_SLIT = "no line to measure across", "no part of it has two clear edges"


@dataclasses.dataclass(frozen=True)
class CrackWidth:
    """The width of a crack, in pixels of the photograph.

    Attributes:
        centerline: one {"points": [[x, y], ...], "widths_px": [width or None, ...]} per branch.
        width_px: {"median": {"value", "low", "high"}, "p95": the same, "max": the same with "at": [x, y]}, with 95 %
            intervals; None if the crack can't be measured.
        width_mm: the same in millimetres, or None.
        note: why it can't, or "".
    """

    centerline: list[dict]
    width_px: dict | None
    width_mm: dict | None
    note: str


@dataclasses.dataclass(frozen=True)
class _Groups:
    """Stations in groups of POOL, of all cracks of a photograph.

    Attributes:
        stations: POOL per group.
        crack: int [N], number of the crack.
        branch: int [N], number of the branch within its crack.
        rough: float64 [N], rough width in pixels; not a number for a group that is not to be measured.
    """

    stations: Stations
    crack: np.ndarray
    branch: np.ndarray
    rough: np.ndarray

    @property
    def points(self) -> np.ndarray:
        """float64 [N, 2]: the middle of each group."""
        return self.stations.points[POOL // 2 :: POOL]


def measure(
    grey: GreyPixels, cracks: list[list[np.ndarray]], mm_per_px: float = 0.0
) -> tuple[list[CrackWidth], dict | None]:
    """Measures the widths of the cracks of a photograph.

    Args:
        grey: the photograph.
        cracks: the lines of each crack, float64 [N, 2] each, (x, y) in pixels of the photograph.
        mm_per_px: millimetres per pixel, 0: unknown.

    Returns:
        (one width per crack, the limits {"blur_px", "measurable_px", "visible_px", "measurable_mm", "visible_mm"}, or
        None if nothing tells them).
    """
    lines = [[line for line in crack if len(line) > 1 and np.ptp(line, axis=0).any()] for crack in cracks]
    groups = _groups(grey, lines)
    if not len(groups.crack):
        return [CrackWidth(_without_widths(crack), None, None, NO_LINE) for crack in lines], None
    batches = _profiles(grey, groups)
    first = _fit(batches, groups.rough, FIRST[np.zeros(len(groups.crack), int)])
    prior = _learn(first, groups.crack, len(lines))
    fit = _fit(batches, first.width, prior[groups.crack])
    fit = dataclasses.replace(fit, is_good=fit.is_good & _agrees(fit, groups))
    limits = _limits(fit, prior)
    measurable = np.maximum(MEASURABLE_BLURS * np.asarray(prior.blur_px), MIN_MEASURABLE_PX)
    widths = []
    for number, crack in enumerate(lines):
        own = groups.crack == number
        points, good = groups.points[own], fit.is_good[own]
        values = np.where(good, fit.width[own], np.nan)
        values = np.where(values < measurable[number], np.nan, values)
        centerline = width_results.centerline(crack, points, groups.branch[own], values)
        summary, note = _summary(fit, own, points, measurable[number])
        width_mm = width_results.in_mm(summary, mm_per_px)
        widths.append(CrackWidth(centerline, summary, width_mm, note if crack else NO_LINE))
    return widths, width_results.limits_in_mm(limits, mm_per_px)


def _without_widths(lines: list[np.ndarray]) -> list[dict]:
    return width_results.centerline(lines, np.zeros((0, 2)), np.zeros(0, int), np.zeros(0))


def _groups(grey: GreyPixels, cracks: list[list[np.ndarray]]) -> _Groups:
    """The groups of all cracks; of long ones every second, third, ..."""
    length = sum(np.hypot(*np.diff(line, axis=0).T).sum() for crack in cracks for line in crack)
    stride = max(int(np.ceil(length / POOL / MAX_GROUPS)), 1)
    parts: list[_Groups] = []
    for number, crack in enumerate(cracks):
        branches = [cross_profiles.stations(grey, line) for line in crack]
        for branch, near in enumerate(branches):
            count = len(near) // POOL
            first = (len(near) - count * POOL) // 2
            near = near[first : first + count * POOL]
            rough = np.median(near.rough_widths.reshape(count, POOL), axis=1)
            middle, at = near.points[POOL // 2 :: POOL], (np.arange(count) + 0.5) * POOL
            is_bad = np.minimum(at, count * POOL - at) < END_PX + rough / 2
            is_bad |= np.hypot(*(near.points[::POOL] - near.points[POOL - 1 :: POOL]).T) < 0.7 * (POOL - 1)  # a kink
            for other, points in enumerate(branches):
                if other != branch and count:
                    beside = np.nanmedian(points.rough_widths) if np.isfinite(points.rough_widths).any() else 0.0
                    is_bad |= spatial.cKDTree(points.points).query(middle)[0] < JUNCTION_PX + (rough + beside) / 2
            select = np.arange(0, count, stride)
            index = (select[:, None] * POOL + np.arange(POOL)).ravel()
            rough = np.where(is_bad, np.nan, rough)[select]
            parts.append(_Groups(near[index], np.full(len(select), number), np.full(len(select), branch), rough))
    if not parts:
        empty = np.zeros((0, 2))
        return _Groups(Stations(empty, empty, np.zeros(0)), np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    fields = ("points", "normals", "rough_widths")
    stations = Stations(*(np.concatenate([getattr(part.stations, field) for part in parts]) for field in fields))
    return _Groups(
        stations, *(np.concatenate([getattr(part, name) for part in parts]) for name in ("crack", "branch", "rough"))
    )


def _profiles(grey: GreyPixels, groups: _Groups) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(int [N], which groups; their offsets, float64 [M]; their profiles, float32 [N, M]) of each length."""
    batches = []
    size = np.searchsorted(HALVES_PX, 0.75 * groups.rough + GROUND_PX)  # nan comes last
    for number, half in enumerate(HALVES_PX):
        index = np.flatnonzero(size == number)
        if len(index):
            stations = groups.stations[(index[:, None] * POOL + np.arange(POOL)).ravel()]
            offsets, profiles = cross_profiles.pooled(grey, stations, half)
            is_whole = np.isfinite(profiles).all(1) & (profiles.max(1) > 0)
            batches.append((index[is_whole], offsets, profiles[is_whole]))
    return [batch for batch in batches if len(batch[0])]


def _fit(
    batches: list[tuple[np.ndarray, np.ndarray, np.ndarray]], guess: np.ndarray, prior: slit_fit.Prior
) -> slit_fit.SlitFit:
    """A slit per group, of float64 [N] `guess`; what was not fitted is not good. `prior` has one row per group."""
    count = len(guess)
    names = [field.name for field in dataclasses.fields(slit_fit.SlitFit)]
    shapes = {"information": (count, 2, 2), "tendency": (count, 2)}
    values = {name: np.full(shapes.get(name, count), np.nan) for name in names} | {"is_good": np.zeros(count, bool)}
    for index, offsets, profiles in batches:
        part = slit_fit.fit(offsets, profiles, guess[index], prior[index])
        for name in names:
            values[name][index] = getattr(part, name)
    return slit_fit.SlitFit(**values)


def _learn(first: slit_fit.SlitFit, crack: np.ndarray, count: int) -> slit_fit.Prior:
    """What the slits tell together of the blur of the photograph, and each crack's of its own blur and contrast.

    An empirical Bayes estimate: one blur and one contrast are assumed for all slits of a crack, so that what each tells
    adds up. A wide slit tells much of both, a narrow one little.
    """
    photo_mean, photo_precision = _combine(first, first.is_good, *_moments(FIRST))
    spread = np.array([MAX_BLUR_DIFFERENCE, MAX_CONTRAST_DIFFERENCE])
    photo_precision = np.linalg.inv(np.linalg.inv(photo_precision) + np.diag(spread**2))
    means, spreads = [], []
    for number in range(count):
        mean, precision = _combine(first, first.is_good & (crack == number), photo_mean, photo_precision)
        means.append(mean)
        variance = np.diag(np.linalg.inv(precision))
        spreads.append(np.sqrt(variance + [MIN_BLUR_SPREAD**2, MIN_CONTRAST_SPREAD**2]))
    mean, spread = np.array(means), np.array(spreads)
    contrast = np.clip(mean[:, 1], 0.05, 1.0)
    return slit_fit.Prior(np.exp(np.clip(mean[:, 0], *LOG_BLURS)), spread[:, 0], contrast, spread[:, 1])


def _moments(prior: slit_fit.Prior) -> tuple[np.ndarray, np.ndarray]:
    """(mean, precision) of (logarithm of the blur, contrast)."""
    precision = np.diag([prior.blur_spread**-2.0, prior.contrast_spread**-2.0])
    return np.array([np.log(prior.blur_px), prior.contrast]), precision


def _combine(
    first: slit_fit.SlitFit, use: np.ndarray, mean: np.ndarray, precision: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(mean, precision) after the slits in `use`; those that contradict most others are left out."""
    repeated = max(use.sum() / MAX_PROFILES, CORRELATED)
    information, tendency = first.information[use] / repeated, first.tendency[use] / repeated
    own = np.stack([np.log(first.blur[use]), first.contrast[use]], 1)
    weight = np.ones(len(own))
    for _ in range(3):
        total = precision + (weight[:, None, None] * information).sum(0)
        center = np.linalg.solve(total, precision @ mean + (weight[:, None] * tendency).sum(0))
        distance = np.einsum("ni,nij,nj->n", own - center, information, own - center)
        typical = max(float(np.median(distance)), 1.0) if len(own) else 1.0
        weight = 1 / (1 + (distance / (4 * typical)) ** 2)  # Cauchy's
    if len(own):
        # Narrow slits depend on both in a way that no Gaussian describes: their sum may lie beyond all of them.
        center = np.clip(center, *np.quantile(own, [0.1, 0.9], axis=0))
    # Where slits differ more than their errors say, they tell less.
    return center, precision + (total - precision) / typical


def _agrees(fit: slit_fit.SlitFit, groups: _Groups) -> np.ndarray:
    """bool [N]: whether a width is not far from all its neighbours along the line."""
    agrees = np.ones(len(fit.width), bool)
    for number in np.unique(groups.crack):
        own = np.flatnonzero((groups.crack == number) & fit.is_good)
        if len(own) < 5:
            continue
        width = fit.width[own]
        typical = ndimage.median_filter(width, 7, mode="nearest")
        spread = 1.48 * np.median(np.abs(width - typical))
        agrees[own] = np.abs(width - typical) < 4 * np.maximum(spread, fit.width_error[own]) + 0.3 * typical
    return agrees


def _summary(fit: slit_fit.SlitFit, own: np.ndarray, points: np.ndarray, measurable: float) -> tuple[dict | None, str]:
    """(the widths of a crack, a note): one of both."""
    good = fit.is_good[own]
    if good.sum() < MIN_GROUPS:
        return None, NO_SLIT
    index = np.flatnonzero(own)[good]
    width, points = fit.width[index], points[good]
    own_error = np.sqrt(np.maximum(fit.width_error[index] ** 2 - fit.shared_error[index] ** 2, 0))
    systematic = _systematic(fit, index)
    median = float(np.median(width))
    # From its neighbours: that a crack is wider elsewhere is no error.
    spread = float(np.quantile(np.abs(width - ndimage.median_filter(width, 5, mode="nearest")), 0.84))
    error = 1.25 * max(spread, float(np.median(own_error))) / np.sqrt(max(len(width) / 2, 1))
    uncertain = Z95 * ERROR_FACTOR * np.hypot(error, np.median(systematic))
    is_faint = np.median(fit.contrast[index]) < FAINT_CONTRAST and np.median(width / fit.blur[index]) < FAINT_BLURS
    if median < measurable or is_faint:
        return None, f"at most {max(measurable, median + uncertain):.1f} px: thinner than can be resolved here"
    if uncertain > MAX_RELATIVE_ERROR * median:
        return None, f"at most {median + uncertain:.1f} px: its edges are not clear enough for a width"
    result = {"median": _interval(median, np.hypot(error, np.median(systematic)))}
    smooth = ndimage.median_filter(width, 3, mode="nearest") if len(width) > 4 else width
    ninety_five = float(np.quantile(smooth, 0.95))
    top = smooth >= np.quantile(smooth, 0.9)
    tail = np.hypot(np.median(own_error[top]), np.median(systematic[top]))
    result["p95"] = _interval(max(ninety_five, median), tail)
    widest = int(smooth.argmax())
    beside = float(width[max(widest - 2, 0) : widest + 3].std())
    error = np.sqrt(own_error[widest] ** 2 + systematic[widest] ** 2 + beside**2)
    result["max"] = _interval(max(float(smooth[widest]), ninety_five, median), error)
    result["max"]["at"] = width_results.rounded(points[widest])
    return result, ""


def _systematic(fit: slit_fit.SlitFit, index: np.ndarray) -> np.ndarray:
    """float64 [N]: what neighbours have in common: errors of blur, contrast, tone curve and model, in pixels."""
    return np.sqrt(fit.shared_error[index] ** 2 + _tone_error(fit, index) ** 2 + MODEL_ERROR_PX**2)


def _tone_error(fit: slit_fit.SlitFit, index: np.ndarray) -> np.ndarray:
    """float64 [N]: by how much a width changes if the levels of the file were blurred, not the light."""
    contrast = np.clip(fit.contrast[index], 0.01, 0.99)
    middle = ((1 + (1 - contrast) ** (1 / 2.2)) / 2) ** 2.2
    fraction = np.clip((middle - (1 - contrast)) / contrast, 0.01, 0.99)
    from_half = 2 * np.abs(fraction - 0.5) * np.sqrt(2 * np.pi)  # of an edge, in blurs
    return TONE_FRACTION * from_half * fit.blur[index]


def _interval(value: float, error: float) -> dict:
    half = Z95 * ERROR_FACTOR * float(error)
    return {"value": round(value, 2), "low": round(max(value - half, 0.0), 2), "high": round(value + half, 2)}


def _limits(fit: slit_fit.SlitFit, prior: slit_fit.Prior) -> dict | None:
    """The limits of a photograph, from what was fitted in it."""
    if fit.is_good.sum() < MIN_GROUPS:
        return None
    blur = float(np.median(fit.blur[fit.is_good]))
    contrast, noise = float(np.median(fit.contrast[fit.is_good])), float(np.median(fit.noise[fit.is_good]))
    visible = VISIBLE_SIGMA * noise * blur * np.sqrt(2 * np.pi) / max(contrast, 0.05)
    measurable = max(MEASURABLE_BLURS * blur, MIN_MEASURABLE_PX)
    return {
        "blur_px": round(blur, 2),
        "measurable_px": round(measurable, 2),
        "visible_px": round(float(min(visible, measurable)), 2),
    }
