"""Optimizers and extra metrics, by name. Those of tensorflow-addons need that package; the others never import it.

Synopsis::

    optimizer = optimizers.create_optimizer(config.optimization, batch_size=64, steps=500)
    optimizers.build(optimizer, model.trainable_variables)
    metric = optimizers.extra_metric(ExtraMetric.MCC)     # fed labels and logits
"""

from collections.abc import Callable

from crackflow.core.backend import keras, load_addons, tf
from crackflow.core.config.training import ExtraMetric, Optimization, Optimizer
from crackflow.training import keras_internals, schedules

MOMENTUM = 0.9
NOT_DECAYED = ["gamma", "beta", "bias"]  # norms and biases: decay would only distort their scale


def create_optimizer(
    settings: Optimization, batch_size: int, steps: int, lr_scale: tf.Variable | float = 1.0
) -> keras.optimizers.Optimizer:
    """Creates an optimizer with its learning rate schedule.

    Args:
      settings: the optimizer, the schedule and their parameters.
      batch_size: the images of a step.
      steps: those of the whole run.
      lr_scale: the factor of the learning rate.

    Returns:
      The optimizer.

    Raises:
      UserError: it comes from tensorflow-addons, which is not installed.
    """
    rate = schedules.create_schedule(settings, batch_size, steps, lr_scale)
    decay, clip = settings.weight_decay, {"global_clipnorm": settings.clip_norm or None}
    if settings.optimizer in (Optimizer.ADAMW, Optimizer.SWA):  # `trainer.Trainer` computes the mean of swa
        return _exclude_from_decay(keras.optimizers.AdamW(rate, weight_decay=decay, **clip))
    if settings.optimizer is Optimizer.SGD:
        sgd = keras.optimizers.SGD(rate, momentum=MOMENTUM, nesterov=True, weight_decay=decay, **clip)
        return _exclude_from_decay(sgd)
    addons = load_addons().optimizers
    clip = clip if settings.clip_norm else {}
    if settings.optimizer is Optimizer.LAMB:  # You et al., 2020
        return addons.LAMB(rate, weight_decay=decay, exclude_from_weight_decay=NOT_DECAYED, **clip)
    if settings.optimizer is Optimizer.RECTIFIED_ADAM:  # Liu et al., 2020
        return addons.RectifiedAdam(rate, weight_decay=decay, **clip)
    if settings.optimizer is Optimizer.LOOKAHEAD:  # Zhang et al., 2019
        return addons.Lookahead(addons.RectifiedAdam(rate, weight_decay=decay), **clip)
    # Its decay is not multiplied by the rate, as that of Keras is: the schedule does it here.
    adamw = addons.AdamW(rate.times(decay), rate, exclude_from_weight_decay=NOT_DECAYED)
    return addons.MovingAverage(adamw, average_decay=0.99, dynamic_decay=True, **clip)


def _exclude_from_decay(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return optimizer


def build(optimizer: keras.optimizers.Optimizer, variables: list[tf.Variable]) -> None:
    """Creates its variables now: a step that has to create them is traced twice."""
    if hasattr(optimizer, "build"):
        optimizer.build(variables)
    else:  # Keras' older kind, which tensorflow-addons builds on
        optimizer.iterations  # noqa: B018 - the property creates it
        keras_internals.create_slots(optimizer, variables)


def variables(optimizer: keras.optimizers.Optimizer) -> list[tf.Variable]:
    """Returns all state that it keeps from step to step, except for the loss scale."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    # Keras' older kind, which tensorflow-addons builds on, has the variables of an optimizer within it in `weights`.
    return list(inner.weights) if hasattr(inner, "weights") else list(inner.variables())


def loss_scale(optimizer: keras.optimizers.Optimizer) -> list[tf.Variable]:
    """Returns the state of a LossScaleOptimizer's scale; empty where the loss is not scaled."""
    return keras_internals.loss_scale_state(optimizer)


def current_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Returns the learning rate of the next step."""
    rate = optimizer.learning_rate
    if callable(rate) and not isinstance(rate, tf.Variable):
        return float(rate(optimizer.iterations))
    return float(keras.backend.get_value(rate))


def put_average(optimizer: keras.optimizers.Optimizer, variables: list[tf.Variable]) -> None:
    """Sets `variables` to the average that the optimizer keeps, if it keeps one (moving_average)."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if hasattr(inner, "assign_average_vars"):
        inner.assign_average_vars(variables)


def extra_metric(name: ExtraMetric) -> keras.metrics.Metric:
    """Creates Matthews' correlation or Cohen's kappa, -1..1, of labels [B], 0 or 1, and logits [B].

    Raises:
      UserError: tensorflow-addons is not installed.
    """
    addon_metrics = load_addons().metrics
    if name is ExtraMetric.MCC:
        return _LogitMetric(
            addon_metrics.MatthewsCorrelationCoefficient(2), lambda classes: tf.one_hot(classes, 2), name.value
        )
    return _LogitMetric(
        addon_metrics.CohenKappa(2, sparse_labels=True), lambda classes: tf.cast(classes, tf.float32), name.value
    )


class _LogitMetric(keras.metrics.Metric):
    """Updates `metric` with `encode(classes int32 [B])` of labels and of logits. It is 0 before the first update."""

    def __init__(self, metric: keras.metrics.Metric, encode: Callable[[tf.Tensor], tf.Tensor], name: str) -> None:
        super().__init__(name=name)
        self._metric, self._encode = metric, encode

    def update_state(self, label: tf.Tensor, logits: tf.Tensor, sample_weight: tf.Tensor | None = None) -> None:
        predicted, true = self._encode(tf.cast(logits > 0, tf.int32)), self._encode(tf.cast(label, tf.int32))
        self._metric.update_state(true, predicted, sample_weight)

    def result(self) -> tf.Tensor:
        # The metric branches on a tensor in Python, which needs a function that autograph has rewritten.
        value = tf.reshape(tf.function(self._metric.result)(), [])
        return tf.where(tf.math.is_nan(value), 0.0, value)

    def reset_state(self) -> None:
        self._metric.reset_state()
