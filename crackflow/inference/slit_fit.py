"""Fits blurred slits to brightness profiles across a crack: thousands at once.

Synopsis::

    prior = slit_fit.Prior(blur_px=0.8, blur_spread=0.3, contrast=0.7, contrast_spread=0.2)
    fit = slit_fit.fit(offsets_px, profiles, width_guess, prior)       # float [M], float [N, M], float [N]
    fit.width, fit.width_error, fit.blur, fit.contrast, fit.is_good    # float64 [N] each, in pixels

A crack is a dark slit of width `w` on ground that changes linearly across it, seen through a Gaussian of standard
deviation `s`, which stands for lens, focus, motion and the pixels themselves:

    f(x) = b0 + b1 x - c (Phi((x - m + w / 2) / s) - Phi((x - m - w / 2) / s))

where Phi is the normal distribution function. Of a slit much narrower than `s` a profile tells only the product `c w`.
So both have a prior: `log s`, and the contrast `k = c / b0`, which the wider parts of the same crack tell. The fit is
the maximum of the posterior, by Gauss-Newton steps with Levenberg-Marquardt damping (Marquardt, 1963), with the
analytic derivatives; errors are those of the normal equations, larger where neighbouring residuals agree.
"""

import dataclasses

import numpy as np
from scipy import special

ITERATIONS = 9  # errors of benchmarks.width are those of 14
MIN_WIDTH_PX, MIN_BLUR_PX = 0.02, 0.25  # a pixel by itself has 0.29, the standard deviation of a box
MAX_CONTRAST = 1.0  # black
# Of the contrast of a slit: a larger root mean square of the residuals belongs to a profile that is no slit.
MAX_RESIDUAL = 0.2
MIN_SIGNAL = 3.0  # contrast by its standard error, of a slit that counts
MAX_CORRELATION = 0.8  # of residuals one pixel apart, by which errors are widened
MIN_NOISE = 1e-3  # of the ground: half a grey level
MODEL_NOISE = 0.05  # of the depth of a profile: blur that is no Gaussian, edges that are not straight
DENSITY = np.float32(1 / np.sqrt(2 * np.pi))  # of the normal distribution in its middle
COLUMNS = 6  # ground, slope, contrast, middle, width, logarithm of the blur


@dataclasses.dataclass(frozen=True)
class Prior:
    """What is known of the slits of a photograph before a profile is seen.

    Attributes:
        blur_px: standard deviation of the blur in pixels: a float, or float [N], one per profile, as all others.
        blur_spread: standard deviation of its natural logarithm.
        contrast: of the slit, as a fraction of the ground, 0..1.
        contrast_spread: its standard deviation.
    """

    blur_px: float | np.ndarray
    blur_spread: float | np.ndarray
    contrast: float | np.ndarray
    contrast_spread: float | np.ndarray

    def __getitem__(self, index: np.ndarray) -> "Prior":
        return Prior(*(np.atleast_1d(getattr(self, field.name))[index] for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class SlitFit:
    """Blurred slits, float64 [N] each, in pixels and linear light.

    Attributes:
        width: of the slit.
        width_error: its standard error, all of it.
        shared_error: the part of it that the blur and the contrast cause, and that neighbours have in common.
        middle: position of the slit.
        blur: standard deviation.
        contrast: as a fraction of the ground, 0..1.
        noise: root mean square of the residuals, as a fraction of the ground.
        information: float64 [N, 2, 2], what the profile alone tells of (logarithm of the blur, contrast): the inverse
            of their covariance, less that of the prior.
        tendency: float64 [N, 2], `information` times the pair that the profile alone speaks for.
        is_good: bool [N], whether the profile is that of a slit.
    """

    width: np.ndarray
    width_error: np.ndarray
    shared_error: np.ndarray
    middle: np.ndarray
    blur: np.ndarray
    contrast: np.ndarray
    noise: np.ndarray
    information: np.ndarray
    tendency: np.ndarray
    is_good: np.ndarray


def blurred_slit(offsets: np.ndarray, width: float, blur: float, middle: float = 0.0) -> np.ndarray:
    """The fraction of a slit's darkness at `offsets` pixels from it, float [M], 0..1."""
    return special.ndtr((offsets - middle + width / 2) / blur) - special.ndtr((offsets - middle - width / 2) / blur)


def fit(offsets: np.ndarray, profiles: np.ndarray, width_guess: np.ndarray, prior: Prior) -> SlitFit:
    """Fits a blurred slit to each profile.

    Args:
        offsets: float [M], pixels across the crack, ascending and evenly spaced, 0 near its middle.
        profiles: float [N, M], linear light, above 0 on average.
        width_guess: float [N], where to begin, in pixels.
        prior: of blur and contrast.

    Returns:
        The slits.
    """
    x, spacing = offsets.astype(np.float32), float(offsets[1] - offsets[0])  # faster than float64
    ground = np.maximum(np.quantile(profiles, 0.75, axis=1), 1e-6)
    y = (profiles / ground[:, None]).astype(np.float32)
    params = np.stack(
        [
            np.ones(len(y)),
            np.zeros(len(y)),
            np.clip(1 - y.min(1), 0.05, MAX_CONTRAST),
            np.zeros(len(y)),
            np.maximum(width_guess, MIN_WIDTH_PX),
            np.broadcast_to(np.log(prior.blur_px), len(y)),
        ],
        axis=1,
    )
    limit = 0.9 * x[-1]
    noise = np.full(len(y), 0.05)
    damping = np.full(len(y), 1e-2)
    residual, jacobian = _residuals(x, y, params)
    for step in range(ITERATIONS):
        if step in (2, 5):
            noise = _noise(residual, params)
        weight = spacing / noise**2
        normal, gradient = _normal_equations(residual, jacobian, params, weight, prior)
        diagonal = np.einsum("nii->ni", normal)
        damped = normal + (damping[:, None] * diagonal)[:, :, None] * np.eye(COLUMNS)
        trial = _bounded(params + np.linalg.solve(damped, gradient[..., None])[..., 0], limit)
        trial_residual, trial_jacobian = _residuals(x, y, trial)
        cost = weight * (residual**2).sum(1) + _prior_cost(params, prior)
        is_better = weight * (trial_residual**2).sum(1) + _prior_cost(trial, prior) <= cost
        params = np.where(is_better[:, None], trial, params)
        residual = np.where(is_better[:, None], trial_residual, residual)
        jacobian = np.where(is_better[:, None, None], trial_jacobian, jacobian)
        damping = np.clip(np.where(is_better, damping / 5, damping * 8), 1e-8, 1e4)
    return _summarize(x, residual, jacobian, params, prior, spacing)


def _summarize(
    x: np.ndarray, residual: np.ndarray, jacobian: np.ndarray, params: np.ndarray, prior: Prior, spacing: float
) -> SlitFit:
    """The slits of `params` with their errors."""
    noise = _noise(residual, params)
    lag = max(round(1 / spacing), 1)
    product = (residual[:, lag:] * residual[:, :-lag]).mean(1) / np.maximum((residual**2).mean(1), 1e-12)
    correlation = np.clip(product, 0, MAX_CORRELATION)
    # Samples closer than a pixel repeat each other, and so do pixels of one grain.
    weight = spacing * (1 - correlation) / (1 + correlation) / noise**2
    normal, _ = _normal_equations(residual, jacobian, params, weight, prior)
    covariance = np.linalg.inv(normal)
    fixed = _normal_equations(residual, jacobian, params, weight, None)[0][:, [0, 1, 3, 4]][:, :, [0, 1, 3, 4]]
    own_variance = np.linalg.inv(fixed + 1e-9 * np.eye(4))[:, 3, 3]  # with the blur and the contrast known
    variance = covariance[:, 4, 4]
    contrast = params[:, 2] / params[:, 0]
    joint = np.linalg.inv(covariance[:, [5, 2]][:, :, [5, 2]])
    before = np.zeros(joint.shape)
    before[:, 0, 0], before[:, 1, 1] = prior.blur_spread**-2.0, prior.contrast_spread**-2.0
    expected = np.stack(np.broadcast_arrays(np.log(prior.blur_px), prior.contrast), -1)
    pair = np.stack([params[:, 5], contrast], 1)
    tendency = (joint @ pair[..., None] - before @ np.broadcast_to(expected, pair.shape)[..., None])[..., 0]
    width, blur = params[:, 4], np.exp(params[:, 5])
    area_error = np.sqrt(np.maximum(blur, 1.0) / weight) * 2  # of the darkness that the whole slit takes away
    is_good = (noise < MAX_RESIDUAL * np.maximum(contrast * blurred_slit(0.0, width, blur), 1e-6)) & np.isfinite(width)
    is_good &= contrast * width > MIN_SIGNAL * area_error
    is_good &= (np.abs(params[:, 3]) < 0.45 * x[-1]) & (width + 2 * blur < 1.6 * x[-1])
    return SlitFit(
        width,
        np.sqrt(variance),
        np.sqrt(np.maximum(variance - own_variance, 0)),
        params[:, 3],
        blur,
        contrast,
        noise,
        joint - before,
        tendency,
        is_good,
    )


def _noise(residual: np.ndarray, params: np.ndarray) -> np.ndarray:
    """float64 [N]: the root mean square of the residuals and of what no model tells, as a fraction of the ground."""
    depth = params[:, 2] * blurred_slit(0.0, params[:, 4], np.exp(params[:, 5]))
    return np.sqrt((residual**2).mean(1) + (MODEL_NOISE * depth) ** 2 + MIN_NOISE**2)


def _bounded(params: np.ndarray, limit: float) -> np.ndarray:
    """`params`, float64 [N, 6], within what a slit can be."""
    low = [0.2, -0.1, 0.01, -limit / 2, MIN_WIDTH_PX, np.log(MIN_BLUR_PX)]
    high = [3.0, 0.1, 3.0, limit / 2, 1.8 * limit, np.log(limit)]
    bounded = np.clip(params, low, high)
    bounded[:, 2] = np.minimum(bounded[:, 2], MAX_CONTRAST * bounded[:, 0])
    return bounded


def _residuals(x: np.ndarray, y: np.ndarray, params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(`y` less the model, float32 [N, M]; the derivatives of the model, float32 [N, 6, M])."""
    ground, slope, contrast, middle, width, log_blur = (column[:, None] for column in params.T.astype(np.float32))
    blur = np.exp(log_blur)
    left, right = (x - middle + width / 2) / blur, (x - middle - width / 2) / blur
    darkness = special.ndtr(left) - special.ndtr(right)
    left_density, right_density = (DENSITY * np.exp(-0.5 * side * side) for side in (left, right))
    jacobian = np.empty((len(y), COLUMNS, len(x)), np.float32)
    jacobian[:, 0] = 1
    jacobian[:, 1] = x
    jacobian[:, 2] = -darkness
    jacobian[:, 3] = contrast * (left_density - right_density) / blur
    jacobian[:, 4] = -contrast * (left_density + right_density) / (2 * blur)
    jacobian[:, 5] = contrast * (left * left_density - right * right_density)
    return y - (ground + slope * x - contrast * darkness), jacobian


def _normal_equations(
    residual: np.ndarray, jacobian: np.ndarray, params: np.ndarray, weight: np.ndarray, prior: Prior | None
) -> tuple[np.ndarray, np.ndarray]:
    """(float64 [N, 6, 6], float64 [N, 6]) of a Gauss-Newton step."""
    normal = weight[:, None, None] * (jacobian @ jacobian.swapaxes(1, 2)).astype(np.float64)
    gradient = weight[:, None] * (jacobian @ residual[..., None])[..., 0].astype(np.float64)
    normal[:, range(COLUMNS), range(COLUMNS)] += 1e-9
    if prior is not None:
        row = np.zeros(params.shape)
        row[:, 0], row[:, 2] = -prior.contrast / prior.contrast_spread, 1 / prior.contrast_spread
        normal += row[:, :, None] * row[:, None, :]
        gradient -= (params * row).sum(1, keepdims=True) * row
        normal[:, 5, 5] += prior.blur_spread**-2.0
        gradient[:, 5] -= (params[:, 5] - np.log(prior.blur_px)) * prior.blur_spread**-2.0
        normal[:, 1, 1] += 100.0**2  # a slope of one in a hundred per pixel is steep for ground
        gradient[:, 1] -= params[:, 1] * 100.0**2
    return normal, gradient


def _prior_cost(params: np.ndarray, prior: Prior) -> np.ndarray:
    """float64 [N]: how far blur, contrast and slope lie from what was expected, squared."""
    blur = (params[:, 5] - np.log(prior.blur_px)) / prior.blur_spread
    contrast = (params[:, 2] - prior.contrast * params[:, 0]) / prior.contrast_spread
    return blur**2 + contrast**2 + (params[:, 1] * 100.0) ** 2
