"""Photographs with names in another script, and a wrapper that sets PYTHONIOENCODING: results were written, then a
traceback came, and exit code 1."""

import os
import subprocess
import sys

import pytest

from crackflow.core import csv_files
from tests.helpers import support

# What each verb does with its streams, without TensorFlow's start: a bar, a table, a line, a mistake.
VERB = """
import sys
from crackflow.core import console, flags
from crackflow.core.config.data import ConvertConfig
from crackflow.core.errors import UserError

def run(config):
    with console.progress_bar(2, "reading"):
        console.info(config.images)
    console.print_table(["photograph"], [[(config.images, True)]])
    open(config.out, "w").close()
    if config.seed:
        raise UserError(f"--images: received {config.images}")

flags.main(ConvertConfig, run, config_about, sys.argv[1:])
""".replace("config_about", "'Mauern \\u88c2'")

NAME = "Mauer_äöü 裂缝"
SURROUNDINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "latin-1, strict": {"PYTHONIOENCODING": "latin-1:strict"},
    "the locale C": {"LC_ALL": "C"},
    "the locale C, taken literally": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "UTF-8": {"PYTHONIOENCODING": "utf-8:strict"},
}


def spoken(surroundings, tmp_path, *options, redirected=""):
    (tmp_path / "verb.py").write_text(VERB)
    line = ["bash", "-c", f'exec "$@" {redirected}', "bash", sys.executable, tmp_path / "verb.py"]
    line += [b"--images=" + NAME.encode() + b" \xff", f"--out={tmp_path / 'done'}", *options]
    return subprocess.run(line, capture_output=True, env=support.environment() | surroundings)


@pytest.mark.parametrize("surroundings", SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_whatever_stdout_can_hold_the_work_ends_well(surroundings, tmp_path):
    done = spoken(surroundings, tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "done").exists() and done.stdout.count(b"\n") == 3 and b"\\udcff" in done.stdout


def test_what_an_encoding_lacks_is_escaped_and_the_rest_stays(tmp_path):
    line = spoken(SURROUNDINGS["cp1252"], tmp_path).stdout.splitlines()[0]
    assert line == "Mauer_äöü \\u88c2\\u7f1d \\udcff".encode("cp1252")
    line = spoken(SURROUNDINGS["UTF-8"], tmp_path).stdout.splitlines()[0]
    assert line.decode() == f"{NAME} \\udcff"


@pytest.mark.parametrize("surroundings", SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_a_mistake_and_the_help_are_said_everywhere(surroundings, tmp_path):
    done = spoken(surroundings, tmp_path, "--seed=1")
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1 and b"Traceback" not in done.stderr
    done = spoken(surroundings, tmp_path, "--help")
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout.startswith(b"Mauern ")


@pytest.mark.parametrize("redirected", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", ">/dev/full 2>&1"])
@pytest.mark.parametrize("seed, code", [(0, 0), (1, 2)])
def test_streams_that_are_closed_or_full_end_no_work(redirected, seed, code, tmp_path):
    done = spoken({}, tmp_path, f"--seed={seed}", redirected=redirected)
    assert done.returncode == code and b"Traceback" not in done.stderr
    assert (tmp_path / "done").read_bytes() == b""  # nothing that was said got into a file


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["report", "surrogates", "literally"])
def test_predict_ends_well_and_its_files_are_utf8(kind, report, tmp_path):
    """The report's own photograph; one whose name is no UTF-8; and a locale in which no name can be read."""
    if kind == "report":
        site, surroundings = report("15-stdout-that-is-not-utf8") / "site", SURROUNDINGS["cp1252"]
        (name,) = os.listdir(site)
    else:
        site, name = tmp_path / "site", os.fsdecode(b"wall \xff.jpg") if kind == "surrogates" else f"{NAME}.jpg"
        support.put(site / name, support.encoded(support.picture(0, 128, 128)))
        surroundings = SURROUNDINGS["ascii" if kind == "surrogates" else "the locale C, taken literally"]
    environment = support.environment() | surroundings
    done = support.command("predict", f"--photos={site}", "--out=o", "--scale=1", cwd=tmp_path, env=environment)
    warned = done.stderr.splitlines()  # noise looks unlike any wall
    assert done.returncode == 0 and len(warned) == (kind != "report")
    assert all(line.startswith("warning: ") and "it looks unlike the training images" in line for line in warned)
    assert name.split(" ")[0][:4] in done.stdout
    (row,) = csv_files.read(str(tmp_path / "o/predictions.csv"))
    assert row["path"] == name
    for file in ("findings.json", "report.html"):
        text = (tmp_path / "o" / file).read_text(encoding="utf-8")
        assert kind != "literally" or "\\udc" not in text
