"""What turns a network into one that learns: the loss, the step, the average of the weights.

Synopsis::

    model = trainer.compile_trainer(network, config, steps=1250, xla="augmentation")      # a compiled keras.Model
    model.fit(batches, ...)
    with model.averaged():                                                # validation sees the averaged weights
        ...

One step for every strategy: pictures are augmented, then forward and backward run (compiled where XLA is on), then the
optimizer adds up the replicas' gradients and moves the weights.
"""

import contextlib
from collections.abc import Callable, Iterator

from crackflow.core.backend import keras, tf
from crackflow.core.config.training import Optimization, Optimizer, TrainConfig
from crackflow.model import mask_head
from crackflow.training import augment, losses, optimizers

SWA_FROM, SWA_EVERY = 0.75, 10  # Izmailov et al., 2018, average the last quarter


class Trainer(keras.Model):
    """A network with a train step that augments on the device. Same inputs and outputs, same weights."""

    def __init__(
        self,
        network: keras.Model,
        augmenter: augment.Augmenter,
        settings: Optimization,
        compiled: bool,
        rate_share: tf.Variable,
        averaging: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ) -> None:
        super().__init__(network.inputs, network.outputs)
        self._augmenter, self._settings = augmenter, settings
        self._rate_share, self._start = rate_share, (0, 0)
        self._loss_mean = keras.metrics.Mean("loss")
        self._forward = lambda image: [self(image, training=True)]
        if settings.mask_weight:
            both = mask_head.attach_head(network)
            self._forward = lambda image: both(image, training=True)
            self._cell_layer = both.get_layer(mask_head.LAYER)  # its weights are trained; of the others Keras knows
        self._gradients = (
            tf.function(self._accumulated, autograph=False, jit_compile=True) if compiled else self._accumulated
        )
        self._averaging, self._shadows = averaging, []

    def compile(self, optimizer: keras.optimizers.Optimizer, **settings) -> None:
        """As Keras does; makes the variables of the optimizer and of the average, which a step would trace twice."""
        super().compile(optimizer, **settings)
        # Keras lists them from the first step on only.
        self._running = [self._loss_mean, *settings.get("weighted_metrics", [])]
        optimizers.build(optimizer, self.trainable_variables)
        if self._averaging:
            self._shadows = [
                tf.Variable(weight, trainable=False, name="average") for weight in self.trainable_variables
            ]

    @property
    def class_weights(self) -> tuple[float, ...]:
        """Of (clean, cracked) in the loss."""
        return self._settings.class_weights

    @property
    def locator(self) -> mask_head.MaskHead | None:
        """What was learnt from masks; None without a weight for them."""
        return mask_head.MaskHead.of(self._cell_layer) if self._settings.mask_weight else None

    @locator.setter
    def locator(self, learnt: mask_head.MaskHead) -> None:
        learnt.put(self._cell_layer)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The loss first; Keras sets them back before each epoch and each evaluation."""
        compiled = self.compiled_metrics.metrics if self.compiled_metrics else []
        return [self._loss_mean, *compiled]

    def train_step(self, data: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        """One step on image uint8 [B, H, W, C], label int32 [B] and, with a weight for masks, cells int64 [B]; returns
        the running metrics."""
        image, label, *bits = data
        replica = tf.distribute.get_replica_context()
        first = replica.replica_id_in_sync_group * tf.shape(image)[0]
        step = self.optimizer.iterations
        image, target = self._augmenter.mixed(image, label, step, first)
        where = ()
        if self._settings.mask_weight:
            where = mask_head.mask_targets(*bits, label)
            where = where._replace(crack=self._augmenter.turned(where.crack, step, first))
        loss, logits, gradients = self._gradients(image, target, *where)
        if hasattr(self.optimizer, "get_unscaled_gradients"):
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        if self._shadows:
            replica.merge_call(self._average)
        self._loss_mean.update_state(loss)
        self.compiled_metrics.update_state(label, logits)
        return {metric.name: metric.result() for metric in self.metrics}

    def _accumulated(self, *batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Loss, logits [B] and gradients of the mean loss, the batch taken in `accumulate` parts one after another."""
        parts = self._settings.accumulate
        if parts == 1:
            return self._backward(*batch)
        size = batch[0].shape[0] // parts if batch[0].shape[0] else tf.shape(batch[0])[0] // parts
        logits = tf.TensorArray(tf.float32, parts)
        zeros = [tf.zeros_like(weight) for weight in self.trainable_variables]

        def add(part, total, logits, sums):
            rows = slice(part * size, (part + 1) * size)
            loss, found, gradients = self._backward(*(one[rows] for one in batch))
            sums = [mean + gradient / parts for mean, gradient in zip(sums, gradients, strict=True)]
            return part + 1, total + loss / parts, logits.write(part, found), sums

        _, loss, logits, gradients = tf.while_loop(
            lambda part, *_: part < parts,
            add,
            (0, 0.0, logits, zeros),
            parallel_iterations=1,
        )
        return loss, logits.concat(), gradients

    def _backward(
        self, image: tf.Tensor, target: tf.Tensor, *where: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """The loss is that of the labels; the gradients are those of the masks as well, where there are any."""
        with tf.GradientTape() as tape:
            logits, *grid = self._forward(image)
            loss = aim = tf.reduce_mean(losses.per_example_loss(target, logits, self._settings))
            if grid:
                smoothing = self._settings.label_smoothing
                aim += self._settings.mask_weight * mask_head.mask_loss(mask_head.MaskTargets(*where), *grid, smoothing)
            # Gradients are added up over the replicas.
            aim /= tf.distribute.get_strategy().num_replicas_in_sync
            if hasattr(self.optimizer, "get_scaled_loss"):
                aim = self.optimizer.get_scaled_loss(aim)
        return loss, logits, tape.gradient(aim, self.trainable_variables)

    def _average(self, strategy: tf.distribute.Strategy) -> None:
        """Move the average towards the weights."""
        share = self._averaging(tf.cast(self.optimizer.iterations, tf.float32))
        for shadow, weight in zip(self._shadows, self.trainable_variables, strict=True):
            strategy.extended.update(shadow, lambda s, w: s.assign_sub(share * (s - w)), args=(weight,))

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the trainable weights are their average, where one is kept; afterwards what they were."""
        kept = [weight.numpy() for weight in self.trainable_variables]
        for weight, shadow in zip(self.trainable_variables, self._shadows, strict=bool(self._shadows)):
            weight.assign(shadow)
        optimizers.put_average(self.optimizer, self.trainable_variables)
        try:
            yield
        finally:
            for weight, value in zip(self.trainable_variables, kept, strict=True):
                weight.assign(value)

    def unite(self) -> None:
        """The moving statistics of BatchNorm, which each replica keeps of its own part, become their mean everywhere:
        the network that is saved and delivered. Takes all workers."""
        if self.distribute_strategy.num_replicas_in_sync > 1:
            for statistic in self.non_trainable_variables:
                if statistic.synchronization is tf.VariableSynchronization.ON_READ:
                    statistic.assign(statistic.numpy())

    def evaluate(self, *arguments, **settings):
        """As Keras does, with the averaged weights where an average is kept, with one set of statistics, and each batch
        by itself: taking several at once would lose the last ones of a stream whose length is not known."""
        self.unite()
        several = self._steps_per_execution.numpy()
        self._steps_per_execution.assign(1)
        try:
            with self.averaged():
                return super().evaluate(*arguments, **settings)
        finally:
            self._steps_per_execution.assign(several)

    def state(self) -> dict[str, tf.Variable]:
        """All variables that the future of a run depends on, by a name that says where they belong."""
        layers = self._flatten_layers(include_self=False, recursive=True)
        generators = [getattr(getattr(layer, "_random_generator", None), "_generator", None) for layer in layers]
        running = [variable for metric in self._running for variable in metric.variables]
        known = {id(variable) for variable in running}  # Keras counts them among the weights
        groups = {
            "weight": [it for it in (*self.trainable_variables, *self.non_trainable_variables) if id(it) not in known],
            "optimizer": optimizers.variables(self.optimizer),
            "loss_scale": optimizers.loss_scale(self.optimizer),
            "average": self._shadows,
            "metric": running,
            "dropout": [generator.state for generator in generators if generator is not None],
            "rate_share": [self._rate_share],
        }
        return {
            f"{group}/{number:04d}/{variable.name}": variable
            for group, variables in groups.items()
            for number, variable in enumerate(variables)
        }

    def start_at(self, epoch: int, step: int) -> None:
        """Where the next `fit` begins: `epoch`, from 0, after `step` of its steps."""
        self._start = epoch, step

    def _maybe_load_initial_counters_from_ckpt(self, *_) -> tuple[int, int]:
        """Asked by `fit`: the one way of Keras to begin within an epoch."""
        return self._start

    def lower_rate(self, share: float) -> None:
        """From now on `share` of the schedule's rate."""
        self._rate_share.assign(share)

    def set_steps_per_execution(self, steps: int) -> None:
        """Return to Python after so many steps."""
        self._steps_per_execution.assign(steps)

    def make_train_function(self, force: bool = False) -> Callable[[tf.data.Iterator], dict[str, tf.Tensor]]:
        """As many steps as `set_steps_per_execution` says. Keras' own loop traces the step twice, to learn the shapes
        of what it returns, and can't be told another number later."""
        if self.train_function is None or force:
            self.train_function = tf.function(self._steps, autograph=False, reduce_retracing=True)
        return self.train_function

    def _steps(self, iterator: tf.data.Iterator) -> dict[str, tf.Tensor]:
        def step(passed: tf.Tensor) -> tuple[tf.Tensor]:
            self.distribute_strategy.run(self.train_step, args=(next(iterator),))
            return (passed + 1,)

        often = tf.identity(self._steps_per_execution)
        tf.while_loop(lambda passed: passed < often, step, [tf.zeros_like(often)], parallel_iterations=1)
        self._train_counter.assign_add(tf.cast(often, self._train_counter.dtype))
        return {metric.name: metric.result() for metric in self.metrics}

    def test_step(self, data: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The loss and metrics over images of weight 1: Keras would divide by the padding, of weight 0, as well."""
        image, label, weight = data
        logits = self(image, training=False)
        self._loss_mean.update_state(losses.per_example_loss(label, logits, self._settings), weight)
        self.compiled_metrics.update_state(label, logits, weight)
        return {metric.name: metric.result() for metric in self.metrics}


def averaging_decay(settings: Optimization, steps: int) -> Callable[[tf.Tensor], tf.Tensor] | None:
    """By which share the average of the weights moves towards them after step n float32 [], from 1, of `steps`; None
    where none is kept.

    ema: faster in the first steps, when the average is mostly random numbers (as in TensorFlow's
    ExponentialMovingAverage). swa: the weights themselves until the last quarter begins, then the mean of those of
    every tenth step (Izmailov et al., 2018). tensorflow-addons' SWA puts zeros in their place until then, and on
    several replicas moves one weight of each shape alone.
    """
    first = float(round(SWA_FROM * steps))

    def of_swa(step: tf.Tensor) -> tf.Tensor:
        past = step - first
        mean = tf.where(past % SWA_EVERY == 0, 1 / (past / SWA_EVERY + 1), 0.0)
        return tf.where(past <= 0, 1.0, mean)

    def of_ema(step: tf.Tensor) -> tf.Tensor:
        return 1 - tf.minimum(settings.ema, (1 + step) / (10 + step))

    if settings.optimizer is Optimizer.SWA:
        return of_swa
    return of_ema if settings.ema else None


def compile_trainer(network: keras.Model, config: TrainConfig, steps: int, xla: str) -> Trainer:
    """`network` compiled for `steps` steps; `xla`: on, augmentation or off, as `runtime.choose_xla` says.

    Raises: UserError when the optimizer or a metric needs tensorflow-addons and that is not installed; ValueError for a
    batch size that is still to be chosen.
    """
    if not config.batch_size:
        raise ValueError("trainable: expected a batch size, received 0; choose one with config.sized_for")
    rate_share = tf.Variable(1.0, trainable=False, name="rate_share")
    optimizer = optimizers.create_optimizer(config.optimization, config.batch_size, steps, rate_share)
    if keras.mixed_precision.global_policy().name == "mixed_float16":
        # Small gradients are 0 in float16; the loss is multiplied as far as no gradient overflows.
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    augmenter = augment.Augmenter(config.augmentation, config.seed, compiled=xla != "off")
    model = Trainer(
        network,
        augmenter,
        config.optimization,
        compiled=xla == "on",
        rate_share=rate_share,
        averaging=averaging_decay(config.optimization, steps),
    )
    accuracy = keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)  # of logits: above 0 means cracked
    extra = [optimizers.extra_metric(name) for name in config.metrics]
    model.compile(optimizer, weighted_metrics=[accuracy, *extra], steps_per_execution=config.steps_per_execution or 1)
    return model
