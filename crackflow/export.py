"""Export a trained model for other systems, and verify each format in its own runtime.

  python -m crackflow.export --out=exported
  python -m crackflow.export --model=runs/metu --data=data/metu --out=exported --formats=savedmodel,tflite,onnx

Leaves in the folder: savedmodel/ (images, or JPEG files as they are), model_float32.tflite, model_float16.tflite,
model_int8.tflite, model.onnx, and parity.json: the largest difference to the model on --images images, accuracy, size,
milliseconds. Scaling, temperature, threshold and review band are inside. A format that differs is exit code 1; the
files then remain for inspection. onnx needs pip install 'crackflow[onnx]'.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator

import numpy as np

from crackflow.core import atomic, callable_module, console, flags, json_schema, runtime, temporary_files
from crackflow.core.config.trained import ExportConfig
from crackflow.core.errors import VerificationError
from crackflow.data import dataset as dataset_io
from crackflow.data import resize
from crackflow.data.dataset import Dataset
from crackflow.model import export_formats, export_parity, model_file
from crackflow.pipeline import tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from crackflow.synthesis import concrete

PARITY = json_schema.PARITY
MAX_SYNTHETIC_PX = 1024  # as for crackflow.synth; the photographs of a dataset may have thousands
CALIBRATION = 256  # images whose activations determine the ranges of int8

OWNED_FILES = ("model.onnx", "model_*.tflite", "savedmodel/**")


def run(config: ExportConfig) -> dict:
    """Write the formats, run each and compare it with the model.

    Returns:
        The content of parity.json.

    Raises:
        UserError: the flags or files are unusable.
        VerificationError: a format differs from the model.
    """
    runtime.configure(config.seed, config.threads, deterministic=False)
    runtime.disable_tf32()  # the reference for the other formats
    model = model_file.load(config.model)
    calibration, test_images, labels = _load_images(config, model.card)
    with atomic.folder(config.out, PARITY, config.overwrite, OWNED_FILES) as stage, _temporary_files_in(stage):
        files = export_parity.export(export_formats.ServingModule(model), list(config.formats), stage, calibration)
        rows = export_parity.compare(model, files, test_images, labels)
        content = {
            "model": {"sha256": model.sha256, "network": model.card.network, "threshold": model.card.threshold},
            "images": len(test_images),
            "source": config.data or "synthetic surfaces",
            "versions": runtime.versions(),
            "formats": rows,
        }
        content = json_schema.with_version(PARITY, content)
        atomic.save_json(stage, PARITY, content)
    for name, row in rows.items():
        console.info(_describe_row(name, row))
    console.info(f"parity {os.path.join(config.out, PARITY)}")
    failures = export_parity.failures(rows)
    if failures:
        raise VerificationError("; ".join(failures) + f"; look at {os.path.join(config.out, PARITY)}")
    return content


@contextlib.contextmanager
def _temporary_files_in(stage: str) -> Iterator[None]:
    """Put temporary files into `stage`.

    Converters write whole models into temporary folders, which a killed process would leave in /tmp forever.
    """
    previous = tempfile.tempdir
    with temporary_files.scratch_folder(stage, "converters") as tempfile.tempdir:
        try:
            yield
        finally:
            tempfile.tempdir = previous


def _load_images(config: ExportConfig, card: model_file.ModelMetadata) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images for calibration and for testing, of the dataset or synthetic.

    Returns:
        Calibration images and test images, uint8 [N, px, px, C], 0..255, and the labels of the test images, int [N].
    """
    if config.data:
        dataset = dataset_io.load(config.data)
        dataset.require_images("train")
        dataset.require_images("test")
        return _sample_images(dataset, "train", CALIBRATION, config, card)[0], *_sample_images(
            dataset, "test", config.images, config, card
        )
    side_px, images, labels = min(card.source_px or card.image_px, MAX_SYNTHETIC_PX), [], []
    for index in range(config.images + CALIBRATION):  # each made small before the next is drawn
        example = concrete.draw_example(config.seed, index, side_px)
        images.append(resize.resize_array(_convert_channels(example.image, card.channels), card.image_px))
        labels.append(example.label)
    images, labels = np.stack(images), np.array(labels)
    return images[config.images :], images[: config.images], labels[: config.images]


def _sample_images(
    dataset: Dataset, split: str, count: int, config: ExportConfig, card: model_file.ModelMetadata
) -> tuple[np.ndarray, np.ndarray]:
    batches = tfrecord_loader.sample_batches(
        dataset, split, count, BatchSpec(64, card.image_px, card.channels, config.seed)
    )
    images, labels = zip(*((image.numpy(), label.numpy()) for image, label in batches), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _convert_channels(values: np.ndarray, channels: int) -> np.ndarray:
    return resize.grey(values) if channels == 1 else values


def _describe_row(name: str, row: dict) -> str:
    metrics = f"accuracy {row['accuracy']:.4f}, {row['ms_per_image']:.2f} ms an image"
    if "bytes" not in row:
        return f"{name}: {metrics}"
    verdict = "agrees" if row["agrees"] else "DIFFERS"
    if row["largest_difference"] is None:
        return f"{name}: {verdict}, gives values that are no numbers, {metrics}, {row['bytes'] / 1e6:.2f} MB"
    return (
        f"{name}: {verdict}, largest difference {row['largest_difference']:.1e}, decisions changed "
        f"{row['decisions_changed']}, {metrics}, {row['bytes'] / 1e6:.2f} MB"
    )


callable_module.install(__name__, ExportConfig, run)
if __name__ == "__main__":
    flags.main(ExportConfig, run, __doc__)
