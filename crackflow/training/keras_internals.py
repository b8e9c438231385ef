"""The private members of tf_keras that training needs, all in one place.

Synopsis::

    class Trainer(keras_internals.ResumableModel): ...
    keras_internals.steps_per_execution(model).assign(8)

Each is here because the public interface cannot do it; tests/training/test_keras_internals.py fails, and names the
version, when a release of tf_keras no longer has one of them.
"""

from collections.abc import Sequence

from crackflow.core.backend import keras, tf


class ResumableModel(keras.Model):
    """A model whose `fit` can begin within an epoch."""

    def start_at(self, epoch: int, step: int) -> None:
        """Sets where the next `fit` begins: in `epoch`, from 0, after `step` of its steps."""
        self._start = epoch, step

    def _maybe_load_initial_counters_from_ckpt(self, *_) -> tuple[int, int]:
        """Called by `fit`: the only way of Keras to begin within an epoch."""
        return getattr(self, "_start", (0, 0))


def steps_per_execution(model: keras.Model) -> tf.Variable:
    """The variable that says after how many steps an execution of a compiled model returns to Python. Publicly it can
    be set once, by `compile`."""
    return model._steps_per_execution


def step_counter(model: keras.Model) -> tf.Variable:
    """The variable that counts the steps of `fit`, which a train function of one's own must increase."""
    return model._train_counter


def dropout_states(model: keras.Model) -> list[tf.Variable]:
    """The states of the random generators of all layers, nested ones included. No public member has them."""
    layers = model._flatten_layers(include_self=False, recursive=True)
    generators = [getattr(getattr(layer, "_random_generator", None), "_generator", None) for layer in layers]
    return [generator.state for generator in generators if generator is not None]


def create_slots(optimizer: keras.optimizers.Optimizer, variables: Sequence[tf.Variable]) -> None:
    """Creates the slot variables of an optimizer of the older kind, which otherwise appear with the first step."""
    optimizer._create_all_weights(variables)


def loss_scale_state(optimizer: keras.optimizers.Optimizer) -> list[tf.Variable]:
    """The scale of a LossScaleOptimizer and its counter of steps; empty for other optimizers. Publicly only their
    values can be read."""
    scale = getattr(optimizer, "_loss_scale", None)
    return [scale.current_loss_scale, scale.counter] if scale else []
