"""Flags of tune."""

import dataclasses
import enum

from crackflow.core.config.fields import (
    option,
    require,
    require_at_least,
    require_given,
    require_non_negative,
    require_positive,
)
from crackflow.core.config.hardware import Precision, Strategy, Xla
from crackflow.core.config.network import Network


class Tuner(enum.Enum):
    HYPERBAND = "hyperband"
    BAYESIAN = "bayesian"
    RANDOM = "random"
    GRID = "grid"


class Objective(enum.Enum):
    ACCURACY = "accuracy"
    TRADEOFF = "tradeoff"


# The hyperparameters of `search.space`, in two groups.
ARCHITECTURE_CHOICES: tuple[str, ...] = (
    *("stem", "stem_kernel", "stem_stride", "depth", "width", "growth", "repeats", "block", "kernel"),
    *("downsampling", "squeeze_excite", "activation", "pooling", "dropout"),
)
TRAINING_CHOICES = ("optimizer", "learning_rate", "schedule", "batch_size", "augment")
CHOICES = ARCHITECTURE_CHOICES + TRAINING_CHOICES


@dataclasses.dataclass(frozen=True)
class TuneConfig:
    data: str = option("", "dataset made by crackflow.convert")
    out: str = option("", "folder to make: best.cfg, trials.csv, pareto.png, report.html; a search in it resumes")
    tuner: Tuner = option(
        Tuner.HYPERBAND,
        "how Keras Tuner chooses the next trial; hyperband: many for few epochs, the best of them for more",
    )
    max_trials: int = option(30, "trials at most; more than an ended search had: it resumes")
    max_epochs: int = option(8, "epochs of a trial; hyperband: of the longest")
    objective: Objective = option(
        Objective.ACCURACY, "accuracy on validation images; tradeoff: with what speed is worth added"
    )
    min_images_per_sec: float = option(0.0, "only networks that score so many images/s on this machine; 0: any")
    max_params: int = option(0, "only networks of so many parameters at most; 0: any")
    doubling_worth: float = option(0.001, "tradeoff: share of accuracy that twice the images/s are worth")
    model: Network = option(
        Network.CUSTOM, "custom: its layers are searched as well; any other network: its training alone"
    )
    hold: tuple[str, ...] = option(
        (), f"choices that are not searched but left as they are: {', '.join(CHOICES)}", aliases=["fixed"]
    )
    image_px: int = option(0, "side the networks see, in pixels; 0: the network's own (128; seed 227)")
    precision: Precision = option(Precision.AUTO, "arithmetic of the layers, as for crackflow.train")
    xla: Xla = option(Xla.AUTO, "compile layers and augmentation, as for crackflow.train")
    strategy: Strategy = option(
        Strategy.AUTO, "devices of a trial; auto: all GPUs that this process sees, or one device"
    )
    cpu_devices: int = option(
        1, "parts that the CPU is taken for, to try --strategy=mirrored without GPUs", aliases=["virtual_cpu_devices"]
    )
    # Each measurement takes 3 s, including tracing and the reference network.
    speed_seconds: float = option(
        0.25, "length of one measurement of images/s; six are made, three before and three after the training"
    )
    host: str = option(
        "localhost",
        "chief of a search over several hosts: name or address to listen on, 0.0.0.0 for all; localhost: this machine "
        "alone. Whoever reaches its port takes part in the search",
    )
    threads: int = option(0, "threads for TensorFlow's operations; 0: one a core")
    seed: int = option(0, "draws the trials; initial weights, order of the images and augmentation of each")
    overwrite: bool = option(False, "replace a search that crackflow wrote before")

    def __post_init__(self) -> None:
        require_given(self, ["data", "out"])
        require(bool(self.host.strip()), "host", "localhost, or a name or address of this machine", self.host)
        require_at_least(self, 1, ["max_trials", "max_epochs", "cpu_devices"])
        require_at_least(self, 0, ["max_params", "threads", "seed"])
        require_non_negative(self, ["min_images_per_sec", "doubling_worth"])
        require_positive(self, ["speed_seconds"])
        require(self.image_px == 0 or 32 <= self.image_px <= 1024, "image_px", "0, or 32 to 1024", self.image_px)
        known = set(self.hold) <= set(CHOICES) and len(self.hold) == len(set(self.hold))
        require(known, "hold", f"some of {', '.join(CHOICES)}, each once", ",".join(self.hold))
        left = set(CHOICES if self.model is Network.CUSTOM else TRAINING_CHOICES) - set(self.hold)
        require(bool(left), "hold", "a choice that is left to be searched", ",".join(self.hold))
        is_single_host = self.strategy is not Strategy.MULTIWORKER
        require(
            is_single_host, "strategy", "auto, one or mirrored: hosts share a search, not a trial", self.strategy.value
        )
