"""Beam's own runner against local processes.

Beam does not share an environment with this TensorFlow (protobuf), and conversion needs none. CRACKFLOW_BEAM_PYTHON
names an interpreter that has apache-beam (docs/SCALING.md).
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys

import pytest

from crackflow.core import beam_pool
from crackflow.core.config.data import ConvertConfig, Runner
from crackflow.core.errors import ConfigError, UserError
from tests.helpers import support

HERE = importlib.util.find_spec("apache_beam") is not None
PYTHON = sys.executable if HERE else os.environ.get("CRACKFLOW_BEAM_PYTHON", "")
with_beam = pytest.mark.skipif(not shutil.which(PYTHON or "-"), reason="needs apache-beam: set CRACKFLOW_BEAM_PYTHON")


def convert(python, *options):
    line = [python, "-m", "crackflow.convert", *map(str, options)]
    return subprocess.run(line, capture_output=True, text=True, env=support.environment(), timeout=300)


def shards(out):
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".tfrecord", ".csv", ".json")}


@with_beam
def test_beam_writes_what_local_processes_write(tmp_path):
    photos = support.photos(tmp_path / "photos", 60)
    (tmp_path / "photos" / "Negative" / "broken.jpg").write_bytes(b"no picture")
    for runner in ("local", "beam"):
        done = convert(PYTHON, f"--images={photos}", f"--out={tmp_path / runner}", "--shards=4", f"--runner={runner}")
        assert done.returncode == 0, done.stderr
    local, beam = shards(tmp_path / "local"), shards(tmp_path / "beam")
    assert local.keys() == beam.keys() and len([name for name in local if name.endswith(".tfrecord")]) >= 6
    local_metadata, beam_metadata = (json.loads(files.pop("dataset.json")) for files in (local, beam))
    assert local_metadata.pop("created") and beam_metadata.pop("created") and local_metadata == beam_metadata
    for name in local:
        assert local[name] == beam[name], name


@with_beam
def test_a_mistake_that_a_beam_worker_meets_is_one_line(tmp_path):
    photos = support.photos(tmp_path / "photos", 12)
    (tmp_path / "photos" / "Negative" / "broken.jpg").write_bytes(b"no picture")
    options = f"--images={photos}", f"--out={tmp_path / 'out'}", "--runner=beam", "--on_bad=fail"
    done = convert(PYTHON, *options)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "broken.jpg" in done.stderr and os.listdir(tmp_path) == ["photos"]


@with_beam
def test_unknown_beam_options_are_a_clear_error(tmp_path):
    photos = support.photos(tmp_path / "photos", 12)
    options = f"--images={photos}", f"--out={tmp_path / 'out'}", "--runner=beam", "--beam_options=--runner=NoRunner"
    done = convert(PYTHON, *options)
    assert done.returncode == 2 and "--beam_options: " in done.stderr and "NoRunner" in done.stderr
    assert os.listdir(tmp_path) == ["photos"]


@pytest.mark.skipif(HERE, reason="says what happens without apache-beam; it is installed")
def test_without_beam_the_error_says_what_to_install(tmp_path):
    with pytest.raises(UserError, match="--runner=beam: this needs apache-beam, which is not installed; see docs/SCAL"):
        beam_pool.Pool("", str(tmp_path))
    photos = support.photos(tmp_path / "photos", 12)
    done = convert(sys.executable, f"--images={photos}", f"--out={tmp_path / 'out'}", "--runner=beam")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == ["photos"]


def test_beam_options_without_beam_are_refused():
    with pytest.raises(
        ConfigError, match="--beam_options: expected nothing without --runner=beam, received '--runner=X"
    ):
        ConvertConfig(images="i", out="o", beam_options="--runner=X")
    assert ConvertConfig(images="i", out="o", runner=Runner.BEAM, beam_options="--runner=X").beam_options
