"""What turns a network into one that learns: the schedule, the optimizer, the loss, the compiled step.

Synopsis::

    model = training.trainable(network, config, steps=1250, xla=False)      # a compiled keras.Model
    model.fit(batches, ...)
"""

import math

from crackflow.core.backend import keras, tf
from crackflow.core.config import Augment, TrainConfig
from crackflow.model import augment


class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """From 0 up to `peak` in `warmup` steps, then half a cosine down to 0 at step `total` (Loshchilov and Hutter,
    SGDR, 2017; the linear start after Goyal et al., 2017)."""

    def __init__(self, peak: float, warmup: int, total: int) -> None:
        self.peak, self.warmup, self.total = peak, warmup, total

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        rising = self.peak * (step + 1) / max(self.warmup, 1)
        share = (step - self.warmup) / max(self.total - self.warmup, 1)
        falling = 0.5 * self.peak * (1 + tf.cos(math.pi * tf.clip_by_value(share, 0.0, 1.0)))
        return tf.where(step < self.warmup, rising, falling)

    def get_config(self) -> dict:
        return {"peak": self.peak, "warmup": self.warmup, "total": self.total}


class Trainer(keras.Model):
    """A network with a train step that augments on the device. Same inputs and outputs, same weights."""

    def __init__(self, network: keras.Model, augmentation: Augment, smoothing: float, seed: int) -> None:
        super().__init__(network.inputs, network.outputs)
        self._augmentation, self._smoothing, self._seed = augmentation, smoothing, seed
        self._loss_mean = keras.metrics.Mean("exact_loss")

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One step on image uint8 [B, H, W, C], label int32 [B]; returns the running metrics."""
        image, label = data
        if self._augmentation is Augment.D4:
            step = tf.cast(self.optimizer.iterations, tf.int32)
            image = augment.d4(image, tf.stack([tf.constant(self._seed % 2**31, tf.int32), step]))
        logs = super().train_step((image, label))
        logs.pop(self._loss_mean.name)  # of evaluation alone
        return logs

    def test_step(self, data: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The loss and metrics over images of weight 1: Keras would divide by the padding, of weight 0, as well."""
        image, label, weight = data
        logits = self(image, training=False)
        self._loss_mean.update_state(losses(label, logits, self._smoothing), weight)
        self.compiled_metrics.update_state(label, logits, weight)
        results = {metric.name: metric.result() for metric in self.compiled_metrics.metrics}
        return {"loss": self._loss_mean.result(), **results}


def losses(label: tf.Tensor, logits: tf.Tensor, smoothing: float) -> tf.Tensor:
    """float32 [B]: binary cross-entropy of logits [B] and labels [B], the labels pulled to s/2 and 1 - s/2
    (label smoothing: Szegedy et al., 2016)."""
    target = tf.cast(label, tf.float32) * (1 - smoothing) + smoothing / 2
    return tf.nn.sigmoid_cross_entropy_with_logits(target, tf.cast(logits, tf.float32))


def trainable(network: keras.Model, config: TrainConfig, steps: int, xla: bool) -> Trainer:
    """`network` compiled for `steps` steps: AdamW (Loshchilov and Hutter, 2019) without decay on norms and biases."""
    schedule = WarmupCosine(config.learning_rate, round(config.warmup_fraction * steps), steps)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    smoothing = config.label_smoothing
    model = Trainer(network, config.augment, smoothing, config.seed)
    accuracy = keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)  # of logits: above 0 means cracked
    model.compile(
        optimizer,
        lambda label, logits: losses(label, logits, smoothing),
        weighted_metrics=[accuracy],
        jit_compile=xla,
    )
    optimizer.build(model.trainable_variables)  # a step that has to make variables is traced twice
    return model
