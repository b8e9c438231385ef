import os

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from crackflow.core.errors import ImageError
from crackflow.data import geotiff as georeferences
from crackflow.data import image_file, mosaic_file, surface
from tests.helpers import support
from tests.helpers.geotiffs import geotiff

WALL = np.clip(150 + np.random.default_rng(0).normal(0, 30, (150, 200, 3)), 1, 255).astype(np.uint8)
GREY = WALL[..., 0]
ABSENT = np.zeros(GREY.shape, bool)
ABSENT[:70, :90] = True
FORMS = {
    "tiles": {"tile": (64, 48), "compression": "zlib", "predictor": True},
    "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "whole": {},
    "mapped": {"rowsperstrip": 150},
}


def unpacked(tmp_path, data, channels=3):
    """(pixels, surface) as arrays in memory."""
    support.put(tmp_path / "a.tif", data)
    os.makedirs(tmp_path / "scratch", exist_ok=True)
    with mosaic_file.unpack(str(tmp_path / "a.tif"), channels, str(tmp_path / "scratch")) as mosaic:
        assert mosaic.sha256 == support.sha256(tmp_path / "a.tif")
        pixels, mask = np.array(mosaic.pixels), mosaic.surface
        mask = None if mask is None else np.array(mask)
    assert not os.listdir(tmp_path / "scratch")
    return pixels, mask


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("picture", [WALL, GREY], ids=["rgb", "grey"])
def test_the_pixels_are_those_of_the_file_read_at_once(tmp_path, form, channels, picture):
    data = geotiff(picture, options=FORMS[form])
    pixels, mask = unpacked(tmp_path, data, channels)
    expected = image_file.pixels(image_file.parse_photo(data, "a.tif", 1), channels, 0)
    np.testing.assert_array_equal(pixels, expected)
    assert mask is None


@pytest.mark.parametrize("form", ["tiles", "whole"])
def test_no_data_and_alpha_leave_the_surface_of_the_file_read_at_once(tmp_path, monkeypatch, form):
    monkeypatch.setattr(surface, "BAND_PX", 32)
    black = np.where(ABSENT[..., None], 0, WALL).astype(np.uint8)
    alpha = np.concatenate([WALL, np.where(ABSENT, 0, 255)[..., None].astype(np.uint8)], 2)
    for data in (
        geotiff(black, nodata="0", options=FORMS[form]),
        geotiff(alpha, options=FORMS[form] | {"extrasamples": ["unassalpha"], "predictor": False}),
    ):
        pixels, mask = unpacked(tmp_path, data)
        np.testing.assert_array_equal(mask, ~ndimage.binary_dilation(ABSENT, iterations=2))
        np.testing.assert_array_equal(pixels[mask], WALL[mask])
        assert 60 < pixels[:40, :60].min() and np.ptp(pixels[:40, :60].astype(int)) < 60


def test_a_mask_page_leaves_the_surface(tmp_path):
    support.put(tmp_path / "b.tif", geotiff(WALL, options=FORMS["tiles"]))
    tifffile.imwrite(
        tmp_path / "b.tif", ~ABSENT, append=True, subfiletype=4, photometric="minisblack", metadata=None, tile=(64, 64)
    )
    _, mask = unpacked(tmp_path, (tmp_path / "b.tif").read_bytes())
    np.testing.assert_array_equal(mask, ~ndimage.binary_dilation(ABSENT, iterations=2))


def test_blocks_that_a_sparse_file_leaves_out_are_no_surface(tmp_path):
    support.put(tmp_path / "a.tif", geotiff(WALL, options={"tile": (64, 64), "compression": "zlib"}))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        counts = list(file.pages[0].tags["TileByteCounts"].value)
        file.pages[0].tags["TileByteCounts"].overwrite([0, *counts[1:]])
    _, mask = unpacked(tmp_path, (tmp_path / "a.tif").read_bytes())
    assert not mask[:64, :64].any() and mask[66:].all() and mask[:, 66:].all()


def test_only_large_geotiffs_are_read_in_parts(tmp_path):
    for name, data, is_mosaic in (
        ("a.tif", geotiff(WALL), True),
        ("b.tif", support.encoded(WALL, "TIFF"), False),
        ("c.jpg", support.encoded(WALL), False),
        ("d.tif", b"II*\0", False),
    ):
        support.put(tmp_path / name, data)
        assert mosaic_file.is_mosaic(str(tmp_path / name), 0.02) is is_mosaic, name
        assert not mosaic_file.is_mosaic(str(tmp_path / name), 0.03)
    assert not mosaic_file.is_mosaic(str(tmp_path / "none.tif"), 0.02)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            geotiff(GREY.astype(np.uint16)),
            "a GeoTIFF of 1 x 16 bits that is too large for memory: expected 8 bits, grey",
        ),
        (geotiff(WALL.transpose(2, 0, 1), options={"planarconfig": "separate"}), "a plane for each colour that is too"),
        (geotiff(np.zeros((40, 40, 3), np.uint8), nodata="0"), "a GeoTIFF that shows no surface"),
        (geotiff(WALL, options={"compression": "zlib"})[:2000] + bytes(9000), "damaged: "),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, data, message):
    with pytest.raises(ImageError, match=message):
        unpacked(tmp_path, data)


def test_blocks_and_files_that_are_too_large_say_why(tmp_path, monkeypatch):
    monkeypatch.setattr(mosaic_file, "MAX_BLOCK_BYTES", 1000)
    with pytest.raises(
        ImageError, match="stored in blocks of 0 MiB, which are too large for memory: write it in tiles"
    ):
        unpacked(tmp_path, geotiff(WALL, options={"compression": "zlib", "rowsperstrip": 150}))
    unpacked(tmp_path, geotiff(WALL))  # without compression it needs no blocks
    monkeypatch.setattr(mosaic_file, "MAX_MEGAPIXELS", 0.02)
    with pytest.raises(ImageError, match=r"200 x 150 pixels: expected at most 0 megapixels and 65,500 pixels a side"):
        unpacked(tmp_path, geotiff(WALL))


def test_a_compression_that_needs_a_package_says_which(tmp_path, monkeypatch):
    def refused(*_):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(mosaic_file, "_decode", refused)
    with pytest.raises(ImageError, match=r"needs imagecodecs: pip install 'crackflow\[geo\]', or write it in tiles"):
        unpacked(tmp_path, geotiff(WALL))


def test_the_georeference_is_read_from_the_path_as_from_the_bytes(tmp_path):
    support.put(tmp_path / "a.tif", geotiff(WALL, nodata="7"))
    for read in (georeferences.read_reference, georeferences.read_nodata, georeferences.is_geotiff):
        assert read(str(tmp_path / "a.tif")) == read((tmp_path / "a.tif").read_bytes())


def test_a_pipe_is_no_mosaic_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.tif")
    assert not mosaic_file.is_mosaic(str(tmp_path / "pipe.tif"), 1e-6)
    assert not mosaic_file.is_mosaic(str(tmp_path / "absent.tif"), 1e-6)
