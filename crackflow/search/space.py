"""What a search may choose, and the training run that a set of choices means.

Synopsis::

    chosen = space.declare(keras_tuner.HyperParameters(), config)     # registers the choices; values as they are
    run = space.as_training(chosen, config, run_dir="trials/07")      # TrainConfig

The networks are those of `model.blocks`, which training builds as well. Bounds and steps are ours; every width is a
multiple of 16, at which bfloat16 is normalised fast (`blocks.BFLOAT16_CHANNELS`). The default of each choice, which
`--hold` keeps, is that of `core.config`: crackflow_s and its training.
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
    """`values`: the smallest network first, as far as the choice decides a size; or, `log`, the bounds of a number."""

    values: tuple[Value, ...]
    default: Value
    log: bool = False


def _values(kind: type) -> tuple[str, ...]:
    return tuple(member.value for member in kind)


# SGD's rate is this many times that of AdamW, so that one range serves both.
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


# The hand-made networks that the space holds, as what differs from the defaults: crackflow_s and crackflow_xs. A search
# begins with them, so that it does not end below them by bad luck, and knows where it is good.
WARM_START_CONFIGS = ({}, {"stem": 16, "growth": 0.25, "repeats": "none"})


def searched(config: TuneConfig) -> list[str]:
    """The names of the choices that `config` leaves to the search, in the order of the space."""
    fixed = set(config.hold) | (set() if config.model is Network.CUSTOM else set(ARCHITECTURE_CHOICES))
    return [name for name in CHOICES if name not in fixed]


def declare(hp, config: TuneConfig) -> dict[str, Value]:
    """Every choice with the value that `hp`, a keras_tuner.HyperParameters, has for it; those that are not known to it
    yet are registered, those that are held are at their default."""
    chosen = defaults()
    for name in searched(config):
        choice = SPACE[name]
        if choice.log:
            found = hp.Float(name, *choice.values, sampling="log", default=choice.default)
            chosen[name] = float(f"{found:.3g}")  # gRPC carries 32 bits
        else:
            chosen[name] = hp.Choice(name, list(choice.values), default=choice.default)
    return chosen


def defaults() -> dict[str, Value]:
    """The choices that make crackflow_s and its training."""
    return {name: choice.default for name, choice in SPACE.items()}


def smallest(config: TuneConfig) -> dict[str, Value]:
    """The choices that make the network with the least work an image, as far as they are searched."""
    return _extreme(config, lambda values: values[0])


def largest(config: TuneConfig) -> dict[str, Value]:
    """The choices that make the network with the most work and memory."""
    return _extreme(config, lambda values: values[-1])


def _extreme(config: TuneConfig, pick: Callable[[tuple[Value, ...]], Value]) -> dict[str, Value]:
    return defaults() | {name: pick(SPACE[name].values) for name in searched(config) if not SPACE[name].log}


def architecture(chosen: dict[str, Value]) -> Architecture:
    """The layers that `chosen` means."""
    depth = chosen["depth"]
    widths = tuple(_rounded(chosen["width"] * (1 + chosen["growth"] * stage)) for stage in range(depth))
    often = {"none": [0] * depth, "last": [0] * (depth - 1) + [1], "all": [1] * depth}[chosen["repeats"]]
    return Architecture(
        stem=chosen["stem"],
        stem_kernel=chosen["stem_kernel"],
        stem_stride=chosen["stem_stride"],
        widths=widths,
        repeats=tuple(often),
        block=Block(chosen["block"]),
        kernel=chosen["kernel"],
        downsampling=Downsampling(chosen["downsampling"]),
        squeeze_excite=chosen["squeeze_excite"],
        activation=Activation(chosen["activation"]),
        pooling=Pooling(chosen["pooling"]),
        dropout=chosen["dropout"],
    )


def _rounded(width: float) -> int:
    return max(round(width / BFLOAT16_CHANNELS), 1) * BFLOAT16_CHANNELS


def as_training(chosen: dict[str, Value], config: TuneConfig, run_dir: str, replicas: int = 1) -> TrainConfig:
    """The run of crackflow.train that `chosen` means: `max_epochs` epochs, none of them left out. `replicas`: that
    share a batch, which grows to what they can share equally."""
    optimizer = Optimizer(chosen["optimizer"])
    rate = chosen["learning_rate"] * (SGD_RATE if optimizer is Optimizer.SGD else 1)
    layers = {"architecture": architecture(chosen)} if config.model is Network.CUSTOM else {}
    return TrainConfig(
        data=config.data,
        run_dir=run_dir,
        model=config.model,
        image_px=config.image_px,
        batch_size=-(-chosen["batch_size"] // replicas) * replicas,
        epochs=config.max_epochs,
        optimization=Optimization(
            optimizer=optimizer, learning_rate=float(f"{rate:.3g}"), schedule=Schedule(chosen["schedule"])
        ),
        early_stopping_epochs=0,
        augmentation=Augmentation(augment=Augment(chosen["augment"])),
        precision=config.precision,
        xla=config.xla,
        strategy=config.strategy,
        cpu_devices=config.cpu_devices,
        threads=config.threads,
        seed=config.seed,
        **layers,
    )
