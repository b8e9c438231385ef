"""A search for a network: trials in sequence, alone or shared by workers, in a folder from which it resumes.

Synopsis::

    result = search.run_search(config, roles.detect_role(os.environ))
    result.best, result.outcomes, result.nearest          # trial.TrialResult

out/search.json      flags and dataset, which identify the search
out/oracle.json      the state of Keras Tuner's oracle
out/rehearsal.json   images/s of crackflow_s, of the smallest and of the largest network, on the machine that was first
out/trials/07/       flags.cfg, history.csv, result.json, tensorboard/, while it runs checkpoints/
out/trials.csv       one row per trial
out/best.cfg         flags with which crackflow.train trains the best network
"""

import contextlib
import dataclasses
import glob
import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator

from crackflow.core import atomic, checked_json, console, csv_files, errors, flags, locks, temporary_files
from crackflow.core.config.search import TuneConfig
from crackflow.core.errors import RetryableError, UserError
from crackflow.core.server_address import warn_if_open
from crackflow.data import dataset as dataset_io
from crackflow.pipeline import loader
from crackflow.search import oracle, roles, space, trial
from crackflow.search.roles import Role
from crackflow.training import run_folder

SEARCH, ORACLE, DRY_RUN, TRIALS = "search.json", "oracle.json", "rehearsal.json", "trials"
TABLE, BEST, PARETO, REPORT = "trials.csv", "best.cfg", "pareto.png", "report.html"
LOCK = ".lock"
# Flags that may differ when a search is resumed: they say where and on what it runs, not what is searched.
RESUMABLE_FLAGS = {"data", "out", "overwrite", "max_trials", "threads", "xla", "strategy", "cpu_devices", "precision"}
RESUMABLE_FLAGS |= {"speed_seconds", "host"}
POLL_SECONDS = 0.5
COLUMNS = [field.name for field in dataclasses.fields(trial.TrialResult) if field.name != "chosen"]
AnyOracle = oracle.PersistentOracle | oracle.RemoteOracle


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """The results of a search.

    Attributes:
        outcomes: Of every trial that has ended, in order.
        best: The best trial; None when none was within the limits.
        nearest: Of the trials outside the limits, the one nearest to them; None when there is none.
        rehearsal: The dry run, with its images/s.
    """

    outcomes: list[trial.TrialResult]
    best: trial.TrialResult | None
    nearest: trial.TrialResult | None
    rehearsal: trial.DryRun


def run_search(config: TuneConfig, role: Role) -> SearchResult | None:
    """Runs the whole search, or this process's part in it.

    Args:
        config: Of the search.
        role: Of this process.

    Returns:
        The results; None for a worker, which does not know them.

    Raises:
        UserError: The flags, the folder or the dataset is wrong, or too many trials failed.
        RetryableError: A signal stopped it, or the chief is gone.
    """
    listen = roles.listening_address(config, role) if role.is_chief else ""
    dataset = dataset_io.load(config.data)
    for split in loader.SPLITS:
        dataset.require_images(split)
    search_identity = identity(config, dataset.metadata["fingerprint"])
    if role.address and not role.is_chief:
        # With --overwrite the chief is about to remove the search that is there.
        if not config.overwrite and oracle.is_over(os.path.join(config.out, ORACLE), config.max_trials):
            console.info(f"the search in {config.out} has ended")
            return None
        with _translate_interrupts():
            remote = oracle.RemoteOracle(role.address, role.name)  # once it answers, the chief has created the folder
            require_same_search(config.out, search_identity, _read_chief_identity(config.out))
            _run_trials(remote, config, role, _load_or_run_dry_run(config))
        return None
    with _opened(config, search_identity):
        search_oracle = oracle.create_oracle(config, os.path.join(config.out, ORACLE), shared=role.is_chief)
        with _translate_interrupts():
            if role.is_chief:
                _serve(search_oracle, config, role, listen)
            else:
                dry_run = _load_or_run_dry_run(config)
                _report_dry_run(config, dry_run)
                _run_trials(search_oracle, config, role, dry_run)
        result = collect_results(config)
        if search_oracle.has_failed() or not result.outcomes:
            raise UserError(_describe_failures(result.outcomes))
        _remove_checkpoints(config.out)
        return result


def identity(config: TuneConfig, fingerprint: str) -> dict:
    """What identifies a search: when it is resumed, its flags and the fingerprint of its dataset must be the same."""
    return {"flags": flags.as_dict(config, RESUMABLE_FLAGS), "fingerprint": fingerprint}


@contextlib.contextmanager
def _opened(config: TuneConfig, search_identity: dict) -> Iterator[None]:
    """Locks the folder of the search for this process; it is empty, or has a search that can be resumed."""
    out = config.out
    if os.path.exists(out) and not os.path.isdir(out):
        raise UserError(f"--out: expected a folder, received {out!r}, which is a file; choose another name")
    stored = _stored(out)
    existing = os.path.isdir(out) and [
        name for name in os.listdir(out) if name != LOCK and not temporary_files.is_temporary(name)
    ]
    if existing and stored is None:
        subject = "--overwrite: it" if config.overwrite else f"--out: {out!r}"
        raise UserError(f"{subject} holds no {SEARCH}, so crackflow.tune did not make it; choose another folder")
    os.makedirs(out, exist_ok=True)
    busy_message = f"--out: another process searches in {out!r}; choose another folder"
    unlocked_message = f"{out!r} can't be locked; see that no other search uses it"
    with locks.exclusive(os.path.join(out, LOCK), busy_message, unlocked_message):
        for folder in (out, *_trial_folders(out)):
            temporary_files.remove_leftovers(folder)
        if stored is not None and config.overwrite:
            _remove_search_files(out)
        elif stored is not None:
            require_same_search(out, search_identity, stored)
        atomic.save_json(out, SEARCH, checked_json.add_checksum(search_identity))
        yield


def _trial_folders(out: str) -> list[str]:
    """All folders in which trials write."""
    trials = glob.glob(os.path.join(glob.escape(out), TRIALS, "*"))
    return trials + [os.path.join(folder, run_folder.CHECKPOINTS) for folder in trials]


def _remove_search_files(out: str) -> None:
    """Removes what a search writes, and nothing else: the run that best.cfg trains is in best/ beside it."""
    shutil.rmtree(os.path.join(out, TRIALS), ignore_errors=True)
    for name in (SEARCH, ORACLE, DRY_RUN, TABLE, BEST, PARETO, REPORT):
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(out, name))


def _stored(out: str) -> dict | None:
    try:
        content = checked_json.read(os.path.join(out, SEARCH))
        return {"flags": dict(content["flags"]), "fingerprint": content["fingerprint"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def require_same_search(out: str, expected: dict, stored: dict) -> None:
    """Raises a UserError that names the first difference between the `expected` identity and that `stored` in `out`."""
    hint = "choose another --out, or begin anew with --overwrite"
    if expected["fingerprint"] != stored["fingerprint"]:
        raise UserError(f"--data: the search in {out!r} was begun on another dataset; {hint}")
    for name, value in expected["flags"].items():
        before = stored["flags"].get(name)
        if before != value:
            raise UserError(f"--{name}: the search in {out!r} was begun with {before!r}, received {value!r}; {hint}")


def _read_chief_identity(out: str) -> dict:
    """The identity that the chief wrote. Raises: UserError when a worker sees another folder than its chief."""
    stored = _stored(out)
    if stored is None:
        raise UserError(
            f"--out: expected one folder that chief and workers share, received {out!r}, which holds no {SEARCH}; "
            "put it on shared storage"
        )
    return stored


def _load_or_run_dry_run(config: TuneConfig) -> trial.DryRun:
    """The dry run, which the first process runs while others wait. Raises: UserError, after it shows the traceback."""
    path = os.path.join(config.out, DRY_RUN)
    with locks.open_file(os.path.join(config.out, f".{DRY_RUN}{LOCK}")) as lock:
        locks.lock_where_possible(lock)
        result = _read_dry_run(path)
        if result is None:
            console.info("a dry run first: the smallest and the largest network of the space, a few steps each")
            with trial.process(trial.dry_run, config, path) as process:
                process.wait()
            result = _read_dry_run(path)
            _require_writable(config, process.returncode)
            if result is None:
                raise UserError(
                    f"the dry run {describe_exit(process.returncode)}; try --max_params, a smaller --image_px, or "
                    "--hold for what makes the networks large"
                )
            if result.error or result.mistake:
                os.remove(path)
    if result.error:
        console.error(result.error)
        line = result.error.strip().splitlines()[-1]
        raise UserError(f"the dry run failed, so every trial would: {line}; the traceback is above")
    if result.mistake:
        raise UserError(result.mistake)
    return result


def _read_dry_run(path: str) -> trial.DryRun | None:
    try:
        content = checked_json.read(path)
        return trial.DryRun(**content | {"params": tuple(content["params"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _report_dry_run(config: TuneConfig, dry_run: trial.DryRun) -> None:
    low, high = dry_run.params
    console.info(
        f"networks of {low:,} to {high:,} parameters; images/s of the smallest {dry_run.smallest:,.0f}, the largest "
        f"{dry_run.largest:,.0f}, crackflow_s {dry_run.reference:,.0f}"
    )
    if config.min_images_per_sec > dry_run.smallest:
        console.warning(
            f"--min_images_per_sec={config.min_images_per_sec:,.0f} is more than the smallest network reaches"
        )
    if 0 < config.max_params < low:
        console.warning(f"--max_params={config.max_params:,} is fewer than the smallest network has")


def _run_trials(search_oracle: AnyOracle, config: TuneConfig, role: Role, dry_run: trial.DryRun) -> None:
    """Runs trials until there are no more."""
    while True:
        tuner_trial = search_oracle.create_trial(role.name)
        if tuner_trial.status == oracle.Status.STOPPED:
            return
        if tuner_trial.status == oracle.Status.IDLE:
            time.sleep(POLL_SECONDS)
            continue
        spec = _prepare_trial(tuner_trial, config, role, dry_run)
        result = _run_trial(spec, search_oracle, tuner_trial.trial_id)
        if result.score is not None:
            search_oracle.update_trial(tuner_trial.trial_id, {oracle.SCORE: result.score})
        tuner_trial.status = oracle.Status.COMPLETED if result.score is not None else oracle.Status.FAILED
        tuner_trial.message = result.message
        search_oracle.end_trial(tuner_trial)
        if not role.address:
            write_table(config)
        console.info(trial.describe_result(result))


def _prepare_trial(tuner_trial: oracle.Trial, config: TuneConfig, role: Role, dry_run: trial.DryRun) -> trial.TrialSpec:
    """Creates the folder of a trial, with its flags."""
    values = tuner_trial.hyperparameters.values
    parent = values.get("tuner/trial_id", "")
    folder = os.path.join(config.out, TRIALS, tuner_trial.trial_id)
    spec = trial.TrialSpec(
        name=tuner_trial.trial_id,
        folder=folder,
        hyperparameters=space.declare(tuner_trial.hyperparameters, config),
        config=config,
        max_epochs=values.get("tuner/epochs", config.max_epochs),
        reference=dry_run.reference,
        replicas=dry_run.replicas,
        parent=os.path.join(config.out, TRIALS, parent) if parent else "",
        worker=role.name,
    )
    os.makedirs(folder, exist_ok=True)
    best = os.path.join(config.out, "best")
    text = flags.as_flagfile(space.as_training(spec.hyperparameters, config, best, dry_run.replicas))
    atomic.write_text(os.path.join(folder, run_folder.FLAGS), text)
    return spec


def _run_trial(spec: trial.TrialSpec, search_oracle: AnyOracle, trial_id: str) -> trial.TrialResult:
    """Runs a trial in a process of its own, with heartbeats to the oracle, and returns its result."""
    result = trial.outcome(spec)
    if result and result.status != trial.FAILED:
        return result
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(spec.folder, trial.RESULT))  # a failed trial is run once more
    with trial.trial_lock(spec.folder), trial.process(trial.run_trial, spec) as process:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(oracle.BEAT_SECONDS)
            search_oracle.get_trial(trial_id)
    result = trial.outcome(spec)
    _require_writable(spec.config, process.returncode)
    if result is None:
        if process.returncode == errors.EXIT_TRY_AGAIN:
            raise KeyboardInterrupt  # the signal was sent to that process alone
        message = f"its process {describe_exit(process.returncode)}"
        result = trial.TrialResult(spec.name, trial.FAILED, None, message=message, chosen=spec.hyperparameters)
        trial.save(spec.folder, dataclasses.replace(result, worker=spec.worker))
    return result


def _require_writable(config: TuneConfig, code: int | None) -> None:
    """Raises: UserError when a process could not write its result: no fault of the trial, which is run again."""
    if code == errors.EXIT_USER_ERROR:
        raise UserError(
            f"{config.out!r} can't be written (is the disk full?); mend that, then the same command resumes"
        )


def describe_exit(code: int | None) -> str:
    """An exit code in words."""
    if code is not None and code < 0:
        name = next((member.name for member in signal.Signals if member == -code), f"signal {-code}")
        return f"was ended by {name}" + (", as systems do when memory runs out" if name == "SIGKILL" else "")
    return f"ended with exit code {code} and no result"


def _serve(search_oracle: oracle.PersistentOracle, config: TuneConfig, role: Role, listen: str) -> None:
    """Serves trials to workers until all are done and all workers know."""
    with oracle.serve(search_oracle, listen, lambda: write_table(config)) as service:
        console.info(f"chief of the search in {config.out}, at {role.address}; listens on {listen}")
        warn_if_open("the chief", config.host, listen, roles.REACHED)
        silent_until = time.monotonic() + oracle.SILENT_SECONDS
        while not service.is_done():
            time.sleep(POLL_SECONDS)
            if time.monotonic() >= silent_until and service.is_alone():
                silent_until = math.inf
                console.info(
                    f"waiting for workers to ask {role.address} for trials (KERASTUNER_TUNER_ID={roles.CHIEF} makes "
                    "this process the chief, who runs none; unset KERASTUNER_ORACLE_IP to search alone)"
                )
            for name, lost in service.evict_dead_workers(time.monotonic()):
                left = f"; its trial {lost} is given to another" if lost else ""
                console.warning(f"worker {name!r} was not heard of for {oracle.LEASE_SECONDS:.0f} s{left}")


@contextlib.contextmanager
def _translate_interrupts() -> Iterator[None]:
    """Raises: RetryableError after Ctrl-C or SIGTERM; the running trial has stopped at a checkpoint."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise RetryableError(
            "stopped by a signal; the same command resumes, with the trial that was running"
        ) from error


def collect_results(config: TuneConfig) -> SearchResult:
    """The results in the folder of a search."""
    folder = os.path.join(config.out, TRIALS)
    names = sorted(os.listdir(folder), key=lambda name: (len(name), name)) if os.path.isdir(folder) else []
    outcomes = [outcome for name in names if (outcome := trial.read(os.path.join(folder, name)))]
    completed = [outcome for outcome in outcomes if outcome.status == trial.COMPLETED]
    # A trial of fewer epochs was not trained to the end of its schedule.
    fully_trained = [outcome for outcome in completed if outcome.epochs == config.max_epochs] or completed
    infeasible = [outcome for outcome in outcomes if outcome.status == trial.INFEASIBLE]
    dry_run = _read_dry_run(os.path.join(config.out, DRY_RUN)) or trial.DryRun()
    best = max(fully_trained, key=lambda outcome: outcome.score, default=None)
    nearest = max(infeasible, key=lambda outcome: outcome.score, default=None)
    return SearchResult(outcomes, best, nearest, dry_run)


def write_table(config: TuneConfig) -> None:
    """Writes trials.csv, and best.cfg once there is a best trial."""
    result = collect_results(config)
    rows = [
        [_format_cell(getattr(outcome, name)) for name in COLUMNS]
        + [outcome.chosen.get(name, "") for name in space.SPACE]
        for outcome in result.outcomes
    ]
    atomic.write_text(os.path.join(config.out, TABLE), csv_files.as_text([*COLUMNS, *space.SPACE], rows))
    if best := result.best:
        text = flags.as_flagfile(
            space.as_training(best.chosen, config, os.path.join(config.out, "best"), result.rehearsal.replicas),
            f"The best of {len(result.outcomes)} trials of crackflow.tune: trial {best.trial}, accuracy "
            f"{best.accuracy:.4f} on validation images, {best.images_per_sec:,.0f} images/s, "
            f"{best.params:,} parameters.\n"
            f"  python -m crackflow.train --flagfile={os.path.join(config.out, BEST)}",
        )
        atomic.write_text(os.path.join(config.out, BEST), text)


def _format_cell(value: object) -> object:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value


def _describe_failures(outcomes: list[trial.TrialResult]) -> str:
    failed = [outcome for outcome in outcomes if outcome.status == trial.FAILED]
    message = failed[-1].message if failed else "there is none"
    return (
        f"the last {oracle.FAILURES} trials failed, the last of them: {message}; mend that, or leave out what causes "
        "it with --hold, and give the same command again"
    )


def _remove_checkpoints(out: str) -> None:
    """Removes the checkpoints of an ended search: they have no more use, and are the largest of its files."""
    for name in os.listdir(os.path.join(out, TRIALS)):
        shutil.rmtree(os.path.join(out, TRIALS, name, run_folder.CHECKPOINTS), ignore_errors=True)
