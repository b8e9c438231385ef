"""The folder, roles and messages of a search; whole searches are in tests/test_tune.py."""

import dataclasses
import json
import os

import pytest

from crackflow.core import csv_files, flags
from crackflow.core.config.search import CHOICES, TuneConfig, Tuner
from crackflow.core.config.training import TrainConfig
from crackflow.core.errors import UserError
from crackflow.search import roles, search, space, trial
from tests.helpers import small, support
from tests.helpers.trials import outcome

CONFIG = TuneConfig(data="/d", out="/o")


def put(out, *outcomes):
    for result in outcomes:
        trial.save(os.path.join(out, "trials", result.trial), result)


def test_without_keras_tuners_variables_a_search_is_alone():
    assert roles.detect_role({}) == roles.Role("alone", "")
    assert not roles.detect_role({}).is_chief


@pytest.mark.parametrize(
    "name, chief", [("chief", True), ("mischief-1", False), ("chief-of-staff", False), ("w", False)]
)
def test_who_is_called_chief_is_the_chief_and_nobody_else(name, chief):
    role = roles.detect_role(dict(zip(roles.VARIABLES, (name, "10.0.0.1", "8889"), strict=True)))
    assert role == roles.Role(name, "10.0.0.1:8889") and role.is_chief is chief


def test_a_variable_that_is_missing_or_wrong_is_named():
    with pytest.raises(
        UserError, match="KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_PORT: expected beside KERASTUNER_ORACLE"
    ):
        roles.detect_role({"KERASTUNER_ORACLE_IP": "127.0.0.1"})
    variables = dict(zip(roles.VARIABLES, ("w", "127.0.0.1", "port"), strict=True))
    with pytest.raises(UserError, match="KERASTUNER_ORACLE_PORT: expected a port, 1 to 65535, received 'port'"):
        roles.detect_role(variables)


def test_a_search_goes_on_with_its_own_flags_and_no_others(tmp_path):
    out = str(tmp_path / "search")
    config = dataclasses.replace(CONFIG, out=out)
    with search._opened(config, search.identity(config, "f")):
        pass
    free = dataclasses.replace(config, max_trials=99, threads=1, speed_seconds=1.0)
    with search._opened(free, search.identity(free, "f")):
        pass
    changed = dataclasses.replace(config, tuner=Tuner.GRID)
    with pytest.raises(
        UserError, match="--tuner: the search in .* was begun with 'hyperband', received 'grid'; choose"
    ):
        with search._opened(changed, search.identity(changed, "f")):
            pass
    with pytest.raises(UserError, match="--data: the search in .* was begun on another dataset"):
        with search._opened(config, search.identity(config, "g")):
            pass


def test_overwrite_begins_anew_where_a_search_was_and_touches_nothing_else(tmp_path):
    out = tmp_path / "search"
    config = dataclasses.replace(CONFIG, out=str(out), overwrite=True)
    with search._opened(config, search.identity(config, "f")):
        put(str(out), outcome("0"))
        for name in (
            "oracle.json",
            "rehearsal.json",
            "trials.csv",
            "best.cfg",
            "pareto.png",
            "report.html",
            "mine.txt",
        ):
            (out / name).write_text("")
        (out / "best").mkdir()
        (out / "best" / "model.h5").write_text("trained since")
    with search._opened(config, search.identity(config, "g")):
        assert sorted(os.listdir(out)) == [".lock", "best", "mine.txt", "search.json"]
        assert os.listdir(out / "best") == ["model.h5"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    for overwrite, message in (
        (False, "--out: .* holds no search.json"),
        (True, "--overwrite: it holds no search.json"),
    ):
        config = dataclasses.replace(CONFIG, out=str(mine), overwrite=overwrite)
        with pytest.raises(UserError, match=message):
            with search._opened(config, search.identity(config, "f")):
                pass
    assert os.listdir(mine) == ["thesis.txt"]


def test_a_file_or_a_folder_that_another_search_is_in_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    config = dataclasses.replace(CONFIG, out=str(tmp_path / "file"))
    with pytest.raises(UserError, match="--out: expected a folder, received .*, which is a file"):
        with search._opened(config, {}):
            pass
    config = dataclasses.replace(CONFIG, out=str(tmp_path / "search"))
    search_identity = search.identity(config, "f")
    with search._opened(config, search_identity), pytest.raises(UserError, match="another process searches in"):
        with search._opened(config, search_identity):
            pass


def test_a_worker_that_sees_another_folder_than_its_chief_is_told(tmp_path):
    with pytest.raises(
        UserError, match="expected one folder that chief and workers share, received .*put it on shared"
    ):
        search._read_chief_identity(str(tmp_path))


def test_the_best_is_one_that_was_trained_to_its_end_and_lies_within_the_limits(tmp_path):
    config = dataclasses.replace(CONFIG, out=str(tmp_path))
    assert search.collect_results(config) == search.SearchResult([], None, None, trial.DryRun())
    put(
        str(tmp_path),
        outcome("0", score=0.99, epochs=3),
        outcome("1", score=0.95),
        outcome("2", score=0.97),
        outcome("3", status=trial.INFEASIBLE, score=-0.5, accuracy=None),
        outcome("4", status=trial.INFEASIBLE, score=-0.2, accuracy=None),
        outcome("5", status=trial.FAILED, score=None, accuracy=None, message="no"),
        outcome("10", score=0.5),
    )
    result = search.collect_results(config)
    assert [trial_result.trial for trial_result in result.outcomes] == ["0", "1", "2", "3", "4", "5", "10"]
    assert result.best.trial == "2" and result.nearest.trial == "4"


def test_the_table_and_the_flagfile_hold_what_was_found(tmp_path):
    config = dataclasses.replace(CONFIG, out=str(tmp_path), max_epochs=8)
    best = space.defaults() | {"depth": 2, "activation": "gelu", "learning_rate": 0.00123}
    put(
        str(tmp_path), outcome("0"), outcome("1", score=0.95, chosen=best), outcome("2", status="failed", message="a,b")
    )
    search.write_table(config)
    rows = csv_files.read(str(tmp_path / "trials.csv"))
    assert [row["trial"] for row in rows] == ["0", "1", "2"] and rows[2]["message"] == "a,b"
    assert rows[1]["activation"] == "gelu" and rows[1]["accuracy"] == "0.9" and set(CHOICES) <= set(rows[0])
    run = flags.parse(TrainConfig, [f"--flagfile={tmp_path / 'best.cfg'}"])
    assert run == space.as_training(best, config, str(tmp_path / "best"))
    assert "trial 1, accuracy 0.9000 on validation images, 5,000 images/s" in (tmp_path / "best.cfg").read_text()


@pytest.mark.parametrize(
    "code, words",
    [
        (-9, "SIGKILL, as systems do when memory runs out"),
        (-11, "SIGSEGV"),
        (-40, "signal 40"),  # a signal without a name
        (1, "code 1 and"),
    ],
)
def test_how_a_process_ended_in_words(code, words):
    assert words in search.describe_exit(code)


def rehearsed(tmp_path, monkeypatch, **fields):
    """The dry run of a search whose file has `fields`; no process is needed to see what is made of it."""
    config = dataclasses.replace(CONFIG, out=str(tmp_path))
    (tmp_path / "rehearsal.json").write_text(json.dumps(dataclasses.asdict(trial.DryRun(**fields))))
    return search._load_or_run_dry_run(config)


def test_a_dry_run_that_failed_shows_its_traceback_and_says_so_in_a_line(tmp_path, monkeypatch, capsys):
    with pytest.raises(
        UserError, match="the dry run failed, so every trial would: ZeroDivisionError: oh; the traceback"
    ):
        rehearsed(tmp_path, monkeypatch, error="Traceback (most recent call last):\n  1 / 0\nZeroDivisionError: oh\n")
    assert "Traceback" in capsys.readouterr().err
    with pytest.raises(UserError, match="^expected a dataset$"):
        rehearsed(tmp_path, monkeypatch, mistake="expected a dataset")
    assert rehearsed(tmp_path, monkeypatch, reference=5.0, params=(1, 2)).params == (1, 2)


def test_what_can_not_be_met_is_said_after_the_dry_run(capsys):
    dry_run = trial.DryRun(reference=5000, smallest=9000, largest=700, params=(1500, 8000))
    search._report_dry_run(dataclasses.replace(CONFIG, min_images_per_sec=9001, max_params=1499), dry_run)
    out, err = capsys.readouterr()
    assert "networks of 1,500 to 8,000 parameters; images/s of the smallest 9,000" in out
    assert "warning: --min_images_per_sec=9,001 is more than the smallest network reaches" in err
    assert "warning: --max_params=1,499 is fewer than the smallest network has" in err


def test_a_search_whose_trials_all_fail_says_why():
    failed = [outcome("0", status=trial.FAILED, message="out of memory")]
    assert "the last 5 trials failed, the last of them: out of memory; mend that" in search._describe_failures(failed)


def test_a_worker_does_not_join_a_search_that_the_chief_is_about_to_remove(tmp_path, monkeypatch):
    class Joined(Exception):
        pass

    def remote(*_):
        raise Joined

    monkeypatch.setattr(search.oracle, "is_over", lambda *_: True)
    monkeypatch.setattr(search.oracle, "RemoteOracle", remote)
    settings, worker = {"data": small.data().folder, "out": str(tmp_path)}, roles.Role("worker-0", "localhost:1")
    assert search.run_search(TuneConfig(**settings), worker) is None
    with pytest.raises(Joined):
        search.run_search(TuneConfig(**settings, overwrite=True), worker)


def test_what_a_killed_process_left_in_a_search_goes_and_nothing_else(tmp_path):
    out = tmp_path / "search"
    out.mkdir()
    support.killed_while_writing(out / "search.json")  # killed before there was any other file
    config = dataclasses.replace(CONFIG, out=str(out))
    with search._opened(config, search.identity(config, "f")):
        assert sorted(os.listdir(out)) == [".lock", "search.json"]
    (out / "trials/0/checkpoints").mkdir(parents=True)
    (out / "trials/0/.model-notes.txt").write_text("mine")
    names = (
        "oracle.json",
        "trials.csv",
        "report.html",
        "trials/0/result.json",
        "trials/0/checkpoints/step-000000001.npz",
    )
    for name in names:
        support.killed_while_writing(out / name)
    with search._opened(config, search.identity(config, "f")):
        left = [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()]
        assert sorted(left) == [".lock", "search.json", "trials/0/.model-notes.txt"]
