import json

import pytest

from crackflow.core.config.trained import Export, PredictConfig
from crackflow.core.errors import ConfigError
from crackflow.report import findings_exports
from tests.helpers.located_findings import CAMERA_ALONE, GEOTIFF, content, finding, photo


def test_the_table_is_always_written_and_the_map_where_anything_is_known(tmp_path):
    assert findings_exports.write(str(tmp_path), content(photo()), ()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["findings.csv"]
    findings_exports.write(str(tmp_path), content(photo(CAMERA_ALONE)), ())
    assert len(json.loads((tmp_path / "findings.geojson").read_text())["features"]) == 1


def test_each_format_that_is_asked_for_is_written(tmp_path):
    pytest.importorskip("ezdxf")
    findings_exports.require_packages(tuple(Export))
    warnings = findings_exports.write(str(tmp_path), content(photo(CAMERA_ALONE, [finding()])), tuple(Export))
    assert warnings == []
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    expected = {"findings.csv", "findings.geojson", "findings.kml", "findings.dxf", "findings_coco.json"}
    assert files == expected | {"yolo/data.yaml", "yolo/labels/wall.txt"}


def test_a_map_of_nothing_is_not_written_and_that_is_said(tmp_path):
    warnings = findings_exports.write(str(tmp_path), content(photo()), (Export.KML,))
    assert warnings == ["--export: no findings.kml was written, because no photograph has a position"]
    assert not (tmp_path / "findings.kml").exists()


@pytest.mark.parametrize("is_installed", [True, False])
def test_a_geotiff_that_cannot_be_on_the_map_is_named_with_the_remedy(tmp_path, monkeypatch, is_installed):
    monkeypatch.setattr(findings_exports.coordinates, "is_installed", lambda: is_installed)
    place = GEOTIFF | {"crs": None, "latitude": None, "longitude": None}
    (warning,) = findings_exports.write(str(tmp_path), content(photo(place, [finding()])), ())
    assert warning.startswith("GeoTIFFs whose CRS can't be converted are left out of findings.geojson")
    assert ("pip install 'crackflow[geo]'" in warning) is not is_installed
    assert "500000.3,5199999.7" in (tmp_path / "findings.csv").read_text()


def test_a_format_is_asked_for_once():
    with pytest.raises(ConfigError, match="--export: expected formats, each once, received"):
        PredictConfig(photos="a", export=(Export.KML, Export.KML))
