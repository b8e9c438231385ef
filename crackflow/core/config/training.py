"""Flags of train."""

import dataclasses
import enum
import math

from crackflow.core.config.augmentation import GEOMETRIC_OPS, Augmentation
from crackflow.core.config.fields import (
    option,
    require,
    require_address,
    require_at_least,
    require_fraction,
    require_given,
    require_non_negative,
    require_positive,
)
from crackflow.core.config.hardware import AllReduce, Precision, Strategy, Xla
from crackflow.core.config.network import Architecture, Network, require_used
from crackflow.core.config.threshold import RULES, ThresholdRule


class Optimizer(enum.Enum):
    ADAMW = "adamw"
    SGD = "sgd"
    LAMB = "lamb"
    RECTIFIED_ADAM = "rectified_adam"
    LOOKAHEAD = "lookahead"
    SWA = "swa"
    MOVING_AVERAGE = "moving_average"


class Schedule(enum.Enum):
    COSINE = "cosine"
    ONE_CYCLE = "one_cycle"
    PIECEWISE = "piecewise"
    CONSTANT = "constant"


class Loss(enum.Enum):
    CROSS_ENTROPY = "cross_entropy"
    FOCAL = "focal"


class ExtraMetric(enum.Enum):
    MCC = "mcc"
    KAPPA = "kappa"


class Input(enum.Enum):
    AUTO = "auto"
    STREAM = "stream"
    PACK = "pack"
    SYNTHETIC = "synthetic"


class Resume(enum.Enum):
    AUTO = "auto"
    NEVER = "never"


@dataclasses.dataclass(frozen=True)
class Optimization:
    """The training objective and its optimization: optimizer, learning rate, loss, averaging."""

    optimizer: Optimizer = option(
        Optimizer.ADAMW,
        "adamw, sgd (Nesterov, momentum 0.9), swa (adamw; evaluated and exported: the mean of its weights in the last "
        "quarter); from tensorflow-addons: lamb, rectified_adam, lookahead (around it), moving_average (around adamw)",
    )
    learning_rate: float = option(3e-3, "peak of the schedule")  # at 64 px on METU; BUILD_NOTES.md
    rate_batch: int = option(
        64,
        "batch size that learning_rate is meant for: others scale it, sgd in proportion, the rest by the root; 0: no",
    )
    schedule: Schedule = option(Schedule.COSINE, "what the rate does after the warm-up")
    warmup_fraction: float = option(0.1, "share of the steps that the rate climbs for; one_cycle has its own climb")
    rate_drops: tuple[float, ...] = option(
        (0.5, 0.75), "piecewise: shares of the steps after which a tenth is left", aliases=["lr_drop_fractions"]
    )
    weight_decay: float = option(0.02, "decoupled decay of kernels")
    clip_norm: float = option(0.0, "largest norm of all gradients together; 0: not clipped")
    accumulate: int = option(
        1,
        "parts that a batch is computed in, one after the other, to save memory",
        aliases=["gradient_accumulation_steps"],
    )
    ema: float = option(
        0.0,
        "decay of an average of the weights, evaluated and exported instead of them; 0: none",
        aliases=["ema_decay"],
    )
    loss: Loss = option(Loss.CROSS_ENTROPY, "binary; focal: easy images count less")
    focal_gamma: float = option(2.0, "focal: exponent of the share that is not yet right")
    label_smoothing: float = option(0.02, "0: none; training labels become s/2 and 1-s/2")
    class_weights: tuple[float, ...] = option((1.0, 1.0), "of clean,cracked in the loss; 0,0: both classes weigh alike")
    mask_weight: float = option(
        0.0, "of a loss over 8 x 8 cells, where the dataset has masks; 0: labels alone", aliases=["mask_loss_weight"]
    )

    def __post_init__(self) -> None:
        require_positive(self, ["learning_rate"])
        require_fraction(self, ["warmup_fraction", "label_smoothing", "ema"])
        free = not self.ema or self.optimizer not in (Optimizer.SWA, Optimizer.MOVING_AVERAGE)
        require(free, "ema", f"0 with --optimizer={self.optimizer.value}, which averages by itself", self.ema)
        require_at_least(self, 0, ["rate_batch"])
        require_at_least(self, 1, ["accumulate"])
        for name in ("weight_decay", "clip_norm", "focal_gamma", "mask_weight"):
            require(0 <= getattr(self, name) < math.inf, name, "0 or more", getattr(self, name))
        drops = self.rate_drops
        rising = all(0 < drop < 1 for drop in drops) and list(drops) == sorted(set(drops))
        require(rising, "rate_drops", "rising shares between 0 and 1", drops)
        weights = self.class_weights
        legal = len(weights) == 2 and all(0 <= weight < math.inf for weight in weights)
        legal = legal and (weights == (0, 0) or all(weights))
        require(legal, "class_weights", "two numbers above 0 for clean,cracked, or 0,0", weights)


@dataclasses.dataclass(frozen=True)
class Safety:
    """What happens when a run is interrupted or diverges."""

    resume: Resume = option(Resume.AUTO, "auto: resume the run that lies in run_dir; never: only a new one")
    checkpoint_minutes: float = option(10.0, "between two checkpoints within an epoch; each epoch ends with one")
    loss_limit: float = option(
        20.0, "a mean training loss above it, or one that is no number, means diverged", aliases=["max_loss"]
    )
    rollbacks: int = option(
        3, "times that a diverged run goes back to its last checkpoint with half the rate", aliases=["max_rollbacks"]
    )

    def __post_init__(self) -> None:
        require_positive(self, ["checkpoint_minutes", "loss_limit"])
        require_at_least(self, 0, ["rollbacks"])


# After so many steps BatchNorm's running statistics, with momentum 0.9, have forgotten their start: 0.9^50 = 0.5 %.
SETTLED_STEPS = 50
BATCH_SIZES = (64, 32)
SETTLED_IMAGES = 50  # of each class in validation; from this number on, one image more or less decides nothing


class Logger(enum.Enum):
    MLFLOW = "mlflow"
    WANDB = "wandb"


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    data: str = option("", "dataset made by crackflow.convert")
    run_dir: str = option("", "folder to make: model.h5, report.html, history.csv, metrics.json, flags.cfg")
    model: Network = option(Network.CRACKFLOW_S, "network; custom: the layers that the flags marked so describe")
    architecture: Architecture = Architecture()
    image_px: int = option(0, "side the network sees, in pixels; 0: the network's own (128; seed 227)")
    batch_size: int = option(
        0,
        "images a step, over all devices; 0: 64, or 32 where an epoch would have fewer than 50 steps of them",
    )
    epochs: int = option(12, "passes over the training split, at most")
    optimization: Optimization = Optimization()
    min_steps_per_epoch: int = option(
        SETTLED_STEPS, "an epoch of a small set goes through it several times, so that it has so many steps at least"
    )
    early_stopping_epochs: int = option(
        4, "stop after so many epochs, and early_stopping_steps, without a better validation loss; 0: never"
    )
    # Four epochs of METU's 8,000 training images. With 200 steps, training on 400 images of synthetic concrete stopped
    # at an accuracy of 0.55, after a lucky loss on 40 validation images; with 600 steps it reaches 0.92.
    early_stopping_steps: int = option(500, "steps that belong to it: a small set's epochs are short")
    augmentation: Augmentation = Augmentation()
    metrics: tuple[ExtraMetric, ...] = option((), "more for each epoch, from tensorflow-addons: mcc, kappa")
    threshold: str = option("f1", f"rule that chooses it on validation images: {RULES} (a miss costs C false alarms)")
    review: float = option(
        0.01,
        "share of validation images, those nearest to the threshold, for human review",
        aliases=["review_fraction"],
    )
    weights: str = option(
        "",
        "start from this model.h5 or run folder, whose network is taken, or from shipped, the model in the package; or "
        "from an H5 file of plain Keras weights, taken by layer name",
    )
    mm_per_px: float = option(
        0.0, "what one pixel of the photographs is on the surface, in mm, for crackflow.predict; 0: unknown"
    )
    precision: Precision = option(Precision.AUTO, "arithmetic of the layers; the last layer and the loss are float32")
    xla: Xla = option(Xla.AUTO, "compile layers and augmentation; auto: on a CPU the augmentation alone")
    steps_per_execution: int = option(0, "steps between two returns to Python; 0: so that Python costs under 1 %")
    input: Input = option(Input.AUTO, "pack: decode once and map; stream: decode as it trains; auto: pack if it fits")
    data_service: str = option("", "grpc://host:port of a tf.data service that decodes the images, see launch/")
    strategy: Strategy = option(
        Strategy.AUTO, "devices that share a batch; auto: every worker of TF_CONFIG or SLURM, all GPUs, or one device"
    )
    all_reduce: AllReduce = option(
        AllReduce.AUTO, "how several hosts add up gradients; auto: as TensorFlow does by itself, in a ring over TCP"
    )
    cpu_devices: int = option(
        1, "parts that the CPU is taken for, to try --strategy=mirrored without GPUs", aliases=["virtual_cpu_devices"]
    )
    log_to: tuple[Logger, ...] = option(
        (), "log beside history.csv and TensorBoard: mlflow, wandb; extras [mlflow] and [wandb]"
    )
    safety: Safety = Safety()
    threads: int = option(0, "threads for TensorFlow's operations; 0: one a core")
    seed: int = option(0, "initial weights, order of the images, augmentation")
    deterministic: bool = option(False, "bit-identical repetition, slower")
    overwrite: bool = option(False, "replace a run that crackflow wrote before")

    def __post_init__(self) -> None:
        require_given(self, ["data", "run_dir"])
        require(self.image_px == 0 or 32 <= self.image_px <= 1024, "image_px", "0, or 32 to 1024", self.image_px)
        if not self.weights:  # else the file may define the network, which is then known later
            self.require_used()
        ThresholdRule.parse(self.threshold)
        require_fraction(self, ["review"])
        require_non_negative(self, ["mm_per_px"])
        require_at_least(self, 1, ["epochs", "min_steps_per_epoch", "cpu_devices"])
        require_at_least(
            self,
            0,
            ["batch_size", "early_stopping_epochs", "early_stopping_steps", "steps_per_execution", "threads", "seed"],
        )
        self.require_shared(1)
        if self.optimization.mask_weight:
            strengths = self.augmentation.filled()
            moved = [f"--{name}" for name in GEOMETRIC_OPS if getattr(strengths, name)]
            free = "none or d4 with --mask_weight: masks follow flips and quarter turns alone"
            require(not moved, "augment", free, ", ".join(moved))
        if self.data_service:
            require_address("data_service", self.data_service)
            is_stream = self.input in (Input.AUTO, Input.STREAM)
            require(is_stream, "input", "auto or stream with --data_service", self.input.value)
            require(not self.deterministic, "deterministic", "false with --data_service, which keeps no order", True)

    def require_used(self) -> None:
        """Raises: ConfigError for flags that describe an architecture beside a network that has its own."""
        require_used(self.model, self.architecture)

    @property
    def part_size(self) -> int:
        """The number of images that the devices process at once: the part of a batch that `accumulate` leaves."""
        return self.batch_size // self.optimization.accumulate

    def patience_epochs(self, steps: int) -> int:
        """Returns after how many epochs of `steps` steps without a better validation loss training stops; 0: never."""
        return self.early_stopping_epochs and max(self.early_stopping_epochs, -(-self.early_stopping_steps // steps))

    def sized_for(self, train_images: int, replicas: int) -> "TrainConfig":
        """Returns the same config with a batch size where it is 0.

        It is the largest of BATCH_SIZES of which an epoch has SETTLED_STEPS, or the smallest, raised to what `replicas`
        can share equally.
        """
        if self.batch_size:
            return self
        fitting = [size for size in BATCH_SIZES if size * SETTLED_STEPS <= train_images]
        unit, _ = self._shared_unit(replicas)
        return dataclasses.replace(self, batch_size=-(-(fitting or BATCH_SIZES[-1:])[0] // unit) * unit)

    def require_shared(self, replicas: int) -> None:
        """Raises: ConfigError when `replicas` can't share a batch equally.

        Each part is divided again by `accumulate` and consists of the pairs that MixUp mixes.
        """
        unit, reasons = self._shared_unit(replicas)
        fitting = f"a multiple of {unit} ({', '.join(reasons)}), such as {-(-self.batch_size // unit) * unit}"
        require(self.batch_size % unit == 0, "batch_size", fitting, self.batch_size)

    def _shared_unit(self, replicas: int) -> tuple[int, list[str]]:
        parts, mixes = self.optimization.accumulate, self.augmentation.filled().mixup
        reasons = [f"{replicas} replicas"] if replicas > 1 else []
        reasons += [f"--accumulate={parts}"] if parts > 1 else []
        reasons += ["--mixup, which mixes pairs"] if mixes else []
        return replicas * math.lcm(parts, 2 if mixes else 1), reasons
