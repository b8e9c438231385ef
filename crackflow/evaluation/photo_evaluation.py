"""What crackflow.predict decides about the photographs of a dataset: measured, and its threshold chosen.

Synopsis::

    results = photo_evaluation.predict_photos(model, dataset, [("test", 0), ("test", 7)])   # (split, row) each
    results.table                                                 # rows of photographs.csv
    photo_evaluation.measure(results, 1000)["specificity"]        # 0.97; drawn from 1,000 photographs
    photo_evaluation.with_photo_threshold(loaded, dataset, labels, probabilities, seed=0)   # a TrainedModel

A window is scored once, at the size of training. A photograph is scored at every position and at several scales, and
the maximum decides. So both are measured. The records of a dataset are scored as they are stored; where they were
stored smaller than the photographs, they are first enlarged to that size again.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from crackflow.core import console, errors
from crackflow.core.errors import UserError
from crackflow.data import image_file, resize
from crackflow.data.dataset import Dataset
from crackflow.data.record_reader import RecordReader
from crackflow.evaluation import metrics
from crackflow.inference import multi_scale, photo_threshold, predictor
from crackflow.model.model_file import ModelMetadata, TrainedModel
from crackflow.synthesis import mosaics

# At most so many photographs choose the threshold: 150 clean ones measure the false-alarm rate to two or three in a
# hundred.
NUM_THRESHOLD_PHOTOS = 150
# Sizes, in windows, of the walls that are composed of them, which show how the maximum of the heat map grows with the
# size. They take as long as METU's photographs themselves. A photograph of that many windows is large itself.
WALL_WINDOWS = 36
WALLS = (WALL_WINDOWS,) * 12
# A few hundred photographs can't tell fewer false alarms than this, and each step nearer to none costs cracks: from
# 0.05 to 0.02 the shipped model's threshold for 12 megapixels rises by 0.9 logits, a sixth of what METU's cracks have.
MIN_FALSE_ALARMS = 0.03
# Of all photographs that an evaluation scores: two minutes on 2 cores.
MAX_PIXELS, MIN_PHOTOS = 200_000_000, 12
HELD_PIXELS = 2_000_000  # read before the photographs of one size go through the network together
MAX_MEGAPIXELS = 10_000.0  # convert has refused what it was told to refuse
LARGE = 700  # windows in a photograph of 12 megapixels, in the words of a page
COLUMNS = ("path", "truth", "label", "probability", "decision")


class PhotoResults(NamedTuple):
    """The decisions about N photographs of a dataset.

    Attributes:
        classes: names of the clean and the cracked class.
        paths: of the source files.
        labels: bool [N], True is cracked.
        groups: [N], photographs that were kept together in one split.
        decisions: those of `predictor.Model.decide`.
        enlarged: whether the photographs were stored smaller than they were, and enlarged again.
    """

    classes: tuple[str, str]
    paths: list[str]
    labels: np.ndarray
    groups: np.ndarray
    decisions: list[multi_scale.PhotoDecision]
    enlarged: bool

    @property
    def table(self) -> list[tuple[str, ...]]:
        """Rows of photographs.csv, with COLUMNS."""
        return [
            (
                path,
                self.classes[label],
                self.classes[decision.is_cracked],
                f"{decision.probability:.6f}",
                decision.decision,
            )
            for path, label, decision in zip(self.paths, self.labels.astype(int), self.decisions, strict=True)
        ]


def sample(count: int, limit: int, seed: int) -> np.ndarray:
    """int64 [at most `limit`]: indices of `count` photographs, drawn at random, in random order."""
    return np.random.default_rng(seed).permutation(count)[:limit]


def predict_photos(model: predictor.Model, dataset: Dataset, positions: Sequence[tuple[str, int]]) -> PhotoResults:
    """Decides about photographs of a dataset as crackflow.predict does.

    Args:
        model: the model.
        dataset: the dataset.
        positions: (split, row) of each record. Where they have more than MAX_PIXELS in all, the first of them are
            used, MIN_PHOTOS at least.

    Raises:
        UserError: a record is damaged.
    """
    rows = {split: RecordReader(dataset, split) for split in {split for split, _ in positions}}
    paths, labels, groups, decisions, num_pixels = [], [], [], [], 0
    with console.progress_bar(len(positions), "photographs") as advance:
        waiting, waiting_pixels = [], 0
        for split, row in positions:
            record = rows[split].fields(row)
            pixels = _pixels(dataset, record["image"], rows[split].name(row))
            num_pixels += pixels.shape[0] * pixels.shape[1]
            if num_pixels > MAX_PIXELS and len(paths) >= MIN_PHOTOS:
                break
            paths.append(record["path"].decode("utf-8", "surrogateescape"))
            labels.append(record["label"] == 1)
            groups.append(record["group"])
            waiting.append(model.checked(pixels))
            waiting_pixels += pixels.shape[0] * pixels.shape[1]
            if waiting_pixels >= HELD_PIXELS:
                decisions += model.decide(waiting)
                advance(len(waiting))
                waiting, waiting_pixels = [], 0
        decisions += model.decide(waiting)
        advance(len(waiting))
    return PhotoResults(
        dataset.classes, paths, np.array(labels, bool), np.array(groups), decisions, _is_smaller(dataset)
    )


def _is_smaller(dataset: Dataset) -> bool:
    return 0 < dataset.image_px < dataset.source_px


def _pixels(dataset: Dataset, data: bytes, name: str) -> np.ndarray:
    """uint8 [H, W, C]: a record, decoded as crackflow.predict decodes a file."""
    try:
        if dataset.metadata["encoding"] == "raw":
            pixels = np.frombuffer(data, np.uint8).reshape(
                dataset.image_px, dataset.image_px, dataset.metadata["channels"]
            )
        else:
            pixels = image_file.pixels(
                image_file.parse_photo(data, name, MAX_MEGAPIXELS, min_side_px=1), dataset.metadata["channels"], 0
            )
    except (ValueError, errors.ImageError) as error:
        raise UserError(f"{name}: {error}; convert the images again") from error
    return resize.resize_array(pixels, dataset.source_px) if _is_smaller(dataset) else pixels


def measure(results: PhotoResults, available: int) -> dict:
    """The metrics of photographs for metrics.json.

    Args:
        results: the decisions.
        available: the number of images that the photographs were drawn from.

    Returns:
        Rates with Wilson's 95 % intervals; None for a rate whose class has no photographs.
    """
    labels, called = results.labels, np.array([decision.is_cracked for decision in results.decisions], bool)
    decided = np.array([decision.decision for decision in results.decisions])
    hits, alarms = int((labels & called).sum()), int((~labels & called).sum())
    cracked, clean = int(labels.sum()), int((~labels).sum())
    rates = {
        "accuracy": (hits + clean - alarms, len(labels)),
        "precision": (hits, hits + alarms),
        "recall": (hits, cracked),
        "specificity": (clean - alarms, clean),
    }
    measured = {}
    for name, (part, whole) in rates.items():
        measured[name] = part / whole if whole else None
        measured[f"{name}_ci95"] = list(metrics.wilson(part, whole)) if whole else None
    kinds = (predictor.CRACKED, predictor.REVIEW, predictor.CLEAN)
    return measured | {
        "n": len(labels),
        "of": available,
        "confusion": {"tn": clean - alarms, "fp": alarms, "fn": cracked - hits, "tp": hits},
        "decisions": {
            name: {kind: int((decided[labels == truth] == kind).sum()) for kind in kinds}
            for name, truth in (("cracked", True), ("clean", False))
        },
        "enlarged": results.enlarged,
    }


def with_photo_threshold(
    loaded: TrainedModel,
    dataset: Dataset,
    labels: np.ndarray,
    probabilities: np.ndarray,
    seed: int,
    most: int = NUM_THRESHOLD_PHOTOS,
    walls: Sequence[int] = WALLS,
) -> TrainedModel:
    """Chooses the threshold of photographs on clean validation images.

    As many clean photographs as clean windows are called cracked, MIN_FALSE_ALARMS at least.

    Args:
        loaded: the model.
        dataset: its validation split is used.
        labels: int or bool [N] of all validation images, in the order of their rows.
        probabilities: float [N], 0..1, of the same images.
        seed: seed of the sample and of the walls.
        most: at most so many photographs are scored.
        walls: the size, in windows, of each wall that is composed of them.

    Returns:
        The model with the correction in its metadata.
    """
    clean = np.flatnonzero(~np.asarray(labels, bool))
    plain = dataclasses.replace(loaded.card, photo_shift=0.0, photo_level=0.0, photo_growth=0.0, photo_most=0.0)
    photo_threshold_fit, target = photo_threshold.UNKNOWN, MIN_FALSE_ALARMS
    if len(clean) >= photo_threshold.MIN_PHOTOS:
        target = max(float((np.asarray(probabilities)[clean] >= plain.threshold).mean()), target)
        positions = [("val", int(clean[number])) for number in sample(len(clean), most, seed)]
        scores = _scores(
            predictor.Model(dataclasses.replace(loaded, card=plain, familiarity=None)), dataset, positions, walls, seed
        )
        photo_threshold_fit = photo_threshold.choose(*scores, plain.threshold, target, seed)
    values = {
        f"photo_{name}": value for name, value in dataclasses.asdict(photo_threshold_fit).items() if name != "photos"
    }
    card = dataclasses.replace(plain, **values, photo_images=photo_threshold_fit.photos, photo_false_alarms=target)
    return dataclasses.replace(loaded, card=card)


def _scores(model: predictor.Model, dataset: Dataset, positions: Sequence, walls: Sequence[int], seed: int) -> tuple:
    """The arguments `small`, `groups`, `large` and `windows` of `photo_threshold.choose`.

    Where photographs are small, the large ones are parts of walls composed of them; there are none for a network that
    would take longer for these than to train.
    """
    results = predict_photos(model, dataset, positions)
    logits = special.logit([decision.probability for decision in results.decisions])
    windows = np.array([decision.windows for decision in results.decisions])
    large = windows >= WALL_WINDOWS
    if large.sum() >= photo_threshold.MIN_PHOTOS or (~large).sum() < photo_threshold.MIN_PHOTOS or model.is_slow:
        return logits[~large], results.groups[~large], logits[large], windows[large]
    model, shrink = _for_walls(model)
    rows = {split: RecordReader(dataset, split) for split, _ in positions}
    pictures = []
    for split, row in positions[: len(results.decisions)]:
        pixels = model.checked(_pixels(dataset, rows[split].fields(row)["image"], rows[split].name(row)))
        pictures.append(resize.scaled(pixels, *(max(round(side * shrink), 1) for side in pixels.shape[:2])))
    parts = [
        _wall_parts(model, pictures, count, np.random.default_rng((seed, number))) for number, count in enumerate(walls)
    ]
    return logits[~large], results.groups[~large], np.concatenate(parts), np.repeat(np.array(walls) / 4, 4)


def _for_walls(model: predictor.Model) -> tuple[predictor.Model, float]:
    """(a model for smaller photographs, the factor by which they are made smaller, at most 1).

    They become no larger than the finest scale needs: a wall of 36 photographs of 12 megapixels would take 20 GB.
    """
    finest = max(predictor.SCALES)
    if finest * model.card.scale >= 1:
        return model, 1.0
    card = dataclasses.replace(model.card, source_px=round(finest * model.card.image_px))
    return predictor.Model(dataclasses.replace(model.bundle, card=card)), finest * model.card.scale


def _wall_parts(
    model: predictor.Model, pictures: list[np.ndarray], count: int, random: np.random.Generator
) -> np.ndarray:
    """float64 [4]: the logit of the most probable place in each quarter of a wall of `count` windows."""
    side = round(math.sqrt(count) * model.card.image_px / model.card.scale)
    heat = model.heat(model.score(mosaics.lay(pictures, side, side, random)))
    halves = [half for rows in np.array_split(heat, 2) for half in np.array_split(rows, 2, axis=1)]
    return special.logit([float(quarter.max()) for quarter in halves])


def facts(card: ModelMetadata) -> dict:
    """What findings.json says of the threshold of photographs: max(shift, min(level + growth log windows, most))
    logits are taken off every place of one."""
    names = ("shift", "level", "growth", "most", "shift_ci95", "level_ci95", "images", "false_alarms")
    values = {name: getattr(card, f"photo_{name}") for name in names}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def in_words(card: ModelMetadata) -> str:
    """The same for a page: '0.66 [0.08, 1.50] logits above ...'."""
    low, high = card.photo_shift_ci95
    least = f"{card.shift_of(1):.2f} [{low:.2f}, {high:.2f}] logits above that of windows"
    return f"{least}, of {LARGE} windows {card.shift_of(LARGE):.2f}; by {card.photo_images} clean validation images"
