import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from crackflow.core.errors import ImageError
from crackflow.data.drawings import Drawing, Kind, Shape

WIDTH, HEIGHT = 60, 40


def drawn(*shapes, **settings):
    return Drawing(tuple(shapes), **settings).mask(WIDTH, HEIGHT) > 127


def polygon(*points, **settings):
    return Shape(Kind.POLYGON, tuple((float(x), float(y)) for x, y in points), "shapes[0]", **settings)


def test_a_rectangle_fills_exactly_its_pixels():
    mask = drawn(polygon((10, 5), (20, 5), (20, 12), (10, 12)))
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[5:12, 10:20] = True
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")  # of pycocotools
@given(st.integers(0, 2**32 - 1))
def test_polygons_are_those_of_pycocotools_but_for_their_border(seed):
    """pycocotools rounds corners to a fifth of a pixel, so pixels at the border may differ."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
    points = np.stack([30 + 18 * np.cos(angles), 20 + 14 * np.sin(angles)], 1)
    reference = coco_mask.decode(coco_mask.frPyObjects([points.ravel().tolist()], HEIGHT, WIDTH))[..., 0] > 0
    mask = drawn(polygon(*points))
    around = np.linalg.norm(np.roll(points, -1, 0) - points, axis=1).sum()
    assert (mask != reference).sum() <= 0.6 * around + 4


@pytest.mark.parametrize("y", [10.0, 10.2, 10.45, 10.5, 10.9])
def test_a_strip_of_half_a_pixel_is_a_line_without_gaps(y):
    mask = drawn(polygon((2, y), (50, y + 3), (50, y + 3.5), (2, y + 0.5)))
    assert mask[:, 3:49].any(0).all() and mask.sum() < 3 * 50


def test_fractions_of_the_sides_are_the_same_as_pixels():
    points = ((10, 5), (47, 9), (31, 33))
    relative = polygon(*(np.array(points) / (WIDTH, HEIGHT)), is_relative=True)
    np.testing.assert_array_equal(drawn(polygon(*points)), drawn(relative))


@pytest.mark.parametrize("width_px", [1.0, 2.0, 3.0, 7.0])
def test_a_line_has_its_width(width_px):
    mask = drawn(Shape(Kind.LINE, ((5.0, 20.0), (55.0, 20.0)), "line", width_px))
    assert abs(mask[:, 15:45].sum(0).mean() - width_px) <= 1
    assert mask[:, 5:55].any(0).all()


def test_runs_go_along_rows_in_a_frame_or_down_columns_of_the_image():
    rows = drawn(Shape(Kind.RUNS, name="mask", runs=(1, 2, 3), frame=(4, 5, 3, 2)))
    assert np.argwhere(rows).tolist() == [[5, 5], [5, 6]]
    columns = drawn(Shape(Kind.RUNS, name="mask", runs=(HEIGHT - 1, 2, WIDTH * HEIGHT - HEIGHT - 1), by_column=True))
    assert np.argwhere(columns).tolist() == [[0, 1], [HEIGHT - 1, 0]]


def test_boxes_and_tags_draw_nothing():
    shapes = Shape(Kind.BOX, ((1.0, 1.0), (9.0, 9.0))), Shape(Kind.TAG)
    assert not drawn(*shapes).any()
    assert Drawing(shapes).has_boxes and not Drawing(shapes).has_outlines


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        (polygon((1, 1), (70, 1), (9, 9)), {}, r"shapes\[0\]: the point \(70, 1\) is outside the picture, 60 x 40"),
        (polygon((1, 1), (9, -3), (9, 9)), {}, r"the point \(9, -3\) is outside"),
        (polygon((0, 0), (1.5, 0), (1, 1), is_relative=True), {}, r"the point \(90, 0\) is outside"),
        (Shape(Kind.BOX, ((1.0, 1.0), (9.0, 99.0)), "bbox"), {}, r"bbox: the point \(9, 99\) is outside"),
        (Shape(Kind.RUNS, name="mask", runs=(5, 1), frame=(58, 0, 3, 2)), {}, "its mask reaches outside the picture"),
        (
            Shape(Kind.RUNS, name="mask", runs=(5, 2), frame=(0, 0, 3, 2)),
            {},
            r"its runs cover 7 pixels, expected 3 x 2",
        ),
        (
            polygon((1, 1), (9, 1), (9, 9)),
            {"width": 61, "height": 40},
            "drawn on 61 x 40 pixels, the picture has 60 x 40: expected the same size",
        ),
    ],
)
def test_what_does_not_fit_the_picture_is_refused_with_its_name(shape, settings, message):
    with pytest.raises(ImageError, match=f"^a.json: .*{message}"):
        drawn(shape, file="a.json", **settings)


def test_points_a_little_outside_are_clipped():
    mask = drawn(polygon((-0.6, -0.6), (WIDTH + 0.6, -0.6), (WIDTH + 0.6, 3), (-0.6, 3)))
    assert mask[:3].all() and not mask[3:].any()
