"""A trained model for other systems, each format proved equal in its own runtime.

  python -m crackflow.export --out=exported
  python -m crackflow.export --model=runs/metu --data=data/metu --out=exported --formats=savedmodel,tflite,onnx

Leaves in the folder: savedmodel/ (images, or JPEG files as they are), model_float32.tflite, model_float16.tflite,
model_int8.tflite, model.onnx, and parity.json: the largest difference to the model on --images images, accuracy, size,
milliseconds. Scaling, temperature, threshold and review band are inside. A format that differs is exit code 1; the
files are then kept, to be looked at. onnx needs pip install 'crackflow[onnx]'.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator

import numpy as np

from crackflow.core import atomic, console, flags, runtime, temporary_files
from crackflow.core.config.trained import ExportConfig
from crackflow.core.errors import VerificationError
from crackflow.data import dataset, resize
from crackflow.model import export_formats, export_parity, model_file
from crackflow.pipeline import stream
from crackflow.synthesis import concrete

PARITY = "parity.json"
CALIBRATION = 256  # images whose activations give int8 its ranges

OURS = ("model.onnx", "model_*.tflite", "savedmodel/**")


def run(config: ExportConfig) -> dict:
    """Write the formats, run each, compare; returns the content of parity.json. Raises: UserError; CheckFailed when a
    format is not the model."""
    runtime.configure(config.seed, config.threads, deterministic=False)
    runtime.disable_tf32()  # what the other formats are held against
    loaded = model_file.load(config.model)
    calibration, proof, labels = _images(config, loaded.card)
    with atomic.folder(config.out, PARITY, config.overwrite, OURS) as stage, _temporary_files_in(stage):
        files = export_parity.export(export_formats.ServingModule(loaded), list(config.formats), stage, calibration)
        rows = export_parity.compare(loaded, files, proof, labels)
        content = {
            "model": {"sha256": loaded.sha256, "network": loaded.card.network, "threshold": loaded.card.threshold},
            "images": len(proof),
            "source": config.data or "made surfaces",
            "versions": runtime.versions(),
            "formats": rows,
        }
        atomic.save_json(stage, PARITY, content)
    for name, row in rows.items():
        console.info(_line(name, row))
    console.info(f"parity {os.path.join(config.out, PARITY)}")
    wrong = export_parity.failures(rows)
    if wrong:
        raise VerificationError("; ".join(wrong) + f"; look at {os.path.join(config.out, PARITY)}")
    return content


@contextlib.contextmanager
def _temporary_files_in(stage: str) -> Iterator[None]:
    """Converters write whole models into temporary folders, which a killed process would leave in /tmp for ever."""
    before = tempfile.tempdir
    with temporary_files.scratch_folder(stage, "converters") as tempfile.tempdir:
        try:
            yield
        finally:
            tempfile.tempdir = before


def _images(config: ExportConfig, card: model_file.ModelMetadata) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(calibration, proof, labels of the proof): uint8 [N, px, px, C] twice and int [N]."""
    if config.data:
        made = dataset.load(config.data)
        made.expect_images("train")
        made.expect_images("test")
        return _taken(made, "train", CALIBRATION, config, card)[0], *_taken(made, "test", config.images, config, card)
    side = card.source_px or card.image_px
    examples = [concrete.draw_example(config.seed, index, side) for index in range(config.images + CALIBRATION)]
    shaped = np.stack([resize.resize_array(_channels(one.image, card.channels), card.image_px) for one in examples])
    labels = np.array([one.label for one in examples])
    return shaped[config.images :], shaped[: config.images], labels[: config.images]


def _taken(
    made: dataset.Dataset, split: str, count: int, config: ExportConfig, card: model_file.ModelMetadata
) -> tuple[np.ndarray, np.ndarray]:
    batches = stream.sample_batches(made, split, count, 64, card.image_px, card.channels, config.seed)
    taken, labels = zip(*((image.numpy(), label.numpy()) for image, label in batches), strict=True)
    return np.concatenate(taken), np.concatenate(labels)


def _channels(values: np.ndarray, channels: int) -> np.ndarray:
    return resize.grey(values) if channels == 1 else values


def _line(name: str, row: dict) -> str:
    told = f"accuracy {row['accuracy']:.4f}, {row['ms_per_image']:.2f} ms an image"
    if "bytes" not in row:
        return f"{name}: {told}"
    verdict = "agrees" if row["agrees"] else "DIFFERS"
    return (
        f"{name}: {verdict}, largest difference {row['largest_difference']:.1e}, decisions changed "
        f"{row['decisions_changed']}, {told}, {row['bytes'] / 1e6:.2f} MB"
    )


if __name__ == "__main__":
    flags.main(ExportConfig, run, __doc__)
