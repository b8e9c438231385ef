import pytest

from crackflow.core import csv_files
from crackflow.report import findings_table
from tests.helpers.located_findings import CAMERA_ALONE, GEOTIFF, NADIR, content, finding, photo


def read(tmp_path, *photos, **settings):
    csv_files.save(str(tmp_path / "a.csv"), findings_table.COLUMNS, findings_table.rows(content(*photos, **settings)))
    return csv_files.read(str(tmp_path / "a.csv"))


def test_each_finding_has_a_row_and_what_is_unknown_is_empty(tmp_path):
    rows = read(tmp_path, photo(findings=[finding(), finding(decision="review")]), photo(path="=clean.jpg"))
    assert [(row["path"], row["finding"], row["decision"]) for row in rows] == [
        ("wall.jpg", "1", "cracked"),
        ("wall.jpg", "2", "review"),
    ]
    assert [rows[0][f"box_{name}_px"] for name in ("x", "y", "width", "height")] == ["10.0", "20.0", "40.0", "20.0"]
    assert rows[0]["length_px"] == "42.0" and rows[0]["probability"] == "0.900000"
    assert {rows[0][name] for name in ("length_mm", "width_max_px", "latitude_deg", "easting", "crs")} == {""}


def test_widths_have_a_column_each(tmp_path):
    widths = {name: {"value": value, "low": 0.0, "high": 9.0} for name, value in (("median", 1.5), ("max", 3.5))}
    (row,) = read(tmp_path, photo(findings=[finding(width_px=widths, width_mm=None)]))
    assert (row["width_median_px"], row["width_p95_px"], row["width_max_px"]) == ("1.5", "", "3.5")
    assert row["width_median_mm"] == ""


def test_the_position_of_the_camera_is_not_called_that_of_the_finding(tmp_path):
    (row,) = read(tmp_path, photo(CAMERA_ALONE, [finding()]))
    assert (row["position_of"], row["latitude_deg"], row["longitude_deg"]) == ("camera", "-33.85", "-70.66")
    assert row["uncertainty_m"] == "4.5" and row["easting"] == ""


def test_a_finding_in_a_geotiff_has_coordinates_within_a_pixel(tmp_path):
    pytest.importorskip("pyproj")
    (row,) = read(tmp_path, photo(GEOTIFF, [finding()]))
    assert float(row["easting"]) == pytest.approx(500_000.3, abs=1e-3)  # the middle of the box: 30, 30
    assert float(row["northing"]) == pytest.approx(5_199_999.7, abs=1e-3)
    assert (row["crs"], row["crs_unit"], row["position_of"]) == ("EPSG:25832", "metre", "finding")
    assert float(row["latitude_deg"]) == pytest.approx(46.9535, abs=1e-3)


def test_a_finding_below_a_camera_that_looks_down_has_its_own_position(tmp_path):
    (row,) = read(tmp_path, photo(NADIR, [finding()]), mm_per_px=1000.0)
    # It flies east: 70 pixels before the middle of the photograph are 70 m to the north.
    assert float(row["latitude_deg"]) == pytest.approx(-33.85 + 70 / 110_900, abs=2e-6)
    assert row["position_of"] == "finding" and row["crs"] == row["easting"] == ""
