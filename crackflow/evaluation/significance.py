"""Tests whether a classifier is better than a guess, exactly, for four images as for four thousand.

Synopsis::

    verdict = significance.compare(labels, probabilities, threshold, groups)
    verdict.better, verdict.p_value            # False, 0.24
    verdict.describe()                         # 'no better than a guess on these 2 cracked and 2 clean images (...)'

Two tests have to pass, each at ALPHA = 5 %: cracked images are ranked above clean ones (Mann and Whitney, 1947,
one-sided, exact when no scores tie), and the decisions at the threshold agree with the labels (Fisher's exact test,
1922, one-sided). A model may rank well and still call everything cracked.

Copies of one image and windows of one photograph are one piece of evidence: images that share group and label count
once, with their mean logit.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import expit, logit

ALPHA = 0.05
ROUNDING = 1e-9  # with 3 and 3 images, all correct, 1 / 20 is 0.05000000000000001
MAX_COUNTED_PAIRS = 2500
LOGIT_CLIP = 40.0


class ChanceTest(NamedTuple):
    """The result of `compare`.

    Attributes:
        p_value: the larger one of the two tests, 0..1; None when one class is missing, so that neither can be done.
        clean: number of independent clean images.
        cracked: number of independent cracked images.
    """

    p_value: float | None
    clean: int
    cracked: int

    @property
    def better(self) -> bool:
        """Whether a guess would hardly have done as well."""
        return self.p_value is not None and self.p_value <= ALPHA + ROUNDING

    @property
    def is_doubtful(self) -> bool:
        """Whether to warn the user: both classes are present, and a guess might have done as well."""
        return self.p_value is not None and not self.better

    def describe(self) -> str:
        """The verdict in half a sentence, to follow 'it is'."""
        images = f"these {self.cracked:,} cracked and {self.clean:,} clean images"
        if self.p_value is None:
            return f"of unknown worth: among {images} one class is missing"
        if self.better:
            return f"better than a guess on {images} (p = {self.p_value:.2g})"
        return (
            f"no better than a guess on {images} (p = {self.p_value:.2f}; expected {ALPHA:g} or less)"
            if smallest_p_value(self.clean, self.cracked) <= ALPHA + ROUNDING
            else f"of unknown worth: {images} are too few to tell it from a guess, whatever it says of them"
        )


def doubts(validation: Mapping) -> list[str]:
    """Says in a sentence that a model is not better than a guess.

    Args:
        validation: from `model_file.ModelMetadata`, a ChanceTest as a dictionary.

    Returns:
        One sentence; nothing when the model is better than a guess, or when an older file has no test.
    """
    verdict = ChanceTest(**validation) if validation else None
    return [] if verdict is None or verdict.better else [f"By its validation images the model is {verdict.describe()}."]


def smallest_p_value(clean: int, cracked: int) -> float:
    """The p-value when every image of both classes is correct: 1 / C(clean + cracked, cracked)."""
    return float(stats.hypergeom.pmf(cracked, clean + cracked, cracked, cracked))


def compare(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float, groups: np.ndarray | None = None
) -> ChanceTest:
    """Compares the decisions of a classifier with a guess.

    Args:
        labels: int or bool [N], 1 means cracked.
        probabilities: float [N], 0..1, of cracked.
        threshold: an image is called cracked when its probability >= threshold.
        groups: int [N], equal for images that are one piece of evidence; None when all are independent.
    """
    labels = np.asarray(labels).astype(bool)
    logits = np.clip(logit(np.asarray(probabilities, np.float64)), -LOGIT_CLIP, LOGIT_CLIP)
    labels, logits = _merge_groups(labels, logits, np.arange(len(labels)) if groups is None else np.asarray(groups))
    clean, cracked = int((~labels).sum()), int(labels.sum())
    if not clean or not cracked:
        return ChanceTest(None, clean, cracked)
    # Counting all orders takes 30 ms for 50 and 50 images. Beyond that, and when scores tie, the normal approximation
    # is as good.
    countable = clean * cracked <= MAX_COUNTED_PAIRS and len(np.unique(logits)) == len(logits)
    method = "exact" if countable else "asymptotic"
    ranked = stats.mannwhitneyu(logits[labels], logits[~labels], alternative="greater", method=method).pvalue
    called = expit(logits) >= threshold
    table = [[int((called & labels).sum()), int((called & ~labels).sum())]]
    table.append([cracked - table[0][0], clean - table[0][1]])
    decided = stats.fisher_exact(table, alternative="greater").pvalue
    return ChanceTest(float(max(ranked, decided)), clean, cracked)


def _merge_groups(labels: np.ndarray, logits: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(label, mean logit) of each pair of group and label."""
    pairs, pair = np.unique(np.stack([groups, labels], 1), axis=0, return_inverse=True)
    sums = np.bincount(pair.ravel(), logits, len(pairs))
    return pairs[:, 1].astype(bool), sums / np.bincount(pair.ravel(), minlength=len(pairs))
