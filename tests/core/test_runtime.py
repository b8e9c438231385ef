import numpy as np

from crackflow.core import runtime
from crackflow.core.backend import keras
from crackflow.core.config import Precision, Xla


def test_what_is_asked_for_is_taken():
    assert runtime.choose_precision(Precision.MIXED_FLOAT16) == ("mixed_float16", "asked for")
    assert runtime.choose_xla(Xla.ON) == ("on", "asked for")


def test_the_automatic_choice_is_a_policy_with_its_reason():
    choice = runtime.choose_precision(Precision.AUTO)
    assert choice.value in {member.value for member in Precision} - {"auto"}
    assert "CPU" in choice.reason or "GPU" in choice.reason
    keras.mixed_precision.Policy(choice.value)


def test_the_same_seed_gives_the_same_weights():
    weights = []
    for seed in (1, 1, 2):
        runtime.seed_all(seed)
        weights.append(keras.layers.Dense(3, input_shape=(4,)))
        weights[-1].build((None, 4))
    kernels = [layer.kernel.numpy() for layer in weights]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def test_the_machine_and_the_versions_are_told():
    assert runtime.machine()["cores"] >= 1
    assert runtime.versions()["tensorflow"].startswith("2.")
