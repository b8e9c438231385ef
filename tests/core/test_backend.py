"""What TensorFlow, tf_keras, Keras Tuner and tensorflow-addons are to each other, in processes of their own."""

import importlib.util
import os
import subprocess
import sys

import pytest

from crackflow.core import backend
from crackflow.core.errors import UserError
from tests import support


def python(script):
    """`script` in a process where nobody has chosen a Keras yet."""
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


def test_keras_tuner_searches_tf_keras_models():
    done = python(
        "from crackflow.core import backend\n"
        "tuner = backend.load_tuner()\n"
        "assert tuner.HyperModel and issubclass(tuner.Hyperband, tuner.Tuner)\n"
        "from keras_tuner.src.backend import keras\n"
        "assert keras is backend.keras or keras.Model is backend.keras.Model, keras\n"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(importlib.util.find_spec("tensorflow_addons") is None, reason="tensorflow-addons has no wheel here")
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


@pytest.mark.skipif(importlib.util.find_spec("tensorflow_addons") is not None, reason="tensorflow-addons is installed")
def test_without_addons_the_message_says_what_to_install():
    with pytest.raises(UserError, match="needs tensorflow-addons 0.23, .* pip install 'tensorflow-addons==0.23.0'"):
        backend.load_addons()


def test_keras_3_first_is_one_clear_error():
    done = python(
        "import os, tensorflow\n"
        "from crackflow.core.errors import UserError\n"
        "try:\n"
        "    from crackflow.core import backend\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "expected tf.keras to be tf_keras, but TensorFlow was imported first and made it Keras 3; "
        "import crackflow before tensorflow, or set the environment variable TF_USE_LEGACY_KERAS=1\n"
    )


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
