"""model.h5: float32 weights and architecture for inference, and beside them in the same file all that a user of the
model must know.

Synopsis::

    model_file.save("run/model.h5", model, model_file.ModelMetadata(classes=("Negative", "Positive"), threshold=0.41,
    ...)) loaded = model_file.load("run/model.h5") probability = loaded.probabilities(images)      # uint8 [B, px, px,
    C] -> float64 [B]

The file opens in plain `tf_keras.models.load_model` too: it holds standard layers only (convnext_tiny excepted, which
has a layer of its own in Keras Applications). After the end of the H5 data stands the SHA-256 of all that is before it,
so that a file whose bytes have changed is found out before it is parsed; other programs read past it.
"""

import dataclasses
import hashlib
import io
import json
import math
import os
import re
import warnings

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
SHIPPED_NAME = "shipped"  # on the command line, for the file that comes with crackflow
SHIPPED = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "assets", "crackflow.h5")
FORMAT = ("v110", "v110")  # of HDF5: the first whose inner tables have checksums throughout
CHECKSUM_TRAILER = b"\ncrackflow sha256 "
CHECKSUM_TRAILER_BYTES = len(CHECKSUM_TRAILER) + 64 + 1
PAIRS = ("classes", "review", "photo_shift_ci95", "photo_level_ci95")  # of the card; JSON makes lists of them
MAX_PX = 4096
MAX_FILE_BYTES = 1 << 31  # of all networks here the largest has 113 MB
MAX_SOURCE_PX = 1 << 16  # a JPEG has no longer side


@dataclasses.dataclass(frozen=True)
class ModelMetadata:
    """What travels inside the file.

    classes: (clean, cracked); threshold: cracked from this probability on, chosen on validation data by
    `threshold_rule`; temperature: logits are divided by it; fingerprint: of the data set it was trained on; review:
    from the first probability up to, not including, the second a person decides, equal ones for never; source_px: side
    of the photographs that were made `image_px` large for training, 0 when they differed; mm_per_px: what one pixel of
    those photographs was on the surface, 0 when unknown; validation: `clean`, `cracked`, how many independent images of
    each class it was chosen on, and `p_value`, how easily a guess would have told them as well (`evaluation.chance`),
    None where one class was missing; empty in older files. photo_shift, photo_level, photo_growth, photo_most: what the
    logits of photographs are lowered by (`inference.photo_threshold`), chosen on validation data, with intervals, by
    photo_images clean ones, so that a share photo_false_alarms of them is called cracked; all 0 in files of earlier
    versions, which decide by the most probable place as it is. brightness: the mean of the training images, 0..255, to
    which photographs are brought; 0 where it is unknown, and in files of earlier versions: they stay as they are.
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

    def shift_of(self, windows: float) -> float:
        """Logits taken off every place of a photograph that would make so many windows."""
        grown = self.photo_level + self.photo_growth * math.log(max(windows, 1.0))
        return max(self.photo_shift, min(grown, self.photo_most))

    @property
    def scale(self) -> float:
        """By how much photographs are made smaller or larger for the network: as training's were."""
        return self.image_px / self.source_px if self.source_px else 1.0


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A loaded model and its card. `model`: uint8 [B, px, px, C], 0..255, to float32 logits [B]; `sha256`: of its file;
    `familiarity`: what its training images looked like to it, None where that was not recorded; `locator`: where in a
    picture the crack is, None where nothing was learnt from masks; `training_images`: which images it has seen, None
    where the file does not tell."""

    model: keras.Model
    card: ModelMetadata
    familiarity: OutOfDistributionDetector | None = None
    locator: MaskHead | None = None
    sha256: str = ""
    training_images: TrainingImages | None = None

    def probabilities(self, image: np.ndarray | tf.Tensor) -> np.ndarray:
        """float64 [B], 0..1: the probability of a crack. `image`: uint8 [B, px, px, C], 0..255."""
        return to_probabilities(np.asarray(self.model(image, training=False)), self.card.temperature)


def to_probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """float64 [B], 0..1, from float32 logits [B]: the logistic function of logits / temperature."""
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
    """`model` in float32, without optimizer, `card` and the rest, in one file that appears whole or not at all."""
    plain, buffer = as_float32(model), io.BytesIO()
    with h5py.File(io.BytesIO(), "w") as theirs, h5py.File(buffer, "w", libver=FORMAT) as file:
        with warnings.catch_warnings():
            # H5 is the format that was asked for; Keras advises against it at every save.
            warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file", UserWarning)
            keras.models.save_model(plain, theirs, include_optimizer=False, save_format="h5")
        _copy(theirs, file)
        file.attrs[ATTRIBUTE] = np.bytes_(json.dumps(dataclasses.asdict(card)).encode())
        for one in filter(None, (familiarity, locator, training_images)):
            one.write(file)
    atomic.write_bytes(path, buffer.getvalue() + _checksum_trailer(buffer.getvalue()))


def _copy(source: h5py.Group, target: h5py.Group) -> None:
    """The same groups, arrays and attributes, with texts of a fixed length: those of variable length lie in a heap that
    has no checksum, and a damaged one made libhdf5 wait for ever."""
    for name, value in source.attrs.items():
        value = np.asarray(value)
        texts = value.dtype.kind in "OSU"
        plain = np.array([one if isinstance(one, bytes) else str(one).encode() for one in value.ravel()], np.bytes_)
        target.attrs[name] = plain.reshape(value.shape) if texts else value
    for name, one in source.items():
        if isinstance(one, h5py.Group):
            _copy(one, target.create_group(name))
        else:
            target.create_dataset(name, data=one[()])


def _checksum_trailer(data: bytes) -> bytes:
    return CHECKSUM_TRAILER + hashlib.sha256(data).hexdigest().encode() + b"\n"


def as_float32(model: keras.Model) -> keras.Model:
    """The same network and weights computing in float32, whatever policy `model` was trained under."""
    functional = keras.Model(model.inputs, model.outputs)  # a subclass with a train step of its own becomes plain
    with keras.saving.custom_object_scope(APPLICATION_LAYERS):
        plain = keras.Model.from_config(_without_policies(functional.get_config()))
    plain.set_weights(functional.get_weights())
    return plain


def _without_policies(config: dict) -> dict:
    """`config` with every layer's dtype policy float32, layers within layers as well; the dtype of inputs (uint8)
    stays."""
    for layer in config["layers"]:
        if "layers" in layer["config"]:
            _without_policies(layer["config"])
        elif layer["class_name"] != "InputLayer":
            layer["config"]["dtype"] = "float32"
    return config


def load(path: str) -> TrainedModel:
    """The model in file `path`, or in the run folder `path`; "" is the one that comes with crackflow.

    No code from the file is run, whoever made it. Raises: UserError when there is none, it is damaged, or it holds what
    `model.safe_load` does not know.
    """
    file = locate(path or SHIPPED, "model")
    data = _read(file)
    if data[-CHECKSUM_TRAILER_BYTES:].startswith(CHECKSUM_TRAILER) and data[
        -CHECKSUM_TRAILER_BYTES:
    ] != _checksum_trailer(data[:-CHECKSUM_TRAILER_BYTES]):
        raise UserError(f"{file!r} is damaged: its bytes are not those that were written; train it again or restore it")
    try:
        safe_load.expect_checksums(data)
        with h5py.File(io.BytesIO(data), "r") as opened:
            safe_load.expect_plain_data(opened)
            card = _parse_metadata(opened.attrs.get(ATTRIBUTE), file)
            safe_load.check(opened)
            model = keras.models.load_model(opened, custom_objects=APPLICATION_LAYERS, compile=False)
            familiarity, locator = OutOfDistributionDetector.read(opened), MaskHead.read(opened, model)
            training_images = TrainingImages.read(opened)
        _expect_agreement(model, card)
    except safe_load.UnsafeModelError as error:
        raise UserError(
            f"{file!r} is refused: {error}; only plain layers are loaded, so that no file can run code here"
        ) from error
    except UserError:
        raise
    except Exception as error:  # damaged files make libhdf5 and Keras raise nearly anything
        raise UserError(f"{file!r} is damaged or no model: {_short(error)}; train it again or restore it") from error
    return TrainedModel(model, card, familiarity, locator, hashlib.sha256(data).hexdigest(), training_images)


def _read(file: str) -> bytes:
    """Raises: UserError when it is larger than a model can be."""
    size = os.path.getsize(file)
    if size > MAX_FILE_BYTES:
        raise UserError(
            f"{file!r} is no model: it has {size >> 20:,} MiB, expected at most {MAX_FILE_BYTES >> 20:,} MiB"
        )
    with open(file, "rb") as opened:
        return opened.read(size)


def locate(path: str, flag: str) -> str:
    """The file that --`flag`=`path` means: a file, the model.h5 of a run folder, or `shipped`, the one that comes with
    crackflow. Raises: UserError when there is none, or a model in the current folder is called shipped as well."""
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


def _short(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()[:300] or type(error).__name__


def _parse_metadata(text: str | None, file: str) -> ModelMetadata:
    if text is None:
        raise UserError(f"{file!r} was not written by crackflow: it has no card inside; train a model first")
    facts = json.loads(text)
    pairs = {name: tuple(facts[name]) for name in PAIRS if name in facts}
    card = ModelMetadata(**(facts | pairs))
    for name, held in {
        "classes": len(card.classes) == 2 and all(isinstance(one, str) for one in card.classes),
        "review": len(card.review) == 2 and all(0 <= one <= 1 for one in card.review),
        "threshold": 0 <= card.threshold <= 1,
        "temperature": 0 < card.temperature < math.inf,
        "image_px": type(card.image_px) is int and 0 < card.image_px <= MAX_PX,
        "source_px": type(card.source_px) is int and 0 <= card.source_px <= MAX_SOURCE_PX,
        "mm_per_px": 0 <= card.mm_per_px < math.inf,
        "photo_shift": all(0 <= one < math.inf for one in (card.photo_shift, card.photo_growth, card.photo_most)),
        "photo_level": abs(card.photo_level) < math.inf,
        "photo_shift_ci95": _is_interval(card.photo_shift_ci95),
        "photo_level_ci95": _is_interval(card.photo_level_ci95),
        "photo_images": type(card.photo_images) is int and card.photo_images >= 0,
        "photo_false_alarms": 0 <= card.photo_false_alarms <= 1,
        "brightness": 0 <= card.brightness <= 255,
        "network": isinstance(card.network, str) and isinstance(card.fingerprint, str),
        "versions": isinstance(card.versions, dict),
        "validation": _is_verdict(card.validation),
    }.items():
        if not held:
            raise safe_load.DamagedModelError(f"its card has an impossible {name}")
    return card


def _is_verdict(facts: object) -> bool:
    if not isinstance(facts, dict):
        return False
    counts, p_value = [facts.get(name) for name in ("clean", "cracked")], facts.get("p_value")
    known = all(type(count) is int and count >= 0 for count in counts)
    return not facts or (known and (p_value is None or (isinstance(p_value, float) and 0 <= p_value <= 1)))


def _is_interval(pair: tuple) -> bool:
    return len(pair) == 2 and all(abs(one) < math.inf for one in pair)


def _expect_agreement(model: keras.Model, card: ModelMetadata) -> None:
    """What goes in and out of the network is what its card says."""
    expected = (None, card.image_px, card.image_px, card.channels)
    if model.input_shape != expected or model.output_shape not in ((None,), (None, 1)):
        raise safe_load.DamagedModelError(
            f"expected a network of {expected} to one logit each, found {model.input_shape} to {model.output_shape}"
        )
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        raise safe_load.DamagedModelError("some of its weights are no numbers")
