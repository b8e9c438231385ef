import numpy as np
import pytest

from crackflow.inference import ground_map
from tests.helpers.located_findings import CAMERA_ALONE, GEOTIFF, NADIR, photo

CORNERS = [[0, 0], [200, 0], [200, 100], [0, 100]]


def test_a_geotiff_maps_pixels_to_its_crs():
    ground = ground_map.of_photo(photo(GEOTIFF))
    np.testing.assert_allclose(ground.to_crs([[0, 0], [200, 100]]), [[500_000, 5_200_000], [500_002, 5_199_999]])
    assert (ground.source, ground.crs, ground.unit) == ("geotiff", "EPSG:25832", "metre")


def test_the_way_to_degrees_and_back_ends_within_a_tenth_of_a_pixel():
    pyproj = pytest.importorskip("pyproj")
    ground = ground_map.of_photo(photo(GEOTIFF))
    degrees = ground.to_lonlat(CORNERS)
    back = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:25832", always_xy=True).transform(*degrees.T)
    np.testing.assert_allclose(np.stack(back, 1), ground.to_crs(CORNERS), atol=1e-3)


@pytest.mark.parametrize("heading", [0.0, 90.0, 200.0, 359.0])
@pytest.mark.parametrize("latitude", [-60.0, 0.0, 47.0])
def test_a_camera_that_looks_down_maps_pixels_by_heading_and_scale(heading, latitude):
    pyproj = pytest.importorskip("pyproj")
    place = NADIR | {"heading_deg": heading, "latitude": latitude}
    ground = ground_map.of_photo(photo(place), mm_per_px=500.0)
    top, right = ground.to_lonlat([[100, 0], [200, 50]])
    geod = pyproj.Geod(ellps="WGS84")
    for point, bearing, metres in ((top, heading, 25.0), (right, heading + 90, 50.0)):
        azimuth, _, distance = geod.inv(place["longitude"], latitude, *point)
        assert distance == pytest.approx(metres, abs=5e-3)
        assert (azimuth - bearing + 180) % 360 - 180 == pytest.approx(0, abs=0.01)


def test_the_scale_of_a_photograph_goes_before_that_of_the_run():
    scaled = photo(NADIR, scale={"mm_per_px": 2.0, "source": "exif", "relative_error": None})
    widths = [
        np.ptp(ground_map.of_photo(entry, mm).to_lonlat(CORNERS)[:, 1])
        for entry, mm in ((scaled, 1.0), (photo(NADIR), 1.0))
    ]
    assert widths[0] == pytest.approx(2 * widths[1])


def test_an_error_of_the_scale_adds_to_that_of_the_position():
    place = NADIR | {"uncertainty_m": 3.0}
    scale = {"mm_per_px": 1000.0, "relative_error": 4.0 / (np.hypot(200, 100) / 2)}
    assert ground_map.of_photo(photo(place, scale=scale)).accuracy_m() == pytest.approx(5.0)
    assert ground_map.of_photo(photo(NADIR, scale=scale)).accuracy_m() is None


@pytest.mark.parametrize(
    "change",
    [
        {"pitch_deg": -80.0},
        {"pitch_deg": None},
        {"heading_deg": None},
        {"heading_reference": "magnetic"},
        {"heading_reference": None},
        {"latitude": 89.5},
    ],
)
def test_without_one_of_what_is_needed_there_is_no_map(change):
    assert ground_map.of_photo(photo(NADIR), mm_per_px=1.0)
    assert ground_map.of_photo(photo(NADIR | change), mm_per_px=1.0) is None


def test_without_a_scale_or_a_position_there_is_no_map():
    assert ground_map.of_photo(photo(NADIR)) is None
    assert ground_map.of_photo(photo(None), 1.0) is None and ground_map.of_photo(photo(CAMERA_ALONE), 1.0) is None


def test_a_file_that_names_no_crs_has_coordinates_but_no_degrees():
    place = GEOTIFF | {"crs": None, "crs_unit": None, "latitude": None, "longitude": None}
    ground = ground_map.of_photo(photo(place))
    assert ground.to_lonlat([[0, 0]]) is None and ground.accuracy_m() is None
    assert ground.to_crs([[0, 0]]).tolist() == [[500_000.0, 5_200_000.0]]
