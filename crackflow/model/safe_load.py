"""What a model file may hold, checked before Keras builds anything from it.

Synopsis::

    safe_load.expect_checksums(data)  # the bytes of a file; these raise Unsafe or DamagedModelError with the reason
    safe_load.expect_plain_data(file)      # an open h5py.File
    safe_load.check(file)

Keras runs code that a file brings along: a Lambda layer is byte code, and an activation or a layer may name any
function of any module (CVE-2024-3660, CVE-2025-1550). A described network may also be larger than any memory, or go in
a circle, on which Keras waits for ever. So the description may name only the layers and initializers listed here, each
layer may take only what earlier ones make, and the shapes that it would give the weights must be those in the file,
which is found out on paper (a graph that is never run).
"""

import json
import math
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
# Keras writes arithmetic on tensors as layers that name a function of TensorFlow. These do nothing but arithmetic.
OPERATORS = "TFOpLambda"
FUNCTIONS = {"__operators__.add", "math.multiply"}
ALLOWED_MODULES = {
    "LayerScale": "tf_keras.src.applications.convnext",
    OPERATORS: "tf_keras.src.layers.core.tf_op_layer",
}
SIGNATURE, OLDEST = b"\x89HDF\r\n\x1a\n", 2
MAX_LAYERS = 2000  # of all networks here the largest has 270
MAX_DEPTH = 50
MAX_VALUES = 2048  # of a layer, for each pixel of the picture; --stem=1024 without a stride makes 1,024


class UnsafeModelError(Exception):
    """The file would have Keras do something that is not just arithmetic; the message says what."""


class DamagedModelError(Exception):
    """The file does not hold what it says; the message says what is wrong."""


def expect_checksums(data: bytes) -> None:
    """Raises: DamagedModelError unless `data` is an HDF5 file whose inner tables have checksums.

    In the older format a few changed bytes could make libhdf5 wait for ever.
    """
    if data[: len(SIGNATURE)] != SIGNATURE:
        raise DamagedModelError("it is no HDF5 file")
    version = data[len(SIGNATURE)] if len(data) > len(SIGNATURE) else 0
    if version < OLDEST:
        raise DamagedModelError(
            f"its format is older than crackflow writes (HDF5 superblock {version}, expected {OLDEST} or more)"
        )


def check(file: h5py.File) -> None:
    """Raises: Unsafe or DamagedModelError, with the reason, unless building the model is safe and its weights fit."""
    config = _described(file)
    _expect_known(config, 0)
    if config.get("class_name") not in NETWORKS:
        raise DamagedModelError(f"expected the description of a network, found {config.get('class_name')!r}")
    _expect_order(config["config"])
    _expect_fitting(config, _stored(file))


def expect_plain_data(file: h5py.File) -> None:
    """No text of variable length, no link out of the file, nothing larger than the file itself: after this it is safe
    to read. Raises: Unsafe or DamagedModelError."""
    _expect_inside(file, strict=True)


def expect_own_data(file: h5py.File) -> None:
    """As `expect_plain_data`, for weights that Keras itself or another program wrote, in the older format and with
    attributes of their own: no link, no array that lies elsewhere or is larger than the file. Raises: Unsafe or
    DamagedModelError."""
    _expect_inside(file, strict=False)


def _expect_inside(file: h5py.File, strict: bool) -> None:
    size, seen = file.id.get_filesize(), set()

    def look(group: h5py.Group, depth: int) -> int:
        place = h5py.h5o.get_info(group.id).addr
        if depth > MAX_DEPTH or place in seen:
            raise DamagedModelError("its groups are nested too deep, or hold themselves")
        seen.add(place)
        total = _attributes(group) if strict else 0
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise UnsafeModelError(f"{name!r} is a link to another place or file")
            one = group[name]
            if isinstance(one, h5py.Group):
                total += look(one, depth + 1)
                continue
            if not isinstance(one, h5py.Dataset):
                raise DamagedModelError(f"{name!r} is neither a group nor an array")
            if one.external or one.is_virtual:
                raise UnsafeModelError(f"the array {name!r} lies in another file")
            if strict and one.dtype.kind not in "fiub":
                raise DamagedModelError(f"the array {name!r} holds no numbers, but {one.dtype}")
            total += max(one.nbytes, _piece_bytes(one)) + (_attributes(one) if strict else 0)
        return total

    if look(file, 0) > size:
        raise DamagedModelError("its arrays would be larger than the file")


def _piece_bytes(one: h5py.Dataset) -> int:
    """Of a piece in which an array is stored: libhdf5 unpacks a whole one to read one number."""
    return math.prod(one.chunks) * one.dtype.itemsize if one.chunks else 0


def _attributes(one: h5py.Group | h5py.Dataset) -> int:
    """Bytes of the attributes of `one`."""
    total = 0
    for name in one.attrs:
        found = one.attrs.get_id(name)
        if found.dtype.kind not in "fiubS":
            raise DamagedModelError(f"its attribute {name!r} is neither numbers nor text of a fixed length")
        total += math.prod(found.shape or ()) * found.dtype.itemsize
    return total


def _described(file: h5py.File) -> dict:
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


def _expect_known(value: object, depth: int) -> None:
    """Whatever is named anywhere in the description is on the lists above."""
    if depth > MAX_DEPTH:
        raise DamagedModelError("its description is nested too deep")
    if isinstance(value, list):
        for one in value:
            _expect_known(one, depth + 1)
    if not isinstance(value, dict):
        return
    if "class_name" in value or "module" in value or "registered_name" in value:
        name, module = value.get("class_name"), value.get("module")
        if not isinstance(name, str) or not isinstance(module, str | None):
            raise UnsafeModelError(f"it names {name!r} of {module!r}")
        if name == "Lambda":
            raise UnsafeModelError("it holds a Lambda layer, which is code and would be run")
        ours = module in MODULES and name in LAYERS | NETWORKS | ALLOWED_COMPONENTS
        if not ours and not (name in ALLOWED_MODULES and module in (None, ALLOWED_MODULES[name])):
            raise UnsafeModelError(f"it names {module or 'an unknown class'}{'.' if module else ' '}{name}")
        registered = value.get("registered_name")
        if registered not in (None, name):
            raise UnsafeModelError(f"it names {registered!r}, registered elsewhere")
        function = value["config"].get("function") if isinstance(value.get("config"), dict) else None
        if function is not None and not (name == OPERATORS and function in FUNCTIONS):
            raise UnsafeModelError(f"it names the function {function!r}")
    for one in value.values():
        _expect_known(one, depth + 1)


def _expect_order(network: dict) -> None:
    """Each layer takes only what earlier ones make: on a circle Keras would wait for ever."""
    described = network.get("layers")
    if not isinstance(described, list) or not 0 < len(described) <= MAX_LAYERS:
        raise DamagedModelError(f"expected 1 to {MAX_LAYERS:,} layers")
    made = {}
    for layer in described:
        if not isinstance(layer, dict) or not isinstance(layer.get("config"), dict):
            raise DamagedModelError("one of its layers has no settings")
        name = layer.get("name", layer["config"].get("name"))
        nodes = layer.get("inbound_nodes", [])
        if not isinstance(name, str) or name in made or not isinstance(nodes, list):
            raise DamagedModelError(f"it has two layers {name!r}, or one without a name")
        for taken in _taken(nodes, 0):
            if taken[1] >= made.get(taken[0], 0) or taken[2]:
                raise DamagedModelError(f"its layer {name!r} takes what no layer before it makes ({taken[0]!r})")
        made[name] = max(len(nodes), 1)
        if "layers" in layer["config"]:
            made[name] += 1  # a network within was called once as it was made
            _expect_order(layer["config"])


class _Taken(NamedTuple):
    layer: str
    call: int
    tensor: int


def _taken(value: object, depth: int) -> list[_Taken]:
    """Every [layer, call, tensor, ...] in what a layer says of its inputs."""
    if depth > MAX_DEPTH:
        raise DamagedModelError("its description is nested too deep")
    if isinstance(value, dict):
        return [one for part in value.values() for one in _taken(part, depth + 1)]
    if not isinstance(value, list):
        return []
    inside = [one for part in value for one in _taken(part, depth + 1)]
    if len(value) >= 3 and isinstance(value[0], str) and all(type(one) is int and one >= 0 for one in value[1:3]):
        return [_Taken(*value[:3]), *inside]
    return inside


def _stored(file: h5py.File) -> list[tuple[str, list[tuple[int, ...]]]]:
    """(layer, shapes of its weights) in the file's order, of the layers that have some."""
    try:
        root = file["model_weights"]
        found = []
        for name in _names(root, "layer_names"):
            shapes = [tuple(root[name][weight].shape) for weight in _names(root[name], "weight_names")]
            found += [(name, shapes)] if shapes else []
    except (KeyError, AttributeError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise DamagedModelError(f"its weights are not where it says: {error}") from error
    return found


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """Keras cuts a list that is too long for one attribute into `attribute`0, `attribute`1, ..."""
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


def _expect_fitting(config: dict, stored: list[tuple[str, list[tuple[int, ...]]]]) -> None:
    """The weights of the described network have the shapes of those in the file. In a graph nothing is allocated."""
    try:
        with tf.Graph().as_default(), keras.saving.custom_object_scope(APPLICATION_LAYERS):
            kind = keras.Sequential if config["class_name"] == "Sequential" else keras.Model
            model = kind.from_config(config["config"])
            weighed = [(layer.name, layer.trainable_weights + layer.non_trainable_weights) for layer in model.layers]
            expected = [(name, [tuple(one.shape) for one in weights]) for name, weights in weighed if weights]
    except Exception as error:  # a damaged description can raise nearly anything inside Keras
        raise DamagedModelError(f"its description makes no network: {str(error).strip()[:300]}") from error
    if len(expected) != len(stored):
        raise DamagedModelError(f"expected weights of {len(expected)} layers, found those of {len(stored)}")
    for (name, shapes), (_, found) in zip(expected, stored, strict=True):
        if shapes != found:
            raise DamagedModelError(f"the weights of its layer {name!r}: expected the shapes {shapes}, found {found}")
    _expect_moderate(model)


def _expect_moderate(model: keras.Model) -> None:
    """No layer makes more of a picture than a network needs: one that only enlarges it has no weights to tell."""
    pixels = math.prod(side or 1 for side in model.inputs[0].shape[1:3])
    for layer in (one for one in (model, *model.submodules) if isinstance(one, keras.layers.Layer)):
        for call in range(len(layer.inbound_nodes)):
            made = layer.get_output_shape_at(call)
            for shape in made if isinstance(made, list) else [made]:
                values = math.prod(side or 1 for side in shape[1:])
                if values > MAX_VALUES * pixels:
                    raise DamagedModelError(
                        f"its layer {layer.name!r} makes {values / pixels:,.0f} values for each pixel of the picture: "
                        f"expected at most {MAX_VALUES:,}"
                    )
