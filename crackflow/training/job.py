"""Builds a training run from its flags: dataset, devices, precision, network, input.

Synopsis::

    setup = job.build_training(config)               # nothing is written, so that a mistake in a flag costs nothing
    fit = setup.fit(identity)                        # fit_loop.FitLoop
    result = setup.train(fit, setup.open_feed())     # fit_loop.TrainingResult; setup.model has the best weights

`crackflow.train` and every trial of `crackflow.tune` are such a job.
"""

import dataclasses
from collections.abc import Collection

from crackflow.core import console, distribution, errors, flags, runtime
from crackflow.core.backend import keras, tf
from crackflow.core.config.training import SETTLED_IMAGES, TrainConfig
from crackflow.core.errors import UserError
from crackflow.core.runtime import AutoChoice
from crackflow.data import dataset as dataset_io
from crackflow.data.dataset import Dataset
from crackflow.data.record_reader import RecordReader
from crackflow.model import layer_weights, mask_head, model_file, networks, pretrained
from crackflow.pipeline import loader, service_loader, tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from crackflow.training import fit_loop, losses, trainer

# Training images below which a model that is trained on keeps its BatchNorm statistics: so few would destroy them.
FEW_IMAGES = 400
SMOOTHED_EPOCHS = 3  # 40 validation images of synthetic concrete chose an epoch of 0.87 on others, the last had 0.90


@dataclasses.dataclass(frozen=True)
class TrainingSetup:
    """All that a training run needs.

    Attributes:
      config: the flags, with the network flags of the file of --weights where that has them.
      dataset: the data.
      cluster: the devices.
      model_spec: the network.
      image_px: the side of its images.
      precision: the policy of Keras.
      xla: what is compiled.
      steps: those of an epoch.
      model: the compiled trainer, on the devices of `cluster`.
      source: the model whose network and weights it starts with, or None.
    """

    config: TrainConfig
    dataset: Dataset
    cluster: distribution.Cluster
    model_spec: networks.ModelSpec
    image_px: int
    precision: AutoChoice
    xla: AutoChoice
    steps: int
    model: trainer.Trainer
    source: model_file.TrainedModel | None = None

    @property
    def batch_spec(self) -> BatchSpec:
        """The batches of training."""
        return BatchSpec(self.config.batch_size, self.image_px, self.model_spec.channels, self.config.seed)

    def describe_epoch(self) -> str:
        """Describes an epoch: '50 steps of 32 images, each of the 160 training images about 10 times'."""
        batch, count = self.config.batch_size, self.dataset.count("train")
        passes = self.steps * batch / count
        return f"{self.steps} steps of {batch} images" + (
            f", each of the {count:,} training images about {passes:.0f} times" if passes >= 1.5 else ""
        )

    @property
    def params(self) -> int:
        """The parameters of the network; Keras counts the variables of metrics as well."""
        return keras.Model(self.model.inputs, self.model.outputs).count_params()

    def create_loader(self) -> loader.DataLoader:
        """Opens the input pipeline; a missing pack is built now.

        Raises:
          UserError: there is no data service at the address in the flags.
        """
        config = self.config
        return loader.create_loader(
            config.input, self.dataset, self.batch_spec, config.data_service, val_batch_size=config.part_size
        )

    def fit(self, identity: dict, max_epochs: int = 0) -> fit_loop.FitLoop:
        """Creates the training loop, at its beginning.

        Args:
          identity: the fingerprint of the run.
          max_epochs: epochs after which it ends, of `config.epochs`; 0: all of them.
        """
        smoothing = SMOOTHED_EPOCHS if has_few_checks(self.dataset) else 1
        return fit_loop.FitLoop(self.model, self.config, self.steps, self.cluster, identity, max_epochs, smoothing)

    def train(self, fit: fit_loop.FitLoop, feed: loader.DataLoader) -> fit_loop.TrainingResult:
        """Trains from where `fit` stands to its end.

        Raises:
          RetryableError: after a signal, or when another worker is lost.
          UserError: training diverged, or a batch does not fit into memory.
        """
        with_cells = self.config.optimization.mask_weight > 0
        try:
            return fit.run(
                lambda step: self.cluster.distribute(lambda shard: feed.train(step, shard, with_cells)),
                self.cluster.distribute(feed.val),
                tfrecord_loader.num_eval_batches(self.dataset.count("val"), self.config.part_size),
            )
        except tf.errors.ResourceExhaustedError as error:
            # TensorFlow reports a full disk and too many open files with the same error.
            shortage = errors.from_shortage(error)
            if shortage and str(shortage) != errors.MEMORY_FULL:
                raise shortage from error
            raise UserError(
                f"--batch_size: expected a batch that fits into the memory of the device, received "
                f"{self.config.batch_size}; ask for less, or for parts with --accumulate"
            ) from error


def has_few_checks(dataset: Dataset) -> bool:
    """Returns whether the validation split is so small that a single image decides what is chosen on it."""
    return min(dataset.metadata["splits"]["val"]["class_counts"].values()) < SETTLED_IMAGES


def build_training(
    config: TrainConfig, cluster: distribution.Cluster | None = None, explicit: Collection[str] = ()
) -> TrainingSetup:
    """Builds everything but the input, whose pack would be written.

    Args:
      config: the flags.
      cluster: the devices; None: those that the flags, TF_CONFIG and SLURM describe. A process must create them once:
        the collective operations of a second strategy would be confused with those of the first.
      explicit: names of flags that were written out and must fit the file of --weights, beside those that differ from
        their defaults.

    Returns:
      The training setup.

    Raises:
      UserError: a flag does not fit the dataset, the devices or the file of --weights.
    """
    cluster = cluster or distribution.join_cluster(config.strategy, all_reduce=config.all_reduce)
    if not cluster.is_chief:
        console.set_quiet()
    dataset = dataset_io.load(config.data)
    source = pretrained.load(config.weights) if config.weights else None
    config, source = pretrained.with_network(config, {*explicit, *flags.explicit_flags(config)}, source)
    spec = networks.get_model_spec(config.model, config.architecture)
    image_px = config.image_px or spec.image_px
    for split in loader.SPLITS:
        dataset.require_images(split)
    config = config.sized_for(dataset.count("train"), cluster.replicas)
    config.require_shared(cluster.replicas)
    if config.data_service:
        service_loader.require_reachable(config.data_service)
    if config.optimization.mask_weight and not RecordReader(dataset, "train").mask_bits.any():
        raise UserError(
            f"--mask_weight: expected masks in {config.data!r}, received none; convert a folder that has masks/ "
            "beside its classes, or images/ and masks/, with this version of crackflow"
        )
    precision = runtime.choose_precision(config.precision, spec.bfloat16_on_cpu)
    xla = runtime.choose_xla(config.xla)
    keras.mixed_precision.set_global_policy(precision.value)
    steps = max(tfrecord_loader.steps_per_epoch(dataset.count("train"), config.batch_size), config.min_steps_per_epoch)
    with cluster.translate_worker_loss(), cluster.scope():
        network = spec.build(image_px)
        locator = _load_initial_weights(network, config, source) if config.weights else None
        frozen = source is not None and dataset.count("train") < FEW_IMAGES
        if frozen:
            console.info(
                f"note: with fewer than {FEW_IMAGES} images, BatchNorm keeps the statistics of {config.weights}; "
                "crackflow.adapt does better with so few, in a minute, and says what they are worth"
            )
        model = build_trainer(config, dataset, network, steps * config.epochs, xla.value, locator, frozen)
    return TrainingSetup(config, dataset, cluster, spec, image_px, precision, xla, steps, model, source)


def _load_initial_weights(
    network: keras.Model, config: TrainConfig, source: model_file.TrainedModel | None
) -> mask_head.MaskHead | None:
    """Loads the weights of the file into `network`; returns its mask head, or None. Raises: UserError."""
    if source:
        pretrained.copy_weights(network, source)
        count = sum(bool(layer.weights) for layer in network.layers)
        console.info(f"weights of {count} layers from {config.weights}; new: none")
        console.info(f"its network: {pretrained.in_words(config)}")
        return source.locator
    path = pretrained.locate(config.weights)
    loaded, missing = layer_weights.load_by_name(network, path)
    console.info(f"weights of {len(loaded)} layers from {config.weights}; new: {', '.join(missing) or 'none'}")
    if new := layer_weights.new_before_loaded(network, loaded):
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
    dataset: Dataset,
    network: keras.Model,
    steps: int,
    xla: str,
    locator: mask_head.MaskHead | None = None,
    frozen_statistics: bool = False,
) -> trainer.Trainer:
    """Compiles a trainer, with balanced class weights where --class_weights=0,0.

    Args:
      config: the flags.
      dataset: the data, whose classes are counted.
      network: the network to train.
      steps: those of the whole run.
      xla: on, augmentation or off.
      locator: the mask head to continue with, or None.
      frozen_statistics: whether BatchNorm keeps the statistics that it has.

    Returns:
      The compiled trainer.

    Raises:
      UserError: the training split lacks a class.
    """
    settings = config.optimization
    if not any(settings.class_weights):
        counts = dataset.metadata["splits"]["train"]["class_counts"]
        if not all(counts.values()):
            raise UserError(f"--class_weights: expected both classes in the training split, received {counts}")
        settings = dataclasses.replace(
            settings, class_weights=losses.balanced_class_weights([counts[label] for label in dataset.classes])
        )
    config = dataclasses.replace(config, optimization=settings)
    model = trainer.compile_trainer(network, config, steps, xla, frozen_statistics)
    if locator and settings.mask_weight:
        console.info(f"what was learnt from masks: from {config.weights}")
        model.locator = locator
    elif locator:
        console.info(
            f"note: {config.weights} tells where cracks lie by what it learnt from masks; this run learns without them "
            "(--mask_weight), and will tell places less exactly"
        )
    return model
