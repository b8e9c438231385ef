import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from crackflow.core.backend import load_addons, tf
from crackflow.core.config.augmentation import Augment, Augmentation
from crackflow.synthesis import concrete
from crackflow.training import augment, counter_rng
from tests.helpers.support import with_addons

SIZE = 24


def resample(image, params):
    """The affine map of `params` on float32 [B, H, H, C], through the four steps that augmentation compiles apart."""
    packed, side = augment.pack_channels(image), image.shape[1]
    corners = augment.gather_corners(packed, augment.source_indices(params, side))
    return augment.bilinear(corners, params, side, image.shape[3])


def random_images(count=16, size=SIZE, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), np.uint8)


def only(**strengths):
    """An augmentation of `strengths` alone."""
    return Augmentation(augment=Augment.NONE, **strengths).filled()


def sample(strengths, count=16, step=0, size=SIZE, channels=3):
    return augment.sample_params(strengths, counter_rng.per_example_keys(0, step, 0, count), size, channels)


def symmetries(picture):
    """The 8 flips and quarter turns of [H, H, C], computed by NumPy alone."""
    turns = [np.rot90(picture, k) for k in range(4)]
    return turns + [turn[:, ::-1] for turn in turns]


# Flips and quarter turns


def test_each_picture_becomes_one_of_its_eight_symmetries():
    image = random_images(size=6)
    for before, after in zip(image, augment.Augmenter(Augmentation(), 0, False)(image, 1).numpy(), strict=True):
        assert any(np.array_equal(after, symmetry) for symmetry in symmetries(before))


def test_all_eight_symmetries_come_alike_often():
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    changed = augment.Augmenter(Augmentation(), 0, False)(np.repeat(picture[None], 8000, 0), 7).numpy()
    counts = [sum(np.array_equal(image, symmetry) for image in changed) for symmetry in symmetries(picture)]
    assert sum(counts) == 8000
    assert 850 < min(counts) and max(counts) < 1150


@pytest.mark.parametrize("turn", range(8))
@pytest.mark.parametrize("size", [7, 8])
def test_the_matrix_of_a_turn_moves_pixels_where_the_exact_turn_does(turn, size):
    image = random_images(1, size)
    identity = sample(only(), 1, size=size)
    matrix = tf.constant(augment._ORIENTATIONS[turn : turn + 1])
    moved = resample(tf.cast(image, tf.float32), identity._replace(matrix=matrix))
    np.testing.assert_allclose(moved, augment.apply_d4(image, tf.constant([turn])).numpy(), atol=1e-3)


# Seeds


@pytest.mark.parametrize("preset", Augment)
def test_the_same_seed_and_step_give_the_same_pixels_and_others_give_others(preset):
    image = random_images()

    def changed(seed, step):
        return augment.Augmenter(Augmentation(augment=preset), seed, compiled=False)(image, step).numpy()

    np.testing.assert_array_equal(changed(3, 4), changed(3, 4))
    for changed_otherwise in (changed(3, 5), changed(2, 4)):
        assert np.array_equal(changed(3, 4), changed_otherwise) == (preset is Augment.NONE)


@pytest.mark.parametrize("replicas", [2, 4, 8])
def test_replicas_see_the_pictures_that_one_device_sees(replicas):
    image, label = random_images(), np.arange(16) % 2
    augmenter = augment.Augmenter(Augmentation(augment=Augment.STRONG, mixup=0.4), 1, compiled=True)
    batch, batch_label = augmenter.mixed(image, label, step=9)
    size = 16 // replicas
    for first in range(0, 16, size):
        part, part_label = augmenter.mixed(image[first : first + size], label[first : first + size], 9, first)
        np.testing.assert_array_equal(part, batch[first : first + size])
        np.testing.assert_array_equal(part_label, batch_label[first : first + size])


@pytest.mark.parametrize("preset", Augment)
@pytest.mark.parametrize("channels", [1, 3])
def test_xla_gives_the_same_pixels(preset, channels):
    image = random_images(channels=channels)
    augmentation = Augmentation(augment=preset)
    plain, compiled = (augment.Augmenter(augmentation, 5, compiled=each) for each in (False, True))
    difference = np.abs(plain(image, 2).numpy().astype(int) - compiled(image, 2).numpy())
    if preset in (Augment.NONE, Augment.D4):
        assert difference.max() == 0
    else:  # cosines and exponentials may differ in the last bit, and then a rounding
        assert difference.max() <= 1 and (difference > 0).mean() < 0.002


# Geometry


def sampled(picture, matrix, shift):
    """`resample` of a single image, by SciPy."""
    side = picture.shape[0]
    center = (side - 1) / 2
    y, x = np.indices((side, side), float) - center
    source_x = matrix[0, 0] * x + matrix[0, 1] * y + shift[0] + center
    source_y = matrix[1, 0] * x + matrix[1, 1] * y + shift[1] + center
    bands = [
        ndimage.map_coordinates(picture[..., band].astype(float), [source_y, source_x], order=1, mode="reflect")
        for band in range(picture.shape[2])
    ]
    return np.stack(bands, -1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.sampled_from([1, 3]))
def test_the_resampling_is_that_of_scipy_with_a_mirrored_border(step, size, channels):
    strengths = Augmentation(augment=Augment.D4, rotation=180.0, zoom=0.8, shear=0.3, shift=0.2).filled()
    image, params = random_images(2, size, channels, step), sample(strengths, 2, step, size, channels)
    result = resample(tf.cast(image, tf.float32), params).numpy()
    for k in range(2):
        expected = sampled(image[k], params.matrix[k].numpy(), params.shift[k].numpy())
        np.testing.assert_allclose(result[k], expected, atol=0.05)


def test_a_white_picture_stays_white_however_it_is_turned():
    strengths = Augmentation(augment=Augment.D4, rotation=180.0, zoom=1.0, shear=0.5, shift=0.5).filled()
    white = tf.fill([64, SIZE, SIZE, 3], 255.0)
    np.testing.assert_allclose(resample(white, sample(strengths, 64)), 255.0, atol=1e-3)


@pytest.mark.parametrize(
    "strengths, low, high",
    [
        ({"rotation": 30.0}, -30, 30),
        ({"rotation": 180.0}, -180, 180),
    ],
)
def test_rotation_is_drawn_from_the_whole_range(strengths, low, high):
    matrix = sample(only(**strengths), 4000).matrix.numpy()
    degrees = np.degrees(np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0]))
    assert low <= degrees.min() < 0.98 * low and 0.98 * high < degrees.max() <= high
    np.testing.assert_allclose(np.linalg.det(matrix), 1, atol=1e-5)


def test_zoom_changes_the_area_and_shear_does_not():
    zoomed = np.sqrt(np.linalg.det(sample(only(zoom=0.25), 4000).matrix.numpy()))
    assert 0.8 <= zoomed.min() < 0.81 and 1.24 < zoomed.max() <= 1.2501
    assert abs(np.log(zoomed).mean()) < 0.01
    np.testing.assert_allclose(np.linalg.det(sample(only(shear=0.5), 100).matrix.numpy()), 1, atol=1e-5)


def test_shift_is_a_share_of_the_side():
    shift = sample(only(shift=0.25), 4000).shift.numpy()
    assert np.abs(shift).max() <= 0.25 * SIZE and np.abs(shift).max() > 0.24 * SIZE


# Tones


def toned(image, params, strengths):
    """`augment.color_jitter` in NumPy, from the definitions."""
    x = image.astype(np.float64)
    weight = params.blur.numpy()[:, None, None, None]
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="symmetric")
    sides = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    x = (1 - 4 * weight) * x + weight * sides
    if image.shape[3] == 3:
        grey = (x @ [0.299, 0.587, 0.114])[..., None]
        x = grey + params.colour.numpy()[:, None, None, None] * (x - grey)
    x = x * params.scale.numpy()[:, None, None] + params.offset.numpy()[:, None, None, None]
    bright = (x @ [0.299, 0.587, 0.114])[..., None] if image.shape[3] == 3 else x
    exponent = params.gamma.numpy()[:, None, None, None] - 1
    return np.clip(x * np.clip(bright / 255, 1e-3, 1) ** exponent, 0, 255)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("preset", [Augment.STANDARD, Augment.STRONG])
def test_tones_are_those_of_the_definitions(preset, channels):
    strengths = Augmentation(augment=preset).filled()
    image, params = random_images(channels=channels), sample(strengths, channels=channels)
    expected = toned(image, params, strengths)
    np.testing.assert_allclose(augment.color_jitter(tf.constant(image), params, strengths), expected, atol=0.3)


@pytest.mark.parametrize(
    "name, strength, field, low, high",
    [
        ("contrast", 0.5, "scale", 1 / 1.5, 1.5),
        ("channel_gain", 0.25, "scale", 0.8, 1.25),
        ("gamma", 1.0, "gamma", 0.5, 2.0),
        ("brightness", 0.2, "offset", -51, 51),
        ("saturation", 0.3, "colour", 0.7, 1.3),
        ("blur", 0.2, "blur", 0, 0.2),
        ("sharpen", 0.1, "blur", -0.1, 0),
        ("noise", 8.0, "noise", 0, 8),
        ("mixup", 0.5, "mixup_weight", 0, 0.5),
    ],
)
def test_each_strength_is_the_end_of_what_is_drawn(name, strength, field, low, high):
    values = getattr(sample(only(**{name: strength}), 4000), field).numpy()
    slack = 0.01 * (high - low)
    assert low - 1e-4 <= values.min() < low + slack and high - slack < values.max() <= high + 1e-4


def test_contrast_leaves_the_middle_grey():
    strengths = only(contrast=1.0)
    center = tf.fill([64, 2, 2, 3], augment.MID_GREY)
    np.testing.assert_allclose(
        augment.color_jitter(center, sample(strengths, 64, size=2), strengths), augment.MID_GREY, atol=0.01
    )


def test_a_grey_picture_stays_grey_whatever_the_saturation():
    strengths = only(saturation=1.0)
    grey = np.repeat(random_images(channels=1), 3, axis=3)
    result = augment.color_jitter(tf.constant(grey), sample(strengths), strengths).numpy()
    np.testing.assert_allclose(result, grey, atol=0.01)


def test_a_blurred_white_picture_stays_white():
    strengths = only(blur=0.2, sharpen=0.5)
    white = tf.fill([16, SIZE, SIZE, 3], tf.constant(255, tf.uint8))
    np.testing.assert_allclose(augment.color_jitter(white, sample(strengths), strengths), 255.0, atol=1e-3)


# Noise, erasing, MixUp


def test_noise_has_the_deviation_that_was_drawn():
    strengths = only(noise=20.0)
    params = sample(strengths, 16, size=64)
    result = augment.noise_erase_mixup(tf.fill([16, 64, 64, 3], 128.0), params, strengths).numpy().astype(float)
    np.testing.assert_allclose(result.std((1, 2, 3)), np.hypot(params.noise, 1 / math.sqrt(12)), rtol=0.05, atol=0.1)
    np.testing.assert_allclose(result.mean((1, 2, 3)), 128.0, atol=1)


def test_erasing_fills_the_rectangle_that_was_drawn_and_nothing_else():
    strengths = only(erase=0.5)
    image, params = random_images(64), sample(strengths, 64)
    result = augment.noise_erase_mixup(tf.cast(image, tf.float32), params, strengths).numpy()
    erased = 0
    for k, (top, left, bottom, right) in enumerate(params.box.numpy()):
        assert (
            0 <= top <= bottom <= SIZE and 0 <= left <= right <= SIZE and max(bottom - top, right - left) <= 0.5 * SIZE
        )
        inside = np.zeros((SIZE, SIZE), bool)
        centres = np.arange(SIZE) + 0.5
        inside[np.ix_((centres > top) & (centres < bottom), (centres > left) & (centres < right))] = True
        np.testing.assert_array_equal(result[k][~inside], image[k][~inside])
        assert (np.abs(result[k][inside] - params.fill[k].numpy()) <= 0.5).all()
        erased += inside.any()
        assert not inside.any() or min(bottom - top, right - left) >= 0.25 * SIZE  # never as thin as a crack
    assert 16 < erased < 48


def test_mixup_mixes_neighbours_and_their_labels_alike():
    image, label = random_images(), np.arange(16) % 2
    augmentation = only(mixup=0.5)
    result, mixed = augment.Augmenter(augmentation, 3, compiled=False).mixed(image, label, step=4)
    weight = augment.sample_params(
        augmentation, counter_rng.per_example_keys(3, 4, 0, 16), SIZE, 3
    ).mixup_weight.numpy()
    partner = np.arange(16) ^ 1
    np.testing.assert_allclose(mixed, (1 - weight) * label + weight * label[partner], rtol=1e-5)
    weights = weight[:, None, None, None]
    np.testing.assert_allclose(result, (1 - weights) * image + weights * image[partner], atol=0.51)


def test_a_batch_in_parts_is_the_same_as_in_one():
    image = random_images(2 * augment.CHUNK)
    augmenter = augment.Augmenter(Augmentation(augment=Augment.STRONG, mixup=0.3), 2, compiled=True)
    parts = augmenter(image, 5).numpy()
    augmenter._on_gpu = True  # where the whole batch goes through at once
    np.testing.assert_array_equal(augmenter(image, 5).numpy(), parts)


def test_nothing_asked_for_changes_nothing():
    image, label = random_images(), np.arange(16) % 2
    result, same = augment.Augmenter(Augmentation(augment=Augment.NONE), 0, True).mixed(image, label, 3)
    np.testing.assert_array_equal(result, image)
    np.testing.assert_array_equal(same, label)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Augmentation) if field.name != "augment"])
def test_each_strength_alone_changes_pictures(field):
    result = augment.Augmenter(only(**{field: 0.2}), 0, compiled=False)(random_images(), 1).numpy()
    assert result.dtype == np.uint8 and not np.array_equal(result, random_images())


# Against tensorflow-addons


@with_addons
def test_a_rotation_is_that_of_tensorflow_addons():
    image, params = random_images(), sample(only(rotation=180.0))
    angle = np.arctan2(params.matrix[:, 1, 0], params.matrix[:, 0, 0])
    expected = load_addons().image.rotate(tf.cast(image, tf.float32), angle, "bilinear", fill_mode="reflect")
    np.testing.assert_allclose(resample(tf.cast(image, tf.float32), params), expected, atol=0.05)


@with_addons
def test_all_of_the_geometry_is_tensorflow_addons_one_transform():
    strengths = Augmentation(augment=Augment.STRONG).filled()
    image, params = random_images(), sample(strengths)
    matrix, shift = params.matrix.numpy(), params.shift.numpy()
    center = np.full(2, (SIZE - 1) / 2)
    offset = shift + center - matrix @ center
    rows = np.concatenate([matrix[:, 0], offset[:, :1], matrix[:, 1], offset[:, 1:], np.zeros((16, 2))], 1)
    transform = load_addons().image.transform
    expected = transform(tf.cast(image, tf.float32), rows.astype(np.float32), "bilinear", fill_mode="reflect")
    np.testing.assert_allclose(resample(tf.cast(image, tf.float32), params), expected, atol=0.05)


@with_addons
def test_a_shift_is_that_of_tensorflow_addons():
    image, params = random_images(), sample(only(shift=0.3))
    translate = load_addons().image.translate
    expected = translate(tf.cast(image, tf.float32), -params.shift, "bilinear", fill_mode="reflect")
    np.testing.assert_allclose(resample(tf.cast(image, tf.float32), params), expected, atol=0.05)


# Labels


def erased(params, size):
    centres = np.arange(size) + 0.5
    top, left, bottom, right = params.box.numpy().T[..., None]
    rows, columns = (centres > top) & (centres < bottom), (centres > left) & (centres < right)
    return (rows[:, :, None] & columns[:, None])[..., None]


def crack_contrast(image, mask):
    """The distance of the crack's mean grey level from that of the surface beside it, for each image."""
    contrasts = []
    for grey, crack in zip(image.astype(float).mean(-1), mask[..., 0] > 0.5, strict=True):
        beside = ndimage.binary_dilation(crack, iterations=5) & ~ndimage.binary_dilation(crack, iterations=2)
        contrasts.append(abs(grey[crack].mean() - grey[beside].mean()) if crack.any() and beside.any() else np.nan)
    return np.array(contrasts)


@pytest.mark.parametrize(
    "preset, share, contrast", [(Augment.D4, 0.999, 0.999), (Augment.STANDARD, 0.3, 0.45), (Augment.STRONG, 0.2, 0.3)]
)
def test_a_crack_stays_in_the_picture_and_visible(preset, share, contrast):
    """In 99.5 % of images at least this fraction of the crack's area and contrast remains, hairlines included."""
    size, examples = 128, [concrete.draw_example(3, 2 * index + 1, 128) for index in range(100)]
    image = np.stack([example.image for example in examples])
    mask = np.stack([example.mask for example in examples])[..., None] / np.float32(255)
    before, area_fractions, contrast_fractions = crack_contrast(image, mask), [], []
    augmenter = augment.Augmenter(Augmentation(augment=preset), 0, compiled=True)
    for step in range(4):
        params = augment.sample_params(
            augmenter.strengths, counter_rng.per_example_keys(0, step, 0, len(examples)), size, 3
        )
        moved = resample(mask, params).numpy() * ~erased(params, size)
        area = 1 / np.abs(np.linalg.det(params.matrix.numpy()))
        area_fractions.append(moved.sum((1, 2, 3)) / mask.sum((1, 2, 3)) / area)
        contrast_fractions.append(crack_contrast(augmenter(image, step).numpy(), moved) / before)
    assert np.quantile(area_fractions, 0.005) > share
    assert np.nanquantile(contrast_fractions, 0.005) > contrast


def test_a_hairline_of_one_pixel_survives_the_strongest_zoom_out():
    strengths = only(zoom=0.3)
    line = np.full((1, 128, 128, 3), 200, np.uint8)
    line[:, :, 64] = 40
    widest = np.eye(2, dtype=np.float32)[None] * 1.3
    for shift in np.linspace(0, 1.3, 14):
        params = sample(strengths, 1, size=128)._replace(
            matrix=tf.constant(widest), shift=tf.constant([[shift, 0]], tf.float32)
        )
        darkest = resample(tf.cast(line, tf.float32), params).numpy().min()
        assert 200 - darkest > 0.34 * 160  # samples 1.3 px apart: one is at most 0.65 px off the line
