import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, matthews_corrcoef

from crackflow.core import errors
from crackflow.core.backend import keras, tf
from crackflow.core.config.training import ExtraMetric, Optimization, Optimizer, Schedule
from crackflow.training import optimizers
from tests.helpers.support import with_addons, without_addons

NEEDS_ADDONS = {
    Optimizer.LAMB,
    Optimizer.RECTIFIED_ADAM,
    Optimizer.LOOKAHEAD,
    Optimizer.MOVING_AVERAGE,
}


def each_optimizer():
    return [pytest.param(name, marks=with_addons if name in NEEDS_ADDONS else [], id=name.value) for name in Optimizer]


def settings(name, **changes):
    return Optimization(**{"optimizer": name, "learning_rate": 0.05, "rate_batch": 0, "warmup_fraction": 0.0} | changes)


def descend(optimizer, steps=60, scaled=False):
    """Minimises a bowl whose lowest point is 1; returns the final weight and the averaged one."""
    weight = tf.Variable(np.full(4, 3.0, np.float32), name="kernel")
    if scaled:
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    optimizers.build(optimizer, [weight])

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((weight - 1) ** 2)
            aim = optimizer.get_scaled_loss(loss) if scaled else loss
        gradients = tape.gradient(aim, [weight])
        if scaled:
            gradients = optimizer.get_unscaled_gradients(gradients)
        optimizer.apply_gradients(zip(gradients, [weight], strict=True))

    for _ in range(steps):
        step()
    last = weight.numpy()
    optimizers.put_average(optimizer, [weight])
    return last, weight.numpy()


@pytest.mark.parametrize("name", each_optimizer())
@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
def test_every_optimizer_goes_downhill(name, scaled):
    optimizer = optimizers.create_optimizer(
        settings(name, schedule=Schedule.CONSTANT, weight_decay=0.0), batch_size=64, steps=60
    )
    last, _ = descend(optimizer, scaled=scaled)
    assert np.abs(last - 1).max() < 1.5


@pytest.mark.parametrize("name", each_optimizer())
def test_the_rate_that_is_logged_follows_the_schedule(name):
    optimizer = optimizers.create_optimizer(settings(name), batch_size=64, steps=60)
    assert optimizers.current_rate(optimizer) == pytest.approx(0.05)
    descend(optimizer, steps=30)
    assert optimizers.current_rate(optimizer) == pytest.approx(0.025, rel=0.15)


@pytest.mark.parametrize("name", each_optimizer())
def test_every_optimizer_shortens_gradients_beyond_the_limit_and_no_others(name):
    def moved(clip):
        optimization = settings(name, clip_norm=clip, weight_decay=0.0, schedule=Schedule.CONSTANT)
        optimizer, weight = optimizers.create_optimizer(optimization, batch_size=64, steps=60), tf.Variable([3.0, 3.0])
        optimizers.build(optimizer, [weight])
        # A long gradient, then short ones: optimizers that divide by its size depend only on the ratio of the two.
        for gradient in ([100.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]):
            optimizer.apply_gradients([(tf.constant(gradient), weight)])
        return weight.numpy() - 3

    np.testing.assert_array_equal(moved(clip=1e6), moved(clip=0.0))
    assert np.abs(moved(clip=1.0) / moved(clip=0.0) - 1).max() > 0.01


@with_addons
def test_an_averaging_optimizer_gives_a_mean_of_the_weights_it_passed():
    optimization = settings(Optimizer.MOVING_AVERAGE, weight_decay=0.0, schedule=Schedule.CONSTANT)
    optimizer = optimizers.create_optimizer(optimization, batch_size=64, steps=60)
    last, average = descend(optimizer)
    assert (average > last).all() and (average < 3).all()


def test_an_optimizer_without_an_average_leaves_the_weights():
    last, average = descend(optimizers.create_optimizer(settings(Optimizer.ADAMW), 64, 60))
    np.testing.assert_array_equal(last, average)


@with_addons
def test_the_decay_of_wrapped_adamw_is_that_of_keras():
    def moved(name):
        optimizer = optimizers.create_optimizer(
            settings(name, weight_decay=0.5, schedule=Schedule.CONSTANT), batch_size=64, steps=60
        )
        return descend(optimizer, steps=10)[0]

    np.testing.assert_allclose(moved(Optimizer.MOVING_AVERAGE), moved(Optimizer.ADAMW), rtol=1e-3)


@without_addons
@pytest.mark.parametrize("name", sorted(NEEDS_ADDONS, key=lambda name: name.value))
def test_without_the_package_the_error_says_what_to_install(name):
    with pytest.raises(errors.UserError, match=r"pip install 'tensorflow-addons==0\.23\.0'"):
        optimizers.create_optimizer(settings(name), 64, 60)


@without_addons
@pytest.mark.parametrize("name", ExtraMetric)
def test_without_the_package_a_metric_says_what_to_install(name):
    with pytest.raises(errors.UserError, match=r"pip install 'tensorflow-addons==0\.23\.0'"):
        optimizers.extra_metric(name)


@with_addons
@pytest.mark.parametrize(
    "name, expected", [(ExtraMetric.MCC, matthews_corrcoef), (ExtraMetric.KAPPA, cohen_kappa_score)]
)
def test_extra_metrics_agree_with_scikit_learn(name, expected):
    random = np.random.default_rng(0)
    label = random.integers(0, 2, 200)
    logits = (label - 0.5 + random.normal(size=200)).astype(np.float32)
    metric = optimizers.extra_metric(name)
    for part in np.split(np.arange(200), 4):
        metric.update_state(label[part], logits[part])
    assert float(metric.result()) == pytest.approx(expected(label, logits > 0), abs=1e-5)
    metric.reset_state()
    assert float(metric.result()) == 0


@with_addons
@pytest.mark.parametrize("name", ExtraMetric)
def test_padding_has_no_say_in_extra_metrics(name):
    metric, short = optimizers.extra_metric(name), optimizers.extra_metric(name)
    label, logits = np.array([0, 1, 1, 0]), np.array([-1, 1, -1, 1], np.float32)
    metric.update_state(label, logits, np.array([1, 1, 1, 0], np.float32))
    short.update_state(label[:3], logits[:3])
    assert float(metric.result()) == pytest.approx(float(short.result()))
