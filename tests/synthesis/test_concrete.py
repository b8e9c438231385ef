import errno
import functools
import io
import os

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from crackflow.synthesis import concrete, cracks, surfaces

PX = 64


@pytest.fixture(scope="module")
def many():
    return [concrete.draw_example(7, index, PX) for index in range(260)]


def area_under_curve(negative, positive):
    return stats.mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative))


@pytest.mark.parametrize("image_px", [32, 101, 227])
def test_an_example_has_the_promised_arrays(image_px):
    for index in range(6):
        example = concrete.draw_example(0, index, image_px)
        assert example.image.shape == (image_px, image_px, 3) and example.image.dtype == np.uint8
        assert example.mask.shape == (image_px, image_px) and example.mask.dtype == np.uint8
        assert example.label == index % 2


def test_whole_surfaces_have_an_empty_mask(many):
    assert not any(example.mask.any() for example in many[::2])


def test_every_crack_can_be_seen(many):
    assert all(cracks.is_visible(example.image, example.mask) for example in many[1::2])
    fractions = [np.mean(example.mask > 0) for example in many[1::2]]
    assert min(fractions) >= cracks.MIN_MASK_FRACTION
    assert np.mean(np.array(fractions) >= 0.005) >= 0.97  # the fraction from which convert calls a window cracked


def test_seed_and_index_alone_decide_the_bytes():
    first = [concrete.draw_example(3, index, PX) for index in (0, 1, 5)]
    again = [concrete.draw_example(3, index, PX) for index in (5, 1, 0)][::-1]
    for example, repeated in zip(first, again, strict=True):
        assert concrete.jpeg(example) == concrete.jpeg(repeated)
        assert concrete.png(example) == concrete.png(repeated)


def test_other_seeds_and_other_indices_are_other_pictures():
    pictures = {concrete.draw_example(seed, index, 32).image.tobytes() for seed in (0, 1, 2**40) for index in range(20)}
    assert len(pictures) == 60


@pytest.mark.parametrize("measure", ["mean", "median", "maximum", "file size", "jpeg quality", "red against blue"])
def test_nothing_but_the_crack_tells_the_classes_apart(many, measure):
    measured = {
        "mean": lambda example: example.image.mean(),
        "median": lambda example: np.median(example.image),
        "maximum": lambda example: example.image.max(),
        "file size": lambda example: len(concrete.jpeg(example)),
        "jpeg quality": lambda example: example.jpeg_quality,
        "red against blue": lambda example: np.mean(example.image[..., 0] - np.float32(example.image[..., 2])),
    }[measure]
    values = [measured(example) for example in many]
    assert 0.36 < area_under_curve(values[::2], values[1::2]) < 0.68


def test_the_crack_has_no_say_in_surface_light_and_camera(monkeypatch):
    nothing = np.zeros((PX, PX), np.float32)
    none = cracks.Crack(nothing, 1.0, surfaces.shades(1, 1, 1), nothing, nothing.astype(np.uint8))
    monkeypatch.setattr(cracks, "is_visible", lambda image, mask: True)
    monkeypatch.setattr(cracks, "draw", lambda rng, image_px, boldness: none)
    untouched = concrete.draw_example(0, 1, PX)
    monkeypatch.setattr(cracks, "draw", lambda rng, image_px, boldness: rng.bytes(1000) and none)
    assert np.array_equal(concrete.draw_example(0, 1, PX).image, untouched.image)
    assert concrete.draw_example(0, 1, PX).jpeg_quality == untouched.jpeg_quality


def test_a_crack_that_cannot_be_seen_is_drawn_again_bolder(monkeypatch):
    attempts, draw = [], cracks.draw
    monkeypatch.setattr(cracks, "draw", lambda *args, boldness: attempts.append(boldness) or draw(*args, boldness))
    monkeypatch.setattr(cracks, "is_visible", lambda image, mask: len(attempts) == 4)
    concrete.draw_example(0, 1, PX)
    assert attempts == [attempt / (concrete.ATTEMPTS - 1) for attempt in range(4)]


def test_a_crack_that_can_never_be_seen_is_an_error_that_names_the_image(monkeypatch):
    monkeypatch.setattr(cracks, "is_visible", lambda image, mask: False)
    with pytest.raises(RuntimeError, match=r"seed 5, index 3, 64 px: no visible crack in 8 attempts"):
        concrete.draw_example(5, 3, PX)


def test_light_is_smooth_and_near_one():
    for seed in range(30):
        light = concrete.light(np.random.default_rng(seed), PX)
        assert light.shape == (PX, PX) and light.dtype == np.float32
        assert 0.3 < light.min() and light.max() < 1.4
        assert np.abs(np.diff(light)).max() < 0.2


def test_the_jpeg_has_the_quality_of_its_camera_and_the_picture_of_its_example(many):
    for example in many[:20]:
        decoded = Image.open(io.BytesIO(concrete.jpeg(example)))
        same = io.BytesIO()
        Image.new("RGB", (8, 8)).save(same, "JPEG", quality=example.jpeg_quality)
        assert decoded.quantization == Image.open(same).quantization
        assert np.abs(np.asarray(decoded, np.float32) - example.image).mean() < 6


def test_the_png_gives_the_mask_back(many):
    for example in many[1:20:2]:
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(concrete.png(example))).convert("L")), example.mask)


def folders(folder):
    for name in (concrete.POSITIVE, concrete.NEGATIVE, concrete.MASKS):
        os.mkdir(folder / name)
    return str(folder)


def batch(folder, seed, start, stop):
    return concrete.Batch(folder, functools.partial(concrete.draw_example, seed=seed, image_px=32), start, stop)


def test_a_batch_is_written_under_the_names_of_its_indices(tmp_path):
    assert concrete.write_images(batch(folders(tmp_path), 2, 9, 12)) == 3
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert names == ["Negative/00000010.jpg", "Positive/00000009.jpg", "Positive/00000011.jpg"] + [
        "masks/00000009.png",
        "masks/00000011.png",
    ]
    assert (tmp_path / "Positive/00000009.jpg").read_bytes() == concrete.jpeg(concrete.draw_example(2, 9, 32))


def test_a_full_disk_is_reported_as_such(tmp_path):
    folder = folders(tmp_path)
    os.symlink("/dev/full", tmp_path / "Negative" / "00000000.jpg")
    with pytest.raises(OSError, match="No space left on device") as caught:
        concrete.write_images(batch(folder, 0, 0, 1))
    assert caught.value.errno == errno.ENOSPC
