"""What a heat map is worth: scores against the network it explains, and against masks of the cracks.

Synopsis::

    scores = faithfulness.deletion_insertion(probabilities, images, maps)  # {"deletion": 0.31, ...}, float64 [N]
    scores = faithfulness.localization_scores(maps, masks)  # {"pointing": ..., "energy": ...}
    faithfulness.overlaps(maps, masks).mean(0).max()                             # 0.41: IoU at the best threshold
    faithfulness.rank_correlation(maps, maps_of_random_weights)                          # 0.12, mean rank correlation

images: uint8 [N, px, px, C]; maps: float32 [N, px, px], 0 or more; masks: bool [N, px, px], True is crack;
probabilities: a function of images, float64 [N], 0..1, of the class that the maps speak for.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from scipy.integrate import trapezoid
from scipy.stats import rankdata

STEPS = 16  # pictures between the whole and the blurred one
BLUR = 1 / 10  # of the side: what takes the place of a pixel that is taken away
TOLERANCE = 15 / 224  # of the side: Zhang et al. 2018 allow 15 pixels in pictures of about 224
DOT = 1 / 8  # of the side: deviation of the dot in the middle
THRESHOLDS = np.linspace(0.05, 0.95, 19)  # of a map's largest value


def deletion_insertion(probabilities: Callable, images: np.ndarray, maps: np.ndarray) -> dict[str, np.ndarray]:
    """float64 [N] each:

    deletion: mean probability, 0..1, while pixels are blurred away, those of the largest values first; lower is better.
    insertion: the same while they come back into the blurred picture; higher is better. Both: Petsiuk et al. 2018
    (BMVC), with a blurred picture in place of black and grey, which look like cracks.
    drop: by what share the probability falls, at least 0, when only what the map shows is left sharp; lower is better.
    increase: 1 where it rises instead, else 0. Both: Chattopadhay et al. 2018 (WACV).
    """
    maps = _unit(maps)
    blurred = np.stack([_blurred(image) for image in images])
    whole = np.asarray(probabilities(images), np.float64)
    order = np.argsort(np.argsort(-maps.reshape(len(maps), -1), 1, "stable"), 1, "stable").reshape(maps.shape)
    pixels = maps[0].size
    curves = {"deletion": [whole], "insertion": [np.asarray(probabilities(blurred), np.float64)]}
    for step in range(1, STEPS):
        chosen = (order < round(pixels * step / STEPS))[..., None]
        curves["deletion"].append(np.asarray(probabilities(np.where(chosen, blurred, images)), np.float64))
        curves["insertion"].append(np.asarray(probabilities(np.where(chosen, images, blurred)), np.float64))
    curves["deletion"].append(curves["insertion"][0])
    curves["insertion"].append(whole)
    shown = blurred + maps[..., None] * (images.astype(np.float32) - blurred)
    left = np.asarray(probabilities(np.round(shown).astype(np.uint8)), np.float64)
    return {
        **{name: trapezoid(np.stack(curve), dx=1 / STEPS, axis=0) for name, curve in curves.items()},
        "drop": np.maximum(whole - left, 0) / np.maximum(whole, 1e-12),
        "increase": (left > whole).astype(np.float64),
    }


def _unit(maps: np.ndarray) -> np.ndarray:
    """Each map from 0 to 1; a map of zeros stays one."""
    top = maps.max((1, 2), keepdims=True)
    return np.divide(maps, top, out=np.zeros(maps.shape, np.float32), where=top > 0)


def _blurred(image: np.ndarray) -> np.ndarray:
    deviation = BLUR * image.shape[0]
    return ndimage.gaussian_filter(image, (deviation, deviation, 0), mode="reflect")


def localization_scores(maps: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """float64 [N] each; every mask needs a crack. Raises: ValueError when one has none.

    pointing: 1 when the largest value lies on the crack or within TOLERANCE of the side, the pointing game of Zhang et
    al. 2018 (Int. J. Comput. Vis. 126:1084); exact: the same without tolerance; energy: share of the map's sum that
    lies on the crack (Wang et al. 2020, Score-CAM, CVPR workshops). A map of zeros scores 0 in all three.
    """
    if masks.shape != maps.shape or not masks.any((1, 2)).all():
        raise ValueError(
            f"against_masks: expected for each map a mask of its shape with a crack in it, received maps {maps.shape} "
            f"and masks {masks.shape}, {int((~masks.any((1, 2))).sum()) if masks.ndim == 3 else '?'} of them empty"
        )
    tolerance = round(TOLERANCE * masks.shape[1])
    found = {"pointing": [], "exact": [], "energy": []}
    for one, mask in zip(maps.astype(np.float64), masks, strict=True):
        place = np.unravel_index(one.argmax(), one.shape)
        total = one.sum()
        away = ndimage.distance_transform_edt(~mask)[place] if total > 0 else np.inf
        found["pointing"].append(float(away <= tolerance))
        found["exact"].append(float(away == 0))
        found["energy"].append(one[mask].sum() / total if total > 0 else 0.0)
    return {name: np.array(values) for name, values in found.items()}


def overlaps(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """float64 [N, T]: intersection over union of the crack and of what reaches each of the T `THRESHOLDS`."""
    maps, found = _unit(maps), []
    for threshold in THRESHOLDS:
        above = maps >= threshold
        found.append((above & masks).sum((1, 2)) / np.maximum((above | masks).sum((1, 2)), 1))
    return np.stack(found, 1)


def rank_correlation(maps: np.ndarray, others: np.ndarray) -> float:
    """Mean of Spearman's rank correlation between each map and the other one of the same picture, -1..1.

    Adebayo et al. 2018 (NeurIPS): maps of a network with random weights that are like those of the trained one show the
    picture, as an edge detector does, and not the network. Where one map has no spread, its correlation counts as 0.
    """
    return float(np.mean([_spearman(one.ravel(), other.ravel()) for one, other in zip(maps, others, strict=True)]))


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    ranks = [rankdata(values) - (len(values) + 1) / 2 for values in (one, other)]
    lengths = [np.sqrt(np.einsum("i,i", rank, rank)) for rank in ranks]
    return float(np.einsum("i,i", *ranks) / (lengths[0] * lengths[1])) if all(lengths) else 0.0


def centre_dot(images: np.ndarray) -> np.ndarray:
    """float32 [N, H, W]: a soft dot in the middle of every picture: what a photographer's habit alone would score."""
    down, across = (np.exp(-(((np.arange(side) + 0.5) / side - 0.5) ** 2) / (2 * DOT**2)) for side in images.shape[1:3])
    return np.broadcast_to(np.outer(down, across).astype(np.float32), images.shape[:3])


def edges(images: np.ndarray) -> np.ndarray:
    """float32 [N, px, px]: steepness of the brightness after a Gaussian of one pixel: what no network is needed for."""
    grey = images.astype(np.float32).mean(-1)
    return np.stack([ndimage.gaussian_gradient_magnitude(one, 1.0) for one in grey])


def dark_lines(images: np.ndarray) -> np.ndarray:
    """float32 [N, px, px]: positive Laplacian of a Gaussian of two pixels, which answers to dark lines: the best of the
    classical filters for cracks, and the harder rival."""
    grey = images.astype(np.float32).mean(-1)
    return np.stack([np.maximum(ndimage.gaussian_laplace(one, 2.0), 0) for one in grey])


BASELINES = {"centre dot": centre_dot, "edge detector": edges, "dark-line filter": dark_lines}
