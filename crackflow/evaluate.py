"""Measure a trained model on one dataset or several.

  python -m crackflow.evaluate --model=runs/metu --data=data/metu --out=runs/metu/test
  python -m crackflow.evaluate --model=runs/metu/model.h5 --data=data/metu,data/deepcrack --out=elsewhere
  python -m crackflow.evaluate --model=runs/metu --data=data/metu --threshold=recall:0.99 --out=careful

The threshold is the model's own, chosen on validation data, unless --threshold chooses another there. With several data
sets a table shows where the model falls behind its figures on the first. Leaves in the folder: metrics.json,
report.html, curves as PNG, errors/ and errors.csv with the worst mistakes, suspects/ and suspects.csv with labels that
may be wrong, photographs.csv with what crackflow.predict decides about each image, of at most --photographs of them.
Nothing is changed in the data. Images that the model was trained on, or chosen by, are counted in red, with the figures
without them beside.
"""

import dataclasses
import os

from crackflow.core import atomic, callable_module, console, flags, json_schema, runtime
from crackflow.core.config.threshold import ThresholdRule
from crackflow.core.config.trained import EvalSplit, EvaluateConfig
from crackflow.core.errors import UserError
from crackflow.data import dataset as dataset_io
from crackflow.data.dataset import Dataset
from crackflow.evaluation import evaluator, overlap, photo_evaluation, results, scoring, thresholds
from crackflow.inference import photo_threshold
from crackflow.model import model_file
from crackflow.pipeline import tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from crackflow.report import evaluation_files, run_page
from crackflow.training import run_folder

# With several datasets, each has a folder with its name.
OWNED_FILES = (
    run_folder.REPORT,
    *evaluation_files.OWNED_FILES,
    *(f"*/{path}" for path in evaluation_files.OWNED_FILES),
)


def run(config: EvaluateConfig) -> dict:
    """Scores every dataset and writes the results.

    Returns:
        The content of metrics.json.

    Raises:
        UserError: when a model, a dataset or the output folder can't be used.
    """
    runtime.configure(config.seed, config.threads, deterministic=False)
    if os.path.exists(os.path.join(config.out, run_folder.FLAGS)):  # its metrics.json looks like that of an evaluation
        raise UserError(
            f"--out: expected a folder of its own, received {config.out!r}, which holds a training run; choose "
            f"another, such as {os.path.join(config.out, 'test')!r}"
        )
    loaded = model_file.load(config.model)
    datasets = _by_folder_name([dataset_io.load(path) for path in config.data])
    if config.threshold:
        loaded = _choose_threshold_anew(loaded, next(iter(datasets.values())), config)
    with atomic.folder(config.out, run_folder.METRICS, config.overwrite, OWNED_FILES) as stage:
        evaluations = {}
        for name, dataset in datasets.items():
            splits = _splits_to_score(dataset, config.split)
            decided_on = ["val"] if config.threshold and not evaluations else []
            settings = config.batch_size, config.resamples, config.seed, decided_on, config.photographs
            evaluations[name] = evaluator.evaluate(loaded, dataset, splits, *settings)
        for name, evaluation in evaluations.items():
            evaluation_files.save(evaluation, stage if len(evaluations) == 1 else os.path.join(stage, name))
        content = _metrics_content(evaluations)
        atomic.save_json(stage, run_folder.METRICS, content)
        run_page.write(
            _build_report(config, loaded, datasets, list(evaluations.values())), os.path.join(stage, run_folder.REPORT)
        )
    for name, evaluation in evaluations.items():
        console.info(_format_summary(name, evaluation))
        if evaluation.photographs:
            console.info(_format_photo_summary(evaluation.photographs))
        if warning := overlap.in_words(evaluation.overlap):
            console.alert(f"{name} {evaluation.split}: {warning}")
    for warning in results.guesses(list(evaluations.values())):
        console.alert(warning)
    if len(evaluations) > 1:
        columns, rows = run_page.matrix(list(evaluations.values()))
        table_rows = [[(name, False), *((cell.value, cell.fallen) for cell in cells)] for name, cells in rows]
        console.print_table(["", *columns], table_rows)
    console.info(f"report {os.path.join(config.out, run_folder.REPORT)}")
    return content


def _choose_threshold_anew(
    loaded: model_file.TrainedModel, dataset: Dataset, config: EvaluateConfig
) -> model_file.TrainedModel:
    """`loaded` with the threshold that config.threshold chooses on the validation images of `dataset`, and the
    abstention band around it. Raises: UserError when there are none."""
    dataset.require_images("val")
    card = loaded.card
    checks = tfrecord_loader.eval_batches(dataset, "val", BatchSpec(config.batch_size, card.image_px, card.channels))
    labels, logits = scoring.predict_logits(loaded.model, checks)
    probabilities = model_file.to_probabilities(logits, card.temperature)
    rule = ThresholdRule.parse(config.threshold)
    if not thresholds.can_choose(labels, rule):
        raise UserError(
            f"--threshold={config.threshold}: expected validation images of both classes in {dataset.folder!r}, found "
            "one; choose bayes:C, or another dataset"
        )
    threshold = evaluator.choose_threshold(loaded.model, dataset, checks, labels, probabilities, card.temperature, rule)
    # The fraction left for human review stays the same.
    band = thresholds.abstention_band(
        probabilities, threshold, photo_threshold.abstains(probabilities, card.review).mean()
    )
    new_card = dataclasses.replace(card, threshold=threshold, threshold_rule=config.threshold, review=band)
    loaded = dataclasses.replace(loaded, card=new_card)
    if not config.photographs:
        return loaded
    return photo_evaluation.with_photo_threshold(loaded, dataset, labels, probabilities, config.seed)


def _by_folder_name(datasets: list[Dataset]) -> dict[str, Dataset]:
    """Maps folder names to datasets. Raises: UserError when two datasets have the same name."""
    named = {}
    for dataset in datasets:
        name = os.path.basename(os.path.abspath(dataset.folder))
        if name in named:
            raise UserError(f"--data: expected folders of different names, received two called {name!r}; rename one")
        named[name] = dataset
    return named


def _splits_to_score(dataset: Dataset, requested: EvalSplit) -> list[str]:
    if requested is not EvalSplit.ALL:
        return [requested.value]
    return [name for name in dataset.metadata["splits"] if dataset.count(name)]


def _metrics_content(evaluations: dict[str, results.Evaluation]) -> dict:
    if len(evaluations) == 1:
        content = evaluator.content(next(iter(evaluations.values())))
    else:
        content = {"datasets": {name: evaluator.content(evaluation) for name, evaluation in evaluations.items()}}
    return json_schema.with_version(run_folder.METRICS, content)


def _format_summary(name: str, evaluation: results.Evaluation) -> str:
    metrics = evaluation.metrics
    low, high = metrics["accuracy_ci95"]
    confusion = metrics["confusion"]
    return (
        f"{name} {evaluation.split}: accuracy {metrics['accuracy']:.4f} [{low:.4f}, {high:.4f}] of {metrics['n']:,}; "
        f"missed cracks {confusion['fn']:,}, false alarms {confusion['fp']:,}"
    )


def _format_photo_summary(photo_metrics: dict) -> str:
    counts, total = photo_metrics["confusion"], photo_metrics["n"]
    drawn = f" drawn from {photo_metrics['of']:,}" if total < photo_metrics["of"] else ""
    rates = []
    for name in ("recall", "specificity"):
        if photo_metrics[name] is not None:
            low, high = photo_metrics[f"{name}_ci95"]
            rates.append(f"{name} {photo_metrics[name]:.4f} [{low:.4f}, {high:.4f}]")
    return (
        f"  as photographs, decided as crackflow.predict does: {', '.join(rates)} of {total:,}{drawn}; missed "
        f"cracks {counts['fn']:,}, false alarms {counts['fp']:,}"
    )


def _build_report(config, loaded, datasets, evaluations) -> run_page.Report:
    card = loaded.card
    return run_page.Report(
        title="crackflow: " + ", ".join(datasets),
        headline=f"{card.network}, measured on {sum(evaluation.metrics['n'] for evaluation in evaluations):,} images.",
        data=next(iter(datasets.values())).metadata,
        evaluations=evaluations,
        history=[],
        facts={
            "Model": f"{card.network}, {loaded.model.count_params():,} parameters",
            "Image size": f"{card.image_px} x {card.image_px} pixels, {card.channels} channels",
            "Threshold": f"{card.threshold:.3f}, chosen on validation data by {card.threshold_rule}",
            "Threshold of photographs": photo_evaluation.in_words(card),
            "For human review": "{:.3f} to {:.3f}".format(*card.review),
            "Temperature": f"{card.temperature:.3f}",
            "Trained on": f"dataset {card.fingerprint[:12]}, crackflow {card.versions['crackflow']}",
        },
        flags=flags.as_flagfile(config),
        versions=runtime.versions(),
    )


callable_module.install(__name__, EvaluateConfig, run)
if __name__ == "__main__":
    flags.main(EvaluateConfig, run, __doc__)
