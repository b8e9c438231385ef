import numpy as np
import pytest
from PIL import Image, ImageDraw

from crackflow.synthesis import surfaces


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("image_px", [32, 33, 227])
def test_a_surface_has_a_tone_and_colours_in_float32_above_zero(image_px):
    for seed in range(8):
        surface = surfaces.draw_surface(generator(seed), image_px)
        assert surface.tone.shape == (image_px, image_px) and surface.colour.shape in [
            (3, image_px, image_px),
            (3, 1, 1),
        ]
        assert surface.tone.dtype == surface.colour.dtype == np.float32
        assert 0.02 <= surface.tone.min() and surface.tone.max() < 3
        assert 0.1 < surface.colour.min() and surface.colour.max() < 1.5


def test_the_generator_alone_decides_the_surface():
    first, again, different = (surfaces.draw_surface(generator(seed), 64) for seed in (4, 4, 5))
    assert np.array_equal(first.tone, again.tone) and np.array_equal(first.colour, again.colour)
    assert not np.array_equal(first.tone, different.tone) and not np.array_equal(first.colour, different.colour)


@pytest.mark.parametrize("material", [material for _, material in surfaces.MATERIALS])
def test_every_material_has_colour_and_texture(material):
    for seed in range(8):
        surface = material(generator(seed), 96, surfaces.REFERENCE_PX)
        planes = surface.tone * surface.colour
        assert planes.shape == (3, 96, 96) and planes.dtype == np.float32
        assert planes.min() > 0
        assert planes.std(axis=(1, 2)).min() > 0.003
        assert np.ptp(surface.colour.mean(axis=(1, 2))) > 0.0005


def test_materials_are_drawn_as_often_as_their_shares_say(monkeypatch):
    drawn = []

    def stand_in(name):
        plain = surfaces.Surface(np.ones((8, 8), np.float32), surfaces.shades(1, 1, 1))
        return lambda rng, image_px, reference: drawn.append(name) or plain

    monkeypatch.setattr(surfaces, "MATERIALS", ((3, stand_in("often")), (1, stand_in("seldom"))))
    rng = generator()
    for _ in range(400):
        surfaces.draw_surface(rng, 8)
    assert 0.68 < drawn.count("often") / 400 < 0.82


@pytest.mark.parametrize("mark", [mark for _, mark in surfaces.MARKS])
def test_every_mark_shows_and_leaves_most_of_the_surface(mark):
    for seed in range(8):
        canvas = Image.new("L", (400, 400), surfaces.NEUTRAL)
        mark(generator(seed), ImageDraw.Draw(canvas), 400, 1.8)
        changed = np.mean(np.asarray(canvas) != surfaces.NEUTRAL)
        assert 0 < changed < 0.5


def test_marks_are_factors_near_one():
    for seed in range(30):
        marks = surfaces.marks(generator(seed), 64)
        assert marks.shape == (64, 64) and marks.dtype == np.float32
        assert 0.06 <= marks.min() and marks.max() <= 1.8
        assert abs(np.median(marks) - 1) < 0.06


def test_white_noise_has_mean_zero_variance_one_and_no_memory():
    noise = surfaces.white(generator(), (300, 301))
    assert noise.shape == (300, 301) and noise.dtype == np.float32
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert abs((noise[:, 1:] * noise[:, :-1]).mean()) < 0.02


@pytest.mark.parametrize("image_px", [64, 227])
def test_coarse_noise_is_smooth_and_fine_noise_is_not(image_px):
    def likeness(field):
        return np.corrcoef(field[:, 2:].ravel(), field[:, :-2].ravel())[0, 1]

    coarse = surfaces.fractal(generator(), image_px, 60, 40, 1.0)
    fine = surfaces.fractal(generator(), image_px, 1, 1, 1.0)
    assert coarse.shape == fine.shape == (image_px, image_px)
    assert likeness(coarse) > 0.95
    assert likeness(fine) < 0.2


def test_stretched_noise_is_smoother_sideways():
    field = surfaces.fractal(generator(), 128, 8, 4, 1.0, stretch=6)
    assert np.abs(np.diff(field, axis=1)).mean() < 0.4 * np.abs(np.diff(field, axis=0)).mean()


@pytest.mark.parametrize(("points", "size"), [(4, 60), (9, 61), (40, 64), (70, 64)])
def test_enlarging_keeps_a_constant_and_a_ramp(points, size):
    ramp = np.tile(np.arange(points, dtype=np.float32), (points, 1))
    position = (np.arange(size) + 0.5) * points / size - 0.5
    inside = (position >= 1) & (position <= points - 2)
    large = surfaces.enlarge(ramp, size, size)
    assert np.allclose(large[:, inside], position[inside], atol=1e-4)
    assert np.allclose(surfaces.enlarge(ramp.T.copy(), size, size), large.T, atol=1e-4)
    assert np.allclose(surfaces.enlarge(np.full((points, points), 3, np.float32), size, size), 3, atol=1e-5)


@pytest.mark.parametrize("sigma_px", [0.3, 0.7, 1.0, 1.6])
def test_softening_spreads_a_point_by_sigma(sigma_px):
    point = np.zeros((31, 31), np.float32)
    point[15, 15] = 1
    spread = surfaces.soften(point, sigma_px)
    away = np.arange(31) - 15
    for axis in (0, 1):
        assert np.isclose((spread.sum(axis=axis) * away**2).sum(), sigma_px**2, rtol=1e-3)
    assert np.isclose(spread.sum(), 1, atol=1e-5)


def test_softening_does_not_reach_round_the_border():
    edge = np.zeros((2, 9, 9), np.float32)
    edge[0, :, -1] = 1
    soft = surfaces.soften(edge, 0.7)
    assert soft[0, :, -2].min() > 0.1
    assert not soft[0, :, :5].any() and not soft[1].any()
    assert np.allclose(surfaces.soften(np.full((2, 9, 9), 5, np.float32), 1.2), 5, atol=1e-5)


def test_a_softening_of_nothing_changes_nothing():
    noise = surfaces.white(generator(), (16, 16))
    assert surfaces.soften(noise, 0.0) is noise
    assert surfaces.soften(noise, 0.01) is noise


def test_a_slope_is_lit_by_its_angle():
    right = np.tile(np.arange(8, dtype=np.float32), (8, 1))
    assert np.allclose(surfaces.slope(right, 0.0)[:, 1:], 1)
    assert np.allclose(surfaces.slope(right, np.pi)[:, 1:], -1)
    assert np.allclose(surfaces.slope(right, np.pi / 2), 0, atol=1e-6)
    assert np.allclose(surfaces.slope(np.ascontiguousarray(right.T), np.pi / 2)[1:], 1)
    assert np.allclose(surfaces.slope(right, 0.0)[:, 0], 0)


def test_factors_between_two_numbers_are_even_over_the_doublings():
    rng = generator()
    drawn = np.array([surfaces.between(rng, 1, 16) for _ in range(2000)])
    assert 1 <= drawn.min() and drawn.max() <= 16
    assert abs(np.mean(drawn < 4) - 0.5) < 0.05
