"""How TensorFlow, tf_keras, Keras Tuner and tensorflow-addons work together, in processes of their own."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import crackflow
from crackflow.core import backend
from crackflow.core.config.training import ExtraMetric, Optimization, Optimizer
from crackflow.core.errors import UserError
from crackflow.training import optimizers
from tests.helpers import support

HAS_ADDONS = importlib.util.find_spec("tensorflow_addons") is not None


def python(script):
    """Runs `script` in a process that has not selected a Keras yet."""
    line = [sys.executable, "-c", script]
    environment = {name: value for name, value in support.environment().items() if name != "TF_USE_LEGACY_KERAS"}
    return subprocess.run(line, capture_output=True, text=True, timeout=120, env=environment)


def test_keras_is_tf_keras_everywhere():
    assert backend.keras.__name__ == "tf_keras"
    assert backend.keras.__version__.startswith("2.")
    assert backend.tf.keras.layers.Layer is backend.keras.layers.Layer


def test_the_name_keras_means_tf_keras_inside_and_what_it_was_outside():
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "keras"}
    with backend.keras_is_tf_keras():
        assert sys.modules["keras"] is backend.keras
        assert sys.modules["keras.layers"] is sys.modules["tf_keras.layers"]
    after = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "keras"}
    assert after == before


@pytest.mark.slow
def test_keras_tuner_searches_tf_keras_models():
    done = python(
        "from crackflow.core import backend\n"
        "tuner = backend.load_tuner()\n"
        "assert tuner.HyperModel and issubclass(tuner.Hyperband, tuner.Tuner)\n"
        "from keras_tuner.src.backend import keras\n"
        "assert keras is backend.keras or keras.Model is backend.keras.Model, keras\n"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not HAS_ADDONS, reason="tensorflow-addons has no wheel here")
def test_addons_train_tf_keras_weights():
    done = python(
        "from crackflow.core import backend\n"
        "addons = backend.load_addons()\n"
        "optimizer = addons.optimizers.LAMB(0.1)\n"
        "weight = backend.tf.Variable([1.0])\n"
        "optimizer.apply_gradients([(backend.tf.constant([1.0]), weight)])\n"
        "assert weight.numpy()[0] < 1\n"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(HAS_ADDONS, reason="tensorflow-addons is installed")
def test_without_addons_the_message_says_what_to_install():
    with pytest.raises(UserError, match="needs tensorflow-addons 0.23, .* pip install 'tensorflow-addons==0.23.0'"):
        backend.load_addons()


def trained(seed=3):
    """Results of crackflow: a prediction of its model, and weights after two steps of each kind of optimizer."""
    image = np.random.default_rng(seed).integers(0, 256, (200, 260, 3), np.uint8)
    (prediction,) = crackflow.load_model().predict([image])
    results = {"predicted": [prediction.probability]}
    kinds = [Optimizer.ADAMW, *((Optimizer.LAMB, Optimizer.LOOKAHEAD, Optimizer.MOVING_AVERAGE) if HAS_ADDONS else ())]
    x, y = np.random.default_rng(seed).normal(size=(2, 8, 4)).astype(np.float32)
    for kind in kinds:
        dense = backend.keras.layers.Dense(4, kernel_initializer=backend.keras.initializers.Constant(0.1))
        model = backend.keras.Sequential([dense])
        model.compile(optimizers.create_optimizer(Optimization(optimizer=kind), batch_size=4, steps=2), "mse")
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
        results[kind.value] = dense.kernel.numpy().ravel().tolist()
    for name in ExtraMetric if HAS_ADDONS else ():
        metric = optimizers.extra_metric(name)
        metric.update_state(np.array([0, 1, 1, 0]), np.array([-1.0, 2.0, -0.5, -2.0], np.float32))
        results[name.value] = float(metric.result())
    return results


BESIDE = """
import json
import crackflow, tensorflow as tf
model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
model.compile("adam", "mse")
model.fit(tf.ones((1, 1)), tf.ones((1, 1)), verbose=0)
from tests.core import test_backend
found = test_backend.trained()
tuner = test_backend.backend.load_tuner()
from keras_tuner.src.backend import keras
assert keras.Model is test_backend.backend.keras.Model
assert tf.keras.__version__.startswith("3.") and isinstance(model, tf.keras.Model)
model.fit(tf.ones((1, 1)), tf.ones((1, 1)), verbose=0)
print(json.dumps(found))
"""


@pytest.mark.slow
def test_beside_keras_3_that_is_in_use_everything_is_computed_as_without_it():
    done = python(BESIDE)
    assert done.returncode == 0, done.stderr
    beside, alone = json.loads(done.stdout), trained()
    assert beside.keys() == alone.keys()
    for name, numbers in alone.items():
        np.testing.assert_allclose(beside[name], numbers, rtol=1e-5, err_msg=name)


def test_start_up_noise_is_left_out_and_the_rest_stays(capfd):
    with backend.without_start_up_noise():
        for line in ("I0000 failed call to cuInit: no device\n", "what matters\n"):
            os.write(2, line.encode())
    assert capfd.readouterr().err == "what matters\n"


def test_the_conversion_never_imports_tensorflow():
    done = python("import sys, crackflow.convert, crackflow.synth; assert 'tensorflow' not in sys.modules")
    assert done.returncode == 0, done.stderr


def test_keras_tuners_service_is_loaded_without_keras_3():
    done = python(
        "import sys\n"
        "from crackflow.core import backend\n"
        "service = backend.load_tuner_service()\n"
        "assert service.chief.OracleServicer and service.client.OracleClient and service.trial.Trial\n"
        "assert service.protos.get_service_grpc().OracleStub\n"
        "assert 'keras' not in sys.modules, 'Keras 3 was imported'\n"
    )
    assert done.returncode == 0, done.stderr
