"""The learning rate over the steps of a run, by name.

Synopsis::

    rate = schedules.ScheduledRate(Schedule.COSINE, peak=0.003, total=500, warmup=50)
    rate(step)          # float32, for `step` any integer from 0
"""

import math

from crackflow.core.backend import keras, tf
from crackflow.core.config.training import Optimization, Optimizer, Schedule

# Smith and Topin, Super-Convergence, 2018, with the proportions that fastai made common.
CYCLE_CLIMB, CYCLE_START = 0.3, 1 / 25
DROP = 0.1


def peak(settings: Optimization, batch_size: int) -> float:
    """Returns the highest rate for a global batch of `batch_size`; `learning_rate` is that for `rate_batch`.

    It grows in proportion for SGD (Goyal et al., 2017), and with the square root for optimizers that divide by the
    gradient's size (Malladi et al., 2022).
    """
    if not settings.rate_batch:
        return settings.learning_rate
    power = 1.0 if settings.optimizer is Optimizer.SGD else 0.5
    return settings.learning_rate * (batch_size / settings.rate_batch) ** power


def create_schedule(
    settings: Optimization, batch_size: int, total: int, lr_scale: tf.Variable | float = 1.0
) -> "ScheduledRate":
    """Creates the schedule of `settings` over `total` steps, times `lr_scale`."""
    warmup = 0 if settings.schedule is Schedule.ONE_CYCLE else round(settings.warmup_fraction * total)
    return ScheduledRate(
        settings.schedule, peak(settings, batch_size), total, warmup, settings.rate_drops, lr_scale=lr_scale
    )


class ScheduledRate(keras.optimizers.schedules.LearningRateSchedule):
    """Rises from 0 to `peak` in `warmup` steps, then follows `kind` to its end at step `total`.

    cosine: half a cosine down to 0 (Loshchilov and Hutter, SGDR, 2017); one_cycle: a half cosine up from a 25th in
    the first 30 % of the steps, then one down to 0; piecewise: a tenth is left after each of `drops`, fractions of
    `total`; constant. The linear warm-up is Goyal et al.'s, 2017. `factor` multiplies it all, and so does `lr_scale`,
    which may be a variable: a run that diverged continues with a smaller one.
    """

    def __init__(
        self,
        kind: Schedule | str,
        peak: float,
        total: int,
        warmup: int = 0,
        drops: tuple[float, ...] = (),
        factor: float = 1.0,
        lr_scale: tf.Variable | float = 1.0,
    ) -> None:
        self.kind, self.peak, self.total, self.warmup = Schedule(kind), peak, total, warmup
        self.drops, self.factor, self.lr_scale = tuple(drops), factor, lr_scale

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        warmup_rate = (step + 1) / max(self.warmup, 1)
        progress = tf.clip_by_value((step - self.warmup) / max(self.total - self.warmup, 1), 0.0, 1.0)
        rate = self.peak * self.factor * tf.where(step < self.warmup, warmup_rate, self._relative_rate(step, progress))
        return rate * self.lr_scale

    def _relative_rate(self, step: tf.Tensor, progress: tf.Tensor) -> tf.Tensor:
        """Returns the rate relative to the peak, 0..1; `progress`: 0..1 from the warm-up's end to the last step."""
        if self.kind is Schedule.COSINE:
            return _half_cosine(1.0, 0.0, progress)
        if self.kind is Schedule.ONE_CYCLE:
            rising = _half_cosine(CYCLE_START, 1.0, progress / CYCLE_CLIMB)
            falling = _half_cosine(1.0, 0.0, (progress - CYCLE_CLIMB) / (1 - CYCLE_CLIMB))
            return tf.where(progress < CYCLE_CLIMB, rising, falling)
        if self.kind is Schedule.PIECEWISE:
            drops = sum(tf.cast(step >= drop * self.total, tf.float32) for drop in self.drops)
            return DROP ** tf.cast(drops, tf.float32)
        return tf.ones_like(progress)

    def times(self, factor: float) -> "ScheduledRate":
        """Returns the same schedule, times `factor`."""
        return ScheduledRate(**self.get_config() | {"factor": self.factor * factor, "lr_scale": self.lr_scale})

    def get_config(self) -> dict:
        names = ("peak", "total", "warmup", "drops", "factor")
        return {"kind": self.kind.value} | {name: getattr(self, name) for name in names}


def _half_cosine(start: float, end: float, progress: tf.Tensor) -> tf.Tensor:
    return end + (start - end) * 0.5 * (1 + tf.cos(math.pi * tf.clip_by_value(progress, 0.0, 1.0)))
