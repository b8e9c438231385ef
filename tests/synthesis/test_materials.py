import numpy as np
import pytest

from crackflow.synthesis import materials


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("material", [material for _, material in materials.MATERIALS])
@pytest.mark.parametrize("reference", [100, 430])
def test_every_material_has_texture_and_colours_near_and_far(material, reference):
    for seed in range(6):
        surface = material(generator(seed), 64, reference)
        assert surface.tone.shape == (64, 64) and surface.colour.shape in [(3, 64, 64), (3, 1, 1)]
        assert surface.tone.dtype == surface.colour.dtype == np.float32
        assert 0.02 <= surface.tone.min() and surface.tone.max() < 3
        assert 0.05 < surface.colour.min() and surface.colour.max() < 1.5
        assert (surface.tone * surface.colour).std() > 0.002


def test_the_generator_alone_decides_the_ground():
    first, again, different = (materials.draw_material(generator(seed), 64, 300) for seed in (4, 4, 5))
    assert np.array_equal(first.tone, again.tone) and np.array_equal(first.colour, again.colour)
    assert not np.array_equal(first.tone, different.tone)


def test_a_larger_reference_shows_smaller_stones():
    def edges(reference):
        tones = [materials.rubble(generator(seed), 96, reference).tone for seed in range(12)]
        return np.mean([np.abs(np.diff(tone, axis=1)).mean() for tone in tones])

    assert edges(430) > 1.3 * edges(100)


def test_cells_are_the_nearest_points():
    nearest, gap, count = materials._voronoi_cells(generator(1), 48, 10.0, 1.0)
    assert nearest.shape == gap.shape == (48, 48)
    assert nearest.min() >= 0 and nearest.max() < count
    assert gap.min() >= 0
    inside = (nearest[:, 1:] == nearest[:, :-1]).mean()
    assert 0.7 < inside < 1  # cells of about ten pixels
