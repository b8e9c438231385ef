"""Photographs of any exposure, brought to that of training."""

import numpy as np

from crackflow.inference import exposure


def test_a_photograph_is_made_at_most_so_many_times_as_bright_or_dark():
    for level, brightness, exposed in ((10, 200, 25), (250, 20, 100), (100, 200, 200), (0, 100, 0), (200, 0, 200)):
        levels = exposure.levels_for(np.full((8, 8, 3), level, np.uint8), float(brightness))
        assert levels[level] == exposed and (np.diff(levels.astype(int)) >= 0).all()


def test_each_photograph_of_a_batch_has_its_own_levels():
    batch = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), np.uint8)
    tables = [np.arange(256, dtype=np.uint8), np.full(256, 7, np.uint8)]
    exposed = exposure.apply_levels(batch, tables)
    assert (exposed[0] == batch[0]).all() and (exposed[1] == 7).all()
