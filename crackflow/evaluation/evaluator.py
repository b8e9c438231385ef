"""Evaluates a model on splits of one dataset: scores, metrics with intervals, weak slices, the worst mistakes, and
labels that may be wrong.

Synopsis::

    evaluation = evaluator.evaluate(loaded, dataset, ["test"], batch_size=128, resamples=1000, seed=0)
    evaluation.metrics["accuracy"], evaluation.metrics["accuracy_ci95"]
    evaluator.content(evaluation)                      # of metrics.json
"""

import dataclasses
import os
from collections.abc import Collection, Iterable

import numpy as np

from crackflow.core.backend import keras
from crackflow.core.config.threshold import ThresholdRule
from crackflow.core.config.trained import ExplainConfig
from crackflow.data import overlays
from crackflow.data.dataset import Dataset
from crackflow.evaluation import metrics, overlap, photo_evaluation, results, scoring, significance, slices, thresholds
from crackflow.explanation import saliency
from crackflow.inference import photo_threshold, predictor
from crackflow.model import model_file
from crackflow.model.model_file import TrainedModel
from crackflow.pipeline import tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from crackflow.training import job

MISTAKES_SHOWN = SUSPECTS_SHOWN = 24


def evaluate(
    loaded: TrainedModel,
    dataset: Dataset,
    splits: list[str],
    batch_size: int,
    resamples: int,
    seed: int,
    decided_on: Collection[str] = (),
    photographs: int = 0,
) -> results.Evaluation:
    """Evaluates `loaded` on `splits`; each image counts once, however often a joined dataset repeats it.

    Args:
        loaded: the model with its metadata.
        dataset: the dataset that holds the splits.
        splits: names of the splits, scored together.
        batch_size: images per batch.
        resamples: bootstrap samples for the intervals.
        seed: seed of the bootstrap and of the photograph sample.
        decided_on: splits on which the threshold was chosen after the model was trained.
        photographs: at most so many images are also evaluated as crackflow.predict does; 0 for none.

    Raises:
        UserError: when a split is empty.
    """
    card = loaded.card
    unique_rows, paths, labels, logits, statistics, groups = _score_unique_images(loaded, dataset, splits, batch_size)
    seen = overlap.find_seen(card.fingerprint, loaded.training_images, dataset, splits, decided_on)
    probabilities = model_file.to_probabilities(logits, card.temperature)
    positions = [(split, row) for split in splits for row in range(dataset.count(split))]
    positions = [positions[row] for row in unique_rows]
    mistakes, suspects = _collect_mistakes(loaded, dataset, positions, paths, labels, probabilities)
    decisions = probabilities >= card.threshold
    values = {
        "brightness": statistics[:, 0],
        "sharpness": statistics[:, 1],
        "crack width": slices.crack_widths(dataset, paths),
    }
    measured = labels, probabilities, groups, card.threshold, resamples, seed
    photo_metrics, photo_rows = _evaluate_photos(loaded, dataset, positions, decisions, labels, photographs, seed)
    return results.Evaluation(
        name=os.path.basename(os.path.abspath(dataset.folder)),
        split="+".join(splits),
        metrics=metrics.measure(*measured),
        overlap=overlap.measure(None if seen is None else seen[unique_rows], *measured),
        labels=labels,
        probabilities=probabilities,
        mistakes=mistakes,
        classes=dataset.classes,
        review=_measure_abstention(labels, probabilities, card),
        suspects=suspects,
        slices=slices.divide(
            labels, decisions, values, {"folder": slices.folders(paths, dataset.metadata.get("layout") or "")}
        ),
        verdict=significance.compare(labels, probabilities, card.threshold, groups),
        photographs=photo_metrics,
        photograph_rows=photo_rows,
    )


def choose_threshold(
    model: keras.Model,
    dataset: Dataset,
    batches: Iterable,
    labels: np.ndarray,
    probabilities: np.ndarray,
    temperature: float,
    rule: ThresholdRule,
) -> float:
    """Chooses the threshold by `rule` on the validation images of `dataset`.

    When there are few images, each is scored in its eight orientations, and the threshold is moved towards the value
    that the rule expects: see `thresholds.shrunk`.

    Args:
        model: the network, uint8 images to logits.
        dataset: the dataset whose validation split `batches` iterates.
        batches: (image, label, weight) of the validation images.
        labels: int [N], 1 means cracked.
        probabilities: float [N], 0..1, of cracked, at `temperature`.
        temperature: divisor of the logits.
        rule: as in `thresholds.choose_threshold`.

    Returns:
        The threshold, 0..1.
    """
    if not job.has_few_checks(dataset):
        return thresholds.choose_threshold(labels, probabilities, rule)
    repeated_labels, logits = scoring.predict_logits(model, scoring.in_eight_orientations(batches))
    threshold = thresholds.choose_threshold(repeated_labels, model_file.to_probabilities(logits, temperature), rule)
    return thresholds.shrunk(threshold, rule, int(np.bincount(labels, minlength=2).min()))


def _evaluate_photos(
    loaded: TrainedModel,
    dataset: Dataset,
    positions: list,
    decisions: np.ndarray,
    labels: np.ndarray,
    limit: int,
    seed: int,
) -> tuple[dict, list[tuple[str, ...]]]:
    """The `photographs` entry of metrics.json and the rows of photographs.csv. `positions`: (split, row) of each image;
    `decisions`, `labels`: [N], of the same images as windows."""
    if not limit:
        return {}, []
    drawn = photo_evaluation.sample(len(positions), limit, seed)
    model = predictor.Model(dataclasses.replace(loaded, familiarity=None))  # which decides nothing
    predictions = photo_evaluation.predict_photos(model, dataset, [positions[number] for number in drawn])
    drawn = drawn[: len(predictions.decisions)]  # fewer when the photographs are large
    called, truth = decisions[drawn], labels[drawn] == 1
    windows = {
        "recall": float(called[truth].mean()) if truth.any() else None,
        "specificity": float((~called[~truth]).mean()) if (~truth).any() else None,
    }
    return photo_evaluation.measure(predictions, len(positions)) | {"windows": windows}, predictions.table


def content(evaluation: results.Evaluation) -> dict:
    """The content of metrics.json.

    Returns:
        The metrics plus `review`, `slices`, `suspects` (how many labels may be wrong), `training_overlap` (how many
        images the model has seen, None when unknown), `chance_p_value` and `better_than_chance` (whether a guess would
        have done as well; None and False with one class only), and `photographs` when they were evaluated.
    """
    photographs = {"photographs": evaluation.photographs} if evaluation.photographs else {}
    return (
        evaluation.metrics
        | photographs
        | {
            "training_overlap": evaluation.overlap or None,
            "review": evaluation.review,
            "slices": [dataclasses.asdict(part) for part in evaluation.slices],
            "suspects": len(evaluation.suspects),
            "chance_p_value": evaluation.verdict.p_value,
            "better_than_chance": evaluation.verdict.better,
        }
    )


def _score_unique_images(loaded: TrainedModel, dataset: Dataset, splits: list[str], batch_size: int) -> tuple:
    """(unique_rows, paths, labels, logits, statistics, groups) of `splits`, the first row of each path; `unique_rows`
    int64 [N] counts rows over all splits."""
    split_scores = [_score_split(loaded, dataset, split, batch_size) for split in splits]
    columns = [np.concatenate([scores[k] for scores in split_scores]) for k in range(4)]
    paths = [path for scores in split_scores for path in scores[4]]
    first = {path: row for row, path in reversed(list(enumerate(paths)))}
    unique_rows = np.array(sorted(first.values()))
    return unique_rows, [paths[row] for row in unique_rows], *(column[unique_rows] for column in columns)


def _collect_mistakes(
    loaded: TrainedModel,
    dataset: Dataset,
    positions: list[tuple[str, int]],
    paths: list[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
) -> tuple[list[results.Mistake], list[results.Mistake]]:
    """(mistakes, suspects): the worst mistakes, and all labels that may be wrong, the first of them with an image.
    Image k of `paths`, `labels` and `probabilities` is record `positions[k]` of `dataset`: its split and row."""
    wrong = metrics.worst_mistakes(labels, probabilities, loaded.card.threshold, MISTAKES_SHOWN)
    doubtful = thresholds.label_issues(labels, probabilities, len(labels))
    images = _read_images(loaded, dataset, positions, sorted({*wrong, *doubtful[:SUSPECTS_SHOWN]}))
    heatmaps = _heatmaps(loaded, {int(row): images[row] for row in wrong})

    def mistake(row: int) -> results.Mistake:
        png = overlays.as_png(images[row]) if row in images else b""
        truth = dataset.classes[labels[row]]
        return results.Mistake(paths[row], truth, float(probabilities[row]), png, heatmaps.get(row, b""))

    return [mistake(int(row)) for row in wrong], [mistake(int(row)) for row in doubtful]


def _read_images(
    loaded: TrainedModel, dataset: Dataset, positions: list[tuple[str, int]], indices: list[int]
) -> dict[int, np.ndarray]:
    """The images `positions[k]` for every k of `indices`, as the network sees them: uint8 [px, px, C] by k."""
    images = {}
    for split in {positions[index][0] for index in indices}:
        chosen = [int(index) for index in indices if positions[index][0] == split]
        rows = [positions[index][1] for index in chosen]
        batch = tfrecord_loader.read_rows(dataset, split, rows, loaded.card.image_px, loaded.card.channels)
        images |= zip(chosen, batch, strict=True)
    return images


def _heatmaps(loaded: TrainedModel, images: dict[int, np.ndarray]) -> dict[int, bytes]:
    """PNG bytes of each of `images` under a saliency map of the cracked class."""
    if not images:
        return {}
    explainer = saliency.Explainer(loaded.model, ExplainConfig.method[0], compiled=False)
    maps = explainer(np.stack(list(images.values())), np.ones(len(images), bool))
    return {
        row: overlays.as_png(overlays.overlay(image, heatmap))
        for (row, image), heatmap in zip(images.items(), maps, strict=True)
    }


def _eval_batches(loaded: TrainedModel, dataset: Dataset, split: str, batch_size: int):
    return tfrecord_loader.eval_batches(
        dataset, split, BatchSpec(batch_size, loaded.card.image_px, loaded.card.channels)
    )


def _score_split(loaded: TrainedModel, dataset: Dataset, split: str, batch_size: int) -> tuple:
    """(labels, logits, image statistics, groups, paths) of one split."""
    scores = scoring.predict_logits(
        loaded.model, _eval_batches(loaded, dataset, split, batch_size), slices.image_statistics
    )
    paths, groups = tfrecord_loader.paths_and_groups(dataset, split)
    return *scores, groups, paths


def _measure_abstention(labels: np.ndarray, probabilities: np.ndarray, card: model_file.ModelMetadata) -> dict:
    """The `review` entry of metrics.json: images that the model leaves for human review, and its accuracy on the
    rest."""
    abstained = photo_threshold.abstains(probabilities, card.review)
    right = ((probabilities >= card.threshold) == labels) & ~abstained
    decided = int((~abstained).sum())
    return {
        "low": card.review[0],
        "high": card.review[1],
        "count": int(abstained.sum()),
        "share": float(abstained.mean()),
        "accuracy": float(right.sum() / decided) if decided else None,
        "accuracy_ci95": list(metrics.wilson(int(right.sum()), decided)) if decided else None,
        "missed": int((~abstained & (labels == 1) & (probabilities < card.threshold)).sum()),
    }
