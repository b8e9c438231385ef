"""Model files that would run code, exhaust memory or hang, created here and refused."""

import json
import os

import h5py
import numpy as np
import pytest

from crackflow.core.backend import keras
from crackflow.core.config.network import Network
from crackflow.core.errors import UserError
from crackflow.model import model_file, networks, safe_load
from tests.helpers import small
from tests.helpers.hostile_models import (  # noqa: F401 - fixtures
    CARD,
    borrowed,
    circle,
    evil,
    function,
    hostile,
    layer,
    loop,
    outside,
    put,
    refusal,
    resized,
    sound,
)

# Two backbones pass in tests/model/test_model_file.py, which loads them as they come out of training.
LOADED_THERE = {Network.MOBILENET_V3_SMALL, Network.CONVNEXT_TINY}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in Network if name not in LOADED_THERE])
def test_every_network_of_ours_passes(name, tmp_path):
    recipe = networks.NETWORKS[name]
    card = model_file.ModelMetadata(name.value, ("a", "b"), 0.5, 1.0, small.IMAGE_PX, recipe.channels, "f", {}, 0)
    model_file.save(str(tmp_path / "model.h5"), small.network(name), card)
    assert model_file.load(str(tmp_path / "model.h5")).card == card


def test_a_lambda_layer_is_refused_and_its_code_not_run(tmp_path):
    trace = str(tmp_path / "trace")
    image = keras.Input((32, 32, 3), dtype="uint8")
    code = keras.layers.Lambda(lambda x: (open(trace, "w").close(), x)[1], name="evil")
    x = keras.layers.Rescaling(1 / 255)(code(image))
    logit = keras.layers.Dense(1)(keras.layers.GlobalMaxPooling2D()(x))
    model = keras.Model(image, keras.layers.Reshape(())(logit))
    path = str(tmp_path / "model.h5")
    keras.models.save_model(model, f"{path}.keras", include_optimizer=False, save_format="h5")
    os.remove(trace)
    with h5py.File(f"{path}.keras") as keras_file, h5py.File(path, "w", libver=model_file.FORMAT) as file:
        model_file._copy_group(keras_file, file)
        put(file, model_file.ATTRIBUTE, json.dumps(CARD.__dict__))
    assert "Lambda layer, which is code and would be run" in refusal(path)
    assert not os.path.exists(trace)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: layer(c, "Activation")["config"].update(activation=evil()), "it names os.system"),
        (lambda c: layer(c, "Activation")["config"].update(activation=function("exec")), "builtins.function"),
        (lambda c: layer(c, "Conv2D").update(evil("subprocess", "Popen")), "it names subprocess.Popen"),
        (lambda c: layer(c, "Conv2D")["config"].update(kernel_initializer=evil("builtins", "eval")), "builtins.eval"),
        (lambda c: layer(c, "Conv2D")["config"].update(kernel_constraint={"class_name": "X"}), "unknown class X"),
        (lambda c: layer(c, "Dense").update(class_name="TextVectorization"), "unknown class TextVectorization"),
        (lambda c: layer(c, "Dense").update(class_name="RNN"), "unknown class RNN"),
        (lambda c: layer(c, "Dense").update(registered_name="Custom>Evil"), "'Custom>Evil', registered elsewhere"),
        (
            lambda c: layer(c, "Dense").update(class_name="TFOpLambda", config={"function": "io.write_file"}),
            "names the function 'io.write_file'",
        ),
        (lambda c: layer(c, "Dense")["config"].update(function="io.read_file"), "names the function 'io.read_file'"),
        (lambda c: layer(c, "Dense").update(class_name=["Dense"]), r"it names \['Dense'\]"),
    ],
)
def test_whatever_is_no_plain_layer_is_refused(hostile, change, message):
    path = hostile(change)
    with pytest.raises(UserError, match=message) as caught:
        model_file.load(path)
    assert "is refused" in str(caught.value)


@pytest.mark.parametrize(
    "change, message",
    [
        (circle, "takes what no layer before it makes"),
        (lambda c: layer(c, "Dense").update(inbound_nodes=[[["nobody", 0, 0, {}]]]), "no layer before it makes"),
        (lambda c: c["config"].update(layers=[]), "expected 1 to 2,000 layers"),
        (lambda c: c["config"].update(layers=c["config"]["layers"] * 2), "two layers"),
        (lambda c: c["config"]["layers"].append(7), "no settings"),
        (lambda c: c.update(class_name="Dense"), "expected the description of a network, found 'Dense'"),
        (lambda c: c.update(config=[]), "its description of the network is none"),
        (lambda c: layer(c, "Conv2D")["config"].update(filters=-3), "its description makes no network"),
        (lambda c: layer(c, "Conv2D")["config"].update(filters="many"), "its description makes no network"),
        (lambda c: layer(c, "Conv2D")["config"].update(filters=10**9), "expected the shapes"),
        (lambda c: layer(c, "Dense")["config"].update(units=10**12), "its description makes no network"),
        (lambda c: layer(c, "Dense")["config"].update(units=7), "its description makes no network"),
        (lambda c: layer(c, "Dense")["config"].update(use_bias=False), "expected the shapes"),
    ],
)
def test_a_description_that_makes_no_such_network_is_damaged(hostile, change, message):
    path = hostile(change)
    with pytest.raises(UserError, match=message) as caught:
        model_file.load(path)
    assert "is damaged or no model" in str(caught.value)


def bomb(file):
    file.create_dataset("large", (10**6, 10**3), "f4", compression="gzip", chunks=(1000, 1000))


def texts(file):
    file.create_dataset("words", data=np.array([b"import os"], np.bytes_))


def variable(file):
    file.attrs["model_config"] = "text of variable length"


def endless(file):
    file["model_weights/self"] = file["model_weights"]


@pytest.mark.parametrize(
    "file_change, message",
    [
        (outside, "is a link to another place or file"),
        (loop, "is a link to another place or file"),
        (borrowed, "lies in another file"),
        (bomb, "its arrays would be larger than the file"),
        (resized, r"the weights of its layer 'logit': expected the shapes \[\(96, 1\), \(1,\)\], found \[\(3, 1\)"),
        (texts, "holds no numbers"),
        (variable, "its attribute 'model_config' is neither numbers nor text of a fixed length"),
        (endless, "nested too deep, or hold themselves"),
        (lambda f: f.__delitem__("model_weights"), "its weights are not where it says"),
        (lambda f: f.attrs.__delitem__("model_config"), "it describes no network"),
        (lambda f: put(f, "model_config", "[" * 100_000), "cannot be read"),
        (lambda f: f["model_weights/logit/logit/bias:0"].write_direct(np.float32([np.nan])), "no numbers"),
    ],
)
def test_a_file_with_other_than_its_own_weights_is_an_error(hostile, file_change, message):
    path = hostile(file_change=file_change)
    with pytest.raises(UserError, match=message):
        model_file.load(path)


def test_a_network_of_more_pixels_than_its_card_is_an_error(hostile):
    def wider(file):
        card = json.loads(file.attrs[model_file.ATTRIBUTE])
        put(file, model_file.ATTRIBUTE, json.dumps(card | {"image_px": 64}))

    assert "expected a network of (None, 64, 64, 3) to one logit each" in refusal(hostile(file_change=wider))


@pytest.mark.parametrize(
    "field, value",
    [
        ("classes", ["only"]),
        ("review", [0.2, 3.0]),
        ("threshold", 1.5),
        ("temperature", 0.0),
        ("image_px", -1),
        ("image_px", 10**9),
        ("source_px", 1.5),
        ("mm_per_px", -1.0),
        ("network", None),
        ("versions", 3),
    ],
)
def test_a_card_that_cannot_be_is_an_error(hostile, field, value):
    def change(file):
        card = json.loads(file.attrs[model_file.ATTRIBUTE])
        put(file, model_file.ATTRIBUTE, json.dumps(card | {field: value}))

    assert f"its card has an impossible {field}" in refusal(hostile(file_change=change))


@pytest.mark.parametrize("text", ["", "[]", "7", '{"network": 1}', "{", "null"])
def test_a_card_that_is_none_is_an_error(hostile, text):
    assert "is damaged or no model" in refusal(hostile(file_change=lambda file: put(file, model_file.ATTRIBUTE, text)))


def test_a_file_of_the_older_format_is_an_error(tmp_path):
    model = networks.NETWORKS[Network.CRACKFLOW_XS].build(32)
    path = str(tmp_path / "model.h5")
    keras.models.save_model(model, path, include_optimizer=False, save_format="h5")
    assert "its format is older than crackflow writes (HDF5 superblock 0, expected 2 or more)" in refusal(path)


@pytest.mark.parametrize("data", [b"", b"\x89HDF\r\n\x1a\n", b"not a model"])
def test_what_is_no_such_file_at_all_is_an_error(data, tmp_path):
    (tmp_path / "model.h5").write_bytes(data)
    assert "is damaged or no model" in refusal(str(tmp_path / "model.h5"))


def test_the_reasons_have_their_own_kinds(hostile):
    with h5py.File(hostile(lambda c: layer(c, "Dense").update(class_name="Lambda"))) as file:
        with pytest.raises(safe_load.UnsafeModelError):
            safe_load.check(file)
    with h5py.File(hostile(circle)) as file:
        with pytest.raises(safe_load.DamagedModelError):
            safe_load.check(file)
