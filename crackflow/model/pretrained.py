"""Starts a training run from a model of crackflow: takes its network, as flags, and its weights.

Synopsis::

    source = pretrained.load("shipped")                     # model_file.TrainedModel; None for plain weights of Keras
    config, source = pretrained.with_network(config, explicit, source)  # --model, --image_px, ... as in the file
    pretrained.copy_weights(network, source)                         # all weights, in the order of the layers

`model.layer_weights` loads plain weights: by layer name, into the network that the flags describe.
"""

import dataclasses
import os
from collections.abc import Collection

import h5py

from crackflow.core import flags
from crackflow.core.backend import keras
from crackflow.core.config.network import Architecture
from crackflow.core.config.training import TrainConfig
from crackflow.core.errors import ConfigError, UserError
from crackflow.model import architecture_flags, model_file

NETWORK_FLAGS = ("model", *(field.name for field in dataclasses.fields(Architecture)), "image_px")


def load(path: str) -> model_file.TrainedModel | None:
    """Loads a model of crackflow. No code from the file is run.

    Args:
      path: a file, a run directory, or `shipped`.

    Returns:
      The model; None for an H5 file of Keras without a model card.

    Raises:
      UserError: there is no such file, or it is damaged.
    """
    file = locate(path)
    try:
        with h5py.File(file, "r") as opened:
            has_card = model_file.ATTRIBUTE in opened.attrs
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"--weights: expected an H5 file of weights saved by Keras, received {path!r}: {error}"
        ) from error
    return model_file.load(file) if has_card else None


def locate(path: str) -> str:
    """Finds the file that --weights=`path` refers to.

    Raises:
      UserError: there is no such file.
    """
    if (
        path != model_file.SHIPPED_NAME
        and not os.path.isfile(path)
        and not os.path.isfile(os.path.join(path, model_file.FILE))
    ):
        raise UserError(
            f"--weights: expected an H5 file of weights saved by Keras, received {path!r}; name one, a run folder that "
            f"holds a {model_file.FILE}, or {model_file.SHIPPED_NAME} for the model that comes with crackflow"
        )
    return model_file.locate(path, "weights")


def with_network(
    config: TrainConfig, explicit: Collection[str], source: model_file.TrainedModel | None
) -> tuple[TrainConfig, model_file.TrainedModel | None]:
    """Completes the network flags from the model that training starts from.

    Args:
      config: the flags of the run.
      explicit: names of flags that were written out; those of the network must describe the network of `source`.
      source: the model, or None.

    Returns:
      `config` with the network flags of `source`, and `source`. Without a source, or where no flags describe its
      network, `config` as it is and None: layers are then matched by name.

    Raises:
      UserError: the flags describe another network; the message names those that would fit.
      ConfigError: an architecture is set beside a network that has its own.
    """
    recovered = source and architecture_flags.recover_flags(source.model, source.card.network)
    if source is None or not recovered:
        config.require_used()
        return config, None
    completed = dataclasses.replace(
        config, model=recovered.model, architecture=recovered.architecture, image_px=recovered.image_px
    )
    received, expected = flags.as_dict(config), flags.as_dict(completed)
    requested = [name for name in NETWORK_FLAGS if name in explicit and (name != "image_px" or config.image_px)]
    conflicting = [f"--{name}={received[name]}" for name in requested if received[name] != expected[name]]
    if not conflicting:
        return completed, source
    if _builds_same_network(config, source):
        return dataclasses.replace(config, image_px=recovered.image_px), source
    raise UserError(
        f"--weights: expected flags of the network in {config.weights!r}, received {' '.join(conflicting)}; leave all "
        f"network flags out, or give these: {in_words(completed)}"
    )


def _builds_same_network(config: TrainConfig, source: model_file.TrainedModel) -> bool:
    """Returns whether the flags as they are build the network of `source`, under whatever name."""
    image_px = source.model.input_shape[1]
    try:
        config.require_used()
    except ConfigError:
        return False
    if config.image_px not in (0, image_px) or config.model in architecture_flags.APPLICATIONS:
        return False
    return architecture_flags.is_built_by(
        source.model, architecture_flags.ArchitectureFlags(config.model, config.architecture, image_px)
    )


def in_words(config: TrainConfig) -> str:
    """Returns the flags that determine the network, without those that have their default values."""
    defaults = flags.as_dict(Architecture())
    network_flags = {name: value for name, value in flags.as_dict(config).items() if name in NETWORK_FLAGS}
    changed = {name: value for name, value in network_flags.items() if defaults.get(name) != value}
    return " ".join(f"--{name}={value}" for name, value in changed.items())


def copy_weights(network: keras.Model, source: model_file.TrainedModel) -> None:
    """Copies all weights of `source` into `network`, which was built from the flags of `with_network`.

    Raises:
      UserError: this version of crackflow builds another network.
    """
    if not architecture_flags.is_same(network, source.model):
        raise UserError(
            f"--weights: expected {source.card.network} as this version of crackflow builds it, received another of "
            f"that name (crackflow {source.card.versions.get('crackflow', 'unknown')}); train it again"
        )
    network.set_weights(source.model.get_weights())
