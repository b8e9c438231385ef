"""Labelled windows out of reviewed photographs: what a person said of boxes becomes what crackflow.adapt learns from.

Synopsis::

    windows = review_windows.cut(merged.reviews, "site", model, max_megapixels=200)
    windows.images, windows.labels            # uint8 [N, px, px, C], int [N]; windows.groups: one per photograph

A window is as large as those that the model was trained on. Boxes may be larger: of a confirmed or drawn crack those
windows in the box are taken that the model finds most suspicious, because a box along a crack is mostly wall; of a
rejected finding likewise, because these are the false alarms. A photograph that was looked through gives clean windows
from everywhere else, but not where the model sees a crack of which nobody said that it is none. No clean window touches
a box that is a crack or unsure, and no cracked one lies on a smaller box that is not a crack.
"""

import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crackflow.core import errors
from crackflow.core.errors import UserError
from crackflow.data import image_file, resize
from crackflow.data.reviews import CRACK, DRAWN, NOT_A_CRACK, Box, PhotoReview, Reviews
from crackflow.inference import photo_files, predictor

MOST_PER_BOX = 4  # windows of one box
MOST_ELSEWHERE = 8  # windows of one photograph that was looked through
STEPS = 4  # candidates begin at every so many-th part of a window's side
MAX_OVERLAP = 0.2  # area that two windows of a photograph may share, as a fraction of one
EVIDENCE = 0.5  # of the suspicion of the most suspicious window in a box that is a crack, which others need
# Windows. A drawn box that is wider and higher is mostly wall, and the model has seen nothing in it: one window of it.
WIDE_BOX = 2


class ReviewWindows(NamedTuple):
    """Labelled windows.

    Attributes:
        images: uint8 [N, px, px, C], 0..255.
        labels: int [N], 1 means cracked.
        groups: int [N], equal for windows of one photograph.
        paths: photograph and box of each: 'IMG_1.jpg#xywh=0,0,227,227'.
        digests: uint8 [P, 32], the SHA-256 of each photograph that gave windows.
    """

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    paths: list[str]
    digests: np.ndarray


def cut(reviews: Reviews, folder: str, model: predictor.Model, max_megapixels: float) -> ReviewWindows:
    """Cuts windows from the photographs in `folder` that `reviews` is about.

    Args:
        reviews: with at least one photograph.
        folder: holds the photographs, which are known by their SHA-256, or a pattern.
        model: says where in a box to look, and how large a window is.
        max_megapixels: larger photographs are refused.

    Raises:
        UserError: a photograph is missing, unreadable or another one than was reviewed.
    """
    images, labels, groups, paths, digests = [], [], [], [], []
    files, known = [photo.file for photo in photo_files.list_photos(folder)[0]], {}
    for number, review in enumerate(reviews.photographs):
        pixels = _read(review, folder, files, known, model.card.channels, max_megapixels)
        side = min(round(model.card.image_px / model.card.scale), *pixels.shape[:2])
        suspicion = model.heat(model.score(pixels))
        windows = [(box, 1) for box in _cracked(review, suspicion, pixels.shape, side)]
        windows += [(box, 0) for box in _clean(review, suspicion, model.card.finding_threshold, pixels.shape, side)]
        for (x, y, width, height), label in windows:
            window = pixels[y : y + height, x : x + width]
            images.append(resize.resize_array(window, model.card.image_px))
            labels.append(label)
            groups.append(number)
            paths.append(f"{review.path}#xywh={x},{y},{width},{height}")
        if windows:
            digests.append(np.frombuffer(bytes.fromhex(review.sha256), np.uint8))
    px, channels = model.card.image_px, model.card.channels
    return ReviewWindows(
        np.stack(images) if images else np.zeros((0, px, px, channels), np.uint8),
        np.array(labels, np.int64),
        np.array(groups, np.int64),
        paths,
        np.stack(digests) if digests else np.zeros((0, 32), np.uint8),
    )


def _read(
    review: PhotoReview, folder: str, files: list[str], known: dict[str, str], channels: int, max_megapixels: float
) -> np.ndarray:
    """uint8 [H, W, C]: the photograph among `files`; `known` receives the SHA-256 of those that were looked at."""
    file = _find(review, files, known)
    if not file:
        raise UserError(
            f"--photos: expected the reviewed photograph {review.path!r} in {folder!r}, found none; name the folder "
            "that was given to crackflow.predict"
        )
    try:
        photo = photo_files.read(file, channels, max_megapixels)
    except errors.ImageError as error:
        raise UserError(f"--photos: {file!r}: {error}") from error
    if photo.sha256 != review.sha256:
        raise UserError(
            f"--photos: expected {review.path!r} as it was reviewed (SHA-256 {review.sha256[:12]}), received another "
            f"of that name ({photo.sha256[:12]}); its boxes would lie elsewhere"
        )
    return photo.pixels


def _find(review: PhotoReview, files: list[str], known: dict[str, str]) -> str:
    """The file that was reviewed, under whatever name; else one of its name; else ""."""
    name = os.path.basename(review.path)
    named = [file for file in files if os.path.basename(file) == name]
    for file in (*named, *files):
        if file not in known:
            try:
                with open(file, "rb") as opened:
                    known[file] = image_file.digest(opened.read()).hex()
            except OSError:  # a photograph that is not asked for may be unreadable
                known[file] = ""
        if known[file] == review.sha256:
            return file
    return named[0] if named else ""


def _cracked(review: PhotoReview, suspicion: np.ndarray, shape: Sequence[int], side: int) -> list[tuple[int, ...]]:
    chosen: list[tuple[int, ...]] = []
    others = [verdict.box for verdict in review.verdicts if verdict.verdict != CRACK]
    for verdict in review.verdicts:
        if verdict.verdict != CRACK:
            continue
        smaller = [box for box in others if box[2] * box[3] < verdict.box[2] * verdict.box[3]]
        windows = [
            window
            for window in _windows_of(verdict.box, shape, side)
            if not any(_overlap(window, box) > min(box[2] * box[3], side * side) / 2 for box in smaller)
        ]
        is_wide = verdict.source == DRAWN and min(verdict.box[2:]) > WIDE_BOX * side
        most = 1 if is_wide else MOST_PER_BOX
        chosen += _most_suspicious(windows, suspicion, shape, most, chosen, EVIDENCE)
    return chosen


def _clean(
    review: PhotoReview, suspicion: np.ndarray, lowest: float, shape: Sequence[int], side: int
) -> list[tuple[int, ...]]:
    doubtful = [verdict.box for verdict in review.verdicts if verdict.verdict != NOT_A_CRACK]
    chosen: list[tuple[int, ...]] = []

    def add(candidates: list[tuple[int, ...]], most: int) -> None:
        free = [window for window in candidates if not any(_overlap(window, box) for box in doubtful)]
        chosen.extend(_most_suspicious(free, suspicion, shape, most, chosen))

    for verdict in review.verdicts:
        if verdict.verdict == NOT_A_CRACK:
            add(_windows_of(verdict.box, shape, side), MOST_PER_BOX)
    if review.looked_through:
        everywhere = _windows_of((0.0, 0.0, float(shape[1]), float(shape[0])), shape, side)
        add([window for window in everywhere if _part(window, suspicion, shape).max() < lowest], MOST_ELSEWHERE)
    return chosen


def _part(window: Sequence[int], suspicion: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The part of `suspicion` [h, w] that lies in `window`; one value at least. `shape`: of the photograph."""
    ratio = suspicion.shape[0] / shape[0], suspicion.shape[1] / shape[1]
    x, y, width, height = window
    top, left = int(y * ratio[0]), int(x * ratio[1])
    bottom, right = math.ceil((y + height) * ratio[0]), math.ceil((x + width) * ratio[1])
    return suspicion[top : max(bottom, top + 1), left : max(right, left + 1)]


def _windows_of(box: Box, shape: Sequence[int], side: int) -> list[tuple[int, ...]]:
    """(x, y, width, height) of windows of `side` pixels whose middles lie in `box`; one in its middle at least."""
    starts = []
    for first, length, limit in ((box[0], box[2], shape[1]), (box[1], box[3], shape[0])):
        middle, reach = first + length / 2 - side / 2, max(length - side, 0) / 2
        step = max(side / STEPS, 1)
        count = math.floor(reach / step)
        positions = {middle + step * index for index in range(-count, count + 1)}
        starts.append(sorted({round(min(max(position, 0), limit - side)) for position in positions}))
    return [(x, y, side, side) for y in starts[1] for x in starts[0]]


def _most_suspicious(
    candidates: list[tuple[int, ...]],
    suspicion: np.ndarray,
    shape: Sequence[int],
    most: int,
    others: Sequence[tuple[int, ...]],
    evidence: float = 0.0,
) -> list[tuple[int, ...]]:
    """At most so many of `candidates`, the most suspicious first, which share little with each other or `others`.

    Args:
        candidates: windows.
        suspicion: float [h, w], of the whole photograph.
        shape: of the photograph: height, width, channels.
        most: at most so many.
        others: windows that were chosen before.
        evidence: only windows with so much of the suspicion of the most suspicious one, 0..1.
    """
    scored = sorted(
        ((float(_part(window, suspicion, shape).mean()), window) for window in candidates),
        key=lambda pair: pair[0],
        reverse=True,
    )
    chosen: list[tuple[int, ...]] = []
    for score, window in scored:
        if score < evidence * scored[0][0]:
            break
        area = window[2] * window[3]
        if all(_overlap(window, other) <= MAX_OVERLAP * area for other in (*others, *chosen)):
            chosen.append(window)
        if len(chosen) == most:
            break
    return chosen


def _overlap(window: Sequence[float], other: Sequence[float]) -> float:
    """The area that two boxes share, in square pixels."""
    sides = [
        min(window[axis] + window[axis + 2], other[axis] + other[axis + 2]) - max(window[axis], other[axis])
        for axis in (0, 1)
    ]
    return max(sides[0], 0.0) * max(sides[1], 0.0)
