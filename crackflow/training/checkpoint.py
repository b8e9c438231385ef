"""Snapshots of a run: all that its future depends on, each in one file that is whole or not there.

Synopsis::

    checkpoint.save("runs/metu/checkpoints", Snapshot(facts, arrays))     # step-000000500.npz; the last two stay
    found = checkpoint.latest("runs/metu/checkpoints")                    # Found(snapshot, damaged), snapshot or None

A file is NumPy's .npz: a zip of arrays, whose checksums are compared as they are read, and the facts as JSON.
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
# What reading a file of which some bytes are wrong or missing ends with.
DAMAGE = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
# NumPy reads the header of an array as Python's text, and takes the shape in it at its word.
DAMAGE += (SyntaxError, tokenize.TokenError, MemoryError, OverflowError, AttributeError)
METADATA = "facts"
_NAME = re.compile(r"step-(\d{9})\.npz")


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """`facts`: what JSON can hold, `step` among it: the steps that are done; `arrays`: by name, of any shape."""

    facts: dict
    arrays: dict[str, np.ndarray]

    @property
    def step(self) -> int:
        return self.facts["step"]


class CheckpointFiles(NamedTuple):
    """The newest sound snapshot, and a line for each newer one that is damaged."""

    snapshot: Snapshot | None
    damaged: list[str]


def save(folder: str, snapshot: Snapshot) -> None:
    """Write it and remove all but the last two. Those of later steps were passed over or gone back from, and go too.

    Raises: OSError, the others untouched, when the disk is full.
    """
    os.makedirs(folder, exist_ok=True)
    facts = np.frombuffer(json.dumps(snapshot.facts).encode(), np.uint8)
    with atomic.file(os.path.join(folder, f"step-{snapshot.step:09d}.npz")) as file:
        np.savez(file, **{METADATA: facts}, **snapshot.arrays)
    kept = [name for name in names(folder) if _step(name) <= snapshot.step][-MAX_KEPT:]
    for gone in set(names(folder)) - set(kept):
        with contextlib.suppress(OSError):
            os.remove(os.path.join(folder, gone))


def names(folder: str) -> list[str]:
    """The snapshots in `folder`, oldest first."""
    return sorted(name for name in os.listdir(folder) if _NAME.fullmatch(name)) if os.path.isdir(folder) else []


def is_name(name: str) -> bool:
    """Whether `save` writes files of this name."""
    return _NAME.fullmatch(name) is not None


def _step(name: str) -> int:
    return int(_NAME.fullmatch(name)[1])


def latest(folder: str, before: float = math.inf) -> CheckpointFiles:
    """The newest snapshot of which every byte is as it was written, of those taken before step `before`."""
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
    """All of a snapshot. Raises: one of `DAMAGE`."""
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:  # np.load leaves a bad file open
        if sum(one.file_size for one in stored.zip.infolist()) > os.fstat(file.fileno()).st_size:
            raise zipfile.BadZipFile("its arrays would be larger than the file")
        arrays = {name: stored[name] for name in stored.files}
    return Snapshot(json.loads(arrays.pop(METADATA).tobytes()), arrays)
