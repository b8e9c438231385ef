"""Train a crack classifier on a dataset made by crackflow.convert.

  python -m crackflow.train --data=data/metu --run_dir=runs/metu
  python -m crackflow.train --flagfile=runs/metu/flags.cfg --run_dir=runs/again      # the same run once more

Leaves in the run folder: model.h5, report.html, metrics.json, history.csv, flags.cfg, tensorboard/, checkpoints/. A run
that was stopped or killed resumes when the same command is given again. Exit code 75: stopped by a signal, or because
another worker was lost; give the command again.
"""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from crackflow.core import atomic, callable_module, console, flags, json_schema, runtime
from crackflow.core.backend import keras
from crackflow.core.config.threshold import RuleKind, ThresholdRule
from crackflow.core.config.training import TrainConfig
from crackflow.data import digests
from crackflow.evaluation import evaluator, overlap, photo_evaluation, results, scoring, significance, thresholds
from crackflow.inference import exposure
from crackflow.model import model_file, ood, training_images
from crackflow.pipeline import tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from crackflow.report import run_page
from crackflow.training import experiment_logs, fit_loop, job, run_folder

BOOTSTRAP_SAMPLES = 1000
EVAL_BATCH_SIZE = 256  # images, in float32, on the one device of the chief: --batch_size is divided among all devices
REMEDY, SHORTCUT = "Take more photographs of both classes", "begin with the model that comes with crackflow"
NUM_OOD_IMAGES = 2048  # of the training split, to which the out-of-distribution detector is fitted


def run(config: TrainConfig) -> dict | None:
    """Run the whole path: data, network, fit, threshold, model.h5, report.

    Returns:
        The content of metrics.json: the evaluation of the test split, or of validation without one. None in a worker
        that is not the chief.

    Raises:
        UserError: the flags or data are unusable.
        RetryableError: the run stopped and can resume.
    """
    runtime.configure(config.seed, config.threads, config.deterministic, config.cpu_devices)
    explicit = flags.explicit_flags(config)
    # Before the run folder is touched, so that --overwrite with a mistake in another flag deletes nothing.
    config = _with_absolute_paths(config)
    setup = job.build_training(config, explicit=explicit)
    # `requested` goes to flags.cfg; `config` also has the values that follow from the data.
    requested, config = _with_network_of(config, setup.config), setup.config
    dataset, cluster = setup.dataset, setup.cluster
    console.info(f"devices {cluster.choice.value} ({cluster.choice.reason})")
    console.info(
        f"precision {setup.precision.value} ({setup.precision.reason}); XLA {setup.xla.value} ({setup.xla.reason})"
    )
    console.info(f"an epoch is {setup.describe_epoch()}")
    # Read now, so that a damaged manifest.csv is detected before the training.
    seen_images = training_images.TrainingImages.of(dataset)
    if dataset.count("test"):
        digests.load(dataset, "test")
    fingerprint = run_folder.run_fingerprint(config, dataset.metadata["fingerprint"], setup.precision.value)
    with run_folder.open_run(config.run_dir, fingerprint, config.overwrite, config.safety.resume, cluster) as start:
        if start.status:
            console.info(f"{config.run_dir} holds {start.status}")
        if start.finished:
            return run_folder.read_metrics(config.run_dir) if cluster.is_chief else None
        text = run_folder.save_flags(config.run_dir, requested) if cluster.is_chief else ""
        data_loader = setup.create_loader()
        console.info(f"input {data_loader.choice.value} ({data_loader.choice.reason})")
        fit = setup.fit(fingerprint)
        if start.snapshot:
            fit.restore(start.snapshot)
        logged = config if cluster.is_chief else dataclasses.replace(config, log_to=())
        with experiment_logs.open_logs(logged, flags.as_dict(config)) as fit.logs:
            training = setup.train(fit, data_loader)
            with cluster.translate_worker_loss():  # all workers take part in reading the statistics of BatchNorm
                float32_model = model_file.as_float32(setup.model)
            metrics = None
            if cluster.is_chief:
                metrics = _deliver(setup, float32_model, training, data_loader.choice, text, seen_images)
                _log_results(fit.logs, config.run_dir, metrics)
            cluster.all_gather([0])  # a barrier: a worker that left early would look lost
        return metrics


def _deliver(
    setup: job.TrainingSetup,
    float32_model: keras.Model,
    training: fit_loop.TrainingResult,
    input_choice: runtime.AutoChoice,
    text: str,
    seen_images: training_images.TrainingImages | None,
) -> dict:
    """Write model.h5, metrics.json and report.html of a trained network, and say how good it is.

    Args:
        setup: the training setup.
        float32_model: the trained network in float32.
        training: the history of the run.
        input_choice: which input was chosen, and why.
        text: the content of flags.cfg.
        seen_images: the images of the run's dataset.

    Returns:
        The content of metrics.json.
    """
    config, dataset = setup.config, setup.dataset
    batch_size = _eval_batch_size(config)
    val_spec = BatchSpec(batch_size, setup.image_px, setup.model_spec.channels)
    model = choose_and_save(float32_model, setup, tfrecord_loader.eval_batches(dataset, "val", val_spec), seen_images)
    split = "test" if dataset.count("test") else "val"
    evaluation = evaluator.evaluate(model, dataset, [split], batch_size, BOOTSTRAP_SAMPLES, config.seed)
    evaluation = dataclasses.replace(evaluation, basis=results.TEST if split == "test" else results.VALIDATION)
    metrics = evaluator.content(evaluation) | {"split": split, "basis": evaluation.basis}
    metrics = json_schema.with_version(run_folder.METRICS, metrics)
    atomic.save_json(config.run_dir, run_folder.METRICS, metrics)
    warnings = _chance_warnings(model.card, split)
    facts = _report_facts(setup, training, model, input_choice)
    report_path = os.path.join(config.run_dir, run_folder.REPORT)
    run_page.write(_build_report(config, dataset, evaluation, training, facts, text, warnings), report_path)
    console.info(
        f"{_describe_accuracy(evaluation)} at threshold {model.card.threshold:.3f}; model "
        f"{os.path.join(config.run_dir, model_file.FILE)}, report {report_path}"
    )
    overlap_warning = overlap.in_words(evaluation.overlap)
    # For validation images the basis already says so, unless they were trained on as well.
    if overlap_warning and (evaluation.basis == results.TEST or evaluation.overlap["trained_on"]):
        console.alert(f"{split}: {overlap_warning}")
    for warning in [*warnings, *results.guesses([evaluation])]:
        console.alert(f"{warning} {_remedy(config)}")
    return metrics


def _log_results(logs: Sequence[experiment_logs.GuardedLog], run_dir: str, metrics: dict) -> None:
    """Give each log the figures of metrics.json, and the files of the run."""
    figures = {name: float(value) for name, value in metrics.items() if isinstance(value, (int, float))}
    del figures[json_schema.KEY]
    files = [model_file.FILE, run_folder.METRICS, run_folder.REPORT, run_folder.FLAGS, run_folder.HISTORY]
    for log in logs:
        log.finish(figures, [os.path.join(run_dir, name) for name in files])


def _remedy(config: TrainConfig) -> str:
    if config.weights == model_file.SHIPPED_NAME:
        return f"{REMEDY}."
    return f"{REMEDY}, or {SHORTCUT}: --weights={model_file.SHIPPED_NAME}."


def _describe_accuracy(evaluation: results.Evaluation) -> str:
    """The accuracy and the images that it was measured on, in words."""
    accuracy = f"accuracy {evaluation.metrics['accuracy']:.4f}"
    return (
        f"test {accuracy}" if evaluation.basis == results.TEST else f"no test split: {accuracy} on {evaluation.basis};"
    )


def _with_network_of(config: TrainConfig, source: TrainConfig) -> TrainConfig:
    """`config` with the network of `source`, so that flags.cfg names the network in the file of --weights."""
    return dataclasses.replace(config, model=source.model, architecture=source.architecture, image_px=source.image_px)


def _eval_batch_size(config: TrainConfig) -> int:
    return min(config.part_size, EVAL_BATCH_SIZE)


def _with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """`config` with absolute paths, so that flags.cfg replays the run from any folder."""
    names = [name for name in ("data", "run_dir", "weights") if getattr(config, name)]
    names = [name for name in names if getattr(config, name) != model_file.SHIPPED_NAME or name != "weights"]
    return dataclasses.replace(config, **{name: os.path.abspath(getattr(config, name)) for name in names})


def choose_and_save(
    float32_model: keras.Model,
    setup: job.TrainingSetup,
    val_batches,
    seen_images: training_images.TrainingImages | None,
) -> model_file.TrainedModel:
    """Choose temperature, threshold and review band on validation data, and save model.h5.

    Args:
        float32_model: the trained network in float32.
        setup: the training setup.
        val_batches: batches (image, label, weight) of the validation split.
        seen_images: the images of the run's dataset.

    Returns:
        The model as a user will load it.
    """
    dataset, config, spec, image_px = setup.dataset, setup.config, setup.model_spec, setup.image_px
    labels, logits = scoring.predict_logits(float32_model, val_batches)
    temperature = thresholds.fit_temperature(labels, logits)
    probabilities = model_file.to_probabilities(logits, temperature)
    _, groups = tfrecord_loader.paths_and_groups(dataset, "val")
    rule = ThresholdRule.parse(config.threshold)
    if not thresholds.can_choose(labels, rule):
        rule = ThresholdRule(RuleKind.BAYES, 1.0)
        console.warning(
            f"the validation images are of one class, so that --threshold={config.threshold} can't choose by "
            f"them; {rule} is taken instead"
        )
    threshold = evaluator.choose_threshold(
        float32_model, dataset, val_batches, labels, probabilities, temperature, rule
    )
    verdict = significance.compare(labels, probabilities, threshold, groups)
    card = model_file.ModelMetadata(
        network=config.model.value,
        classes=dataset.classes,
        threshold=threshold,
        temperature=temperature,
        image_px=image_px,
        channels=spec.channels,
        fingerprint=dataset.metadata["fingerprint"],
        versions=runtime.versions(),
        seed=config.seed,
        threshold_rule=str(rule),
        review=thresholds.abstention_band(probabilities, threshold, config.review),
        source_px=dataset.source_px,
        mm_per_px=config.mm_per_px,
        validation=verdict._asdict(),
        calibrated_share=float(labels.mean()) if 0 < labels.mean() < 1 else 0.0,
    )
    path = os.path.join(config.run_dir, model_file.FILE)
    ood_detector, brightness = None, 0.0
    if dataset.count("train") > 1:
        ood_detector, brightness = _fit_ood_detector(float32_model, val_batches, dataset, config, spec, image_px)
    card = dataclasses.replace(card, brightness=brightness)
    seen_images = seen_images and seen_images.and_earlier(setup.source and setup.source.training_images)
    model = photo_evaluation.with_photo_threshold(
        model_file.TrainedModel(float32_model, card, None, setup.model.locator),
        dataset,
        labels,
        probabilities,
        config.seed,
    )
    model_file.save(path, float32_model, model.card, ood_detector, setup.model.locator, seen_images)
    return model_file.load(path)


def _fit_ood_detector(
    float32_model, val_batches, dataset, config, spec, image_px
) -> tuple[ood.OutOfDistributionDetector, float]:
    """The detector of images unlike those of the training split, and their mean brightness, 0..255."""
    extract_features, features, brightness = ood.FeatureStatistics(float32_model), [], []
    for image, _ in tfrecord_loader.sample_batches(
        dataset, "train", NUM_OOD_IMAGES, BatchSpec(_eval_batch_size(config), image_px, spec.channels, config.seed)
    ):
        features.append(extract_features(image))
        brightness.append(exposure.mean_brightness(image))
    detector = ood.fit(np.concatenate(features), scoring.map_batches(extract_features, val_batches), seed=config.seed)
    return detector, float(np.concatenate(brightness).mean())


def _chance_warnings(card: model_file.ModelMetadata, split: str) -> list[str]:
    """The warning that the model is no better than a guess on its validation images, if any.

    Empty if the evaluation of `split` already says the same.
    """
    is_reported = split == "val" and significance.ChanceTest(**card.validation).is_doubtful
    return [] if is_reported else significance.doubts(card.validation)


def _report_facts(
    setup: job.TrainingSetup,
    training: fit_loop.TrainingResult,
    model: model_file.TrainedModel,
    input_choice: runtime.AutoChoice,
) -> dict[str, str]:
    """The facts at the top of report.html, by label."""
    config, image_px = setup.config, setup.image_px
    choices = {
        "Devices": setup.cluster.choice,
        "Precision": setup.precision,
        "XLA": setup.xla,
        "Input": input_choice,
    }
    speeds = sorted(row["images_per_sec"] for row in training.history)
    end = "stopped early" if training.stopped else "ran to the end"
    return {
        "Network": f"{config.model.value}, {model.model.count_params():,} parameters",
        "Image size": f"{image_px} x {image_px} pixels, {model.card.channels} channels",
        "Epochs": f"{len(training.history)} of {config.epochs} ({end}); best: {training.best_epoch}",
        "Training time": f"{training.seconds:.1f} s",
        "Training speed": f"{speeds[len(speeds) // 2]:,.0f} images/s (median epoch)",
        **{name: f"{choice.value} ({choice.reason})" for name, choice in choices.items()},
        "Threshold": f"{model.card.threshold:.3f}, chosen on validation data by {model.card.threshold_rule}",
        "Threshold of photographs": photo_evaluation.in_words(model.card),
        "For human review": "{:.3f} to {:.3f}".format(*model.card.review),
        "Temperature": f"{model.card.temperature:.3f}, fitted on validation data",
        "An epoch": setup.describe_epoch(),
    }


def _build_report(config, dataset, evaluation, training, facts, text, warnings) -> run_page.Report:
    return run_page.Report(
        title=f"crackflow: {evaluation.name}",
        headline=f"{config.model.value}, trained on {dataset.describe_count('train')} of {evaluation.name}.",
        warnings=warnings,
        data=dataset.metadata,
        evaluations=[evaluation],
        history=training.history,
        facts=facts,
        flags=text,
        versions=runtime.versions(),
    )


callable_module.install(__name__, TrainConfig, run)
if __name__ == "__main__":
    flags.main(TrainConfig, run, __doc__)
