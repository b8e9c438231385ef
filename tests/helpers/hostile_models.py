"""Model files that ask for more than layers."""

import json

import h5py
import numpy as np
import pytest

from crackflow.core.config.network import Network
from crackflow.core.errors import UserError
from crackflow.model import model_file, networks

CARD = model_file.ModelMetadata("crackflow_xs", ("clean", "cracked"), 0.5, 1.0, 32, 3, "f" * 64, {}, 0)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The bytes of an intact model."""
    path = tmp_path_factory.mktemp("guard") / "model.h5"
    model_file.save(str(path), networks.NETWORKS[Network.CRACKFLOW_XS].build(32), CARD)
    return path.read_bytes()[: -model_file.CHECKSUM_TRAILER_BYTES]


def put(file, name, text):
    """Writes an attribute as crackflow's files have them."""
    if name in file.attrs:
        del file.attrs[name]
    file.attrs[name] = np.bytes_(text.encode())


@pytest.fixture
def hostile(sound, tmp_path):
    """`hostile(change)` writes a model file whose description `change` has changed, and returns its path."""

    def make(change=None, file_change=None):
        path = tmp_path / "model.h5"
        path.write_bytes(sound)
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            if change:
                change(config)
                put(file, "model_config", json.dumps(config))
            if file_change:
                file_change(file)
        return str(path)

    return make


def refusal(path):
    with pytest.raises(UserError) as caught:
        model_file.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def layer(config, kind):
    return next(candidate for candidate in config["config"]["layers"] if candidate["class_name"] == kind)


def evil(module="os", name="system"):
    return {"module": module, "class_name": name, "config": {}, "registered_name": None}


def function(name):
    return {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}


def circle(config):
    """The first convolution takes the output of the last one."""
    layers = [candidate for candidate in config["config"]["layers"] if candidate["class_name"] == "Conv2D"]
    layers[0]["inbound_nodes"][0][0][0] = layers[-1]["config"]["name"]


def outside(file):
    del file["model_weights/stem_conv"]
    file["model_weights/stem_conv"] = h5py.ExternalLink("/etc/passwd", "/")


def loop(file):
    file["model_weights/again"] = h5py.SoftLink("/model_weights")


def borrowed(file):
    shape = file["model_weights/logit/logit/bias:0"].shape
    del file["model_weights/logit/logit/bias:0"]
    file["model_weights/logit/logit"].create_dataset(
        "bias:0", shape, "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
    )


def resized(file):
    del file["model_weights/logit/logit/kernel:0"]
    file["model_weights/logit/logit"].create_dataset("kernel:0", data=np.zeros((3, 1), np.float32))
