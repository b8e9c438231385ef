"""Snapshots of a run: all that its future depends on, each in one file that is written atomically.

Synopsis::

    checkpoint.save("runs/metu/checkpoints", Snapshot(metadata, arrays))     # step-000000500.npz; the last two stay
    files = checkpoint.latest("runs/metu/checkpoints")                    # CheckpointFiles(snapshot or None, damaged)

A file is NumPy's .npz: a zip of arrays, whose checksums are verified as they are read, and the metadata as JSON.
"""

import contextlib
import dataclasses
import json
import math
import os
import re
import tokenize
import zipfile
import zlib
from typing import NamedTuple

import numpy as np

from crackflow.core import atomic

MAX_KEPT = 2
# The exceptions that reading a file with wrong or missing bytes raises.
DAMAGE = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
# NumPy parses the header of an array as Python, and trusts the shape in it.
DAMAGE += (SyntaxError, tokenize.TokenError, MemoryError, OverflowError, AttributeError)
METADATA = "facts"
_NAME = re.compile(r"step-(\d{9})\.npz")


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The state of a run.

    Attributes:
      metadata: values that JSON can hold; `step` is the number of completed steps.
      arrays: by name, of any shape.
    """

    metadata: dict
    arrays: dict[str, np.ndarray]

    @property
    def step(self) -> int:
        return self.metadata["step"]


class CheckpointFiles(NamedTuple):
    """The newest intact snapshot, and a line for each newer one that is damaged."""

    snapshot: Snapshot | None
    damaged: list[str]


def save(folder: str, snapshot: Snapshot) -> None:
    """Writes a snapshot and removes all but the last two.

    Those of later steps were skipped as damaged or rolled back, and are removed too.

    Args:
      folder: the directory, created where it is missing.
      snapshot: what to write.

    Raises:
      OSError: the disk is full; the other snapshots are untouched.
    """
    os.makedirs(folder, exist_ok=True)
    metadata = np.frombuffer(json.dumps(snapshot.metadata).encode(), np.uint8)
    with atomic.file(os.path.join(folder, f"step-{snapshot.step:09d}.npz")) as file:
        np.savez(file, **{METADATA: metadata}, **snapshot.arrays)
    retained = [name for name in names(folder) if _step(name) <= snapshot.step][-MAX_KEPT:]
    for obsolete in set(names(folder)) - set(retained):
        with contextlib.suppress(OSError):
            os.remove(os.path.join(folder, obsolete))


def names(folder: str) -> list[str]:
    """Lists the file names of the snapshots in `folder`, oldest first."""
    return sorted(name for name in os.listdir(folder) if _NAME.fullmatch(name)) if os.path.isdir(folder) else []


def is_name(name: str) -> bool:
    """Returns whether `save` writes files of this name."""
    return _NAME.fullmatch(name) is not None


def _step(name: str) -> int:
    return int(_NAME.fullmatch(name)[1])


def latest(folder: str, before: float = math.inf) -> CheckpointFiles:
    """Loads the newest snapshot of which every byte is intact, of those before step `before`."""
    damaged = []
    for name in reversed(names(folder)):
        if _step(name) >= before:
            continue
        try:
            return CheckpointFiles(load(os.path.join(folder, name)), damaged)
        except DAMAGE as error:
            damaged.append(f"{name}: {error or type(error).__name__}")
    return CheckpointFiles(None, damaged)


def load(path: str) -> Snapshot:
    """Reads a whole snapshot.

    Raises:
      One of `DAMAGE`, when the file is damaged.
    """
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:  # np.load leaves a bad file open
        if sum(entry.file_size for entry in stored.zip.infolist()) > os.fstat(file.fileno()).st_size:
            raise zipfile.BadZipFile("its arrays would be larger than the file")
        arrays = {name: stored[name] for name in stored.files}
    return Snapshot(json.loads(arrays.pop(METADATA).tobytes()), arrays)
