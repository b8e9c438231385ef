"""Logs of a run in MLflow and Weights & Biases, beside history.csv and TensorBoard, which every run has.

Synopsis::

    with experiment_logs.open_logs(config, flag_values) as logs:
        for log in logs:
            log.epoch(1, {"loss": 0.3, "val_loss": 0.4})
        ...
            log.finish({"accuracy": 0.99}, ["runs/metu/model.h5"])

A logger that fails, such as a server that does not answer, is reported once and left alone: training continues.
"""

import contextlib
import importlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from crackflow.core import atomic, console
from crackflow.core.config.training import Logger, TrainConfig
from crackflow.core.errors import RetryableError, UserError

PROJECT = (
    "crackflow"  # the experiment of MLflow, the project of W&B; MLFLOW_EXPERIMENT_NAME and WANDB_PROJECT change it
)
IDS = "experiment_logs.json"  # which run of each logger belongs to a run folder, so that a resumed run continues it


class ExperimentLog(Protocol):
    """One logger's record of one run."""

    run_id: str

    def epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        """Logs the metrics of epoch `number`, from 1."""

    def finish(self, metrics: Mapping[str, float], files: Sequence[str]) -> None:
        """Logs the final metrics, and files where the logger stores files."""

    def close(self, status: str) -> None:
        """Ends the record; `status`: finished, stopped or failed."""


class MLflowLog:
    """A run of MLflow, at MLFLOW_TRACKING_URI; without that variable in mlruns/ of the run folder.

    Args:
        config: the flags of the run.
        parameters: the flags to log.
        run_id: of the run to continue, or "".
    """

    STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}

    def __init__(self, config: TrainConfig, parameters: Mapping[str, str], run_id: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing about a run leaves the machine unasked
        local = f"file://{os.path.join(os.path.abspath(config.run_dir), 'mlruns')}"
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        if not uri:  # without it, MLflow 3 refuses to log to a folder
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self._client = _import("mlflow", "mlflow").MlflowClient(tracking_uri=uri or local)
        self.run_id = run_id
        if run_id:
            self._client.update_run(run_id, "RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(name)
        run_name = os.path.basename(os.path.abspath(config.run_dir))
        self.run_id = self._client.create_run(experiment_id, run_name=run_name).info.run_id
        for key, value in parameters.items():
            self._client.log_param(self.run_id, key, value)

    def epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._client.log_metric(self.run_id, name, value, step=number)

    def finish(self, metrics: Mapping[str, float], files: Sequence[str]) -> None:
        for name, value in metrics.items():
            self._client.log_metric(self.run_id, f"final_{name}", value)
        for path in files:
            self._client.log_artifact(self.run_id, path)

    def close(self, status: str) -> None:
        self._client.set_terminated(self.run_id, self.STATUS[status])


class WandbLog:
    """A run of Weights & Biases in wandb/ of the run folder: offline, unless WANDB_MODE says otherwise.

    `wandb sync` uploads an offline run. Arguments as for `MLflowLog`.
    """

    EXIT_CODE = {"finished": 0, "stopped": 75, "failed": 1}

    def __init__(self, config: TrainConfig, parameters: Mapping[str, str], run_id: str) -> None:
        wandb = _import("wandb", "wandb")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.path.basename(os.path.abspath(config.run_dir)),
            dir=config.run_dir,
            id=run_id or None,
            resume="allow",
            config=dict(parameters),
            mode=os.environ.get("WANDB_MODE", "offline"),  # online, it asks for a password on the terminal
            settings=wandb.Settings(silent=True, console="off"),
        )
        self.run_id = self._run.id

    def epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=number)

    def finish(self, metrics: Mapping[str, float], files: Sequence[str]) -> None:
        for name, value in metrics.items():
            self._run.summary[f"final_{name}"] = value

    def close(self, status: str) -> None:
        self._run.finish(exit_code=self.EXIT_CODE[status])


LOGS: dict[Logger, Any] = {Logger.MLFLOW: MLflowLog, Logger.WANDB: WandbLog}


class GuardedLog:
    """Calls a log until it fails once; then says so and calls it no more."""

    def __init__(self, log: ExperimentLog, name: str) -> None:
        self.run_id = log.run_id
        self._log: ExperimentLog | None = log
        self._name = name

    def epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        """Logs the metrics of epoch `number`; those that are no finite number are left out."""
        self._call("epoch", number, {key: value for key, value in metrics.items() if math.isfinite(value)})

    def finish(self, metrics: Mapping[str, float], files: Sequence[str]) -> None:
        """Logs the final metrics and files."""
        self._call("finish", metrics, files)

    def close(self, status: str) -> None:
        """Ends the record."""
        self._call("close", status)

    def _call(self, method: str, *arguments: object) -> None:
        if self._log is None:
            return
        try:
            getattr(self._log, method)(*arguments)
        except Exception as error:  # a library of others, a network, a disk: nothing there may end a training
            self._log = None
            console.warning(f"--log_to={self._name}: {error}; training continues without it")


@contextlib.contextmanager
def open_logs(config: TrainConfig, parameters: Mapping[str, str]) -> Iterator[list[GuardedLog]]:
    """Opens the logs that `config.log_to` names, and closes them with how the run ended.

    Args:
        config: the flags of the run.
        parameters: the flags to log, as text.

    Raises:
        UserError: a logger is not installed, or can't be opened.
    """
    ids, logs = _read_ids(config.run_dir), []
    for logger in config.log_to:
        try:
            log = LOGS[logger](config, parameters, ids.get(logger.value, ""))
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"--log_to={logger.value}: expected a place to log to, received: {error}; check its variables "
                f"({logger.value.upper()}_...), or leave it out"
            ) from error
        logs.append(GuardedLog(log, logger.value))
        ids[logger.value] = log.run_id
    if logs:
        atomic.save_json(config.run_dir, IDS, ids)
    status = "failed"
    try:
        yield logs
        status = "finished"
    except (RetryableError, KeyboardInterrupt):
        status = "stopped"
        raise
    finally:
        for log in logs:
            log.close(status)


def _read_ids(run_dir: str) -> dict[str, str]:
    try:
        with open(os.path.join(run_dir, IDS), encoding="utf-8") as file:
            ids = json.load(file)
    except (OSError, ValueError):  # a new run, or a file that is lost: the logger gets a new run
        return {}
    return ids if isinstance(ids, dict) else {}


def _import(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"--log_to={name} needs a package that is not installed: pip install 'crackflow[{extra}]', or leave it out"
        ) from error
