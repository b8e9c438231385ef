import itertools

import numpy as np
import pytest

from crackflow.core.backend import keras, tf
from crackflow.core.config.network import Network
from crackflow.model import blocks, networks
from tests.helpers import small

# Backbones take seconds to build; test_model_file covers them in half precision.
BACKBONES = {Network.MOBILENET_V3_SMALL, Network.EFFICIENTNET_V2_B0, Network.CONVNEXT_TINY, Network.RESNET50}
OURS = [name for name in Network if name not in BACKBONES]


@pytest.fixture
def policy():
    """Sets a policy for one test."""
    yield keras.mixed_precision.set_global_policy
    keras.mixed_precision.set_global_policy("float32")


def test_the_seed_network_has_the_parameters_of_the_project_it_comes_from():
    model = networks.NETWORKS[Network.SEED].build()
    assert model.input_shape == (None, 227, 227, 1)
    assert model.count_params() == 11_561_537


def test_the_default_network_is_small_and_fully_convolutional():
    model = networks.NETWORKS[Network.CRACKFLOW_S].build()
    assert model.count_params() <= 400_000
    sizes = {networks.NETWORKS[Network.CRACKFLOW_S].build(image_px).count_params() for image_px in (32, 64, 227)}
    assert sizes == {model.count_params()}
    assert not any(isinstance(layer, keras.layers.Flatten) for layer in model.layers)


@pytest.mark.parametrize(
    "name, image_px, padded", [("xs", 32, 0), ("s", 95, 0), ("s", 94, 2), ("s", 64, 2), ("m", 128, 10)]
)
def test_the_small_networks_add_no_zeros_where_a_picture_leaves_room(name, image_px, padded):
    model = networks.NETWORKS[Network(f"crackflow_{name}")].build(image_px)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert sum(layer.padding == "same" for layer in convolutions) == padded


def test_the_family_grows_by_a_factor_of_two_at_least_from_each_to_the_next():
    family = (Network.CRACKFLOW_XS, Network.CRACKFLOW_S, Network.CRACKFLOW_M, Network.CRACKFLOW_L)
    sizes = [networks.NETWORKS[name].build().count_params() for name in family]
    assert all(large >= 2 * small for small, large in itertools.pairwise(sizes))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, precision",
    [
        *((name, "float32") for name in Network),
        *((name, half) for name in OURS for half in ("mixed_bfloat16", "mixed_float16")),
    ],
)
def test_bytes_go_in_and_float32_logits_come_out(name, precision, policy):
    policy(precision)
    recipe = networks.NETWORKS[name]
    model = recipe.build(48)
    assert model.input.dtype == tf.uint8
    image = np.random.default_rng(0).integers(0, 256, (3, 48, 48, recipe.channels), np.uint8)
    logits = model(image, training=False)
    assert logits.dtype == tf.float32
    assert logits.shape == (3,)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("name", OURS)
def test_the_picture_decides(name):
    recipe = networks.NETWORKS[name]
    model = recipe.build(48)
    image = np.random.default_rng(0).integers(0, 256, (2, 48, 48, recipe.channels), np.uint8)
    first, second = model(image, training=False).numpy()
    assert first != second


@pytest.mark.parametrize("name", [Network.RESNET50, Network.EFFICIENTNET_V2_B0, Network.CONVNEXT_TINY])
def test_a_backbone_sees_what_its_published_weights_were_trained_on(name):
    """The first trainable layer gets the output of Keras' own preprocessing."""
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    expected = {
        Network.RESNET50: keras.applications.resnet50.preprocess_input(image.astype(np.float32)),
        Network.EFFICIENTNET_V2_B0: (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        Network.CONVNEXT_TINY: (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    }[name]
    model = networks.NETWORKS[name].build(32)
    before = next(k for k, layer in enumerate(model.layers) if layer.trainable_weights) - 1
    seen = keras.Model(model.input, model.layers[before].output)(image).numpy()
    seen = seen[:, 3:35, 3:35] if name is Network.RESNET50 else seen  # it pads with zeros before that layer
    np.testing.assert_allclose(seen, expected, atol=1e-2)


@pytest.mark.parametrize("name", [name for name in OURS if name is not Network.SEED])  # seed has no BatchNorm
def test_our_networks_have_widths_at_which_bfloat16_is_normalised_fast(name):
    norms = _norms(small.network(name))
    assert len(norms) >= 4
    assert all(layer.gamma.shape[0] % blocks.BFLOAT16_CHANNELS == 0 for layer in norms)


def test_a_backbone_normalises_in_float32_where_bfloat16_would_be_slow(policy):
    policy("mixed_bfloat16")
    norms = _norms(networks.NETWORKS[Network.MOBILENET_V3_SMALL].build(64))
    slow = [layer for layer in norms if layer.gamma.shape[0] % blocks.BFLOAT16_CHANNELS]
    assert 0 < len(slow) < len(norms)
    assert {layer.compute_dtype for layer in slow} == {"float32"}
    assert {layer.compute_dtype for layer in norms if layer not in slow} == {"bfloat16"}


def _norms(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def test_every_network_of_the_settings_has_a_recipe():
    assert set(networks.NETWORKS) == set(Network)


@pytest.mark.parametrize("name", [Network.MOBILENET_V3_SMALL])
def test_running_statistics_of_backbones_follow_within_a_short_training(name):
    model = networks.NETWORKS[name].build(64)
    norms = _norms(model)
    assert len(norms) > 10 and {layer.momentum for layer in norms} == {blocks.NORM_MOMENTUM}
