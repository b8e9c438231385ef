"""model.h5: float32 weights and architecture for inference, and beside them in the same file all that a user of the
model must know.

Synopsis::

    bundle.save("run/model.h5", model, bundle.Card(classes=("Negative", "Positive"), threshold=0.41, ...))
    loaded = bundle.load("run/model.h5")
    probability = loaded.probabilities(images)      # uint8 [B, px, px, C] -> float64 [B]

The file opens in plain `tf_keras.models.load_model` too: it holds standard layers only (convnext_tiny excepted, which
has a layer of its own in Keras Applications).
"""

import dataclasses
import json
import os
import tempfile
import warnings

import h5py
import numpy as np

from crackflow.core import atomic
from crackflow.core.backend import APPLICATION_LAYERS, keras, tf
from crackflow.core.errors import UserError

ATTRIBUTE = "crackflow"
FILE = "model.h5"


@dataclasses.dataclass(frozen=True)
class Card:
    """What travels inside the file.

    classes: (clean, cracked); threshold: cracked from this probability on, chosen on validation data by
    `threshold_rule`; temperature: logits are divided by it; fingerprint: of the data set it was trained on; review:
    from the first probability up to, not including, the second a person decides, equal ones for never.
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


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A loaded model and its card. `model`: uint8 [B, px, px, C], 0..255, to float32 logits [B]."""

    model: keras.Model
    card: Card

    def probabilities(self, image: np.ndarray | tf.Tensor) -> np.ndarray:
        """float64 [B], 0..1: the probability of a crack. `image`: uint8 [B, px, px, C], 0..255."""
        return to_probabilities(np.asarray(self.model(image, training=False)), self.card.temperature)


def to_probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """float64 [B], 0..1, from float32 logits [B]: the logistic function of logits / temperature."""
    scaled = np.asarray(logits, np.float64) / temperature
    return np.exp(-np.logaddexp(0.0, -scaled))


def save(path: str, model: keras.Model, card: Card) -> None:
    """`model` in float32, without optimizer, and `card`, in one file that appears whole or not at all."""
    plain = as_float32(model)
    with tempfile.TemporaryDirectory(prefix=".model-", dir=os.path.dirname(os.path.abspath(path))) as folder:
        temporary = os.path.join(folder, FILE)
        with warnings.catch_warnings():
            # H5 is the format that was asked for; Keras advises against it at every save.
            warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file", UserWarning)
            keras.models.save_model(plain, temporary, include_optimizer=False, save_format="h5")
        with h5py.File(temporary, "r+") as file:
            file.attrs[ATTRIBUTE] = json.dumps(dataclasses.asdict(card))
        with open(temporary, "rb") as file:
            data = file.read()
    atomic.write_bytes(path, data)


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


def load(path: str) -> Bundle:
    """The model in file `path`, or in the run folder `path`. Raises: UserError when there is none, or it is no such
    file."""
    file = os.path.join(path, FILE) if os.path.isdir(path) else path
    if not os.path.isfile(file):
        raise UserError(f"--model: expected a model.h5 or a run folder that holds one, received {path!r}")
    try:
        with h5py.File(file, "r") as opened:
            text = opened.attrs.get(ATTRIBUTE)
        if text is None:
            raise UserError(f"{file!r} was not written by crackflow: it has no card inside; train a model first")
        facts = json.loads(text)
        pairs = {name: tuple(facts[name]) for name in ("classes", "review") if name in facts}
        card = Card(**(facts | pairs))
        model = keras.models.load_model(file, custom_objects=APPLICATION_LAYERS, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file!r} is damaged or no model: {error}; train it again or restore it") from error
    return Bundle(model, card)
