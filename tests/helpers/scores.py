"""Labels and probabilities to measure."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

# Scores on a grid often equal each other, the threshold, 0 or 1.
SCORES = st.one_of(st.integers(0, 8).map(lambda eighth: eighth / 8), st.floats(0, 1))

ROWS = st.lists(st.tuples(st.booleans(), SCORES, st.integers(0, 5)), min_size=1, max_size=30)

FEW = settings(deadline=None, max_examples=25)


def columns(rows):
    labels, probabilities, groups = zip(*rows, strict=True)
    return np.array(labels), np.array(probabilities), np.array(groups)


def sample(count, seed=0, spread=0.25):
    """Labels, probabilities and groups of a fair, imperfect classifier; some groups hold several images."""
    generator = np.random.default_rng(seed)
    labels = generator.random(count) < 0.5
    probabilities = np.clip(0.5 + 0.4 * (labels - 0.5) + generator.normal(0, spread, count), 0, 1)
    return labels, probabilities, generator.integers(0, max(count * 3 // 4, 1), count)
