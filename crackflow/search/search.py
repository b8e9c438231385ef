"""A search for a network: trials one after the other, alone or shared by workers, in a folder from which it goes on.

Synopsis::

    found = search.run_search(config, roles.role(os.environ))
    found.best, found.outcomes, found.nearest          # trial.TrialResult

out/search.json      flags and data set, which make it this search
out/oracle.json      what Keras Tuner knows
out/rehearsal.json   images/s of crackflow_s, of the smallest and of the largest network, on the machine that was first
out/trials/07/       flags.cfg, history.csv, result.json, tensorboard/, while it runs checkpoints/
out/trials.csv       one row a trial
out/best.cfg         flags with which crackflow.train trains the best one
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

from crackflow.core import atomic, checked_json, console, csv_files, errors, flags, listening, locks, temporary_files
from crackflow.core.config.search import TuneConfig
from crackflow.core.errors import RetryableError, UserError
from crackflow.data import dataset
from crackflow.pipeline import loader
from crackflow.search import oracle, roles, space, trial
from crackflow.search.roles import Role
from crackflow.training import run_folder

SEARCH, ORACLE, DRY_RUN, TRIALS, TABLE, BEST, PARETO, REPORT = (
    "search.json",
    "oracle.json",
    "rehearsal.json",
    "trials",
    "trials.csv",
    "best.cfg",
    "pareto.png",
    "report.html",
)
LOCK = ".lock"
# Flags that may differ between two parts of one search: they say where and on what, not what is searched.
RESUMABLE_FLAGS = {"data", "out", "overwrite", "max_trials", "threads", "xla", "strategy", "cpu_devices", "precision"}
RESUMABLE_FLAGS |= {"speed_seconds", "host"}
POLL_SECONDS = 0.5
COLUMNS = [field.name for field in dataclasses.fields(trial.TrialResult) if field.name != "chosen"]


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """`outcomes`: of every trial that has ended, in their order; `best`: None where none was within the limits;
    `nearest`: to them, then; `rehearsal`: images/s of the dry run."""

    outcomes: list[trial.TrialResult]
    best: trial.TrialResult | None
    nearest: trial.TrialResult | None
    rehearsal: trial.DryRun


def run_search(config: TuneConfig, who: Role) -> SearchResult | None:
    """The whole search, as whom this process takes part; None for a worker, to whom it is not told. Raises: UserError;
    TryAgain after a signal, or when the chief is gone."""
    listen = roles.listening_address(config, who) if who.is_chief else ""
    made = dataset.load(config.data)
    for split in loader.SPLITS:
        made.expect_images(split)
    named = identity(config, made.facts["fingerprint"])
    if who.address and not who.is_chief:
        # With --overwrite the chief is about to remove what lies there.
        if not config.overwrite and oracle.is_over(os.path.join(config.out, ORACLE), config.max_trials):
            console.info(f"the search in {config.out} has ended")
            return None
        with _signals_heard():
            remote = oracle.RemoteOracle(who.address, who.name)  # from here on, the chief has made the folder
            expect_same(config.out, named, _theirs(config.out))
            _work(remote, config, who, _rehearsed(config))
        return None
    with _opened(config, named):
        kept = oracle.create_oracle(config, os.path.join(config.out, ORACLE), shared=who.is_chief)
        with _signals_heard():
            if who.is_chief:
                _serve(kept, config, who, listen)
            else:
                rehearsal = _rehearsed(config)
                _warn(config, rehearsal)
                _work(kept, config, who, rehearsal)
        found = collected(config)
        if kept.has_failed() or not found.outcomes:
            raise UserError(_failed(found.outcomes))
        _tidy(config.out)
        return found


def identity(config: TuneConfig, fingerprint: str) -> dict:
    """What two parts of one search have in common."""
    return {"flags": flags.as_dict(config, RESUMABLE_FLAGS), "fingerprint": fingerprint}


@contextlib.contextmanager
def _opened(config: TuneConfig, named: dict) -> Iterator[None]:
    """The folder of the search, held for this process; empty, or with a search that can be gone on with."""
    out = config.out
    if os.path.exists(out) and not os.path.isdir(out):
        raise UserError(f"--out: expected a folder, received {out!r}, which is a file; choose another name")
    theirs = _stored(out)
    there = os.path.isdir(out) and [
        name for name in os.listdir(out) if name != LOCK and not temporary_files.is_temporary(name)
    ]
    if there and theirs is None:
        told = "--overwrite: it" if config.overwrite else f"--out: {out!r}"
        raise UserError(f"{told} holds no {SEARCH}, so crackflow.tune did not make it; choose another folder")
    os.makedirs(out, exist_ok=True)
    busy = f"--out: another process searches in {out!r}; choose another folder"
    unlocked = f"{out!r} can't be locked; see that no other search uses it"
    with locks.exclusive(os.path.join(out, LOCK), busy, unlocked):
        for opened_folder in (out, *_trial_folders(out)):
            temporary_files.remove_leftovers(opened_folder)
        if theirs is not None and config.overwrite:
            _clear(out)
        elif theirs is not None:
            expect_same(out, named, theirs)
        atomic.save_json(out, SEARCH, checked_json.add_checksum(named))
        yield


def _trial_folders(out: str) -> list[str]:
    """Those in which trials write, of all that there are."""
    trials = glob.glob(os.path.join(glob.escape(out), TRIALS, "*"))
    return trials + [os.path.join(place, run_folder.CHECKPOINTS) for place in trials]


def _clear(out: str) -> None:
    """Remove what a search writes, and nothing else: what best.cfg trains lies in best/ beside it."""
    shutil.rmtree(os.path.join(out, TRIALS), ignore_errors=True)
    for name in (SEARCH, ORACLE, DRY_RUN, TABLE, BEST, PARETO, REPORT):
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(out, name))


def _stored(out: str) -> dict | None:
    try:
        found = checked_json.read(os.path.join(out, SEARCH))
        return {"flags": dict(found["flags"]), "fingerprint": found["fingerprint"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def expect_same(out: str, ours: dict, theirs: dict) -> None:
    """Raises: UserError that names the first thing in which the search that lies there is another."""
    way = "choose another --out, or begin anew with --overwrite"
    if ours["fingerprint"] != theirs["fingerprint"]:
        raise UserError(f"--data: the search in {out!r} was begun on another data set; {way}")
    for name, value in ours["flags"].items():
        was = theirs["flags"].get(name)
        if was != value:
            raise UserError(f"--{name}: the search in {out!r} was begun with {was!r}, received {value!r}; {way}")


def _theirs(out: str) -> dict:
    """What the chief wrote. Raises: UserError where a worker sees another folder than its chief."""
    found = _stored(out)
    if found is None:
        raise UserError(
            f"--out: expected one folder that chief and workers share, received {out!r}, which holds no {SEARCH}; "
            "put it on shared storage"
        )
    return found


def _rehearsed(config: TuneConfig) -> trial.DryRun:
    """The dry run, by whoever comes first; the others wait. Raises: UserError, the traceback shown before."""
    place = os.path.join(config.out, DRY_RUN)
    with locks.open_file(os.path.join(config.out, f".{DRY_RUN}{LOCK}")) as lock:
        locks.lock_where_possible(lock)
        found = _read_rehearsal(place)
        if found is None:
            console.info("a dry run first: the smallest and the largest network of the space, a few steps each")
            with trial.process(trial.dry_run, config, place) as process:
                process.wait()
            found = _read_rehearsal(place)
            _expect_written(config, process.returncode)
            if found is None:
                raise UserError(
                    f"the dry run {ended(process.returncode)}; try --max_params, a smaller --image_px, or --hold for "
                    "what makes the networks large"
                )
            if found.error or found.mistake:
                os.remove(place)
    if found.error:
        console.error(found.error)
        line = found.error.strip().splitlines()[-1]
        raise UserError(f"the dry run failed, so every trial would: {line}; the traceback is above")
    if found.mistake:
        raise UserError(found.mistake)
    return found


def _read_rehearsal(place: str) -> trial.DryRun | None:
    try:
        found = checked_json.read(place)
        return trial.DryRun(**found | {"params": tuple(found["params"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _warn(config: TuneConfig, found: trial.DryRun) -> None:
    low, high = found.params
    console.info(
        f"networks of {low:,} to {high:,} parameters; images/s of the smallest {found.smallest:,.0f}, the largest "
        f"{found.largest:,.0f}, crackflow_s {found.reference:,.0f}"
    )
    if config.min_images_per_sec > found.smallest:
        console.warning(
            f"--min_images_per_sec={config.min_images_per_sec:,.0f} is more than the smallest network reaches"
        )
    if 0 < config.max_params < low:
        console.warning(f"--max_params={config.max_params:,} is fewer than the smallest network has")


def _work(
    shared: "oracle.PersistentOracle | oracle.RemoteOracle", config: TuneConfig, who: Role, rehearsal: trial.DryRun
) -> None:
    """Trial after trial, until there are no more."""
    while True:
        asked = shared.create_trial(who.name)
        if asked.status == oracle.Status.STOPPED:
            return
        if asked.status == oracle.Status.IDLE:
            time.sleep(POLL_SECONDS)
            continue
        task = _task(asked, config, who, rehearsal)
        found = _tried(task, shared, asked.trial_id)
        if found.score is not None:
            shared.update_trial(asked.trial_id, {oracle.SCORE: found.score})
        asked.status = oracle.Status.COMPLETED if found.score is not None else oracle.Status.FAILED
        asked.message = found.message
        shared.end_trial(asked)
        if not who.address:
            write_table(config)
        console.info(trial.describe_result(found))


def _task(asked: "oracle.Trial", config: TuneConfig, who: Role, rehearsal: trial.DryRun) -> trial.TrialSpec:
    values = asked.hyperparameters.values
    parent = values.get("tuner/trial_id", "")
    place = os.path.join(config.out, TRIALS, asked.trial_id)
    task = trial.TrialSpec(
        name=asked.trial_id,
        folder=place,
        chosen=space.declare(asked.hyperparameters, config),
        config=config,
        until=values.get("tuner/epochs", config.max_epochs),
        reference=rehearsal.reference,
        replicas=rehearsal.replicas,
        parent=os.path.join(config.out, TRIALS, parent) if parent else "",
        worker=who.name,
    )
    os.makedirs(place, exist_ok=True)
    best = os.path.join(config.out, "best")
    text = flags.as_flagfile(space.as_training(task.chosen, config, best, rehearsal.replicas))
    atomic.write_text(os.path.join(place, run_folder.FLAGS), text)
    return task


def _tried(
    task: trial.TrialSpec, shared: "oracle.PersistentOracle | oracle.RemoteOracle", name: str
) -> trial.TrialResult:
    """What the trial came to, in a process of its own; the chief hears from time to time that it runs."""
    found = trial.outcome(task)
    if found and found.status != trial.FAILED:
        return found
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(task.folder, trial.RESULT))  # of a failure, which is tried once more
    with trial.trial_lock(task.folder), trial.process(trial.run_trial, task) as process:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(oracle.BEAT_SECONDS)
            shared.get_trial(name)
    found = trial.outcome(task)
    _expect_written(task.config, process.returncode)
    if found is None:
        if process.returncode == errors.EXIT_TRY_AGAIN:
            raise KeyboardInterrupt  # somebody sent the signal to it alone
        found = trial.TrialResult(
            task.name, trial.FAILED, None, message=f"its process {ended(process.returncode)}", chosen=task.chosen
        )
        trial.save(task.folder, dataclasses.replace(found, worker=task.worker))
    return found


def _expect_written(config: TuneConfig, code: int | None) -> None:
    """Raises: UserError when a process could not write what it found: no fault of its trial, which is run again."""
    if code == errors.EXIT_USER_ERROR:
        raise UserError(
            f"{config.out!r} can't be written (is the disk full?); mend that, then the same command goes on"
        )


def ended(code: int | None) -> str:
    """An exit code in words."""
    if code is not None and code < 0:
        name = next((one.name for one in signal.Signals if one == -code), f"signal {-code}")
        return f"was ended by {name}" + (", as systems do when memory runs out" if name == "SIGKILL" else "")
    return f"ended with exit code {code} and no result"


def _serve(kept: oracle.PersistentOracle, config: TuneConfig, who: Role, listen: str) -> None:
    """Give trials to workers until all are done and all workers know."""
    with oracle.serve(kept, listen, lambda: write_table(config)) as service:
        console.info(f"chief of the search in {config.out}, at {who.address}; listens on {listen}")
        listening.warn_if_open("the chief", config.host, listen, roles.REACHED)
        silent_until = time.monotonic() + oracle.SILENT_SECONDS
        while not service.is_done():
            time.sleep(POLL_SECONDS)
            if time.monotonic() >= silent_until and service.is_alone():
                silent_until = math.inf
                console.info(
                    f"waiting for workers to ask {who.address} for trials (KERASTUNER_TUNER_ID={roles.CHIEF} makes "
                    "this process the chief, who runs none; unset KERASTUNER_ORACLE_IP to search alone)"
                )
            for name, lost in service.bury(time.monotonic()):
                left = f"; its trial {lost} is given to another" if lost else ""
                console.warning(f"worker {name!r} was not heard of for {oracle.LEASE_SECONDS:.0f} s{left}")


@contextlib.contextmanager
def _signals_heard() -> Iterator[None]:
    """Raises: TryAgain after Ctrl-C or SIGTERM, the running trial stopped at a checkpoint."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise RetryableError(
            "stopped by a signal; the same command goes on, with the trial that was running"
        ) from error


def collected(config: TuneConfig) -> SearchResult:
    """What the folder of the search holds."""
    place = os.path.join(config.out, TRIALS)
    names = sorted(os.listdir(place), key=lambda name: (len(name), name)) if os.path.isdir(place) else []
    outcomes = [one for name in names if (one := trial.read(os.path.join(place, name)))]
    inside = [one for one in outcomes if one.status == trial.COMPLETED]
    # What was trained for fewer epochs was not trained to the end of its schedule.
    whole = [one for one in inside if one.epochs == config.max_epochs] or inside
    outside = [one for one in outcomes if one.status == trial.INFEASIBLE]
    rehearsal = _read_rehearsal(os.path.join(config.out, DRY_RUN)) or trial.DryRun()
    return SearchResult(
        outcomes,
        max(whole, key=lambda one: one.score, default=None),
        max(outside, key=lambda one: one.score, default=None),
        rehearsal,
    )


def write_table(config: TuneConfig) -> None:
    """trials.csv, and best.cfg once there is a best one."""
    found = collected(config)
    rows = [
        [_cell(getattr(one, name)) for name in COLUMNS] + [one.chosen.get(name, "") for name in space.SPACE]
        for one in found.outcomes
    ]
    atomic.write_text(os.path.join(config.out, TABLE), csv_files.as_text([*COLUMNS, *space.SPACE], rows))
    if found.best:
        best = found.best
        text = flags.as_flagfile(
            space.as_training(best.chosen, config, os.path.join(config.out, "best"), found.rehearsal.replicas),
            f"The best of {len(found.outcomes)} trials of crackflow.tune: trial {best.trial}, accuracy "
            f"{best.accuracy:.4f} on validation images, {best.images_per_sec:,.0f} images/s, "
            f"{best.params:,} parameters.\n"
            f"  python -m crackflow.train --flagfile={os.path.join(config.out, BEST)}",
        )
        atomic.write_text(os.path.join(config.out, BEST), text)


def _cell(value: object) -> object:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value


def _failed(outcomes: list[trial.TrialResult]) -> str:
    failed = [one for one in outcomes if one.status == trial.FAILED]
    told = failed[-1].message if failed else "there is none"
    return (
        f"the last {oracle.FAILURES} trials failed, the last of them: {told}; mend that, or leave out what causes it "
        "with --hold, and give the same command again"
    )


def _tidy(out: str) -> None:
    """The checkpoints of an ended search are of no more use, and the largest of its files."""
    for name in os.listdir(os.path.join(out, TRIALS)):
        shutil.rmtree(os.path.join(out, TRIALS, name, run_folder.CHECKPOINTS), ignore_errors=True)
