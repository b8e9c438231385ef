"""The labelled windows that crackflow.adapt learns from: out of folders, and out of reviewed photographs.

Synopsis::

    labelled = labelled_windows.gather(config, model)
    labelled.windows.images, labelled.windows.labels      # uint8 [N, px, px, C], int [N]
"""

import dataclasses
import hashlib
import json
import os
import tempfile

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from crackflow.conversion import dataset_conversion, layouts
from crackflow.core import console, csv_files, temporary_files
from crackflow.core.config.adapt import AdaptConfig
from crackflow.core.config.data import ConvertConfig
from crackflow.core.config.trained import PredictConfig
from crackflow.core.errors import UserError
from crackflow.data import dataset as dataset_io
from crackflow.data import rejections, reviews
from crackflow.data.record_reader import RecordReader
from crackflow.evaluation.adaptation import Windows
from crackflow.inference import predictor, review_windows, suggested_windows
from crackflow.model.training_images import BYTES, TrainingImages
from crackflow.pipeline import tfrecord_loader

MAX_RATIO = 1.5  # of the windows' side to that of the model's, or the reverse, which is not worth a word


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledWindows:
    """Windows and where they come from.

    Attributes:
        windows: at the size of the network.
        fingerprint: SHA-256 of the images and their labels, in hexadecimal.
        seen: digests of the image files.
        photographs: of each window the SHA-256 of the photograph that it was cut from, in hexadecimal, or "".
    """

    windows: Windows
    fingerprint: str
    seen: TrainingImages | None
    photographs: list[str]


def require_listable(config: AdaptConfig) -> None:
    """Lists --images and reads --reviews, without the pictures: a wrong path is said before the model is loaded.

    Raises:
        UserError: a folder or a file is missing, or not what it should be.
    """
    if config.images:
        layouts.scan_layout(config.images, config.layout, config.positive_class, both_classes=False)
    for path in config.reviews:
        reviews.read(path)


def gather(config: AdaptConfig, model: predictor.Model) -> LabelledWindows:
    """Collects the windows of --images and of --reviews.

    Args:
        config: names the folder and the reviews.
        model: says how large windows are, and where in a reviewed box to look.

    Raises:
        UserError: images, reviews or photographs are unusable.
    """
    parts = []
    if config.images:
        parts.append(_of_folder(config, model))
    if config.reviews:
        parts.append(_of_reviews(config, model))
    return parts[0] if len(parts) == 1 else _join(*parts)


def without_scarce_class(labelled: LabelledWindows, least: int) -> LabelledWindows:
    """Leaves out the class with fewer than `least` windows where the other has as many, and says so.

    Whoever reviews findings does not choose how many windows of each class come of it: of 30 photographs of DeepCrack
    with a crack through nearly every place came 57 cracked windows and 1 clean one.
    """
    counts = labelled.windows.counts()
    scarce = int(np.argmin(counts))
    if max(counts) < least or not 0 < counts[scarce] < least:
        return labelled
    advice = ("tick photographs as looked through, or reject findings", "confirm findings, or mark cracks")[scarce]
    number = f"{counts[scarce]} {('clean', 'cracked')[scarce]} window{'' if counts[scarce] == 1 else 's'}"
    console.info(f"{number} left out: {least} are the least to learn from; for more of them {advice}")
    rows = np.flatnonzero(labelled.windows.labels != scarce)
    images, labels, groups, paths = dataclasses.astuple(labelled.windows)
    windows = Windows(images[rows], labels[rows], groups[rows], [paths[row] for row in rows])
    return dataclasses.replace(labelled, windows=windows, photographs=[labelled.photographs[row] for row in rows])


def _of_folder(config: AdaptConfig, model: predictor.Model) -> LabelledWindows:
    """Converts the folder to a dataset of one split: copies and windows of one photograph get one group."""
    card = model.card
    with temporary_files.scratch_folder(tempfile.gettempdir(), "crackflow-adapt") as scratch:
        settings = ConvertConfig(
            images=config.images,
            out=os.path.join(scratch, "data"),
            split=(1.0, 0.0, 0.0),
            layout=config.layout,
            positive_class=config.positive_class,
            patch_px=config.patch_px or card.source_px or card.image_px,
            min_crack_fraction=config.min_crack_fraction,
            workers=config.workers,
            seed=config.seed,
        )
        dataset_conversion.convert_images(settings, announce=False, both_classes=False)
        rejected = csv_files.read(os.path.join(settings.out, dataset_io.REJECTED))
        rejected = [(row["path"], row["reason"]) for row in rejected]
        dataset = dataset_io.load(settings.out)
        rows = range(dataset.count("train"))
        images = tfrecord_loader.read_rows(dataset, "train", rows, card.image_px, card.channels)
        reader = RecordReader(dataset, "train")
        fields = [reader.fields(row) for row in rows]
        seen = TrainingImages.of(dataset)
    if rejected:
        console.warning(f"{len(rejected):,} files are left out; {rejections.most_common(rejected)}")
    windows = Windows(
        images,
        np.array([record["label"] for record in fields], np.int64),
        np.array([record["group"] for record in fields], np.int64),
        [str(record["path"], "utf-8", "surrogateescape") for record in fields],
    )
    _note_size(dataset.source_px, card.source_px or card.image_px)
    suggested = _suggested_from(config.images)
    photographs = [suggested.get(os.path.basename(path), "") for path in windows.paths]
    windows = dataclasses.replace(windows, groups=_united(windows.groups, photographs))
    return LabelledWindows(windows, dataset.metadata["fingerprint"], seen, photographs)


def _note_size(source_px: int, expected_px: int) -> None:
    """Says so where windows are much larger or smaller than those in which the model looks at photographs."""
    ratio = source_px / expected_px
    if source_px and not 1 / MAX_RATIO <= ratio <= MAX_RATIO:
        console.info(
            f"note: these windows have {source_px} pixels a side, and the model looks at photographs in windows of "
            f"{expected_px}; it learns them at {1 / ratio:.2g} of their size, so give crackflow.predict "
            f"--scale={1 / ratio:.2g} as well"
        )


def _suggested_from(folder: str) -> dict[str, str]:
    """The SHA-256 of the photograph of each window that crackflow.predict --suggest cut to `folder`, by its name."""
    try:
        rows = csv_files.read(os.path.join(folder, suggested_windows.TABLE))
        return {os.path.basename(row["file"]): row["sha256"] for row in rows}
    except (OSError, KeyError, ValueError):  # a folder of the user's own, or a table that was edited
        return {}


def _of_reviews(config: AdaptConfig, model: predictor.Model) -> LabelledWindows:
    merged = reviews.merge([reviews.read(path) for path in config.reviews])
    if merged.conflicts:
        console.warning(f"--reviews: the files disagree about {merged.conflicts:,} boxes; the newest verdict counts")
    cut = review_windows.cut(merged.reviews, config.photos, model, PredictConfig.max_megapixels)
    if not len(cut.labels):
        raise UserError("--reviews: expected verdicts, or photographs that were looked through, received none")
    console.info(f"{len(cut.labels):,} windows of {len(cut.digests):,} reviewed photographs")
    described = json.dumps([cut.paths, cut.labels.tolist()]).encode() + cut.digests.tobytes()
    seen = TrainingImages(np.unique(cut.digests[:, :BYTES], axis=0), np.zeros((0, BYTES), np.uint8))
    windows = Windows(cut.images, cut.labels, cut.groups, cut.paths)
    photographs = [merged.reviews.photographs[number].sha256 for number in cut.groups]
    return LabelledWindows(windows, hashlib.sha256(described).hexdigest(), seen, photographs)


def _join(first: LabelledWindows, second: LabelledWindows) -> LabelledWindows:
    """Both; windows that are known to be of one photograph are of one group."""
    one, other = first.windows, second.windows
    photographs = [*first.photographs, *second.photographs]
    groups = np.concatenate([one.groups, other.groups + one.groups.max() + 1])
    windows = Windows(
        np.concatenate([one.images, other.images]),
        np.concatenate([one.labels, other.labels]),
        _united(groups, photographs),
        [*one.paths, *other.paths],
    )
    fingerprint = hashlib.sha256((first.fingerprint + second.fingerprint).encode()).hexdigest()
    seen = second.seen.and_earlier(first.seen) if second.seen else first.seen
    return LabelledWindows(windows, fingerprint, seen, photographs)


def _united(groups: np.ndarray, photographs: list[str]) -> np.ndarray:
    """int64 [N]: groups of which two that share a photograph are one. `groups`: int [N]; `photographs`: "" is none."""
    _, numbers = np.unique(groups, return_inverse=True)
    names = {name: len(numbers) + index for index, name in enumerate(sorted(set(photographs) - {""}))}
    pairs = [(number, names[name]) for number, name in zip(numbers, photographs, strict=True) if name]
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    size = len(numbers) + len(names)
    graph = sparse.coo_array((np.ones(len(rows), np.int8), (rows, columns)), (size, size))
    _, component = csgraph.connected_components(graph, directed=False)
    return component[numbers].astype(np.int64)
