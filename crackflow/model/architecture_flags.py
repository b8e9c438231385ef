"""Recovers the flags that describe a network that was built before.

Synopsis::

    recovered = architecture_flags.recover_flags(loaded.model, loaded.card.network)
    recovered                                                   # ArchitectureFlags(model, architecture, image_px)
    architecture_flags.is_built_by(loaded.model, recovered)     # True

A model file holds the whole network, but not the flags that built it. The flags are inferred from the names and
settings of the layers, and are accepted only when the network that they build is the same, layer by layer. Networks of
Keras Applications take seconds to build, so they are built for that comparison only once, when they are needed.
"""

import dataclasses
import json
import re
from collections.abc import Iterator

from crackflow.core.backend import APPLICATION_LAYERS, keras, tf
from crackflow.core.config.network import Activation, Architecture, Block, Downsampling, Network, Padding, Pooling
from crackflow.core.errors import ConfigError
from crackflow.model import networks

# Settings of a layer that say how it learns, or in which arithmetic, but not what it computes once it is trained.
IGNORED_SETTINGS = re.compile("name|dtype|trainable|momentum|.*(initializer|regularizer|constraint)")
MAX_SQUEEZE = 64
APPLICATIONS = {Network.MOBILENET_V3_SMALL, Network.EFFICIENTNET_V2_B0, Network.CONVNEXT_TINY, Network.RESNET50}


@dataclasses.dataclass(frozen=True)
class ArchitectureFlags:
    """The flags of crackflow.train that determine the network."""

    model: Network
    architecture: Architecture
    image_px: int


def recover_flags(model: keras.Model, name: str) -> ArchitectureFlags | None:
    """Infers the flags that build a network.

    For networks of Keras Applications the name alone decides: see `is_same`.

    Args:
      model: a network from square uint8 images to logits.
      name: the value of --model that it was stored under.

    Returns:
      The flags, or None when no flags build `model`.
    """
    image_px = model.input_shape[1]
    networks_by_name = {candidate.value: candidate for candidate in Network if candidate is not Network.CUSTOM}
    candidates = (
        [ArchitectureFlags(networks_by_name[name], Architecture(), image_px)] if name in networks_by_name else []
    )
    if candidates and candidates[0].model in APPLICATIONS:
        return candidates[0]
    try:
        candidates += [
            ArchitectureFlags(Network.CUSTOM, candidate, image_px) for candidate in _candidate_architectures(model)
        ]
    except (ConfigError, ValueError, KeyError, AttributeError):  # no network of `model.blocks`
        pass
    return next((candidate for candidate in candidates if is_built_by(model, candidate)), None)


def is_built_by(model: keras.Model, flags: ArchitectureFlags) -> bool:
    """Returns whether `flags` build a network of the same layers, in the same order."""
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32")
    try:
        with tf.Graph().as_default(), keras.saving.custom_object_scope(APPLICATION_LAYERS):  # allocates no weights
            rebuilt = networks.get_model_spec(flags.model, flags.architecture).build(flags.image_px)
            return is_same(rebuilt, model)
    except ValueError:  # an image too small for its layers
        return False
    finally:
        keras.mixed_precision.set_global_policy(policy)


def is_same(a: keras.Model, b: keras.Model) -> bool:
    """Returns whether two networks have the same layers in the same order, so that they can exchange weights."""
    return _is_equivalent(_layer_configs(a), _layer_configs(b))


def _layer_configs(model: keras.Model) -> list[dict]:
    return _with_numbered_layers(json.loads(model.to_json())["config"]["layers"])


def _with_numbered_layers(layers: list[dict]) -> list[dict]:
    """Replaces names of layers by their numbers, because some names count up within a process."""
    layer_numbers = {layer["config"].get("name"): number for number, layer in enumerate(layers)}

    def replace_names(value: object) -> object:
        if isinstance(value, list):
            return [replace_names(item) for item in value]
        if isinstance(value, dict):
            return {key: replace_names(item) for key, item in value.items()}
        return layer_numbers.get(value, value) if isinstance(value, str) else value

    return [
        {
            "class": layer["class_name"],
            "from": replace_names(layer.get("inbound_nodes", [])),
            "config": _with_numbered_layers(layer["config"]["layers"])
            if "layers" in layer["config"]
            else layer["config"],
        }
        for layer in layers
    ]


def _is_equivalent(a: object, b: object) -> bool:
    """Compares two configs except for `IGNORED_SETTINGS` and settings that only one has (another version of Keras)."""
    if isinstance(a, dict) and isinstance(b, dict):
        return all(_is_equivalent(a[key], b[key]) for key in a.keys() & b.keys() if not IGNORED_SETTINGS.fullmatch(key))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_is_equivalent, a, b))
    return a == b


def _candidate_architectures(model: keras.Model) -> Iterator[Architecture]:
    """Yields the architectures that may have built `model`, judged by the layer names that `model.blocks` gives."""
    layers = {layer.name: layer for layer in model.layers}
    stem, standardised_stem = layers["stem_conv"], layers.get("stem_even_conv")
    stages = _count_layers(layers, "stage{}_down_conv")
    widths = tuple(layers[f"stage{stage}_down_conv"].filters for stage in range(1, stages + 1))
    separable = "stage1_down_depthwise" in layers
    blocks = [_count_layers(layers, f"stage{stage}_block{{}}_conv") for stage in range(1, stages + 1)]
    residual = [_count_layers(layers, f"stage{stage}_block{{}}_a_conv") for stage in range(1, stages + 1)]
    design = Architecture(
        stem=stem.filters + (standardised_stem.filters if standardised_stem else 0),
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
    for squeeze in _squeeze_ratios(layers, widths):
        for padding in (Padding.SAME,) if standardised_stem else tuple(Padding):
            yield dataclasses.replace(
                design, squeeze_excite=squeeze, padding=padding, standardised=bool(standardised_stem)
            )


def _count_layers(layers: dict, pattern: str) -> int:
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
    activations = (layer for layer in model.layers if isinstance(layer, keras.layers.Activation))
    first = next(activations, None)
    if first is None:
        raise ValueError("the network has no activation")
    return Activation(first.get_config()["activation"])


def _squeeze_ratios(layers: dict, widths: tuple[int, ...]) -> list[int]:
    """The smallest ratio that divides the channels to the squeezes' units; [0] without squeezes, [] when none does."""
    if "stage1_se_squeeze" not in layers:
        return [0]
    units = [layers[f"stage{stage}_se_squeeze"].units for stage in range(1, len(widths) + 1)]
    return [ratio for ratio in range(1, MAX_SQUEEZE + 1) if [max(width // ratio, 1) for width in widths] == units][:1]
