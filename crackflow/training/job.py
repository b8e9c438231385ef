"""What a training run is made of, from its flags: data set, devices, precision, network, input.

Synopsis::

    work = job.build_training(config)              # nothing is written, so that a mistake in a flag costs nothing
    fit = work.fit(identity)                # fit_loop.FitLoop
    watched = work.train(fit)               # fit_loop.TrainingResult; work.model has the best weights

`crackflow.train` and every trial of `crackflow.tune` are such a job.
"""

import dataclasses
from collections.abc import Collection

from crackflow.core import console, distribution, errors, flags, runtime
from crackflow.core.backend import keras, tf
from crackflow.core.config.training import SETTLED_IMAGES, TrainConfig
from crackflow.core.errors import UserError
from crackflow.core.runtime import AutoChoice
from crackflow.data import dataset
from crackflow.data.record_reader import RecordReader
from crackflow.model import layer_weights, mask_head, model_file, networks, pretrained
from crackflow.pipeline import loader, remote, stream
from crackflow.training import fit_loop, losses, trainer

SMOOTHED_EPOCHS = 3  # 40 validation images of synthetic concrete chose an epoch of 0.87 on others, the last had 0.90


@dataclasses.dataclass(frozen=True)
class TrainingSetup:
    """`config`: with the network flags of the file of --weights, where that says them. `steps`: in an epoch. `model`:
    ready to learn, on the devices of `team`. `source`: the model whose network and weights it begins with, or None."""

    config: TrainConfig
    dataset: dataset.Dataset
    team: distribution.Cluster
    recipe: networks.ModelSpec
    image_px: int
    precision: AutoChoice
    xla: AutoChoice
    steps: int
    model: trainer.Trainer
    source: model_file.TrainedModel | None = None

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Images a batch, pixels a side, channels."""
        return self.config.batch_size, self.image_px, self.recipe.channels

    def describe_epoch(self) -> str:
        """What an epoch is, in words: '50 steps of 32 images, each of the 160 training images about 10 times'."""
        batch, count = self.config.batch_size, self.dataset.count("train")
        passes = self.steps * batch / count
        return f"{self.steps} steps of {batch} images" + (
            f", each of the {count:,} training images about {passes:.0f} times" if passes >= 1.5 else ""
        )

    @property
    def params(self) -> int:
        """Of the network; Keras counts the variables of metrics as well."""
        return keras.Model(self.model.inputs, self.model.outputs).count_params()

    def open_feed(self) -> loader.DataLoader:
        """Where the batches come from; a pack is made now if there is none. Raises: UserError."""
        config = self.config
        return loader.create_loader(
            config.input, self.dataset, *self.sizes, config.seed, config.data_service, val_batch_size=config.part_size
        )

    def fit(self, identity: dict, until: int = 0) -> fit_loop.FitLoop:
        """The fit, at its beginning. `until`: epochs after which it ends, of `config.epochs`; 0: all of them."""
        smoothing = SMOOTHED_EPOCHS if has_few_checks(self.dataset) else 1
        return fit_loop.FitLoop(self.model, self.config, self.steps, self.team, identity, until, smoothing)

    def train(self, fit: fit_loop.FitLoop, feed: loader.DataLoader) -> fit_loop.TrainingResult:
        """From where `fit` stands to its end. Raises: TryAgain, UserError."""
        with_cells = self.config.optimization.mask_weight > 0
        try:
            return fit.run(
                lambda step: self.team.distribute(lambda share: feed.train(step, share, with_cells)),
                self.team.distribute(feed.val),
                stream.num_eval_batches(self.dataset.count("val"), self.config.part_size),
            )
        except tf.errors.ResourceExhaustedError as error:
            # TensorFlow says so of a full disk and of too many open files as well.
            short = errors.from_shortage(error)
            if short and str(short) != errors.MEMORY_FULL:
                raise short from error
            raise UserError(
                f"--batch_size: expected a batch that fits into the memory of the device, received "
                f"{self.config.batch_size}; ask for less, or for parts with --accumulate"
            ) from error


def has_few_checks(made: dataset.Dataset) -> bool:
    """Whether one validation image more or less decides what is chosen by them."""
    return min(made.facts["splits"]["val"]["class_counts"].values()) < SETTLED_IMAGES


def build_training(
    config: TrainConfig, team: distribution.Cluster | None = None, explicit: Collection[str] = ()
) -> TrainingSetup:
    """Everything but the input, whose pack would be written. `team`: the devices; None: those that the flags, TF_CONFIG
    and SLURM mean. A process takes its devices once: the collective operations of a second strategy would be taken for
    those of the first. `explicit`: names of flags that were written out and must fit the file of --weights, beside
    those that differ from their defaults. Raises: UserError."""
    team = team or distribution.join_cluster(config.strategy, all_reduce=config.all_reduce)
    if not team.is_chief:
        console.set_quiet()
    made = dataset.load(config.data)
    source = pretrained.load(config.weights) if config.weights else None
    config, source = pretrained.with_network(config, {*explicit, *flags.explicit_flags(config)}, source)
    recipe = networks.get_model_spec(config.model, config.architecture)
    image_px = config.image_px or recipe.image_px
    for split in loader.SPLITS:
        made.expect_images(split)
    config = config.sized_for(made.count("train"), team.replicas)
    config.expect_shared(team.replicas)
    if config.data_service:
        remote.require_reachable(config.data_service)
    if config.optimization.mask_weight and not RecordReader(made, "train").cells.any():
        raise UserError(
            f"--mask_weight: expected masks in {config.data!r}, received none; convert a folder that has masks/ "
            "beside its classes, or images/ and masks/, with this version of crackflow"
        )
    precision = runtime.choose_precision(config.precision, recipe.bfloat16_on_cpu)
    xla = runtime.choose_xla(config.xla)
    keras.mixed_precision.set_global_policy(precision.value)
    steps = max(stream.steps_per_epoch(made.count("train"), config.batch_size), config.min_steps_per_epoch)
    with team.expecting_others(), team.scope():
        network = recipe.build(image_px)
        learnt = _begin(network, config, source) if config.weights else None
        model = build_trainer(config, made, network, steps * config.epochs, xla.value, learnt)
    return TrainingSetup(config, made, team, recipe, image_px, precision, xla, steps, model, source)


def _begin(
    network: keras.Model, config: TrainConfig, source: model_file.TrainedModel | None
) -> mask_head.MaskHead | None:
    """`network` with the weights of the file, and what that learnt from masks, or None. Raises: UserError."""
    if source:
        pretrained.put(network, source)
        count = sum(bool(layer.weights) for layer in network.layers)
        console.info(f"weights of {count} layers from {config.weights}; new: none")
        console.info(f"its network: {pretrained.in_words(config)}")
        return source.locator
    path = pretrained.locate(config.weights)
    taken, left = layer_weights.load_by_name(network, path)
    console.info(f"weights of {len(taken)} layers from {config.weights}; new: {', '.join(left) or 'none'}")
    if new := layer_weights.among(network, taken):
        console.warning(
            f"{', '.join(new)} begin with random weights, and layers behind them were trained on others; is "
            f"{config.weights} the file of this network?"
        )
    try:
        return layer_weights.locator(network, path)
    except ValueError as problem:
        console.info(f"note: {config.weights}: {problem}; this run begins without it")
        return None


def build_trainer(
    config: TrainConfig,
    made: dataset.Dataset,
    network: keras.Model,
    steps: int,
    xla: str,
    learnt: mask_head.MaskHead | None = None,
) -> trainer.Trainer:
    """`network` ready to learn, and to go on with what a file `learnt` from masks; balanced classes where 0,0 asks."""
    settings = config.optimization
    if not any(settings.class_weights):
        counts = made.facts["splits"]["train"]["class_counts"]
        if not all(counts.values()):
            raise UserError(f"--class_weights: expected both classes in the training split, received {counts}")
        settings = dataclasses.replace(
            settings, class_weights=losses.balanced_class_weights([counts[it] for it in made.classes])
        )
    model = trainer.compile_trainer(network, dataclasses.replace(config, optimization=settings), steps, xla)
    if learnt and settings.mask_weight:
        console.info(f"what was learnt from masks: from {config.weights}")
        model.locator = learnt
    elif learnt:
        console.info(
            f"note: {config.weights} tells where cracks lie by what it learnt from masks; this run learns without them "
            "(--mask_weight), and will tell places less exactly"
        )
    return model
