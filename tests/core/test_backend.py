import os
import subprocess
import sys

import numpy as np
import pytest

from crackflow.core import backend


def run(code):
    """`code` in a process that has not been told which Keras to take."""
    clean = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=clean)


def test_keras_is_tf_keras():
    assert backend.keras.__name__ == "tf_keras"
    assert backend.tf.keras.Model is backend.keras.Model


def keras_modules():
    return {name: id(module) for name, module in sys.modules.items() if name.split(".")[0] == "keras"}


def test_the_tuner_searches_tf_keras_models(tmp_path):
    before = keras_modules()
    tuner = backend.load_tuner()
    assert keras_modules() == before
    kinds = []

    def build(choices):
        layer = backend.keras.layers.Dense(choices.Int("units", 1, 4), input_shape=(2,))
        model = backend.keras.Sequential([layer, backend.keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        kinds.append(type(model).__module__)
        return model

    x, y = np.ones((8, 2)), np.ones((8, 1))
    search = tuner.RandomSearch(build, "val_loss", max_trials=1, directory=tmp_path)
    search.search(x, y, validation_data=(x, y), verbose=0)
    assert len(search.get_best_hyperparameters()) == 1
    assert set(kinds) == {"tf_keras.src.engine.sequential"}


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="tensorflow-addons has no wheels for this Python")
def test_an_optimizer_of_tensorflow_addons_trains_a_tf_keras_model():
    done = run(
        "import numpy as np\n"
        "from crackflow.core import backend\n"
        "lamb = backend.load_addons().optimizers.LAMB(0.01)\n"
        "model = backend.keras.Sequential([backend.keras.layers.Dense(1, input_shape=(2,))])\n"
        "model.compile(lamb, 'mse')\n"
        "model.fit(np.ones((8, 2)), np.ones((8, 1)), verbose=0)\n"
    )
    assert done.returncode == 0, done.stderr


def test_without_tensorflow_addons_the_error_says_what_to_install():
    done = run(
        "import sys\n"
        "from crackflow.core import backend, errors\n"
        "sys.modules['tensorflow_addons'] = None\n"
        "try:\n    backend.load_addons()\nexcept errors.UserError as error:\n    print(error)\n"
    )
    assert "pip install 'tensorflow-addons==0.23.0'" in done.stdout, done.stderr


def test_keras_3_that_came_first_is_one_clear_error():
    done = run(
        "import tensorflow\n"
        "from crackflow.core import errors\n"
        "try:\n    import crackflow.core.backend\nexcept errors.UserError as error:\n    print(error)\n"
    )
    assert "expected tf.keras to be tf_keras, but TensorFlow was imported first" in done.stdout, done.stderr
    assert "TF_USE_LEGACY_KERAS=1" in done.stdout


def test_importing_says_nothing_on_a_machine_without_a_gpu():
    done = run("import crackflow.core.runtime as r; r.set_up(0, 0, False)")
    assert done.returncode == 0 and done.stderr == ""


def test_other_words_on_stderr_come_through():
    done = run(
        "import os\n"
        "from crackflow.core import backend\n"
        "with backend.without_start_up_noise():\n"
        "    os.write(2, b'Could not find cuda drivers\\n')\n"
        "    os.write(2, b'a fault\\n')\n"
    )
    assert done.stderr == "a fault\n"
