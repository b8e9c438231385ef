"""How faithful a heat map is: scores against the network it explains, and against masks of the cracks.

Synopsis::

    scores = faithfulness.deletion_insertion(probabilities, images, maps)  # {"deletion": 0.31, ...}, float64 [N]
    scores = faithfulness.localization_scores(maps, masks)  # {"pointing": ..., "energy": ...}
    faithfulness.overlaps(maps, masks).mean(0).max()                             # 0.41: IoU at the best threshold
    faithfulness.rank_correlation(maps, maps_of_random_weights)                          # 0.12, mean rank correlation

images: uint8 [N, px, px, C], 0..255; maps: float32 [N, px, px], 0 or more; masks: bool [N, px, px], True is crack;
probabilities: a function of images that returns float64 [N], 0..1, for the class that the maps explain.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from scipy.integrate import trapezoid
from scipy.stats import rankdata

STEPS = 16  # intervals between the original and the blurred image
BLUR = 1 / 10  # of the side: deviation of the Gaussian whose values replace the pixels that are removed
TOLERANCE = 15 / 224  # of the side: Zhang et al. 2018 allow 15 pixels in images of about 224
DOT = 1 / 8  # of the side: deviation of the dot in the middle
THRESHOLDS = np.linspace(0.05, 0.95, 19)  # of a map's largest value


def deletion_insertion(probabilities: Callable, images: np.ndarray, maps: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of heat maps against the network.

    Args:
        probabilities: Images to float64 [N], 0..1, of the class that the maps explain.
        images: uint8 [N, px, px, C], 0..255.
        maps: float32 [N, px, px], 0 or more.

    Returns:
        float64 [N] by name. deletion: mean probability, 0..1, while pixels are blurred, those with the largest values
        first; lower is better. insertion: the same while they are restored in the blurred image; higher is better. Both
        are of Petsiuk et al. 2018 (BMVC), with a blurred image instead of black and grey, which look like cracks. drop:
        the fraction by which the probability falls, at least 0, when only what the map shows stays sharp; lower is
        better. increase: 1 when it rises instead, else 0. Both are of Chattopadhay et al. 2018 (WACV).
    """
    maps = _scale_to_unit(maps)
    blurred = np.stack([_blur(image) for image in images])
    full_image = np.asarray(probabilities(images), np.float64)
    order = np.argsort(np.argsort(-maps.reshape(len(maps), -1), 1, "stable"), 1, "stable").reshape(maps.shape)
    pixels = maps[0].size
    curves = {"deletion": [full_image], "insertion": [np.asarray(probabilities(blurred), np.float64)]}
    for step in range(1, STEPS):
        selected = (order < round(pixels * step / STEPS))[..., None]
        curves["deletion"].append(np.asarray(probabilities(np.where(selected, blurred, images)), np.float64))
        curves["insertion"].append(np.asarray(probabilities(np.where(selected, images, blurred)), np.float64))
    curves["deletion"].append(curves["insertion"][0])
    curves["insertion"].append(full_image)
    masked_images = blurred + maps[..., None] * (images.astype(np.float32) - blurred)
    remaining = np.asarray(probabilities(np.round(masked_images).astype(np.uint8)), np.float64)
    return {
        **{name: trapezoid(np.stack(curve), dx=1 / STEPS, axis=0) for name, curve in curves.items()},
        "drop": np.maximum(full_image - remaining, 0) / np.maximum(full_image, 1e-12),
        "increase": (remaining > full_image).astype(np.float64),
    }


def _scale_to_unit(maps: np.ndarray) -> np.ndarray:
    """Each map scaled to 0..1; a map of zeros stays zero."""
    top = maps.max((1, 2), keepdims=True)
    return np.divide(maps, top, out=np.zeros(maps.shape, np.float32), where=top > 0)


def _blur(image: np.ndarray) -> np.ndarray:
    deviation = BLUR * image.shape[0]
    return ndimage.gaussian_filter(image, (deviation, deviation, 0), mode="reflect")


def localization_scores(maps: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of heat maps against masks of the cracks; a map of zeros scores 0 in all three.

    Args:
        maps: float32 [N, px, px], 0 or more.
        masks: bool [N, px, px], True is crack.

    Returns:
        float64 [N] by name. pointing: 1 when the largest value is on the crack or within TOLERANCE of the side from it,
        the pointing game of Zhang et al. 2018 (Int. J. Comput. Vis. 126:1084); exact: the same without tolerance;
        energy: fraction of the map's sum that is on the crack (Wang et al. 2020, Score-CAM, CVPR workshops).

    Raises:
        ValueError: A mask has no crack, or another shape than the maps.
    """
    if masks.shape != maps.shape or not masks.any((1, 2)).all():
        raise ValueError(
            f"against_masks: expected for each map a mask of its shape with a crack in it, received maps {maps.shape} "
            f"and masks {masks.shape}, {int((~masks.any((1, 2))).sum()) if masks.ndim == 3 else '?'} of them empty"
        )
    tolerance = round(TOLERANCE * masks.shape[1])
    scores = {"pointing": [], "exact": [], "energy": []}
    for values, mask in zip(maps.astype(np.float64), masks, strict=True):
        peak = np.unravel_index(values.argmax(), values.shape)
        total = values.sum()
        distance = ndimage.distance_transform_edt(~mask)[peak] if total > 0 else np.inf
        scores["pointing"].append(float(distance <= tolerance))
        scores["exact"].append(float(distance == 0))
        scores["energy"].append(values[mask].sum() / total if total > 0 else 0.0)
    return {name: np.array(scores_per_map) for name, scores_per_map in scores.items()}


def overlaps(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """float64 [N, T]: intersection over union of the crack and the pixels that reach each of the T `THRESHOLDS`."""
    maps, overlap_by_threshold = _scale_to_unit(maps), []
    for threshold in THRESHOLDS:
        above = maps >= threshold
        overlap_by_threshold.append((above & masks).sum((1, 2)) / np.maximum((above | masks).sum((1, 2)), 1))
    return np.stack(overlap_by_threshold, 1)


def rank_correlation(maps: np.ndarray, other_maps: np.ndarray) -> float:
    """Mean of Spearman's rank correlation between each map and the other map of the same image.

    Adebayo et al. 2018 (NeurIPS): when the maps of a network with random weights resemble those of the trained network,
    they show the image, as an edge detector does, and not the network.

    Args:
        maps: float [N, px, px].
        other_maps: float [N, px, px].

    Returns:
        -1..1; the correlation of a constant map counts as 0.
    """
    return float(np.mean([_spearman(a.ravel(), b.ravel()) for a, b in zip(maps, other_maps, strict=True)]))


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    ranks = [rankdata(values) - (len(values) + 1) / 2 for values in (a, b)]
    lengths = [np.sqrt(np.einsum("i,i", rank, rank)) for rank in ranks]
    return float(np.einsum("i,i", *ranks) / (lengths[0] * lengths[1])) if all(lengths) else 0.0


def centre_dot(images: np.ndarray) -> np.ndarray:
    """float32 [N, H, W]: a soft dot in the middle of every image, which scores what a photographer's habit would."""
    down, across = (np.exp(-(((np.arange(side) + 0.5) / side - 0.5) ** 2) / (2 * DOT**2)) for side in images.shape[1:3])
    return np.broadcast_to(np.outer(down, across).astype(np.float32), images.shape[:3])


def edges(images: np.ndarray) -> np.ndarray:
    """float32 [N, px, px]: gradient magnitude of the brightness after a Gaussian of one pixel; needs no network."""
    grey = images.astype(np.float32).mean(-1)
    return np.stack([ndimage.gaussian_gradient_magnitude(image, 1.0) for image in grey])


def dark_lines(images: np.ndarray) -> np.ndarray:
    """float32 [N, px, px]: positive Laplacian of a Gaussian of two pixels, which responds to dark lines: the best of
    the classical filters for cracks, and the stronger baseline."""
    grey = images.astype(np.float32).mean(-1)
    return np.stack([np.maximum(ndimage.gaussian_laplace(image, 2.0), 0) for image in grey])


BASELINES = {"centre dot": centre_dot, "edge detector": edges, "dark-line filter": dark_lines}
