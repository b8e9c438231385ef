import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from crackflow.synthesis import cracks, surfaces

PX = 96


def drawn(count, image_px=PX, boldness=0.0):
    rng = np.random.default_rng(1)
    return [cracks.draw(rng, image_px, boldness) for _ in range(count)]


def photograph(surface=200, crack=100, rows=slice(40, 46)):
    image = np.full((PX, PX, 3), surface, np.uint8)
    mask = np.zeros((PX, PX), np.uint8)
    image[rows], mask[rows] = crack, 255
    return image, mask


@pytest.mark.parametrize("image_px", [32, 96, 227])
def test_a_crack_has_the_promised_arrays(image_px):
    for crack in drawn(8, image_px):
        assert crack.mask.dtype == np.uint8 and crack.mask.shape == (image_px, image_px)
        assert set(np.unique(crack.mask)) == {0, 255}
        assert crack.shade.dtype == crack.edge.dtype == np.float32
        assert crack.shade.shape == crack.edge.shape == (image_px, image_px)
        assert 0 <= crack.shade.min() and crack.shade.max() <= 1.001
        assert 0 < crack.inside < 1
        assert crack.tint.shape == (3, 1, 1) and crack.tint.dtype == np.float32


def test_a_crack_shades_its_mask_and_not_the_rest():
    for crack in drawn(20):
        far = ~ndimage.binary_dilation(crack.mask > 0, iterations=6)
        assert crack.shade[crack.mask > 0].mean() > 0.3
        assert crack.shade[far].mean() < 0.01


def test_cracks_range_from_hairlines_to_wide_gaps():
    def width(crack):  # at the widest position, in pixels of 227
        return 2 * ndimage.distance_transform_edt(np.pad(crack.mask, 1, mode="edge")).max() * 227 / 128

    widths = [width(crack) for crack in drawn(40, 128)]
    assert min(widths) < 4
    assert 12 < max(widths) < 40


def test_some_cracks_end_within_the_picture_and_some_cross_it():
    def ends(crack):
        border = np.concatenate([crack.mask[0], crack.mask[1:, -1], crack.mask[-1, -2::-1], crack.mask[-2:0:-1, 0]])
        return ndimage.label(np.concatenate([border, border[:1]]))[1]

    crossed = [ends(crack) >= 2 for crack in drawn(60)]
    assert 0.6 < np.mean(crossed) < 0.92


def test_a_way_leads_from_its_start_to_its_end_in_short_pieces():
    path = cracks.wander(np.random.default_rng(0), 3 + 4j, 203 + 54j, 5.0)
    assert (path[0], path[-1]) == (3 + 4j, 203 + 54j)
    assert 40 <= len(path) <= 130
    assert np.abs(np.diff(path)).max() < 25
    straight = np.linspace(3 + 4j, 203 + 54j, len(path))
    assert np.abs(path - straight).max() > 2


def test_bold_cracks_are_wider_and_darker():
    usual, bold = drawn(30), drawn(30, boldness=1.0)
    assert np.mean([c.mask.mean() for c in bold]) > 1.5 * np.mean([c.mask.mean() for c in usual])
    assert max(c.inside for c in bold) < 0.25 < max(c.inside for c in usual)


def test_the_surface_is_dark_in_the_crack_and_untouched_beside_it():
    surface = surfaces.draw_surface(np.random.default_rng(0), PX)
    shade = np.zeros((PX, PX), np.float32)
    shade[:, 50] = 1
    brown = surfaces.shades(1.1, 1.0, 0.9)
    cracked = cracks.darken(surface, cracks.Crack(shade, 0.3, brown, np.zeros_like(shade), shade))
    before, after = (
        drawn_surface.tone * (drawn_surface.colour + np.zeros_like(drawn_surface.tone))
        for drawn_surface in (surface, cracked)
    )
    assert np.array_equal(np.delete(after, 50, axis=2), np.delete(before, 50, axis=2))
    assert np.allclose(cracked.tone[:, 50], np.minimum(surface.tone[::-1, 50] * 0.3, surface.tone[:, 50]), atol=1e-6)
    assert np.allclose(cracked.colour[..., 50:51], (surface.colour * brown)[..., -1:], atol=1e-6)


def test_a_crack_never_lightens_what_it_swallows():
    tone, grey = np.ones((PX, PX), np.float32), surfaces.shades(1, 1, 1)
    tone[PX // 2 :] = 0.1  # a shadow: the inside, borrowed from the sunny half, would be lighter than it
    whole = cracks.Crack(np.ones_like(tone), 0.6, grey, np.zeros_like(tone), tone)
    assert (cracks.darken(surfaces.Surface(tone, grey), whole).tone <= tone).all()


def test_contrast_is_the_share_of_light_lost_and_in_deviations():
    image, mask = photograph(200, 100)
    assert cracks.contrast(image, mask) == (pytest.approx(0.5, abs=0.01), pytest.approx(100, abs=1))
    image[:40:2] = image[46::2] = 180
    share, deviations = cracks.contrast(image, mask)
    assert share == pytest.approx(90 / 190, abs=0.03)
    assert deviations == pytest.approx(9, abs=0.8)


def test_contrast_looks_no_further_than_the_ring():
    image, mask = photograph(200, 100)
    image[:30] = image[60:] = 20
    assert cracks.contrast(image, mask)[0] == pytest.approx(0.5, abs=0.01)


def test_a_picture_without_crack_or_without_surface_has_no_contrast():
    image, mask = photograph()
    assert cracks.contrast(image, np.zeros_like(mask)) == (0.0, 0.0)
    assert cracks.contrast(image, np.full_like(mask, 255)) == (0.0, 0.0)


def test_a_plain_dark_line_is_visible():
    assert cracks.is_visible(*photograph(200, 160))


def test_a_crack_too_pale_is_not_visible():
    pale = round(200 * (1 - cracks.MIN_CONTRAST)) + 2
    assert not cracks.is_visible(*photograph(200, pale))
    assert cracks.is_visible(*photograph(200, pale - 4))


def test_a_crack_too_small_is_not_visible():
    image, mask = photograph(rows=slice(40, 41))
    enough = int(np.ceil(cracks.MIN_MASK_FRACTION * PX * PX))
    mask[:, enough:] = 0
    assert cracks.is_visible(image, mask)
    mask[:, enough - 1 :] = 0
    assert not cracks.is_visible(image, mask)


def test_a_crack_that_texture_hides_is_not_visible():
    image, mask = photograph(150, 110)
    assert cracks.is_visible(image, mask)
    rough = np.random.default_rng(0).integers(60, 240, (PX, PX, 1), np.uint8)
    image = np.where(mask[..., None] > 0, image, rough)
    assert cracks.contrast(image, mask)[0] > cracks.MIN_CONTRAST
    assert not cracks.is_visible(image, mask)


@pytest.mark.parametrize("by_px", [1, 2, 5, 7, 12])
def test_growing_is_a_dilation_by_a_square(by_px):
    seeds = np.random.default_rng(by_px).random((40, 50)) < 0.004
    square = np.ones((2 * by_px + 1, 2 * by_px + 1), bool)
    assert np.array_equal(cracks.grown(seeds, by_px), ndimage.binary_dilation(seeds, square))


def test_shifting_repeats_the_border():
    field = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert np.array_equal(cracks.shift(field, 1, 0), field[:, [0, 0, 1, 2]])
    assert np.array_equal(cracks.shift(field, -2, 1), field[[0, 0, 1]][:, [2, 3, 3, 3]])


def test_a_crack_cannot_be_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError, match="mask"):
        drawn(1)[0].mask = None
