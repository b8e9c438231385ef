import numpy as np
import pytest

from crackflow.data import geotiff
from tests.helpers import support
from tests.helpers.geotiffs import ORIGIN
from tests.helpers.geotiffs import geotiff as written


def test_a_tie_point_with_a_pixel_size_places_the_corner_of_the_first_pixel():
    reference = geotiff.read_reference(written())
    assert reference.crs == "EPSG:25832" and reference.unit == ""
    np.testing.assert_allclose(reference.to_crs([[0, 0]]), [ORIGIN])
    np.testing.assert_allclose(reference.to_crs([[3, 10]]), [[ORIGIN[0] + 0.03, ORIGIN[1] - 0.1]])


def test_where_a_pixel_is_a_point_its_middle_lies_there():
    reference = geotiff.read_reference(written(is_point=True))
    np.testing.assert_allclose(reference.to_crs([[0.5, 0.5]]), [ORIGIN])


@pytest.mark.parametrize("is_point", [False, True])
def test_a_matrix_may_turn_and_mirror(is_point):
    matrix = (0.0, 0.02, 0, 100.0, 0.03, 0.0, 0, 200.0, 0, 0, 0, 0, 0, 0, 0, 1.0)
    reference = geotiff.read_reference(written(matrix=matrix, is_point=is_point))
    shift = 0.5 if is_point else 0.0
    np.testing.assert_allclose(reference.to_crs([[2 + shift, 5 + shift]]), [[100.1, 200.06]])


def test_a_tie_point_may_lie_at_any_pixel():
    tags = [(33550, "d", 3, (0.1, 0.2, 0.0), True), (33922, "d", 6, (7.0, 9.0, 0, 50.0, 60.0, 0.0), True)]
    reference = geotiff.read_reference(written(origin=None, tags=tags))
    np.testing.assert_allclose(reference.to_crs([[7, 9], [8, 10]]), [[50, 60], [50.1, 59.8]])


def test_degrees_and_feet_are_told_apart():
    assert geotiff.read_reference(written(epsg=4326, kind=2))[1:] == ("EPSG:4326", "degree")
    assert geotiff.read_reference(written(epsg=2263, unit=9003))[1:] == ("EPSG:2263", "us_survey_foot")


@pytest.mark.parametrize("epsg", [32767, 0])
def test_a_crs_without_a_code_has_no_name(epsg):
    reference = geotiff.read_reference(written(epsg=epsg))
    assert reference.crs == "" and reference.to_crs([[0, 0]]).tolist() == [list(ORIGIN)]


def test_several_tie_points_are_refused():
    tags = [(33922, "d", 12, (0, 0, 0, 1.0, 2.0, 0, 9, 9, 0, 3.0, 4.0, 0), True)]
    with pytest.raises(
        geotiff.GeoTiffError, match="it has 2 tie points: expected one with a pixel scale; orthorectify"
    ):
        geotiff.read_reference(written(origin=None, tags=tags))


def test_an_orientation_beside_a_georeference_is_refused():
    with pytest.raises(geotiff.GeoTiffError, match="it has an orientation as well"):
        geotiff.read_reference(written(tags=[(274, "H", 1, 6, True)]))


@pytest.mark.parametrize("size", [0.0, float("nan"), float("inf")])
def test_pixels_without_a_size_are_refused(size):
    with pytest.raises(geotiff.GeoTiffError, match="its pixels have no size on the ground"):
        geotiff.read_reference(written(size=size))


def test_files_without_a_georeference_have_none():
    plain = support.encoded(support.picture(0), "TIFF")
    for data in (b"", b"II*\0", plain, plain[:50], support.encoded(support.picture(0)), written(origin=None)):
        assert geotiff.read_reference(data) is None and geotiff.read_nodata(data) is None


def test_damaged_keys_raise_nothing_else():
    data = bytearray(written())
    start = data.find(bytes([1, 0, 1, 0, 0, 0, 3, 0]))
    for number in range(0, 32, 2):
        damaged = bytearray(data)
        damaged[start + number : start + number + 2] = b"\xff\xff"
        try:
            geotiff.read_reference(bytes(damaged))
        except geotiff.GeoTiffError as error:
            assert str(error)


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), (" -9999 ", -9999.0), ("nothing", None), (None, None)])
def test_the_value_that_shows_nothing_is_read(text, value):
    assert geotiff.read_nodata(written(nodata=text)) == value
