"""What crackflow.predict decides about the photographs of a data set: measured, and its threshold chosen.

Synopsis::

    judged = photo_evaluation.predict_photos(model, dataset, [("test", 0), ("test", 7)])      # a predictor.Model; split
    and row judged.table                                                  # rows of photographs.csv
    photo_evaluation.measure(judged, 1000)["specificity"]         # 0.97; of 1,000 photographs that there are loaded =
    photo_evaluation.with_photo_threshold(loaded, dataset, labels, probabilities, seed=0)   # a model_file.TrainedModel

A window is scored once, at the size of training; a photograph at every place and at several scales, and its most
probable place decides. So both are measured. The records of a data set are looked at as they are stored; where they
were stored smaller than the photographs, they are first made as large again.
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

# Photographs by which the threshold is chosen, at most: by 150 clean ones the share of false alarms is known to two or
# three in a hundred.
NUM_THRESHOLD_PHOTOS = 150
# Walls that are laid of them, to see how the most probable place grows with the size: the windows that each would make.
# They take as long as the photographs, where these are METU's. A photograph of that many windows is large itself.
WALL_WINDOWS = 36
WALLS = (WALL_WINDOWS,) * 12
# A few hundred photographs can't tell fewer false alarms than this, and each step nearer to none costs cracks: from
# 0.05 to 0.02 the shipped model's threshold for 12 megapixels rises by 0.9 logits, a sixth of what METU's cracks have.
MIN_FALSE_ALARMS = 0.03
# Of photographs that are looked at for an evaluation, in all: two minutes on 2 cores.
MAX_PIXELS, MIN_PHOTOS = 200_000_000, 12
HELD_PIXELS = 2_000_000  # of them, or of one, that are read before the network looks at those of one size together
MAX_MEGAPIXELS = 10_000.0  # convert has refused what it was told to refuse
LARGE = 700  # windows in a photograph of 12 megapixels, in the words of a page
COLUMNS = ("path", "truth", "label", "probability", "decision")


class PhotoResults(NamedTuple):
    """Photographs of a data set and what is decided about each. labels: bool [N], True is cracked; groups: [N];
    verdicts: of predictor.Model.judge; enlarged: whether they were stored smaller than they were."""

    classes: tuple[str, str]
    paths: list[str]
    labels: np.ndarray
    groups: np.ndarray
    verdicts: list[multi_scale.PhotoDecision]
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
            for path, label, decision in zip(self.paths, self.labels.astype(int), self.verdicts, strict=True)
        ]


def sample(count: int, limit: int, seed: int) -> np.ndarray:
    """int64 [at most `limit`]: which of `count` photographs are looked at, drawn at random, in random order."""
    return np.random.default_rng(seed).permutation(count)[:limit]


def predict_photos(model: predictor.Model, dataset: Dataset, positions: Sequence[tuple[str, int]]) -> PhotoResults:
    """What predict decides about the records `positions` of `dataset`: (split, row) each; of the first of them where
    they have more than MAX_PIXELS, though MIN_PHOTOS at least. Raises: UserError for a damaged one."""
    rows = {split: RecordReader(dataset, split) for split in {split for split, _ in positions}}
    paths, labels, groups, verdicts, looked_at = [], [], [], [], 0
    with console.progress_bar(len(positions), "photographs") as advance:
        waiting, waiting_pixels = [], 0
        for split, row in positions:
            record = rows[split].fields(row)
            pixels = _pixels(dataset, record["image"], rows[split].name(row))
            looked_at += pixels.shape[0] * pixels.shape[1]
            if looked_at > MAX_PIXELS and len(paths) >= MIN_PHOTOS:
                break
            paths.append(record["path"].decode("utf-8", "surrogateescape"))
            labels.append(record["label"] == 1)
            groups.append(record["group"])
            waiting.append(model.checked(pixels))
            waiting_pixels += pixels.shape[0] * pixels.shape[1]
            if waiting_pixels >= HELD_PIXELS:
                verdicts += model.judge_all(waiting)
                advance(len(waiting))
                waiting, waiting_pixels = [], 0
        verdicts += model.judge_all(waiting)
        advance(len(waiting))
    return PhotoResults(
        dataset.classes, paths, np.array(labels, bool), np.array(groups), verdicts, _is_smaller(dataset)
    )


def _is_smaller(dataset: Dataset) -> bool:
    return 0 < dataset.image_px < dataset.source_px


def _pixels(dataset: Dataset, data: bytes, name: str) -> np.ndarray:
    """uint8 [H, W, C]: a record, decoded as crackflow.predict decodes a file."""
    try:
        if dataset.facts["encoding"] == "raw":
            pixels = np.frombuffer(data, np.uint8).reshape(
                dataset.image_px, dataset.image_px, dataset.facts["channels"]
            )
        else:
            pixels = image_file.pixels(
                image_file.parse_photo(data, name, MAX_MEGAPIXELS, min_side_px=1), dataset.facts["channels"], 0
            )
    except (ValueError, errors.ImageError) as error:
        raise UserError(f"{name}: {error}; convert the images again") from error
    return resize.resize_array(pixels, dataset.source_px) if _is_smaller(dataset) else pixels


def measure(judged: PhotoResults, available: int) -> dict:
    """What metrics.json says of photographs. `available`: of how many they were drawn. A rate without photographs of
    its class is None; the intervals are Wilson's, 95 %."""
    labels, called = judged.labels, np.array([decision.is_cracked for decision in judged.verdicts], bool)
    decided = np.array([decision.decision for decision in judged.verdicts])
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
        "enlarged": judged.enlarged,
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
    """`loaded` with the threshold of photographs, chosen on clean validation images of `dataset`: as many of them are
    called cracked as of its windows, or MIN_FALSE_ALARMS. labels: int or bool [N], probabilities: float [N] of all
    validation images, in the order of their rows. At most `most` of them are looked at; `walls`: how many windows each
    wall that is laid of them would make."""
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
    """(small, groups, large, windows) as photo_threshold.choose takes them. Where photographs are small, the large ones
    are parts of walls that are laid of them; none for a network that would take longer for these than to train."""
    judged = predict_photos(model, dataset, positions)
    logits = special.logit([decision.probability for decision in judged.verdicts])
    windows = np.array([decision.windows for decision in judged.verdicts])
    large = windows >= WALL_WINDOWS
    if large.sum() >= photo_threshold.MIN_PHOTOS or (~large).sum() < photo_threshold.MIN_PHOTOS or model.is_slow:
        return logits[~large], judged.groups[~large], logits[large], windows[large]
    model, shrink = _for_walls(model)
    rows = {split: RecordReader(dataset, split) for split, _ in positions}
    pictures = []
    for split, row in positions[: len(judged.verdicts)]:
        pixels = model.checked(_pixels(dataset, rows[split].fields(row)["image"], rows[split].name(row)))
        pictures.append(resize.scaled(pixels, *(max(round(side * shrink), 1) for side in pixels.shape[:2])))
    parts = [
        _wall_parts(model, pictures, count, np.random.default_rng((seed, number))) for number, count in enumerate(walls)
    ]
    return logits[~large], judged.groups[~large], np.concatenate(parts), np.repeat(np.array(walls) / 4, 4)


def _for_walls(model: predictor.Model) -> tuple[predictor.Model, float]:
    """(`model` for photographs made so many times as large, that number, 1 at most): no larger than the finest of its
    scales shows. A wall of 36 photographs of 12 megapixels as they are takes 20 GB."""
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
    heat = model.heat(model.glance(mosaics.lay(pictures, side, side, random)))
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
