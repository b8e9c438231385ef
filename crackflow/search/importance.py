"""Importance of each hyperparameter of a search: how much worse a forest predicts a result when it is shuffled.

Synopsis::

    importances = importance.measure(settings, names, results)
    importances.explained, importances.shares["depth"].mean         # both are R2: 0.8, 0.35
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold

MIN_TRIALS = 10  # with fewer results, nothing can be said
FOLDS, SHUFFLES, TREES = 5, 20, 200


class ImportanceShare(NamedTuple):
    """By how much R2 falls: `mean` and standard deviation, `spread`, over the shuffles."""

    mean: float
    spread: float


class Importance(NamedTuple):
    """Importance of all hyperparameters of a search.

    Attributes:
        explained: R2 on results that the forest has not seen, 1 at best.
        shares: By name of the hyperparameter, the largest first.
    """

    explained: float
    shares: dict[str, ImportanceShare]


def measure(settings: np.ndarray, names: Sequence[str], results: np.ndarray, seed: int = 0) -> Importance | None:
    """Permutation importance (Breiman, Random forests, 2001) in extremely randomised trees (Geurts et al., 2006).

    It is measured on the part of each of five folds that the forest was not fitted on, so that a hyperparameter that
    decides nothing has an importance of about 0.

    Args:
        settings: float [N, len(names)], one row per trial.
        names: Names of the hyperparameters, in the order of the columns.
        results: float [N].
        seed: Of the folds, the forests and the shuffles.

    Returns:
        The importances; None when there are fewer than `MIN_TRIALS` results, or all are equal.
    """
    settings, results = np.asarray(settings, float), np.asarray(results, float)
    if len(results) < MIN_TRIALS or np.ptp(results) == 0:
        return None
    generator = np.random.default_rng(seed)
    predicted = np.empty_like(results)
    shuffled = np.empty((SHUFFLES, len(names), len(results)))
    for train_rows, test_rows in KFold(FOLDS, shuffle=True, random_state=seed).split(settings):
        forest = ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=seed).fit(
            settings[train_rows], results[train_rows]
        )
        predicted[test_rows] = forest.predict(settings[test_rows])
        permuted = np.repeat(settings[test_rows][None], SHUFFLES * len(names), 0)
        for index in range(SHUFFLES * len(names)):
            column = index % len(names)
            permuted[index, :, column] = generator.permutation(settings[:, column])[: len(test_rows)]
        predictions = forest.predict(permuted.reshape(-1, len(names)))
        shuffled[:, :, test_rows] = predictions.reshape(SHUFFLES, len(names), len(test_rows))
    full_score = r2_score(results, predicted)
    shares = {}
    for column, name in enumerate(names):
        drops = [full_score - r2_score(results, prediction) for prediction in shuffled[:, column]]
        shares[name] = ImportanceShare(float(np.mean(drops)), float(np.std(drops)))
    return Importance(float(full_score), dict(sorted(shares.items(), key=lambda pair: -pair[1].mean)))
