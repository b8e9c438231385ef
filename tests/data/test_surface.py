import numpy as np
import pytest
from scipy import ndimage

from crackflow.core.errors import ImageError
from crackflow.data import image_file, surface
from tests.helpers import support
from tests.helpers.geotiffs import geotiff

WALL = np.clip(150 + np.random.default_rng(0).normal(0, 3, (100, 130, 3)), 1, 255).astype(np.uint8)
ABSENT = np.zeros((100, 130), bool)
ABSENT[:40, :50] = True


def found_in(data, name="a.tif"):
    photo = image_file.parse_photo(data, name, 1)
    return surface.find(photo, image_file.pixels(photo, 3, 0))


def with_alpha(alpha):
    pixels = np.concatenate([WALL, alpha[..., None].astype(np.uint8)], 2)
    return geotiff(pixels, options={"extrasamples": ["unassalpha"]})


def expected():
    return ~ndimage.binary_dilation(ABSENT, iterations=2)


def test_the_value_of_no_data_is_no_surface():
    black = np.where(ABSENT[..., None], 0, WALL).astype(np.uint8)
    np.testing.assert_array_equal(found_in(geotiff(black, nodata="0")), expected())
    assert found_in(geotiff(black)) is None, "without the tag 0 is black"
    assert found_in(geotiff(WALL, nodata="0")) is None


def test_values_of_more_bits_are_compared_as_they_are_stored():
    deep = WALL[..., 0].astype(np.uint16) * 100
    deep[ABSENT] = 65535
    np.testing.assert_array_equal(found_in(geotiff(deep, nodata="65535")), expected())


def test_what_is_transparent_is_no_surface():
    np.testing.assert_array_equal(found_in(with_alpha(np.where(ABSENT, 0, 255))), expected())
    assert found_in(with_alpha(np.full(ABSENT.shape, 255))) is None


def test_a_mask_page_says_what_is_surface(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    (tmp_path / "a.tif").write_bytes(geotiff(WALL))
    tifffile.imwrite(tmp_path / "a.tif", ~ABSENT, append=True, subfiletype=4, photometric="minisblack", metadata=None)
    np.testing.assert_array_equal(found_in((tmp_path / "a.tif").read_bytes()), expected())


def test_other_photographs_are_surface_everywhere():
    plain = np.where(ABSENT[..., None], 0, WALL).astype(np.uint8)
    for kind in ("PNG", "JPEG", "TIFF"):
        assert found_in(support.encoded(plain, kind), f"a.{kind.lower()}") is None


def test_nothing_but_no_data_is_refused():
    with pytest.raises(ImageError, match="a GeoTIFF that shows no surface: all of it"):
        found_in(geotiff(np.zeros((40, 40, 3), np.uint8), nodata="0"))


@pytest.mark.parametrize("size", [(100, 130), (37, 16), (16, 700), (600, 20)])
def test_what_is_filled_in_is_like_its_surroundings_and_the_rest_stays(size):
    random = np.random.default_rng(1)
    ramp = np.linspace(100, 130, size[1])[None, :, None].repeat(size[0], 0).repeat(3, 2).astype(np.uint8)
    mask = np.zeros(size, bool)
    mask[: size[0] // 2 + 1] = True
    mask &= random.random(size) > 0.2
    pixels = np.where(mask[..., None], ramp, 0).astype(np.uint8)
    surface.fill(pixels, mask)
    np.testing.assert_array_equal(pixels[mask], ramp[mask])
    assert pixels[~mask].min() >= 99 and pixels[~mask].max() <= 131


def test_a_cell_with_any_surface_counts():
    mask = np.zeros((40, 50), bool)
    mask[15, 49] = mask[39, 0] = True
    cells = surface.cells(mask, 3, 4, (16.0, 16.0))
    assert np.argwhere(cells).tolist() == [[0, 3], [2, 0]]
