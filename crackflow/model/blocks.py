"""The building blocks of networks, and the feature extractor that an `Architecture` describes.

Synopsis::

    features = blocks.features(image, Architecture(stem=16, widths=(32, 48), repeats=(0, 1)))

A convolution is followed by BatchNorm, which makes its bias superfluous, and the activation. With `valid` padding no
zeros are added, so that a window of a photograph is scored as if it were an image of its own and
`inference.sliding_window` scores all windows at once. Where an image is too small for that, the convolution pads.
"""

from crackflow.core.backend import keras, tf
from crackflow.core.config.network import Architecture, Block, Downsampling, Padding, Pooling

layers = keras.layers
MIN_DEVIATION = 0.02  # 5 grey levels: noise alone is not amplified to a texture
# Of the running statistics of BatchNorm. Keras Applications use 0.99 and 0.999, meant for the half million steps of
# ImageNet: after the 500 steps of an hour's training mobilenet_v3_small still called every image cracked.
NORM_MOMENTUM = 0.9
# oneDNN normalises bfloat16 fast when the channels are a multiple of this, and otherwise with its reference code:
# 143 ms for 24 channels, 11 for 32 (64 images of 64 x 64 on a Xeon with AMX). With a stem of 24, bfloat16 reached 0.36
# of the speed of float32, so other numbers of channels are normalised in float32 (a stem of 8 + 8: 644 images/s in
# training instead of 399).
BFLOAT16_CHANNELS = 16


def scaled(image: tf.Tensor) -> tf.Tensor:
    """Rescales uint8 0..255 to 0..1."""
    return layers.Rescaling(1 / 255, name="scale")(image)


def features(image: tf.Tensor, design: Architecture) -> tf.Tensor:
    """Builds a stem, stages that each halve the image and add `repeats` blocks, then global pooling.

    The mean tells how much of the image looks cracked, the maximum whether any single position does.

    Args:
      image: uint8 [B, H, W, C], 0..255.
      design: the architecture to build.

    Returns:
      Features [B, K].
    """
    x = _stem(scaled(image), design)
    for stage, (filters, repeats) in enumerate(zip(design.widths, design.repeats, strict=True), start=1):
        x = _downsample(x, filters, f"stage{stage}_down", design)
        for block in range(1, repeats + 1):
            x = BLOCKS[design.block](x, filters, f"stage{stage}_block{block}", design)
        if design.squeeze_excite:
            x = _squeeze_excite(x, filters, f"stage{stage}_se", design)
    pooled = [pool(name=name)(x) for name, pool in POOLS[design.pooling].items()]
    x = layers.Concatenate(name="pooled")(pooled) if len(pooled) > 1 else pooled[0]
    return layers.Dropout(design.dropout, name="dropout")(x) if design.dropout else x


def _stem(x: tf.Tensor, design: Architecture) -> tf.Tensor:
    """The first convolution; with `standardised`, half of its channels see the standardised image.

    That is a grey image of the size of the feature maps, less its mean and divided by its deviation (Ulyanov et al.,
    Instance normalization, 2016): a faint crack on an even wall then looks like a strong one. Standardising loses how
    faint the crack was, so the other half sees the image as it is (as in Pan et al., Two at once, ECCV 2018).
    """
    if not design.standardised:
        return _conv(x, design.stem, design.stem_kernel, design.stem_stride, "stem", design)
    half, stride, channels = design.stem // 2, design.stem_stride, x.shape[3]
    plain = _conv(x, design.stem - half, design.stem_kernel, stride, "stem", design)
    mean = keras.initializers.Constant(1 / (stride * stride * channels))  # the initial value; it is trained
    grey = layers.Conv2D(
        1, stride, stride, padding="same", use_bias=False, kernel_initializer=mean, name="stem_grey_conv"
    )(x)
    # float32: the mean of 4,096 numbers. No trainable scale, because the convolution behind it has one.
    grey = layers.LayerNormalization(
        axis=[1, 2], center=False, scale=False, epsilon=MIN_DEVIATION**2, dtype="float32", name="stem_standardised"
    )(grey)
    standardised = _conv(grey, half, design.stem_kernel, 1, "stem_even", design)
    return layers.Concatenate(name="stem_both")([plain, standardised])


def _downsample(x: tf.Tensor, filters: int, name: str, design: Architecture) -> tf.Tensor:
    """Halves height and width with a stride of 2, or with a pooling of 2 before the convolution.

    Mean pooling is the cheapest low pass (Zhang, Making convolutional networks shift-invariant again, 2019).
    """
    conv = _separable if design.block is Block.SEPARABLE else _conv
    if design.downsampling is Downsampling.STRIDED:
        return conv(x, filters, design.kernel, 2, name, design)
    pool = layers.MaxPooling2D if design.downsampling is Downsampling.MAX else layers.AveragePooling2D
    x = pool(2, padding="valid" if min(x.shape[1:3]) > 1 else "same", name=f"{name}_pool")(x)
    return conv(x, filters, design.kernel, 1, name, design)


def _conv(
    x: tf.Tensor, filters: int, kernel: int, stride: int, name: str, design: Architecture, padding: str = ""
) -> tf.Tensor:
    padding = padding or _padding(x, kernel, design)
    x = layers.Conv2D(filters, kernel, stride, padding=padding, use_bias=False, name=f"{name}_conv")(x)
    return _activate(_normalize(x, name), name, design)


def _separable(x: tf.Tensor, filters: int, kernel: int, stride: int, name: str, design: Architecture) -> tf.Tensor:
    """A convolution of each channel by itself, then one across channels (Howard et al., MobileNets, 2017)."""
    padding = _padding(x, kernel, design)
    x = layers.DepthwiseConv2D(kernel, stride, padding=padding, use_bias=False, name=f"{name}_depthwise")(x)
    x = _activate(_normalize(x, f"{name}_depthwise"), f"{name}_depthwise", design)
    return _conv(x, filters, 1, 1, name, design)


def _plain_block(x: tf.Tensor, filters: int, name: str, design: Architecture) -> tf.Tensor:
    return _conv(x, filters, design.kernel, 1, name, design)


def _residual_block(x: tf.Tensor, filters: int, name: str, design: Architecture) -> tf.Tensor:
    """Two convolutions beside the identity (He et al., 2016); without padding each crops every side."""
    crop = design.kernel - 1
    padding = "valid" if design.padding is Padding.VALID and min(x.shape[1:3]) > 2 * crop else "same"
    y = _conv(x, filters, design.kernel, 1, f"{name}_a", design, padding)
    y = layers.Conv2D(filters, design.kernel, padding=padding, use_bias=False, name=f"{name}_b_conv")(y)
    return _add_residual(x, y, crop if padding == "valid" else 0, f"{name}_b", name, design)


def _separable_block(x: tf.Tensor, filters: int, name: str, design: Architecture) -> tf.Tensor:
    """A separable convolution beside the identity."""
    crop, padding = design.kernel // 2, _padding(x, design.kernel, design)
    y = layers.DepthwiseConv2D(design.kernel, padding=padding, use_bias=False, name=f"{name}_depthwise")(x)
    y = _activate(_normalize(y, f"{name}_depthwise"), f"{name}_depthwise", design)
    y = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_conv")(y)
    return _add_residual(x, y, crop if padding == "valid" else 0, name, name, design)


def _add_residual(x: tf.Tensor, y: tf.Tensor, crop: int, norm: str, name: str, design: Architecture) -> tf.Tensor:
    """Adds the normalised `y` to `x`, of which `crop` positions are cut off at each side.

    The initial scale is 0, so that the block begins as the identity (Goyal et al., 2017).
    """
    y = _normalize(y, norm, gamma_initializer="zeros")
    x = layers.Cropping2D(crop, name=f"{name}_crop")(x) if crop else x
    return _activate(layers.Add(name=f"{name}_add")([x, y]), name, design)


def _squeeze_excite(x: tf.Tensor, filters: int, name: str, design: Architecture) -> tf.Tensor:
    """Multiplies each channel by a factor from 0 to 1, computed from the means of all channels (Hu et al., 2018)."""
    y = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    y = layers.Dense(max(filters // design.squeeze_excite, 1), design.activation.value, name=f"{name}_squeeze")(y)
    return layers.Multiply(name=name)([x, layers.Dense(filters, "sigmoid", name=f"{name}_excite")(y)])


def _padding(x: tf.Tensor, kernel: int, design: Architecture) -> str:
    return "valid" if design.padding is Padding.VALID and min(x.shape[1:3]) >= kernel else "same"


def _normalize(x: tf.Tensor, name: str, **settings: str) -> tf.Tensor:
    if x.shape[-1] % BFLOAT16_CHANNELS and x.dtype == "bfloat16":
        settings["dtype"] = "float32"
    return layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{name}_norm", **settings)(x)


def _activate(x: tf.Tensor, name: str, design: Architecture) -> tf.Tensor:
    return layers.Activation(design.activation.value, name=f"{name}_{design.activation.value}")(x)


BLOCKS = {Block.PLAIN: _plain_block, Block.RESIDUAL: _residual_block, Block.SEPARABLE: _separable_block}
_MEAN, _MAX = {"mean": layers.GlobalAveragePooling2D}, {"max": layers.GlobalMaxPooling2D}
POOLS = {Pooling.MEAN: _MEAN, Pooling.MAX: _MAX, Pooling.MEAN_MAX: _MEAN | _MAX}
