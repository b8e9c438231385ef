"""The directory of a run: what it holds, whether the run can be resumed, and protection of the user's own files.

Synopsis::

    with run_folder.open_run("runs/metu", identity, overwrite=False, resume=Resume.AUTO, cluster=cluster) as start:
        start.finished, start.snapshot           # a finished run; or where to resume; or neither: an empty directory
    run_folder.save_flags("runs/metu", config)   # flags.cfg replays the run
"""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator

from crackflow.core import atomic, console, flags, json_schema, locks, temporary_files
from crackflow.core.config.training import Resume, TrainConfig
from crackflow.core.distribution import Cluster
from crackflow.core.errors import UserError
from crackflow.training import checkpoint, experiment_logs

FLAGS, HISTORY, REPORT, TENSORBOARD = "flags.cfg", "history.csv", "report.html", "tensorboard"
METRICS = json_schema.METRICS
CHECKPOINTS, LOCK = "checkpoints", ".lock"
OWNED_FILES = (FLAGS, HISTORY, METRICS, REPORT, "model.h5", experiment_logs.IDS)
# Flags that may differ between two parts of one run: they say where, on what and how carefully, not what is computed.
# The dataset and the precision are compared by their resolved values.
RESUMABLE_FLAGS = {
    "data",
    "run_dir",
    "overwrite",
    "resume",
    "checkpoint_minutes",
    "log_to",
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
    """What a run directory holds.

    Attributes:
      finished: whether a run of these flags is complete.
      snapshot: where one stopped, or None.
      status: the message for the user.
    """

    finished: bool = False
    snapshot: checkpoint.Snapshot | None = None
    status: str = ""


def run_fingerprint(config: TrainConfig, fingerprint: str, precision: str) -> dict:
    """Returns what all parts of a run have in common: flags that determine the weights, the dataset, the precision."""
    return {"flags": flags.as_dict(config, RESUMABLE_FLAGS), "fingerprint": fingerprint, "precision": precision}


@contextlib.contextmanager
def open_run(run_dir: str, identity: dict, overwrite: bool, resume: Resume, cluster: Cluster) -> Iterator[ResumeState]:
    """Locks `run_dir` for this process and yields what it holds; without a run to resume it is empty.

    The chief of `cluster` prepares and writes it; the other workers read it then.

    Args:
      run_dir: the directory, created where it is missing.
      identity: the fingerprint of the run.
      overwrite: whether to replace the run in it.
      resume: whether an unfinished run may be resumed.
      cluster: the devices.

    Yields:
      The state of the run.

    Raises:
      UserError: it holds something else that may not be replaced, another process trains into it, the run in it was
        another one, or a worker sees another directory than the chief.
    """
    if not cluster.is_chief:
        cluster.all_gather([0])  # the chief has prepared it
        start = _read_state(run_dir, identity)
        _require_one_folder(run_dir, start, cluster)
        yield start
        return
    if os.path.exists(run_dir) and not os.path.isdir(run_dir):
        raise UserError(f"--run_dir: expected a folder, received {run_dir!r}, which is a file; choose another name")
    _require_owned(run_dir, overwrite, resume)
    checkpoint_dir = os.path.join(run_dir, CHECKPOINTS)
    os.makedirs(checkpoint_dir, exist_ok=True)
    busy_message = f"--run_dir: another process trains into {run_dir!r}; choose another folder"
    with locks.exclusive(
        os.path.join(checkpoint_dir, LOCK), busy_message, f"{run_dir!r} can't be locked; see that no other run uses it"
    ):
        for folder in (run_dir, checkpoint_dir):
            temporary_files.remove_leftovers(folder)
        start = _prepare(run_dir, identity, overwrite)
        cluster.all_gather([0])
        _require_one_folder(run_dir, start, cluster)
        yield start


def _require_one_folder(run_dir: str, start: ResumeState, cluster: Cluster) -> None:
    states = cluster.all_gather([start.snapshot.step if start.snapshot else -1, start.finished])
    if (states != states[0]).any():
        raise UserError(
            f"--run_dir: expected one folder that all workers share, received {run_dir!r}, where the chief finds step "
            f"{states[0, 0]} and others {sorted(set(states[1:, 0].tolist()))}; put it on shared storage"
        )


def _require_owned(run_dir: str, overwrite: bool, resume: Resume) -> None:
    if not os.path.isdir(run_dir):
        return
    checkpoint_dir = os.path.join(run_dir, CHECKPOINTS)
    # A run that was killed before it wrote its flags leaves only these.
    only_checkpoints = (
        all(map(_is_checkpoint_file, os.listdir(checkpoint_dir))) if os.path.isdir(checkpoint_dir) else True
    )
    if only_checkpoints and all(
        name == CHECKPOINTS or temporary_files.is_temporary(name) for name in os.listdir(run_dir)
    ):
        return
    message = f"--run_dir: {run_dir!r} exists and is not empty; choose another folder, or replace it with --overwrite"
    if os.path.exists(os.path.join(run_dir, FLAGS)):
        if not overwrite and resume is Resume.NEVER:
            raise UserError(message)
    elif overwrite:
        raise UserError(
            f"--overwrite: {run_dir!r} holds no {FLAGS}, so crackflow did not make it; choose another folder"
        )
    else:
        raise UserError(message)


def _prepare(run_dir: str, identity: dict, overwrite: bool) -> ResumeState:
    """Reads the state; a run that can't be resumed is removed first."""
    start = ResumeState() if overwrite else _read_state(run_dir, identity)
    if not start.snapshot:
        _remove_run_files(run_dir)
    return start


def _read_state(run_dir: str, identity: dict) -> ResumeState:
    if not os.path.exists(os.path.join(run_dir, FLAGS)):
        return ResumeState()
    files = checkpoint.latest(os.path.join(run_dir, CHECKPOINTS))
    for line in files.damaged:
        console.warning(f"a damaged checkpoint is passed over: {line}")
    finished = os.path.exists(os.path.join(run_dir, REPORT))
    if files.snapshot:
        _require_same_run(run_dir, identity, files.snapshot.metadata["identity"])
        status = "a finished run of these flags" if finished else f"a run that stopped after step {files.snapshot.step}"
        return ResumeState(finished, files.snapshot, status)
    if files.damaged or finished:
        reason = "only damaged checkpoints" if files.damaged else "a finished run without checkpoints"
        raise UserError(f"--resume: {run_dir!r} holds {reason}; choose another folder, or replace it with --overwrite")
    return ResumeState(status="a run that had no checkpoint yet, begun anew")


def _require_same_run(run_dir: str, current: dict, stored: dict) -> None:
    """Raises: UserError that names the first difference between this run and the one in the directory."""
    hint = "choose another --run_dir, or begin anew with --overwrite"
    if current["fingerprint"] != stored["fingerprint"]:
        raise UserError(
            f"--resume: the dataset changed since the run in {run_dir!r} was started (fingerprint "
            f"{stored['fingerprint'][:12]}, now {current['fingerprint'][:12]}); {hint}"
        )
    if current["precision"] != stored["precision"]:
        raise UserError(
            f"--resume: the run in {run_dir!r} was started in {stored['precision']}, and this would be "
            f"{current['precision']}; ask for --precision={stored['precision']}, or {hint}"
        )
    unknown = sorted(f"--{name}" for name in current["flags"].keys() ^ stored["flags"].keys())
    if unknown:
        raise UserError(
            f"--resume: the run in {run_dir!r} was started by another version of crackflow, which differs in "
            f"{', '.join(unknown)}; go on with that version, {hint}"
        )
    for name, value in current["flags"].items():
        stored_value = stored["flags"][name]
        if stored_value != value:
            raise UserError(
                f"--resume: the run in {run_dir!r} was started with --{name}={stored_value}, received "
                f"--{name}={value}; repeat its flags (--flagfile={os.path.join(run_dir, FLAGS)}), {hint}"
            )


def _remove_run_files(run_dir: str) -> None:
    """Removes the files that a run writes, and nothing else."""
    shutil.rmtree(os.path.join(run_dir, TENSORBOARD), ignore_errors=True)
    checkpoint_dir = os.path.join(run_dir, CHECKPOINTS)
    checkpoints = [
        os.path.join(checkpoint_dir, name) for name in os.listdir(checkpoint_dir) if checkpoint.is_name(name)
    ]
    for name in [os.path.join(run_dir, name) for name in OWNED_FILES] + checkpoints:
        if os.path.exists(name):
            os.remove(name)


def _is_checkpoint_file(name: str) -> bool:
    """Returns whether a run writes a file of this name among its checkpoints."""
    return name == LOCK or checkpoint.is_name(name) or temporary_files.is_temporary(name)


def save_flags(run_dir: str, config: object) -> str:
    """Writes flags.cfg, with absolute paths, so that `--flagfile` replays the run from anywhere.

    It leaves out --overwrite, with which the file would remove the very run that it is to resume.

    Returns:
      The text of the file.
    """
    text = flags.as_flagfile(dataclasses.replace(config, overwrite=False))
    atomic.write_text(os.path.join(run_dir, FLAGS), text)
    return text


def read_metrics(run_dir: str) -> dict:
    """Reads the metrics.json of a finished run. Raises: UserError if it is missing or no JSON."""
    path = os.path.join(run_dir, METRICS)
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: expected the metrics of a finished run, received a file that is missing or no JSON; "
            "crackflow.evaluate measures the model again"
        ) from error
