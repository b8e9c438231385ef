import collections
import os

import numpy as np
import pytest
from PIL.TiffImagePlugin import IFDRational

from crackflow.core.errors import UserError
from crackflow.inference import photo_files
from tests.helpers import support
from tests.helpers.geotiffs import METRES_PER_PX, ZONE_17S, geotiff
from tests.helpers.gps_photos import SOMEWHERE, located, tagged


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.png", "deep/c.jpg"):
        support.put(tmp_path / name, support.encoded(support.picture(1), "PNG" if name.endswith("png") else "JPEG"))
    return tmp_path


def test_a_folder_gives_all_that_is_in_it_by_name(folder):
    photos, rejected = photo_files.list_photos(str(folder))
    assert [photo.path for photo in photos] == ["a.png", "b.jpg", os.path.join("deep", "c.jpg")] and not rejected
    assert all(os.path.isfile(photo.file) for photo in photos)


def test_results_that_lie_among_the_photographs_are_none_of_them(folder, monkeypatch):
    support.put(folder / "findings/overlays/000001.jpg", support.encoded(support.picture(2)))
    support.put(folder / "findings_of_others/d.jpg", support.encoded(support.picture(3)))
    monkeypatch.chdir(folder)
    for source in (".", "**/*.*"):
        photos, _ = photo_files.list_photos(source, exclude="findings")
        assert sorted(os.path.basename(photo.path) for photo in photos) == ["a.png", "b.jpg", "c.jpg", "d.jpg"]
    named, _ = photo_files.list_photos("findings/overlays/000001.jpg", exclude="findings")
    assert len(named) == 1
    assert len(photo_files.list_photos(".")[0]) == 5


@pytest.mark.parametrize("files", [["findings.json", "predictions.csv"], ["unfinished/photos.jsonl"]])
def test_other_results_among_the_photographs_are_left_out_and_listed(folder, monkeypatch, files):
    for name in (*files, "overlays/000001.jpg", "suggested/unlabelled/w.png"):
        support.put(folder / "deep/earlier" / name, support.encoded(support.picture(2)))
    support.put(folder / "deep/other/findings.json", b"{}")  # of the user's own
    monkeypatch.chdir(folder)
    for source in (".", "**/*.*"):
        photos, rejected = photo_files.list_photos(source)
        assert {os.path.basename(photo.path) for photo in photos} == {"a.png", "b.jpg", "c.jpg", "findings.json"}
        ((path, reason),) = rejected
        assert path.endswith("earlier") and reason == "results of crackflow.predict, and no photographs"
    named, rejected = photo_files.list_photos("deep/earlier/overlays")
    assert [photo.path for photo in named] == ["000001.jpg"] and not rejected


def test_what_systems_keep_among_photographs_is_none_and_is_counted(folder, monkeypatch):
    for name in ("@eaDir/b.jpg/SYNOPHOTO_THUMB_M.jpg", "$RECYCLE.BIN/S-1-5/d.jpg", "deep/Thumbs.db", "deep/._c.jpg"):
        support.put(folder / name, support.encoded(support.picture(5)))
    monkeypatch.chdir(folder)
    for source, count in (
        (".", 4),
        ("**/*", 3),
        ("*/**/*.jpg", 2),
        (str(folder / "**/*.jpg"), 2),
    ):  # * passes dots over
        passed_over = collections.Counter()
        photos, rejected = photo_files.list_photos(source, passed_over=passed_over)
        assert {os.path.basename(photo.path) for photo in photos} <= {"a.png", "b.jpg", "c.jpg"} and not rejected
        assert passed_over.total() == count


@pytest.mark.parametrize("source", ["@eaDir", "@eaDir/*.jpg", "@eaDir/wall.jpg"])
def test_a_folder_of_a_system_that_is_named_is_looked_into(tmp_path, monkeypatch, source):
    support.put(tmp_path / "@eaDir/wall.jpg", support.encoded(support.picture(5)))
    monkeypatch.chdir(tmp_path)
    assert len(photo_files.list_photos(source)[0]) == 1


def test_a_folder_with_nothing_but_a_systems_files_says_so(tmp_path):
    support.put(tmp_path / "@eaDir/wall.jpg", b"x")
    with pytest.raises(UserError, match=r"received .* \(1 file or folder of the system passed over \(1 @eaDir\)\)"):
        photo_files.list_photos(str(tmp_path))


def test_a_file_is_itself(folder):
    photos, _ = photo_files.list_photos(str(folder / "b.jpg"))
    assert photos == [photo_files.PhotoPath(str(folder / "b.jpg"), str(folder / "b.jpg"))]


def test_a_pattern_gives_the_files_it_matches(folder):
    photos, _ = photo_files.list_photos(str(folder / "**" / "*.jpg"))
    assert [os.path.basename(photo.path) for photo in photos] == ["b.jpg", "c.jpg"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder):
    support.put(folder / "[b].jpg", support.encoded(support.picture(2)))
    photos, _ = photo_files.list_photos(str(folder / "[b].jpg"))
    assert [os.path.basename(photo.path) for photo in photos] == ["[b].jpg"]


@pytest.mark.parametrize("name", ["missing.jpg", "none/*.jpg"])
def test_nothing_there_is_a_clear_error(folder, name):
    with pytest.raises(UserError, match=r"--photos: expected a photograph, a folder of them or a pattern .* received"):
        photo_files.list_photos(str(folder / name))


def test_an_empty_folder_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="nothing there"):
        photo_files.list_photos(str(tmp_path))


def test_pixels_place_and_hash_are_read(tmp_path):
    support.put(tmp_path / "a.jpg", located((46.0, 30.0, 36.0), (7.0, 15.0, 0.0)))
    photo = photo_files.read(str(tmp_path / "a.jpg"), channels=3, max_megapixels=1)
    assert photo.pixels.shape == (64, 64, 3) and photo.pixels.dtype == np.uint8
    assert photo.place == pytest.approx((46.51, 7.25))
    assert photo.sha256 == support.sha256(tmp_path / "a.jpg")


def test_what_a_camera_recorded_beside_the_position_is_kept_with_it(tmp_path):
    tags = {"GPSAltitude": 12.5, "GPSAltitudeRef": b"\1", "GPSImgDirection": 90.0, "GPSImgDirectionRef": "T"}
    support.put(tmp_path / "a.jpg", tagged(*SOMEWHERE, ("S", "W"), GPSHPositioningError=4.5, **tags))
    entry = photo_files.read(str(tmp_path / "a.jpg"), 3, 1).place_entry()
    assert entry["latitude"] == pytest.approx(-33.856806, abs=1e-6) and entry["longitude"] == pytest.approx(-70.66)
    assert (entry["altitude_m"], entry["heading_deg"], entry["uncertainty_m"]) == (-12.5, 90.0, 4.5)
    assert entry["heading_reference"] == "true"


def test_without_a_position_nothing_is_said_of_it(tmp_path):
    support.put(tmp_path / "a.jpg", tagged(*SOMEWHERE, ("", ""), GPSAltitude=12.5))
    assert photo_files.read(str(tmp_path / "a.jpg"), 3, 1).place_entry() is None


def test_a_geotiff_has_its_crs_its_transform_and_the_degrees_of_its_middle(tmp_path):
    pytest.importorskip("pyproj")
    support.put(tmp_path / "a.tif", geotiff(epsg=ZONE_17S, origin=(500_000.0, 9_000_000.0)))
    photo = photo_files.read(str(tmp_path / "a.tif"), 3, 1)
    assert photo.location == {
        "crs": "EPSG:32717",
        "crs_unit": "metre",
        "transform": [METRES_PER_PX, 0.0, 500_000.0, 0.0, -METRES_PER_PX, 9_000_000.0],
    }
    assert photo.place == pytest.approx((-9.0463, -81.0), abs=1e-3)  # of the south, west of Greenwich
    assert photo.surface is None and photo.place_entry()["crs"] == "EPSG:32717"


def test_a_geotiff_of_an_unknown_system_keeps_its_transform(tmp_path):
    support.put(tmp_path / "a.tif", geotiff(epsg=32767))
    entry = photo_files.read(str(tmp_path / "a.tif"), 3, 1).place_entry()
    assert entry["latitude"] is entry["crs"] is None and entry["transform"][2] == 500_000.0


def test_a_georeference_that_is_not_used_is_noted(tmp_path):
    tags = [(33922, "d", 12, (0, 0, 0, 1.0, 2.0, 0, 9, 9, 0, 3.0, 4.0, 0), True)]
    support.put(tmp_path / "a.tif", geotiff(origin=None, tags=tags))
    photo = photo_files.read(str(tmp_path / "a.tif"), 3, 1)
    assert photo.place_entry() is None and "its georeference is not used: it has 2 tie points" in photo.notes[-1]


def test_what_is_no_surface_is_filled_in(tmp_path):
    pixels = np.full((64, 64, 3), 150, np.uint8)
    pixels[:20] = 0
    support.put(tmp_path / "a.tif", geotiff(pixels, nodata="0"))
    photo = photo_files.read(str(tmp_path / "a.tif"), 3, 1)
    assert not photo.surface[:20].any() and photo.surface[22:].all() and (photo.pixels == 150).all()


@pytest.mark.parametrize("sides", [("S", "W"), ("s", "w"), ("South", "West"), (" S", "W ")])
def test_south_and_west_are_negative(sides):
    assert photo_files.parse_gps_position(tagged(*SOMEWHERE, sides)) == pytest.approx((-33.856806, -70.66), abs=1e-6)


def test_each_quarter_of_the_earth_has_its_signs():
    for sides, signs in ((("N", "E"), (1, 1)), (("N", "W"), (1, -1)), (("S", "E"), (-1, 1))):
        assert np.sign(photo_files.parse_gps_position(tagged(*SOMEWHERE, sides))).tolist() == list(signs)


@pytest.mark.parametrize(
    "latitude, longitude", [((91.0, 0.0, 0.0), (0.0, 0.0, 0.0)), ((0.0, 0.0, 0.0), (181.0, 0.0, 0.0))]
)
def test_a_place_that_is_nowhere_on_earth_is_none(latitude, longitude):
    assert photo_files.parse_gps_position(located(latitude, longitude)) is None


@pytest.mark.parametrize("sides", [("N", "E"), ("S", "W"), ("", "")])
@pytest.mark.parametrize("status", [None, "A", "V"])
def test_zero_zero_is_what_cameras_write_that_do_not_know(sides, status):
    assert photo_files.parse_gps_position(tagged((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), sides, GPSStatus=status)) is None


@pytest.mark.parametrize(("latitude", "longitude"), [((0.0, 0.0, 0.0), SOMEWHERE[1]), (SOMEWHERE[0], (0.0, 0.0, 0.0))])
def test_one_zero_is_a_place(latitude, longitude):
    assert photo_files.parse_gps_position(tagged(latitude, longitude)) is not None


@pytest.mark.parametrize(("status", "is_known"), [("V", False), ("v", False), ("A", True), ("", True), (None, True)])
def test_a_camera_that_says_it_has_no_fix_has_no_place(status, is_known):
    assert (photo_files.parse_gps_position(tagged(*SOMEWHERE, GPSStatus=status)) is not None) is is_known


@pytest.mark.parametrize(
    "sides", [("", ""), (None, None), ("S", ""), (None, "W"), ("\0", "\0"), ("E", "N"), ("?", "W")]
)
def test_without_a_hemisphere_there_is_no_place(sides):
    assert photo_files.parse_gps_position(tagged(*SOMEWHERE, sides)) is None


@pytest.mark.parametrize("seconds", [IFDRational(0, 0), IFDRational(1, 0)])
def test_numbers_that_are_none_make_no_place(seconds):
    assert photo_files.parse_gps_position(tagged((33.0, 51.0, seconds), SOMEWHERE[1])) is None
    assert photo_files.parse_gps_position(tagged(SOMEWHERE[0], (IFDRational(0, 0),) * 3)) is None


def test_degrees_alone_and_minutes_with_a_fraction_are_read():
    assert photo_files.parse_gps_position(tagged((33.5, 0.0, 0.0), (70.0, 39.6, 0.0), ("S", "W"))) == pytest.approx(
        (-33.5, -70.66)
    )
    assert photo_files.parse_gps_position(tagged((33.5, 30.0), (70.0, 39.6))) == pytest.approx((34.0, 70.66))


@pytest.mark.parametrize(
    "data", [b"", b"junk", support.encoded(support.picture(0)), b"\xff\xd8\xff\xe1\x00\x20Exif\0\0II"]
)
def test_without_a_place_it_is_none(data):
    assert photo_files.parse_gps_position(data) is None
