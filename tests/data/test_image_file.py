import io
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, TiffImagePlugin

from crackflow.core import errors
from crackflow.core.backend import tf
from crackflow.data import image_file, resize, thumbnail, tiff_file
from crackflow.pipeline import decode
from tests.helpers import support


def parsed(data, name="x.jpg", max_megapixels=100):
    return image_file.parse_photo(data, name, max_megapixels)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def refused(match, data, **settings):
    with pytest.raises(errors.ImageError, match=match):
        photo = parsed(data, **settings)
        thumbnail.thumbnail(photo)


def test_a_truncated_jpeg_is_rejected_with_its_reason():
    data = support.encoded(support.picture(0))
    refused("^damaged: truncated: at least the lower [0-9]+ % is missing, from row ", data[: len(data) * 7 // 8])


def test_a_file_of_one_byte_is_not_an_image():
    refused("^not an image$", b"\xff")


def test_an_empty_file_is_rejected(tmp_path):
    support.put(tmp_path / "empty.jpg", b"")
    with pytest.raises(errors.ImageError, match="^empty file$"):
        image_file.read_file(str(tmp_path / "empty.jpg"))


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(errors.ImageError, match="^not a regular file$"):
        image_file.read_file(str(tmp_path))


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path):
    path = tmp_path / "huge.jpg"
    with open(path, "wb") as file:
        file.truncate(image_file.MAX_FILE_BYTES + 1)
    with pytest.raises(errors.ImageError, match="the file has 1,024 MiB: expected at most 1,024"):
        image_file.read_file(str(path))


@pytest.mark.parametrize(("limit", "is_accepted"), [(0.0041, True), (0.0040, False)])
def test_the_limit_on_megapixels_is_exact(limit, is_accepted):
    data = support.encoded(support.picture(0, 64, 64))  # 4,096 pixels
    if is_accepted:
        assert parsed(data, max_megapixels=limit).width == 64
    else:
        refused(r"64 x 64 = 0 megapixels: expected at most 0.004 \(--max_megapixels\)", data, max_megapixels=limit)


def test_a_side_longer_than_a_jpeg_can_hold_is_refused():
    refused(
        r"65501 x 1 pixels: expected at most 65,500 a side", support.encoded(np.zeros((1, 65501, 3), np.uint8), "PNG")
    )


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_orientation_is_applied_once_as_pillow_applies_it(form, orientation):
    data = support.encoded(support.picture(orientation, 96, 64), form, exif=exif(orientation))
    photo = parsed(data)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    np.testing.assert_array_equal(image_file.pixels(photo, 3, 0), expected)
    assert (photo.height, photo.width) == expected.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_thumbnail_shows_the_upright_image(orientation):
    data = support.encoded(support.picture(orientation, 96, 64), exif=exif(orientation), quality=95)
    upright = support.encoded(image_file.pixels(parsed(data), 3, 0), "PNG")
    difference = thumbnail.thumbnail(parsed(data)).grey - thumbnail.thumbnail(parsed(upright)).grey
    assert np.abs(difference).max() < 3
    assert np.abs(difference).mean() < 0.6


def test_an_orientation_out_of_range_means_upright():
    photo = parsed(support.encoded(support.picture(0), exif=exif(9)))
    assert (photo.orientation, photo.can_store_as_is, photo.notes) == (1, True, ())


def test_damaged_exif_of_a_sound_image_is_ignored():
    data = support.encoded(support.picture(0), exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(20))
    assert parsed(data).orientation == 1


@given(st.integers(0, 10**6), st.integers(16, 150), st.integers(16, 150))
@settings(max_examples=20)
def test_a_thumbnail_holds_exact_area_means(seed, width, height):
    values = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    fine = np.repeat(np.repeat(values.astype(np.float64), 16, 0), 16, 1)
    expected = fine.reshape(16, height, 16, width).mean((1, 3))
    decoded = thumbnail.thumbnail(parsed(buffer.getvalue())).grey
    assert (decoded.dtype, decoded.shape) == (np.float32, (16, 16))
    np.testing.assert_allclose(decoded, expected, atol=0.01)


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        (support.encoded(support.picture(0)), True),
        (support.encoded(support.picture(0), mode="L"), True),
        (support.encoded(support.picture(0), progressive=True), False),
        (support.encoded(support.picture(0), mode="CMYK"), False),
        (support.encoded(support.picture(0), exif=exif(6)), False),
        (support.encoded(support.picture(0), exif=exif(1)), True),
        (support.encoded(support.picture(0), "PNG"), False),
        (support.encoded(support.picture(0))[:-2], False),
    ],
    ids=["rgb", "grey", "progressive", "cmyk", "turned", "upright", "png", "endless"],
)
def test_only_an_upright_baseline_jpeg_is_plain(data, plain):
    assert parsed(data).can_store_as_is is plain


@pytest.mark.parametrize(
    ("form", "mode", "grey"),
    [("JPEG", "L", True), ("JPEG", "RGB", False), ("PNG", "1", True), ("PNG", "P", False), ("PNG", "LA", True)],
)
def test_colour_is_distinguished_from_grey_before_and_after_the_thumbnail(form, mode, grey):
    photo = parsed(support.encoded(support.picture(0), form, mode))
    assert photo.grey is grey
    thumbnail.thumbnail(photo)
    assert photo.grey is grey


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"])
def test_every_mode_becomes_8_bits_or_is_refused(mode):
    picture = Image.fromarray(support.picture(0)[..., 0].astype(np.uint16)) if mode == "I;16" else None
    picture = picture or Image.fromarray(support.picture(0)).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "TIFF")
    photo = parsed(buffer.getvalue(), "x.tif")
    for channels in (1, 3):
        values = image_file.pixels(photo, channels, 0)
        assert (values.dtype, values.shape) == (np.uint8, (64, 64, channels))
    assert thumbnail.thumbnail(photo).grey.shape == (16, 16)


FORMS = {
    "jpeg": support.encoded(support.picture(1, 48, 40)),
    "progressive": support.encoded(support.picture(1, 48, 40), progressive=True),
    "turned": support.encoded(support.picture(1, 48, 40), exif=exif(6)),
    "cmyk": support.encoded(support.picture(1, 48, 40), mode="CMYK"),
    "png": support.encoded(support.picture(1, 48, 40), "PNG"),
    "bmp": support.encoded(support.picture(1, 48, 40), "BMP"),
    "tiff": support.encoded(support.picture(1, 48, 40), "TIFF"),
    "webp": support.encoded(support.picture(1, 48, 40), "WEBP"),
    "gif": support.encoded(support.picture(1, 48, 40), "GIF", "P"),
    "ppm": support.encoded(support.picture(1, 48, 40), "PPM"),
}


def damaged(data, seed):
    """`data` cut short, or with up to 4 bytes changed, mostly near its start."""
    draw = random.Random(seed)
    out = bytearray(data[: draw.randrange(len(data))] if draw.random() < 0.4 else data)
    for _ in range(draw.randrange(5)):
        if out:
            out[draw.randrange(min(len(out), 200) if draw.random() < 0.5 else len(out))] = draw.randrange(256)
    return bytes(out)


@pytest.mark.parametrize("form", FORMS)
def test_damage_anywhere_is_either_harmless_or_a_reason(form):
    outcomes = {"taken": 0, "refused": 0}
    for seed in range(150):
        try:
            photo = parsed(damaged(FORMS[form], seed), max_megapixels=1)
            thumbnail.thumbnail(photo)
            assert image_file.pixels(photo, 3, 0).shape == (photo.height, photo.width, 3)
            outcomes["taken"] += 1
        except errors.ImageError as reason:
            assert str(reason)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 5, outcomes


def test_a_tiff_whose_later_header_is_damaged_is_refused():
    pages = [Image.fromarray(support.picture(number)) for number in (1, 2)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    data = bytearray(buffer.getvalue())
    width = data.rindex(b"\x00\x01\x04\x00\x01\x00\x00\x00\x40\x00\x00\x00")  # ImageWidth, 64, of the second page
    data[width + 1] = 0xEE
    refused("^damaged: Missing dimensions", bytes(data), name="x.tif")


@pytest.mark.parametrize(
    "tag, value", [(tiff_file.NEW_SUBFILE_TAG, 1), (tiff_file.DNG_TAG, b"\x01\x04\x00\x00")], ids=["preview", "DNG"]
)
def test_the_preview_of_a_camera_raw_is_not_the_photograph(tag, value):
    buffer = io.BytesIO()
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[tag] = value
    Image.fromarray(support.picture(1)).save(buffer, "TIFF", tiffinfo=info)
    refused(
        "^camera RAW, of which only the preview can be read: save it as JPEG or TIFF$", buffer.getvalue(), name="a.nef"
    )


def test_a_heic_image_of_a_phone_is_named():
    refused("^HEIC, AVIF or a film: save it as JPEG$", b"\x00\x00\x00\x18ftypheic" + bytes(64), name="a.heic")


def test_what_passes_through_unchanged_can_be_decoded_by_tensorflow():
    checked = 0
    for seed in range(400):
        data = damaged(FORMS["jpeg"], seed)
        try:
            photo = parsed(data, max_megapixels=1)
            strict = thumbnail.thumbnail(photo).strict
        except errors.ImageError:
            continue
        if not photo.can_store_as_is or not strict:
            continue
        checked += 1
        filled = np.empty((photo.height, photo.width, 3), np.uint8)
        decode.decode_into(filled, data, "jpeg", exact=True)  # raises nothing
        decoded = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE").numpy()
        assert decoded.shape == (photo.height, photo.width, 3), seed
    assert checked > 20


@given(st.integers(0, 10**6), st.integers(8, 40), st.integers(8, 90), st.integers(8, 90), st.sampled_from([1, 3]))
def test_shrinking_takes_area_means_and_growing_keeps_the_range(seed, image_px, width, height, channels):
    values = np.random.default_rng(seed).integers(50, 200, (height, width, channels), np.uint8)
    small = resize.resize_array(values, image_px)
    assert (small.dtype, small.shape) == (np.uint8, (image_px, image_px, channels))
    assert small.min() >= 50 and small.max() < 200
    if min(height, width) >= image_px:
        fine = np.repeat(np.repeat(values.astype(np.float64), image_px, 0), image_px, 1)
        means = fine.reshape(image_px, height, image_px, width, channels).mean((1, 3))
        assert np.abs(small - means).max() <= 0.51


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoding", ["png", "raw"])
def test_png_and_raw_keep_every_pixel(encoding, channels):
    values = support.picture(4)[..., :channels]
    data = image_file.encode(values, encoding, 95)
    back = np.frombuffer(data, np.uint8).reshape(values.shape) if encoding == "raw" else support.pixels(data)
    np.testing.assert_array_equal(back.reshape(values.shape), values)


def test_jpeg_keeps_pixels_closely_and_ever_more_closely():
    values = support.picture(4)
    errors = [
        np.abs(support.pixels(image_file.encode(values, "jpeg", q)).astype(int) - values).mean() for q in (30, 80, 98)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1.5


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 120), st.integers(1, 3))
def test_a_photograph_is_scaled_as_training_images_are(height, width, side, seed):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    expected = resize.resize_array(values, side)
    shrinks_or_grows = min(height, width) >= side or max(height, width) <= side  # one side each way does not occur
    if shrinks_or_grows:
        away = resize.scaled(values, side, side).astype(int) - expected
        assert abs(away).max() <= 1


@given(st.integers(1, 300), st.integers(1, 200), st.integers(0, 250), st.integers(1, 250), st.integers(0, 19))
def test_a_part_of_a_scaled_photograph_is_that_of_the_whole(height, scaled_height, first, count, left):
    values = np.random.default_rng(height).integers(0, 256, (height, 30, 3), np.uint8)
    whole = resize.scaled(values, scaled_height, 20)
    first = min(first, scaled_height - 1)
    rows, columns = slice(first, first + count), slice(left, left + 7)
    np.testing.assert_array_equal(resize.scaled(values, scaled_height, 20, rows), whole[rows])
    np.testing.assert_array_equal(resize.scaled(values, scaled_height, 20, rows, columns), whole[rows, columns])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(30, 50), (71, 64), (140, 90), (70, 63)])
def test_pictures_of_one_size_are_scaled_together_as_each_alone(height, width, channels):
    batch = np.random.default_rng(0).integers(0, 256, (4, 70, 63, channels)).astype(np.uint8)
    rows, columns = slice(3, 29), slice(5, None)
    expected = np.stack([resize.scaled(image, height, width, rows, columns) for image in batch])
    np.testing.assert_array_equal(resize.scaled_batch(batch, height, width, rows, columns), expected)


def test_a_photograph_of_that_size_already_is_left_alone():
    values = support.picture(0)
    assert resize.scaled(values, 64, 64) is not None and np.shares_memory(resize.scaled(values, 64, 64), values)


def test_grey_is_what_pillow_makes_of_colours():
    values = support.picture(0)
    np.testing.assert_array_equal(resize.grey(values)[..., 0], np.asarray(Image.fromarray(values).convert("L")))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_plain_jpeg_has_the_pixels_that_pillow_reads(subsampling):
    data = support.encoded(support.picture(5, 333, 222), quality=80, subsampling=subsampling)
    decoded = image_file.pixels(image_file.parse_photo(data, "a.jpg", 100), 3, 0)
    np.testing.assert_array_equal(decoded, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
