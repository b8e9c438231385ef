"""A network that trains: the loss, the train step, the average of the weights.

Synopsis::

    model = trainer.compile_trainer(network, config, steps=1250, xla="augmentation")      # a compiled keras.Model
    model.fit(batches, ...)
    with model.swap_ema_weights():                                                # validation uses the averaged weights
        ...

The step is the same for every strategy: it augments the images, runs forward and backward (compiled where XLA is on),
then the optimizer sums the replicas' gradients and updates the weights.
"""

import contextlib
from collections.abc import Callable, Iterator

from crackflow.core.backend import keras, tf
from crackflow.core.config.training import Optimization, Optimizer, TrainConfig
from crackflow.model import mask_head
from crackflow.training import augment, keras_internals, losses, optimizers

SWA_FROM, SWA_EVERY = 0.75, 10  # Izmailov et al., 2018, average the last quarter


class Trainer(keras_internals.ResumableModel):
    """A network with a train step that augments on the device; it has the same inputs, outputs and weights."""

    def __init__(
        self,
        network: keras.Model,
        augmenter: augment.Augmenter,
        settings: Optimization,
        compiled: bool,
        lr_scale: tf.Variable,
        averaging: Callable[[tf.Tensor], tf.Tensor] | None = None,
        frozen_statistics: bool = False,
    ) -> None:
        super().__init__(network.inputs, network.outputs)
        self._augmenter, self._settings = augmenter, settings
        self._lr_scale = lr_scale
        self._loss_mean = keras.metrics.Mean("loss")
        # Not training: BatchNorm uses the statistics it has, and keeps them; so does Dropout what it drops.
        is_training = not frozen_statistics
        self._forward = lambda image: [self(image, training=is_training)]
        if settings.mask_weight:
            two_outputs = mask_head.attach_head(network)
            self._forward = lambda image: two_outputs(image, training=is_training)
            self._cell_layer = two_outputs.get_layer(mask_head.LAYER)  # so that Keras trains its weights as well
        self._gradients = (
            tf.function(self._accumulate, autograph=False, jit_compile=True) if compiled else self._accumulate
        )
        self._averaging, self._ema_weights = averaging, []

    def compile(self, optimizer: keras.optimizers.Optimizer, **settings) -> None:
        """Compiles as Keras does, and creates the variables of the optimizer and of the average.

        A step that had to create them would be traced twice.
        """
        super().compile(optimizer, **settings)
        # Keras lists them only from the first step on.
        self._running = [self._loss_mean, *settings.get("weighted_metrics", [])]
        optimizers.build(optimizer, self.trainable_variables)
        if self._averaging:
            self._ema_weights = [
                tf.Variable(weight, trainable=False, name="average") for weight in self.trainable_variables
            ]

    @property
    def class_weights(self) -> tuple[float, ...]:
        """The weights of (clean, cracked) in the loss."""
        return self._settings.class_weights

    @property
    def locator(self) -> mask_head.MaskHead | None:
        """The head that is trained on masks; None where their loss has no weight."""
        return mask_head.MaskHead.from_layer(self._cell_layer) if self._settings.mask_weight else None

    @locator.setter
    def locator(self, head: mask_head.MaskHead) -> None:
        head.copy_to(self._cell_layer)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The loss first; Keras resets them before each epoch and each evaluation."""
        compiled = self.compiled_metrics.metrics if self.compiled_metrics else []
        return [self._loss_mean, *compiled]

    def train_step(self, data: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        """Runs one step.

        Args:
          data: image uint8 [B, H, W, C], label int32 [B] and, where masks have a weight, cells int64 [B].

        Returns:
          The running metrics.
        """
        image, label, *bits = data
        replica = tf.distribute.get_replica_context()
        first = replica.replica_id_in_sync_group * tf.shape(image)[0]
        step = self.optimizer.iterations
        image, target = self._augmenter.mixed(image, label, step, first)
        mask_targets = ()
        if self._settings.mask_weight:
            mask_targets = mask_head.mask_targets(*bits, label)
            mask_targets = mask_targets._replace(crack=self._augmenter.transform_grid(mask_targets.crack, step, first))
        loss, logits, gradients = self._gradients(image, target, *mask_targets)
        if hasattr(self.optimizer, "get_unscaled_gradients"):
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        if self._ema_weights:
            replica.merge_call(self._average)
        self._loss_mean.update_state(loss)
        self.compiled_metrics.update_state(label, logits)
        return {metric.name: metric.result() for metric in self.metrics}

    def _accumulate(self, *batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Loss, logits [B] and gradients of the mean loss, of a batch that is split into `accumulate` parts."""
        parts = self._settings.accumulate
        if parts == 1:
            return self._backward(*batch)
        size = batch[0].shape[0] // parts if batch[0].shape[0] else tf.shape(batch[0])[0] // parts
        logits = tf.TensorArray(tf.float32, parts)
        zeros = [tf.zeros_like(weight) for weight in self.trainable_variables]

        def add(part, total, logits, sums):
            rows = slice(part * size, (part + 1) * size)
            loss, part_logits, gradients = self._backward(*(tensor[rows] for tensor in batch))
            sums = [mean + gradient / parts for mean, gradient in zip(sums, gradients, strict=True)]
            return part + 1, total + loss / parts, logits.write(part, part_logits), sums

        _, loss, logits, gradients = tf.while_loop(
            lambda part, *_: part < parts,
            add,
            (0, 0.0, logits, zeros),
            parallel_iterations=1,
        )
        return loss, logits.concat(), gradients

    def _backward(
        self, image: tf.Tensor, target: tf.Tensor, *mask_targets: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """The loss is that of the labels; the gradients are those of the mask loss as well, where there is one."""
        with tf.GradientTape() as tape:
            logits, *grid = self._forward(image)
            loss = total_loss = tf.reduce_mean(losses.per_example_loss(target, logits, self._settings))
            if grid:
                smoothing = self._settings.label_smoothing
                total_loss += self._settings.mask_weight * mask_head.mask_loss(
                    mask_head.MaskTargets(*mask_targets), *grid, smoothing
                )
            # Gradients are summed over the replicas.
            total_loss /= tf.distribute.get_strategy().num_replicas_in_sync
            if hasattr(self.optimizer, "get_scaled_loss"):
                total_loss = self.optimizer.get_scaled_loss(total_loss)
        return loss, logits, tape.gradient(total_loss, self.trainable_variables)

    def _average(self, strategy: tf.distribute.Strategy) -> None:
        """Moves the average towards the weights."""
        weight = self._averaging(tf.cast(self.optimizer.iterations, tf.float32))
        for average, variable in zip(self._ema_weights, self.trainable_variables, strict=True):
            strategy.extended.update(average, lambda s, w: s.assign_sub(weight * (s - w)), args=(variable,))

    @contextlib.contextmanager
    def swap_ema_weights(self) -> Iterator[None]:
        """Inside, the trainable weights are their average, where there is one; afterwards they are restored."""
        saved_weights = [weight.numpy() for weight in self.trainable_variables]
        for weight, average in zip(self.trainable_variables, self._ema_weights, strict=bool(self._ema_weights)):
            weight.assign(average)
        optimizers.put_average(self.optimizer, self.trainable_variables)
        try:
            yield
        finally:
            for weight, value in zip(self.trainable_variables, saved_weights, strict=True):
                weight.assign(value)

    def sync_batch_norm_statistics(self) -> None:
        """Replaces the moving statistics of BatchNorm, which differ between replicas, by their mean.

        That is the network that is saved and delivered. All workers must call it.
        """
        if self.distribute_strategy.num_replicas_in_sync > 1:
            for statistic in self.non_trainable_variables:
                if statistic.synchronization is tf.VariableSynchronization.ON_READ:
                    statistic.assign(statistic.numpy())

    def evaluate(self, *arguments, **settings):
        """Evaluates as Keras does, with the averaged weights where there are some, and one set of statistics.

        Each execution evaluates a single batch: several at once would lose the last ones of a stream whose length is
        not known.
        """
        self.sync_batch_norm_statistics()
        steps_per_execution = keras_internals.steps_per_execution(self)
        steps = steps_per_execution.numpy()
        steps_per_execution.assign(1)
        try:
            with self.swap_ema_weights():
                return super().evaluate(*arguments, **settings)
        finally:
            steps_per_execution.assign(steps)

    def state(self) -> dict[str, tf.Variable]:
        """Returns all variables that the future of a run depends on, by a name that says where they belong."""
        running = [variable for metric in self._running for variable in metric.variables]
        metric_ids = {id(variable) for variable in running}  # Keras counts them among the weights
        groups = {
            "weight": [
                variable
                for variable in (*self.trainable_variables, *self.non_trainable_variables)
                if id(variable) not in metric_ids
            ],
            "optimizer": optimizers.variables(self.optimizer),
            "loss_scale": optimizers.loss_scale(self.optimizer),
            "average": self._ema_weights,
            "metric": running,
            "dropout": keras_internals.dropout_states(self),
            "rate_share": [self._lr_scale],
        }
        return {
            f"{group}/{number:04d}/{variable.name}": variable
            for group, variables in groups.items()
            for number, variable in enumerate(variables)
        }

    def scale_learning_rate(self, scale: float) -> None:
        """Sets the factor of the schedule's rate."""
        self._lr_scale.assign(scale)

    def set_steps_per_execution(self, steps: int) -> None:
        """Sets after how many steps an execution returns to Python."""
        keras_internals.steps_per_execution(self).assign(steps)

    def make_train_function(self, force: bool = False) -> Callable[[tf.data.Iterator], dict[str, tf.Tensor]]:
        """Returns a function that runs as many steps as `set_steps_per_execution` says.

        Keras' own loop traces the step twice, to learn the shapes of its outputs, and can't change the number later.
        """
        if self.train_function is None or force:
            self.train_function = tf.function(self._steps, autograph=False, reduce_retracing=True)
        return self.train_function

    def _steps(self, iterator: tf.data.Iterator) -> dict[str, tf.Tensor]:
        def step(done: tf.Tensor) -> tuple[tf.Tensor]:
            self.distribute_strategy.run(self.train_step, args=(next(iterator),))
            return (done + 1,)

        steps = tf.identity(keras_internals.steps_per_execution(self))
        tf.while_loop(lambda done: done < steps, step, [tf.zeros_like(steps)], parallel_iterations=1)
        counter = keras_internals.step_counter(self)
        counter.assign_add(tf.cast(steps, counter.dtype))
        return {metric.name: metric.result() for metric in self.metrics}

    def test_step(self, data: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Computes loss and metrics over images of weight 1: Keras would also count the padding, of weight 0."""
        image, label, weight = data
        logits = self(image, training=False)
        self._loss_mean.update_state(losses.per_example_loss(label, logits, self._settings), weight)
        self.compiled_metrics.update_state(label, logits, weight)
        return {metric.name: metric.result() for metric in self.metrics}


def averaging_decay(settings: Optimization, steps: int) -> Callable[[tf.Tensor], tf.Tensor] | None:
    """Returns the weight with which the average moves towards the current weights after a step.

    ema: faster in the first steps, when the average is mostly random numbers (as in TensorFlow's
    ExponentialMovingAverage). swa: the weights themselves until the last quarter begins, then the mean of those of
    every tenth step (Izmailov et al., 2018). Until then tensorflow-addons' SWA has zeros instead, and on several
    replicas it updates only one weight of each shape.

    Args:
      settings: the optimizer and the decay.
      steps: those of the whole run.

    Returns:
      A function of the step, float32 [], from 1; None where there is no average.
    """
    first = float(round(SWA_FROM * steps))

    def swa_weight(step: tf.Tensor) -> tf.Tensor:
        steps_past = step - first
        mean = tf.where(steps_past % SWA_EVERY == 0, 1 / (steps_past / SWA_EVERY + 1), 0.0)
        return tf.where(steps_past <= 0, 1.0, mean)

    def ema_weight(step: tf.Tensor) -> tf.Tensor:
        return 1 - tf.minimum(settings.ema, (1 + step) / (10 + step))

    if settings.optimizer is Optimizer.SWA:
        return swa_weight
    return ema_weight if settings.ema else None


def compile_trainer(
    network: keras.Model, config: TrainConfig, steps: int, xla: str, frozen_statistics: bool = False
) -> Trainer:
    """Compiles a network for training.

    Args:
      network: the network.
      config: the flags.
      steps: those of the whole run.
      xla: on, augmentation or off, as `runtime.choose_xla` says.
      frozen_statistics: whether BatchNorm keeps the statistics that it has.

    Returns:
      The compiled trainer.

    Raises:
      UserError: the optimizer or a metric needs tensorflow-addons, which is not installed.
      ValueError: the batch size is not chosen yet.
    """
    if not config.batch_size:
        raise ValueError("trainable: expected a batch size, received 0; choose one with config.sized_for")
    lr_scale = tf.Variable(1.0, trainable=False, name="rate_share")
    optimizer = optimizers.create_optimizer(config.optimization, config.batch_size, steps, lr_scale)
    if keras.mixed_precision.global_policy().name == "mixed_float16":
        # Small gradients are 0 in float16; the loss is scaled up as far as no gradient overflows.
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    augmenter = augment.Augmenter(config.augmentation, config.seed, compiled=xla != "off")
    model = Trainer(
        network,
        augmenter,
        config.optimization,
        compiled=xla == "on",
        lr_scale=lr_scale,
        averaging=averaging_decay(config.optimization, steps),
        frozen_statistics=frozen_statistics,
    )
    accuracy = keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)  # of logits: above 0 means cracked
    extra = [optimizers.extra_metric(name) for name in config.metrics]
    model.compile(optimizer, weighted_metrics=[accuracy, *extra], steps_per_execution=config.steps_per_execution or 1)
    return model
