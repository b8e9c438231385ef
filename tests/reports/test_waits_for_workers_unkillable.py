"""A leftover TF_CONFIG, or a shell inside a SLURM step of several tasks: one process waited for ever, in silence, and
heard neither Ctrl-C nor SIGTERM."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess

import pytest

from tests.helpers import small, support
from tests.helpers.ports import addresses

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_PROCID": "0",
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "4",
}


def tf_config(workers, index=0):
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})}


@contextlib.contextmanager
def alone(verb, surroundings, *options):
    """One process where several were named, and the first line it says."""
    line = [support.interpreter(), "-m", f"crackflow.{verb}", *options]
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=support.environment() | surroundings
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def train(run_dir, surroundings):
    options = (f"--data={small.data().folder}", f"--run_dir={run_dir}", "--model=seed", "--image_px=32", "--epochs=1")
    return alone("train", surroundings, *options)


def first_line(process, seconds=90):
    assert select.select([process.stdout], [], [], seconds)[0], "nothing was said"
    return process.stdout.readline()


def ended(process, number):
    """Exit code and stderr after a signal."""
    process.send_signal(number)
    _, error = process.communicate(timeout=60)  # TensorFlow takes its time to leave
    assert "Traceback" not in error and error.count("\n") == 1, error
    return process.returncode, error


def test_the_absent_worker_is_named_and_sigterm_ends_it(report, tmp_path):
    text = (report("13-waits-for-workers-unkillable") / "run.sh").read_text()
    surroundings = {"TF_CONFIG": re.search(r"TF_CONFIG='(.+)'", text)[1]}
    with train(tmp_path / "run", surroundings) as process:
        said = first_line(process)
        assert said == ("waiting for 1 of 2 workers: localhost:23452 (named by TF_CONFIG; unset it to train alone)\n")
        assert ended(process, signal.SIGTERM)[0] == 130
    assert not os.path.exists(tmp_path / "run")


def test_a_worker_whose_chief_never_comes_hears_ctrl_c(tmp_path):
    workers = addresses(3)
    with train(tmp_path / "run", tf_config(workers, 2)) as process:
        assert f"waiting for 2 of 3 workers: {workers[0]}, {workers[1]} (named by TF_CONFIG" in first_line(process)
        assert ended(process, signal.SIGINT)[0] == 130


def test_a_shell_inside_a_step_of_slurm_names_the_tasks_and_how_to_do_without(tmp_path):
    """`srun -n 4 --pty bash`, then one command in it."""
    with train(tmp_path / "run", SLURM) as process:
        said = first_line(process)
        assert "waiting for 3 of 4 workers: localhost:16712, localhost:16713, localhost:16714 (" in said
        assert said.endswith("named by SLURM; --strategy=one trains alone)\n")
        code, error = ended(process, signal.SIGTERM)
        assert code == 75 and "stopped by a signal while it waited for the other workers" in error


def test_a_worker_of_a_shared_search_names_its_chief_and_hears_ctrl_c(tmp_path):
    (address,) = addresses(1)
    host, port = address.split(":")
    surroundings = {"KERASTUNER_TUNER_ID": "a", "KERASTUNER_ORACLE_IP": host, "KERASTUNER_ORACLE_PORT": port}
    with alone("tune", surroundings, f"--data={small.data().folder}", f"--out={tmp_path / 'out'}") as process:
        assert first_line(process) == (
            f"waiting for the chief of the search at {address} (named by KERASTUNER_ORACLE_IP; unset it to search "
            "alone)\n"
        )
        code, error = ended(process, signal.SIGINT)
        assert code == 75 and "the same command resumes" in error


def test_a_chief_whom_nobody_asks_says_so_and_hears_sigterm(tmp_path):
    (address,) = addresses(1)
    host, port = address.split(":")
    surroundings = {"KERASTUNER_TUNER_ID": "chief", "KERASTUNER_ORACLE_IP": host, "KERASTUNER_ORACLE_PORT": port}
    with alone("tune", surroundings, f"--data={small.data().folder}", f"--out={tmp_path / 'out'}") as process:
        assert "chief of the search in" in first_line(process)
        assert f"waiting for workers to ask {address} for trials (KERASTUNER_TUNER_ID=chief" in first_line(process)
        assert ended(process, signal.SIGTERM)[0] == 75
