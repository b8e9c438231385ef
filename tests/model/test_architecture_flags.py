"""Recovering the flags that describe a network which was built before."""

import pytest

from crackflow.core.backend import keras
from crackflow.core.config.network import Activation, Architecture, Block, Downsampling, Network, Padding, Pooling
from crackflow.model import architecture_flags, model_file, networks
from tests.helpers import small

DESIGNS = [
    Architecture(),
    Architecture(
        stem=8,
        stem_kernel=5,
        stem_stride=4,
        widths=(16, 24),
        repeats=(1, 0),
        block=Block.SEPARABLE,
        kernel=5,
        downsampling=Downsampling.MAX,
        squeeze_excite=4,
        activation=Activation.GELU,
        pooling=Pooling.MAX,
        dropout=0.3,
    ),
    Architecture(
        stem=7,
        widths=(9,),
        repeats=(2,),
        block=Block.PLAIN,
        pooling=Pooling.MEAN,
        padding=Padding.SAME,
        standardised=True,
        activation=Activation.SWISH,
        downsampling=Downsampling.AVERAGE,
    ),
    Architecture(stem=1, widths=(2, 2, 2, 2), repeats=(0, 0, 0, 3)),
]


@pytest.mark.parametrize("design", DESIGNS, ids=range(len(DESIGNS)))
@pytest.mark.parametrize("image_px", [32, 96])
def test_the_flags_of_a_network_of_ones_own_follow_from_its_layers(design, image_px):
    model = networks.get_model_spec(Network.CUSTOM, design).build(image_px)
    recovered = architecture_flags.recover_flags(model, "custom")
    assert (recovered.model, recovered.image_px) == (Network.CUSTOM, image_px)
    rebuilt = networks.get_model_spec(Network.CUSTOM, recovered.architecture).build(image_px)
    assert architecture_flags.is_same(rebuilt, model)
    if image_px == 96:  # smaller images are padded either way
        assert recovered.architecture == design


def test_channels_that_several_numbers_squeeze_alike_are_described_by_one_of_them():
    design = Architecture(stem=4, widths=(9,), repeats=(0,), squeeze_excite=64)
    recovered = architecture_flags.recover_flags(networks.get_model_spec(Network.CUSTOM, design).build(32), "custom")
    assert recovered.architecture.squeeze_excite == 5  # 9 // 5 is 1, as 9 // 64 would be less


@pytest.mark.parametrize("name", [network for network in Network if network is not Network.CUSTOM])
def test_networks_with_a_name_are_called_by_it_whatever_they_were_trained_in(name):
    model = small.network(name)
    recovered = architecture_flags.recover_flags(model, name.value)
    assert (recovered.model, recovered.image_px) == (name, small.IMAGE_PX)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    if name not in architecture_flags.APPLICATIONS:
        assert architecture_flags.is_same(networks.NETWORKS[name].build(small.IMAGE_PX), model_file.as_float32(model))
    assert keras.mixed_precision.global_policy().name == "mixed_bfloat16"


@pytest.mark.parametrize("name", [Network.CRACKFLOW_XS, Network.CRACKFLOW_M])
def test_a_name_that_means_another_network_today_gives_way_to_the_layers(name):
    recovered = architecture_flags.recover_flags(small.network(name), "crackflow_s")
    assert recovered.model is Network.CUSTOM and architecture_flags.is_built_by(small.network(name), recovered)


def test_a_network_that_no_flags_build_has_none():
    image = keras.Input((32, 32, 3), dtype="uint8")
    x = keras.layers.Conv2D(4, 3, name="stem_conv")(keras.layers.Rescaling(1 / 255)(image))
    strange = keras.Model(image, keras.layers.Dense(1)(keras.layers.GlobalMaxPooling2D()(x)))
    assert architecture_flags.recover_flags(strange, "custom") is None
    assert architecture_flags.recover_flags(strange, "a name of tomorrow") is None
    tanh = networks.NETWORKS[Network.CRACKFLOW_XS].build(32).get_config()
    for layer in tanh["layers"]:
        if layer["class_name"] == "Activation":
            layer["config"]["activation"] = "tanh"
    assert architecture_flags.recover_flags(keras.Model.from_config(tanh), "crackflow_xs") is None
