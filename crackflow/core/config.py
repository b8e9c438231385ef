"""Every setting and its default, once: frozen dataclasses that refuse a value outside its range.

Synopsis::

    config = ConvertConfig(images="photos", out="data/photos", split=(0.7, 0.15, 0.15))
    config = dataclasses.replace(config, seed=7)

Command-line flags are made from these fields (`core.flags`); the help text stands beside the default.
"""

import dataclasses
import enum
import math
import os
from collections.abc import Sequence

from crackflow.core.errors import ConfigError


class Layout(enum.Enum):
    AUTO = "auto"
    CLASSES = "classes"
    SDNET = "sdnet"
    MASKS = "masks"


class Encoding(enum.Enum):
    JPEG = "jpeg"
    PNG = "png"
    RAW = "raw"


class GroupBy(enum.Enum):
    NEAR_DUPLICATES = "near_duplicates"
    CONTENT = "content"
    NONE = "none"


class Runner(enum.Enum):
    LOCAL = "local"
    BEAM = "beam"


class OnBad(enum.Enum):
    SKIP = "skip"
    FAIL = "fail"


class Surfaces(enum.Enum):
    CONCRETE = "concrete"
    VARIED = "varied"


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


class Augment(enum.Enum):
    NONE = "none"
    D4 = "d4"
    STANDARD = "standard"
    STRONG = "strong"


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


class Precision(enum.Enum):
    AUTO = "auto"
    FLOAT32 = "float32"
    MIXED_BFLOAT16 = "mixed_bfloat16"
    MIXED_FLOAT16 = "mixed_float16"


class Xla(enum.Enum):
    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Input(enum.Enum):
    AUTO = "auto"
    STREAM = "stream"
    PACK = "pack"
    SYNTHETIC = "synthetic"


class AllReduce(enum.Enum):
    AUTO = "auto"
    RING = "ring"
    NCCL = "nccl"


class Strategy(enum.Enum):
    AUTO = "auto"
    ONE = "one"
    MIRRORED = "mirrored"
    MULTIWORKER = "multiworker"


class Resume(enum.Enum):
    AUTO = "auto"
    NEVER = "never"


class Tuner(enum.Enum):
    HYPERBAND = "hyperband"
    BAYESIAN = "bayesian"
    RANDOM = "random"
    GRID = "grid"


class Objective(enum.Enum):
    ACCURACY = "accuracy"
    TRADEOFF = "tradeoff"


class ServiceRole(enum.Enum):
    DISPATCHER = "dispatcher"
    WORKER = "worker"


class Method(enum.Enum):
    GRAD_CAM = "grad_cam"
    GRAD_CAM_PLUS_PLUS = "grad_cam_plus_plus"
    HIRES_CAM = "hires_cam"
    LAYER_CAM = "layer_cam"
    INTEGRATED_GRADIENTS = "integrated_gradients"
    OCCLUSION = "occlusion"


class Toward(enum.Enum):
    DECIDED = "decided"
    CRACKED = "cracked"
    CLEAN = "clean"


class EvalSplit(enum.Enum):
    TEST = "test"
    TRAIN = "train"
    VAL = "val"
    ALL = "all"


def option(default: object, help: str) -> dataclasses.Field:
    """A field with its default and the help text that its flag shows."""
    return dataclasses.field(default=default, metadata={"help": help})


def _expect(held: bool, name: str, expected: str, received: object) -> None:
    if not held:
        raise ConfigError(f"--{name}: expected {expected}, received {received!r}")


def _expect_given(config: object, names: Sequence[str]) -> None:
    for name in names:
        _expect(getattr(config, name) != "", name, "a path", "")


def _expect_address(name: str, address: str) -> None:
    host, _, port = address.removeprefix("grpc://").rpartition(":")
    told = address.startswith("grpc://") and host and port.isdigit() and 0 < int(port) < 65536
    _expect(bool(told), name, "grpc://host:port", address)


def _expect_finite_positive(config: object, names: Sequence[str]) -> None:
    for name in names:
        value = getattr(config, name)
        _expect(math.isfinite(value) and value > 0, name, "a number above 0", value)


def _expect_at_least(config: object, low: int, names: Sequence[str]) -> None:
    for name in names:
        value = getattr(config, name)
        _expect(value >= low, name, f"{low} or more", value)
        _expect(value < 2**63, name, "a number that fits into 64 bits", value)


def _expect_zero_or_positive(config: object, names: Sequence[str]) -> None:
    for name in names:
        value = getattr(config, name)
        _expect(0 <= value < math.inf, name, "0 or a number above 0", value)


def _expect_fraction(config: object, names: Sequence[str]) -> None:
    for name in names:
        value = getattr(config, name)
        _expect(0 <= value < 1, name, "a fraction from 0 up to, not including, 1", value)


RULES = "f1, youden, recall:R, cost:C or bayes:C, such as recall:0.99 or cost:20"


def threshold_rule(text: str) -> tuple[str, float]:
    """('recall', 0.99) for 'recall:0.99'; f1 and youden have no number: 0. Raises: ConfigError for no such rule."""
    name, colon, number = text.partition(":")
    try:
        value = float(number or "0")
    except ValueError:
        value = math.nan
    plain = name in ("f1", "youden") and not colon
    measured = (name == "recall" and 0 < value <= 1) or (name in ("cost", "bayes") and 0 < value < math.inf)
    _expect(plain or measured, "threshold", RULES, text)
    return name, value


@dataclasses.dataclass(frozen=True)
class SynthConfig:
    out: str = option("", "folder to make: Positive/, Negative/ and masks/")
    count: int = option(2000, "images to make, half of them cracked")
    image_px: int = option(227, "side of the square images, in pixels (227: as METU has them)")
    seed: int = option(0, "same seed and index: same image, whatever the number of workers")
    surfaces: Surfaces = option(
        Surfaces.CONCRETE,
        "concrete: as METU's photographs; varied: any ground, near and far, with what is no crack on it",
    )
    donors: str = option(
        "",
        "varied: data set made by crackflow.convert, whose training split lends grounds and cracks; none: all are made",
    )
    workers: int = option(0, "processes; 0: one a core")
    overwrite: bool = option(False, "replace a folder that an earlier run of this command made")

    def __post_init__(self) -> None:
        _expect_given(self, ["out"])
        lent = not self.donors or self.surfaces is Surfaces.VARIED
        _expect(lent, "donors", "nothing without --surfaces=varied", self.donors)
        _expect(2 <= self.count <= 10_000_000, "count", "2 to 10,000,000", self.count)
        _expect(32 <= self.image_px <= 1024, "image_px", "32 to 1024", self.image_px)
        _expect_at_least(self, 0, ["seed", "workers"])


@dataclasses.dataclass(frozen=True)
class ConvertConfig:
    images: str = option("", "folder of photographs; never modified")
    out: str = option("", "data set to make: shards, dataset.json, groups.csv, rejected.csv")
    image_px: int = option(0, "resize every image to this side, in pixels; 0: keep the images as they are")
    encoding: Encoding = option(Encoding.JPEG, "how pixels are stored in the records")
    split: tuple[float, ...] = option(
        (), "fractions of train,val,test; none: 0.8,0.1,0.1, or 0.7,0.2,0.1 of fewer than 100 images"
    )
    group_by: GroupBy = option(GroupBy.NEAR_DUPLICATES, "what must stay in one split")
    group_by_name: bool = option(
        True, "what is named as windows of one photograph (7001-12, 7001-13) stays in one split"
    )
    max_near_copies: int = option(
        0, "of near copies, such as frames of a fixed camera, keep so many of a class, every n-th of them; 0: all"
    )
    layout: Layout = option(Layout.AUTO, "how the folder is arranged")
    positive_class: str = option("", "name of the class folder that means cracked, where it can't be guessed")
    patch_px: int = option(128, "masks layout: side of the labelled windows, in pixels")
    min_crack_fraction: float = option(0.005, "masks layout: share of crack pixels that makes a window cracked")
    shards: int = option(0, "shards of the training split; 0: chosen from the number of images")
    workers: int = option(0, "processes; 0: one a core")
    runner: Runner = option(Runner.LOCAL, "local: processes here; beam: Apache Beam, on shared storage")
    beam_options: str = option("", "for Beam's pipeline, such as --runner=SparkRunner; none: its own runner, here")
    seed: int = option(0, "decides the split and the order of the records")
    on_bad: OnBad = option(OnBad.SKIP, "bad file: list it in rejected.csv and go on, or stop at the first")
    max_megapixels: float = option(100.0, "larger pictures are rejected before they are decoded")
    jpeg_quality: int = option(95, "for pixels that have to be encoded again")
    overwrite: bool = option(False, "replace a data set that crackflow wrote before")
    verify: str = option("", "check this data set instead: every shard, record and image")
    join: tuple[str, ...] = option((), "make one data set of these instead, every image in the split it has")
    repeat: tuple[int, ...] = option((), "with --join: how often an epoch takes each set's training images; none: once")

    def __post_init__(self) -> None:
        _expect_given(self, [] if self.verify else ["out"] if self.join else ["images", "out"])
        places = {os.path.realpath(folder) for folder in self.join}
        alone = not self.join or (all(self.join) and len(places) == len(self.join) > 1)
        _expect(alone, "join", "two data sets or more, separated by commas, each once", ",".join(self.join))
        _expect(
            not (self.join and (self.images or self.verify)), "join", "neither --images nor --verify with it", "both"
        )
        told = not self.repeat or (len(self.repeat) == len(self.join) and all(1 <= one <= 100 for one in self.repeat))
        every = "one number of 1 to 100 for each set of --join"
        _expect(told, "repeat", every, ",".join(map(str, self.repeat)))
        _expect(self.image_px == 0 or 8 <= self.image_px <= 4096, "image_px", "0, or 8 to 4096", self.image_px)
        _expect(8 <= self.patch_px <= 4096, "patch_px", "8 to 4096", self.patch_px)
        _expect_at_least(self, 0, ["max_near_copies", "shards", "workers", "seed"])
        _expect_finite_positive(self, ["max_megapixels"])
        needless = self.beam_options and self.runner is not Runner.BEAM
        _expect(not needless, "beam_options", "nothing without --runner=beam", self.beam_options)
        _expect(1 <= self.jpeg_quality <= 100, "jpeg_quality", "1 to 100", self.jpeg_quality)
        _expect(0 < self.min_crack_fraction < 1, "min_crack_fraction", "a fraction", self.min_crack_fraction)
        legal = len(self.split) == 3 and all(0 <= part <= 1 for part in self.split)
        legal = not self.split or (legal and abs(sum(self.split) - 1) < 1e-6)
        _expect(legal, "split", "three fractions train,val,test that add up to 1", self.split)


# What each preset changes; none and d4 change nothing of these. Chosen so that a crack stays in the picture and
# visible: tests/training/test_augment.py holds them to it with synth's masks.
STRENGTHS = {
    Augment.STANDARD: {
        "rotation": 15.0,
        "zoom": 0.15,
        "shear": 0.05,
        "shift": 0.05,
        "brightness": 0.1,
        "contrast": 0.2,
        "saturation": 0.3,
        "channel_gain": 0.05,
        "gamma": 0.2,
        "blur": 0.1,
        "sharpen": 0.1,
        "noise": 6.0,
    },
    Augment.STRONG: {
        "rotation": 45.0,
        "zoom": 0.3,
        "shear": 0.15,
        "shift": 0.05,
        "brightness": 0.15,
        "contrast": 0.4,
        "saturation": 1.0,
        "channel_gain": 0.15,
        "gamma": 0.5,
        "blur": 0.2,
        "sharpen": 0.2,
        "noise": 16.0,
        "erase": 0.2,
    },
}
MOVES = ("rotation", "zoom", "shear", "shift", "erase", "mixup")  # what a crack is no longer where it was by
PRESET = -1.0


def _strength(name: str, help: str) -> dataclasses.Field:
    standard, strong = (STRENGTHS[preset].get(name, 0.0) for preset in (Augment.STANDARD, Augment.STRONG))
    return option(PRESET, f"{help} (-1: as --augment says; standard {standard:g}, strong {strong:g})")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Which changes training pictures undergo, and how strong each may become."""

    augment: Augment = option(
        Augment.D4, "d4: exact flips and quarter turns; standard, strong: these and the following, on the device"
    )
    rotation: float = _strength("rotation", "degrees, either way")
    zoom: float = _strength("zoom", "up to 1+zoom larger or smaller")
    shear: float = _strength("shear", "tangent of the angle, either way")
    shift: float = _strength("shift", "share of the side, either way")
    brightness: float = _strength("brightness", "share of the grey range, either way")
    contrast: float = _strength("contrast", "up to 1+contrast times or a 1+contrast-th of the contrast")
    saturation: float = _strength("saturation", "from 1-saturation to 1+saturation times the colour")
    channel_gain: float = _strength("channel_gain", "each channel up to 1+gain times or a 1+gain-th")
    gamma: float = _strength("gamma", "exponents of 1/(1+gamma) to 1+gamma")
    blur: float = _strength("blur", "largest weight of each of the four neighbours, up to 0.2")
    sharpen: float = _strength("sharpen", "the same, taken away instead of added")
    noise: float = _strength("noise", "largest standard deviation, in grey levels")
    erase: float = _strength(
        "erase", "longest side of a rectangle, as a share of the picture's, in every second picture"
    )
    mixup: float = _strength("mixup", "largest share of another picture, up to 0.5; labels are mixed alike")

    def __post_init__(self) -> None:
        limits = {"rotation": 180, "zoom": 1, "shear": 1, "shift": 0.5, "brightness": 1, "contrast": 4, "saturation": 1}
        limits |= {"channel_gain": 1, "gamma": 4, "blur": 0.2, "sharpen": 0.5, "noise": 128, "erase": 1, "mixup": 0.5}
        for name, limit in limits.items():
            value = getattr(self, name)
            _expect(value == PRESET or 0 <= value <= limit, name, f"0 to {limit}, or -1 for the preset's", value)

    def filled(self) -> "Augmentation":
        """The same with each -1 replaced by what `augment` says."""
        preset = STRENGTHS.get(self.augment, {})
        names = [field.name for field in dataclasses.fields(self) if field.name != "augment"]
        unset = [name for name in names if getattr(self, name) == PRESET]
        return dataclasses.replace(self, **{name: preset.get(name, 0.0) for name in unset})


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
        False, "custom: half of the stem sees the picture less its mean and divided by its deviation; with padding=same"
    )

    def __post_init__(self) -> None:
        _expect(1 <= self.stem <= 1024, "stem", "1 to 1024", self.stem)
        for name, odd in (("stem_kernel", self.stem_kernel), ("kernel", self.kernel)):
            _expect(odd in (1, 3, 5, 7), name, "1, 3, 5 or 7", odd)
        _expect(self.stem_stride in (1, 2, 4), "stem_stride", "1, 2 or 4", self.stem_stride)
        stages = len(self.widths)
        legal = 1 <= stages <= 6 and all(1 <= width <= 2048 for width in self.widths)
        _expect(legal, "widths", "one to six numbers from 1 to 2048", self.widths)
        legal = len(self.repeats) == stages and all(0 <= often <= 16 for often in self.repeats)
        _expect(legal, "repeats", f"as many numbers as --widths has, {stages}, from 0 to 16", self.repeats)
        fits = self.padding is Padding.SAME and self.stem > 1
        _expect(fits or not self.standardised, "standardised", "--padding=same and a --stem of 2 or more", True)
        _expect(0 <= self.squeeze_excite <= 64, "squeeze_excite", "0 to 64", self.squeeze_excite)
        _expect_fraction(self, ["dropout"])


@dataclasses.dataclass(frozen=True)
class Optimization:
    """How the weights move: optimizer, rate, loss, averaging."""

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
    rate_drops: tuple[float, ...] = option((0.5, 0.75), "piecewise: shares of the steps after which a tenth is left")
    weight_decay: float = option(0.02, "decoupled decay of kernels")
    clip_norm: float = option(0.0, "largest norm of all gradients together; 0: not clipped")
    accumulate: int = option(1, "parts that a batch is computed in, one after the other, to save memory")
    ema: float = option(0.0, "decay of an average of the weights, evaluated and exported instead of them; 0: none")
    loss: Loss = option(Loss.CROSS_ENTROPY, "binary; focal: easy images count less")
    focal_gamma: float = option(2.0, "focal: exponent of the share that is not yet right")
    label_smoothing: float = option(0.02, "0: none; training labels become s/2 and 1-s/2")
    class_weights: tuple[float, ...] = option((1.0, 1.0), "of clean,cracked in the loss; 0,0: both classes weigh alike")
    mask_weight: float = option(0.0, "of a loss over 8 x 8 cells, where the data set has masks; 0: labels alone")

    def __post_init__(self) -> None:
        _expect_finite_positive(self, ["learning_rate"])
        _expect_fraction(self, ["warmup_fraction", "label_smoothing", "ema"])
        free = not self.ema or self.optimizer not in (Optimizer.SWA, Optimizer.MOVING_AVERAGE)
        _expect(free, "ema", f"0 with --optimizer={self.optimizer.value}, which averages by itself", self.ema)
        _expect_at_least(self, 0, ["rate_batch"])
        _expect_at_least(self, 1, ["accumulate"])
        for name in ("weight_decay", "clip_norm", "focal_gamma", "mask_weight"):
            _expect(0 <= getattr(self, name) < math.inf, name, "0 or more", getattr(self, name))
        drops = self.rate_drops
        rising = all(0 < drop < 1 for drop in drops) and list(drops) == sorted(set(drops))
        _expect(rising, "rate_drops", "rising shares between 0 and 1", drops)
        weights = self.class_weights
        legal = len(weights) == 2 and all(0 <= weight < math.inf for weight in weights)
        legal = legal and (weights == (0, 0) or all(weights))
        _expect(legal, "class_weights", "two numbers above 0 for clean,cracked, or 0,0", weights)


def _expect_used(model: Network, design: Architecture) -> None:
    """Raises: ConfigError for flags that describe an architecture beside a network that has its own."""
    for field in dataclasses.fields(design) if model is not Network.CUSTOM else ():
        value = getattr(design, field.name)
        _expect(value == field.default, field.name, f"nothing with --model={model.value}; use --model=custom", value)


@dataclasses.dataclass(frozen=True)
class Safety:
    """What happens when a run is interrupted, or goes wrong."""

    resume: Resume = option(Resume.AUTO, "auto: go on with the run that lies in run_dir; never: only a new one")
    checkpoint_minutes: float = option(10.0, "between two checkpoints within an epoch; each epoch ends with one")
    loss_limit: float = option(20.0, "a mean training loss above it, or one that is no number, means diverged")
    rollbacks: int = option(3, "times that a diverged run goes back to its last checkpoint with half the rate")

    def __post_init__(self) -> None:
        _expect_finite_positive(self, ["checkpoint_minutes", "loss_limit"])
        _expect_at_least(self, 0, ["rollbacks"])


# After so many steps the running statistics of BatchNorm, of momentum 0.9, have forgotten their start: 0.9^50 = 0.5 %.
SETTLED_STEPS = 50
BATCH_SIZES = (64, 32)
SETTLED_IMAGES = 50  # of each class in validation, from which on one image more or less decides nothing


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    data: str = option("", "data set made by crackflow.convert")
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
    # Four epochs of METU's 8,000 training images. In 200 steps a lucky loss of 40 validation images was not beaten: 400
    # images of synthetic concrete were left at an accuracy of 0.55, with 600 steps they reach 0.92.
    early_stopping_steps: int = option(500, "steps that belong to it: a small set's epochs are short")
    augmentation: Augmentation = Augmentation()
    metrics: tuple[ExtraMetric, ...] = option((), "more for each epoch, from tensorflow-addons: mcc, kappa")
    threshold: str = option("f1", f"rule that chooses it on validation images: {RULES} (a miss costs C false alarms)")
    review: float = option(0.01, "share of validation images, those nearest to the threshold, left to a person")
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
    cpu_devices: int = option(1, "parts that the CPU is taken for, to try --strategy=mirrored without GPUs")
    safety: Safety = Safety()
    threads: int = option(0, "threads for TensorFlow's operations; 0: one a core")
    seed: int = option(0, "initial weights, order of the images, augmentation")
    deterministic: bool = option(False, "bit-identical repetition, slower")
    overwrite: bool = option(False, "replace a run that crackflow wrote before")

    def __post_init__(self) -> None:
        _expect_given(self, ["data", "run_dir"])
        _expect(self.image_px == 0 or 32 <= self.image_px <= 1024, "image_px", "0, or 32 to 1024", self.image_px)
        if not self.weights:  # or the network may be the file's: then it is known later
            self.expect_used()
        threshold_rule(self.threshold)
        _expect_fraction(self, ["review"])
        _expect_zero_or_positive(self, ["mm_per_px"])
        _expect_at_least(self, 1, ["epochs", "min_steps_per_epoch", "cpu_devices"])
        _expect_at_least(
            self,
            0,
            ["batch_size", "early_stopping_epochs", "early_stopping_steps", "steps_per_execution", "threads", "seed"],
        )
        self.expect_shared(1)
        if self.optimization.mask_weight:
            strengths = self.augmentation.filled()
            moved = [f"--{name}" for name in MOVES if getattr(strengths, name)]
            free = "none or d4 with --mask_weight: masks follow flips and quarter turns alone"
            _expect(not moved, "augment", free, ", ".join(moved))
        if self.data_service:
            _expect_address("data_service", self.data_service)
            free = self.input in (Input.AUTO, Input.STREAM)
            _expect(free, "input", "auto or stream with --data_service", self.input.value)
            _expect(not self.deterministic, "deterministic", "false with --data_service, which keeps no order", True)

    def expect_used(self) -> None:
        """Raises: ConfigError for flags that describe an architecture beside a network that has its own."""
        _expect_used(self.model, self.architecture)

    @property
    def part_size(self) -> int:
        """Images that the devices hold at once: of a batch, the part that `accumulate` asks for."""
        return self.batch_size // self.optimization.accumulate

    def patience_epochs(self, steps: int) -> int:
        """Epochs of `steps` steps without a better validation loss after which training stops; 0: never."""
        return self.early_stopping_epochs and max(self.early_stopping_epochs, -(-self.early_stopping_steps // steps))

    def sized_for(self, train_images: int, replicas: int) -> "TrainConfig":
        """The same with a batch size where it is 0: the largest of BATCH_SIZES of which an epoch has SETTLED_STEPS,
        or the smallest, raised to what `replicas` can share."""
        if self.batch_size:
            return self
        fitting = [size for size in BATCH_SIZES if size * SETTLED_STEPS <= train_images]
        unit, _ = self._shared_unit(replicas)
        return dataclasses.replace(self, batch_size=-(-(fitting or BATCH_SIZES[-1:])[0] // unit) * unit)

    def expect_shared(self, replicas: int) -> None:
        """Raises: ConfigError when `replicas` can't share a batch equally, each part cut again by `accumulate` and
        made of the pairs that MixUp mixes."""
        unit, reasons = self._shared_unit(replicas)
        fitting = f"a multiple of {unit} ({', '.join(reasons)}), such as {-(-self.batch_size // unit) * unit}"
        _expect(self.batch_size % unit == 0, "batch_size", fitting, self.batch_size)

    def _shared_unit(self, replicas: int) -> tuple[int, list[str]]:
        parts, mixes = self.optimization.accumulate, self.augmentation.filled().mixup
        reasons = [f"{replicas} replicas"] if replicas > 1 else []
        reasons += [f"--accumulate={parts}"] if parts > 1 else []
        reasons += ["--mixup, which mixes pairs"] if mixes else []
        return replicas * math.lcm(parts, 2 if mixes else 1), reasons


# What `search.space` lets a search choose, in these two groups.
ARCHITECTURE_CHOICES = ("stem", "stem_kernel", "stem_stride", "depth", "width", "growth", "repeats", "block", "kernel")
ARCHITECTURE_CHOICES += ("downsampling", "squeeze_excite", "activation", "pooling", "dropout")
TRAINING_CHOICES = ("optimizer", "learning_rate", "schedule", "batch_size", "augment")
CHOICES = ARCHITECTURE_CHOICES + TRAINING_CHOICES


@dataclasses.dataclass(frozen=True)
class TuneConfig:
    data: str = option("", "data set made by crackflow.convert")
    out: str = option("", "folder to make: best.cfg, trials.csv, pareto.png, report.html; a search in it goes on")
    tuner: Tuner = option(
        Tuner.HYPERBAND,
        "how Keras Tuner chooses the next trial; hyperband: many for few epochs, the best of them for more",
    )
    max_trials: int = option(30, "trials at most; more than an ended search had: it goes on")
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
    hold: tuple[str, ...] = option((), f"choices that are not searched but left as they are: {', '.join(CHOICES)}")
    image_px: int = option(0, "side the networks see, in pixels; 0: the network's own (128; seed 227)")
    precision: Precision = option(Precision.AUTO, "arithmetic of the layers, as for crackflow.train")
    xla: Xla = option(Xla.AUTO, "compile layers and augmentation, as for crackflow.train")
    strategy: Strategy = option(
        Strategy.AUTO, "devices of a trial; auto: all GPUs that this process sees, or one device"
    )
    cpu_devices: int = option(1, "parts that the CPU is taken for, to try --strategy=mirrored without GPUs")
    # 3 s each time, tracing and the reference's included.
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
        _expect_given(self, ["data", "out"])
        _expect(bool(self.host.strip()), "host", "localhost, or a name or address of this machine", self.host)
        _expect_at_least(self, 1, ["max_trials", "max_epochs", "cpu_devices"])
        _expect_at_least(self, 0, ["max_params", "threads", "seed"])
        _expect_zero_or_positive(self, ["min_images_per_sec", "doubling_worth"])
        _expect_finite_positive(self, ["speed_seconds"])
        _expect(self.image_px == 0 or 32 <= self.image_px <= 1024, "image_px", "0, or 32 to 1024", self.image_px)
        known = set(self.hold) <= set(CHOICES) and len(self.hold) == len(set(self.hold))
        _expect(known, "hold", f"some of {', '.join(CHOICES)}, each once", ",".join(self.hold))
        left = set(CHOICES if self.model is Network.CUSTOM else TRAINING_CHOICES) - set(self.hold)
        _expect(bool(left), "hold", "a choice that is left to be searched", ",".join(self.hold))
        alone = self.strategy is not Strategy.MULTIWORKER
        _expect(alone, "strategy", "auto, one or mirrored: hosts share a search, not a trial", self.strategy.value)


@dataclasses.dataclass(frozen=True)
class PreviewConfig:
    data: str = option("", "data set made by crackflow.convert")
    out: str = option("", "PNG file to write")
    augmentation: Augmentation = Augmentation(augment=Augment.STANDARD)
    image_px: int = option(128, "side of the pictures, in pixels")
    pictures: int = option(6, "rows: pictures of the training split")
    steps: int = option(
        9, "columns after the first, which is the picture itself: what training sees at steps 0, 1, ..."
    )
    seed: int = option(0, "as for crackflow.train: the same seed shows what that run sees")
    overwrite: bool = option(False, "replace the file")

    def __post_init__(self) -> None:
        _expect_given(self, ["data", "out"])
        _expect(self.out.lower().endswith(".png"), "out", "a file name that ends in .png", self.out)
        _expect(32 <= self.image_px <= 1024, "image_px", "32 to 1024", self.image_px)
        _expect(1 <= self.pictures <= 100, "pictures", "1 to 100", self.pictures)
        _expect(1 <= self.steps <= 100, "steps", "1 to 100", self.steps)
        _expect_at_least(self, 0, ["seed"])


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    model: str = option("", "model.h5, the run folder that holds it, or shipped: the model that comes with crackflow")
    data: tuple[str, ...] = option((), "data sets made by crackflow.convert, separated by commas")
    split: EvalSplit = option(EvalSplit.TEST, "which part of each data set")
    out: str = option("", "folder to make: metrics.json, curves, errors, report.html")
    threshold: str = option("", f"choose it anew on the first data set's val split: {RULES}; none: the model's own")
    photographs: int = option(
        250, "images of each data set that are looked at as crackflow.predict does, drawn at random; 0: none"
    )
    batch_size: int = option(128, "images scored at once")
    resamples: int = option(1000, "bootstrap samples behind the intervals of f1 and the areas")
    seed: int = option(0, "draws the bootstrap samples")
    threads: int = option(0, "threads for TensorFlow's operations; 0: one a core")
    overwrite: bool = option(False, "replace results that crackflow wrote before")

    def __post_init__(self) -> None:
        _expect_given(self, ["model", "out"])
        _expect(all(self.data) and len(self.data) > 0, "data", "one data set or more, separated by commas", self.data)
        if self.threshold:
            threshold_rule(self.threshold)
        _expect_at_least(self, 1, ["batch_size"])
        _expect_at_least(self, 100, ["resamples"])
        _expect_at_least(self, 0, ["photographs", "seed", "threads"])


@dataclasses.dataclass(frozen=True)
class ExplainConfig:
    model: str = option("", "model.h5, the run folder that holds it, or shipped: the model that comes with crackflow")
    images: str = option("", "a photograph, or a folder of them")
    masks: str = option("", "folder of masks with the names of the photographs: the maps are scored against them")
    out: str = option("", "folder to make: overlays, filters, activation maps, contact sheet, scores.json")
    # The best of the six on DeepCrack in pointing, energy inside the mask and IoU: benchmarks/results/explain.json.
    method: tuple[Method, ...] = option(
        (Method.INTEGRATED_GRADIENTS,), f"one or several of {', '.join(one.value for one in Method)}"
    )
    toward: Toward = option(Toward.DECIDED, "explain the class that was decided for, or always this one")
    layers: tuple[str, ...] = option(
        (), "layers to take maps from and to show; none: each method's own, and for showing the first and every stage"
    )
    patch_px: int = option(0, "cut photographs into windows of this side, in pixels; 0: each is looked at whole")
    min_crack_fraction: float = option(
        ConvertConfig.min_crack_fraction, "with --masks: share of crack pixels that makes a picture cracked"
    )
    sample: int = option(200, "pictures whose maps are scored against the network, drawn at random; 0: none")
    max_megapixels: float = option(ConvertConfig.max_megapixels, "larger pictures are left out")
    batch_size: int = option(32, "pictures explained at once")
    seed: int = option(0, "draws the sample and the random weights")
    threads: int = option(0, "threads for TensorFlow's operations; 0: one a core")
    overwrite: bool = option(False, "replace results that crackflow wrote before")

    def __post_init__(self) -> None:
        _expect_given(self, ["model", "images", "out"])
        _expect(len(self.method) == len(set(self.method)) > 0, "method", "one method or more, each once", self.method)
        _expect(self.patch_px == 0 or self.patch_px >= 8, "patch_px", "0, or 8 and more", self.patch_px)
        _expect(0 < self.min_crack_fraction < 1, "min_crack_fraction", "a fraction", self.min_crack_fraction)
        _expect_finite_positive(self, ["max_megapixels"])
        _expect_at_least(self, 1, ["batch_size"])
        _expect_at_least(self, 0, ["sample", "seed", "threads"])


SCALE_RANGE = 1 / 64, 8.0  # a photograph of 12 megapixels made 8 times as large has 770


@dataclasses.dataclass(frozen=True)
class PredictConfig:
    photos: str = option("", "a photograph, a folder of them, or a pattern such as 'site/*.jpg'")
    model: str = option("", "model.h5, or the run folder that holds it; none: the model that comes with crackflow")
    out: str = option("findings", "folder to make: predictions.csv, findings.json, overlays, report.html")
    scale: float = option(
        0.0, "look at the photographs made so many times as large as training's were; 0: as large, and half and twice"
    )
    mm_per_px: float = option(
        0.0, "what one pixel of the photographs is on the surface, in mm: gives lengths, and the scale; 0: unknown"
    )
    threshold: float = option(0.0, "cracked from this probability on, in photographs of any size; 0: the model's own")
    max_megapixels: float = option(200.0, "larger photographs are left out")
    page_photos: int = option(100, "photographs in report.html, the most probable first")
    threads: int = option(0, "threads for TensorFlow's operations; 0: one a core")
    overwrite: bool = option(False, "replace results that crackflow wrote before")

    def __post_init__(self) -> None:
        _expect_given(self, ["photos", "out"])
        low, high = SCALE_RANGE
        _expect(self.scale == 0 or low <= self.scale <= high, "scale", f"0, or {low:g} to {high:g}", self.scale)
        _expect(not (self.scale and self.mm_per_px), "scale", "nothing beside --mm_per_px, which gives it", self.scale)
        _expect_zero_or_positive(self, ["mm_per_px"])
        _expect_fraction(self, ["threshold"])
        _expect_finite_positive(self, ["max_megapixels"])
        _expect_at_least(self, 0, ["threads", "page_photos"])


class Format(enum.Enum):
    SAVEDMODEL = "savedmodel"
    TFLITE = "tflite"
    ONNX = "onnx"


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    model: str = option("", "model.h5, or the run folder that holds it; none: the model that comes with crackflow")
    out: str = option("", "folder to make: the formats, and parity.json with what each of them is worth")
    formats: tuple[Format, ...] = option(tuple(Format)[:2], f"one or several of {', '.join(f.value for f in Format)}")
    data: str = option(
        "",
        "data set made by crackflow.convert: its training images calibrate int8, its test images prove it; none: "
        "made surfaces",
    )
    images: int = option(256, "images on which every format is run and compared")
    seed: int = option(0, "draws the made surfaces")
    threads: int = option(0, "threads for TensorFlow's operations; 0: one a core")
    overwrite: bool = option(False, "replace an export that crackflow made before")

    def __post_init__(self) -> None:
        _expect_given(self, ["out"])
        _expect(len(self.formats) == len(set(self.formats)) > 0, "formats", "one or more, each once", self.formats)
        _expect(16 <= self.images <= 100_000, "images", "16 to 100,000", self.images)
        _expect_at_least(self, 0, ["seed", "threads"])


@dataclasses.dataclass(frozen=True)
class DoctorConfig:
    data: str = option("", "data set made by crackflow.convert; none: a small one is made, measured and removed")
    images: int = option(1000, "without --data: images to make")
    model: Network = option(Network.CRACKFLOW_S, "network whose train step is measured")
    architecture: Architecture = Architecture()
    image_px: int = option(0, "side the network sees, in pixels; 0: the network's own")
    batch_size: int = option(64, "images a step")
    input: Input = option(Input.AUTO, "what training would be fed from")
    precision: Precision = option(Precision.AUTO, "arithmetic of the layers")
    xla: Xla = option(Xla.AUTO, "compile layers and augmentation; auto: on a CPU the augmentation alone")
    threads: int = option(0, "threads for TensorFlow's operations; 0: one a core")
    seconds: float = option(1.0, "length of one measurement")
    windows: int = option(5, "measurements of each stage; the median is shown")
    json: str = option("", "file to write the table to, as JSON")

    def __post_init__(self) -> None:
        _expect(self.image_px == 0 or 32 <= self.image_px <= 1024, "image_px", "0, or 32 to 1024", self.image_px)
        _expect_used(self.model, self.architecture)
        _expect(self.images >= 100, "images", "100 or more", self.images)
        _expect_at_least(self, 1, ["batch_size", "windows"])
        _expect_at_least(self, 0, ["threads"])
        _expect_finite_positive(self, ["seconds"])


@dataclasses.dataclass(frozen=True)
class DataServiceConfig:
    role: ServiceRole = option(ServiceRole.DISPATCHER, "dispatcher: one, hands out work; worker: decodes images")
    port: int = option(0, "to listen on; 0: a free one")
    dispatcher: str = option("", "worker: grpc://host:port of the dispatcher")
    host: str = option(
        "localhost",
        "name or address under which others reach it; localhost: this machine alone, on loopback; any other (0.0.0.0: "
        "the machine's name): it listens on every address, and whoever reaches its port reads and writes your files",
    )
    work_dir: str = option("", "dispatcher: folder for its journal, from which it goes on after a restart; none: no")
    threads: int = option(0, "threads for TensorFlow's operations; 0: one a core")

    def __post_init__(self) -> None:
        _expect(0 <= self.port < 65536, "port", "0 to 65535", self.port)
        _expect_at_least(self, 0, ["threads"])
        _expect(bool(self.host.strip()), "host", "localhost, or a name or address of this machine", self.host)
        if self.role is ServiceRole.WORKER:
            _expect_address("dispatcher", self.dispatcher)
