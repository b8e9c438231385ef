"""The networks, by name: from uint8 images to one logit each, with the normalisation inside.

Synopsis::

    network = networks.NETWORKS[Network.CRACKFLOW_S]
    model = network.build(image_px=128)        # uint8 [B, 128, 128, 3], 0..255 -> float32 [B]
    network = networks.get_model_spec(Network.CUSTOM, Architecture(stem=16, widths=(32, 48), repeats=(0, 1)))

Adding one is an architecture or a function, and a line in `NETWORKS`.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from crackflow.core.backend import keras, tf
from crackflow.core.config.network import Architecture, Block, Network, Padding
from crackflow.model import blocks

layers = keras.layers


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """How to build a network.

    Attributes:
      make: builds the features before the last layer from an image uint8 [B, px, px, C].
      image_px: the side of the images it was designed for.
      channels: the channels of its images.
      bfloat16_on_cpu: whether bfloat16 is faster than float32 on a CPU that multiplies it.
    """

    make: Callable
    image_px: int = 128
    channels: int = 3
    bfloat16_on_cpu: bool = True

    def build(self, image_px: int = 0) -> keras.Model:
        """Builds the network with random weights.

        Args:
          image_px: the side of the images; 0 means that of the spec.

        Returns:
          A model from uint8 [B, px, px, C], 0..255, to float32 logits [B]; above 0 means cracked.
        """
        side = image_px or self.image_px
        image = keras.Input((side, side, self.channels), dtype="uint8", name="image")
        features = self.make(image)
        # float32 whatever the policy: in half precision the loss of a confident logit is 0 or infinite.
        logit = layers.Dense(1, dtype="float32", name="logit")(features)
        return keras.Model(image, layers.Reshape((), dtype="float32", name="logits")(logit))


def seed(image: tf.Tensor) -> tf.Tensor:
    """The network that this project began with (Karimgfr/Crack-Detection-CNN): 11,561,537 parameters at 227 px grey."""
    x = blocks.scaled(image)
    for number, filters in enumerate((32, 64, 64)):
        if number:
            x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
        x = layers.Conv2D(filters, 3, activation="relu", name=f"conv{number + 1}")(x)
    x = layers.Flatten(name="flatten")(x)
    return layers.Dense(64, activation="relu", name="dense1")(x)


def mobilenet_v3_small(image: tf.Tensor) -> tf.Tensor:
    """Howard et al., 2019; designed for phones."""
    return _application(keras.applications.MobileNetV3Small, image, minimalistic=False, include_preprocessing=True)


def efficientnet_v2_b0(image: tf.Tensor) -> tf.Tensor:
    """Tan and Le, EfficientNetV2, 2021."""
    return _application(keras.applications.EfficientNetV2B0, image, include_preprocessing=True)


def convnext_tiny(image: tf.Tensor) -> tf.Tensor:
    """Liu et al., A ConvNet for the 2020s, 2022."""
    return _application(keras.applications.ConvNeXtTiny, image, include_preprocessing=True)


def resnet50(image: tf.Tensor) -> tf.Tensor:
    """He et al., 2016. Its weights were trained on blue, green, red minus their means: a fixed layer computes that."""
    swap = np.eye(3, dtype=np.float32)[::-1].reshape(1, 1, 3, 3)
    means = np.array([-103.939, -116.779, -123.68], np.float32)
    caffe_preprocessing = layers.Conv2D(
        3,
        1,
        kernel_initializer=_constant_initializer(swap),
        bias_initializer=_constant_initializer(means),
        trainable=False,
        name="blue_green_red",
    )
    return _application(keras.applications.ResNet50, image, caffe_preprocessing)


def _constant_initializer(values: np.ndarray) -> keras.initializers.Initializer:
    return keras.initializers.Constant(values.tolist())


def _application(application: Callable, image: tf.Tensor, first: Callable | None = None, **settings: bool) -> tf.Tensor:
    """Builds the features of a network of Keras Applications, randomly initialised.

    `model.layer_weights` loads trained weights. The input is grey levels 0..255, which the network normalises itself,
    or `first` does.
    """
    x = layers.Rescaling(1.0, name="grey_levels")(image)
    x = first(x) if first else x
    backbone = application(include_top=False, weights=None, input_tensor=x, **settings)
    backbone = keras.models.clone_model(backbone, input_tensors=backbone.input, clone_function=_clone_layer)
    return layers.GlobalAveragePooling2D(name="mean")(backbone.output)


def _clone_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Clones a layer; a BatchNorm gets `NORM_MOMENTUM`, and float32 where bfloat16 would be slow."""
    config = layer.get_config()
    if isinstance(layer, layers.BatchNormalization):
        config["momentum"] = blocks.NORM_MOMENTUM
        if layer.compute_dtype == "bfloat16" and layer.gamma.shape[0] % blocks.BFLOAT16_CHANNELS:
            config["dtype"] = "float32"
    return layer.__class__.from_config(config)


# Three plain strided stages, for the highest throughput.
XS = Architecture(stem=16, widths=(32, 32, 48), repeats=(0, 0, 0))
# A residual block in the last stage: the default architecture.
S = Architecture()
# One residual block in each stage, and two. Without padding nothing would be left of an image of 128 px.
M = Architecture(widths=(48, 96, 160), repeats=(1, 1, 1), padding=Padding.SAME)
L = Architecture(stem=48, widths=(64, 128, 256), repeats=(2, 2, 2), padding=Padding.SAME)


def _spec_from_architecture(design: Architecture) -> ModelSpec:
    # Depthwise convolutions have no bfloat16 kernel that is faster on a CPU: see below.
    make = functools.partial(blocks.features, design=design)
    return ModelSpec(make, bfloat16_on_cpu=design.block is not Block.SEPARABLE)


# bfloat16 over float32 on a Xeon with AMX, 128 px: crackflow_xs 1.5, _s 1.8, _m 2.0, _l 2.4, seed 2.3, resnet50 1.6;
# mobilenet_v3_small 0.6, efficientnet_v2_b0 0.95, convnext_tiny 1.0, whose depthwise convolutions have no such kernel.
NETWORKS = {
    Network.CRACKFLOW_XS: _spec_from_architecture(XS),
    Network.CRACKFLOW_S: _spec_from_architecture(S),
    Network.CRACKFLOW_M: _spec_from_architecture(M),
    Network.CRACKFLOW_L: _spec_from_architecture(L),
    Network.CUSTOM: _spec_from_architecture(Architecture()),
    Network.SEED: ModelSpec(seed, image_px=227, channels=1),
    Network.MOBILENET_V3_SMALL: ModelSpec(mobilenet_v3_small, bfloat16_on_cpu=False),
    Network.EFFICIENTNET_V2_B0: ModelSpec(efficientnet_v2_b0, bfloat16_on_cpu=False),
    Network.CONVNEXT_TINY: ModelSpec(convnext_tiny, bfloat16_on_cpu=False),
    Network.RESNET50: ModelSpec(resnet50),
}


def get_model_spec(name: Network, design: Architecture) -> ModelSpec:
    """Returns the spec of network `name`; that of `design` where `name` is `custom`."""
    return _spec_from_architecture(design) if name is Network.CUSTOM else NETWORKS[name]
