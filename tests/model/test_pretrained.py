"""The network and the weights of a model of crackflow, for a run that starts from it."""

import dataclasses
import os

import h5py
import numpy as np
import pytest

from crackflow.core import flags
from crackflow.core.backend import keras
from crackflow.core.config.network import Architecture, Network, Padding
from crackflow.core.config.training import TrainConfig
from crackflow.core.errors import ConfigError, UserError
from crackflow.model import model_file, networks, pretrained

PLAIN = ["--data=d", "--run_dir=r"]
DESIGN = Architecture(stem=8, widths=(16,), repeats=(1,), padding=Padding.SAME)
CARD = model_file.ModelMetadata("custom", ("clean", "cracked"), 0.5, 1.0, 48, 3, "f" * 64, {"crackflow": "0"}, 0)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run directory with a model of DESIGN at 48 px."""
    run = tmp_path_factory.mktemp("run")
    model_file.save(str(run / "model.h5"), networks.get_model_spec(Network.CUSTOM, DESIGN).build(48), CARD)
    return str(run)


def with_flags(path, *options):
    config = flags.parse(TrainConfig, [*PLAIN, f"--weights={path}", *options])
    return pretrained.with_network(config, flags.explicit_flags(config), pretrained.load(path))


def test_without_a_network_flag_all_of_them_come_from_the_file(run_dir):
    config, source = with_flags(run_dir, "--epochs=3")
    assert (config.model, config.architecture, config.image_px) == (Network.CUSTOM, DESIGN, 48)
    assert config.epochs == 3 and source.card == CARD
    again = flags.parse(TrainConfig, flags.as_flagfile(config).splitlines())  # what flags.cfg would say
    assert pretrained.with_network(again, flags.explicit_flags(again), source)[0] == config


@pytest.mark.parametrize(
    "options", [["--model=custom"], ["--stem=8"], ["--image_px=48"], ["--image_px=0"], ["--stem_kernel=3"]]
)
def test_network_flags_that_fit_change_nothing(run_dir, options):
    assert with_flags(run_dir, *options)[0] == with_flags(run_dir)[0]


@pytest.mark.parametrize(
    "option", ["--model=crackflow_s", "--model=seed", "--stem=32", "--image_px=64", "--padding=valid", "--kernel=5"]
)
def test_a_network_flag_that_does_not_fit_is_refused_naming_those_that_would(run_dir, option):
    fitting = "--model=custom --stem=8 --widths=16 --repeats=1 --padding=same --image_px=48"
    with pytest.raises(UserError) as refused:
        with_flags(run_dir, option)
    assert f"received {option}; leave all network flags out, or give these: {fitting}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_settings_made_in_python_must_fit_where_they_differ_from_the_defaults(run_dir):
    source, plain = pretrained.load(run_dir), TrainConfig(data="d", run_dir="r", weights=run_dir)
    assert pretrained.with_network(plain, flags.explicit_flags(plain), source)[0].architecture == DESIGN
    changed = dataclasses.replace(plain, model=Network.CRACKFLOW_M)
    with pytest.raises(UserError, match="received --model=crackflow_m"):
        pretrained.with_network(changed, flags.explicit_flags(changed), source)


def test_the_same_network_may_have_another_name(tmp_path):
    xs = networks.NETWORKS[Network.CRACKFLOW_XS]
    card = dataclasses.replace(CARD, network="crackflow_xs")
    model_file.save(str(tmp_path / "model.h5"), xs.build(48), card)
    options = ["--model=custom", "--stem=16", "--widths=32,32,48", "--repeats=0,0,0"]
    config, source = with_flags(str(tmp_path), *options)
    assert (config.model, config.image_px) == (Network.CUSTOM, 48) and source
    assert with_flags(str(tmp_path))[0].model is Network.CRACKFLOW_XS


def test_the_shipped_model_has_a_name_on_every_machine():
    config, source = with_flags("shipped")
    assert config.weights == "shipped" and config.architecture.standardised and source.locator
    assert source.sha256 == model_file.load("").sha256 == model_file.load("shipped").sha256


def test_a_model_of_ones_own_that_is_called_shipped_must_be_told_apart(tmp_path, monkeypatch, run_dir):
    monkeypatch.chdir(tmp_path)
    os.mkdir("shipped")
    assert pretrained.load("shipped").card.network == "custom"  # the folder holds no model
    os.symlink(os.path.join(run_dir, "model.h5"), "shipped/model.h5")
    for flag, load in (("weights", pretrained.load), ("model", model_file.load)):
        with pytest.raises(UserError, match=f"here is one of that name as well; write --{flag}=./shipped for that"):
            load("shipped")
    assert pretrained.load("./shipped").card == CARD


def test_all_weights_are_put_in_in_the_order_of_the_layers(run_dir):
    source = pretrained.load(run_dir)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    network = networks.get_model_spec(Network.CUSTOM, DESIGN).build(48)
    pretrained.copy_weights(network, source)
    for actual, expected in zip(network.get_weights(), source.model.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_a_network_of_that_name_from_another_version_is_not_filled(run_dir):
    with pytest.raises(UserError, match="expected custom as this version of crackflow builds it, received another"):
        pretrained.copy_weights(networks.NETWORKS[Network.CRACKFLOW_XS].build(48), pretrained.load(run_dir))


def test_plain_weights_have_no_network_and_flags_for_one_are_checked_as_without_them(tmp_path):
    path = str(tmp_path / "plain.h5")
    networks.NETWORKS[Network.CRACKFLOW_XS].build(32).save_weights(path)
    assert pretrained.load(path) is None
    config, source = with_flags(path)
    assert config.model is Network.CRACKFLOW_S and source is None
    with pytest.raises(ConfigError, match="--stem: expected nothing with --model=crackflow_s"):
        with_flags(path, "--stem=8")


def test_a_model_that_no_flags_describe_goes_by_layer_names(tmp_path):
    image = keras.Input((32, 32, 3), dtype="uint8")
    x = keras.layers.GlobalMaxPooling2D()(keras.layers.Rescaling(1 / 255)(image))
    strange = keras.Model(image, keras.layers.Dense(1)(x))
    model_file.save(str(tmp_path / "model.h5"), strange, dataclasses.replace(CARD, image_px=32))
    assert pretrained.load(str(tmp_path)) is not None and with_flags(str(tmp_path))[1] is None


def test_a_damaged_model_and_a_folder_without_one_are_refused(tmp_path, run_dir):
    with open(os.path.join(run_dir, "model.h5"), "rb") as file:
        data = bytearray(file.read())
    data[len(data) // 2] ^= 1
    (tmp_path / "model.h5").write_bytes(data)
    with h5py.File(tmp_path / "model.h5"):
        pass  # HDF5 itself sees nothing
    with pytest.raises(UserError, match="is damaged: its bytes are not those that were written"):
        pretrained.load(str(tmp_path))
    os.remove(tmp_path / "model.h5")
    with pytest.raises(
        UserError, match=r"--weights: .* received '.*'; name one, a run folder that holds a model.h5, or"
    ):
        pretrained.load(str(tmp_path))
