import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from crackflow.inference import crack_width, cross_profiles, width_results
from crackflow.inference.cross_profiles import GreyPixels

SIDE = 200


def wall(width, angle=0.3, blur=0.8, contrast=0.8, light=0.4, noise=2.0, side=SIDE):
    """(uint8 [side, side, 1] with a straight crack, its middle line float64 [N, 2])."""
    fine = 4
    y, x = (np.mgrid[: side * fine, : side * fine] + 0.5) / fine - side / 2
    distance = np.abs(np.cos(angle) * y - np.sin(angle) * x)
    cover = np.clip(0.5 - (distance - width / 2) * fine, 0, 1)
    small = ndimage.gaussian_filter(light * (1 - contrast * cover), fine * np.sqrt(blur**2 - 1 / 12))
    small = small.reshape(side, fine, side, fine).mean((1, 3))
    levels = 255 * (1.055 * small ** (1 / 2.4) - 0.055)  # sRGB
    levels += np.random.default_rng(0).normal(0, noise, levels.shape)
    along = np.arange(-0.4 * side, 0.4 * side)
    line = side / 2 + np.stack([along * np.cos(angle), along * np.sin(angle)], 1)
    return np.clip(levels, 0, 255).round().astype(np.uint8)[..., None], line


def measured(pixels, line, **options):
    (crack,), limits = crack_width.measure(GreyPixels.of(pixels), [[line]], **options)
    return crack, limits


def median(pixels, line):
    return measured(pixels, line)[0].width_px["median"]


@pytest.mark.parametrize("width", [2.5, 4.0, 7.0, 15.0])
def test_a_crack_has_the_width_that_was_drawn(width):
    interval = median(*wall(width))
    assert interval["value"] == pytest.approx(width, abs=0.3)
    assert interval["low"] <= width <= interval["high"]


@pytest.mark.parametrize(
    "changed", [{"angle": 0.0}, {"angle": 1.1}, {"angle": 2.4}, {"light": 0.15}, {"contrast": 0.5}]
)
def test_angle_brightness_and_contrast_change_nothing_beyond_the_interval(changed):
    usual, other = median(*wall(4.0)), median(*wall(4.0, **changed))
    assert usual["low"] <= other["value"] <= usual["high"] and other["low"] <= usual["value"] <= other["high"]


def test_the_width_scales_with_the_photograph():
    pixels, line = wall(5.0)
    double = ndimage.zoom(pixels[..., 0], 2, order=1)[..., None]
    assert median(double, 2 * line)["value"] == pytest.approx(2 * median(pixels, line)["value"], rel=0.06)


@pytest.mark.parametrize("width", [0.3, 0.6, 1.0])
def test_a_line_too_thin_to_resolve_is_at_most_so_wide(width):
    crack, limits = measured(*wall(width, noise=1.0))
    assert crack.width_px is None and crack.note.startswith("at most ") and crack.note.endswith(" here")
    assert float(crack.note.split()[2]) >= max(width, limits["measurable_px"]) - 0.05
    assert all(value is None or value >= limits["measurable_px"] for value in crack.centerline[0]["widths_px"])


def test_statistics_are_in_order_and_the_widest_place_lies_on_the_line():
    pixels, line = wall(6.0)
    widths = measured(pixels, line)[0].width_px
    assert widths["median"]["value"] <= widths["p95"]["value"] <= widths["max"]["value"]
    assert np.hypot(*(line - widths["max"]["at"]).T).min() < 2


def test_the_widest_place_is_where_the_crack_is_widest():
    pixels, line = wall(4.0, angle=0.0)
    wide, _ = wall(9.0, angle=0.0)
    pixels[:, 120:160] = wide[:, 120:160]
    widest = measured(pixels, line)[0].width_px["max"]
    assert 120 < widest["at"][0] < 160 and widest["value"] == pytest.approx(9, abs=0.5)


def test_junctions_and_ends_have_no_width():
    pixels, line = wall(5.0, angle=0.0)
    up, other = wall(5.0, angle=np.pi / 2)
    pixels = np.minimum(pixels, up)
    (crack,), _ = crack_width.measure(GreyPixels.of(pixels), [[line, other[: len(other) // 2]]])
    assert len(crack.centerline) == 2 and crack.width_px["max"]["value"] < 5.6


def test_a_line_beside_the_dark_one_is_moved_onto_it():
    pixels, line = wall(4.0)
    assert median(pixels, line + [-1.0, 3.0])["value"] == pytest.approx(median(pixels, line)["value"], abs=0.1)


def test_millimetres_are_pixels_times_their_size():
    crack, limits = measured(*wall(5.0), mm_per_px=0.2)
    for name in width_results.STATISTICS:
        assert crack.width_mm[name]["value"] == pytest.approx(0.2 * crack.width_px[name]["value"], rel=0.01)
    assert crack.width_mm["max"]["at"] == crack.width_px["max"]["at"]
    assert limits["measurable_mm"] == pytest.approx(0.2 * limits["measurable_px"], rel=0.01)
    assert measured(*wall(5.0))[0].width_mm is None


def test_more_blur_raises_both_limits():
    (_, sharp), (_, soft) = measured(*wall(8.0, blur=0.6)), measured(*wall(8.0, blur=1.8))
    assert sharp["blur_px"] == pytest.approx(0.6, abs=0.1) and soft["blur_px"] == pytest.approx(1.8, abs=0.15)
    assert all(sharp[name] < soft[name] for name in ("measurable_px", "visible_px"))


def test_without_a_line_or_a_slit_there_is_a_reason():
    flat = np.full((80, 80, 3), 120, np.uint8)
    (none, single, straight), limits = crack_width.measure(
        GreyPixels.of(flat), [[], [np.array([[5.0, 5.0]])], [np.array([[10.0, 40.0], [70.0, 40.0]])]]
    )
    assert (none.note, single.note, straight.note) == (crack_width.NO_LINE, crack_width.NO_LINE, crack_width.NO_SLIT)
    assert none.width_px is straight.width_px is limits is None
    assert straight.centerline[0]["widths_px"] == [None] * len(straight.centerline[0]["points"])


def test_a_long_crack_is_measured_at_fewer_stations(monkeypatch):
    usual = median(*wall(6.0))["value"]
    monkeypatch.setattr(crack_width, "MAX_GROUPS", 8)
    assert median(*wall(6.0))["value"] == pytest.approx(usual, abs=0.15)


coordinates = st.floats(-20, 110, allow_nan=False)
paths = st.lists(st.tuples(coordinates, coordinates), max_size=5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(paths, max_size=3), max_size=3), st.integers(0, 3), st.booleans())
def test_no_lines_and_no_pixels_break_it(cracks, seed, tiled):
    pixels = np.random.default_rng(seed).integers(0, 256 if seed else 1, (90, 80, 3), np.uint8)
    grey = GreyPixels.of(pixels, np.random.default_rng(seed).random((5, 5)) < 0.5 if tiled else None)
    lines = [[np.array(path, np.float64).reshape(-1, 2) for path in crack] for crack in cracks]
    widths, _ = crack_width.measure(grey, lines, 0.5)
    assert len(widths) == len(cracks)
    for crack in widths:
        assert (crack.width_px is None) == bool(crack.note)
        assert width_results.are_valid(crack.centerline, crack.width_px, crack.width_mm)
        for first, second in itertools.pairwise(width_results.STATISTICS if crack.width_px else ()):
            assert crack.width_px[first]["value"] <= crack.width_px[second]["value"]


def test_profiles_of_one_length_fit_each_width():
    assert crack_width.HALVES_PX[-1] == cross_profiles.MAX_HALF_PX
