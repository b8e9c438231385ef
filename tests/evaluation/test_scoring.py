import numpy as np

from crackflow.core.backend import tf
from crackflow.core.config.network import Architecture, Network
from crackflow.evaluation import scoring
from crackflow.model import networks
from crackflow.pipeline import tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from tests.helpers import small


class Brightness:
    """A stand-in for a model: the mean of each image is its logit."""

    @staticmethod
    def predict_on_batch(image):
        return tf.reduce_mean(tf.cast(image, tf.float32), [1, 2, 3]).numpy() - 128


def batches(size):
    return tfrecord_loader.eval_batches(small.data(), "test", BatchSpec(size, small.IMAGE_PX, 3))


def test_every_image_is_scored_once_whatever_the_batch_size():
    def brightness(image):
        return image.mean((1, 2, 3)) - 128

    single, batched = (scoring.predict_logits(Brightness, batches(size), brightness) for size in (1, 7))
    assert len(single[0]) == small.data().count("test")
    np.testing.assert_allclose(single[1], single[2], rtol=1e-4, atol=1e-4)
    for actual, expected in zip(single, batched, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_looks_are_taken_of_every_image_once():
    single, batched = (scoring.map_batches(lambda image: image.numpy().mean((1, 2)), batches(size)) for size in (1, 7))
    assert single.shape == (small.data().count("test"), 3)
    np.testing.assert_allclose(single, batched, rtol=1e-5)


def test_a_faster_network_has_more_images_a_second_and_all_have_as_many_windows():
    models = {}
    for name, width in (("narrow", 16), ("wide", 256)):
        design = Architecture(stem=width, widths=(width,), repeats=(0,))
        models[name] = networks.get_model_spec(Network.CUSTOM, design).build(64)
    throughput = scoring.measure_throughput(models, seconds=0.1, windows=3, compiled=False)
    assert throughput["narrow"].median > 2 * throughput["wide"].median > 0
    assert all(rate.low <= rate.median <= rate.high for rate in throughput.values())


def test_a_network_that_xla_compiles_is_measured_as_well():
    network = networks.get_model_spec(Network.CUSTOM, Architecture(stem=16, widths=(16,), repeats=(0,))).build(32)
    assert scoring.measure_throughput({"one": network}, 0.01, 1, compiled=True)["one"].median > 0


def test_the_best_accuracy_is_that_of_the_best_of_all_thresholds():
    rng = np.random.default_rng(0)
    for _ in range(50):
        labels, logits = rng.integers(0, 2, 9), rng.integers(-3, 4, 9).astype(float)  # with equal scores
        tried = [np.mean((logits >= cut) == labels) for cut in (*logits, np.inf)]
        assert scoring.best_accuracy(labels, logits) == max(tried)


def test_a_network_is_judged_at_its_own_threshold_not_at_one_half():
    labels = np.repeat([0, 1], 50)
    assert scoring.best_accuracy(labels, np.where(labels, 5.0, 4.0)) == 1.0


def test_every_image_comes_in_its_eight_orientations():
    corner = np.zeros((1, 4, 4, 1), np.uint8)
    corner[0, 0, 1] = 255  # in another place in each
    batch = tf.constant(corner), tf.constant([1]), tf.constant([1.0])
    turned = [image for image, label, weight in scoring.in_eight_orientations([batch])]
    assert len({image.tobytes() for image in turned}) == len(turned) == 8
    assert all(image.shape == corner.shape and image.sum() == 255 for image in turned)
