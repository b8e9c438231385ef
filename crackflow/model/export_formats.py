"""A trained model in the formats of other systems: scaling, temperature and threshold inside.

Synopsis::

    served = export_formats.ServingModule(loaded)                                # model_file.TrainedModel
    export_formats.savedmodel(served, "out/savedmodel")                   # signatures serving_default and jpeg
    export_formats.tflite(served, Kind.INT8, calibration)                 # bytes; calibration uint8 [N, px, px, C]
    export_formats.onnx(served)                                           # bytes; needs the extra [onnx]

Whatever the format, `image` uint8 [B, px, px, C], 0..255, goes in, and `probability` float32 [B], 0..1, `cracked` bool
[B] and `review` bool [B] (a person should look) come out.
"""

import enum
import importlib
import logging
import os
import warnings

import numpy as np

from crackflow.core.backend import tf, without_start_up_noise
from crackflow.core.errors import UserError
from crackflow.model.model_file import TrainedModel
from crackflow.pipeline import decode

OPSET = 18  # of ONNX: read by onnxruntime from 1.14 on
OUTPUTS = ("probability", "cracked", "review")


class TFLitePrecision(enum.Enum):
    """Arithmetic of a TFLite model. float16: weights alone; int8: weights and activations."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


class ServingModule(tf.Module):
    """The functions that are exported."""

    def __init__(self, loaded: TrainedModel) -> None:
        super().__init__()
        self.card = card = loaded.card
        network = loaded.model
        # Not the network itself: Keras would trace and save each of its layers, which no runtime here calls.
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
    """A SavedModel: `serving_default` takes images; `jpeg` takes `jpeg`, string [B], whole files of any size, which it
    brings to the model's size as training did, without regard to EXIF."""
    tf.saved_model.save(served, folder, signatures={"serving_default": served.image, "jpeg": served.jpeg})


def tflite(served: ServingModule, kind: TFLitePrecision, calibration: np.ndarray) -> bytes:
    """A TFLite file. `calibration`: training images uint8 [N, px, px, C], which give int8 its ranges."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions([served.image.get_concrete_function()], served)
    if kind is not TFLitePrecision.FLOAT32:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind is TFLitePrecision.FLOAT16:
        converter.target_spec.supported_types = [tf.float16]
    if kind is TFLitePrecision.INT8:
        converter.representative_dataset = lambda: ([one[None]] for one in calibration)
    with suppress_output():
        return converter.convert()


def onnx(served: ServingModule) -> bytes:
    """An ONNX file. Raises: UserError where its packages are not installed."""
    tf2onnx = _installed("tf2onnx")
    with suppress_output():
        made, _ = tf2onnx.convert.from_function(
            served.image, input_signature=[tf.TensorSpec([None, *served.shape], tf.uint8, name="image")], opset=OPSET
        )
    return made.SerializeToString()


def runtime(name: str):
    """The module onnxruntime or tf2onnx. Raises: UserError where it is not installed."""
    return _installed(name)


def _installed(name: str):
    try:
        with without_start_up_noise():
            return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"--formats: onnx needs {name}, which is not installed: pip install 'crackflow[onnx]', or leave onnx out"
        ) from error


class suppress_output:  # noqa: N801, read as a statement
    """Converters speak of their inner life in warnings and logs, and TFLite's on stderr from C++."""

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

    def __exit__(self, *error: object) -> None:
        os.dup2(self._stderr, 2)
        os.close(self._stderr)
        os.close(self._null)
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        self._warnings.__exit__(*error)
