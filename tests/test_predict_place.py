"""crackflow.predict on photographs that say where on the ground they lie."""

import json

import numpy as np
import pytest

from crackflow import predict
from crackflow.core import csv_files
from crackflow.core.config.trained import Export, PredictConfig
from crackflow.data import surface
from crackflow.inference import predictor
from crackflow.model import model_file
from tests.helpers import support
from tests.helpers.geotiffs import METRES_PER_PX, ORIGIN, geotiff
from tests.helpers.walls import CARD, darkness, wall


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A wall as a GeoTIFF in blocks, of which a corner shows nothing, in black."""
    folder = tmp_path_factory.mktemp("site")
    pixels = wall()
    pixels[130:, 150:] = 0
    options = {"tile": (64, 64), "compression": "zlib"}
    support.put(folder / "photos/wall.tif", geotiff(pixels, nodata="0", options=options))
    support.put(folder / "as_black/wall.tif", geotiff(pixels, options=options))
    model_file.save(str(folder / "model.h5"), darkness(), CARD)
    return folder


def run(site, out, photos="photos", **settings):
    config = PredictConfig(photos=str(site / photos), model=str(site / "model.h5"), out=str(out), **settings)
    return predict.run(config)


@pytest.fixture(scope="module")
def done(site, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "findings"
    return out, run(site, out, export=(Export.COCO, Export.YOLO, Export.KML))


def test_what_shows_nothing_holds_no_finding(site, done, tmp_path):
    (finding,) = done[1]["photos"][0]["findings"]
    assert finding["box"][1] > 70 and finding["box"][1] + finding["box"][3] < 135
    black = run(site, tmp_path / "out", "as_black")["photos"][0]["findings"]
    assert any(entry["box"][1] + entry["box"][3] > 150 for entry in black), "black itself is taken for a crack"


def test_a_model_in_python_leaves_out_what_shows_nothing_as_the_command_does(site, done):
    (prediction,) = predictor.load(str(site / "model.h5")).predict(str(site / "photos/wall.tif"))
    boxes = [finding["box"] for finding in done[1]["photos"][0]["findings"]]
    assert [pytest.approx(box, abs=0.06) for box in boxes] == [list(finding.box) for finding in prediction.findings]


def test_findings_lie_in_the_crs_of_the_file(done):
    out, content = done
    photo = content["photos"][0]
    assert photo["place"]["crs"] == "EPSG:25832" and photo["place"]["transform"][0] == METRES_PER_PX
    (row,) = csv_files.read(str(out / "findings.csv"))
    x, y, width, height = photo["findings"][0]["box"]
    assert float(row["easting"]) == pytest.approx(ORIGIN[0] + (x + width / 2) * METRES_PER_PX, abs=1e-3)
    assert float(row["northing"]) == pytest.approx(ORIGIN[1] - (y + height / 2) * METRES_PER_PX, abs=1e-3)


def test_findings_are_polygons_on_the_map_within_a_pixel(done):
    pyproj = pytest.importorskip("pyproj")
    out, content = done
    features = json.loads((out / "findings.geojson").read_text())["features"]
    (feature,) = [feature for feature in features if feature["properties"]["kind"] == "finding"]
    ring = np.array(feature["geometry"]["coordinates"][0])
    easting, northing = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:25832", always_xy=True).transform(*ring.T)
    x, y, width, height = content["photos"][0]["findings"][0]["box"]
    assert easting.min() == pytest.approx(ORIGIN[0] + x * METRES_PER_PX, abs=METRES_PER_PX)
    assert easting.max() == pytest.approx(ORIGIN[0] + (x + width) * METRES_PER_PX, abs=METRES_PER_PX)
    assert northing.max() == pytest.approx(ORIGIN[1] - y * METRES_PER_PX, abs=METRES_PER_PX)
    assert northing.min() == pytest.approx(ORIGIN[1] - (y + height) * METRES_PER_PX, abs=METRES_PER_PX)


def test_files_for_other_programs_lie_beside_and_may_be_replaced(site, done):
    out, content = done
    labels = json.loads((out / "findings_coco.json").read_text())
    assert labels["images"][0]["file_name"] == "wall.tif" and len(labels["annotations"]) == 1
    assert len((out / "yolo/labels/wall.txt").read_text().splitlines()) == 1
    assert (out / "findings.kml").exists()
    assert run(site, out, overwrite=True) == content
    assert not (out / "yolo").exists() and not (out / "findings.kml").exists()


def test_a_mosaic_read_in_parts_gives_what_it_gives_at_once(site, done, tmp_path, monkeypatch):
    monkeypatch.setattr(surface, "BAND_PX", 64)
    content = run(site, tmp_path / "out", max_megapixels=0.01)
    assert content["photos"] == done[1]["photos"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {path.name for path in done[0].iterdir()} - {"yolo", "findings.kml", "findings_coco.json"}
