"""Cameras without a fix write the position 0, 0, and some software leaves the hemisphere empty: another continent."""

import json

import pytest

from crackflow.inference import photo_files
from tests.helpers import support
from tests.helpers.gps_photos import SOMEWHERE, tagged

NAME = "09-null-island-and-empty-hemisphere"


def test_only_places_that_are_known_are_on_the_map(report, tmp_path):
    done = support.called("predict", f"--photos={report(NAME)}", f"--out={tmp_path / 'out'}", "--scale=1")
    assert done.returncode == 0, done.stderr
    features = json.loads((tmp_path / "out/findings.geojson").read_text())["features"]
    coordinates = {feature["properties"]["path"]: feature["geometry"]["coordinates"] for feature in features}
    assert set(coordinates) == {"a_sw.jpg", "q_zerolat.jpg"}
    assert coordinates["a_sw.jpg"] == pytest.approx([-70.66, -33.8568], abs=1e-3)
    assert coordinates["q_zerolat.jpg"] == pytest.approx([9.45, 0.0])
    photos = json.loads((tmp_path / "out/findings.json").read_text())["photos"]
    assert {photo["path"] for photo in photos if photo["place"] is None} == {"b_zero.jpg", "e_empty.jpg", "l_void.jpg"}


def test_the_last_place_before_the_fix_was_lost_is_no_place():
    assert photo_files.parse_gps_position(tagged(*SOMEWHERE, ("S", "W"), GPSStatus="V")) is None


def test_a_file_without_hemispheres_has_no_place_and_one_with_signs_instead_has():
    assert photo_files.parse_gps_position(tagged(*SOMEWHERE, (None, None))) is None
    assert photo_files.parse_gps_position(tagged(*SOMEWHERE, ("S", None))) is None
