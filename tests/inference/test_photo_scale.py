import functools
import re

import numpy as np
import pytest

from benchmarks import card_scenes
from crackflow.core.config.card import MarkerDictionary
from crackflow.core.config.trained import PredictConfig
from crackflow.core.errors import UserError
from crackflow.inference import marker_plane, photo_scale
from crackflow.inference.camera_scale import CameraFacts
from crackflow.inference.marker_plane import Marker, MarkerPlane
from crackflow.inference.photo_scale import ScaleSources, Source

SIZE, FOCAL = (1000, 800), 1500.0
CAMERA = CameraFacts(2000.0, 0.02, "its EXIF", 10.0, 0.2, "its height")
BLANK = np.full((200, 300, 3), 120, np.uint8)
SQUARE = np.array([(0.0, 0.0), (50.0, 0.0), (50.0, 50.0), (0.0, 50.0)])


@functools.cache
def scene(angle):
    matrix = card_scenes.camera(angle, 225.0, FOCAL, SIZE, azimuth=40.0, aim_mm=(74.0, 75.0))
    return matrix, card_scenes.photograph(matrix, SIZE)


@functools.cache
def measured(angle):
    return ScaleSources(marker_mm=50.0).measure(scene(angle)[1], CameraFacts(), "a.jpg")


def table(text, tmp_path, known=("a.jpg", "b.jpg")):
    path = tmp_path / "scales.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text)
    return photo_scale.read_table(str(path), known)


def test_sources_count_in_their_order(tmp_path):
    listed = table("path,mm_per_px\na.jpg,0.3\n", tmp_path)
    everything = {"marker_mm": 50.0, "table": listed, "mm_per_px": 0.4, "distance_m": 2.0}
    scale, notes = ScaleSources(**everything).measure(scene(20)[1], CAMERA, "a.jpg")
    assert scale.source is Source.MARKER and not notes
    scale, notes = ScaleSources(**everything).measure(BLANK, CAMERA, "./a.jpg")
    assert (scale.source, scale.mm_per_px) == (Source.SCALES, 0.3)
    assert notes == ("no marker of apriltag_36h11 was seen in it",)
    scale, notes = ScaleSources(**everything).measure(BLANK, CAMERA, "b.jpg")
    assert (scale.source, scale.mm_per_px) == (Source.MM_PER_PX, 0.4) and "--scales has no line for it" in notes
    scale, _ = ScaleSources(distance_m=2.0).measure(BLANK, CAMERA, "a.jpg")
    assert (scale.source, scale.mm_per_px) == (Source.EXIF, 1.0) and 0.05 < scale.relative_error < 0.06
    scale, _ = ScaleSources().measure(BLANK, CAMERA, "a.jpg")
    assert (scale.source, scale.mm_per_px) == (Source.XMP, 5.0) and "its height" in scale.as_dict()["note"]
    assert ScaleSources().measure(BLANK, CameraFacts(), "a.jpg") == (None, ())


def test_a_source_without_a_scale_says_why():
    scale, notes = ScaleSources(distance_m=2.0).measure(BLANK, CameraFacts(), "a.jpg")
    assert scale is None and notes == ("no scale from a distance of 2 m: it has no EXIF",)
    scale, notes = ScaleSources(distance_m=1e9).measure(BLANK, CAMERA, "a.jpg")
    assert scale is None and "mm a pixel" in notes[0]


def test_a_marker_gives_the_scale_of_the_middle_of_the_photograph():
    matrix, _ = scene(20)
    scale, _ = measured(20)
    exact = MarkerPlane.of(card_scenes.marker_corners(matrix), 50.0)
    assert scale.mm_per_px == pytest.approx(exact.mm_per_px([(500.0, 400.0)])[0], rel=scale.relative_error)
    content = scale.as_dict()
    assert content["source"] == "marker" and 0.005 < content["relative_error"] < 0.02
    assert content["marker"]["angle_degrees"] == pytest.approx(20, abs=1) and content["marker"]["number"] == 113
    assert len(content["card_lines"]) == 13 and "0.20 mm was read as 0.2" in content["note"] and not scale.warnings


def test_an_oblique_view_is_a_warning_and_its_lengths_are_corrected():
    matrix, _ = scene(45)
    scale, _ = measured(45)
    assert "taken at 45 degrees from straight ahead" in scale.warnings[0]
    line = card_scenes.project(matrix, np.stack([np.full(20, 100.0), np.linspace(20, 120, 20)], 1))
    before = np.hypot(*np.diff(line, axis=0).T).sum() * scale.mm_per_px
    assert scale.plane.length_mm([line]) == pytest.approx(100, rel=0.01) and abs(before - 100) > 3


def test_a_small_marker_is_a_warning_and_its_own_scale_counts_far_from_it():
    corners = np.array([(10.0, 10.0), (30.0, 10.0), (30.0, 29.9), (10.0, 30.0)])
    scale = photo_scale.scale_from_markers(
        np.zeros((3000, 4000, 3), np.uint8), [Marker(1, corners)], 50.0, MarkerDictionary.ARUCO_4X4_50
    )
    assert scale.relative_error > 0.5 and scale.mm_per_px == pytest.approx(2.5, rel=0.02)
    assert re.search("marker of 50 mm is 20 pixels wide, too small to be precise", scale.warnings[-1])


@pytest.mark.parametrize("factor, agrees", [(1.0, True), (1.3, False)])
def test_markers_of_different_sizes_are_a_warning(factor, agrees):
    square = SQUARE * 4 + 100
    markers = [Marker(1, square), Marker(2, (square - 100) * factor + (400, 0))]
    scale = photo_scale.scale_from_markers(
        np.zeros((800, 1000, 3), np.uint8), markers, 50.0, MarkerDictionary.ARUCO_4X4_50
    )
    assert any("2 markers do not agree: number 2 measures 65.0 mm" in text for text in scale.warnings) is not agrees


def test_a_marker_with_the_cards_number_and_no_lines_says_so():
    square = SQUARE * 4 + 100
    scale = photo_scale.scale_from_markers(
        np.full((800, 1000, 3), 200, np.uint8), [Marker(113, square)], 50.0, MarkerDictionary.APRILTAG_36H11
    )
    assert scale.details["card_lines"] == [] and "its lines could not be read" in scale.note


def test_a_table_is_read_whoever_wrote_it(tmp_path):
    text = '\ufeffmm_per_px,path\r\n0.5,a.jpg\r\n\r\n"0.25","./b.jpg"\r\n'
    assert table(text, tmp_path).mm_per_px == {"a.jpg": 0.5, "b.jpg": 0.25}
    assert table("path,mm_per_px\n'=c.jpg,1\n", tmp_path, ["=c.jpg"]).mm_per_px == {"=c.jpg": 1.0}
    odd = "caf\udce9.jpg"
    assert table(f"path,mm_per_px\n{odd},1\n", tmp_path, [odd]).mm_per_px == {odd: 1.0}


@pytest.mark.parametrize(
    "text, message",
    [
        ("path;mm_per_px\na.jpg;0,4\n", "line 1: expected the columns path,mm_per_px, received 'path;mm_per_px'"),
        ("", "empty file"),
        ("path,mm_per_px\na.jpg\n", "line 2: expected 2 cells separated by a comma, received 'a.jpg'"),
        ("path,mm_per_px\na.jpg,0,4\n", "line 2: expected 2 cells separated by a comma, received 'a.jpg,0,4'"),
        ("path,mm_per_px\na.jpg,1\nc.jpg,1\n", "line 3: expected the path of one of the photographs, as predictions"),
        ("path,mm_per_px\na.jpg,1\n\n./a.jpg,2\n", "line 4: expected each path once, received 'a.jpg'"),
        ("path,mm_per_px\na.jpg,0.4 mm\n", "line 2: expected mm_per_px above 0 and up to 1,000, such as 0.4, received"),
        ("path,mm_per_px\na.jpg,0\n", "received '0'; correct the file"),
        ("path,mm_per_px\na.jpg,nan\n", "received 'nan'; correct the file"),
        ("path,mm_per_px\na.jpg,-1\n", "received '-1'; correct the file"),
        ("path,mm_per_px\na.jpg,inf\n", "received 'inf'; correct the file"),
        ("path,mm_per_px\na.jpg,4000\n", "received '4000'; correct the file"),
        ('path,mm_per_px\n"a.jpg"x,1\n', "line 2: expected CSV ("),
        ('path,mm_per_px\n"a.jpg,1\n', "expected CSV ("),
    ],
)
def test_a_damaged_table_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        table(text, tmp_path)
    assert str(caught.value).startswith("--scales: ")


def test_a_table_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match="--scales: expected a CSV file, received .*: unreadable: No such file"):
        photo_scale.read_table(str(tmp_path / "none.csv"), [])


def test_other_bytes_are_another_table(tmp_path):
    texts = ("path,mm_per_px\na.jpg,1\n", "path,mm_per_px\na.jpg,1.0\n")
    assert len({table(text, tmp_path).sha256 for text in texts}) == 2


def test_sources_are_those_of_the_flags(tmp_path):
    (tmp_path / "s.csv").write_text("path,mm_per_px\na.jpg,1\n")
    config = PredictConfig(photos="p", marker_mm=30.0, scales=str(tmp_path / "s.csv"), mm_per_px=0.2, distance_m=3.0)
    sources = photo_scale.sources_of(config, ["a.jpg"])
    assert (sources.marker_mm, sources.mm_per_px, sources.distance_m) == (30.0, 0.2, 3.0)
    assert sources.table.mm_per_px == {"a.jpg": 1.0}
    assert photo_scale.is_requested(config) and not photo_scale.is_requested(PredictConfig(photos="p", mm_per_px=1.0))


def test_the_summary_counts_sources():
    photos = [{"scale": {"source": name}} for name in ("exif", "marker", "marker")] + [{"scale": None}]
    assert photo_scale.summary(photos) == "scale of the photographs by marker 2, exif 1, none 1"


def width(value, **more):
    return {"value": value, "low": value / 2, "high": value * 2} | more


def test_widths_are_measured_across_their_line_through_the_plane():
    matrix, _ = scene(45)
    scale, _ = measured(45)
    line = card_scenes.project(matrix, [(100.0, 20.0), (100.0, 60.0), (100.0, 120.0)])
    ends = card_scenes.project(matrix, [(99.0, 60.0), (101.0, 60.0)])
    across = line[2] - line[0]
    normal = np.array([-across[1], across[0]]) / np.hypot(*across)
    width_px = abs((ends[1] - ends[0]) @ normal)
    finding = {
        "box": [0.0, 0.0, 10.0, 10.0],
        "centerline": [{"points": line.tolist(), "widths_px": [None] * 3}],
        "width_px": {"median": width(3.0), "max": width(width_px, at=line[1].tolist())},
        "width_mm": "by the scale of the photograph",
    }
    photo_scale.rectify_widths([finding], scale.as_dict())
    expected = scale.plane.mm_per_px_along([line[1]], [normal])[0] * width_px
    assert finding["width_mm"]["max"]["value"] == pytest.approx(expected, rel=0.02)
    assert finding["width_mm"]["max"]["at"] == line[1].tolist()
    assert finding["width_mm"]["median"]["high"] == pytest.approx(4 * finding["width_mm"]["median"]["low"], rel=1e-3)
    assert expected == pytest.approx(2.0, rel=0.1)


def test_widths_without_a_line_use_the_middle_of_the_box_and_others_stay():
    scale, _ = measured(20)
    corner = [300.0, 200.0, 10.0, 20.0]
    findings = [{"box": corner, "width_px": {"p95": width(2.0)}}, {"box": corner, "width_px": None}, {"box": corner}]
    photo_scale.rectify_widths(findings, scale.as_dict())
    factor = scale.plane.mm_per_px([(305.0, 210.0)])[0]
    assert findings[0]["width_mm"]["p95"]["value"] == pytest.approx(2 * factor, rel=1e-3)
    assert findings[1:] == [{"box": corner, "width_px": None}, {"box": corner}]
    unchanged = [{"box": corner, "width_px": {"p95": width(2.0)}, "width_mm": 1}]
    for other in (None, {"mm_per_px": 1.0, "source": "scales"}):
        photo_scale.rectify_widths(unchanged, other)
    assert unchanged[0]["width_mm"] == 1


def test_a_missing_opencv_is_said_before_any_photograph_is_read(monkeypatch):
    monkeypatch.setattr(marker_plane.importlib, "import_module", lambda name: exec("raise ImportError(name)"))
    with pytest.raises(UserError, match="--marker_mm needs OpenCV"):
        photo_scale.sources_of(PredictConfig(photos="p", marker_mm=50.0), [])
