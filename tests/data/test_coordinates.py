import importlib

import numpy as np
import pytest

from crackflow.data import coordinates


@pytest.fixture
def without_pyproj(monkeypatch):
    real = importlib.import_module

    def refused(name, *rest):
        if name == "pyproj":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(coordinates.importlib, "import_module", refused)


def test_wgs84_needs_no_package(without_pyproj):
    assert not coordinates.is_installed()
    degrees = coordinates.to_wgs84("EPSG:4326", np.array([[9.0, 47.0]]))
    assert degrees.points.tolist() == [[9.0, 47.0]] and degrees.accuracy_m == 0
    assert coordinates.unit_name("EPSG:4326") == "degree"


def test_without_the_package_other_systems_stay_unknown(without_pyproj):
    assert coordinates.to_wgs84("EPSG:25832", np.array([[5e5, 5.2e6]])) is None
    assert coordinates.unit_name("EPSG:25832") == ""


@pytest.mark.parametrize(
    ("crs", "point", "expected"),
    [
        ("EPSG:25832", (500_000.0, 0.0), (9.0, 0.0)),  # the central meridian at the equator
        ("EPSG:32717", (500_000.0, 10_000_000.0), (-81.0, 0.0)),  # of the south, west of Greenwich
        ("EPSG:4258", (9.0, 47.0), (9.0, 47.0)),  # latitude is its first axis, but not that of a GeoTIFF
        ("EPSG:2056", (2_600_000.0, 1_200_000.0), (7.438632, 46.951083)),  # Bern, swisstopo
    ],
)
def test_longitude_comes_first_whatever_the_order_of_axes(crs, point, expected):
    pytest.importorskip("pyproj")
    degrees = coordinates.to_wgs84(crs, np.array([point]))
    np.testing.assert_allclose(degrees.points, [expected], atol=2e-5)
    assert degrees.accuracy_m is None or degrees.accuracy_m >= 0


def test_units_have_one_name_each():
    pytest.importorskip("pyproj")
    names = {"EPSG:25832": "metre", "EPSG:2263": "us_survey_foot", "EPSG:4258": "degree", "EPSG:999999": "", "": ""}
    assert {crs: coordinates.unit_name(crs) for crs in names} == names


@pytest.mark.parametrize(
    ("crs", "point"), [("EPSG:999999", (0, 0)), ("", (0, 0)), ("EPSG:4326", (0, 91)), ("EPSG:25832", (1e12, 1e12))]
)
def test_what_cannot_be_converted_is_none(crs, point):
    assert coordinates.to_wgs84(crs, np.array([point], float)) is None
