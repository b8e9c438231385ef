import gc
import io

import numpy as np
import pytest
from PIL import Image

from crackflow.core.backend import tf
from crackflow.data import resize
from crackflow.pipeline import decode
from tests.helpers import support


def decoded_array(data, shape, encoding="jpeg", exact=True):
    out = np.zeros(shape, np.uint8)
    decode.decode_into(out, data, encoding, exact)
    return out


def test_an_array_is_given_out_again_when_nobody_holds_it():
    batches = decode.BufferPool([2, 5, 5, 3])
    first = batches.acquire()
    second = batches.acquire()
    assert not np.shares_memory(first, second)
    first[...] = 7
    part = first[0]
    del first
    gc.collect()
    third = batches.acquire()
    assert not np.shares_memory(part, third)
    del part
    gc.collect()
    assert np.all(batches.acquire() == 7)


def test_tensorflow_takes_an_array_without_a_copy():
    batches = decode.BufferPool([1, 5, 5, 3])
    array = batches.acquire()
    assert array.ctypes.data % decode.ALIGNMENT == 0
    numbers = tf.data.Dataset.range(1)
    (tensor,) = numbers.map(lambda _: tf.numpy_function(lambda: array, [], tf.uint8))
    array[...] = 9
    assert np.all(tensor.numpy() == 9)


@pytest.mark.parametrize("channels", [1, 3])
def test_exact_pixels_are_those_that_pillow_and_the_graph_decode(channels):
    data = support.encoded(support.picture(0, 40, 40))
    decoded = decoded_array(data, (40, 40, channels)).astype(int)
    graph = decode.decode(tf.constant([data]), "jpeg", 40, 40, channels)[0].numpy().astype(int)
    with Image.open(io.BytesIO(data)) as source:
        pillow = np.asarray(source.convert("L" if channels == 1 else "RGB"), int).reshape(decoded.shape)
    assert np.abs(decoded - graph).max() <= 1
    if channels == 3:
        assert np.abs(decoded - pillow).max() <= 1


def test_repeated_colours_change_little_and_leave_the_brightness():
    random = np.random.default_rng(0)
    smooth = np.asarray(Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).resize((64, 64)))
    data = support.encoded(smooth)
    exact, quick = (decoded_array(data, (64, 64, 3), exact=is_exact).astype(float) for is_exact in (True, False))
    assert 0 < np.sqrt(np.mean((exact - quick) ** 2)) < 10  # gaudy; concrete differs by 0.2
    luma = [0.299, 0.587, 0.114]
    assert np.sqrt(np.mean(((exact - quick) @ luma) ** 2)) < 1


def test_raw_pixels_are_copied():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    np.testing.assert_array_equal(decoded_array(pixels.tobytes(), (4, 4, 3), "raw"), pixels)
    with pytest.raises(ValueError, match="expected 48 bytes of pixels, found 47"):
        decoded_array(pixels.tobytes()[1:], (4, 4, 3), "raw")


def test_an_image_of_another_size_is_refused():
    data = support.encoded(support.picture(0, 32, 32))
    with pytest.raises(ValueError, match="expected 40 x 40 pixels, found 32 x 32"):
        decoded_array(data, (40, 40, 3))
    with pytest.raises(ValueError, match="too small to decode"):
        decoded_array(data, (16, 16, 3))


def test_damaged_bytes_are_refused():
    data = support.encoded(support.picture(0, 32, 32))
    with pytest.raises(ValueError):
        decoded_array(b"\xff\xd8" + data[200:], (32, 32, 3))


def test_a_grey_jpeg_is_shown_to_a_colour_network_in_three_equal_channels():
    grey = support.encoded(np.arange(256, dtype=np.uint8).reshape(16, 16))
    for image in (decode.decode(tf.constant([grey]), "jpeg", 16, 16, 3)[0].numpy(), decoded_array(grey, (16, 16, 3))):
        assert image.shape == (16, 16, 3)
        np.testing.assert_array_equal(image[..., 0], image[..., 2])


@pytest.mark.parametrize("image_px", [24, 48])
def test_pictures_of_one_size_are_resized_as_single_ones(image_px):
    files = [support.encoded(support.picture(seed, 32, 32)) for seed in range(3)]
    together = decode.decode(tf.constant(files), "jpeg", 32, image_px, 3)
    single = decode.decode(tf.constant(files), "jpeg", 0, image_px, 3)
    np.testing.assert_array_equal(together.numpy(), single.numpy())


@pytest.mark.parametrize("image_px", [16, 40, 64, 72, 80, 97, 130])
def test_the_graph_resizes_as_the_converter_does(image_px):
    source = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    converted = resize.resize_array(source, image_px).astype(int)
    graph = decode.to_size(tf.constant(source), image_px).numpy().astype(int)
    assert graph.shape == converted.shape == (image_px, image_px, 3)
    assert np.abs(converted - graph).max() <= 1


@pytest.mark.parametrize("shape", [(100, 1000), (1000, 100)])
def test_no_line_is_lost_in_a_strip_that_shrinks_along_one_side(shape):
    strip = np.full((*shape, 3), 200, np.uint8)
    lines = 37 + 100 * np.arange(10)
    np.moveaxis(strip, int(shape[1] > shape[0]), 0)[lines] = 20
    expected = resize.scaled(strip, 128, 128)
    graph = decode.to_size(tf.constant(strip), 128).numpy().astype(int)
    for image in (graph, resize.resize_array(strip, 128).astype(int)):
        assert np.abs(image - expected.astype(int)).max() <= 1
    dark = expected.min(int(shape[1] < shape[0]))[:, 0] < 190
    assert np.count_nonzero(np.diff(dark.astype(int)) == 1) == 10
