"""Train a crack classifier on a data set made by crackflow.convert.

  python -m crackflow.train --data=data/metu --run_dir=runs/metu
  python -m crackflow.train --flagfile=runs/metu/flags.cfg --run_dir=runs/again      # the same run once more

Leaves in the run folder: model.h5, report.html, metrics.json, history.csv, flags.cfg, tensorboard/.
"""

import dataclasses
import os
import time

from crackflow.core import flags, progress, runtime
from crackflow.core.backend import keras
from crackflow.core.config import TrainConfig
from crackflow.core.errors import UserError
from crackflow.data import dataset, inputs, pipeline
from crackflow.model import bundle, networks, training, weights
from crackflow.report import assessment, metrics, page
from crackflow.run import callbacks, folder, scoring

RESAMPLES = 1000


def run(config: TrainConfig) -> page.Evaluation:
    """The whole path: data, network, fit, threshold, model.h5, report. Raises: UserError."""
    runtime.set_up(config.seed, config.threads, config.deterministic)
    config = _with_absolute_paths(config)
    made = dataset.load(config.data)
    recipe = networks.NETWORKS[config.model]
    image_px = config.image_px or recipe.image_px
    for split in inputs.SPLITS:
        made.expect_images(split)
    precision, xla = runtime.choose_precision(config.precision), runtime.choose_xla(config.xla)
    progress.say(f"precision {precision.value} ({precision.reason}); XLA {xla.value} ({xla.reason})")
    keras.mixed_precision.set_global_policy(precision.value)
    steps = pipeline.steps(made.count("train"), config.batch_size)
    # Before the run folder is touched: --overwrite with a mistake in another flag costs nothing.
    model = _trainer(config, made, recipe.build(image_px), steps * config.epochs, xla.value)
    folder.prepare(config.run_dir, config.overwrite)
    text = folder.save_flags(config.run_dir, config)
    feed = inputs.open_feed(config.input, made, config.batch_size, image_px, recipe.channels, config.seed)
    progress.say(f"input {feed.choice.value} ({feed.choice.reason})")
    watched = fit(model, feed.train, feed.val, config, steps)

    loaded = choose_and_save(model, feed.val, made, config, recipe, image_px)
    tested = "test" if made.count("test") else "val"
    found = assessment.assess(loaded, made, [tested], config.batch_size, RESAMPLES, config.seed)
    folder.save_json(config.run_dir, folder.METRICS, found.metrics | {"split": tested})
    facts = _facts(config, watched, loaded, image_px, {"Precision": precision, "XLA": xla, "Input": feed.choice})
    page.write(_report(config, made, found, watched, facts, text), os.path.join(config.run_dir, folder.REPORT))
    progress.say(
        f"{tested} accuracy {found.metrics['accuracy']:.4f} at threshold {loaded.card.threshold:.3f}; "
        f"model {os.path.join(config.run_dir, bundle.FILE)}, report {os.path.join(config.run_dir, folder.REPORT)}"
    )
    return found


def _with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """So that flags.cfg replays the run from any folder."""
    names = [name for name in ("data", "run_dir", "weights") if getattr(config, name)]
    return dataclasses.replace(config, **{name: os.path.abspath(getattr(config, name)) for name in names})


def _trainer(
    config: TrainConfig, made: dataset.Dataset, network: keras.Model, steps: int, xla: str
) -> training.Trainer:
    """`network` ready to learn, with the weights of a file where one is given, and balanced classes where 0,0 asks."""
    if config.weights:
        taken, left = weights.take(network, config.weights)
        progress.say(f"weights of {len(taken)} layers from {config.weights}; new: {', '.join(left) or 'none'}")
    settings = config.optimization
    if not any(settings.class_weights):
        counts = made.facts["splits"]["train"]["class_counts"]
        if not all(counts.values()):
            raise UserError(f"--class_weights: expected both classes in the training split, received {counts}")
        settings = dataclasses.replace(settings, class_weights=training.balanced([counts[it] for it in made.classes]))
    return training.trainable(network, dataclasses.replace(config, optimization=settings), steps, xla)


@dataclasses.dataclass(frozen=True)
class Watched:
    """What the callbacks saw of a fit."""

    history: list[dict]
    best_epoch: int
    stopped: bool
    seconds: float


def fit(model: keras.Model, batches, checks, config: TrainConfig, steps: int) -> Watched:
    """Train with a live bar, history.csv, TensorBoard and early stopping; `model` ends with its best weights."""
    extra = [name.value for name in config.metrics]
    history = callbacks.History(os.path.join(config.run_dir, folder.HISTORY), extra)
    best = callbacks.Best(config.early_stopping_epochs)
    board = keras.callbacks.TensorBoard(
        os.path.join(config.run_dir, folder.TENSORBOARD), write_graph=False, profile_batch=0
    )
    bar = callbacks.LiveBar(config.epochs, steps, config.batch_size)
    watchers = [callbacks.Speed(config.batch_size), bar, history, best, board]
    if not config.steps_per_execution:
        watchers.append(callbacks.Pace(steps))
    began = time.perf_counter()
    model.fit(
        batches,
        epochs=config.epochs,
        steps_per_epoch=steps,
        validation_data=checks,
        callbacks=watchers,
        verbose=0,
    )
    if not best.epoch:
        raise UserError("training diverged: the validation loss was never a number; lower --learning_rate")
    return Watched(history.rows, best.epoch, best.stopped, time.perf_counter() - began)


def choose_and_save(
    model: keras.Model, checks, made: dataset.Dataset, config: TrainConfig, recipe: networks.Recipe, image_px: int
) -> bundle.Bundle:
    """The threshold from validation data, then model.h5; returns the model as a user will load it."""
    plain = bundle.as_float32(model)
    threshold = metrics.choose_threshold(*scoring.score(plain, checks, temperature=1.0))
    card = bundle.Card(
        network=config.model.value,
        classes=made.classes,
        threshold=threshold,
        temperature=1.0,
        image_px=image_px,
        channels=recipe.channels,
        fingerprint=made.facts["fingerprint"],
        versions=runtime.versions(),
        seed=config.seed,
    )
    path = os.path.join(config.run_dir, bundle.FILE)
    bundle.save(path, plain, card)
    return bundle.load(path)


def _facts(config, watched, loaded, image_px, choices) -> dict[str, str]:
    speeds = sorted(row["images_per_sec"] for row in watched.history)
    ended = "stopped early" if watched.stopped else "ran to the end"
    return {
        "Network": f"{config.model.value}, {loaded.model.count_params():,} parameters",
        "Image size": f"{image_px} x {image_px} pixels, {loaded.card.channels} channels",
        "Epochs": f"{len(watched.history)} of {config.epochs} ({ended}); best: {watched.best_epoch}",
        "Training time": f"{watched.seconds:.1f} s",
        "Training speed": f"{speeds[len(speeds) // 2]:,.0f} images/s (median epoch)",
        **{name: f"{choice.value} ({choice.reason})" for name, choice in choices.items()},
        "Threshold": f"{loaded.card.threshold:.3f}, chosen on validation data for the best F1",
    }


def _report(config, made, found, watched, facts, text) -> page.Report:
    return page.Report(
        title=f"crackflow: {found.name}",
        headline=f"{config.model.value}, trained on {made.count('train'):,} images of {found.name}.",
        data=made.facts,
        evaluations=[found],
        history=watched.history,
        facts=facts,
        flags=text,
        versions=runtime.versions(),
    )


if __name__ == "__main__":
    flags.main(TrainConfig, run, __doc__)
