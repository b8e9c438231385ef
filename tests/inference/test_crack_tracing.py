import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scipy import ndimage

from crackflow.inference import crack_tracing
from crackflow.synthesis import concrete

CELL, ACROSS = 16, 8


def wall(height=256, width=320, seed=0):
    """A grey wall with some grain: uint8 [height, width, 3]."""
    grain = np.random.default_rng(seed).normal(0, 3, (height, width, 1))
    return np.clip(170 + grain, 0, 255).astype(np.uint8).repeat(3, 2)


def cracked(points, width=4, shape=(256, 320)):
    """(wall with a dark line through `points`, its mask)."""
    mask = Image.new("L", shape[::-1])
    ImageDraw.Draw(mask).line(points, fill=255, width=width)
    mask = np.asarray(mask) > 0
    picture = wall(*shape)
    picture[ndimage.binary_dilation(mask)] = 120
    picture[mask] = 40
    return picture, mask


def window_probabilities(mask):
    """Probabilities of windows that see every crack pixel and nothing else: float64 [h, w]."""
    windows = np.lib.stride_tricks.sliding_window_view(mask, (CELL * ACROSS,) * 2)[::CELL, ::CELL]
    return windows.any((2, 3)).astype(np.float64)


def filled(outlines, shape):
    canvas = Image.new("1", shape[::-1])
    for outline in outlines:
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in outline], fill=1)
    return np.asarray(canvas)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 6), st.integers(0, 1000))
def test_heat_is_the_mean_over_the_windows_that_hold_a_cell(height, width, across, seed):
    values = np.random.default_rng(seed).random((height, width))
    heat = crack_tracing.window_heatmap(values, across)
    assert heat.shape == (height + across - 1, width + across - 1)
    for y, x in [(0, 0), (heat.shape[0] - 1, heat.shape[1] - 1), (heat.shape[0] // 2, heat.shape[1] // 2)]:
        containing = values[max(y - across + 1, 0) : y + 1, max(x - across + 1, 0) : x + 1]
        assert heat[y, x] == pytest.approx(containing.mean(), abs=1e-6)


def test_the_heat_of_one_window_is_its_probability():
    np.testing.assert_allclose(
        crack_tracing.window_heatmap(np.array([[0.3]]), ACROSS), np.full((ACROSS, ACROSS), 0.3), atol=1e-6
    )


def test_maps_of_several_scales_meet_place_by_place():
    fine, coarse = np.full((8, 8), 0.1, np.float32), np.full((4, 4), 0.1, np.float32)
    fine[2:4, 4:6] = coarse[1, 2] = 0.9
    both = crack_tracing.fuse_scales([(1.0, fine), (0.5, coarse)], (8, 8))
    assert both[2:4, 4:6].min() > 0.5 and both[6, 1] == pytest.approx(0.1, abs=1e-3)
    assert both.argmax() in np.flatnonzero(fine.ravel() == np.float32(0.9))


def test_scales_that_disagree_meet_halfway_in_the_logit():
    both = crack_tracing.fuse_scales([(1.0, np.full((2, 2), 0.9)), (2.0, np.full((4, 4), 0.1))], (2, 2))
    np.testing.assert_allclose(both, 0.5, atol=1e-6)


def test_scales_that_place_a_crack_a_little_apart_agree_on_it():
    left, right = np.full((8, 8), 0.1), np.full((8, 8), 0.1)
    left[3, 2], right[3, 4] = 0.9, 0.9
    apart, near = (crack_tracing.fuse_scales([(1.0, left), (1.0, right)], (8, 8), reach) for reach in (0, 1))
    assert apart.max() == pytest.approx(0.5, abs=1e-6) and near.max() == pytest.approx(0.9, abs=1e-6)
    assert near[3, 3] == near.max() and near[7, 7] == pytest.approx(0.1, abs=1e-6)
    alone = crack_tracing.fuse_scales([(1.0, left)], (8, 8), 1)
    np.testing.assert_allclose(alone, left, atol=1e-6)  # there is nothing that it could disagree with


def test_one_scale_alone_is_left_as_it_is():
    heat = np.random.default_rng(0).random((5, 7)).astype(np.float32)
    np.testing.assert_allclose(crack_tracing.fuse_scales([(2.0 / 2.0, heat)], heat.shape), heat, atol=1e-5)


def test_maps_of_several_photographs_are_fused_as_those_of_each():
    random = np.random.default_rng(0)
    coarse, main, fine = (random.random((3, *shape)).astype(np.float32) for shape in ((4, 5), (7, 9), (13, 18)))
    scales = (0.5, 1.0, 2.0)
    maps = list(zip(scales, (coarse, main, fine), strict=True))
    both = crack_tracing.fuse_scales(maps, (7, 9), 2)
    for number in range(3):
        expected = crack_tracing.fuse_scales([(scale, heat[number]) for scale, heat in maps], (7, 9), 2)
        np.testing.assert_array_equal(both[number], expected)
    several = crack_tracing.window_heatmap(main, 4)
    np.testing.assert_array_equal(several, np.stack([crack_tracing.window_heatmap(heat, 4) for heat in main]))


def test_a_map_is_linear_between_its_cells_and_constant_beyond_its_border():
    heat = np.random.default_rng(1).random((6, 7))
    rows, columns = (np.arange(12) + 0.5) * 0.7 - 1, (np.arange(9) + 0.5) * 0.9 - 1
    expected = ndimage.map_coordinates(heat, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")
    between = crack_tracing._interpolate(crack_tracing._interpolate(heat, rows, -2), columns, -1)
    np.testing.assert_allclose(between, expected, atol=1e-12)


def test_a_crack_is_outlined_where_it_is_and_measured_along_it():
    picture, mask = cracked([(20, 60), (150, 140), (300, 150)])
    (crack,) = crack_tracing.extract_cracks(
        crack_tracing.window_heatmap(window_probabilities(mask), ACROSS), CELL, ACROSS, picture, 0.5
    )
    inside = filled(crack.outlines, mask.shape)
    assert inside[mask].mean() > 0.9
    assert ndimage.binary_dilation(mask, iterations=8)[inside].mean() > 0.95
    length_px = np.hypot(130, 80) + np.hypot(150, 10)
    assert crack.length_px == pytest.approx(length_px, rel=0.1)
    assert crack.probability == pytest.approx(1)


@pytest.mark.parametrize("points", [[(5.4, 7.2)], [(5.0, 7.0), (5.0, 7.0)]])
def test_a_line_of_one_point_is_marked_as_well(points):
    mask = crack_tracing._dark_line_mask(np.zeros((20, 20)), np.ones((20, 20), bool), 0.5, [np.array(points)])
    assert mask.sum() == 1 and mask[7, 5]


@given(st.integers(17, 34), st.integers(17, 34), st.integers(0, 500))
@settings(max_examples=60)
def test_any_small_area_anywhere_is_outlined(height, width, seed):
    """Also one of a few pixels in a corner, on which hardly a line fits."""
    random = np.random.default_rng(seed)
    picture = random.integers(0, 256, (height, width, 3), np.uint8)
    heat = (random.random((-(-height // CELL), -(-width // CELL))) > 0.6).astype(np.float32)
    for crack in crack_tracing.extract_cracks(heat, CELL, ACROSS, picture, 0.5):
        assert crack.outlines and all(len(outline) >= 4 for outline in crack.outlines)


def test_a_photograph_that_is_called_cracked_has_a_finding_where_it_is_so():
    """The heat that decides may be higher than that which is traced, where scales place a crack a little apart."""
    traced, decides = np.full((16, 20), 0.1, np.float32), np.full((16, 20), 0.1, np.float32)
    traced[6:9, 8:12], decides[6:9, 8:12] = 0.5, 0.9
    (crack,) = crack_tracing.extract_cracks(traced, CELL, ACROSS, wall(), 0.6, corrected=decides)
    assert crack.probability == pytest.approx(0.9)
    x, y, width, height = crack.box
    assert x < 160 < x + width and y < 120 < y + height


@pytest.mark.parametrize("angle", [0, 15, 30, 45, 60, 90])
def test_length_does_not_depend_on_direction(angle):
    down, right = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    ends = [(150 - 90 * right, 150 - 90 * down), (150 + 90 * right, 150 + 90 * down)]
    picture, mask = cracked(ends, shape=(300, 300))
    (crack,) = crack_tracing.extract_cracks(
        crack_tracing.window_heatmap(window_probabilities(mask), ACROSS), CELL, ACROSS, picture, 0.5
    )
    assert crack.length_px == pytest.approx(180, rel=0.12)


def test_two_cracks_far_apart_are_two_findings_the_most_probable_first():
    picture, mask = cracked([(20, 30), (90, 30)], shape=(400, 600))
    second_picture, second_mask = cracked([(450, 350), (560, 330)], shape=(400, 600))
    picture[300:], mask = second_picture[300:], mask | second_mask
    probabilities = window_probabilities(mask)
    probabilities[:, : probabilities.shape[1] // 2] *= 0.8
    cracks = crack_tracing.extract_cracks(
        crack_tracing.window_heatmap(probabilities, ACROSS), CELL, ACROSS, picture, 0.5
    )
    assert len(cracks) == 2 and cracks[0].probability > cracks[1].probability
    assert cracks[0].box[0] > 300 > cracks[1].box[0] + cracks[1].box[2]


def two_lines():
    """(picture, heat, cells of the first line, mask of the first, mask of the second); both lie in what is warm."""
    _, first = cracked([(0, 60), (319, 70)])
    _, second = cracked([(0, 150), (319, 150)])
    picture, _ = cracked([(0, 60), (319, 70)])
    picture[second] = 40
    heat = np.full((16, 20), 0.9, np.float32)
    cells = first.reshape(16, CELL, 20, CELL).any((1, 3))
    return picture, heat, cells, first, second


def test_spots_say_which_of_the_dark_lines_in_a_warm_area_is_the_crack():
    picture, heat, cells, first, second = two_lines()
    cell_probabilities = np.where(cells, 0.99, 0.2).astype(np.float32)
    cracks = crack_tracing.extract_cracks(heat, CELL, ACROSS, picture, 0.5, cell_probabilities)
    inside = filled([outline for crack in cracks for outline in crack.outlines], first.shape)
    assert inside[first].mean() > 0.9 and inside[second].mean() < 0.1
    without_cells = crack_tracing.extract_cracks(heat, CELL, ACROSS, picture, 0.5)
    assert filled([outline for crack in without_cells for outline in crack.outlines], first.shape)[second].mean() > 0.9


def test_likely_spots_belong_to_a_crack_where_they_hang_together_with_a_sure_one():
    picture, heat, cells, first, second = two_lines()
    second_cells = second.reshape(16, CELL, 20, CELL).any((1, 3))
    for surest, is_included in ((0.6, False), (0.99, True)):
        cell_probabilities = np.where(cells, 0.99, np.where(second_cells, 0.6, 0.2)).astype(np.float32)
        cell_probabilities[tuple(np.argwhere(second_cells & ~cells)[-1])] = surest
        cracks = crack_tracing.extract_cracks(heat, CELL, 2, picture, 0.5, cell_probabilities)
        inside = filled([outline for crack in cracks for outline in crack.outlines], first.shape)
        assert (inside[second].mean() > 0.9) == is_included, surest


def test_where_an_area_has_no_sure_spot_it_is_traced_as_without_spots():
    picture, heat, cells, *_ = two_lines()
    heat[6:8] = 0.1  # two areas
    boxes, plain_boxes = (
        [crack.box for crack in crack_tracing.extract_cracks(heat, CELL, 2, picture, 0.5, cell_probabilities)]
        for cell_probabilities in (np.where(cells, 0.99, 0.2).astype(np.float32), None)
    )
    below = [box for box in plain_boxes if box[1] >= 8 * CELL]
    assert below and [box for box in boxes if box[1] >= 8 * CELL] == below


def test_where_no_cell_is_sure_spots_change_nothing():
    picture, heat, *_ = two_lines()
    plain = crack_tracing.extract_cracks(heat, CELL, ACROSS, picture, 0.5)
    same = crack_tracing.extract_cracks(heat, CELL, ACROSS, picture, 0.5, np.full(heat.shape, 0.3, np.float32))
    assert [crack.box for crack in plain] == [crack.box for crack in same]


def test_nothing_probable_is_no_finding():
    assert crack_tracing.extract_cracks(np.full((16, 20), 0.2, np.float32), CELL, ACROSS, wall(), 0.5) == []


def test_where_no_line_stands_out_the_area_is_the_finding_and_has_no_length():
    heat = np.zeros((16, 20), np.float32)
    heat[4:8, 5:10] = 0.9
    flat = np.full((256, 320, 3), 100, np.uint8)
    (crack,) = crack_tracing.extract_cracks(heat, CELL, ACROSS, flat, 0.5)
    assert crack.length_px is None
    x, y, width, height = crack.box
    np.testing.assert_allclose([x, y, width, height], [80, 64, 80, 64], atol=3)


@given(st.integers(0, 10_000))
def test_outlines_and_boxes_lie_within_the_photograph(seed):
    generator = np.random.default_rng(seed)
    height, width = generator.integers(20, 300, 2)
    picture = generator.integers(0, 256, (height, width, 3), np.uint8)
    heat = generator.random((max(-(-height // CELL), ACROSS), max(-(-width // CELL), ACROSS))).astype(np.float32)
    for crack in crack_tracing.extract_cracks(heat, CELL, ACROSS, picture, 0.6):
        points = np.concatenate(crack.outlines)
        assert (points >= 0).all() and (points <= [width, height]).all()
        x, y, wide, high = crack.box
        assert points[:, 0].min() == pytest.approx(x) and points[:, 1].max() == pytest.approx(y + high)
        assert 0.6 <= crack.probability <= 1 and all(len(outline) >= 4 for outline in crack.outlines)


def test_synthetic_cracks_are_traced_by_their_dark_line():
    recall, precision = [], []
    for index in range(1, 40, 2):
        example = concrete.draw_example(3, index, 256)
        mask = example.mask > 0
        cracks = crack_tracing.extract_cracks(
            crack_tracing.window_heatmap(window_probabilities(mask), ACROSS), CELL, ACROSS, example.image, 0.5
        )
        inside = filled([outline for crack in cracks for outline in crack.outlines], mask.shape)
        recall.append(inside[mask].mean())
        precision.append(ndimage.binary_dilation(mask, iterations=6)[inside].mean())
    assert np.mean(recall) > 0.85 and np.mean(precision) > 0.7


def test_lines_beside_the_area_are_not_its_lines():
    picture, _ = cracked([(20, 40), (300, 40)])
    second_picture, mask = cracked([(20, 200), (300, 200)])
    picture[120:] = second_picture[120:]
    area = np.zeros(mask.shape, bool)
    area[120:] = True
    strength = crack_tracing._line_strength(picture, area)
    assert crack_tracing._line_threshold(strength, area) > 0
    assert strength[190:210].any() and not strength[:120].any()


@pytest.mark.parametrize("tile", [64, 100])
def test_tiles_of_the_search_for_lines_leave_no_seam(tile, monkeypatch):
    picture, mask = cracked([(20, 60), (150, 140), (300, 150)])
    area = np.ones(mask.shape, bool)
    whole = crack_tracing._line_strength(picture, area)
    monkeypatch.setattr(crack_tracing, "TILE_PX", tile)
    np.testing.assert_allclose(crack_tracing._line_strength(picture, area), whole, atol=0.05)


def test_an_area_is_outlined_to_the_pixel():
    area = np.zeros((40, 60), bool)
    area[10:20, 30:50] = True
    (outline,) = crack_tracing._find_outlines(area, 0)
    np.testing.assert_allclose(outline.min(0), [30, 10], atol=0.01)
    np.testing.assert_allclose(outline.max(0), [50, 20], atol=0.51)  # corners are cut by half a pixel


def test_a_large_shape_is_outlined_from_fewer_pixels(monkeypatch):
    area = np.zeros((400, 600), bool)
    area[100:200, 300:500] = True
    monkeypatch.setattr(crack_tracing, "OUTLINED", 400 * 600 / 9)
    (outline,) = crack_tracing._find_outlines(area, 0)
    np.testing.assert_allclose([outline.min(0), outline.max(0)], [[300, 100], [500, 200]], atol=3)
