import math

import numpy as np
import pytest
from sklearn.metrics import log_loss

from crackflow.core.backend import keras, tf
from crackflow.core.config.augmentation import Augment, Augmentation
from crackflow.core.config.network import Architecture, Network, Padding
from crackflow.core.config.training import Loss, Optimization, Optimizer, TrainConfig
from crackflow.data import mask_grid
from crackflow.model import mask_head, model_file, networks, structure
from crackflow.training import losses, trainer
from tests.helpers import small

PLAIN = Augmentation(augment=Augment.NONE)


def config(augmentation=PLAIN, batch_size=8, steps_per_execution=0, **changes):
    return TrainConfig(
        data="d",
        run_dir="r",
        augmentation=augmentation,
        batch_size=batch_size,
        steps_per_execution=steps_per_execution,
        optimization=Optimization(**{"rate_batch": 0} | changes),
    )


def small_model(name=None, xla="off", steps=20, **changes):
    keras.utils.set_random_seed(0)
    network = networks.NETWORKS[name].build(32) if name else small.tiny_network()
    return trainer.compile_trainer(network, config(**changes), steps, xla)


def batch(count=8, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 32, 32, 3), np.uint8), random.integers(0, 2, count).astype(np.int32)


def learn(model, steps=4, count=8):
    """Runs `steps` steps on a single batch; returns the losses before each of them."""
    stream = tf.data.Dataset.from_tensors(batch(count))
    return [model.fit(stream, epochs=1, verbose=0).history["loss"][0] for _ in range(steps)]


def cross_entropy(target, logits):
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return -(target * np.log(p) + (1 - target) * np.log(1 - p)), p


LOGITS, LABELS = np.array([-3.0, 0.5, 8.0], np.float32), np.array([0, 1, 1])


def test_the_loss_is_the_cross_entropy_of_the_smoothed_labels():
    expected, _ = cross_entropy(LABELS * 0.9 + 0.05, LOGITS)
    np.testing.assert_allclose(
        losses.per_example_loss(LABELS, LOGITS, Optimization(label_smoothing=0.1)), expected, rtol=1e-5
    )


def test_the_focal_loss_counts_what_is_right_for_less():
    plain, p = cross_entropy(LABELS, LOGITS)
    settings = Optimization(loss=Loss.FOCAL, focal_gamma=2.0, label_smoothing=0.0)
    np.testing.assert_allclose(losses.per_example_loss(LABELS, LOGITS, settings), plain * (LABELS - p) ** 2, rtol=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_focal_loss_has_a_slope_where_everything_is_right(gamma):
    logits = tf.constant([-200.0, 200.0, 0.0])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        settings = Optimization(loss=Loss.FOCAL, focal_gamma=gamma)
        loss = losses.per_example_loss(tf.constant([0, 1, 1]), logits, settings)
    assert np.isfinite(tape.gradient(loss, logits)).all()


def test_classes_weigh_what_they_were_told():
    plain = losses.per_example_loss(LABELS, LOGITS, Optimization())
    weighed = losses.per_example_loss(LABELS, LOGITS, Optimization(class_weights=(0.5, 3.0)))
    np.testing.assert_allclose(weighed / plain, [0.5, 3, 3], rtol=1e-6)


def test_balanced_classes_weigh_alike_and_a_picture_one_on_average():
    clean, cracked = losses.balanced_class_weights((900, 100))
    assert clean * 900 == pytest.approx(cracked * 100)
    assert (clean * 900 + cracked * 100) / 1000 == pytest.approx(1)


def test_a_confident_half_precision_logit_has_a_finite_float32_loss():
    loss = losses.per_example_loss(tf.constant([0]), tf.constant([6e4], tf.float16), Optimization())
    assert loss.dtype == tf.float32 and math.isfinite(float(loss[0]))


STANDARD = Augmentation(augment=Augment.STANDARD, mixup=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"ema": 0.9, "clip_norm": 1.0}, {"accumulate": 2, "augmentation": STANDARD}, {"steps_per_execution": 3}],
    ids=["default", "average", "accumulated", "several"],
)
def test_the_train_step_is_traced_once(changes):
    model = small_model(xla="augmentation", **changes)
    traces = []
    step = model.train_step
    model.train_step = lambda data: traces.append(1) or step(data)
    model.fit(*batch(64), batch_size=8, epochs=3, verbose=0)
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


def test_evaluation_sees_every_batch_of_a_stream_of_unknown_length():
    model = small_model(steps_per_execution=4)
    image, label = batch(10)
    stream = tf.data.Dataset.from_tensor_slices((image, label, np.ones(10, np.float32))).batch(2)
    endless = stream.filter(lambda *_: True)  # forgets the length
    expected = model.evaluate(stream.unbatch().batch(10), return_dict=True, verbose=0)
    assert model.evaluate(endless, return_dict=True, verbose=0)["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_a_few_steps_learn_a_few_pictures():
    model = small_model(Network.CRACKFLOW_S, learning_rate=3e-3)
    losses = learn(model, steps=20, count=16)
    assert losses[-1] < 0.3 < losses[0]


CELLED = Architecture(stem=16, widths=(16,), repeats=(0,), padding=Padding.SAME)  # 32 px in 8 x 8 cells


def masked_model(xla="off", **changes):
    keras.utils.set_random_seed(0)
    network = networks.get_model_spec(Network.CUSTOM, CELLED).build(32)
    return network, trainer.compile_trainer(network, config(**changes), 100, xla)


def quadrants(count=16, seed=3):
    """Images with noise in one quarter: (image, label, the cells of that quarter). All are cracked."""
    random = np.random.default_rng(seed)
    image, bits = np.full((count, 32, 32, 3), 90, np.uint8), []
    for canvas in image:
        row, column = random.integers(0, 2, 2) * 16
        canvas[row : row + 16, column : column + 16] = random.integers(0, 256, (16, 16, 1))
        bits.append(mask_grid.parse(mask_grid.text(mask_grid.from_mask(canvas[..., 0] != 90))))
    return image, np.ones(count, np.int32), np.array(bits, np.int64)


@pytest.mark.slow
@pytest.mark.parametrize(("xla", "accumulate"), [("off", 1), ("augmentation", 2), ("on", 1)])
def test_a_network_with_masks_learns_where_a_crack_lies_under_any_turn(xla, accumulate):
    d4 = Augmentation(augment=Augment.D4)
    changes = {"mask_weight": 1.0, "learning_rate": 0.01, "accumulate": accumulate, "augmentation": d4}
    network, model = masked_model(xla, batch_size=16, **changes)
    stream = tf.data.Dataset.from_tensors(quadrants())
    model.fit(stream.repeat(60), epochs=1, verbose=0)
    image, _, bits = quadrants(seed=4)
    features = keras.Model(network.inputs, network.get_layer(structure.pooled_layer(network)).output)
    logits = model.locator(features(image, training=False).numpy())
    crack = mask_head.mask_targets(tf.constant(bits), tf.ones(16, tf.int32)).crack.numpy()[..., 0]
    assert ((logits > 0) == crack).mean() > 0.9


def test_masks_move_the_weights_and_not_the_loss_that_is_told():
    def step(weight):
        network, model = masked_model(mask_weight=weight)
        batch = quadrants(8) if weight else quadrants(8)[:2]
        losses = model.fit(tf.data.Dataset.from_tensors(batch), epochs=1, verbose=0).history["loss"]
        return losses, network.get_weights()

    (without, plain), (with_masks, moved) = step(0.0), step(1.0)
    assert without == with_masks
    assert any((a != b).any() for a, b in zip(plain, moved, strict=True))


def test_what_no_mask_tells_moves_nothing():
    def weights(**changes):
        network, model = masked_model(weight_decay=0.0, label_smoothing=0.0, **changes)
        image, label, bits = quadrants(8)
        batch = (image, label, 0 * bits) if changes else (image, label)
        model.fit(tf.data.Dataset.from_tensors(batch), epochs=1, verbose=0)
        return network.get_weights()

    for a, b in zip(weights(), weights(mask_weight=3.0), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_masks_taught_is_among_the_weights_that_are_kept_and_put_back():
    model = masked_model(mask_weight=1.0, ema=0.9)[1]
    model.fit(tf.data.Dataset.from_tensors(quadrants(8)).repeat(3), epochs=1, verbose=0)
    with model.swap_ema_weights():
        best, averaged = model.get_weights(), model.locator
    assert (model.locator.weights != averaged.weights).any()
    model.set_weights(best)
    np.testing.assert_array_equal(model.locator.weights, averaged.weights)


def test_without_a_weight_for_masks_nothing_is_learnt_from_them():
    assert masked_model()[1].locator is None


def test_the_layer_for_the_masks_is_no_part_of_the_saved_network():
    network, model = masked_model(mask_weight=1.0)
    assert model.count_params() > network.count_params()
    plain = model_file.as_float32(model)
    assert [layer.name for layer in plain.layers] == [layer.name for layer in network.layers]


def test_a_batch_in_parts_moves_the_weights_as_a_whole_one():
    # The seed network has no BatchNorm, whose statistics differ between a whole batch and its parts.
    def weights(**changes):
        keras.utils.set_random_seed(1)
        network = keras.Sequential(
            [
                keras.layers.Rescaling(1 / 255, input_shape=(32, 32, 3)),
                keras.layers.Flatten(),
                keras.layers.Dense(1),
                keras.layers.Reshape(()),
            ]
        )
        model = trainer.compile_trainer(network, config(**changes), 20, "off")
        losses = learn(model, steps=3)
        return losses, model.get_weights()

    (expected_losses, expected), (losses, actual) = weights(), weights(accumulate=4)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    for a, b in zip(expected, actual, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_gradients_longer_than_the_limit_are_shortened_to_it():
    def step(**changes):
        settings = {"learning_rate": 1.0, "weight_decay": 0.0, "warmup_fraction": 0.0, "optimizer": Optimizer.SGD}
        model = small_model(**settings, **changes)
        before = [v.numpy() for v in model.trainable_variables]
        learn(model, steps=1)
        moved = [v.numpy() - old for v, old in zip(model.trainable_variables, before, strict=True)]
        return np.sqrt(sum((change**2).sum() for change in moved))

    free, clipped = step(), step(clip_norm=0.01)
    # A first step with Nesterov momentum moves by (1 + momentum) times the gradient.
    assert clipped == pytest.approx(0.01 * 1.9, rel=1e-3)
    assert free > 2 * clipped


def test_evaluation_uses_the_average_and_training_goes_on_with_the_weights():
    model = small_model(ema=0.99, learning_rate=0.01)
    start = [v.numpy() for v in model.trainable_variables]
    learn(model, steps=1)
    after = [v.numpy() for v in model.trainable_variables]
    share = 1 - 2 / 11  # of the first step
    with model.swap_ema_weights():
        for value, first, last in zip(model.trainable_variables, start, after, strict=True):
            np.testing.assert_allclose(value, first + share * (last - first), atol=1e-5)
    for value, last in zip(model.trainable_variables, after, strict=True):
        np.testing.assert_array_equal(value, last)


def test_the_average_follows_the_formula_over_many_steps():
    model = small_model(ema=0.5, learning_rate=0.01)
    shadow = model.trainable_variables[0].numpy().astype(np.float64)
    for step in range(1, 7):
        learn(model, steps=1)
        decay = min(0.5, (1 + step) / (10 + step))
        shadow = decay * shadow + (1 - decay) * model.trainable_variables[0].numpy()
    with model.swap_ema_weights():
        np.testing.assert_allclose(model.trainable_variables[0].numpy(), shadow, rtol=1e-4, atol=1e-6)


def test_swa_is_the_mean_of_every_tenth_step_of_the_last_quarter():
    model = small_model(optimizer=Optimizer.SWA, learning_rate=0.01, steps=80)
    averaged_weights = []
    for step in range(1, 81):
        learn(model, steps=1)
        current = model.trainable_variables[0].numpy()
        if step >= 60 and step % 10 == 0:
            averaged_weights.append(current)
        if step in (1, 20, 59, 60, 75, 80):
            with model.swap_ema_weights():
                average = model.trainable_variables[0].numpy()
            np.testing.assert_allclose(
                average, np.mean(averaged_weights, 0) if averaged_weights else current, rtol=1e-5, atol=1e-6
            )
    assert len(averaged_weights) == 3


def test_kernels_decay_and_norms_and_biases_do_not():
    model = small_model()
    decaying = {v.name for v in model.trainable_variables if model.optimizer._use_weight_decay(v)}
    others = {v.name for v in model.trainable_variables} - decaying
    assert decaying and all("kernel" in name for name in decaying)
    assert others and not any("kernel" in name for name in others)


@pytest.mark.parametrize("policy, distance", [("mixed_bfloat16", 0.005), ("mixed_float16", 0.001)], ids=str)
def test_twenty_steps_in_each_precision_stay_near_float32(policy, distance):
    """Mean distance of the 20 losses, as a fraction of the first: measured 0.0005 in bfloat16, 0.0001 in float16."""

    def losses(policy):
        keras.mixed_precision.set_global_policy(policy)
        try:
            model = small_model(Network.CRACKFLOW_XS, learning_rate=1e-3)
            assert model.layers[-1].compute_dtype == "float32"
            return np.array(learn(model, steps=20))
        finally:
            keras.mixed_precision.set_global_policy("float32")

    exact, measured = losses("float32"), losses(policy)
    assert measured[-1] < 0.8 * measured[0]
    assert np.abs(measured - exact).mean() <= distance * exact[0]


def test_float16_scales_the_loss():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = small_model(Network.CRACKFLOW_XS)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)


def test_compiled_steps_follow_the_others():
    # Flips give the same pixels with XLA and without: only the order of sums differs.
    d4 = Augmentation(augment=Augment.D4)
    plain, compiled = (
        learn(small_model(Network.CRACKFLOW_XS, augmentation=d4, xla=each), steps=5) for each in ("off", "on")
    )
    np.testing.assert_allclose(compiled, plain, rtol=2e-3)


def test_a_batch_size_that_is_still_to_be_chosen_is_refused():
    with pytest.raises(ValueError, match=r"expected a batch size, received 0; choose one with config\.sized_for"):
        trainer.compile_trainer(networks.NETWORKS[Network.CRACKFLOW_XS].build(32), config(batch_size=0), 5, "off")
