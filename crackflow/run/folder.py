"""The folder of a training run: what lies in it, and that nothing of the user's is lost.

Synopsis::

    folder.prepare("runs/metu", overwrite=False)
    folder.save_flags("runs/metu", config)        # flags.cfg replays the run
"""

import json
import os
import shutil

from crackflow.core import atomic, flags
from crackflow.core.errors import UserError

FLAGS, HISTORY, METRICS, REPORT, TENSORBOARD = "flags.cfg", "history.csv", "metrics.json", "report.html", "tensorboard"
OURS = (FLAGS, HISTORY, METRICS, REPORT, "model.h5")


def prepare(run_dir: str, overwrite: bool) -> None:
    """An empty folder at `run_dir`. Raises: UserError when something is there already and may not be replaced."""
    if os.path.exists(run_dir) and not os.path.isdir(run_dir):
        raise UserError(f"--run_dir: expected a folder, received {run_dir!r}, which is a file; choose another name")
    if os.path.isdir(run_dir) and os.listdir(run_dir):
        if not overwrite:
            raise UserError(
                f"--run_dir: {run_dir!r} exists and is not empty; choose another folder, or replace it with --overwrite"
            )
        if not os.path.exists(os.path.join(run_dir, FLAGS)):
            raise UserError(f"--overwrite: {run_dir!r} holds no {FLAGS}, so crackflow did not make it; choose another")
        _clear(run_dir)
    os.makedirs(run_dir, exist_ok=True)


def _clear(run_dir: str) -> None:
    """Remove what a run writes, and nothing else that may lie there."""
    shutil.rmtree(os.path.join(run_dir, TENSORBOARD), ignore_errors=True)
    for name in OURS:
        if os.path.exists(os.path.join(run_dir, name)):
            os.remove(os.path.join(run_dir, name))


def save_flags(run_dir: str, config: object) -> str:
    """flags.cfg, with absolute paths, so that `--flagfile` replays the run from anywhere; returns its text."""
    text = flags.as_flagfile(config)
    atomic.write_text(os.path.join(run_dir, FLAGS), text)
    return text


def save_json(folder: str, name: str, content: dict) -> None:
    """`content` as JSON; NaN is refused, because other programs can't read it."""
    atomic.write_text(os.path.join(folder, name), json.dumps(content, indent=1, allow_nan=False) + "\n")
