"""The wheel that users install: what it holds, and that it works from an environment and a folder of its own."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest
from PIL import Image

from crackflow.version import __version__
from tests.helpers import support
from tests.helpers.walls import wall


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built from a copy: building leaves folders behind."""
    clone = tmp_path_factory.mktemp("clone")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(support.ROOT / name, clone)
    shutil.copytree(support.ROOT / "crackflow", clone / "crackflow", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from setuptools import build_meta; build_meta.build_wheel('.')"
    done = subprocess.run([sys.executable, "-c", code], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = clone.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_its_model_templates_and_types(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    source = support.ROOT / "crackflow"
    kept = {".py", ".pyi", ".typed", ".h5", ".j2", ".js", ".json"}
    expected = {
        path.relative_to(support.ROOT).as_posix()
        for path in source.rglob("*")
        if path.is_file() and path.suffix in kept or path.name == "py.typed"
    }
    assert expected <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
    assert wheel.stat().st_size < 5_000_000


def test_the_wheel_says_what_it_is(wheel):
    archive = zipfile.ZipFile(wheel)
    (metadata,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
    text = archive.read(metadata).decode()
    for line in ("License: Apache-2.0", "Provides-Extra: mlflow", "Keywords: "):
        assert line in text
    assert text.count("Classifier: ") >= 8
    (requires,) = re.findall(r"^Requires-Python: (.+)$", text, re.M)
    assert set(requires.split(",")) == {">=3.10", "<3.14"}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment in which the wheel is installed; what it needs comes from the environment of the tests."""
    root = tmp_path_factory.mktemp("environment")
    venv.create(root, with_pip=False)
    place = sysconfig.get_path("purelib", "venv", {"base": str(root), "platbase": str(root)})
    command = [sys.executable, "-m", "pip", "--python", str(root), "install", "-q", "--no-deps", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with open(os.path.join(place, "dependencies.pth"), "w") as file:
        file.write(sysconfig.get_path("purelib") + "\n")
    return root / "bin"


def run(*line, cwd):
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CRACKFLOW_WARM")}
    return subprocess.run(list(map(str, line)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=200)


@pytest.mark.slow
def test_the_installed_command_works_from_another_folder(installed, tmp_path):
    Image.fromarray(wall()).save(tmp_path / "wall.jpg", quality=95)
    done = run(installed / "crackflow", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"crackflow {__version__}\n"), done.stderr
    done = run(installed / "crackflow", "predict", "--photos=wall.jpg", cwd=tmp_path)
    assert done.returncode == 0 and "wall.jpg: " in done.stdout, done.stderr
    assert (tmp_path / "findings/report.html").exists()
    code = "import crackflow; print(crackflow.__file__); print(crackflow.load_model().card.image_px)"
    done = run(installed / "python", "-c", code, cwd=tmp_path)
    path, image_px = done.stdout.split()
    assert path.startswith(str(installed.parent)) and image_px == "128", done.stderr


@pytest.mark.slow
def test_the_installed_command_is_not_led_astray_by_files_beside_photographs(installed, tmp_path):
    for name in ("numpy", "json", "convert", "core"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a file of the user')\n")
    done = run(
        installed / "crackflow", "synth", "--out=made", "--count=4", "--image_px=32", "--workers=2", cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
