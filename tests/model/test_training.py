import math

import numpy as np
import pytest
from sklearn.metrics import log_loss

from crackflow.core.backend import keras, tf
from crackflow.core.config import Augment, Network, TrainConfig
from crackflow.model import networks, training


def config(**changes):
    return TrainConfig(data="d", run_dir="r", **changes)


def small_model(**changes):
    keras.utils.set_random_seed(0)
    return training.trainable(networks.NETWORKS[Network.CRACKFLOW_S].build(32), config(**changes), 20, xla=False)


def batch(count=8, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 32, 32, 3), np.uint8), random.integers(0, 2, count).astype(np.int32)


def test_the_rate_climbs_to_its_peak_and_falls_to_nothing():
    schedule = training.WarmupCosine(0.5, warmup=10, total=110)
    rates = np.array([float(schedule(step)) for step in range(111)])
    assert rates[9] == pytest.approx(0.5)
    assert (np.diff(rates[:10]) > 0).all() and (np.diff(rates[10:]) < 0).all()
    assert rates[60] == pytest.approx(0.25)
    assert rates[110] == pytest.approx(0, abs=1e-6)


def test_a_schedule_without_warm_up_starts_at_its_peak():
    assert float(training.WarmupCosine(0.5, warmup=0, total=10)(0)) == pytest.approx(0.5)


def test_the_loss_is_the_cross_entropy_of_the_smoothed_labels():
    logits, labels, s = np.array([-3.0, 0.5, 8.0], np.float32), np.array([0, 1, 1]), 0.1
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    target = labels * (1 - s) + s / 2
    expected = -(target * np.log(p) + (1 - target) * np.log(1 - p))
    np.testing.assert_allclose(training.losses(labels, logits, s), expected, rtol=1e-5)


def test_a_confident_half_precision_logit_has_a_finite_float32_loss():
    loss = training.losses(tf.constant([0]), tf.constant([6e4], tf.float16), 0.0)
    assert loss.dtype == tf.float32 and math.isfinite(float(loss[0]))


def test_the_train_step_is_traced_once():
    model = small_model()
    traces = []
    step = model.train_step
    model.train_step = lambda data: traces.append(1) or step(data)
    model.fit(*batch(32), batch_size=8, epochs=3, verbose=0)
    assert len(traces) == 1


def test_padding_has_no_say_in_the_validation_figures():
    model = small_model(label_smoothing=0.0)
    image, label = batch(6)
    weight = np.array([1, 1, 1, 1, 0, 0], np.float32)
    stream = tf.data.Dataset.from_tensors((image, label, weight))
    measured = model.evaluate(stream, return_dict=True, verbose=0)
    logits = model(image[:4], training=False).numpy()
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert measured["loss"] == pytest.approx(log_loss(label[:4], p, labels=[0, 1]), rel=1e-4)
    assert measured["accuracy"] == pytest.approx(np.mean((logits > 0) == label[:4]))


def test_a_few_steps_learn_a_few_pictures():
    model = small_model(augment=Augment.NONE, learning_rate=3e-3)
    image, label = batch(16)
    stream = tf.data.Dataset.from_tensors((image, label)).repeat()
    history = model.fit(stream, steps_per_epoch=20, epochs=1, verbose=0).history
    after = model.evaluate(tf.data.Dataset.from_tensors((image, label, np.ones(16, np.float32))), verbose=0)[0]
    assert history["loss"][0] < 0.8
    assert set(history) == {"loss", "accuracy"}
    assert math.isfinite(after)


def test_kernels_decay_and_norms_and_biases_do_not():
    model = small_model()
    model.optimizer.build(model.trainable_variables)
    decaying = {v.name for v in model.trainable_variables if model.optimizer._use_weight_decay(v)}
    others = {v.name for v in model.trainable_variables} - decaying
    assert decaying and all("kernel" in name for name in decaying)
    assert others and not any("kernel" in name for name in others)
