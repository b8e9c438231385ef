"""Compares exported models with the model itself, by running each format in its own runtime on the same images.

Synopsis::

    files = export_parity.export(served, [Format.SAVEDMODEL, Format.ONNX], "out", calibration)
    rows = export_parity.compare(loaded, files, images, labels)     # the rows of parity.json, one per file
    export_parity.failures(rows)                                    # [] when every file agrees
"""

import importlib
import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from crackflow.core.backend import tf
from crackflow.core.config.trained import Format
from crackflow.data import image_file
from crackflow.model import export_formats
from crackflow.model.export_formats import TFLitePrecision
from crackflow.model.model_file import TrainedModel

FLOAT_LIMIT = 1e-4  # of a probability
HALF_LIMIT = 1e-2  # of a probability, with weights of 11 bits
ACCURACY_LIMIT = 0.01
TIMED = 50  # images, scored one by one, whose median time is reported
JPEG_QUALITY = 95


class ExportedModel(NamedTuple):
    """An exported model.

    Attributes:
      name: the name of its row in parity.json.
      path: the file or directory.
      runtime: the runtime that `score` uses.
      score: uint8 [1, px, px, C] to (probability float32 [1], cracked bool [1], review bool [1]), in the format's own
        runtime.
      limit: the largest allowed difference in probability; None where accuracy alone counts.
      takes: the input, image or jpeg.
    """

    name: str
    path: str
    runtime: str
    score: Callable
    limit: float | None
    takes: str = "image"


def export(
    served: export_formats.ServingModule, formats: list[Format], folder: str, calibration: np.ndarray
) -> list[ExportedModel]:
    """Writes each of `formats` into `folder`.

    Args:
      served: the functions to export.
      formats: the formats to write.
      folder: the directory to write into.
      calibration: training images uint8 [N, px, px, C], 0..255, from which int8 takes its ranges.

    Returns:
      The exported models, ready to be scored.

    Raises:
      UserError: a format needs a package that is not installed.
    """
    files = []
    if Format.ONNX in formats:  # first, so that a missing package is reported before any work is done
        export_formats.runtime("onnxruntime")
        path = os.path.join(folder, "model.onnx")
        _write_bytes(path, export_formats.onnx(served))
        files.append(ExportedModel("onnx", path, "onnxruntime", _load_onnx(path), FLOAT_LIMIT))
    if Format.SAVEDMODEL in formats:
        path = os.path.join(folder, "savedmodel")
        export_formats.savedmodel(served, path)
        saved_model = tf.saved_model.load(path)
        for input_kind, name in (("image", "serving_default"), ("jpeg", "jpeg")):
            label = "savedmodel" if input_kind == "image" else "savedmodel_jpeg"
            files.append(
                ExportedModel(
                    label, path, "TensorFlow", _load_signature(saved_model, name, input_kind), FLOAT_LIMIT, input_kind
                )
            )
    if Format.TFLITE in formats:
        for kind, limit in (
            (TFLitePrecision.FLOAT32, FLOAT_LIMIT),
            (TFLitePrecision.FLOAT16, HALF_LIMIT),
            (TFLitePrecision.INT8, None),
        ):
            path = os.path.join(folder, f"model_{kind.value}.tflite")
            _write_bytes(path, export_formats.tflite(served, kind, calibration))
            interpreter, runtime = _tflite_interpreter()
            files.append(ExportedModel(f"tflite_{kind.value}", path, runtime, _load_tflite(path, interpreter), limit))
    return files


def _write_bytes(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _read_bytes(path: str) -> bytes:
    """Reads a file for a runtime that would otherwise map it: a mapped file can't be moved on Windows."""
    with open(path, "rb") as file:
        return file.read()


def _load_signature(saved_model: tf.Module, name: str, input_kind: str) -> Callable:
    run = saved_model.signatures[name]

    def score(batch: np.ndarray) -> tuple[np.ndarray, ...]:
        outputs = run(**{input_kind: tf.constant(batch)})
        return tuple(outputs[name].numpy() for name in export_formats.OUTPUTS)

    return score


def _tflite_interpreter() -> tuple[Callable, str]:
    """The interpreter of TFLite files and its name: LiteRT where it is installed, else TensorFlow's."""
    try:
        return importlib.import_module("ai_edge_litert.interpreter").Interpreter, "LiteRT"
    except ImportError:
        return tf.lite.Interpreter, "tf.lite.Interpreter"


def _load_tflite(path: str, interpreter: Callable) -> Callable:
    with export_formats.suppress_output():
        runner = interpreter(model_content=_read_bytes(path), num_threads=os.cpu_count()).get_signature_runner()
        runner(image=np.zeros(runner.get_input_details()["image"]["shape"], np.uint8))  # the first call prints messages

    def score(batch: np.ndarray) -> tuple[np.ndarray, ...]:
        outputs = runner(image=batch)
        return tuple(outputs[name].copy() for name in export_formats.OUTPUTS)

    return score


def _load_onnx(path: str) -> Callable:
    session = export_formats.runtime("onnxruntime").InferenceSession(
        _read_bytes(path), providers=["CPUExecutionProvider"]
    )

    def score(batch: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(session.run(list(export_formats.OUTPUTS), {"image": batch}))

    return score


def compare(
    loaded: TrainedModel, files: list[ExportedModel], images: np.ndarray, labels: np.ndarray
) -> dict[str, dict]:
    """Compares every exported file with the model on the same images.

    Args:
      loaded: the model that was exported.
      files: the exported files.
      images: uint8 [N, px, px, C], 0..255.
      labels: [N], 0 or 1.

    Returns:
      One row per file, by name: its size in bytes, its differences from the model, its accuracy and the milliseconds
      per image. The row `model` is that of the model itself.
    """
    encoded = [image_file.encode(image, "jpeg", JPEG_QUALITY) for image in images]
    decoded = np.stack(
        [image_file.pixels(image_file.parse_photo(image, "", 100), images.shape[-1], 0) for image in encoded]
    )
    expected = {"image": _reference_probabilities(loaded, images), "jpeg": _reference_probabilities(loaded, decoded)}
    threshold, (low, high) = loaded.card.threshold, loaded.card.review
    rows = {"model": {"runtime": "TensorFlow", "accuracy": _accuracy(expected["image"] >= threshold, labels)}}
    compiled = tf.function(lambda image: loaded.model(image, training=False), reduce_retracing=True)
    rows["model"]["ms_per_image"] = _median_milliseconds(lambda image: compiled(image).numpy(), images)
    for file in files:
        inputs = (
            [image[None] for image in images]
            if file.takes == "image"
            else [np.array([image], object) for image in encoded]
        )
        outputs = [file.score(image) for image in inputs]
        probabilities, cracked, review = map(np.concatenate, zip(*outputs, strict=True))
        difference = np.abs(probabilities.astype(np.float64) - expected[file.takes])
        expected_cracked = expected[file.takes] >= threshold
        expected_review = (expected[file.takes] >= low) & (expected[file.takes] < high)
        rows[file.name] = {
            "runtime": file.runtime,
            "file": os.path.basename(file.path),
            "bytes": _size_bytes(file.path),
            "images": len(images),
            "largest_difference": _finite(difference.max()),
            "mean_difference": _finite(difference.mean()),
            "decisions_changed": int((cracked != expected_cracked).sum()),
            "review_changed": int((review != expected_review).sum()),
            "accuracy": _accuracy(cracked, labels),
            "accuracy_of_model": _accuracy(expected_cracked, labels),
            "ms_per_image": _median_milliseconds(file.score, inputs),
            "limit": {"probability": file.limit, "accuracy": ACCURACY_LIMIT},
        }
        rows[file.name]["agrees"] = _agrees(rows[file.name])
    return rows


def _reference_probabilities(loaded: TrainedModel, images: np.ndarray) -> np.ndarray:
    return np.concatenate([loaded.probabilities(images[at : at + 64]) for at in range(0, len(images), 64)])


def _finite(value: float) -> float | None:
    """`value` for JSON, which has no NaN: None where a format gives no numbers."""
    return float(value) if np.isfinite(value) else None


def _accuracy(cracked: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(cracked == labels.astype(bool)))


def _median_milliseconds(score: Callable, images: np.ndarray | list[np.ndarray]) -> float:
    """The median over single images, after a warm-up of 5."""
    timed = [image if np.ndim(image) != 3 else image[None] for image in images[:TIMED]]
    for image in timed[:5]:
        score(image)
    times = []
    for image in timed:
        start = time.perf_counter()
        score(image)
        times.append(time.perf_counter() - start)
    return round(1000 * statistics.median(times), 3)


def _size_bytes(path: str) -> int:
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(here, name)) for here, _, names in os.walk(path) for name in names)


def _agrees(row: dict) -> bool:
    limit = row["limit"]
    if row["largest_difference"] is None:
        return False
    near = limit["probability"] is None or row["largest_difference"] <= limit["probability"]
    return near and row["accuracy_of_model"] - row["accuracy"] <= limit["accuracy"]


def failures(rows: dict[str, dict]) -> list[str]:
    """Returns one message for each format that does not agree with the model."""
    messages = []
    for name, row in rows.items():
        if row.get("agrees", True):
            continue
        if row["largest_difference"] is None:
            messages.append(f"{name}: expected probabilities, received values that are no numbers")
            continue
        limit = row["limit"]["probability"]
        messages.append(
            f"{name}: expected accuracy within {ACCURACY_LIMIT:.0%} of {row['accuracy_of_model']:.4f}"
            + (f" and probabilities within {limit:g}" if limit else "")
            + f", found {row['accuracy']:.4f} and {row['largest_difference']:.2g}"
        )
    return messages
