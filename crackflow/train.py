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
from crackflow.core.config import Network, TrainConfig
from crackflow.core.errors import UserError
from crackflow.data import dataset, inputs, pipeline
from crackflow.model import bundle, networks, training
from crackflow.report import assessment, metrics, page
from crackflow.run import callbacks, folder, scoring

RESAMPLES = 1000


def run(config: TrainConfig) -> page.Evaluation:
    """The whole path: data, network, fit, threshold, model.h5, report. Raises: UserError."""
    runtime.set_up(config.seed, config.threads, config.deterministic)
    config = dataclasses.replace(config, data=os.path.abspath(config.data), run_dir=os.path.abspath(config.run_dir))
    made = dataset.load(config.data)
    recipe, image_px = _network_for(config, made)
    for split in inputs.SPLITS:
        made.expect_images(split)
    folder.prepare(config.run_dir, config.overwrite)
    text = folder.save_flags(config.run_dir, config)

    precision, xla = runtime.choose_precision(config.precision), runtime.choose_xla(config.xla)
    progress.say(f"precision {precision.value} ({precision.reason}); XLA {xla.value} ({xla.reason})")
    feed = inputs.open_feed(config.input, made, config.batch_size, image_px, recipe.channels, config.seed)
    progress.say(f"input {feed.choice.value} ({feed.choice.reason})")
    keras.mixed_precision.set_global_policy(precision.value)
    steps = pipeline.steps(made.count("train"), config.batch_size)
    model = training.trainable(recipe.build(image_px), config, steps * config.epochs, xla.value)
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


def _network_for(config: TrainConfig, made: dataset.Dataset) -> tuple[networks.Recipe, int]:
    recipe = networks.NETWORKS[config.model]
    image_px = config.image_px or recipe.image_px
    if config.model is Network.SEED and image_px < 32:
        raise UserError(f"--image_px: expected 32 or more for the network seed, received {image_px}")
    return recipe, image_px


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
