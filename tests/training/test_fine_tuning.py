import numpy as np
import pytest

from crackflow.core.backend import keras
from crackflow.core.config.adapt import FineTuning
from crackflow.core.config.augmentation import Augment, Augmentation
from crackflow.core.config.network import Network
from crackflow.core.errors import UserError
from crackflow.model import networks
from crackflow.training import fine_tuning

SETTINGS = FineTuning(steps=30, batch_size=8, learning_rate=0.01, augmentation=Augmentation(augment=Augment.D4))


@pytest.fixture(scope="module")
def windows():
    """Twenty windows of noise; the cracked ones have a dark bar."""
    random = np.random.default_rng(0)
    images = random.integers(100, 200, (20, 32, 32, 3), np.uint8)
    labels = np.arange(20) % 2
    images[labels == 1, :, 14:18] = 10
    return images, labels


@pytest.fixture
def network(windows):
    """With statistics of BatchNorm as after a training."""
    keras.utils.set_random_seed(0)
    built = networks.NETWORKS[Network.CRACKFLOW_XS].build(32)
    for _ in range(60):
        built(windows[0], training=True)
    return built


def test_a_network_learns_a_few_windows(network, windows):
    tuner = fine_tuning.FineTuner(network, SETTINGS)
    tuner.fit(*windows, seed=0)
    np.testing.assert_array_equal(tuner.scores(windows[0]) > 0, windows[1] == 1)


def test_a_shift_moves_every_logit_as_far_until_the_weights_are_put_back(network, windows):
    tuner = fine_tuning.FineTuner(network, SETTINGS)
    before = tuner.scores(windows[0])
    tuner.shift(-1.5)
    np.testing.assert_allclose(tuner.scores(windows[0]), before - 1.5, atol=1e-5)
    tuner.restore()
    np.testing.assert_array_equal(tuner.scores(windows[0]), before)


def test_a_network_whose_logits_can_not_be_moved_is_refused():
    image = keras.Input((32, 32, 3), dtype="uint8")
    pooled = keras.layers.GlobalMaxPooling2D()(keras.layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, keras.layers.Reshape(())(keras.layers.Dense(1, use_bias=False)(pooled)))
    with pytest.raises(UserError, match="expected a network that ends in a dense layer of one unit with a bias"):
        fine_tuning.FineTuner(model, SETTINGS)


def test_the_statistics_of_batchnorm_stay(network, windows):
    before = [weight.numpy() for weight in network.non_trainable_weights]
    fine_tuning.FineTuner(network, SETTINGS).fit(*windows, seed=0)
    for old, new in zip(before, network.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


def test_each_fit_begins_from_the_same_weights_and_repeats(network, windows):
    tuner = fine_tuning.FineTuner(network, SETTINGS)
    own = tuner.scores(windows[0])
    tuner.fit(*windows, seed=3)
    first = tuner.scores(windows[0])
    tuner.fit(*windows, seed=4)
    assert np.abs(tuner.scores(windows[0]) - first).max() > 1e-4
    tuner.fit(*windows, seed=3)
    np.testing.assert_allclose(tuner.scores(windows[0]), first, atol=1e-4)
    tuner.restore()
    np.testing.assert_array_equal(tuner.scores(windows[0]), own)


def test_batches_are_half_cracked_and_use_every_window_before_any_again():
    labels = np.array([0] * 6 + [1] * 3)
    batches = fine_tuning._balanced_batches(labels, 4, seed=0)
    rows = np.array([next(batches) for _ in range(3)])
    assert (labels[rows].sum(1) == 2).all()
    assert sorted(rows[labels[rows] == 0]) == [0, 1, 2, 3, 4, 5]
    assert sorted(rows[labels[rows] == 1]) == [6, 6, 7, 7, 8, 8]


def test_images_to_remember_come_with_each_batch_and_count(network, windows):
    """The windows say nothing of bright bars; the remembered images do."""
    images, labels = windows
    remembered = images.copy()
    remembered[labels == 1, :, 14:18] = 250

    def margin(replay):
        tuner = fine_tuning.FineTuner(network, SETTINGS, replay)
        tuner.fit(images, labels, seed=0)
        scores = tuner.scores(remembered)
        tuner.restore()
        return scores[labels == 1].mean() - scores[labels == 0].mean()

    assert margin((remembered, labels)) > margin(None) + 0.1
    tuner = fine_tuning.FineTuner(network, SETTINGS, (remembered, labels))
    batch, batch_labels = next(tuner._batches(images, labels, 0))
    assert len(batch) == 12 and batch_labels.sum() == 6 and batch_labels[8:].tolist() == [0, 0, 1, 1]


def test_no_windows_have_no_scores(network):
    assert fine_tuning.FineTuner(network, SETTINGS).scores(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0,)


def test_the_steps_of_a_fit_grow_with_the_root_of_the_windows_unless_they_are_given():
    assert [FineTuning().steps_for(count) for count in (20, 40, 160, 1000)] == [50, 50, 100, 250]
    assert FineTuning(steps=7).steps_for(1000) == 7


def test_the_learning_rate_falls_along_half_a_cosine(network, windows):
    rates = []

    class Noting(fine_tuning.FineTuner):
        def _batches(self, *arguments):
            for batch in super()._batches(*arguments):
                rates.append(float(self._optimizer.learning_rate))  # of the step before
                yield batch

    Noting(network, SETTINGS).fit(*windows, seed=0)
    expected = 0.01 * (1 + np.cos(np.pi * np.arange(30) / 30)) / 2
    np.testing.assert_allclose(rates[1:], expected[:29], rtol=1e-5)  # the last one is not asked for
