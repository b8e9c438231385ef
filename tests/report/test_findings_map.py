import json
from xml.etree import ElementTree

import numpy as np
import pytest

from crackflow.report import findings_map
from tests.helpers.located_findings import CAMERA_ALONE, GEOTIFF, NADIR, SQUARE, content, finding, photo

KML = "{http://www.opengis.net/kml/2.2}"
LINE = {"points": [[10.0, 30.0], [50.0, 30.0]], "widths_px": [2.0, None]}


def area(ring):
    x, y = (np.array(ring) - ring[0]).T
    return np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2


def features(*photos, **settings):
    collection = findings_map.geojson(content(*photos, **settings))
    assert collection["type"] == "FeatureCollection" and json.dumps(collection, allow_nan=False)
    return collection["features"]


def test_a_position_alone_is_a_point_with_its_uncertainty():
    (feature,) = features(photo(CAMERA_ALONE, [finding()]))
    assert feature["geometry"] == {"type": "Point", "coordinates": [-70.66, -33.85]}
    properties = feature["properties"]
    assert (properties["kind"], properties["position_of"]) == ("photograph", "camera")
    assert properties["uncertainty_m"] == 4.5 and properties["altitude_m"] == 12.0 and properties["findings"] == 1


def test_without_a_position_there_is_nothing():
    unknown = GEOTIFF | {"crs": None, "latitude": None, "longitude": None}
    assert features(photo(None, [finding()]), photo(unknown, [finding()])) == []


@pytest.mark.parametrize("heading", [0.0, 90.0, 250.0])
def test_rings_are_closed_and_counterclockwise_whichever_way_they_were_traced(heading):
    pictures = [photo(NADIR | {"heading_deg": heading}, [finding([outline])]) for outline in (SQUARE, SQUARE[::-1])]
    for feature in features(*pictures, mm_per_px=1.0):
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1] and len(ring) == 5 and area(ring) > 0


def test_a_finding_of_several_outlines_is_a_multipolygon_of_closed_rings():
    other = [[60.0, 60.0], [70.0, 60.0], [70.0, 70.0]]  # not closed
    _, feature = features(photo(NADIR, [finding([SQUARE, other])]), mm_per_px=1.0)
    assert feature["geometry"]["type"] == "MultiPolygon" and feature["properties"]["kind"] == "finding"
    assert [len(rings[0]) for rings in feature["geometry"]["coordinates"]] == [5, 4]


def test_the_corner_of_a_finding_in_a_geotiff_is_within_a_pixel():
    pyproj = pytest.importorskip("pyproj")
    footprint, outline = features(photo(GEOTIFF, [finding()]))
    back = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:25832", always_xy=True)
    corners = np.stack(back.transform(*np.array(outline["geometry"]["coordinates"][0]).T), 1)
    expected = np.array([500_000, 5_200_000]) + np.array(SQUARE) * (0.01, -0.01)
    away = np.abs(corners[:, None] - expected[None]).max(-1).min(1)
    assert away.max() < 0.001  # a tenth of a pixel
    assert footprint["properties"]["kind"] == "photograph" and outline["properties"]["crs"] == "EPSG:25832"
    assert outline["properties"]["position_of"] == "ground" and outline["properties"]["uncertainty_m"] == 1.0


def test_middle_lines_are_lines():
    entry = finding(centerline=[LINE, {"points": [[1.0, 1.0]], "widths_px": [1.0]}])
    *_, feature = features(photo(NADIR, [entry]), mm_per_px=1.0)
    assert feature["properties"]["kind"] == "centerline" and feature["properties"]["finding"] == 1
    ((first, last),) = feature["geometry"]["coordinates"]
    assert feature["geometry"]["type"] == "MultiLineString" and first != last


def test_kml_has_a_placemark_for_each_feature_with_the_same_coordinates():
    place = photo(NADIR, [finding([SQUARE, SQUARE], centerline=[LINE])], path="a<&>\x01é.jpg")
    collection = findings_map.geojson(content(place, photo(CAMERA_ALONE, path="b.jpg"), mm_per_px=1.0))
    root = ElementTree.fromstring(findings_map.kml(collection))
    marks = root.findall(f"{KML}Document/{KML}Placemark")
    assert [mark.find(f"{KML}name").text for mark in marks] == ["a<&>é.jpg", *["a<&>é.jpg, finding 1"] * 2, "b.jpg"]
    styles = {style.get("id") for style in root.iter(f"{KML}Style")}
    assert all(mark.find(f"{KML}styleUrl").text[1:] in styles for mark in marks)
    for mark, feature in zip(marks, collection["features"], strict=True):
        texts = " ".join(element.text for element in mark.iter(f"{KML}coordinates"))
        points = [[float(number) for number in point.split(",")] for point in texts.split()]
        np.testing.assert_allclose(points, np.array(feature["geometry"]["coordinates"]).reshape(-1, 2))
    assert len(list(marks[1].iter(f"{KML}LinearRing"))) == 2 and len(list(marks[2].iter(f"{KML}LineString"))) == 1
    values = {data.get("name"): data[0].text for data in marks[1].iter(f"{KML}Data")}
    assert values["decision"] == "cracked" and values["finding"] == "1"
