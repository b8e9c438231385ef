"""Exported models, scored in the runtimes they are for."""

import dataclasses
import json
import pathlib
import sys

import numpy as np
import pytest

from crackflow.core.backend import tf
from crackflow.core.config.network import Network
from crackflow.core.config.trained import Format
from crackflow.core.errors import UserError
from crackflow.data import image_file
from crackflow.model import export_formats, export_parity, model_file, networks
from tests.helpers import support
from tests.helpers.lively_networks import lively

IMAGE_PX = 64
COUNT = 256
FORMATS = list(Format)


@pytest.fixture(scope="module")
def loaded():
    """A model whose probabilities on synthetic images range from 0 to 1."""
    model = lively(Network.CRACKFLOW_XS, IMAGE_PX)
    logits = model(synthetic_images(COUNT), training=False).numpy()
    card = model_file.ModelMetadata(
        "crackflow_xs", ("clean", "cracked"), 0.4, float(logits.std()), IMAGE_PX, 3, "f", {}, 0
    )
    bias = model.get_layer("logit").get_weights()
    model.get_layer("logit").set_weights([bias[0], bias[1] - logits.mean()])
    return model_file.TrainedModel(model, dataclasses.replace(card, review=(0.3, 0.5)))


def synthetic_images(count, first=0):
    return np.stack([support.picture(first + index, IMAGE_PX, IMAGE_PX) for index in range(count)])


@pytest.fixture(scope="module")
def exported(loaded, tmp_path_factory):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    folder = str(tmp_path_factory.mktemp("exported"))
    return export_parity.export(export_formats.ServingModule(loaded), FORMATS, folder, synthetic_images(200, 1000))


@pytest.mark.slow
def test_every_format_is_the_model_on_256_images(loaded, exported):
    images_ = synthetic_images(COUNT)
    labels = loaded.probabilities(images_) >= loaded.card.threshold
    assert 40 < labels.sum() < 216  # both decisions occur, so that either may be wrong
    rows = export_parity.compare(loaded, exported, images_, labels)
    names = ["onnx", "savedmodel", "savedmodel_jpeg", "tflite_float32", "tflite_float16", "tflite_int8"]
    assert list(rows) == ["model", *names]
    assert all(rows[name]["images"] == COUNT and rows[name]["ms_per_image"] > 0 for name in names)
    assert all(rows[name]["agrees"] for name in names[:-1])
    for name in ("onnx", "savedmodel", "savedmodel_jpeg", "tflite_float32"):
        assert rows[name]["largest_difference"] <= 1e-4
    assert rows["tflite_float16"]["largest_difference"] <= 1e-2
    # Many of these probabilities lie at the threshold; the test of the shipped model requires 1 % of int8.
    assert rows["tflite_int8"]["mean_difference"] < 0.03
    assert rows["tflite_int8"]["bytes"] < rows["tflite_float16"]["bytes"] < rows["tflite_float32"]["bytes"]
    json.dumps(rows, allow_nan=False)


def test_no_file_that_was_run_is_mapped(exported):
    """Windows can't move a mapped file to its final path."""
    with open("/proc/self/maps") as file:
        mapped = file.read()
    assert not [file.path for file in exported if file.path in mapped]


def test_a_savedmodel_decides_by_itself(loaded, exported):
    path = next(file.path for file in exported if file.name == "savedmodel")
    served = tf.saved_model.load(path)
    outputs = served.signatures["serving_default"](image=tf.constant(synthetic_images(64)))
    probabilities = loaded.probabilities(synthetic_images(64))
    np.testing.assert_allclose(outputs["probability"], probabilities, atol=1e-5)
    np.testing.assert_array_equal(outputs["cracked"], probabilities >= 0.4)
    np.testing.assert_array_equal(outputs["review"], (probabilities >= 0.3) & (probabilities < 0.5))


def test_a_savedmodel_holds_its_two_functions_and_nothing_of_keras(exported):
    path = next(file.path for file in exported if file.name == "savedmodel")
    from tensorflow.core.protobuf import saved_model_pb2  # after the backend, which decides which Keras TensorFlow uses

    read = saved_model_pb2.SavedModel.FromString((pathlib.Path(path) / "saved_model.pb").read_bytes())
    functions = read.meta_graphs[0].object_graph_def.concrete_functions
    assert len(functions) == 4, list(functions)  # image and jpeg, and the signature around each


def test_its_jpeg_signature_takes_whole_files_of_any_size(loaded, exported):
    path = next(index.path for index in exported if index.name == "savedmodel")
    served = tf.saved_model.load(path)
    sizes = [(64, 64), (227, 227), (200, 90), (30, 40)]
    files = [support.encoded(support.picture(index, *size), quality=95) for index, size in enumerate(sizes)]
    probabilities = served.signatures["jpeg"](jpeg=tf.constant(files))["probability"].numpy()
    decoded = [image_file.pixels(image_file.parse_photo(index, "", 100), 3, IMAGE_PX) for index in files]
    np.testing.assert_allclose(
        probabilities, loaded.probabilities(np.stack(decoded)), atol=0.02
    )  # resized by 1 level at most


def test_a_format_that_differs_is_told(loaded, exported):
    wrong = exported[0]._replace(score=lambda image: (np.float32([0.9]), np.array([True]), np.array([False])))
    labels = loaded.probabilities(synthetic_images(32)) >= loaded.card.threshold
    rows = export_parity.compare(loaded, [wrong], synthetic_images(32), labels)
    assert not rows["onnx"]["agrees"] and rows["onnx"]["decisions_changed"] == int((~labels).sum())
    (message,) = export_parity.failures(rows)
    assert (
        message.startswith("onnx: expected accuracy within 1% of") and "probabilities within 0.0001, found" in message
    )


def test_a_format_that_gives_no_numbers_is_told(loaded, exported):
    wrong = exported[0]._replace(score=lambda image: (np.float32([np.nan]), np.array([True]), np.array([False])))
    rows = export_parity.compare(loaded, [wrong], synthetic_images(16), np.ones(16, bool))
    assert not rows["onnx"]["agrees"] and rows["onnx"]["largest_difference"] is None
    json.dumps(rows, allow_nan=False)
    assert export_parity.failures(rows) == ["onnx: expected probabilities, received values that are no numbers"]


def test_a_package_that_is_missing_is_a_clear_error(loaded, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnx needs onnxruntime, which is not installed: pip install 'crackflow"):
        export_parity.export(export_formats.ServingModule(loaded), [Format.ONNX], str(tmp_path), synthetic_images(8))


@pytest.mark.slow
@pytest.mark.parametrize(
    "network, form, names",
    [
        (Network.SEED, Format.TFLITE, ["tflite_float32", "tflite_float16", "tflite_int8"]),
        (Network.MOBILENET_V3_SMALL, Format.SAVEDMODEL, ["savedmodel", "savedmodel_jpeg"]),
    ],
)
def test_other_networks_are_exported_as_well(network, form, names, tmp_path):
    model = networks.NETWORKS[network].build(IMAGE_PX)
    card = model_file.ModelMetadata(network.value, ("a", "b"), 0.4, 1.0, IMAGE_PX, model.input_shape[-1], "f", {}, 0)
    loaded = model_file.TrainedModel(model, card)
    images = synthetic_images(16)[..., : card.channels]
    files = export_parity.export(export_formats.ServingModule(loaded), [form], str(tmp_path), images)
    rows = export_parity.compare(loaded, files, images, loaded.probabilities(images) >= 0.4)
    for name in names:
        assert rows[name]["agrees"], rows[name]
