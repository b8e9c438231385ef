"""The building blocks of networks: every choice, alone and together."""

import itertools

import numpy as np
import pytest

from crackflow.core.backend import keras, tf
from crackflow.core.config.network import Activation, Architecture, Block, Downsampling, Network, Padding, Pooling
from crackflow.inference import sliding_window
from crackflow.model import networks

layers = keras.layers
SMALL = {"stem": 16, "widths": (16, 32), "repeats": (1, 1)}


def build(image_px=64, **settings):
    return networks.get_model_spec(Network.CUSTOM, Architecture(**SMALL | settings)).build(image_px)


def layers_of_type(model, layer_type):
    return [layer for layer in model.layers if isinstance(layer, layer_type)]


def noise_images(image_px=64, count=2):
    """Images that are each half as bright as the one before."""
    noise = np.random.default_rng(0).integers(0, 256, (count, image_px, image_px, 3), np.uint8)
    return noise >> np.arange(count, dtype=np.uint8)[:, None, None, None]


def enliven(model):
    """Sets weights that no layer begins with, so that nothing is the identity or the same everywhere."""
    random = np.random.default_rng(1)
    model.set_weights(
        [
            random.normal(0, np.sqrt(2 / np.prod(weight.shape[:-1])), weight.shape)
            if weight.ndim > 1
            else random.uniform(0.5, 1.5, weight.shape)
            for weight in model.get_weights()
        ]
    )
    return model


def test_without_flags_a_custom_network_is_crackflow_s():
    custom, crackflow_s = (
        networks.NETWORKS[name].build(96).get_config() for name in (Network.CUSTOM, Network.CRACKFLOW_S)
    )
    assert {**custom, "name": ""} == {**crackflow_s, "name": ""}


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("block, downsampling", list(itertools.product(Block, Downsampling)))
def test_every_block_takes_bytes_and_gives_float32_logits_under_every_policy(block, downsampling, policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = build(block=block, downsampling=downsampling, squeeze_excite=4, activation=Activation.GELU, dropout=0.5)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    logits = enliven(model)(noise_images(), training=False)
    assert logits.dtype == tf.float32 and logits.shape == (2,) and np.isfinite(logits).all()
    assert logits[0] != logits[1]  # the logit depends on the image


@pytest.mark.parametrize("block", Block)
def test_a_network_without_padding_scores_every_window_of_a_photograph_as_if_alone(block):
    image_px = 96
    model = enliven(build(image_px, block=block, pooling=Pooling.MEAN_MAX, downsampling=Downsampling.AVERAGE))
    scorer = sliding_window.create_scorer(model)
    assert isinstance(scorer, sliding_window.FullyConvolutionalScorer)
    photograph = np.random.default_rng(2).integers(0, 256, (128, 144, 3), np.uint8)
    scores = scorer.score(photograph)
    for row, column in np.ndindex(scores.shape):
        y, x = row * scorer.step, column * scorer.step
        window = photograph[y : y + image_px, x : x + image_px]
        if window.shape == (image_px, image_px, 3):
            assert scores[row, column] == pytest.approx(float(model(window[None])[0]), rel=1e-3, abs=1e-3)


def test_a_picture_that_is_too_small_for_that_is_padded():
    assert all(layer.padding == "valid" for layer in layers_of_type(build(64), layers.Conv2D))
    assert any(
        layer.padding == "same"
        for layer in layers_of_type(build(32, widths=(16,) * 4, repeats=(1,) * 4), layers.Conv2D)
    )
    assert all(layer.padding == "same" for layer in layers_of_type(build(64, padding=Padding.SAME), layers.Conv2D))


@pytest.mark.parametrize("downsampling", Downsampling)
def test_every_stage_halves_the_picture(downsampling):
    model = build(128, widths=(16, 16, 16), repeats=(0, 0, 0), padding=Padding.SAME, downsampling=downsampling)
    sides = [
        model.get_layer(f"{name}_relu").output_shape[1] for name in ("stem", *(f"stage{n}_down" for n in (1, 2, 3)))
    ]
    assert sides == [64, 32, 16, 8]


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_stem_has_the_stride_and_kernel_that_were_asked_for(stride):
    stem = build(64, stem_stride=stride, stem_kernel=5).get_layer("stem_conv")
    assert (stem.strides, stem.kernel_size) == ((stride, stride), (5, 5))


@pytest.mark.parametrize("block", [Block.RESIDUAL, Block.SEPARABLE])
def test_a_new_block_with_an_identity_beside_it_changes_nothing(block):
    model = build(padding=Padding.SAME, block=block)
    inside = keras.Model(model.input, [model.get_layer(f"stage1_{end}_relu").output for end in ("down", "block1")])
    before, after = inside(noise_images(), training=False)
    np.testing.assert_array_equal(before, after)


def test_separable_networks_mix_channels_by_single_cells_after_the_stem():
    model = build(block=Block.SEPARABLE)
    full = [layer for layer in layers_of_type(model, layers.Conv2D) if not isinstance(layer, layers.DepthwiseConv2D)]
    assert [layer.name for layer in full if layer.kernel_size != (1, 1)] == ["stem_conv"]
    assert len(layers_of_type(model, layers.DepthwiseConv2D)) == 4
    assert model.count_params() < build(block=Block.PLAIN).count_params()
    assert not networks.get_model_spec(Network.CUSTOM, Architecture(block=Block.SEPARABLE)).bfloat16_on_cpu


def stem(model, name):
    return keras.Model(model.input, model.get_layer(name).output)


def test_half_of_a_standardised_stem_sees_nothing_of_light_and_contrast():
    model = enliven(build(padding=Padding.SAME, standardised=True))
    plain = noise_images(count=1) // 2 * 2
    duller = plain // 2 + 90
    standardised, plain_half = (stem(model, name) for name in ("stem_even_relu", "stem_relu"))
    np.testing.assert_allclose(standardised(plain), standardised(duller), rtol=0.03, atol=0.05)
    assert np.abs(standardised(plain)).mean() > 0.3
    assert np.abs(plain_half(plain) - plain_half(duller)).mean() > 0.2 * np.abs(plain_half(plain)).mean()


def test_the_noise_of_a_flat_wall_is_not_blown_up():
    standardised = stem(build(padding=Padding.SAME, standardised=True), "stem_standardised")
    noise = np.random.default_rng(0).normal(120, 1, (1, 64, 64, 3)).round().astype(np.uint8)
    assert np.std(standardised(noise)) < 0.1 and np.std(standardised(noise_images())) > 0.8


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_standardised_network_works_at_any_stride_under_every_policy(stride, policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = build(63, padding=Padding.SAME, standardised=True, stem_stride=stride, stem=15)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert model.get_layer("stem_both").output_shape[1:] == (-(-63 // stride), -(-63 // stride), 15)
    logits = model(noise_images(63), training=True)
    assert logits.dtype == tf.float32 and np.isfinite(logits).all() and logits[0] != logits[1]


def test_channels_that_bfloat16_is_slow_with_are_normalised_in_float32():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = build(stem=16, widths=(24, 32), padding=Padding.SAME, standardised=True)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    dtypes = {layer.name: layer.compute_dtype for layer in layers_of_type(model, layers.BatchNormalization)}
    slow = {name for name in dtypes if name.startswith(("stem", "stage1"))}
    assert {dtypes[name] for name in slow} == {"float32"}
    assert {dtypes[name] for name in dtypes.keys() - slow} == {"bfloat16"}


def test_squeeze_excite_weighs_each_channel_with_the_same_number_everywhere():
    model = enliven(build(squeeze_excite=4))
    assert model.get_layer("stage2_se_squeeze").units == 8
    weighing = model.get_layer("stage2_se")
    inside = keras.Model(model.input, [*weighing.input, weighing.output])
    before, weights, after = (part.numpy() for part in inside(noise_images(), training=False))
    assert weights.shape == (2, 1, 1, 32) and (weights > 0).all() and (weights < 1).all()
    np.testing.assert_allclose(after, before * weights, rtol=1e-5)


@pytest.mark.parametrize("pooling, names", [("mean", ["mean"]), ("max", ["max"]), ("mean_max", ["mean", "max"])])
def test_the_picture_is_pooled_as_asked(pooling, names):
    model = build(pooling=Pooling(pooling))
    pools = layers_of_type(model, layers.GlobalAveragePooling2D | layers.GlobalMaxPooling2D)
    assert [layer.name for layer in pools] == names
    assert model.get_layer("logit").input_shape == (None, 32 * len(names))


def test_dropout_is_there_when_asked_for_and_only_in_training():
    assert not layers_of_type(build(), layers.Dropout)
    model = enliven(build(dropout=0.5))
    assert [layer.rate for layer in layers_of_type(model, layers.Dropout)] == [0.5]
    calm = [model(noise_images(), training=False).numpy() for _ in range(2)]
    np.testing.assert_array_equal(*calm)
    assert not np.array_equal(model(noise_images(), training=True), model(noise_images(), training=True))
