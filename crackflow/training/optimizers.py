"""Optimizers and extra metrics, by name. Those of tensorflow-addons need that package; the others never touch it.

Synopsis::

    optimizer = optimizers.create_optimizer(config.optimization, batch_size=64, steps=500)
    optimizers.build(optimizer, model.trainable_variables)
    metric = optimizers.extra_metric(ExtraMetric.MCC)     # fed labels and logits
"""

from collections.abc import Callable

from crackflow.core.backend import keras, load_addons, tf
from crackflow.core.config.training import ExtraMetric, Optimization, Optimizer
from crackflow.training import schedules

MOMENTUM = 0.9
NOT_DECAYED = ["gamma", "beta", "bias"]  # norms and biases: decay would only bend their scale


def create_optimizer(
    settings: Optimization, batch_size: int, steps: int, share: tf.Variable | float = 1.0
) -> keras.optimizers.Optimizer:
    """The optimizer that `settings` ask for, with its schedule over `steps` steps of `batch_size` images; `share`: of
    its rate.

    Raises: UserError when it comes from tensorflow-addons and that is not installed.
    """
    rate = schedules.create_schedule(settings, batch_size, steps, share)
    decay, clip = settings.weight_decay, {"global_clipnorm": settings.clip_norm or None}
    if settings.optimizer in (Optimizer.ADAMW, Optimizer.SWA):  # the mean of swa is kept by `trainer.Trainer`
        return _undecayed(keras.optimizers.AdamW(rate, weight_decay=decay, **clip))
    if settings.optimizer is Optimizer.SGD:
        sgd = keras.optimizers.SGD(rate, momentum=MOMENTUM, nesterov=True, weight_decay=decay, **clip)
        return _undecayed(sgd)
    addons = load_addons().optimizers
    clip = clip if settings.clip_norm else {}
    if settings.optimizer is Optimizer.LAMB:  # You et al., 2020
        return addons.LAMB(rate, weight_decay=decay, exclude_from_weight_decay=NOT_DECAYED, **clip)
    if settings.optimizer is Optimizer.RECTIFIED_ADAM:  # Liu et al., 2020
        return addons.RectifiedAdam(rate, weight_decay=decay, **clip)
    if settings.optimizer is Optimizer.LOOKAHEAD:  # Zhang et al., 2019
        return addons.Lookahead(addons.RectifiedAdam(rate, weight_decay=decay), **clip)
    # Its decay is not multiplied by the rate, as Keras' is: the schedule does that here.
    adamw = addons.AdamW(rate.times(decay), rate, exclude_from_weight_decay=NOT_DECAYED)
    return addons.MovingAverage(adamw, average_decay=0.99, dynamic_decay=True, **clip)


def _undecayed(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return optimizer


def build(optimizer: keras.optimizers.Optimizer, variables: list[tf.Variable]) -> None:
    """Make its variables now: a step that has to make them is traced twice."""
    if hasattr(optimizer, "build"):
        optimizer.build(variables)
    else:  # Keras' older kind, which tensorflow-addons builds on
        optimizer.iterations  # noqa: B018 - the property makes it
        optimizer._create_all_weights(variables)


def variables(optimizer: keras.optimizers.Optimizer) -> list[tf.Variable]:
    """All that it keeps from step to step, but the scale of the loss."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    # Keras' older kind, which tensorflow-addons builds on, has the variables of an optimizer within it in `weights`.
    return list(inner.weights) if hasattr(inner, "weights") else list(inner.variables())


def loss_scale(optimizer: keras.optimizers.Optimizer) -> list[tf.Variable]:
    """What a LossScaleOptimizer keeps of the scale; nothing where the loss is not scaled."""
    scale = getattr(optimizer, "_loss_scale", None)
    return [scale.current_loss_scale, scale.counter] if scale else []


def current_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """The learning rate of the next step."""
    rate = optimizer.learning_rate
    if callable(rate) and not isinstance(rate, tf.Variable):
        return float(rate(optimizer.iterations))
    return float(keras.backend.get_value(rate))


def put_average(optimizer: keras.optimizers.Optimizer, variables: list[tf.Variable]) -> None:
    """Set `variables` to the average that the optimizer keeps, when it keeps one (moving_average)."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if hasattr(inner, "assign_average_vars"):
        inner.assign_average_vars(variables)


def extra_metric(name: ExtraMetric) -> keras.metrics.Metric:
    """Matthews' correlation or Cohen's kappa, -1..1, fed labels [B], 0 or 1, and logits [B].

    Raises: UserError without tensorflow-addons.
    """
    made = load_addons().metrics
    if name is ExtraMetric.MCC:
        return _OfLogits(made.MatthewsCorrelationCoefficient(2), lambda classes: tf.one_hot(classes, 2), name.value)
    return _OfLogits(made.CohenKappa(2, sparse_labels=True), lambda classes: tf.cast(classes, tf.float32), name.value)


class _OfLogits(keras.metrics.Metric):
    """`metric`, fed with `encode(classes int32 [B])` of labels and of logits. Before it has seen anything it is 0."""

    def __init__(self, metric: keras.metrics.Metric, encode: Callable[[tf.Tensor], tf.Tensor], name: str) -> None:
        super().__init__(name=name)
        self._metric, self._encode = metric, encode

    def update_state(self, label: tf.Tensor, logits: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
        found, true = self._encode(tf.cast(logits > 0, tf.int32)), self._encode(tf.cast(label, tf.int32))
        self._metric.update_state(true, found, sample_weight)

    def result(self) -> tf.Tensor:
        # It branches on a tensor in Python, which needs a function that autograph has rewritten.
        found = tf.reshape(tf.function(self._metric.result)(), [])
        return tf.where(tf.math.is_nan(found), 0.0, found)

    def reset_state(self) -> None:
        self._metric.reset_state()
