"""Fits a trained network to a few windows, again and again from the same weights.

Synopsis::

    tuner = fine_tuning.FineTuner(loaded.model, config.fine_tuning)
    tuner.fit(images, labels, seed=0)                  # the network now has the adapted weights
    logits = tuner.scores(other_images)                # float32 [N]
    tuner.restore()                                    # and now its own again

Beside the windows each batch has synthetic ones, with what they are as labels (experience replay: Rolnick et al.,
NeurIPS 2019), so that the network does not forget what it could before.

All weights move but the statistics of BatchNorm: a few windows can't say what they are, and would destroy them. Each
batch has as many cracked windows as clean ones. The weights at the end are the mean over the second half of the steps
(Izmailov et al., Averaging weights leads to wider optima and better generalization, UAI 2018): with so few windows the
last step is as good as any.
"""

import math
from collections.abc import Iterator

import numpy as np

from crackflow.core.backend import keras, tf
from crackflow.core.config.adapt import FineTuning
from crackflow.core.errors import UserError
from crackflow.training import augment

AVERAGED = 0.5  # the last part of the steps whose weights are averaged
SCORED_AT_ONCE = 128
REPLAYED = 0.5  # so many images to be remembered for each window of a batch


class FineTuner:
    """Fine-tunes one network; the step is traced once, for all fits.

    Args:
      network: uint8 [B, px, px, C], 0..255, to logits [B].
      settings: of the fits.
      replay: (uint8 [M, px, px, C], int [M]), images of both classes that must not be forgotten, and their labels; None
        for none.

    Raises:
      UserError: the network does not end in a dense layer with a bias, as those of crackflow do.
    """

    def __init__(
        self, network: keras.Model, settings: FineTuning, replay: tuple[np.ndarray, np.ndarray] | None = None
    ) -> None:
        self._network, self._settings, self._replay = network, settings, replay
        last = next((layer for layer in reversed(network.layers) if layer.trainable_weights), None)
        if not isinstance(last, keras.layers.Dense) or last.units != 1 or not last.use_bias:
            raise UserError(
                "--model: expected a network that ends in a dense layer of one unit with a bias, as crackflow.train "
                f"makes them, received one that ends in {last and type(last).__name__}"
            )
        self._bias = last.bias
        self._before = [weight.numpy() for weight in network.trainable_weights]
        self._optimizer = keras.optimizers.Adam(settings.learning_rate)
        self._optimizer.build(network.trainable_weights)
        self._sums = [tf.Variable(tf.zeros_like(weight), trainable=False) for weight in network.trainable_weights]
        self._augmenter = augment.Augmenter(settings.augmentation, 0, compiled=False)
        self._step = tf.function(self._train_step, autograph=False, reduce_retracing=True)
        self._score = tf.function(lambda image: network(image, training=False), autograph=False, reduce_retracing=True)

    def fit(self, images: np.ndarray, labels: np.ndarray, seed: int) -> None:
        """Fits the network, from its own weights, to windows.

        Args:
          images: uint8 [N, px, px, C], 0..255.
          labels: int or bool [N], 1 means cracked; both classes.
          seed: of the batches and of augmentation.
        """
        self.restore()
        for variable in (*self._optimizer.variables, *self._sums):
            variable.assign(tf.zeros_like(variable))
        steps = self._settings.steps_for(len(images))
        first = int(steps * AVERAGED)
        batches = self._batches(images, np.asarray(labels).astype(np.int32), seed)
        for step, (batch, batch_labels) in zip(range(steps), batches, strict=False):
            rate = self._settings.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
            self._optimizer.learning_rate.assign(rate)
            # A step of another seed draws other random numbers: `augment` derives them from both.
            number = tf.constant(seed * steps + step, tf.int64)
            self._step(tf.constant(batch), tf.constant(batch_labels), number, tf.constant(step >= first))
        for weight, total in zip(self._network.trainable_weights, self._sums, strict=True):
            weight.assign(total / (steps - first))

    def _batches(self, images: np.ndarray, labels: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (images, labels) for ever: the windows and, of them REPLAYED, some to be remembered."""
        size = self._settings.batch_size
        if self._replay is None:
            for rows in _balanced_batches(labels, size, seed):
                yield images[rows], labels[rows]
        remembered, its_labels = self._replay
        its_size = 2 * max(round(REPLAYED * size / 2), 1)
        pairs = zip(
            _balanced_batches(labels, size, seed), _balanced_batches(its_labels, its_size, seed + 1), strict=True
        )
        for rows, its_rows in pairs:
            batch_labels = np.concatenate([labels[rows], its_labels[its_rows]]).astype(np.int32)
            yield np.concatenate([images[rows], remembered[its_rows]]), batch_labels

    def restore(self) -> None:
        """Gives the network the weights that it came with."""
        for weight, before in zip(self._network.trainable_weights, self._before, strict=True):
            weight.assign(before)

    def shift(self, by: float) -> None:
        """Adds `by` to every logit of the network as it is now."""
        self._bias.assign_add([by])

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Returns the logits, float32 [N], of images uint8 [N, px, px, C]."""
        parts = [images[at : at + SCORED_AT_ONCE] for at in range(0, len(images), SCORED_AT_ONCE)]
        return np.concatenate([np.zeros(0, np.float32), *(self._score(tf.constant(part)).numpy() for part in parts)])

    def _train_step(self, image: tf.Tensor, label: tf.Tensor, step: tf.Tensor, is_averaged: tf.Tensor) -> None:
        image, target = self._augmenter.mixed(image, label, step)
        smoothing = self._settings.label_smoothing
        target = target * (1 - smoothing) + smoothing / 2
        weights = self._network.trainable_weights
        with tf.GradientTape() as tape:
            logits = tf.cast(self._network(image, training=False), tf.float32)  # BatchNorm by its stored statistics
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(target, logits))
        self._optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        part = tf.cast(is_averaged, tf.float32)
        for total, weight in zip(self._sums, weights, strict=True):
            total.assign_add(part * weight)


def _balanced_batches(labels: np.ndarray, size: int, seed: int) -> Iterator[np.ndarray]:
    """Yields indices [size] for ever: half of each class, each image of a class once before any comes again."""
    random = np.random.default_rng(seed)
    streams = [_permutations(np.flatnonzero(labels == label), random) for label in (0, 1)]
    while True:
        yield np.array([next(stream) for stream in streams for _ in range(size // 2)])


def _permutations(rows: np.ndarray, random: np.random.Generator) -> Iterator[int]:
    while True:
        yield from random.permutation(rows)
