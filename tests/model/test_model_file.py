import dataclasses
import json
import os

import h5py
import numpy as np
import pytest

from crackflow.core import temporary_files
from crackflow.core.backend import keras, tf
from crackflow.core.config.network import Network
from crackflow.core.config.training import TrainConfig
from crackflow.core.errors import UserError
from crackflow.model import mask_head, model_file, networks, ood, structure
from crackflow.training import trainer
from tests.helpers import small, support
from tests.helpers.cards import CARD

IMAGE = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


@pytest.fixture
def trained():
    """A network whose BatchNorm statistics have been updated."""
    model = small.tiny_network()
    model(IMAGE, training=True)
    return model


def test_a_model_comes_back_with_its_card_and_its_answers(trained, tmp_path):
    path = str(tmp_path / "model.h5")
    model_file.save(path, trained, CARD)
    loaded = model_file.load(path)
    assert loaded.card == CARD
    np.testing.assert_allclose(loaded.model(IMAGE), trained(IMAGE, training=False), atol=1e-5)


def test_a_run_folder_stands_for_its_model(trained, tmp_path):
    model_file.save(str(tmp_path / "model.h5"), trained, CARD)
    assert model_file.load(str(tmp_path)).card == CARD


def test_plain_keras_loads_the_file(trained, tmp_path):
    path = str(tmp_path / "model.h5")
    model_file.save(path, trained, CARD)
    plain = keras.models.load_model(path, compile=False)
    np.testing.assert_allclose(plain(IMAGE), trained(IMAGE, training=False), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy, network",
    [
        ("mixed_float16", Network.CRACKFLOW_S),
        ("mixed_bfloat16", Network.CRACKFLOW_S),
        ("mixed_bfloat16", Network.MOBILENET_V3_SMALL),  # functions of TensorFlow as layers
        ("mixed_bfloat16", Network.CONVNEXT_TINY),  # layers within layers, and one of its own
    ],
)
def test_a_model_trained_in_half_precision_is_saved_in_float32(policy, network, tmp_path):
    keras.mixed_precision.set_global_policy(policy)
    try:
        config = TrainConfig(data="d", run_dir="r", batch_size=8)
        model = trainer.compile_trainer(networks.NETWORKS[network].build(32), config, 5, xla="off")
        model_file.save(str(tmp_path / "model.h5"), model, CARD)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    loaded = model_file.load(str(tmp_path / "model.h5"))
    assert {layer.compute_dtype for layer in loaded.model.layers[1:]} == {"float32"}
    assert loaded.model.input.dtype == tf.uint8
    np.testing.assert_allclose(loaded.model(IMAGE), model(IMAGE, training=False), atol=0.1)
    plain = keras.Model(model.inputs, model.outputs)  # without the metrics' own counters
    for actual, expected in zip(loaded.model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_the_file_holds_no_optimizer(trained, tmp_path):
    model_file.save(str(tmp_path / "model.h5"), trained, CARD)
    with h5py.File(tmp_path / "model.h5") as file:
        assert "optimizer_weights" not in file
        assert json.loads(file.attrs["crackflow"])["threshold"] == 0.375


def test_probabilities_are_the_logistic_function_of_the_tempered_logits():
    probabilities = model_file.to_probabilities(np.array([-800.0, 0.0, 3.0, 800.0], np.float32), temperature=1.5)
    np.testing.assert_allclose(probabilities, [0, 0.5, 1 / (1 + np.exp(-2)), 1], atol=1e-12)


def test_a_missing_model_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="expected a model.h5 or a run folder that holds one, received"):
        model_file.load(str(tmp_path))


def test_a_file_that_is_no_model_is_a_clear_error(tmp_path):
    (tmp_path / "model.h5").write_text("not a model")
    with pytest.raises(UserError, match="is damaged or no model"):
        model_file.load(str(tmp_path))


def test_a_changed_byte_anywhere_is_found_out(trained, tmp_path):
    path = tmp_path / "model.h5"
    model_file.save(str(path), trained, CARD)
    sound = path.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(sound) - model_file.CHECKSUM_TRAILER_BYTES, 20):
        damaged = bytearray(sound)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged: its bytes are not those that were written"):
            model_file.load(str(path))


def test_a_file_without_a_seal_is_read_as_well(trained, tmp_path):
    path = tmp_path / "model.h5"
    model_file.save(str(path), trained, CARD)
    path.write_bytes(path.read_bytes()[: -model_file.CHECKSUM_TRAILER_BYTES])
    assert model_file.load(str(path)).card == CARD


def test_the_hash_of_the_file_is_told(trained, tmp_path):
    path = tmp_path / "model.h5"
    model_file.save(str(path), trained, CARD)
    assert model_file.load(str(path)).sha256 == support.sha256(path)


def test_what_training_looked_like_travels_with_the_model(trained, tmp_path):
    looks = ood.FeatureStatistics(trained)(np.concatenate([IMAGE, 255 - IMAGE]))
    known = ood.fit(looks, looks)
    model_file.save(str(tmp_path / "model.h5"), trained, CARD, known)
    back = model_file.load(str(tmp_path / "model.h5")).familiarity
    np.testing.assert_allclose(back.distances(looks), known.distances(looks), rtol=1e-4)
    plain = keras.models.load_model(tmp_path / "model.h5", compile=False)
    np.testing.assert_allclose(plain(IMAGE), trained(IMAGE, training=False), atol=1e-5)


@pytest.mark.parametrize("source_px, scale", [(0, 1.0), (64, 0.5), (16, 2.0)])
def test_the_card_tells_how_large_photographs_were_made(source_px, scale):
    assert dataclasses.replace(CARD, source_px=source_px).scale == scale


def test_what_masks_taught_travels_with_the_model_and_plain_keras_reads_past_it(trained, tmp_path):
    width = trained.get_layer(structure.pooled_layer(trained)).output_shape[-1]
    path = str(tmp_path / "model.h5")
    model_file.save(path, trained, CARD)
    assert model_file.load(path).locator is None
    locator = mask_head.MaskHead(np.arange(width, dtype=np.float32), np.float32(-2))
    model_file.save(path, trained, CARD, locator=locator)
    back = model_file.load(path).locator
    np.testing.assert_array_equal(back.weights, locator.weights)
    assert back.bias == -2 and keras.models.load_model(path, compile=False).output_shape == trained.output_shape


def test_what_masks_taught_another_network_is_damage(trained, tmp_path):
    locator = mask_head.MaskHead(np.zeros(3, np.float32), np.float32(0))
    model_file.save(str(tmp_path / "model.h5"), trained, CARD, locator=locator)
    with pytest.raises(UserError, match="is damaged or no model: what it learnt from masks is damaged"):
        model_file.load(str(tmp_path / "model.h5"))


def test_a_truncated_model_is_a_clear_error(trained, tmp_path):
    path = tmp_path / "model.h5"
    model_file.save(str(path), trained, CARD)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="is damaged or no model"):
        model_file.load(str(path))


def test_a_model_of_another_program_is_a_clear_error(trained, tmp_path):
    path = tmp_path / "model.h5"
    model_file.save(str(path), trained, CARD)
    with h5py.File(path, "r+") as file:
        del file.attrs["crackflow"]
    with pytest.raises(UserError, match="was not written by crackflow"):
        model_file.load(str(path))


@pytest.mark.parametrize(
    "validation",
    [[], {"clean": 1}, {"clean": -1, "cracked": 2, "p_value": 0.1}, {"clean": 1, "cracked": 2, "p_value": "0"}],
)
def test_an_impossible_validation_is_damage(trained, tmp_path, validation):
    path = tmp_path / "model.h5"
    model_file.save(path, trained, dataclasses.replace(CARD, validation=validation))
    with pytest.raises(UserError, match="its card has an impossible validation"):
        model_file.load(str(path))


@pytest.mark.parametrize("p_value", [None, 0.25])
def test_what_validation_was_worth_travels_with_the_model(trained, tmp_path, p_value):
    facts = {"clean": 3, "cracked": 2, "p_value": p_value}
    model_file.save(tmp_path / "model.h5", trained, dataclasses.replace(CARD, validation=facts))
    assert model_file.load(str(tmp_path / "model.h5")).card.validation == facts


def rewritten(path, **changes):
    """Changes fields of the card in the file; those that are None are removed."""
    path.write_bytes(path.read_bytes()[: -model_file.CHECKSUM_TRAILER_BYTES])
    with h5py.File(path, "r+") as file:
        facts = json.loads(file.attrs["crackflow"]) | changes
        left = {name: value for name, value in facts.items() if value is not None}
        file.attrs["crackflow"] = np.bytes_(json.dumps(left).encode())


def test_a_file_of_before_photographs_had_a_threshold_decides_as_it_did(trained, tmp_path):
    path = tmp_path / "model.h5"
    model_file.save(str(path), trained, CARD)
    rewritten(path, **{name: None for name in vars(CARD) if name.startswith("photo_")})
    card = model_file.load(str(path)).card
    assert card == CARD and [card.shift_of(windows) for windows in (0.5, 1, 700)] == [0, 0, 0]


def test_the_threshold_of_photographs_comes_back_and_grows_with_the_size(trained, tmp_path):
    values = {
        "photo_shift": 0.5,
        "photo_level": -2.0,
        "photo_growth": 0.8,
        "photo_most": 3.0,
        "photo_shift_ci95": (0.1, 1.5),
    }
    card = dataclasses.replace(CARD, photo_level_ci95=(-2.5, -1.0), photo_images=150, photo_false_alarms=0.02, **values)
    model_file.save(str(tmp_path / "model.h5"), trained, card)
    assert model_file.load(str(tmp_path / "model.h5")).card == card
    assert card.shift_of(0.3) == card.shift_of(1) == 0.5
    assert card.shift_of(100) == pytest.approx(-2 + 0.8 * np.log(100))
    assert card.shift_of(700) == 3.0


@pytest.mark.parametrize(
    "name, value",
    [
        ("photo_shift", -1.0),
        ("photo_shift", float("nan")),
        ("photo_growth", float("inf")),
        ("photo_level", float("nan")),
        ("photo_shift_ci95", [1.0]),
        ("photo_level_ci95", [0.0, float("inf")]),
        ("photo_images", -1),
        ("photo_false_alarms", 2.0),
        ("brightness", -1.0),
        ("brightness", 256.0),
        ("brightness", float("nan")),
        ("calibrated_share", 1.0),
        ("calibrated_share", -0.1),
    ],
)
def test_an_impossible_threshold_of_photographs_is_refused(trained, tmp_path, name, value):
    path = tmp_path / "model.h5"
    model_file.save(str(path), trained, CARD)
    rewritten(path, **{name: value})
    with pytest.raises(UserError, match="its card has an impossible (photo_|brightness|calibrated_share)"):
        model_file.load(str(path))


def test_nothing_but_the_model_is_ever_written_beside_it(trained, tmp_path, monkeypatch):
    seen, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (seen.extend(os.listdir(tmp_path)), replace(*names)))
    model_file.save(str(tmp_path / "model.h5"), trained, CARD)
    (temporary,) = seen
    assert temporary_files.is_temporary(temporary) and os.listdir(tmp_path) == ["model.h5"]
