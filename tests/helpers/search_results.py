"""Results of a search."""

import numpy as np

from crackflow.search import search, space, trial
from tests.helpers.trials import outcome


def random_trials(count, seed=0):
    """Completed trials with random hyperparameters; slower ones are more accurate."""
    random, trials = np.random.default_rng(seed), []
    for number in range(count):
        hyperparameters = {
            name: float(f"{random.uniform(*choice.values):.3g}") if choice.log else random.choice(choice.values).item()
            for name, choice in space.SPACE.items()
        }
        speed = float(random.uniform(1_000, 40_000))
        accuracy = float(np.clip(1 - speed / 1e6 - random.exponential(0.01), 0, 1))
        changes = {"images_per_sec": speed, "accuracy": accuracy, "score": accuracy, "chosen": hyperparameters}
        trials.append(outcome(f"{number:02d}", **changes, params=int(1e7 / speed), epochs=8 if number % 3 else 3))
    return trials


def search_result(outcomes, nearest=None):
    done = [trial_result for trial_result in outcomes if trial_result.status == trial.COMPLETED]
    best = max(done, key=lambda trial_result: trial_result.score, default=None)
    return search.SearchResult(
        outcomes, best, nearest, trial.DryRun(reference=5000.0, smallest=40_000.0, largest=900.0)
    )
