"""Train a crack classifier on a data set made by crackflow.convert.

  python -m crackflow.train --data=data/metu --run_dir=runs/metu
  python -m crackflow.train --flagfile=runs/metu/flags.cfg --run_dir=runs/again      # the same run once more

Leaves in the run folder: model.h5, report.html, metrics.json, history.csv, flags.cfg, tensorboard/, checkpoints/. A run
that was stopped or killed goes on when the same command is given again. Exit code 75: stopped by a signal, or because
another worker was lost; give the command again.
"""

import dataclasses
import os

import numpy as np

from crackflow.core import atomic, console, flags, runtime
from crackflow.core.backend import keras
from crackflow.core.config.training import TrainConfig
from crackflow.data import digests
from crackflow.evaluation import chance, evaluator, overlap, photo_evaluation, results, scoring, thresholds
from crackflow.model import model_file, ood, training_images
from crackflow.pipeline import stream
from crackflow.report import run_page
from crackflow.training import job, run_folder

BOOTSTRAP_SAMPLES = 1000
EVAL_BATCH_SIZE = 256  # images that the chief's one device looks at, in float32: --batch_size is shared by all devices
REMEDY, SHORTCUT = "Take more photographs of both classes", "begin with the model that comes with crackflow"
NUM_OOD_IMAGES = 2048  # of the training split, from which crackflow.predict knows what it was trained on


def run(config: TrainConfig) -> results.Evaluation | None:
    """The whole path: data, network, fit, threshold, model.h5, report; None where another process or an earlier run
    makes these. Raises: UserError; TryAgain when it stopped and can go on."""
    runtime.configure(config.seed, config.threads, config.deterministic, config.cpu_devices)
    given = flags.explicit_flags(config)
    # Before the run folder is touched: --overwrite with a mistake in another flag costs nothing.
    config = _with_absolute_paths(config)
    work = job.build_training(config, explicit=given)
    # As it was asked for, and with what follows from the data.
    asked, config = _with_network_of(config, work.config), work.config
    made, recipe, image_px, team = work.dataset, work.recipe, work.image_px, work.team
    console.info(f"devices {team.choice.value} ({team.choice.reason})")
    console.info(
        f"precision {work.precision.value} ({work.precision.reason}); XLA {work.xla.value} ({work.xla.reason})"
    )
    console.info(f"an epoch is {work.describe_epoch()}")
    # Now: a damaged manifest.csv must not be found out after the training.
    seen = training_images.TrainingImages.of(made)
    if made.count("test"):
        digests.load(made, "test")
    identity = run_folder.run_fingerprint(config, made.facts["fingerprint"], work.precision.value)
    with run_folder.open_run(config.run_dir, identity, config.overwrite, config.safety.resume, team) as start:
        if start.status:
            console.info(f"{config.run_dir} holds {start.status}")
        if start.finished:
            return None
        text = run_folder.save_flags(config.run_dir, asked) if team.is_chief else ""
        feed = work.open_feed()
        console.info(f"input {feed.choice.value} ({feed.choice.reason})")
        fit = work.fit(identity)
        if start.snapshot:
            fit.restore(start.snapshot)
        watched = work.train(fit, feed)
        with team.expecting_others():  # reading the statistics of BatchNorm takes all of them
            plain = model_file.as_float32(work.model)
        found = None
        if team.is_chief:
            at_once = _at_once(config)
            checks = stream.eval_batches(made, "val", at_once, image_px, recipe.channels)
            loaded = choose_and_save(plain, work, checks, seen)
            tested = "test" if made.count("test") else "val"
            found = evaluator.evaluate(loaded, made, [tested], at_once, BOOTSTRAP_SAMPLES, config.seed)
            found = dataclasses.replace(found, basis=results.TEST if tested == "test" else results.VALIDATION)
            told = evaluator.content(found) | {"split": tested, "basis": found.basis}
            atomic.save_json(config.run_dir, run_folder.METRICS, told)
            choices = {"Devices": team.choice, "Precision": work.precision, "XLA": work.xla, "Input": feed.choice}
            facts = _facts(config, watched, loaded, image_px, choices) | {"An epoch": work.describe_epoch()}
            doubts = _doubts(loaded.card, tested)
            report = _report(config, made, found, watched, facts, text, doubts)
            run_page.write(report, os.path.join(config.run_dir, run_folder.REPORT))
            console.info(
                f"{_figure(found)} at threshold {loaded.card.threshold:.3f}; model "
                f"{os.path.join(config.run_dir, model_file.FILE)}, report "
                f"{os.path.join(config.run_dir, run_folder.REPORT)}"
            )
            warning = overlap.in_words(found.overlap)
            # Of validation it has been said, unless it was trained on as well.
            if warning and (found.basis == results.TEST or found.overlap["trained_on"]):
                console.alert(f"{tested}: {warning}")
            for doubt in [*doubts, *results.guesses([found])]:
                console.alert(f"{doubt} {_remedy(config)}")
        team.gathered([0])  # a worker that left early would look lost
        return found


def _remedy(config: TrainConfig) -> str:
    if config.weights == model_file.SHIPPED_NAME:
        return f"{REMEDY}."
    return f"{REMEDY}, or {SHORTCUT}: --weights={model_file.SHIPPED_NAME}."


def _figure(found: results.Evaluation) -> str:
    """The accuracy, called what it is."""
    accuracy = f"accuracy {found.metrics['accuracy']:.4f}"
    return f"test {accuracy}" if found.basis == results.TEST else f"no test split: {accuracy} on {found.basis};"


def _with_network_of(config: TrainConfig, other: TrainConfig) -> TrainConfig:
    """So that flags.cfg says the network that came from the file of --weights."""
    return dataclasses.replace(config, model=other.model, architecture=other.architecture, image_px=other.image_px)


def _at_once(config: TrainConfig) -> int:
    return min(config.part_size, EVAL_BATCH_SIZE)


def _with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """So that flags.cfg replays the run from any folder."""
    names = [name for name in ("data", "run_dir", "weights") if getattr(config, name)]
    names = [name for name in names if getattr(config, name) != model_file.SHIPPED_NAME or name != "weights"]
    return dataclasses.replace(config, **{name: os.path.abspath(getattr(config, name)) for name in names})


def choose_and_save(
    plain: keras.Model, work: job.TrainingSetup, checks, seen: training_images.TrainingImages | None
) -> model_file.TrainedModel:
    """Temperature, threshold and review band from validation data, then model.h5; returns the model as a user will
    load it. `seen`: the images of the run's data set."""
    made, config, recipe, image_px = work.dataset, work.config, work.recipe, work.image_px
    labels, logits = scoring.predict_logits(plain, checks)
    temperature = thresholds.fit_temperature(labels, logits)
    probabilities = model_file.to_probabilities(logits, temperature)
    _, groups = stream.paths_and_groups(made, "val")
    rule = config.threshold
    if not thresholds.can_choose(labels, rule):
        rule = "bayes:1"
        console.warning(
            f"the validation images are of one class, so that --threshold={config.threshold} can't choose by "
            f"them; {rule} is taken instead"
        )
    threshold = evaluator.choose_threshold(plain, made, checks, labels, probabilities, temperature, rule)
    verdict = chance.compare(labels, probabilities, threshold, groups)
    card = model_file.ModelMetadata(
        network=config.model.value,
        classes=made.classes,
        threshold=threshold,
        temperature=temperature,
        image_px=image_px,
        channels=recipe.channels,
        fingerprint=made.facts["fingerprint"],
        versions=runtime.versions(),
        seed=config.seed,
        threshold_rule=rule,
        review=thresholds.abstention_band(probabilities, threshold, config.review),
        source_px=made.source_px,
        mm_per_px=config.mm_per_px,
        validation=verdict._asdict(),
    )
    path = os.path.join(config.run_dir, model_file.FILE)
    known, brightness = None, 0.0
    if made.count("train") > 1:
        known, brightness = _known(plain, checks, made, config, recipe, image_px)
    card = dataclasses.replace(card, brightness=brightness)
    seen = seen and seen.and_earlier(work.source and work.source.training_images)
    chosen = photo_evaluation.with_photo_threshold(
        model_file.TrainedModel(plain, card, None, work.model.locator), made, labels, probabilities, config.seed
    )
    model_file.save(path, plain, chosen.card, known, work.model.locator, seen)
    return model_file.load(path)


def _known(plain, checks, made, config, recipe, image_px) -> tuple[ood.OutOfDistributionDetector, float]:
    """What images of the training split look like to the network, and their mean brightness, 0..255."""
    look, known, brightness = ood.FeatureStatistics(plain), [], []
    for image, _ in stream.sample_batches(
        made, "train", NUM_OOD_IMAGES, _at_once(config), image_px, recipe.channels, config.seed
    ):
        known.append(look(image))
        brightness.append(np.asarray(image).mean((1, 2, 3)))
    fitted = ood.fit(np.concatenate(known), scoring.map_batches(look, checks), seed=config.seed)
    return fitted, float(np.concatenate(brightness).mean())


def _doubts(card: model_file.ModelMetadata, tested: str) -> list[str]:
    """That the model is no better than a guess, as far as its validation images tell; nothing where the evaluation of
    the split `tested` says the same."""
    told = tested == "val" and chance.ChanceTest(**card.validation).is_doubtful
    return [] if told else chance.doubts(card.validation)


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
        "Threshold": f"{loaded.card.threshold:.3f}, chosen on validation data by {loaded.card.threshold_rule}",
        "Threshold of photographs": photo_evaluation.in_words(loaded.card),
        "Left to a person": "{:.3f} to {:.3f}".format(*loaded.card.review),
        "Temperature": f"{loaded.card.temperature:.3f}, fitted on validation data",
    }


def _report(config, made, found, watched, facts, text, doubts) -> run_page.Report:
    return run_page.Report(
        title=f"crackflow: {found.name}",
        headline=f"{config.model.value}, trained on {made.describe_count('train')} of {found.name}.",
        warnings=doubts,
        data=made.facts,
        evaluations=[found],
        history=watched.history,
        facts=facts,
        flags=text,
        versions=runtime.versions(),
    )


if __name__ == "__main__":
    flags.main(TrainConfig, run, __doc__)
