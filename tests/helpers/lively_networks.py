"""Networks whose weights are not as new."""

import numpy as np

from crackflow.core.backend import keras
from crackflow.core.config.network import Architecture, Network
from crackflow.model import networks
from tests.helpers import support


def lively(name, px, seed=0):
    """A network, by its name or its layers, whose logits on synthetic images differ by whole numbers."""
    is_custom = isinstance(name, Architecture)
    model = (networks.get_model_spec(Network.CUSTOM, name) if is_custom else networks.NETWORKS[name]).build(px)
    generator = np.random.default_rng(seed)
    model.set_weights(
        [w + generator.normal(0, 0.5 / np.sqrt(np.prod(w.shape[:-1])), w.shape) for w in model.get_weights()]
    )
    for layer in model.layers:  # statistics of synthetic images
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(np.stack([support.picture(number, px, px) for number in range(8)]), training=True)
    return model
