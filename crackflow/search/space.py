"""The hyperparameters that a search may choose, and the training run that their values stand for.

Synopsis::

    hyperparameters = space.declare(keras_tuner.HyperParameters(), config)     # registers them, returns their values
    run = space.as_training(hyperparameters, config, run_dir="trials/07")      # TrainConfig

The networks are those of `model.blocks`, which training builds as well. The bounds and steps are our own; every width
is a multiple of 16, because bfloat16 is normalised fast at these (`blocks.BFLOAT16_CHANNELS`). The default of each
hyperparameter, which `--hold` keeps, is that of `core.config`: crackflow_s and its training.
"""

import dataclasses
from collections.abc import Callable

from crackflow.core.config.augmentation import Augment, Augmentation
from crackflow.core.config.network import Activation, Architecture, Block, Downsampling, Network, Pooling
from crackflow.core.config.search import ARCHITECTURE_CHOICES, CHOICES, TuneConfig
from crackflow.core.config.training import Optimization, Optimizer, Schedule, TrainConfig
from crackflow.model.blocks import BFLOAT16_CHANNELS

Value = int | float | str


@dataclasses.dataclass(frozen=True)
class HyperparameterRange:
    """The values that one hyperparameter may have.

    Attributes:
        values: Ordered from the smallest network to the largest, as far as the hyperparameter decides a size; with
            `log`, the bounds of a number.
        default: The value without a search.
        log: Whether values are drawn between two bounds, uniformly on a logarithmic scale.
    """

    values: tuple[Value, ...]
    default: Value
    log: bool = False


def _values(kind: type) -> tuple[str, ...]:
    return tuple(member.value for member in kind)


# The learning rate of SGD is this many times that of AdamW, so that one range serves both.
SGD_RATE = 30.0
_DEFAULT, _RUN = Architecture(), TrainConfig(data="-", run_dir="-")
SPACE = {
    "stem": HyperparameterRange((16, 32, 48), _DEFAULT.stem),
    "stem_kernel": HyperparameterRange((3, 5), _DEFAULT.stem_kernel),
    "stem_stride": HyperparameterRange((4, 2), _DEFAULT.stem_stride),
    "depth": HyperparameterRange((2, 3, 4), len(_DEFAULT.widths)),  # stages
    "width": HyperparameterRange((16, 32, 48, 64), _DEFAULT.widths[0]),  # of the first
    "growth": HyperparameterRange((0.0, 0.25, 0.5, 1.0), 1.0),  # from stage to stage, in widths of the first
    "repeats": HyperparameterRange(("none", "last", "all"), "last"),  # stages that a block follows
    "block": HyperparameterRange(
        (Block.SEPARABLE.value, Block.PLAIN.value, Block.RESIDUAL.value), _DEFAULT.block.value
    ),
    "kernel": HyperparameterRange((3, 5), _DEFAULT.kernel),
    "downsampling": HyperparameterRange(_values(Downsampling), _DEFAULT.downsampling.value),
    "squeeze_excite": HyperparameterRange((0, 4), _DEFAULT.squeeze_excite),
    "activation": HyperparameterRange(_values(Activation), _DEFAULT.activation.value),
    "pooling": HyperparameterRange(_values(Pooling), _DEFAULT.pooling.value),
    "dropout": HyperparameterRange((0.0, 0.2), _DEFAULT.dropout),
    "optimizer": HyperparameterRange((Optimizer.ADAMW.value, Optimizer.SGD.value), _RUN.optimization.optimizer.value),
    "learning_rate": HyperparameterRange((1e-3, 1e-2), _RUN.optimization.learning_rate, log=True),
    "schedule": HyperparameterRange(
        (Schedule.COSINE.value, Schedule.ONE_CYCLE.value), _RUN.optimization.schedule.value
    ),
    "batch_size": HyperparameterRange((32, 64, 128), 64),
    "augment": HyperparameterRange(
        (Augment.D4.value, Augment.STANDARD.value, Augment.STRONG.value), _RUN.augmentation.augment.value
    ),
}


# The hand-made networks that the space contains, crackflow_s and crackflow_xs, as differences from the defaults. A
# search begins with them, so that it does not end below them by bad luck, and knows a good region of the space.
WARM_START_CONFIGS = ({}, {"stem": 16, "growth": 0.25, "repeats": "none"})


def searched(config: TuneConfig) -> list[str]:
    """The names of the hyperparameters that `config` leaves to the search, in the order of the space."""
    fixed = set(config.hold) | (set() if config.model is Network.CUSTOM else set(ARCHITECTURE_CHOICES))
    return [name for name in CHOICES if name not in fixed]


def declare(hp, config: TuneConfig) -> dict[str, Value]:
    """Registers the hyperparameters that are searched, and returns the values of all.

    Args:
        hp: A keras_tuner.HyperParameters; those that it does not have yet are registered with it.
        config: Of the search.

    Returns:
        By name, the value that `hp` has; for hyperparameters that are not searched, their default.
    """
    hyperparameters = defaults()
    for name in searched(config):
        choice = SPACE[name]
        if choice.log:
            value = hp.Float(name, *choice.values, sampling="log", default=choice.default)
            hyperparameters[name] = float(f"{value:.3g}")  # gRPC carries 32 bits
        else:
            hyperparameters[name] = hp.Choice(name, list(choice.values), default=choice.default)
    return hyperparameters


def defaults() -> dict[str, Value]:
    """The hyperparameters of crackflow_s and its training."""
    return {name: choice.default for name, choice in SPACE.items()}


def smallest(config: TuneConfig) -> dict[str, Value]:
    """The hyperparameters of the network with the least work per image, as far as they are searched."""
    return _extreme(config, lambda values: values[0])


def largest(config: TuneConfig) -> dict[str, Value]:
    """The hyperparameters of the network with the most work and memory, as far as they are searched."""
    return _extreme(config, lambda values: values[-1])


def _extreme(config: TuneConfig, pick: Callable[[tuple[Value, ...]], Value]) -> dict[str, Value]:
    return defaults() | {name: pick(SPACE[name].values) for name in searched(config) if not SPACE[name].log}


def architecture(hyperparameters: dict[str, Value]) -> Architecture:
    """The network that `hyperparameters` describe."""
    depth = hyperparameters["depth"]
    widths = tuple(
        _round_width(hyperparameters["width"] * (1 + hyperparameters["growth"] * stage)) for stage in range(depth)
    )
    repeats = {"none": [0] * depth, "last": [0] * (depth - 1) + [1], "all": [1] * depth}[hyperparameters["repeats"]]
    return Architecture(
        stem=hyperparameters["stem"],
        stem_kernel=hyperparameters["stem_kernel"],
        stem_stride=hyperparameters["stem_stride"],
        widths=widths,
        repeats=tuple(repeats),
        block=Block(hyperparameters["block"]),
        kernel=hyperparameters["kernel"],
        downsampling=Downsampling(hyperparameters["downsampling"]),
        squeeze_excite=hyperparameters["squeeze_excite"],
        activation=Activation(hyperparameters["activation"]),
        pooling=Pooling(hyperparameters["pooling"]),
        dropout=hyperparameters["dropout"],
    )


def _round_width(width: float) -> int:
    return max(round(width / BFLOAT16_CHANNELS), 1) * BFLOAT16_CHANNELS


def as_training(hyperparameters: dict[str, Value], config: TuneConfig, run_dir: str, replicas: int = 1) -> TrainConfig:
    """The run of crackflow.train that `hyperparameters` describe: all `max_epochs` epochs, without early stopping.

    Args:
        hyperparameters: By name, one value for each of `SPACE`.
        config: Of the search.
        run_dir: Folder of the run.
        replicas: Devices that share a batch, which grows to what they can share equally.

    Returns:
        The settings of the run.
    """
    optimizer = Optimizer(hyperparameters["optimizer"])
    rate = hyperparameters["learning_rate"] * (SGD_RATE if optimizer is Optimizer.SGD else 1)
    layers = {"architecture": architecture(hyperparameters)} if config.model is Network.CUSTOM else {}
    return TrainConfig(
        data=config.data,
        run_dir=run_dir,
        model=config.model,
        image_px=config.image_px,
        batch_size=-(-hyperparameters["batch_size"] // replicas) * replicas,
        epochs=config.max_epochs,
        optimization=Optimization(
            optimizer=optimizer, learning_rate=float(f"{rate:.3g}"), schedule=Schedule(hyperparameters["schedule"])
        ),
        early_stopping_epochs=0,
        augmentation=Augmentation(augment=Augment(hyperparameters["augment"])),
        precision=config.precision,
        xla=config.xla,
        strategy=config.strategy,
        cpu_devices=config.cpu_devices,
        threads=config.threads,
        seed=config.seed,
        **layers,
    )
