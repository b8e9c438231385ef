import json
import os
import sys

import pytest

from crackflow.core.config.training import Logger, TrainConfig
from crackflow.core.errors import RetryableError, UserError
from crackflow.training import experiment_logs


@pytest.fixture
def quiet(monkeypatch, tmp_path):
    """No variables of loggers from outside; returns a run folder."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def config(run_dir, *loggers):
    return TrainConfig(data="d", run_dir=str(run_dir), log_to=loggers)


def log(run_dir, *loggers, epochs=(1, 2)):
    with experiment_logs.open_logs(config(run_dir, *loggers), {"epochs": "2"}) as logs:
        for number in epochs:
            for one in logs:
                one.epoch(number, {"loss": 1 / number, "odd": float("nan")})
        (run_dir / "report.html").write_text("report")
        for one in logs:
            one.finish({"accuracy": 0.75}, [str(run_dir / "report.html")])
    return logs


def mlflow_run(run_dir):
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(tracking_uri=f"file://{run_dir / 'mlruns'}")
    return client, client.get_run(json.loads((run_dir / experiment_logs.IDS).read_text())["mlflow"])


def test_mlflow_has_the_flags_the_epochs_the_result_and_the_files(quiet):
    pytest.importorskip("mlflow")
    log(quiet, Logger.MLFLOW)
    client, run = mlflow_run(quiet)
    assert run.data.params == {"epochs": "2"} and run.info.status == "FINISHED" and run.info.run_name == "run"
    assert run.data.metrics == {"loss": 0.5, "final_accuracy": 0.75}
    assert [metric.value for metric in client.get_metric_history(run.info.run_id, "loss")] == [1, 0.5]
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.html"]


def test_a_resumed_run_continues_its_record(quiet):
    pytest.importorskip("mlflow")
    log(quiet, Logger.MLFLOW, epochs=[1])
    log(quiet, Logger.MLFLOW, epochs=[2])
    client, run = mlflow_run(quiet)
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 2
    experiment = client.get_experiment_by_name(experiment_logs.PROJECT)
    assert len(client.search_runs([experiment.experiment_id])) == 1


@pytest.mark.parametrize(("error", "status"), [(RetryableError("signal"), "KILLED"), (ValueError("bug"), "FAILED")])
def test_the_record_says_how_a_run_ended(quiet, error, status):
    pytest.importorskip("mlflow")
    with pytest.raises(type(error)), experiment_logs.open_logs(config(quiet, Logger.MLFLOW), {}):
        raise error
    assert mlflow_run(quiet)[1].info.status == status


def test_wandb_records_offline_without_asking_for_a_password(quiet):
    pytest.importorskip("wandb")
    (one,) = log(quiet, Logger.WANDB)
    (folder,) = (quiet / "wandb").glob("offline-run-*")
    assert one.run_id in folder.name and list(folder.glob("*.wandb"))


class Failing:
    run_id = "7"

    def __init__(self, *arguments):
        self.calls = 0

    def epoch(self, number, metrics):
        self.calls += 1
        raise ConnectionError("the server is away")

    finish = close = epoch


def test_a_logger_that_fails_is_reported_once_and_left_alone(quiet, monkeypatch, capsys):
    monkeypatch.setitem(experiment_logs.LOGS, Logger.MLFLOW, Failing)
    log(quiet, Logger.MLFLOW)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["warning: --log_to=mlflow: the server is away; training continues without it"]


def test_a_logger_that_cannot_be_opened_is_a_user_error_before_training(quiet, monkeypatch):
    def refuse(*arguments):
        raise ConnectionError("no route to host")

    monkeypatch.setitem(experiment_logs.LOGS, Logger.MLFLOW, refuse)
    message = r"--log_to=mlflow: expected a place to log to, received: no route to host; check its variables \(MLFLOW_"
    with pytest.raises(UserError, match=message), experiment_logs.open_logs(config(quiet, Logger.MLFLOW), {}):
        pass


def test_a_logger_that_is_not_installed_says_what_to_install(quiet, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    message = r"--log_to=wandb needs a package that is not installed: pip install 'crackflow\[wandb\]', or leave it out"
    with pytest.raises(UserError, match=message), experiment_logs.open_logs(config(quiet, Logger.WANDB), {}):
        pass


def test_without_log_to_nothing_is_written(quiet):
    assert log(quiet) == []
    assert os.listdir(quiet) == ["report.html"]


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"mlflow": 3'])
def test_a_damaged_list_of_records_begins_new_ones(quiet, content):
    (quiet / experiment_logs.IDS).write_text(content)
    with experiment_logs.open_logs(config(quiet), {}) as logs:
        assert logs == []
