"""Settings of hypothesis, and the real images where this machine has them."""

import multiprocessing
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import hypothesis
import pytest

from tests.helpers import support

# Examples are drawn anew from a fixed seed, so that a failure is found again on every machine.
hypothesis.settings.register_profile("crackflow", deadline=None, max_examples=25, database=None, derandomize=True)
hypothesis.settings.load_profile("crackflow")

# A shell that starts the suite in the background has it ignore Ctrl-C, which some tests send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A worker process of a test then starts in 0.02 s instead of 0.7 s; tests that run the real command go without.
multiprocessing.set_forkserver_preload(
    ["crackflow.conversion.scan", "crackflow.conversion.shards", "crackflow.conversion.verify"]
)


# Variables that Python, the C library or TensorFlow read once, at their start: with others, a fork shows nothing.
AT_START = ("PYTHON", "TF_", "LC_", "LANG", "LD_", "CUDA", "XLA", "OMP_", "MALLOC", "GRPC", "KMP_", "OPENBLAS")

# Minutes each. First of all, or one of two processes would be left with them at the end.
LONGEST = (
    "test_tune.py", "test_train.py", "test_launch.py", "test_hostile.py", "test_oracle.py", "test_trial.py",
    "test_fit_loop.py", "test_strategies.py", "test_export.py",
)  # fmt: skip


def _untracked_files():
    """The files of this checkout that git neither tracks nor ignores; none where it is no checkout."""
    command = ["git", "ls-files", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=support.ROOT, capture_output=True, text=True)
    return set(done.stdout.splitlines()) if done.returncode == 0 else set()


def pytest_configure(config):
    """A run in several processes has a server whose forks stand in for new processes (tests/helpers/warm)."""
    config.warm = None
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        return
    socket = os.path.join(tempfile.mkdtemp(prefix="crackflow-warm-"), "socket")
    environment, prefixes = support.environment(), ",".join(AT_START)
    command = [sys.executable, "-m", "tests.helpers.warm.server", socket, prefixes]
    config.warm = subprocess.Popen(command, env=environment, cwd=support.ROOT, stdin=subprocess.DEVNULL)
    os.environ["CRACKFLOW_WARM"] = socket


def pytest_unconfigure(config):
    if config.warm:
        config.warm.kill()
        config.warm.wait()
        shutil.rmtree(os.path.dirname(os.environ.pop("CRACKFLOW_WARM")))


def pytest_sessionstart(session):
    session.config.untracked_before = _untracked_files()


def pytest_sessionfinish(session):
    """A run that leaves files in the checkout has failed."""
    if hasattr(session.config, "workerinput"):  # a worker of xdist: its controller looks
        return
    if left := _untracked_files() - session.config.untracked_before:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        sys.stderr.write(f"\nthe tests left files in the checkout: {', '.join(sorted(left))}\n")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def _roles():
    return {name: value for name, value in os.environ.items() if name.startswith(("KERASTUNER_", "TF_CONFIG"))}


@pytest.fixture(autouse=True)
def process_as_before():
    """What runs inside the test process takes SIGTERM, chooses a precision, and tells Keras Tuner and TensorFlow by
    variables who it is; the next test has what was."""
    before, variables = signal.getsignal(signal.SIGTERM), _roles()
    yield
    signal.signal(signal.SIGTERM, before)
    for name in _roles():
        del os.environ[name]
    os.environ |= variables
    if keras := sys.modules.get("tf_keras"):  # not loaded for this: many tests do without
        keras.mixed_precision.set_global_policy("float32")


def _real(name):
    path = pathlib.Path(os.environ.get("CRACKFLOW_DATA") or support.ROOT.parent / "shared/data") / name
    if not path.exists():
        pytest.skip(f"needs real images: {path} is absent (CRACKFLOW_DATA names the folder that holds {name})")
    return path


@pytest.fixture(scope="session")
def real_data():
    """`real_data("metu")`: the path of real images; the test is skipped, with the reason, where there are none."""
    return _real


@pytest.fixture
def report(tmp_path):
    """`report("06-alpha-zero-photo-turned-white")`: a copy, to be changed at will, of an input that went wrong for
    somebody; the test is skipped, with the reason, where it is absent."""

    def copied(name):
        return shutil.copytree(_real("reports") / name, tmp_path / name)

    return copied


@pytest.fixture(scope="session")
def metu(tmp_path_factory):
    """The 10,000 real METU images, converted once: (folder of the dataset, its dataset.json)."""
    images, out = _real("metu"), tmp_path_factory.mktemp("metu") / "data"
    return out, support.converted(images, out, workers=2)
