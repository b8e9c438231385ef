"""Flags of a network."""

import dataclasses
import enum

from crackflow.core.config.fields import option, require, require_fraction


class Network(enum.Enum):
    CRACKFLOW_XS = "crackflow_xs"
    CRACKFLOW_S = "crackflow_s"
    CRACKFLOW_M = "crackflow_m"
    CRACKFLOW_L = "crackflow_l"
    CUSTOM = "custom"
    SEED = "seed"
    MOBILENET_V3_SMALL = "mobilenet_v3_small"
    EFFICIENTNET_V2_B0 = "efficientnet_v2_b0"
    CONVNEXT_TINY = "convnext_tiny"
    RESNET50 = "resnet50"


class Block(enum.Enum):
    PLAIN = "plain"
    RESIDUAL = "residual"
    SEPARABLE = "separable"


class Downsampling(enum.Enum):
    STRIDED = "strided"
    MAX = "max"
    AVERAGE = "average"


class Activation(enum.Enum):
    RELU = "relu"
    SWISH = "swish"
    GELU = "gelu"


class Pooling(enum.Enum):
    MEAN = "mean"
    MAX = "max"
    MEAN_MAX = "mean_max"


class Padding(enum.Enum):
    VALID = "valid"
    SAME = "same"


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The layers of --model=custom; by default those of crackflow_s."""

    stem: int = option(32, "custom: channels of the first convolution; bfloat16 wants multiples of 16")
    stem_kernel: int = option(3, "custom: its side, in pixels")
    stem_stride: int = option(2, "custom: its stride, in pixels")
    widths: tuple[int, ...] = option((32, 64, 96), "custom: channels of each stage, which halves the picture")
    repeats: tuple[int, ...] = option((0, 0, 1), "custom: blocks of each stage after the halving")
    block: Block = option(
        Block.RESIDUAL, "custom: what a block is; separable: the halvings as well are depthwise-separable convolutions"
    )
    kernel: int = option(3, "custom: side of the convolutions after the stem, in cells")
    downsampling: Downsampling = option(
        Downsampling.STRIDED, "custom: halve by the stride of a convolution, or by pooling before it"
    )
    squeeze_excite: int = option(0, "custom: channels are weighed after each stage, by a layer so many times narrower")
    activation: Activation = option(Activation.RELU, "custom: after each convolution")
    pooling: Pooling = option(Pooling.MEAN_MAX, "custom: what is taken of the whole picture")
    dropout: float = option(0.0, "custom: share of it that each training step leaves out")
    padding: Padding = option(
        Padding.VALID, "custom: valid adds no zeros, so that predict scores all windows of a photograph at once"
    )
    standardised: bool = option(
        False,
        "custom: half of the stem sees the picture less its mean and divided by its deviation; with padding=same",
        aliases=["instance_norm_stem"],
    )

    def __post_init__(self) -> None:
        require(1 <= self.stem <= 1024, "stem", "1 to 1024", self.stem)
        for name, odd in (("stem_kernel", self.stem_kernel), ("kernel", self.kernel)):
            require(odd in (1, 3, 5, 7), name, "1, 3, 5 or 7", odd)
        require(self.stem_stride in (1, 2, 4), "stem_stride", "1, 2 or 4", self.stem_stride)
        stages = len(self.widths)
        legal = 1 <= stages <= 6 and all(1 <= width <= 2048 for width in self.widths)
        require(legal, "widths", "one to six numbers from 1 to 2048", self.widths)
        legal = len(self.repeats) == stages and all(0 <= count <= 16 for count in self.repeats)
        require(legal, "repeats", f"as many numbers as --widths has, {stages}, from 0 to 16", self.repeats)
        fits = self.padding is Padding.SAME and self.stem > 1
        require(fits or not self.standardised, "standardised", "--padding=same and a --stem of 2 or more", True)
        require(0 <= self.squeeze_excite <= 64, "squeeze_excite", "0 to 64", self.squeeze_excite)
        require_fraction(self, ["dropout"])


def require_used(model: Network, design: Architecture) -> None:
    """Raises: ConfigError for flags that describe an architecture beside a network that has its own."""
    for field in dataclasses.fields(design) if model is not Network.CUSTOM else ():
        value = getattr(design, field.name)
        require(value == field.default, field.name, f"nothing with --model={model.value}; use --model=custom", value)
