import random

import numpy as np
import pytest

from crackflow.core import runtime
from crackflow.core.backend import keras, tf
from crackflow.core.config import Precision, Xla


def drawn():
    weights = keras.layers.Dense(4)
    weights.build((None, 4))
    return random.random(), np.random.rand(), tf.random.normal([3]).numpy().tolist(), weights.get_weights()[0].tolist()


def test_the_same_seed_draws_the_same_in_python_numpy_tensorflow_and_keras():
    runtime.seed_all(7)
    first = drawn()
    runtime.seed_all(7)
    again = drawn()
    runtime.seed_all(8)
    other = drawn()
    assert first == again
    assert all(one != two for one, two in zip(first, other, strict=True))


def test_a_seed_beyond_32_bits_is_taken():
    runtime.seed_all(2**40 + 7)


@pytest.mark.parametrize("wanted", [choice for choice in Precision if choice is not Precision.AUTO])
def test_an_asked_precision_is_given(wanted):
    assert runtime.choose_precision(wanted) == (wanted.value, "asked for")


def test_the_automatic_precision_is_a_policy_of_keras_with_a_reason():
    choice = runtime.choose_precision(Precision.AUTO)
    assert keras.mixed_precision.Policy(choice.value).variable_dtype == "float32"
    assert len(choice.reason) > 5


@pytest.mark.parametrize(("wanted", "value"), [(Xla.ON, "on"), (Xla.OFF, "off")])
def test_asked_compilation_is_given(wanted, value):
    assert runtime.choose_xla(wanted) == (value, "asked for")


def test_compilation_is_automatic_on_a_gpu_alone():
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    assert runtime.choose_xla(Xla.AUTO).value == ("on" if has_gpu else "off")


def test_versions_and_machine_name_what_decides_a_result():
    versions, machine = runtime.versions(), runtime.machine()
    assert {"crackflow", "python", "tensorflow", "tf_keras", "numpy"} <= set(versions)
    assert versions["tensorflow"] == tf.__version__
    assert machine["cores"] >= 1 and machine["cpu"] and isinstance(machine["gpus"], list)
