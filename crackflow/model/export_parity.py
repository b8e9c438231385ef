"""Is an exported model the model? Each format is run in its own runtime on the same images.

Synopsis::

    files = export_parity.export(served, [Format.SAVEDMODEL, Format.ONNX], "out", calibration)
    rows = export_parity.compare(loaded, files, images, labels)     # of parity.json, one for each file
    export_parity.failures(rows)                                     # [] when each agrees
"""

import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from crackflow.core.backend import tf
from crackflow.core.config.trained import Format
from crackflow.data import image_file as pictures
from crackflow.model import export_formats
from crackflow.model.export_formats import TFLitePrecision
from crackflow.model.model_file import TrainedModel

FLOAT_LIMIT = 1e-4  # of a probability
HALF_LIMIT = 1e-2  # of a probability, with weights of 11 bits
ACCURACY_LIMIT = 0.01
TIMED = 50  # images, one by one, whose median time is told
JPEG_QUALITY = 95

Score = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class ExportedModel(NamedTuple):
    """An exported model. `score`: uint8 [1, px, px, C] to (probability float32 [1], cracked bool [1], review bool
    [1]), in the format's own runtime; `limit`: of the difference in probability, None where accuracy alone counts;
    `takes`: image or jpeg."""

    name: str
    path: str
    runtime: str
    score: Callable
    limit: float | None
    takes: str = "image"


def export(
    served: export_formats.ServingModule, formats: list[Format], folder: str, calibration: np.ndarray
) -> list[ExportedModel]:
    """Write each of `formats` into `folder`. Raises: UserError when one needs what is not installed."""
    files = []
    if Format.ONNX in formats:  # first: a package that is missing costs no time then
        export_formats.runtime("onnxruntime")
        path = os.path.join(folder, "model.onnx")
        _write(path, export_formats.onnx(served))
        files.append(ExportedModel("onnx", path, "onnxruntime", _onnx(path), FLOAT_LIMIT))
    if Format.SAVEDMODEL in formats:
        path = os.path.join(folder, "savedmodel")
        export_formats.savedmodel(served, path)
        loaded = tf.saved_model.load(path)
        for takes, name in (("image", "serving_default"), ("jpeg", "jpeg")):
            label = "savedmodel" if takes == "image" else "savedmodel_jpeg"
            files.append(ExportedModel(label, path, "TensorFlow", _signature(loaded, name, takes), FLOAT_LIMIT, takes))
    if Format.TFLITE in formats:
        for kind, limit in (
            (TFLitePrecision.FLOAT32, FLOAT_LIMIT),
            (TFLitePrecision.FLOAT16, HALF_LIMIT),
            (TFLitePrecision.INT8, None),
        ):
            path = os.path.join(folder, f"model_{kind.value}.tflite")
            _write(path, export_formats.tflite(served, kind, calibration))
            files.append(ExportedModel(f"tflite_{kind.value}", path, "tf.lite.Interpreter", _tflite(path), limit))
    return files


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _content(path: str) -> bytes:
    """Runtimes get what the file holds, not its name: one that is mapped can't be moved on Windows."""
    with open(path, "rb") as file:
        return file.read()


def _signature(loaded, name: str, takes: str) -> Callable:
    run = loaded.signatures[name]

    def score(given):
        found = run(**{takes: tf.constant(given)})
        return tuple(found[name].numpy() for name in export_formats.OUTPUTS)

    return score


def _tflite(path: str) -> Callable:
    with export_formats.suppress_output():
        runner = tf.lite.Interpreter(model_content=_content(path), num_threads=os.cpu_count()).get_signature_runner()
        runner(image=np.zeros(runner.get_input_details()["image"]["shape"], np.uint8))  # it speaks as it starts

    def score(given):
        found = runner(image=given)
        return tuple(found[name].copy() for name in export_formats.OUTPUTS)

    return score


def _onnx(path: str) -> Callable:
    session = export_formats.runtime("onnxruntime").InferenceSession(_content(path), providers=["CPUExecutionProvider"])

    def score(given):
        return tuple(session.run(list(export_formats.OUTPUTS), {"image": given}))

    return score


def compare(
    loaded: TrainedModel, files: list[ExportedModel], images: np.ndarray, labels: np.ndarray
) -> dict[str, dict]:
    """A row for each of `files`: what it weighs, how far it is from the model on `images`, uint8 [N, px, px, C], how
    many it gets right, and how long one takes it. `model` is the row of the model itself."""
    encoded = [pictures.encode(one, "jpeg", JPEG_QUALITY) for one in images]
    decoded = np.stack([pictures.pixels(pictures.parse_photo(one, "", 100), images.shape[-1], 0) for one in encoded])
    expected = {"image": _reference(loaded, images), "jpeg": _reference(loaded, decoded)}
    threshold, (low, high) = loaded.card.threshold, loaded.card.review
    rows = {"model": {"runtime": "TensorFlow", "accuracy": _accuracy(expected["image"] >= threshold, labels)}}
    compiled = tf.function(lambda one: loaded.model(one, training=False), reduce_retracing=True)
    rows["model"]["ms_per_image"] = _milliseconds(lambda one: compiled(one).numpy(), images)
    for file in files:
        given = [one[None] for one in images] if file.takes == "image" else [np.array([one], object) for one in encoded]
        found = [file.score(one) for one in given]
        probabilities, cracked, review = map(np.concatenate, zip(*found, strict=True))
        away = np.abs(probabilities.astype(np.float64) - expected[file.takes])
        wanted = expected[file.takes] >= threshold
        held = (expected[file.takes] >= low) & (expected[file.takes] < high)
        rows[file.name] = {
            "runtime": file.runtime,
            "file": os.path.basename(file.path),
            "bytes": _bytes(file.path),
            "images": len(images),
            "largest_difference": float(away.max()),
            "mean_difference": float(away.mean()),
            "decisions_changed": int((cracked != wanted).sum()),
            "review_changed": int((review != held).sum()),
            "accuracy": _accuracy(cracked, labels),
            "accuracy_of_model": _accuracy(wanted, labels),
            "ms_per_image": _milliseconds(file.score, given),
            "limit": {"probability": file.limit, "accuracy": ACCURACY_LIMIT},
        }
        rows[file.name]["agrees"] = _agrees(rows[file.name])
    return rows


def _reference(loaded: TrainedModel, images: np.ndarray) -> np.ndarray:
    return np.concatenate([loaded.probabilities(images[at : at + 64]) for at in range(0, len(images), 64)])


def _accuracy(cracked: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(cracked == labels.astype(bool)))


def _milliseconds(score: Callable, given) -> float:
    """The median over single images, after some to warm up."""
    some = [one if np.ndim(one) != 3 else one[None] for one in given[:TIMED]]
    for one in some[:5]:
        score(one)
    times = []
    for one in some:
        start = time.perf_counter()
        score(one)
        times.append(time.perf_counter() - start)
    return round(1000 * statistics.median(times), 3)


def _bytes(path: str) -> int:
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(here, name)) for here, _, names in os.walk(path) for name in names)


def _agrees(row: dict) -> bool:
    limit = row["limit"]
    near = limit["probability"] is None or row["largest_difference"] <= limit["probability"]
    return near and row["accuracy_of_model"] - row["accuracy"] <= limit["accuracy"]


def failures(rows: dict[str, dict]) -> list[str]:
    """What to say of each format that is not the model, in words."""
    said = []
    for name, row in rows.items():
        if row.get("agrees", True):
            continue
        allowed = row["limit"]["probability"]
        said.append(
            f"{name}: expected accuracy within {ACCURACY_LIMIT:.0%} of {row['accuracy_of_model']:.4f}"
            + (f" and probabilities within {allowed:g}" if allowed else "")
            + f", found {row['accuracy']:.4f} and {row['largest_difference']:.2g}"
        )
    return said
