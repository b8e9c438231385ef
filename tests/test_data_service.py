"""The service as processes, and a training run fed by it."""

import contextlib
import re
import subprocess

import pytest

from crackflow import data_service
from crackflow.core import csv_files
from crackflow.core.config.tools import DataServiceConfig, ServiceRole
from crackflow.core.errors import ConfigError, UserError
from tests.helpers import small, support


@contextlib.contextmanager
def serving(*options):
    """The address that `python -m crackflow.data_service` says it listens on."""
    line = [support.interpreter(), "-m", "crackflow.data_service", *options]
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=support.environment()
    )
    try:
        said = process.stdout.readline()
        match = re.search(r"listens on (\S+);", said)
        assert match, said + process.stderr.read()
        yield match[1]
    finally:
        process.terminate()
        out, error = process.communicate(timeout=10)
        assert process.returncode == 0 and out.endswith("stopped\n"), error


@pytest.mark.slow
def test_a_run_is_fed_by_the_service(tmp_path):
    with serving() as address, serving("--role=worker", f"--dispatcher={address}"):
        options = (f"--data={small.data().folder}", f"--run_dir={tmp_path / 'run'}", "--image_px=32", "--epochs=2")
        done = support.command("train", *options, "--batch_size=16", f"--data_service={address}", timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"input service ({address})" in done.stdout
    assert [row["epoch"] for row in csv_files.read(str(tmp_path / "run" / "history.csv"))] == ["1", "2"]


def test_a_port_in_use_is_one_line():
    first = data_service.start(DataServiceConfig())
    port = int(first.address.rpartition(":")[2])
    with pytest.raises(UserError, match=f"--port: expected a free port, received {port}"):
        data_service.start(DataServiceConfig(port=port))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"port": 70000}, "--port: expected 0 to 65535, received 70000"),
        ({"role": ServiceRole.WORKER}, "--dispatcher: expected grpc://host:port, received ''"),
        (
            {"role": ServiceRole.WORKER, "dispatcher": "here:5"},
            "--dispatcher: expected grpc://host:port, received 'here",
        ),
    ],
)
def test_a_setting_out_of_range_is_refused(settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        DataServiceConfig(**settings)
