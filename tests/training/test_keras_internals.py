"""The private members of Keras that training leans on are there, and do what they are used for."""

import numpy as np

from crackflow.core.backend import keras, load_addons, tf
from crackflow.training import keras_internals
from tests.helpers.support import with_addons

VERSION = f"tf_keras {keras.__version__} changed what keras_internals leans on"


def compiled(model_class=keras.Model):
    pixels = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5, seed=1), keras.layers.Dense(1)])
    model = model_class(pixels, inner(keras.layers.Dropout(0.5, seed=2)(pixels)))
    model.compile("sgd", "mse")
    return model


def batches(count):
    return tf.data.Dataset.from_tensors((np.ones((2, 4), np.float32), np.ones((2, 1), np.float32))).repeat(count)


def test_the_steps_of_an_execution_can_be_changed_and_are_counted():
    model = compiled()
    keras_internals.steps_per_execution(model).assign(3)
    assert int(model._steps_per_execution) == 3, VERSION
    model.fit(batches(3), steps_per_epoch=3, verbose=0)
    assert int(keras_internals.step_counter(model)) == 3, VERSION


def test_every_dropout_layer_has_a_state_that_training_changes():
    model = compiled()
    states = keras_internals.dropout_states(model)
    assert len(states) == 2, VERSION
    before = [state.numpy() for state in states]
    model.fit(batches(1), verbose=0)
    assert all((state.numpy() != old).any() for state, old in zip(states, before, strict=True)), VERSION


def test_fit_begins_where_it_is_told_to():
    model = compiled(keras_internals.ResumableModel)
    begun = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: begun.append(("epoch", epoch)),
        on_train_batch_begin=lambda batch, logs: begun.append(("batch", batch)),
    )
    model.start_at(1, 2)
    model.fit(batches(8), steps_per_epoch=4, epochs=3, callbacks=[callback], verbose=0)
    assert begun[:2] == [("epoch", 1), ("batch", 2)] and ("epoch", 2) in begun, VERSION


@with_addons
def test_an_optimizer_of_the_older_kind_creates_its_variables_when_told_to():
    optimizer = load_addons().optimizers.LAMB(1e-3)
    weight = tf.Variable([1.0, 2.0])
    optimizer.iterations  # noqa: B018 - the property creates it
    keras_internals.create_slots(optimizer, [weight])
    assert len(optimizer.weights) > 1, VERSION


def test_the_state_of_a_loss_scale_can_be_set():
    optimizer = keras.mixed_precision.LossScaleOptimizer(keras.optimizers.SGD())
    scale, counter = keras_internals.loss_scale_state(optimizer)
    scale.assign(8.0)
    assert float(optimizer.loss_scale) == 8.0 and int(counter) == 0, VERSION
    assert keras_internals.loss_scale_state(keras.optimizers.SGD()) == []
