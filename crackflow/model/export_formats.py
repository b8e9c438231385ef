"""Exports a trained model to the formats of other systems, with scaling, temperature and threshold inside.

Synopsis::

    served = export_formats.ServingModule(loaded)                         # loaded: model_file.TrainedModel
    export_formats.savedmodel(served, "out/savedmodel")                   # signatures serving_default and jpeg
    export_formats.tflite(served, TFLitePrecision.INT8, calibration)      # bytes; calibration uint8 [N, px, px, C]
    export_formats.onnx(served)                                           # bytes; needs the extra [onnx]

Every format takes `image` uint8 [B, px, px, C], 0..255, and returns `probability` float32 [B], 0..1, `cracked` bool
[B] and `review` bool [B] (for human review).
"""

import enum
import importlib
import logging
import os
import types
import warnings

import numpy as np

from crackflow.core.backend import tf, without_start_up_noise
from crackflow.core.errors import UserError
from crackflow.model.model_file import TrainedModel
from crackflow.pipeline import decode

OPSET = 18  # of ONNX: onnxruntime reads it from 1.14 on
OUTPUTS = ("probability", "cracked", "review")


class TFLitePrecision(enum.Enum):
    """Arithmetic of a TFLite model; float16 applies to the weights alone, int8 to weights and activations."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


class ServingModule(tf.Module):
    """The functions that are exported."""

    def __init__(self, loaded: TrainedModel) -> None:
        super().__init__()
        self.card = card = loaded.card
        network = loaded.model
        # Not the network itself: Keras would trace and save each of its layers, which no runtime calls.
        self.weights = network.variables
        self.shape = (card.image_px, card.image_px, card.channels)

        def image(image: tf.Tensor) -> dict[str, tf.Tensor]:
            logits = tf.reshape(network(image, training=False), [-1])
            probability = tf.sigmoid(logits / card.temperature)
            low, high = card.review
            return {
                "probability": probability,
                "cracked": probability >= card.threshold,
                "review": tf.logical_and(probability >= low, probability < high),
            }

        def jpeg(jpeg: tf.Tensor) -> dict[str, tf.Tensor]:
            return image(decode.decode(jpeg, "jpeg", 0, card.image_px, card.channels))

        self.image = tf.function(image, input_signature=[tf.TensorSpec([None, *self.shape], tf.uint8, name="image")])
        self.jpeg = tf.function(jpeg, input_signature=[tf.TensorSpec([None], tf.string, name="jpeg")])


def savedmodel(served: ServingModule, folder: str) -> None:
    """Writes a SavedModel with two signatures.

    `serving_default` takes images. `jpeg` takes `jpeg`, string [B], the bytes of files of any size, which it resizes to
    the model's size as training did, without regard to EXIF.

    Args:
      served: the functions to export.
      folder: the directory of the SavedModel.
    """
    tf.saved_model.save(served, folder, signatures={"serving_default": served.image, "jpeg": served.jpeg})


def tflite(served: ServingModule, kind: TFLitePrecision, calibration: np.ndarray) -> bytes:
    """Converts to TFLite.

    Args:
      served: the functions to export.
      kind: the arithmetic of the file.
      calibration: training images uint8 [N, px, px, C], 0..255, from which int8 takes its ranges.

    Returns:
      The bytes of a TFLite file.
    """
    converter = tf.lite.TFLiteConverter.from_concrete_functions([served.image.get_concrete_function()], served)
    if kind is not TFLitePrecision.FLOAT32:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind is TFLitePrecision.FLOAT16:
        converter.target_spec.supported_types = [tf.float16]
    if kind is TFLitePrecision.INT8:
        converter.representative_dataset = lambda: ([image[None]] for image in calibration)
    with suppress_output():
        return converter.convert()


def onnx(served: ServingModule) -> bytes:
    """Converts to ONNX.

    Returns:
      The bytes of an ONNX file.

    Raises:
      UserError: the packages of the extra [onnx] are not installed.
    """
    tf2onnx = _import_installed("tf2onnx")
    with suppress_output():
        model_proto, _ = tf2onnx.convert.from_function(
            served.image, input_signature=[tf.TensorSpec([None, *served.shape], tf.uint8, name="image")], opset=OPSET
        )
    return model_proto.SerializeToString()


def runtime(name: str) -> types.ModuleType:
    """Imports onnxruntime or tf2onnx.

    Raises:
      UserError: it is not installed.
    """
    return _import_installed(name)


def _import_installed(name: str) -> types.ModuleType:
    try:
        with without_start_up_noise():
            return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"--formats: onnx needs {name}, which is not installed: pip install 'crackflow[onnx]', or leave onnx out"
        ) from error


class suppress_output:  # noqa: N801 - it reads as a statement
    """Hides what converters report in warnings and logs, and what TFLite's writes to stderr from C++."""

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        self._levels = {name: logging.getLogger(name).level for name in ("tf2onnx", "tensorflow", "absl")}
        for name in self._levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        self._stderr = os.dup(2)
        self._null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(self._null, 2)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        os.dup2(self._stderr, 2)
        os.close(self._stderr)
        os.close(self._null)
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        self._warnings.__exit__(kind, error, trace)
