"""Which flags describe a network that was built before.

Synopsis::

    found = architecture_flags.flags_of(loaded.model, loaded.card.network)     # Flags(model, architecture, image_px),
    or None architecture_flags.is_built_by(loaded.model, found)                        # True

A model file holds the whole network, but not the flags that made it. They follow from the names and settings of its
layers, and count only when the network that they build is the same, layer by layer. Networks of Keras Applications
are built for that only once, as they are needed: one takes seconds.
"""

import dataclasses
import json
import re
from collections.abc import Iterator

from crackflow.core.backend import APPLICATION_LAYERS, keras, tf
from crackflow.core.config.network import Activation, Architecture, Block, Downsampling, Network, Padding, Pooling
from crackflow.core.errors import ConfigError
from crackflow.model import networks

# Settings of a layer that say how it learns, or in which arithmetic, but not what it computes once it has learnt.
IGNORED_SETTINGS = re.compile("name|dtype|trainable|momentum|.*(initializer|regularizer|constraint)")
MAX_SQUEEZE = 64
APPLICATIONS = {Network.MOBILENET_V3_SMALL, Network.EFFICIENTNET_V2_B0, Network.CONVNEXT_TINY, Network.RESNET50}


@dataclasses.dataclass(frozen=True)
class ArchitectureFlags:
    """The flags of crackflow.train that decide on the network."""

    model: Network
    architecture: Architecture
    image_px: int


def flags_of(model: keras.Model, name: str) -> ArchitectureFlags | None:
    """The flags that build `model`, square uint8 images to logits, which was called `name`; None when none do. Of those
    of Keras Applications the name alone is told: see `is_same`."""
    px = model.input_shape[1]
    known = {one.value: one for one in Network if one is not Network.CUSTOM}
    candidates = [ArchitectureFlags(known[name], Architecture(), px)] if name in known else []
    if candidates and candidates[0].model in APPLICATIONS:
        return candidates[0]
    try:
        candidates += [ArchitectureFlags(Network.CUSTOM, one, px) for one in _architectures(model)]
    except (ConfigError, ValueError, KeyError, AttributeError):  # no network of `model.blocks`
        pass
    return next((one for one in candidates if is_built_by(model, one)), None)


def is_built_by(model: keras.Model, flags: ArchitectureFlags) -> bool:
    """Whether these flags build a network of the same layers, in the same order."""
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32")
    try:
        with tf.Graph().as_default(), keras.saving.custom_object_scope(APPLICATION_LAYERS):  # no weights are made
            built = networks.get_model_spec(flags.model, flags.architecture).build(flags.image_px)
            return is_same(built, model)
    except ValueError:  # a picture too small for its layers
        return False
    finally:
        keras.mixed_precision.set_global_policy(policy)


def is_same(one: keras.Model, other: keras.Model) -> bool:
    """Whether two networks have the same layers in the same order, so that one's weights are right for the other."""
    return _alike(_described(one), _described(other))


def _described(model: keras.Model) -> list[dict]:
    return _numbered(json.loads(model.to_json())["config"]["layers"])


def _numbered(layers: list[dict]) -> list[dict]:
    """Layers that name those they follow by their places: some have names that count up in a process."""
    place = {layer["config"].get("name"): number for number, layer in enumerate(layers)}

    def renamed(value: object) -> object:
        if isinstance(value, list):
            return [renamed(one) for one in value]
        if isinstance(value, dict):
            return {key: renamed(one) for key, one in value.items()}
        return place.get(value, value) if isinstance(value, str) else value

    return [
        {
            "class": layer["class_name"],
            "from": renamed(layer.get("inbound_nodes", [])),
            "config": _numbered(layer["config"]["layers"]) if "layers" in layer["config"] else layer["config"],
        }
        for layer in layers
    ]


def _alike(one: object, other: object) -> bool:
    """Equal but for what is free; a setting that only one of them has, of another version of Keras, is passed over."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(
            _alike(one[key], other[key]) for key in one.keys() & other.keys() if not IGNORED_SETTINGS.fullmatch(key)
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return one == other


def _architectures(model: keras.Model) -> Iterator[Architecture]:
    """Those that may have made `model`, as its layers are called in `model.blocks`."""
    layers = {layer.name: layer for layer in model.layers}
    stem, even = layers["stem_conv"], layers.get("stem_even_conv")
    stages = _count(layers, "stage{}_down_conv")
    widths = tuple(layers[f"stage{stage}_down_conv"].filters for stage in range(1, stages + 1))
    separable = "stage1_down_depthwise" in layers
    blocks = [_count(layers, f"stage{stage}_block{{}}_conv") for stage in range(1, stages + 1)]
    residual = [_count(layers, f"stage{stage}_block{{}}_a_conv") for stage in range(1, stages + 1)]
    told = Architecture(
        stem=stem.filters + (even.filters if even else 0),
        stem_kernel=stem.kernel_size[0],
        stem_stride=stem.strides[0],
        widths=widths,
        repeats=tuple(max(pair) for pair in zip(blocks, residual, strict=True)),
        block=Block.SEPARABLE if separable else Block.PLAIN if any(blocks) else Block.RESIDUAL,
        kernel=layers["stage1_down_depthwise" if separable else "stage1_down_conv"].kernel_size[0],
        downsampling=_downsampling(layers),
        activation=_activation(model),
        pooling=Pooling("_".join(name for name in ("mean", "max") if name in layers)),
        dropout=layers["dropout"].rate if "dropout" in layers else 0.0,
    )
    for squeeze in _squeezes(layers, widths):
        for padding in (Padding.SAME,) if even else tuple(Padding):
            yield dataclasses.replace(told, squeeze_excite=squeeze, padding=padding, standardised=bool(even))


def _count(layers: dict, pattern: str) -> int:
    number = 0
    while pattern.format(number + 1) in layers:
        number += 1
    return number


def _downsampling(layers: dict) -> Downsampling:
    kinds = {
        keras.layers.MaxPooling2D: Downsampling.MAX,
        keras.layers.AveragePooling2D: Downsampling.AVERAGE,
        type(None): Downsampling.STRIDED,
    }
    return kinds[type(layers.get("stage1_down_pool"))]


def _activation(model: keras.Model) -> Activation:
    found = (layer for layer in model.layers if isinstance(layer, keras.layers.Activation))
    return Activation(next(found, None).get_config()["activation"])


def _squeezes(layers: dict, widths: tuple[int, ...]) -> list[int]:
    """The smallest number by which the channels are divided within the squeezes; [0] without any, [] for no number."""
    if "stage1_se_squeeze" not in layers:
        return [0]
    units = [layers[f"stage{stage}_se_squeeze"].units for stage in range(1, len(widths) + 1)]
    return [by for by in range(1, MAX_SQUEEZE + 1) if [max(width // by, 1) for width in widths] == units][:1]
