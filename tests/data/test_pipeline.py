import collections
import io

import numpy as np
import pytest
from PIL import Image

from crackflow.core.backend import tf
from crackflow.core.errors import UserError
from crackflow.data import images, pipeline
from tests import small, support

PX = small.IMAGE_PX


def fingerprints(batches, steps):
    """A hash for each image of the first `steps` batches, in order."""
    return [one.tobytes() for image, _ in batches.take(steps).as_numpy_iterator() for one in image]


def test_training_batches_have_the_promised_spec():
    batches = pipeline.train_batches(small.data(), batch_size=8, image_px=PX, channels=3, seed=0)
    assert batches.element_spec == (
        tf.TensorSpec((8, PX, PX, 3), tf.uint8),
        tf.TensorSpec((8,), tf.int32),
    )


def test_evaluation_batches_have_the_promised_spec():
    batches = pipeline.eval_batches(small.data(), "test", 5, PX, 1)
    assert batches.element_spec == (
        tf.TensorSpec((5, PX, PX, 1), tf.uint8),
        tf.TensorSpec((5,), tf.int32),
        tf.TensorSpec((5,), tf.float32),
    )


def test_an_epoch_of_whole_batches_holds_each_image_once():
    made = small.data()
    count = made.count("train")
    seen = fingerprints(pipeline.train_batches(made, 8, PX, 3, seed=3), count // 8)
    assert len(seen) == count == len(set(seen))


def test_the_order_depends_on_the_seed_alone():
    made = small.data()
    steps = 2 * made.count("train") // 8
    first, again, other = (fingerprints(pipeline.train_batches(made, 8, PX, 3, seed), steps) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_second_epoch_has_another_order():
    made = small.data()
    count = made.count("train")
    seen = fingerprints(pipeline.train_batches(made, 8, PX, 3, seed=0), 2 * count // 8)
    assert seen[:count] != seen[count:]
    assert collections.Counter(seen[:count]) == collections.Counter(seen[count:])


@pytest.mark.parametrize("batch_size", [1, 5, 16, 100])
def test_evaluation_sees_each_image_once_whatever_the_batch_size(batch_size):
    made = small.data()
    batches = pipeline.eval_batches(made, "test", batch_size, PX, 3)
    weights = np.concatenate([weight for _, _, weight in batches.as_numpy_iterator()])
    seen = [one.tobytes() for image, _, weight in batches.as_numpy_iterator() for one in image[weight > 0]]
    assert weights.sum() == made.count("test") == len(set(seen))


def test_identities_are_in_the_order_of_the_evaluation():
    made = small.data()
    paths, groups = pipeline.identities(made, "val")
    labels = np.concatenate([y[w > 0] for _, y, w in pipeline.eval_batches(made, "val", 7, PX, 3).as_numpy_iterator()])
    assert [int(path.startswith("Positive")) for path in paths] == labels.tolist()
    assert len(groups) == made.count("val")


def test_pixels_are_those_of_the_source_file():
    made = small.data()
    image, _, _ = next(pipeline.eval_batches(made, "val", 1, PX, 3).as_numpy_iterator())
    paths, _ = pipeline.identities(made, "val")
    with Image.open(small.images() / paths[0]) as source:
        difference = np.abs(np.asarray(source.convert("RGB"), int) - image[0].astype(int))
    assert difference.max() <= 1  # two builds of libjpeg may round chroma differently


def test_raw_and_png_and_jpeg_records_give_the_same_pictures():
    def pictures(encoding):
        made = small.data(encoding)
        paths, _ = pipeline.identities(made, "test")
        found = pipeline.eval_batches(made, "test", 1, PX, 3).as_numpy_iterator()
        return {path: image[0].astype(int) for path, (image, _, _) in zip(paths, found, strict=True)}

    raw, png, jpeg = pictures("raw"), pictures("png"), pictures("jpeg")
    for path, picture in raw.items():
        np.testing.assert_array_equal(picture, png[path])
        assert np.abs(picture - jpeg[path]).max() <= 1


@pytest.mark.parametrize("image_px", [16, 40, 64, 97, 130])
def test_the_graph_resizes_as_the_converter_does(image_px):
    source = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    ours = images.resize_array(source, image_px).astype(int)
    graph = pipeline.to_size(tf.constant(source), image_px).numpy().astype(int)
    assert graph.shape == ours.shape == (image_px, image_px, 3)
    assert np.abs(ours - graph).max() <= 1


def test_a_grey_network_reads_colour_records():
    made = small.data("raw")
    colour, _, _ = next(pipeline.eval_batches(made, "val", 4, PX, 3).as_numpy_iterator())
    grey, _, _ = next(pipeline.eval_batches(made, "val", 4, PX, 1).as_numpy_iterator())
    expected = np.asarray([np.asarray(Image.fromarray(one).convert("L")) for one in colour])
    assert np.abs(grey[..., 0].astype(int) - expected).max() <= 1


def test_an_empty_split_is_a_clear_error():
    with pytest.raises(UserError, match="expected images in the split 'nowhere', found none"):
        pipeline.eval_batches(small.data(), "nowhere", 4, PX, 3)


def test_an_epoch_has_one_step_at_least():
    assert pipeline.steps(100, 32) == 3
    assert pipeline.steps(5, 32) == 1


def test_a_grey_jpeg_is_shown_to_a_colour_network_in_three_equal_channels():
    buffer = io.BytesIO()
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(buffer, "JPEG")
    image = pipeline.decode(tf.constant([buffer.getvalue()]), "jpeg", 16, 1, 16, 3)[0].numpy()
    assert image.shape == (16, 16, 3)
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_two_epochs_hold_each_image_twice_in_another_order_and_the_same_for_the_same_seed():
    made = small.data()
    count = made.count("train")
    seen = fingerprints(pipeline.train_batches(made, 8, PX, 3, seed=3), 2 * count // 8)
    again = fingerprints(pipeline.train_batches(made, 8, PX, 3, seed=3), 2 * count // 8)
    assert len(set(seen[:count])) == count and set(seen[:count]) == set(seen[count:])
    assert seen == again and seen[:count] != seen[count:]


@pytest.mark.parametrize("image_px", [24, 48])
def test_pictures_of_one_size_are_resized_as_single_ones(image_px):
    files = [support.encoded(support.picture(seed, 32, 32)) for seed in range(3)]
    together = pipeline.decode(tf.constant(files), "jpeg", 32, 3, image_px, 3)
    single = pipeline.decode(tf.constant(files), "jpeg", 0, 3, image_px, 3)
    np.testing.assert_array_equal(together.numpy(), single.numpy())


def resident_mb():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1e3 for line in file if line.startswith("VmRSS:"))


def test_memory_stays_flat_over_twenty_epochs():
    made, large = small.data(), 256  # enlarged, so that an epoch that was kept would be seen: 14 MB each
    epoch = made.count("train") // 8
    batches = iter(pipeline.train_batches(made, 8, large, 3, seed=0))
    levels = []
    for _ in range(20):
        for _ in range(epoch):
            next(batches)
        levels.append(resident_mb())
    assert levels[-1] - levels[4] < 40, levels
