"""The folder of a run: what lies in it, whether it can be gone on with, and that nothing of the user's is lost.

Synopsis::

    with run_folder.open_run("runs/metu", identity, overwrite=False, resume=Resume.AUTO, team=team) as start:
        start.finished, start.snapshot       # a run that is done; or where to go on; or neither: an empty folder
    run_folder.save_flags("runs/metu", config)   # flags.cfg replays the run
"""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator

from crackflow.core import atomic, console, flags, locks, temporary_files
from crackflow.core.config.training import Resume, TrainConfig
from crackflow.core.distribution import Cluster
from crackflow.core.errors import UserError
from crackflow.training import checkpoint

FLAGS, HISTORY, METRICS, REPORT, TENSORBOARD = "flags.cfg", "history.csv", "metrics.json", "report.html", "tensorboard"
CHECKPOINTS, LOCK = "checkpoints", ".lock"
OWNED_FILES = (FLAGS, HISTORY, METRICS, REPORT, "model.h5")
# Flags that may differ between two parts of one run: they say where, on what and how carefully, not what is computed.
# The data set and the precision are compared as what they came to.
RESUMABLE_FLAGS = {
    "data",
    "run_dir",
    "overwrite",
    "resume",
    "checkpoint_minutes",
    "loss_limit",
    "rollbacks",
    "threads",
    "steps_per_execution",
    "input",
    "data_service",
    "strategy",
    "all_reduce",
    "cpu_devices",
    "precision",
    "xla",
}


@dataclasses.dataclass(frozen=True)
class ResumeState:
    """`finished`: a run of these flags is done; `snapshot`: where one stopped; `status`: what to tell the user."""

    finished: bool = False
    snapshot: checkpoint.Snapshot | None = None
    status: str = ""


def run_fingerprint(config: TrainConfig, fingerprint: str, precision: str) -> dict:
    """What two parts of one run have in common: flags that decide the weights, the data set, the precision."""
    return {"flags": flags.as_dict(config, RESUMABLE_FLAGS), "fingerprint": fingerprint, "precision": precision}


@contextlib.contextmanager
def open_run(run_dir: str, identity: dict, overwrite: bool, resume: Resume, team: Cluster) -> Iterator[ResumeState]:
    """`run_dir`, held for this process alone, and what lies in it; without a run to go on with it is empty.

    The chief of `team` looks and writes; the others read what it found. Raises: UserError when something else is there
    and may not be replaced, another process trains into it, the run in it was another one, or a worker sees another
    folder than the chief.
    """
    if not team.is_chief:
        team.gathered([0])  # the chief has prepared it
        start = _start(run_dir, identity)
        _require_one_folder(run_dir, start, team)
        yield start
        return
    if os.path.exists(run_dir) and not os.path.isdir(run_dir):
        raise UserError(f"--run_dir: expected a folder, received {run_dir!r}, which is a file; choose another name")
    _require_owned(run_dir, overwrite, resume)
    place = os.path.join(run_dir, CHECKPOINTS)
    os.makedirs(place, exist_ok=True)
    busy = f"--run_dir: another process trains into {run_dir!r}; choose another folder"
    with locks.exclusive(
        os.path.join(place, LOCK), busy, f"{run_dir!r} can't be locked; see that no other run uses it"
    ):
        for opened_folder in (run_dir, place):
            temporary_files.remove_leftovers(opened_folder)
        start = _prepared(run_dir, identity, overwrite)
        team.gathered([0])
        _require_one_folder(run_dir, start, team)
        yield start


def _require_one_folder(run_dir: str, start: ResumeState, team: Cluster) -> None:
    seen = team.gathered([start.snapshot.step if start.snapshot else -1, start.finished])
    if (seen != seen[0]).any():
        raise UserError(
            f"--run_dir: expected one folder that all workers share, received {run_dir!r}, where the chief finds step "
            f"{seen[0, 0]} and others {sorted(set(seen[1:, 0].tolist()))}; put it on shared storage"
        )


def _require_owned(run_dir: str, overwrite: bool, resume: Resume) -> None:
    if not os.path.isdir(run_dir):
        return
    place = os.path.join(run_dir, CHECKPOINTS)
    # What a run leaves that was killed before it wrote its flags.
    begun = all(map(_is_ours, os.listdir(place))) if os.path.isdir(place) else True
    if begun and all(name == CHECKPOINTS or temporary_files.is_temporary(name) for name in os.listdir(run_dir)):
        return
    told = f"--run_dir: {run_dir!r} exists and is not empty; choose another folder, or replace it with --overwrite"
    if os.path.exists(os.path.join(run_dir, FLAGS)):
        if not overwrite and resume is Resume.NEVER:
            raise UserError(told)
    elif overwrite:
        raise UserError(
            f"--overwrite: {run_dir!r} holds no {FLAGS}, so crackflow did not make it; choose another folder"
        )
    else:
        raise UserError(told)


def _prepared(run_dir: str, identity: dict, overwrite: bool) -> ResumeState:
    """What lies there; what can't be gone on with is removed first."""
    start = ResumeState() if overwrite else _start(run_dir, identity)
    if not start.snapshot:
        _clear(run_dir)
    return start


def _start(run_dir: str, identity: dict) -> ResumeState:
    if not os.path.exists(os.path.join(run_dir, FLAGS)):
        return ResumeState()
    found = checkpoint.latest(os.path.join(run_dir, CHECKPOINTS))
    for line in found.damaged:
        console.warning(f"a damaged checkpoint is passed over: {line}")
    finished = os.path.exists(os.path.join(run_dir, REPORT))
    if found.snapshot:
        _require_same_run(run_dir, identity, found.snapshot.facts["identity"])
        told = "a finished run of these flags" if finished else f"a run that stopped after step {found.snapshot.step}"
        return ResumeState(finished, found.snapshot, told)
    if found.damaged or finished:
        why = "only damaged checkpoints" if found.damaged else "a finished run without checkpoints"
        raise UserError(f"--resume: {run_dir!r} holds {why}; choose another folder, or replace it with --overwrite")
    return ResumeState(status="a run that had no checkpoint yet, begun anew")


def _require_same_run(run_dir: str, ours: dict, theirs: dict) -> None:
    """Raises: UserError that names the first thing in which the run that lies there was another."""
    way = "choose another --run_dir, or begin anew with --overwrite"
    if ours["fingerprint"] != theirs["fingerprint"]:
        raise UserError(
            f"--resume: the data set changed since the run in {run_dir!r} was started (fingerprint "
            f"{theirs['fingerprint'][:12]}, now {ours['fingerprint'][:12]}); {way}"
        )
    if ours["precision"] != theirs["precision"]:
        raise UserError(
            f"--resume: the run in {run_dir!r} was started in {theirs['precision']}, and this would be "
            f"{ours['precision']}; ask for --precision={theirs['precision']}, or {way}"
        )
    unknown = sorted(f"--{name}" for name in ours["flags"].keys() ^ theirs["flags"].keys())
    if unknown:
        raise UserError(
            f"--resume: the run in {run_dir!r} was started by another version of crackflow, which differs in "
            f"{', '.join(unknown)}; go on with that version, {way}"
        )
    for name, now in ours["flags"].items():
        was = theirs["flags"][name]
        if was != now:
            raise UserError(
                f"--resume: the run in {run_dir!r} was started with --{name}={was}, received --{name}={now}; repeat "
                f"its flags (--flagfile={os.path.join(run_dir, FLAGS)}), {way}"
            )


def _clear(run_dir: str) -> None:
    """Remove what a run writes, and nothing else that may lie there."""
    shutil.rmtree(os.path.join(run_dir, TENSORBOARD), ignore_errors=True)
    place = os.path.join(run_dir, CHECKPOINTS)
    written = [os.path.join(place, name) for name in os.listdir(place) if checkpoint.is_name(name)]
    for name in [os.path.join(run_dir, name) for name in OWNED_FILES] + written:
        if os.path.exists(name):
            os.remove(name)


def _is_ours(name: str) -> bool:
    """Whether a run writes a file of this name among its checkpoints."""
    return name == LOCK or checkpoint.is_name(name) or temporary_files.is_temporary(name)


def save_flags(run_dir: str, config: object) -> str:
    """flags.cfg, with absolute paths, so that `--flagfile` replays the run from anywhere; returns its text. Without
    --overwrite, by which the file would remove the very run that it is to go on with."""
    text = flags.as_flagfile(dataclasses.replace(config, overwrite=False))
    atomic.write_text(os.path.join(run_dir, FLAGS), text)
    return text
