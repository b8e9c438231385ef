"""The networks, by name: uint8 images in, one logit each out, normalisation inside.

Synopsis::

    network = networks.NETWORKS[Network.CRACKFLOW_S]
    model = network.build(image_px=128)        # uint8 [B, 128, 128, 3], 0..255 -> float32 [B]

Adding one is a function and a line in `NETWORKS`.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from crackflow.core.backend import keras
from crackflow.core.config import Network

layers = keras.layers
# Of the running statistics of BatchNorm. Keras' applications take 0.99 and 0.999, meant for the half million steps of
# ImageNet: after the 500 of an hour's training mobilenet_v3_small still called every picture cracked.
NORM_MOMENTUM = 0.9
# oneDNN normalises bfloat16 fast when the channels are a multiple of this, and otherwise by its reference code: 143 ms
# for 24 channels, 11 for 32 (64 pictures of 64 x 64 on a Xeon with AMX). A stem of 24 made bfloat16 0.36 of float32.
BFLOAT16_CHANNELS = 16
BLOCK_TAKES = 2  # cells that the two unpadded convolutions of a residual block take from each side


@dataclasses.dataclass(frozen=True)
class Recipe:
    """`make(image) -> features` before the last layer, from uint8 [B, px, px, C]; `image_px`, `channels`: what it was
    made for; `bfloat16_on_cpu`: whether bfloat16 makes it faster where a CPU multiplies it."""

    make: Callable
    image_px: int = 128
    channels: int = 3
    bfloat16_on_cpu: bool = True

    def build(self, image_px: int = 0) -> keras.Model:
        """A model of uint8 [B, px, px, C], 0..255, to float32 logits [B]; above 0 means cracked. px: 0 is its own."""
        px = image_px or self.image_px
        image = keras.Input((px, px, self.channels), dtype="uint8", name="image")
        features = self.make(image)
        # float32 whatever the policy: in half precision a confident logit's loss is 0 or infinite.
        logit = layers.Dense(1, dtype="float32", name="logit")(features)
        return keras.Model(image, layers.Reshape((), dtype="float32", name="logits")(logit))


def seed(image):
    """The network this project starts from (Karimgfr/Crack-Detection-CNN): 11,561,537 parameters at 227 px grey."""
    x = _scaled(image)
    for number, filters in enumerate((32, 64, 64)):
        if number:
            x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
        x = layers.Conv2D(filters, 3, activation="relu", name=f"conv{number + 1}")(x)
    x = layers.Flatten(name="flatten")(x)
    return layers.Dense(64, activation="relu", name="dense1")(x)


def crackflow_xs(image):
    """Three plain strided stages, for many images a second."""
    return _crackflow(image, 16, ((32, 0), (32, 0), (48, 0)), "valid")


def crackflow_s(image):
    """A residual block in the last stage."""
    return _crackflow(image, 32, ((32, 0), (64, 0), (96, 1)), "valid")


def crackflow_m(image):
    """A residual block in each stage."""
    return _crackflow(image, 32, ((48, 1), (96, 1), (160, 1)), "same")


def crackflow_l(image):
    """Two residual blocks in each stage."""
    return _crackflow(image, 48, ((64, 2), (128, 2), (256, 2)), "same")


def _crackflow(image, stem: int, stages: tuple[tuple[int, int], ...], padding: str):
    """A stem and strided stages of (filters, residual blocks), then mean and maximum over the picture.

    The mean tells how much of the picture looks cracked, the maximum whether any one place does. Widths are multiples
    of `BFLOAT16_CHANNELS`. `padding`: valid adds no zeros, so that a window of a photograph is seen as if it were alone
    and `model.dense` scores all of them at once; same, where the blocks would leave nothing of a picture.
    """
    x = _conv(_scaled(image), stem, 3, 2, "stem", padding)
    for stage, (filters, blocks) in enumerate(stages, start=1):
        x = _conv(x, filters, 3, 2, f"stage{stage}_down", padding)
        for block in range(blocks):
            fits = min(x.shape[1:3]) > 2 * BLOCK_TAKES
            x = _residual(x, filters, f"stage{stage}_block{block + 1}", padding if fits else "same")
    pooled = [layers.GlobalAveragePooling2D(name="mean")(x), layers.GlobalMaxPooling2D(name="max")(x)]
    return layers.Concatenate(name="pooled")(pooled)


def _scaled(image):
    return layers.Rescaling(1 / 255, name="scale")(image)


def _conv(x, filters: int, kernel: int, stride: int, name: str, padding: str):
    # BatchNorm makes the bias superfluous.
    x = layers.Conv2D(filters, kernel, stride, padding=padding, use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{name}_norm")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


def _residual(x, filters: int, name: str, padding: str):
    y = _conv(x, filters, 3, 1, f"{name}_a", padding)
    y = layers.Conv2D(filters, 3, padding=padding, use_bias=False, name=f"{name}_b_conv")(y)
    y = layers.BatchNormalization(momentum=NORM_MOMENTUM, gamma_initializer="zeros", name=f"{name}_b_norm")(y)
    if padding == "valid":
        x = layers.Cropping2D(BLOCK_TAKES, name=f"{name}_crop")(x)
    return layers.Activation("relu", name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, y]))


def mobilenet_v3_small(image):
    """Howard et al., 2019: for phones."""
    return _application(keras.applications.MobileNetV3Small, image, minimalistic=False, include_preprocessing=True)


def efficientnet_v2_b0(image):
    """Tan and Le, EfficientNetV2, 2021."""
    return _application(keras.applications.EfficientNetV2B0, image, include_preprocessing=True)


def convnext_tiny(image):
    """Liu et al., A ConvNet for the 2020s, 2022."""
    return _application(keras.applications.ConvNeXtTiny, image, include_preprocessing=True)


def resnet50(image):
    """He et al., 2016. Its weights were trained on blue, green, red minus their means: a fixed layer makes that."""
    swap, means = np.eye(3, dtype=np.float32)[::-1].reshape(1, 1, 3, 3), np.float32([-103.939, -116.779, -123.68])
    as_trained = layers.Conv2D(
        3,
        1,
        kernel_initializer=_fixed(swap),
        bias_initializer=_fixed(means),
        trainable=False,
        name="blue_green_red",
    )
    return _application(keras.applications.ResNet50, image, as_trained)


def _fixed(values: np.ndarray) -> keras.initializers.Initializer:
    return keras.initializers.Constant(values.tolist())


def _application(application: Callable, image, first=None, **settings):
    """Features of a network of Keras Applications, randomly initialised (`model.weights` takes trained ones), on
    grey levels 0..255, which they normalise themselves, or `first` does."""
    x = layers.Rescaling(1.0, name="grey_levels")(image)
    x = first(x) if first else x
    backbone = application(include_top=False, weights=None, input_tensor=x, **settings)
    backbone = keras.models.clone_model(backbone, input_tensors=backbone.input, clone_function=_adapted)
    return layers.GlobalAveragePooling2D(name="mean")(backbone.output)


def _adapted(layer):
    """A layer of Keras Applications as it is, but a BatchNorm with our momentum, and in float32 where bfloat16 would
    be slow."""
    config = layer.get_config()
    if isinstance(layer, layers.BatchNormalization):
        config["momentum"] = NORM_MOMENTUM
        if layer.compute_dtype == "bfloat16" and layer.gamma.shape[0] % BFLOAT16_CHANNELS:
            config["dtype"] = "float32"
    return layer.__class__.from_config(config)


# bfloat16 over float32 on a Xeon with AMX, 128 px: crackflow_xs 1.5, _s 1.8, _m 2.0, _l 2.4, seed 2.3, resnet50 1.6;
# mobilenet_v3_small 0.6, efficientnet_v2_b0 0.95, convnext_tiny 1.0, whose depthwise convolutions have no such kernel.
NETWORKS = {
    Network.CRACKFLOW_XS: Recipe(crackflow_xs),
    Network.CRACKFLOW_S: Recipe(crackflow_s),
    Network.CRACKFLOW_M: Recipe(crackflow_m),
    Network.CRACKFLOW_L: Recipe(crackflow_l),
    Network.SEED: Recipe(seed, image_px=227, channels=1),
    Network.MOBILENET_V3_SMALL: Recipe(mobilenet_v3_small, bfloat16_on_cpu=False),
    Network.EFFICIENTNET_V2_B0: Recipe(efficientnet_v2_b0, bfloat16_on_cpu=False),
    Network.CONVNEXT_TINY: Recipe(convnext_tiny, bfloat16_on_cpu=False),
    Network.RESNET50: Recipe(resnet50),
}
