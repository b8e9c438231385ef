"""crackflow.export as a user runs it."""

import json
import os
import tempfile

import pytest

from crackflow import export
from crackflow.core.backend import tf
from crackflow.core.config.trained import ExportConfig, Format
from crackflow.core.errors import ConfigError, UserError, VerificationError
from crackflow.model import export_parity, model_file
from tests.helpers import schemas, support
from tests.helpers.walls import CARD, darkness

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.h5"
    model_file.save(str(path), darkness(), CARD)
    return str(path)


def test_files_and_proof_are_in_the_folder(model, tmp_path):
    out = tmp_path / "exported"
    tf.config.experimental.enable_tensor_float_32_execution(True)
    content = export.run(ExportConfig(model=model, out=str(out), images=32))
    assert not tf.config.experimental.tensor_float_32_execution_enabled()  # a GPU's logits would be 1e-3 away
    assert set(os.listdir(out)) == {
        *("savedmodel", "model_float32.tflite", "model_float16.tflite", "model_int8.tflite"),
        "parity.json",
    }
    assert json.loads((out / "parity.json").read_text()) == content
    schemas.require_valid("parity.json", content)
    assert content["images"] == 32 and content["model"]["sha256"] == support.sha256(model)
    assert content["source"] == "synthetic surfaces"
    assert all(row["agrees"] for name, row in content["formats"].items() if name != "model")


def test_a_data_set_calibrates_and_proves(model, tmp_path):
    data = tmp_path / "data"
    support.converted(support.photos(tmp_path / "photos", 40), data, split=(0.5, 0.0, 0.5))
    asked = ExportConfig(
        model=model, out=str(tmp_path / "out"), data=str(data), images=16, formats=(Format.SAVEDMODEL,)
    )
    content = export.run(asked)
    assert content["source"] == str(data) and content["images"] == 16
    assert set(content["formats"]) == {"model", "savedmodel", "savedmodel_jpeg"}


def test_a_data_set_without_test_images_is_a_clear_error(model, tmp_path):
    data = tmp_path / "data"
    support.converted(support.photos(tmp_path / "photos", 12), data, split=(1.0, 0.0, 0.0))
    with pytest.raises(UserError, match="expected images in the split 'test'"):
        export.run(ExportConfig(model=model, out=str(tmp_path / "out"), data=str(data)))
    assert not (tmp_path / "out").exists()


def test_a_difference_is_exit_1_and_the_files_are_kept(model, tmp_path, monkeypatch):
    monkeypatch.setattr(export_parity, "FLOAT_LIMIT", -1.0)
    asked = ExportConfig(model=model, out=str(tmp_path / "out"), images=16, formats=(Format.SAVEDMODEL,))
    with pytest.raises(VerificationError, match="savedmodel: expected accuracy within 1% .* look at .*parity.json"):
        export.run(asked)
    assert not json.loads((tmp_path / "out/parity.json").read_text())["formats"]["savedmodel"]["agrees"]


def test_the_shipped_model_is_itself_in_every_format(tmp_path):
    """Float within 1e-4 in probability, int8 within 1 % of accuracy, on 256 images; by the real runtimes."""
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    content = export.run(ExportConfig(out=str(tmp_path / "out"), formats=tuple(Format)))
    rows = content["formats"]
    assert content["images"] == 256
    for name in ("onnx", "savedmodel", "savedmodel_jpeg", "tflite_float32"):
        assert rows[name]["largest_difference"] <= 1e-4 and rows[name]["decisions_changed"] <= 1
    assert rows["tflite_float16"]["largest_difference"] <= 1e-2
    assert abs(rows["tflite_int8"]["accuracy"] - rows["tflite_int8"]["accuracy_of_model"]) <= 0.01


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"out": ""}, "--out: expected a path"),
        ({"formats": ()}, "--formats: expected one or more, each once"),
        ({"formats": (Format.ONNX, Format.ONNX)}, "--formats: expected one or more, each once"),
        ({"images": 3}, "--images: expected 16 to 100,000"),
        ({"seed": -1}, "--seed: expected 0 or more"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ExportConfig(**({"out": "a"} | settings))


def test_an_unknown_format_is_one_line(tmp_path):
    done = support.called("export", f"--out={tmp_path}/out", "--formats=caffe")
    support.expect_one_line(done, 2, "--formats: expected savedmodel or tflite or onnx values", "'caffe'")


def test_temporary_files_of_converters_lie_in_the_unfinished_folder_and_go_with_it(tmp_path):
    before = tempfile.gettempdir()
    with export._temporary_files_in(str(tmp_path)):
        assert tempfile.mkdtemp().startswith(str(tmp_path))
    assert tempfile.gettempdir() == before and os.listdir(tmp_path) == []
