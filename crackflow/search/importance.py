"""Which choice of a search decides a result: how much worse a forest foretells it when that choice is shuffled.

Synopsis::

    found = importance.measure(settings, names, results)
    found.explained, found.shares["depth"].mean         # both of R2: 0.8, 0.35
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold

MIN_TRIALS = 10  # results, below which nothing can be said
FOLDS, SHUFFLES, TREES = 5, 20, 200


class ImportanceShare(NamedTuple):
    """By how much R2 falls: `mean` and standard deviation over the shuffles."""

    mean: float
    spread: float


class Importance(NamedTuple):
    """`explained`: R2 of results that the forest has not seen, 1 at best; `shares`: by choice, the largest first."""

    explained: float
    shares: dict[str, ImportanceShare]


def measure(settings: np.ndarray, names: Sequence[str], results: np.ndarray, seed: int = 0) -> Importance | None:
    """`settings`: float [N, len(names)]; `results`: float [N]. None when there are too few, or all are the same.

    Permutation importance (Breiman, Random forests, 2001) in extremely randomised trees (Geurts et al., 2006), measured
    on the part of each of five folds that the forest was not fitted on: a choice that decides nothing then has about 0.
    """
    settings, results = np.asarray(settings, float), np.asarray(results, float)
    if len(results) < MIN_TRIALS or np.ptp(results) == 0:
        return None
    random = np.random.default_rng(seed)
    foretold = np.empty_like(results)
    shuffled = np.empty((SHUFFLES, len(names), len(results)))
    for known, unknown in KFold(FOLDS, shuffle=True, random_state=seed).split(settings):
        forest = ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=seed).fit(settings[known], results[known])
        foretold[unknown] = forest.predict(settings[unknown])
        changed = np.repeat(settings[unknown][None], SHUFFLES * len(names), 0)
        for number in range(SHUFFLES * len(names)):
            column = number % len(names)
            changed[number, :, column] = random.permutation(settings[:, column])[: len(unknown)]
        found = forest.predict(changed.reshape(-1, len(names)))
        shuffled[:, :, unknown] = found.reshape(SHUFFLES, len(names), len(unknown))
    whole = r2_score(results, foretold)
    shares = {}
    for column, name in enumerate(names):
        falls = [whole - r2_score(results, one) for one in shuffled[:, column]]
        shares[name] = ImportanceShare(float(np.mean(falls)), float(np.std(falls)))
    return Importance(float(whole), dict(sorted(shares.items(), key=lambda pair: -pair[1].mean)))
