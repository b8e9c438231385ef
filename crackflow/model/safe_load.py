"""Checks what a model file holds before Keras builds anything from it.

Synopsis::

    safe_load.require_checksums(data)       # the bytes of a file
    safe_load.require_plain_data(file)      # an open h5py.File
    safe_load.check(file)                  # each raises UnsafeModelError or DamagedModelError with the reason

Keras runs code that a file brings along: a Lambda layer is byte code, and an activation or a layer may name any
function of any module (CVE-2024-3660, CVE-2025-1550). A described network may also be larger than any memory, or have
a cycle, on which Keras hangs. So the description may name only the layers and initializers listed here, each layer may
take its inputs only from earlier ones, and the shapes that it would give the weights must be those in the file, which
is checked symbolically (in a graph that is never run).
"""

import contextlib
import json
import math
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import h5py

from crackflow.core.backend import APPLICATION_LAYERS, keras, tf

LAYERS = {"Activation", "Add", "Average", "AveragePooling2D", "BatchNormalization", "Concatenate", "Conv2D"}
LAYERS |= {"Cropping2D", "Dense", "DepthwiseConv2D", "Dropout", "Flatten", "GlobalAveragePooling2D", "InputLayer"}
LAYERS |= {
    "GlobalMaxPooling2D",
    "LayerNormalization",
    "LeakyReLU",
    "MaxPooling2D",
    "Multiply",
    "Normalization",
    "PReLU",
}
LAYERS |= {"ReLU", "Rescaling", "Reshape", "SeparableConv2D", "SpatialDropout2D", "UpSampling2D", "ZeroPadding2D"}
NETWORKS = {"Functional", "Model", "Sequential"}
ALLOWED_COMPONENTS = {
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "LecunNormal",
    "LecunUniform",
    "Ones",
}
ALLOWED_COMPONENTS |= {"Orthogonal", "RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling", "Zeros"}
ALLOWED_COMPONENTS |= {"L1", "L2", "L1L2", "Policy"}
MODULES = {None, "keras", "keras.layers", "keras.initializers", "keras.regularizers", "keras.mixed_precision"}
# Keras stores arithmetic on tensors as layers that name a function of TensorFlow. These do nothing but arithmetic.
OPERATORS = "TFOpLambda"
FUNCTIONS = {"__operators__.add", "math.multiply"}
ALLOWED_MODULES = {
    "LayerScale": "tf_keras.src.applications.convnext",
    OPERATORS: "tf_keras.src.layers.core.tf_op_layer",
}
SIGNATURE, OLDEST = b"\x89HDF\r\n\x1a\n", 2
MAX_LAYERS = 2000  # the largest of the networks here has 270
MAX_DEPTH = 50
MAX_VALUES = 2048  # of a layer, per pixel of the image; --stem=1024 without a stride has 1,024


class UnsafeModelError(Exception):
    """The file would make Keras do something that is not just arithmetic; the message says what."""


class DamagedModelError(Exception):
    """The file does not hold what it says; the message says what is wrong."""


def require_checksums(data: bytes) -> None:
    """Requires an HDF5 file whose internal tables have checksums.

    In the older format a few changed bytes could make libhdf5 hang.

    Raises:
      DamagedModelError: `data` is no such file.
    """
    if data[: len(SIGNATURE)] != SIGNATURE:
        raise DamagedModelError("it is no HDF5 file")
    version = data[len(SIGNATURE)] if len(data) > len(SIGNATURE) else 0
    if version < OLDEST:
        raise DamagedModelError(
            f"its format is older than crackflow writes (HDF5 superblock {version}, expected {OLDEST} or more)"
        )


def check(file: h5py.File) -> None:
    """Requires that building the model is safe and that its weights fit.

    Raises:
      UnsafeModelError: the description names something that is not on the lists above.
      DamagedModelError: the description or the weights are not those of a network.
    """
    config = _read_config(file)
    _require_allowed_components(config, 0)
    if config.get("class_name") not in NETWORKS:
        raise DamagedModelError(f"expected the description of a network, found {config.get('class_name')!r}")
    _require_topological_order(config["config"])
    _require_matching_shapes(config, _read_weight_shapes(file))


def require_plain_data(file: h5py.File) -> None:
    """Requires a file that is safe to read: no text of variable length, no link, no array larger than the file.

    Raises:
      UnsafeModelError: it links to another place or file.
      DamagedModelError: it holds other data than numbers and text of a fixed length, or too much of it.
    """
    _require_contained_data(file, strict=True)


def require_own_data(file: h5py.File) -> None:
    """As `require_plain_data`, for weights that Keras itself or another program wrote.

    Those are in the older format and have attributes of their own: only links, arrays that lie in another file and
    arrays larger than the file are refused.

    Raises:
      UnsafeModelError: it links to another place or file.
      DamagedModelError: its arrays would be larger than the file.
    """
    _require_contained_data(file, strict=False)


def _require_contained_data(file: h5py.File, strict: bool) -> None:
    size, seen = file.id.get_filesize(), set()

    def count_bytes(group: h5py.Group, depth: int) -> int:
        address = h5py.h5o.get_info(group.id).addr
        if depth > MAX_DEPTH or address in seen:
            raise DamagedModelError("its groups are nested too deep, or hold themselves")
        seen.add(address)
        total = _attribute_bytes(group) if strict else 0
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise UnsafeModelError(f"{name!r} is a link to another place or file")
            item = group[name]
            if isinstance(item, h5py.Group):
                total += count_bytes(item, depth + 1)
                continue
            if not isinstance(item, h5py.Dataset):
                raise DamagedModelError(f"{name!r} is neither a group nor an array")
            if item.external or item.is_virtual:
                raise UnsafeModelError(f"the array {name!r} lies in another file")
            if strict and item.dtype.kind not in "fiub":
                raise DamagedModelError(f"the array {name!r} holds no numbers, but {item.dtype}")
            total += max(item.nbytes, _chunk_bytes(item)) + (_attribute_bytes(item) if strict else 0)
        return total

    if count_bytes(file, 0) > size:
        raise DamagedModelError("its arrays would be larger than the file")


def _chunk_bytes(array: h5py.Dataset) -> int:
    """Bytes of a chunk of a stored array: libhdf5 unpacks a whole chunk to read one number."""
    return math.prod(array.chunks) * array.dtype.itemsize if array.chunks else 0


def _attribute_bytes(item: h5py.Group | h5py.Dataset) -> int:
    """Bytes of the attributes of `item`."""
    total = 0
    for name in item.attrs:
        attribute = item.attrs.get_id(name)
        if attribute.dtype.kind not in "fiubS":
            raise DamagedModelError(f"its attribute {name!r} is neither numbers nor text of a fixed length")
        total += math.prod(attribute.shape or ()) * attribute.dtype.itemsize
    return total


def _read_config(file: h5py.File) -> dict:
    text = file.attrs.get("model_config")
    if text is None:
        raise DamagedModelError("it describes no network")
    try:
        config = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedModelError(f"its description of the network cannot be read: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise DamagedModelError("its description of the network is none")
    return config


def _require_allowed_components(value: object, depth: int) -> None:
    """Requires that every class and function named in the description is on the lists above."""
    if depth > MAX_DEPTH:
        raise DamagedModelError("its description is nested too deep")
    if isinstance(value, list):
        for item in value:
            _require_allowed_components(item, depth + 1)
    if not isinstance(value, dict):
        return
    if "class_name" in value or "module" in value or "registered_name" in value:
        name, module = value.get("class_name"), value.get("module")
        if not isinstance(name, str) or not isinstance(module, str | None):
            raise UnsafeModelError(f"it names {name!r} of {module!r}")
        if name == "Lambda":
            raise UnsafeModelError("it holds a Lambda layer, which is code and would be run")
        is_plain_component = module in MODULES and name in LAYERS | NETWORKS | ALLOWED_COMPONENTS
        if not is_plain_component and not (name in ALLOWED_MODULES and module in (None, ALLOWED_MODULES[name])):
            raise UnsafeModelError(f"it names {module or 'an unknown class'}{'.' if module else ' '}{name}")
        registered = value.get("registered_name")
        if registered not in (None, name):
            raise UnsafeModelError(f"it names {registered!r}, registered elsewhere")
        function = value["config"].get("function") if isinstance(value.get("config"), dict) else None
        if function is not None and not (name == OPERATORS and function in FUNCTIONS):
            raise UnsafeModelError(f"it names the function {function!r}")
    for item in value.values():
        _require_allowed_components(item, depth + 1)


def _require_topological_order(network: dict) -> None:
    """Requires that each layer takes its inputs from earlier ones only: Keras hangs on a cycle."""
    layers = network.get("layers")
    if not isinstance(layers, list) or not 0 < len(layers) <= MAX_LAYERS:
        raise DamagedModelError(f"expected 1 to {MAX_LAYERS:,} layers")
    call_counts: dict[str, int] = {}
    for layer in layers:
        if not isinstance(layer, dict) or not isinstance(layer.get("config"), dict):
            raise DamagedModelError("one of its layers has no settings")
        name = layer.get("name", layer["config"].get("name"))
        nodes = layer.get("inbound_nodes", [])
        if not isinstance(name, str) or name in call_counts or not isinstance(nodes, list):
            raise DamagedModelError(f"it has two layers {name!r}, or one without a name")
        for inbound in _inbound_tensors(nodes, 0):
            if inbound.call >= call_counts.get(inbound.layer, 0) or inbound.tensor:
                raise DamagedModelError(f"its layer {name!r} takes what no layer before it makes ({inbound.layer!r})")
        call_counts[name] = max(len(nodes), 1)
        if "layers" in layer["config"]:
            call_counts[name] += 1  # a nested network was called once when it was built
            _require_topological_order(layer["config"])


class _InboundTensor(NamedTuple):
    layer: str
    call: int
    tensor: int


def _inbound_tensors(value: object, depth: int) -> list[_InboundTensor]:
    """Collects every [layer, call, tensor, ...] in the `inbound_nodes` of a layer."""
    if depth > MAX_DEPTH:
        raise DamagedModelError("its description is nested too deep")
    if isinstance(value, dict):
        return [item for child in value.values() for item in _inbound_tensors(child, depth + 1)]
    if not isinstance(value, list):
        return []
    inside = [item for child in value for item in _inbound_tensors(child, depth + 1)]
    if len(value) >= 3 and isinstance(value[0], str) and all(type(item) is int and item >= 0 for item in value[1:3]):
        return [_InboundTensor(*value[:3]), *inside]
    return inside


def _read_weight_shapes(file: h5py.File) -> list[tuple[str, list[tuple[int, ...]]]]:
    """Reads (layer, shapes of its weights), in the file's order, for the layers that have weights."""
    try:
        root = file["model_weights"]
        stored = []
        for name in _read_names(root, "layer_names"):
            shapes = [tuple(root[name][weight].shape) for weight in _read_names(root[name], "weight_names")]
            stored += [(name, shapes)] if shapes else []
    except (KeyError, AttributeError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise DamagedModelError(f"its weights are not where it says: {error}") from error
    return stored


def _read_names(group: h5py.Group, attribute: str) -> list[str]:
    """Reads a list of names; Keras splits one that is too long into `attribute`0, `attribute`1, ..."""
    if attribute in group.attrs:
        parts = [group.attrs[attribute]]
    else:
        parts, number = [], 0
        while f"{attribute}{number}" in group.attrs:
            parts.append(group.attrs[f"{attribute}{number}"])
            number += 1
        if not parts:
            raise KeyError(attribute)
    return [name.decode() if isinstance(name, bytes) else str(name) for part in parts for name in part]


def _require_matching_shapes(config: dict, stored: list[tuple[str, list[tuple[int, ...]]]]) -> None:
    """Requires that the described network has the weight shapes of the file. In a graph nothing is allocated."""
    try:
        with tf.Graph().as_default(), _inference_phase(), keras.saving.custom_object_scope(APPLICATION_LAYERS):
            network_class = keras.Sequential if config["class_name"] == "Sequential" else keras.Model
            model = network_class.from_config(config["config"])
            weights_by_layer = [
                (layer.name, layer.trainable_weights + layer.non_trainable_weights) for layer in model.layers
            ]
            expected = [
                (name, [tuple(weight.shape) for weight in weights]) for name, weights in weights_by_layer if weights
            ]
    except Exception as error:  # a damaged description can raise nearly anything inside Keras
        raise DamagedModelError(f"its description makes no network: {str(error).strip()[:300]}") from error
    if len(expected) != len(stored):
        raise DamagedModelError(f"expected weights of {len(expected)} layers, found those of {len(stored)}")
    for (name, shapes), (_, stored_shapes) in zip(expected, stored, strict=True):
        if shapes != stored_shapes:
            raise DamagedModelError(
                f"the weights of its layer {name!r}: expected the shapes {shapes}, found {stored_shapes}"
            )
    _require_bounded_outputs(model)


@contextlib.contextmanager
def _inference_phase() -> Iterator[None]:
    """Builds layers for inference alone, which spares BatchNorm a tf.cond: 0.25 instead of 0.45 s for crackflow_s."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*learning_phase_scope. is deprecated", UserWarning)
        with keras.backend.learning_phase_scope(0):
            yield


def _require_bounded_outputs(model: keras.Model) -> None:
    """Requires that no output is larger than a network needs: a layer that only upsamples has no weights to check."""
    pixels = math.prod(side or 1 for side in model.inputs[0].shape[1:3])
    for layer in (module for module in (model, *model.submodules) if isinstance(module, keras.layers.Layer)):
        for call in range(len(layer.inbound_nodes)):
            output_shapes = layer.get_output_shape_at(call)
            for shape in output_shapes if isinstance(output_shapes, list) else [output_shapes]:
                values = math.prod(side or 1 for side in shape[1:])
                if values > MAX_VALUES * pixels:
                    raise DamagedModelError(
                        f"its layer {layer.name!r} makes {values / pixels:,.0f} values for each pixel of the picture: "
                        f"expected at most {MAX_VALUES:,}"
                    )
