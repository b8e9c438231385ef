import numpy as np
import pytest

from crackflow.synthesis import distractors, surfaces

PX, REFERENCE = 64, 150.0


def generator(seed=0):
    return np.random.default_rng(seed)


def plain(tone=1.0):
    return surfaces.Surface(np.full((PX, PX), tone, np.float32), surfaces.shades(0.5, 0.5, 0.5))


def test_a_scattered_surface_stays_within_range_and_is_the_generators():
    for seed in range(40):
        first, again = (
            distractors.scatter(generator(seed), plain(), REFERENCE, lambda rng, image_px: plain(0.7)) for _ in range(2)
        )
        assert np.array_equal(first.tone, again.tone) and np.array_equal(first.colour, again.colour)
        assert first.tone.dtype == first.colour.dtype == np.float32
        assert 0.02 <= first.tone.min() and first.tone.max() <= 2
        assert 0 < first.colour.min() and first.colour.max() < 1


@pytest.mark.parametrize(
    "change",
    [
        lambda rng, tone: distractors._add_cable(rng, tone, PX / REFERENCE),
        lambda rng, tone: distractors._add_stripe(rng, tone, PX / REFERENCE, REFERENCE),
        lambda rng, tone: distractors._add_seam(rng, tone, np.ones((3, 1, 1), np.float32), plain(0.5))[0],
        lambda rng, tone: distractors._add_rim(rng, tone, REFERENCE),
        lambda rng, tone: distractors._add_debris(rng, tone, PX / REFERENCE),
    ],
    ids=["cable", "stripe", "seam", "rim", "debris"],
)
def test_each_thing_changes_some_pictures_and_never_all_of_one(change):
    tone = plain().tone
    changed = [(np.abs(change(generator(seed), tone) - tone) > 0.02).mean() for seed in range(30)]
    assert np.mean(np.array(changed) > 0) > 0.6
    assert np.mean(np.array(changed) < 1) > 0.6


def test_beyond_a_seam_lies_the_other_ground():
    both = 0
    for seed in range(20):
        tone, colour = distractors._add_seam(generator(seed), plain().tone, plain().colour, plain(0.4))
        near = [np.isclose(tone, level, atol=1e-3).mean() for level in (0.4, 1.0)]
        both += min(near) > 0.05
        assert sum(near) > 0.5 and np.allclose(colour, 0.5)
    assert both >= 10


def test_light_is_a_factor_that_is_mostly_one():
    fields = [distractors.light(generator(seed), PX, REFERENCE) for seed in range(40)]
    assert all(0.1 < field.min() and field.max() <= 2 for field in fields)
    assert np.mean([np.ptp(field) == 0 for field in fields]) > 0.3
    assert np.mean([np.ptp(field) > 0.2 for field in fields]) > 0.1
