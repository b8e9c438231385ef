"""model.h5: float32 weights and architecture for inference, with all that a user of the model must know beside them.

Synopsis::

    card = model_file.ModelMetadata(classes=("Negative", "Positive"), threshold=0.41, ...)
    model_file.save("run/model.h5", model, card)
    loaded = model_file.load("run/model.h5")
    probability = loaded.probabilities(images)      # uint8 [B, px, px, C] -> float64 [B]

The file opens in plain `tf_keras.models.load_model` too: it holds standard layers only (except for convnext_tiny, which
has a layer of its own in Keras Applications). The H5 data is followed by its SHA-256, so that a file whose bytes have
changed is rejected before it is parsed; other programs ignore it.
"""

import dataclasses
import hashlib
import io
import json
import math
import os
import re
import warnings
from typing import Any

import h5py
import numpy as np

from crackflow.core import atomic
from crackflow.core.backend import APPLICATION_LAYERS, keras, tf
from crackflow.core.errors import UserError
from crackflow.model import safe_load
from crackflow.model.mask_head import MaskHead
from crackflow.model.ood import OutOfDistributionDetector
from crackflow.model.training_images import TrainingImages

ATTRIBUTE = "crackflow"
FILE = "model.h5"
SHIPPED_NAME = "shipped"  # on the command line: the file that comes with crackflow
SHIPPED = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "assets", "crackflow.h5")
FORMAT = ("v110", "v110")  # of HDF5: the first whose internal tables all have checksums
CHECKSUM_TRAILER = b"\ncrackflow sha256 "
CHECKSUM_TRAILER_BYTES = len(CHECKSUM_TRAILER) + 64 + 1
PAIRS = ("classes", "review", "photo_shift_ci95", "photo_level_ci95")  # of the card; JSON makes lists of them
MAX_PX = 4096
MAX_FILE_BYTES = 1 << 31  # the largest of the networks here has 113 MB
MAX_SOURCE_PX = 1 << 16  # no side of a JPEG is longer


@dataclasses.dataclass(frozen=True)
class ModelMetadata:
    """The model card that is stored inside the file.

    Attributes:
      network: the value of --model.
      classes: (clean, cracked).
      threshold: an image is cracked from this probability on; chosen on validation data by `threshold_rule`.
      temperature: logits are divided by it.
      image_px: the side of the input in pixels.
      channels: the channels of the input.
      fingerprint: that of the dataset the model was trained on.
      versions: the packages it was trained with.
      seed: the seed of its training.
      threshold_rule: the rule by which the threshold was chosen.
      review: probabilities from the first up to, not including, the second are for human review; equal ones: none.
      source_px: the median side of the images that were resized to `image_px` for training, 0 when unknown.
      mm_per_px: what one pixel of those photographs was on the surface, 0 when unknown.
      validation: `clean` and `cracked`, the numbers of independent images of each class that the threshold was chosen
        on, and `p_value`, how likely guessing would have done as well (`evaluation.significance`), None where one class
        was missing. Empty in older files.
      photo_shift, photo_level, photo_growth, photo_most: what the logits of photographs are lowered by
        (`inference.photo_threshold`), chosen on validation data. All 0 in files of earlier versions, which decide by
        the most probable position as it is.
      photo_shift_ci95, photo_level_ci95: their 95 % confidence intervals.
      photo_images: the number of clean photographs that they were chosen on.
      photo_false_alarms: the fraction of those photographs, 0..1, that is called cracked.
      brightness: the mean of the training images, 0..255, to which photographs are adjusted. 0 where it is unknown, and
        in files of earlier versions: photographs then stay as they are.
      calibrated_share: the share of cracked images for which its probabilities are calibrated, 0..1; 0: that of the
        validation images.
      parent: of a model that was adapted: `sha256`, `network` and `trained_on` of the model that it was, and under
        `adaptation` the figures of crackflow.adapt. Empty otherwise.
    """

    network: str
    classes: tuple[str, str]
    threshold: float
    temperature: float
    image_px: int
    channels: int
    fingerprint: str
    versions: dict[str, str]
    seed: int
    threshold_rule: str = "f1"
    review: tuple[float, float] = (0.0, 0.0)
    source_px: int = 0
    mm_per_px: float = 0.0
    validation: dict[str, float | None] = dataclasses.field(default_factory=dict)
    photo_shift: float = 0.0
    photo_level: float = 0.0
    photo_growth: float = 0.0
    photo_most: float = 0.0
    photo_shift_ci95: tuple[float, float] = (0.0, 0.0)
    photo_level_ci95: tuple[float, float] = (0.0, 0.0)
    photo_images: int = 0
    photo_false_alarms: float = 0.0
    brightness: float = 0.0
    calibrated_share: float = 0.0
    parent: dict[str, Any] = dataclasses.field(default_factory=dict)

    def shift_of(self, windows: float) -> float:
        """Returns what is subtracted from the logits of a photograph that has so many windows."""
        grown = self.photo_level + self.photo_growth * math.log(max(windows, 1.0))
        return max(self.photo_shift, min(grown, self.photo_most))

    @property
    def finding_threshold(self) -> float:
        """The probability from which on a place is a finding: cracked, or for human review."""
        low, high = self.review
        return min(self.threshold, low) if low < high else self.threshold

    @property
    def scale(self) -> float:
        """The factor by which photographs are resized for the network, the same as in training."""
        return self.image_px / self.source_px if self.source_px else 1.0


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A loaded model and its card.

    Attributes:
      model: uint8 [B, px, px, C], 0..255, to float32 logits [B].
      card: the metadata in the file.
      familiarity: the out-of-distribution detector, None where the file has none.
      locator: tells where in an image the crack is, None where nothing was learnt from masks.
      sha256: that of the file.
      training_images: the images that the model has seen, None where the file has no record of them.
    """

    model: keras.Model
    card: ModelMetadata
    familiarity: OutOfDistributionDetector | None = None
    locator: MaskHead | None = None
    sha256: str = ""
    training_images: TrainingImages | None = None

    def probabilities(self, image: np.ndarray | tf.Tensor) -> np.ndarray:
        """Returns the probability of a crack, float64 [B], 0..1, for `image` uint8 [B, px, px, C], 0..255."""
        return to_probabilities(np.asarray(self.model(image, training=False)), self.card.temperature)


def to_probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Returns the logistic function of logits / temperature, float64 [B], 0..1, for float32 logits [B]."""
    scaled = np.asarray(logits, np.float64) / temperature
    return np.exp(-np.logaddexp(0.0, -scaled))


def save(
    path: str,
    model: keras.Model,
    card: ModelMetadata,
    familiarity: OutOfDistributionDetector | None = None,
    locator: MaskHead | None = None,
    training_images: TrainingImages | None = None,
) -> None:
    """Writes a model in float32, without optimizer, and its metadata, atomically.

    Args:
      path: the file to write.
      model: the network.
      card: its metadata.
      familiarity: its out-of-distribution detector.
      locator: its mask head.
      training_images: the images that it has seen.
    """
    plain, buffer = as_float32(model), io.BytesIO()
    with h5py.File(io.BytesIO(), "w") as keras_file, h5py.File(buffer, "w", libver=FORMAT) as file:
        with warnings.catch_warnings():
            # Keras warns against H5 at every save.
            warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file", UserWarning)
            keras.models.save_model(plain, keras_file, include_optimizer=False, save_format="h5")
        _copy_group(keras_file, file)
        file.attrs[ATTRIBUTE] = np.bytes_(json.dumps(dataclasses.asdict(card)).encode())
        for part in (familiarity, locator, training_images):
            if part is not None:
                part.write(file)
    atomic.write_bytes(path, buffer.getvalue() + _checksum_trailer(buffer.getvalue()))


def _copy_group(source: h5py.Group, target: h5py.Group) -> None:
    """Copies groups, arrays and attributes, with strings of a fixed length.

    Strings of variable length lie in a heap that has no checksum, and a damaged heap made libhdf5 hang.
    """
    for name, value in source.attrs.items():
        value = np.asarray(value)
        is_text = value.dtype.kind in "OSU"
        plain = np.array([text if isinstance(text, bytes) else str(text).encode() for text in value.ravel()], np.bytes_)
        target.attrs[name] = plain.reshape(value.shape) if is_text else value
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _copy_group(item, target.create_group(name))
        else:
            target.create_dataset(name, data=item[()])


def _checksum_trailer(data: bytes) -> bytes:
    return CHECKSUM_TRAILER + hashlib.sha256(data).hexdigest().encode() + b"\n"


def as_float32(model: keras.Model) -> keras.Model:
    """Returns the same network and weights computing in float32, whatever policy `model` was trained under."""
    functional = keras.Model(model.inputs, model.outputs)  # a subclass with a train step of its own becomes plain
    with keras.saving.custom_object_scope(APPLICATION_LAYERS):
        plain = keras.Model.from_config(_without_policies(functional.get_config()))
    plain.set_weights(functional.get_weights())
    return plain


def _without_policies(config: dict) -> dict:
    """Sets the dtype policy of every layer, nested ones included, to float32; inputs keep their dtype (uint8)."""
    for layer in config["layers"]:
        if "layers" in layer["config"]:
            _without_policies(layer["config"])
        elif layer["class_name"] != "InputLayer":
            layer["config"]["dtype"] = "float32"
    return config


def load(path: str) -> TrainedModel:
    """Loads a model. No code from the file is run, whoever wrote it.

    Args:
      path: a file, a run directory, or "" for the model that comes with crackflow.

    Returns:
      The model and all that the file says about it.

    Raises:
      UserError: there is no model, it is damaged, or it holds something that `model.safe_load` does not allow.
    """
    file = locate(path or SHIPPED, "model")
    data = _read_bytes(file)
    if data[-CHECKSUM_TRAILER_BYTES:].startswith(CHECKSUM_TRAILER) and data[
        -CHECKSUM_TRAILER_BYTES:
    ] != _checksum_trailer(data[:-CHECKSUM_TRAILER_BYTES]):
        raise UserError(f"{file!r} is damaged: its bytes are not those that were written; train it again or restore it")
    try:
        safe_load.require_checksums(data)
        with h5py.File(io.BytesIO(data), "r") as opened:
            safe_load.require_plain_data(opened)
            card = _parse_metadata(opened.attrs.get(ATTRIBUTE), file)
            safe_load.check(opened)
            model = keras.models.load_model(opened, custom_objects=APPLICATION_LAYERS, compile=False)
            familiarity, locator = OutOfDistributionDetector.read(opened), MaskHead.read(opened, model)
            training_images = TrainingImages.read(opened)
        _require_matching_shapes(model, card)
    except safe_load.UnsafeModelError as error:
        raise UserError(
            f"{file!r} is refused: {error}; only plain layers are loaded, so that no file can run code here"
        ) from error
    except UserError:
        raise
    except Exception as error:  # damaged files make libhdf5 and Keras raise nearly anything
        raise UserError(f"{file!r} is damaged or no model: {_one_line(error)}; train it again or restore it") from error
    return TrainedModel(model, card, familiarity, locator, hashlib.sha256(data).hexdigest(), training_images)


def _read_bytes(file: str) -> bytes:
    """Reads a file. Raises: UserError when it is larger than a model can be."""
    size = os.path.getsize(file)
    if size > MAX_FILE_BYTES:
        raise UserError(
            f"{file!r} is no model: it has {size >> 20:,} MiB, expected at most {MAX_FILE_BYTES >> 20:,} MiB"
        )
    with open(file, "rb") as opened:
        return opened.read(size)


def locate(path: str, flag: str) -> str:
    """Finds the model file that --`flag`=`path` refers to.

    Args:
      path: a file, a run directory that holds a model.h5, or `shipped` for the model that comes with crackflow.
      flag: the name of the flag, for messages.

    Returns:
      The path of the file.

    Raises:
      UserError: there is no such file, or a model in the current directory is called shipped as well.
    """
    file = os.path.join(path, FILE) if os.path.isdir(path) else path
    if path == SHIPPED_NAME:
        if os.path.isfile(file):
            raise UserError(
                f"--{flag}: {path!r} is the model that comes with crackflow, and here is one of that name as well; "
                f"write --{flag}=./{path} for that, or work from another folder"
            )
        return SHIPPED
    if not os.path.isfile(file):
        raise UserError(f"--{flag}: expected a model.h5 or a run folder that holds one, received {path!r}")
    return file


def _one_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()[:300] or type(error).__name__


def _parse_metadata(text: str | None, file: str) -> ModelMetadata:
    if text is None:
        raise UserError(f"{file!r} was not written by crackflow: it has no card inside; train a model first")
    fields = json.loads(text)
    pairs = {name: tuple(fields[name]) for name in PAIRS if name in fields}
    card = ModelMetadata(**(fields | pairs))
    for name, valid in {
        "classes": len(card.classes) == 2 and all(isinstance(label, str) for label in card.classes),
        "review": len(card.review) == 2 and all(0 <= number <= 1 for number in card.review),
        "threshold": 0 <= card.threshold <= 1,
        "temperature": 0 < card.temperature < math.inf,
        "image_px": type(card.image_px) is int and 0 < card.image_px <= MAX_PX,
        "source_px": type(card.source_px) is int and 0 <= card.source_px <= MAX_SOURCE_PX,
        "mm_per_px": 0 <= card.mm_per_px < math.inf,
        "photo_shift": all(0 <= number < math.inf for number in (card.photo_shift, card.photo_growth, card.photo_most)),
        "photo_level": abs(card.photo_level) < math.inf,
        "photo_shift_ci95": _is_interval(card.photo_shift_ci95),
        "photo_level_ci95": _is_interval(card.photo_level_ci95),
        "photo_images": type(card.photo_images) is int and card.photo_images >= 0,
        "photo_false_alarms": 0 <= card.photo_false_alarms <= 1,
        "brightness": 0 <= card.brightness <= 255,
        "calibrated_share": 0 <= card.calibrated_share < 1,
        "network": isinstance(card.network, str) and isinstance(card.fingerprint, str),
        "versions": isinstance(card.versions, dict),
        "validation": _is_validation_record(card.validation),
    }.items():
        if not valid:
            raise safe_load.DamagedModelError(f"its card has an impossible {name}")
    return card


def _is_validation_record(record: object) -> bool:
    if not isinstance(record, dict):
        return False
    counts, p_value = [record.get(name) for name in ("clean", "cracked")], record.get("p_value")
    known = all(type(count) is int and count >= 0 for count in counts)
    return not record or (known and (p_value is None or (isinstance(p_value, float) and 0 <= p_value <= 1)))


def _is_interval(pair: tuple) -> bool:
    return len(pair) == 2 and all(abs(bound) < math.inf for bound in pair)


def _require_matching_shapes(model: keras.Model, card: ModelMetadata) -> None:
    """Raises: DamagedModelError unless the network's input and output are as its card says and its weights finite."""
    expected = (None, card.image_px, card.image_px, card.channels)
    if model.input_shape != expected or model.output_shape not in ((None,), (None, 1)):
        raise safe_load.DamagedModelError(
            f"expected a network of {expected} to one logit each, found {model.input_shape} to {model.output_shape}"
        )
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        raise safe_load.DamagedModelError("some of its weights are no numbers")
