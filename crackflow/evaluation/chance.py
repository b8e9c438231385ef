"""Whether a classifier is better than a guess, by exact tests that hold for four images as for four thousand.

Synopsis::

    verdict = chance.compare(labels, probabilities, threshold, groups)
    verdict.better, verdict.p_value            # False, 0.24
    verdict.describe()                         # 'no better than a guess on these 2 cracked and 2 clean images (...)'

Two things have to hold, each with at most ALPHA = 5 % risk of being a guess's luck: cracked images are ranked above
clean ones (Mann and Whitney, 1947, one-sided, exact where no scores tie), and the decisions at the threshold go with
the labels (Fisher's exact test, 1922, one-sided). A model may rank well and still call everything cracked.

Copies of one picture and windows of one photograph are one piece of evidence: what shares group and label counts once,
with its mean logit.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import expit, logit

ALPHA = 0.05
ROUNDING = 1e-9  # 3 and 3 images told rightly: 1 / 20 is 0.05000000000000001
MAX_COUNTED_PAIRS = 2500
LOGIT_CLIP = 40.0


class ChanceTest(NamedTuple):
    """p_value: the larger one of the two tests, 0..1; None where one class is missing, so that nothing can be told.
    clean, cracked: independent images of each class."""

    p_value: float | None
    clean: int
    cracked: int

    @property
    def better(self) -> bool:
        """Whether a guess would hardly have come that far."""
        return self.p_value is not None and self.p_value <= ALPHA + ROUNDING

    @property
    def is_doubtful(self) -> bool:
        """Whether a person has to be warned: both classes are there, and a guess might have come as far."""
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
    """What a model's card says against it, in a sentence. `validation`: of `model_file.ModelMetadata`, a ChanceTest as
    a dictionary. Nothing where it is better than a guess, or where an older file does not say."""
    verdict = ChanceTest(**validation) if validation else None
    return [] if verdict is None or verdict.better else [f"By its validation images the model is {verdict.describe()}."]


def smallest_p_value(clean: int, cracked: int) -> float:
    """What the tests give where every image of the two classes is told rightly: 1 / C(clean + cracked, cracked)."""
    return float(stats.hypergeom.pmf(cracked, clean + cracked, cracked, cracked))


def compare(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float, groups: np.ndarray | None = None
) -> ChanceTest:
    """labels: int or bool [N], 1 means cracked; probabilities: float [N], 0..1; groups: int [N], equal ones are one
    piece of evidence, None: all differ. Cracked is said from `threshold` on."""
    labels = np.asarray(labels).astype(bool)
    logits = np.clip(logit(np.asarray(probabilities, np.float64)), -LOGIT_CLIP, LOGIT_CLIP)
    labels, logits = _independent(labels, logits, np.arange(len(labels)) if groups is None else np.asarray(groups))
    clean, cracked = int((~labels).sum()), int(labels.sum())
    if not clean or not cracked:
        return ChanceTest(None, clean, cracked)
    # Counting all orders takes 30 ms for 50 and 50 images; beyond, and where scores tie, the normal limit is as good.
    countable = clean * cracked <= MAX_COUNTED_PAIRS and len(np.unique(logits)) == len(logits)
    method = "exact" if countable else "asymptotic"
    ranked = stats.mannwhitneyu(logits[labels], logits[~labels], alternative="greater", method=method).pvalue
    called = expit(logits) >= threshold
    table = [[int((called & labels).sum()), int((called & ~labels).sum())]]
    table.append([cracked - table[0][0], clean - table[0][1]])
    decided = stats.fisher_exact(table, alternative="greater").pvalue
    return ChanceTest(float(max(ranked, decided)), clean, cracked)


def _independent(labels: np.ndarray, logits: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(label, mean logit) of each pair of group and label."""
    pairs, pair = np.unique(np.stack([groups, labels], 1), axis=0, return_inverse=True)
    sums = np.bincount(pair.ravel(), logits, len(pairs))
    return pairs[:, 1].astype(bool), sums / np.bincount(pair.ravel(), minlength=len(pairs))
