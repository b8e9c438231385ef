import dataclasses
import fcntl
import json
import os

import numpy as np
import pytest

from crackflow.core import atomic, distribution, flags, temporary_files
from crackflow.core.config.hardware import Precision, Strategy
from crackflow.core.config.network import Network
from crackflow.core.config.training import Optimization, Resume, Safety, TrainConfig
from crackflow.core.errors import UserError
from crackflow.core.runtime import AutoChoice
from crackflow.training import checkpoint, run_folder
from tests.helpers import support

ALONE = distribution.Cluster(None, AutoChoice("one", ""))


def identity(**changes):
    config = TrainConfig(data="d", run_dir="r", **changes)
    return run_folder.run_fingerprint(config, "f" * 64, "float32")


def open_run(path, overwrite=False, resume=Resume.AUTO, fingerprint=None):
    with run_folder.open_run(str(path), fingerprint or identity(), overwrite, resume, ALONE) as start:
        return start


def stopped_run(path, step=7, **changes):
    """The run directory that a killed run leaves."""
    path.mkdir(exist_ok=True)
    run_folder.save_flags(str(path), TrainConfig(data="d", run_dir="r", **changes))
    facts = {"step": step, "identity": identity(**changes)}
    checkpoint.save(str(path / "checkpoints"), checkpoint.Snapshot(facts, {"x": np.arange(3)}))
    return path


def test_a_new_folder_is_made(tmp_path):
    start = open_run(tmp_path / "a" / "b")
    assert start == run_folder.ResumeState() and os.listdir(tmp_path / "a" / "b") == ["checkpoints"]


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "thesis.doc").write_text("mine")
    with pytest.raises(UserError, match="exists and is not empty; choose another folder, or replace it"):
        open_run(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.doc"]


def test_overwrite_refuses_a_folder_that_crackflow_did_not_make(tmp_path):
    (tmp_path / "thesis.doc").write_text("mine")
    with pytest.raises(UserError, match="holds no flags.cfg, so crackflow did not make it"):
        open_run(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.doc").read_text() == "mine"


def test_overwrite_removes_what_a_run_writes_and_nothing_else(tmp_path):
    stopped_run(tmp_path)
    for name in ("model.h5", "thesis.doc"):
        (tmp_path / name).write_text("x")
    assert open_run(tmp_path, overwrite=True) == run_folder.ResumeState()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "thesis.doc"]
    assert checkpoint.names(str(tmp_path / "checkpoints")) == []


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["best.pt", "step-1.npz", "fold1/"])
def test_checkpoints_of_another_program_are_neither_a_run_nor_removed(tmp_path, name, overwrite):
    checkpoint_dir = tmp_path / "run" / "checkpoints"
    checkpoint_dir.mkdir(parents=True)
    (checkpoint_dir / name).mkdir() if name.endswith("/") else (checkpoint_dir / name).write_text("someone's")
    with pytest.raises(UserError, match=r"exists and is not empty; choose another|so crackflow did not make it"):
        open_run(tmp_path / "run", overwrite=overwrite)
    assert os.listdir(checkpoint_dir) == [name.strip("/")]


def test_what_a_run_that_was_killed_at_once_left_is_no_reason_to_refuse(tmp_path):
    checkpoint_dir = tmp_path / "run" / "checkpoints"
    checkpoint_dir.mkdir(parents=True)
    for name in (".lock", "step-000000000.npz", support.dead_name("step-000000005.npz")):
        (checkpoint_dir / name).write_text("")
    open_run(tmp_path / "run")
    assert os.listdir(checkpoint_dir) == [".lock"]


def test_the_flags_of_a_run_do_not_ask_for_its_own_removal(tmp_path):
    text = run_folder.save_flags(str(tmp_path), TrainConfig(data="d", run_dir="r", overwrite=True))
    assert "--overwrite=false" in text and "--run_dir=r" in text


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(UserError, match="which is a file; choose another name"):
        open_run(tmp_path / "run")


def test_a_run_that_stopped_is_found(tmp_path):
    start = open_run(stopped_run(tmp_path))
    assert start.snapshot.step == 7 and not start.finished
    assert start.status == "a run that stopped after step 7"


def test_without_resume_a_run_that_stopped_is_in_the_way(tmp_path):
    stopped_run(tmp_path)
    with pytest.raises(UserError, match="exists and is not empty"):
        open_run(tmp_path, resume=Resume.NEVER)
    assert open_run(tmp_path, overwrite=True, resume=Resume.NEVER) == run_folder.ResumeState()


def test_a_finished_run_is_found(tmp_path):
    (stopped_run(tmp_path) / "report.html").write_text("x")
    start = open_run(tmp_path)
    assert start.finished and start.status == "a finished run of these flags"


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path):
    run_folder.save_flags(str(tmp_path), TrainConfig(data="d", run_dir="r"))
    start = open_run(tmp_path)
    assert start.snapshot is None and start.status == "a run that had no checkpoint yet, begun anew"
    assert os.listdir(tmp_path) == ["checkpoints"]


def test_the_first_flag_that_differs_is_named(tmp_path):
    stopped_run(tmp_path, epochs=3)
    with pytest.raises(UserError, match=r"was started with --epochs=3, received --epochs=4; repeat its flags"):
        open_run(tmp_path, fingerprint=identity(epochs=4))


def test_another_network_is_named(tmp_path):
    stopped_run(tmp_path)
    with pytest.raises(UserError, match="was started with --model=crackflow_s, received --model=crackflow_m"):
        open_run(tmp_path, fingerprint=identity(model=Network.CRACKFLOW_M))


def test_nested_settings_decide_as_well(tmp_path):
    stopped_run(tmp_path)
    with pytest.raises(UserError, match="was started with --ema=0.0, received --ema=0.9"):
        open_run(tmp_path, fingerprint=identity(optimization=Optimization(ema=0.9)))


def test_a_run_of_a_version_with_other_flags_is_refused_by_that_name(tmp_path):
    current = identity()
    stored = current | {
        "flags": {name: value for name, value in current["flags"].items() if name != "ema"} | {"gone": "1"}
    }
    stopped_run(tmp_path)
    facts = {"step": 8, "identity": stored}
    checkpoint.save(str(tmp_path / "checkpoints"), checkpoint.Snapshot(facts, {"x": np.arange(3)}))
    with pytest.raises(UserError, match="started by another version of crackflow, which differs in --ema, --gone; go"):
        open_run(tmp_path, fingerprint=current)


def test_a_changed_data_set_is_refused(tmp_path):
    stopped_run(tmp_path)
    fingerprint = run_folder.run_fingerprint(TrainConfig(data="d", run_dir="r"), "a" * 64, "float32")
    with pytest.raises(UserError, match=r"dataset changed .*\(fingerprint ffffffffffff, now aaaaaaaaaaaa\); choose"):
        open_run(tmp_path, fingerprint=fingerprint)


def test_another_precision_is_refused(tmp_path):
    stopped_run(tmp_path)
    fingerprint = run_folder.run_fingerprint(TrainConfig(data="d", run_dir="r"), "f" * 64, "mixed_bfloat16")
    with pytest.raises(
        UserError, match="started in float32, and this would be mixed_bfloat16; ask for --precision=flo"
    ):
        open_run(tmp_path, fingerprint=fingerprint)


@pytest.mark.parametrize(
    "change",
    [
        {"data": "moved"},
        {"run_dir": "moved"},
        {"overwrite": True},
        {"threads": 3},
        {"steps_per_execution": 5},
        {"strategy": Strategy.ONE},
        {"cpu_devices": 2},
        {"precision": Precision.FLOAT32},
        {"safety": Safety(checkpoint_minutes=3, rollbacks=0, loss_limit=5, resume=Resume.NEVER)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_flags_that_do_not_decide_the_weights_may_change(change):
    config = TrainConfig(data="d", run_dir="r")
    assert run_folder.run_fingerprint(dataclasses.replace(config, **change), "f" * 64, "float32") == identity()


def test_damaged_checkpoints_are_told_and_the_older_one_taken(tmp_path, capsys):
    stopped_run(tmp_path, step=7)
    stopped_run(tmp_path, step=9)
    (tmp_path / "checkpoints" / "step-000000009.npz").write_bytes(b"PK")
    assert open_run(tmp_path).snapshot.step == 7
    assert "warning: a damaged checkpoint is passed over: step-000000009.npz: " in capsys.readouterr().err


def test_only_damaged_checkpoints_are_no_reason_to_begin_anew_silently(tmp_path):
    stopped_run(tmp_path)
    (tmp_path / "checkpoints" / "step-000000007.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match="holds only damaged checkpoints; choose another folder, or replace it with"):
        open_run(tmp_path)
    assert (tmp_path / "flags.cfg").exists()


def test_a_finished_run_without_checkpoints_is_kept(tmp_path):
    (stopped_run(tmp_path) / "report.html").write_text("x")
    os.remove(tmp_path / "checkpoints" / "step-000000007.npz")
    with pytest.raises(UserError, match="holds a finished run without checkpoints; choose another folder"):
        open_run(tmp_path)


def test_two_processes_can_not_train_into_one_folder(tmp_path):
    stopped_run(tmp_path)
    with open(tmp_path / "checkpoints" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process trains into .*; choose another folder"):
            open_run(tmp_path)
    assert open_run(tmp_path).snapshot.step == 7


class TwoWorkers:
    """The chief of two workers; the other one sees `other_worker`."""

    is_chief = True

    def __init__(self, other_worker):
        self.other_worker = other_worker

    def all_gather(self, numbers):
        return np.asarray([numbers, self.other_worker if len(numbers) > 1 else numbers])


def test_workers_that_see_different_folders_are_told(tmp_path):
    stopped_run(tmp_path)
    with run_folder.open_run(str(tmp_path), identity(), False, Resume.AUTO, TwoWorkers([7, 0])) as start:
        assert start.snapshot.step == 7
    with pytest.raises(
        UserError, match=r"one folder that all workers share, .* the chief finds step 7 and others \[-1"
    ):
        with run_folder.open_run(str(tmp_path), identity(), False, Resume.AUTO, TwoWorkers([-1, 0])):
            pass


def test_saved_flags_replay_the_run(tmp_path):
    config = TrainConfig(data="/d a", run_dir=str(tmp_path), epochs=3, seed=9)
    run_folder.save_flags(str(tmp_path), config)
    assert flags.parse(TrainConfig, [f"--flagfile={tmp_path / 'flags.cfg'}"]) == config


def test_json_never_holds_a_nan(tmp_path):
    atomic.save_json(str(tmp_path), "a.json", {"x": 1.5})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1.5}
    with pytest.raises(ValueError, match="Out of range float values"):
        atomic.save_json(str(tmp_path), "a.json", {"x": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1.5}


@pytest.mark.parametrize("finished", [False, True])
def test_what_a_killed_process_left_in_a_run_goes_and_nothing_else(tmp_path, finished):
    run = stopped_run(tmp_path / "run")
    if finished:
        (run / "report.html").write_text("done")
    users = [run / ".model-notes.txt", run / ".report.html.original", run / "checkpoints" / "notes.partial"]
    for path in users:
        path.write_text("mine")
    before = support.tree(run)
    for name in ("report.html", "model.h5", "history.csv", "checkpoints/step-000000009.npz"):
        support.killed_while_writing(run / name)
    with temporary_files.claim(str(run / "metrics.json")) as alive:
        assert open_run(run).finished == finished
        assert os.path.exists(alive.name)
    os.remove(alive.name)
    assert {path: facts[2] for path, facts in support.tree(run).items() if not path.endswith(b".lock")} == {
        path: facts[2] for path, facts in before.items()
    }


def test_a_killed_process_that_had_not_written_its_flags_yet_is_no_reason_to_refuse(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    support.killed_while_writing(tmp_path / "run" / "flags.cfg")
    open_run(tmp_path / "run")
    assert os.listdir(tmp_path / "run") == ["checkpoints"]
