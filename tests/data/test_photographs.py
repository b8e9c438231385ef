import io
import os

import numpy as np
import pytest
from PIL import ExifTags, Image

from crackflow.core.errors import UserError
from crackflow.data import photographs
from tests import support


def located(latitude, longitude, sides=("N", "E"), pixels=None):
    """A JPEG that says where it was taken; degrees, minutes and seconds each."""
    exif = Image.Exif()
    exif[ExifTags.IFD.GPSInfo] = {
        ExifTags.GPS.GPSLatitudeRef: sides[0],
        ExifTags.GPS.GPSLatitude: latitude,
        ExifTags.GPS.GPSLongitudeRef: sides[1],
        ExifTags.GPS.GPSLongitude: longitude,
    }
    buffer = io.BytesIO()
    Image.fromarray(support.picture(0) if pixels is None else pixels).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.png", "deep/c.jpg"):
        support.put(tmp_path / name, support.encoded(support.picture(1), "PNG" if name.endswith("png") else "JPEG"))
    return tmp_path


def test_a_folder_gives_all_that_is_in_it_by_name(folder):
    found, rejected = photographs.listed(str(folder))
    assert [one.path for one in found] == ["a.png", "b.jpg", os.path.join("deep", "c.jpg")] and not rejected
    assert all(os.path.isfile(one.file) for one in found)


def test_results_that_lie_among_the_photographs_are_none_of_them(folder, monkeypatch):
    support.put(folder / "findings/overlays/000001.jpg", support.encoded(support.picture(2)))
    support.put(folder / "findings_of_others/d.jpg", support.encoded(support.picture(3)))
    monkeypatch.chdir(folder)
    for wanted in (".", "**/*.*"):
        found, _ = photographs.listed(wanted, without="findings")
        assert sorted(os.path.basename(one.path) for one in found) == ["a.png", "b.jpg", "c.jpg", "d.jpg"]
    named, _ = photographs.listed("findings/overlays/000001.jpg", without="findings")
    assert len(named) == 1
    assert len(photographs.listed(".")[0]) == 5


def test_a_file_is_itself(folder):
    found, _ = photographs.listed(str(folder / "b.jpg"))
    assert found == [photographs.Named(str(folder / "b.jpg"), str(folder / "b.jpg"))]


def test_a_pattern_gives_the_files_it_matches(folder):
    found, _ = photographs.listed(str(folder / "**" / "*.jpg"))
    assert [os.path.basename(one.path) for one in found] == ["b.jpg", "c.jpg"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder):
    support.put(folder / "[b].jpg", support.encoded(support.picture(2)))
    found, _ = photographs.listed(str(folder / "[b].jpg"))
    assert [os.path.basename(one.path) for one in found] == ["[b].jpg"]


@pytest.mark.parametrize("name", ["missing.jpg", "none/*.jpg"])
def test_nothing_there_is_a_clear_error(folder, name):
    with pytest.raises(UserError, match=r"--photos: expected a photograph, a folder of them or a pattern .* received"):
        photographs.listed(str(folder / name))


def test_an_empty_folder_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="nothing there"):
        photographs.listed(str(tmp_path))


def test_pixels_place_and_hash_are_read(tmp_path):
    support.put(tmp_path / "a.jpg", located((46.0, 30.0, 36.0), (7.0, 15.0, 0.0)))
    found = photographs.read(str(tmp_path / "a.jpg"), channels=3, max_megapixels=1)
    assert found.pixels.shape == (64, 64, 3) and found.pixels.dtype == np.uint8
    assert found.place == pytest.approx((46.51, 7.25))
    assert found.sha256 == support.sha256(tmp_path / "a.jpg")


def test_south_and_west_are_negative():
    found = photographs.place(located((10.0, 0.0, 0.0), (20.0, 0.0, 0.0), ("S", "W")))
    assert found == pytest.approx((-10, -20))


@pytest.mark.parametrize(
    "latitude, longitude", [((91.0, 0.0, 0.0), (0.0, 0.0, 0.0)), ((0.0, 0.0, 0.0), (181.0, 0.0, 0.0))]
)
def test_a_place_that_is_nowhere_on_earth_is_none(latitude, longitude):
    assert photographs.place(located(latitude, longitude)) is None


@pytest.mark.parametrize(
    "data", [b"", b"junk", support.encoded(support.picture(0)), b"\xff\xd8\xff\xe1\x00\x20Exif\0\0II"]
)
def test_without_a_place_it_is_none(data):
    assert photographs.place(data) is None
