import json

import h5py
import numpy as np
import pytest

from crackflow.core.backend import keras
from crackflow.core.config.network import Network
from crackflow.core.errors import UserError
from crackflow.model import layer_weights, mask_head, networks, structure


def build(name, seed):
    keras.utils.set_random_seed(seed)
    return networks.NETWORKS[name].build(32)


def test_weights_saved_by_keras_are_taken_by_name(tmp_path):
    source, target = build(Network.CRACKFLOW_XS, 1), build(Network.CRACKFLOW_XS, 2)
    source.save_weights(tmp_path / "w.h5")
    loaded, missing = layer_weights.load_by_name(target, str(tmp_path / "w.h5"))
    assert missing == [] and set(loaded) == {layer.name for layer in source.layers if layer.weights}
    for a, b in zip(source.get_weights(), target.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_whole_model_file_serves_as_well(tmp_path):
    source, target = build(Network.CRACKFLOW_XS, 1), build(Network.CRACKFLOW_XS, 2)
    source.save(tmp_path / "m.h5", save_format="h5")
    assert layer_weights.load_by_name(target, str(tmp_path / "m.h5"))[1] == []


def test_layers_of_other_shapes_are_left_as_they_are(tmp_path):
    source, target = build(Network.CRACKFLOW_XS, 1), build(Network.CRACKFLOW_M, 2)
    source.save_weights(tmp_path / "w.h5")
    before = target.get_layer("stem_conv").get_weights()
    with pytest.raises(UserError):
        layer_weights.load_by_name(target, str(tmp_path / "w.h5"))
    np.testing.assert_array_equal(before[0], target.get_layer("stem_conv").get_weights()[0])


@pytest.mark.slow
def test_the_backbone_of_keras_applications_is_taken_and_the_new_head_is_not(tmp_path):
    keras.utils.set_random_seed(1)
    published = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(32, 32, 3))
    published.save_weights(tmp_path / "notop.h5")
    model = build(Network.MOBILENET_V3_SMALL, 2)
    loaded, missing = layer_weights.load_by_name(model, str(tmp_path / "notop.h5"))
    assert missing == ["logit"]
    assert set(loaded) == {layer.name for layer in published.layers if layer.weights}
    image = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    features = keras.Model(model.input, model.get_layer("mean").output)(image)
    expected = published(image.astype(np.float32), training=False).numpy().mean((1, 2))
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)


def save_renamed(model, path, prefix, names):
    """Saves the weights of `model` to a file in which the layers `names` have other names."""
    config = model.get_config()
    text = json.dumps(config)
    for name in names:
        text = text.replace(f'"{name}"', f'"{prefix}{name}"')
    target = keras.Model.from_config(json.loads(text))
    target.set_weights(model.get_weights())
    target.save_weights(path)


@pytest.mark.parametrize("names", [["stem_conv"], ["stage1_down_conv", "stage2_down_conv", "stage3_down_conv", "logit",
                                                   "stage3_down_norm"]])  # fmt: skip
def test_a_file_that_leaves_the_first_or_most_layers_new_sets_nothing(tmp_path, names):
    source, target = build(Network.CRACKFLOW_XS, 1), build(Network.CRACKFLOW_XS, 2)
    save_renamed(source, tmp_path / "w.h5", "other_", names)
    before = target.get_weights()
    with pytest.raises(UserError, match=rf"fills {9 - len(names)} of 9 and leaves {names[0]}.* new; choose the file"):
        layer_weights.load_by_name(target, str(tmp_path / "w.h5"))
    for expected, actual in zip(before, target.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, actual)


@pytest.mark.parametrize(("names", "between"), [(["logit"], []), (["stage2_down_conv"], ["stage2_down_conv"])])
def test_new_layers_before_those_that_were_taken_are_named(tmp_path, names, between):
    source, target = build(Network.CRACKFLOW_XS, 1), build(Network.CRACKFLOW_XS, 2)
    save_renamed(source, tmp_path / "w.h5", "other_", names)
    loaded, missing = layer_weights.load_by_name(target, str(tmp_path / "w.h5"))
    assert missing == names and layer_weights.new_before_loaded(target, loaded) == between


@pytest.mark.slow
def test_a_layer_that_is_fixed_is_not_new(tmp_path):
    model = build(Network.RESNET50, 2)
    model.save_weights(tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5", "a") as file:  # as Keras Applications publish them
        names = [name for name in file.attrs["layer_names"] if name not in ("blue_green_red", "logit")]
        file.attrs["layer_names"] = names
    loaded, missing = layer_weights.load_by_name(model, str(tmp_path / "w.h5"))
    assert missing == ["blue_green_red", "logit"] and layer_weights.new_before_loaded(model, loaded) == []


@pytest.mark.parametrize("content", [b"", b"no H5 at all", None])
def test_a_file_that_holds_no_weights_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "w.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"--weights: expected an H5 file of weights saved by Keras, received '.*w\.h5'"
    ):
        layer_weights.load_by_name(build(Network.CRACKFLOW_XS, 1), str(path))


def test_an_h5_file_of_something_else_is_refused(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["numbers"] = np.arange(3)
    with pytest.raises(UserError, match="expected an H5 file of weights saved by Keras"):
        layer_weights.load_by_name(build(Network.CRACKFLOW_XS, 1), str(tmp_path / "w.h5"))


def test_weights_of_another_network_are_refused_with_the_names_of_both(tmp_path):
    build(Network.SEED, 1).save_weights(tmp_path / "w.h5")
    with pytest.raises(
        UserError, match=r"expected layers such as stem_conv.* has conv1, conv2, conv3; choose the file"
    ):
        layer_weights.load_by_name(build(Network.CRACKFLOW_XS, 1), str(tmp_path / "w.h5"))


def test_a_mask_head_is_loaded_and_refused_where_it_does_not_fit_the_features(tmp_path):
    model = build(Network.CRACKFLOW_XS, 1)
    width = model.get_layer(structure.pooled_layer(model)).output_shape[-1]
    path = tmp_path / "w.h5"
    model.save_weights(path)
    assert layer_weights.locator(model, str(path)) is None

    def write_head(count):
        with h5py.File(path, "a") as file:
            if mask_head.GROUP in file:
                del file[mask_head.GROUP]
            mask_head.MaskHead(np.ones(count, np.float32), np.float32(2)).write(file)

    write_head(width)
    head = layer_weights.locator(model, str(path))
    assert head.bias == 2 and head.weights.sum() == width
    write_head(width + 1)
    with pytest.raises(ValueError, match="what it learnt from masks is damaged or of another network"):
        layer_weights.locator(model, str(path))
