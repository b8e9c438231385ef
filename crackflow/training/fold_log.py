"""What a cross-validation has computed so far, so that one that was stopped or killed resumes.

Synopsis::

    log = fold_log.FoldLog("runs/wall", identity)               # runs/wall/unfinished/fold-0.json, ...
    logits = log.recall(0, compute)                             # from the file, or computed and written

Files of another identity (other windows, flags, another model) or that are damaged are computed anew.
"""

import json
import os
from collections.abc import Callable

import numpy as np

from crackflow.core import atomic, checked_json

FOLDER = "unfinished"
FILES = f"{FOLDER}/fold-*.json"  # not what other commands keep in such a folder


class FoldLog:
    """Reads and writes the logits of each fold.

    Args:
      out: the output folder; it may not exist.
      identity: what the logits depend on, as text.
    """

    def __init__(self, out: str, identity: str) -> None:
        self._folder, self._identity = os.path.join(os.path.realpath(out), FOLDER), identity
        self.recalled = 0

    def recall(self, number: int, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns the logits of fold `number`, float64 [N]: those in its file, else those that `compute` returns."""
        path = os.path.join(self._folder, f"fold-{number}.json")
        logits = self._read(path)
        if logits is not None:
            self.recalled += 1
            return logits
        logits = np.asarray(compute(), np.float64)
        os.makedirs(self._folder, exist_ok=True)
        content = checked_json.add_checksum({"identity": self._identity, "logits": logits.tolist()})
        atomic.write_text(path, json.dumps(content) + "\n")
        return logits

    def _read(self, path: str) -> np.ndarray | None:
        try:
            content = checked_json.read(path)
            if content["identity"] != self._identity:
                return None
            return np.array(content["logits"], np.float64)
        except (OSError, ValueError, KeyError, TypeError):  # not there, damaged, or of something else
            return None
