"""The folder suggested/ of `crackflow.predict`: windows of the photographs for a person to sort into two classes.

Synopsis::

    pool = suggested_windows.CandidatePool()
    pool.add(source, suggestions.candidates(...))                 # of each photograph, in the order of findings.json
    windows = pool.select(count=40, threshold=0.5)
    skipped = suggested_windows.write("findings", windows, channels=3, max_megapixels=200)

suggested/unlabelled/*.png   the windows, cut from the photographs' own pixels without loss
suggested/cracked/, clean/   empty: whoever labels a window moves it there
suggested/suggested.csv      where each window lies, in the order in which they were chosen

A window is called by the number of its photograph, which is that of its overlay, by its name and by the position:
`crackflow.convert` knows by such names which windows are of one photograph, and keeps them in one split.
"""

import itertools
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crackflow.core import console, csv_files, errors
from crackflow.data import overlays
from crackflow.inference import photo_files, suggestions
from crackflow.inference.suggestions import Candidate

FOLDER, TABLE, UNLABELLED, LABELS = "suggested", "suggested.csv", "unlabelled", ("cracked", "clean")
# Not what lies in the folders of the labels: a person sorted it, and --overwrite may not remove that.
OWNED_FILES = (f"{FOLDER}/{TABLE}", f"{FOLDER}/{UNLABELLED}/*.png")
COLUMNS = ("file", "path", "sha256", "x", "y", "width", "height", "probability", "reason")
MAX_STEM = 60  # characters of a photograph's name


class PhotoSource(NamedTuple):
    """A photograph: its file, its name in tables, the SHA-256 of the file in hexadecimal."""

    file: str
    path: str
    sha256: str


class SuggestedWindow(NamedTuple):
    """A window to label, and why. `number`: of its photograph and overlay, from 1."""

    number: int
    source: PhotoSource
    window: Candidate
    reason: str

    @property
    def name(self) -> str:
        """Of its file: letters, digits, and marks that every file system allows."""
        stem = os.path.splitext(os.path.basename(self.source.path))[0]
        stem = re.sub(r"[^A-Za-z0-9.-]+", "_", stem)[:MAX_STEM].strip("_.- ") or "photo"
        return f"{self.number:06d}_{stem}_x{self.window.x}_y{self.window.y}.png"


class CandidatePool:
    """The candidates of all photographs: 6 KB at most of each photograph, without pixels."""

    def __init__(self) -> None:
        self._sources: list[PhotoSource] = []
        self._numbers: list[np.ndarray] = []  # int32 [k], of the photograph; the others are of its k candidates
        self._boxes: list[np.ndarray] = []
        self._probabilities: list[np.ndarray] = []
        self._features: list[np.ndarray] = []

    def add(self, source: PhotoSource, candidates: Sequence[Candidate]) -> None:
        """Adds the next photograph with its candidates; those beyond suggestions.MAX_CANDIDATES are left out."""
        self._sources.append(source)
        windows = candidates[: suggestions.MAX_CANDIDATES]
        if windows:
            self._numbers.append(np.full(len(windows), len(self._sources), np.int32))
            self._boxes.append(np.array([window.box for window in windows], np.int32))
            self._probabilities.append(np.array([window.probability for window in windows], np.float64))
            self._features.append(np.array([window.features for window in windows], np.float32))

    def select(self, count: int, threshold: float) -> list[SuggestedWindow]:
        """Chooses at most `count` windows, as `suggestions.select`."""
        if not self._numbers:
            return []
        parts = (self._numbers, self._boxes, self._probabilities, self._features)
        numbers, boxes, probabilities, features = (np.concatenate(part) for part in parts)
        windows = []
        for index, reason in suggestions.select(numbers, boxes, probabilities, features, count, threshold):
            window = Candidate(*boxes[index].tolist(), float(probabilities[index]), tuple(features[index].tolist()))
            number = int(numbers[index])
            windows.append(SuggestedWindow(number, self._sources[number - 1], window, reason))
        return windows


def write(out: str, windows: Sequence[SuggestedWindow], channels: int, max_megapixels: float) -> list[tuple[str, str]]:
    """Writes the folder. Each photograph is read once more, and one at a time is in memory.

    Args:
        out: the folder that FOLDER is made in.
        windows: the windows to write.
        channels: of the model, 1 or 3.
        max_megapixels: upper limit of a photograph's size.

    Returns:
        (path, reason) of photographs whose windows could not be cut, because they have changed since.
    """
    folder, skipped, lost = os.path.join(out, FOLDER), [], set()
    for name in (UNLABELLED, *LABELS):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    by_photograph = itertools.groupby(sorted(windows, key=lambda window: window.number), lambda window: window.number)
    with console.progress_bar(len(windows), "cutting windows") as advance:
        for number, group in by_photograph:
            own = list(group)
            advance(len(own))
            reason = _cut(own, os.path.join(folder, UNLABELLED), channels, max_megapixels)
            if reason:
                skipped.append((own[0].source.path, reason))
                lost.add(number)
    rows = [
        (
            f"{UNLABELLED}/{item.name}",
            item.source.path,
            item.source.sha256,
            *item.window.box,
            f"{item.window.probability:.6f}",
            item.reason,
        )
        for item in windows
        if item.number not in lost
    ]
    csv_files.save(os.path.join(folder, TABLE), COLUMNS, rows)
    return skipped


def _cut(windows: Sequence[SuggestedWindow], folder: str, channels: int, max_megapixels: float) -> str:
    """Writes the windows of one photograph; returns why that is impossible, or ""."""
    source = windows[0].source
    try:
        photo = photo_files.read(source.file, channels, max_megapixels)
    except errors.ImageError as error:
        return str(error)
    if photo.sha256 != source.sha256:
        return "it has changed since it was scored"
    for item in windows:
        x, y, width, height = item.window.box
        with open(os.path.join(folder, item.name), "wb") as file:
            file.write(overlays.as_png(photo.pixels[y : y + height, x : x + width]))
    return ""
