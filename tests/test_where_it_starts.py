"""Folders from which the package is started: those around it, and those with files named like what it needs."""

import os
import subprocess
import sys
import zipfile

import pytest

from tests.helpers import support

SHADOWS = ("numpy", "PIL", "json", "random", "tempfile", "convert", "data", "core")


def python(*arguments, cwd, **environment):
    line = [sys.executable, *map(str, arguments)]
    settings = support.environment() | environment
    return subprocess.run(line, cwd=cwd, env=settings, capture_output=True, text=True, timeout=120)


def test_files_named_like_what_a_command_needs_are_not_taken_for_it(tmp_path):
    """Nor by its workers."""
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a file of the user')\n")
    done = python("-m", "crackflow.synth", "--out=made", "--count=4", "--image_px=32", "--workers=2", cwd=tmp_path)
    if sys.version_info >= (3, 11):  # earlier ones can't be told to start workers elsewhere
        assert (done.returncode, done.stderr) == (0, "")
    done = python("-m", "crackflow.convert", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and "--images=" in done.stdout


def test_the_modules_of_a_script_stay_where_they_are(tmp_path):
    (tmp_path / "mine.py").write_text("")
    for call in (["-c", "import crackflow, mine"], ["script.py"]):
        (tmp_path / "script.py").write_text("import crackflow, mine")
        assert python(*call, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("inside", ["", "core", "data"])
def test_a_command_starts_within_the_package(inside):
    done = python("-m", "crackflow.convert", "--help", cwd=support.ROOT / "crackflow" / inside)
    assert (done.returncode, done.stderr) == (0, "") and "--images=" in done.stdout


def test_a_command_starts_in_the_clone_without_being_installed():
    done = python("-m", "crackflow.convert", "--help", cwd=support.ROOT, PYTHONPATH="")
    assert (done.returncode, done.stderr) == (0, "") and "--images=" in done.stdout


@pytest.fixture
def above(tmp_path):
    """A folder that holds a clone called crackflow, which has a folder crackflow in it."""
    (tmp_path / "above").mkdir()
    (tmp_path / "above" / "crackflow").symlink_to(support.ROOT, target_is_directory=True)
    return tmp_path / "above"


def test_in_the_folder_above_a_clone_the_package_is_the_installed_one(above):
    done = python("-m", "crackflow.convert", "--help", cwd=above)
    assert (done.returncode, done.stderr) == (0, "")
    done = python("-c", "import crackflow; print(crackflow.__version__, crackflow.__all__)", cwd=above)
    assert done.returncode == 0 and "load_model" in done.stdout, done.stderr


def test_the_folder_above_the_clone_does_not_hide_an_editable_install(tmp_path, above):
    clone = tmp_path / "clone"
    (clone / "crackflow").mkdir(parents=True)
    for name in ("setup.py", "pyproject.toml", "README.md", "crackflow/__init__.py", "crackflow/version.py"):
        (clone / name).write_bytes((support.ROOT / name).read_bytes())
    code = "from setuptools import build_meta; build_meta.build_editable('.')"
    done = python("-c", code, cwd=clone, PYTHONPATH="")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(clone.glob("*.whl"))) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
        assert len(names) == 1 and names[0].endswith(".pth")
        assert os.path.realpath(wheel.read(names[0]).decode().strip()) == os.path.realpath(clone)


def test_a_file_that_has_the_name_of_the_package_is_one_line(tmp_path):
    (tmp_path / "crackflow.py").write_text("")
    done = python("-m", "crackflow.convert", "--help", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "'crackflow'" in done.stderr
