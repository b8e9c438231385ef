"""A model of crackflow to start a training run from: its network, as flags, and its weights.

Synopsis::

    source = pretrained.load("shipped")                     # model_file.TrainedModel; None for plain weights of Keras
    config, source = pretrained.with_network(config, given, source)     # --model, --image_px, ... as the file has them
    pretrained.put(network, source)                         # all weights, in the order of the layers

Plain weights are `model.layer_weights`' business: they are taken by layer name, into the network that the flags say.
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
    """The model of crackflow in the file, run folder or under the name `path`; None where it is an H5 file of Keras
    without our card. No code from the file is run. Raises: UserError when there is none, or it is damaged."""
    file = locate(path)
    try:
        with h5py.File(file, "r") as opened:
            ours = model_file.ATTRIBUTE in opened.attrs
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"--weights: expected an H5 file of weights saved by Keras, received {path!r}: {error}"
        ) from error
    return model_file.load(file) if ours else None


def locate(path: str) -> str:
    """The file that --weights=`path` means. Raises: UserError when there is none."""
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
    config: TrainConfig, given: Collection[str], source: model_file.TrainedModel | None
) -> tuple[TrainConfig, model_file.TrainedModel | None]:
    """`config` with the network flags of `source`, and `source`; those in `given` (names) must describe its network.

    Without a source, or where no flags describe its network, `config` as it is and None: then layers go by name.
    Raises: UserError that names the flags that would fit; ConfigError for an architecture beside a network that has its
    own.
    """
    fitting = source and architecture_flags.flags_of(source.model, source.card.network)
    if not fitting:
        config.expect_used()
        return config, None
    whole = dataclasses.replace(
        config, model=fitting.model, architecture=fitting.architecture, image_px=fitting.image_px
    )
    ours, theirs = flags.as_dict(config), flags.as_dict(whole)
    asked = [name for name in NETWORK_FLAGS if name in given and (name != "image_px" or config.image_px)]
    odd = [f"--{name}={ours[name]}" for name in asked if ours[name] != theirs[name]]
    if not odd:
        return whole, source
    if _says_the_same(config, source):
        return dataclasses.replace(config, image_px=fitting.image_px), source
    raise UserError(
        f"--weights: expected flags of the network in {config.weights!r}, received {' '.join(odd)}; leave all network "
        f"flags out, or give these: {in_words(whole)}"
    )


def _says_the_same(config: TrainConfig, source: model_file.TrainedModel) -> bool:
    """Whether the flags as they are build the network of `source`, under whatever name."""
    px = source.model.input_shape[1]
    try:
        config.expect_used()
    except ConfigError:
        return False
    if config.image_px not in (0, px) or config.model in architecture_flags.APPLICATIONS:
        return False
    return architecture_flags.is_built_by(
        source.model, architecture_flags.ArchitectureFlags(config.model, config.architecture, px)
    )


def in_words(config: TrainConfig) -> str:
    """The flags that decide on the network, without those that are as they are by default."""
    plain = flags.as_dict(Architecture())
    told = {name: value for name, value in flags.as_dict(config).items() if name in NETWORK_FLAGS}
    shown = {name: value for name, value in told.items() if plain.get(name) != value}
    return " ".join(f"--{name}={value}" for name, value in shown.items())


def put(network: keras.Model, source: model_file.TrainedModel) -> None:
    """All weights of `source` into `network`, which the flags of `with_network` built.

    Raises: UserError when it is none that this version builds."""
    if not architecture_flags.is_same(network, source.model):
        raise UserError(
            f"--weights: expected {source.card.network} as this version of crackflow builds it, received another of "
            f"that name (crackflow {source.card.versions.get('crackflow', 'unknown')}); train it again"
        )
    network.set_weights(source.model.get_weights())
