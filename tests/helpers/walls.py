"""Pictures of walls and a network that sees darkness."""

import dataclasses

import numpy as np

from crackflow.core.backend import keras
from crackflow.inference import predictor
from crackflow.model import model_file

PX = 64

CARD = model_file.ModelMetadata("crackflow_xs", ("clean", "cracked"), 0.5, 1.0, PX, 3, "f" * 64, {}, 0, source_px=PX)


def darkness():
    """A network without padding that reliably detects what is darker than 80 grey levels."""
    image = keras.Input((PX, PX, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(1, 3, 4, use_bias=True, name="dark", activation="relu")(x)
    x = keras.layers.ReLU(name="relu")(x)
    logit = keras.layers.Dense(1, name="logit")(keras.layers.GlobalMaxPooling2D(name="max")(x))
    model = keras.Model(image, keras.layers.Reshape((), name="logits")(logit))
    model.get_layer("dark").set_weights([np.full((3, 3, 3, 1), -1 / 27, np.float32), np.float32([80 / 255])])
    model.get_layer("logit").set_weights([np.float32([[200.0]]), np.float32([-12.0])])
    return model


def model(known=None, **card):
    return predictor.Model(model_file.TrainedModel(darkness(), dataclasses.replace(CARD, **card), known))


def wall(height=200, width=260, crack=((0, 90), (259, 120))):
    """A light wall with a dark line, or none: uint8 [height, width, 3]."""
    picture = np.clip(180 + np.random.default_rng(0).normal(0, 4, (height, width, 1)), 0, 255).repeat(3, 2)
    if crack:
        (x0, y0), (x1, y1) = crack
        for t in np.linspace(0, 1, 4000):
            x, y = int(x0 + t * (x1 - x0)), int(y0 + t * (y1 - y0))
            picture[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = 10
    return picture.astype(np.uint8)
