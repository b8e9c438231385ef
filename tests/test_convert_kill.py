"""SIGKILL at any moment: a dataset is whole or not there, nothing keeps running, and the next run tidies up."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from crackflow import convert
from crackflow.core import atomic, temporary_files
from crackflow.core.config.data import ConvertConfig, OnBad
from crackflow.core.errors import UserError, VerificationError
from crackflow.data import dataset
from crackflow.training import run_folder
from tests.helpers import support

pytestmark = pytest.mark.slow

COUNT = 1500
MOMENTS = 10
FIRST, LAST = 0.02, 0.98  # of the time from the first file that is written to the end


def command(images, out, *more):
    return [sys.executable, "-m", "crackflow.convert", f"--images={images}", f"--out={out}", "--workers=2", *more]


def start(line):
    """The command in a session of its own, so that the processes it starts can be told from all others."""
    quiet = subprocess.DEVNULL
    return subprocess.Popen(line, stdout=quiet, stderr=quiet, start_new_session=True, env=support.environment())


def alive(session):
    """Ids of the processes of `session` that still run."""
    pids = []
    for process_dir in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, its_session = (process_dir / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it ended meanwhile
            continue
        if int(its_session) == session and state not in "ZX":
            pids.append(int(process_dir.name))
    return pids


def wait_for_files(parent, running):
    """Until there is an unfinished folder in `parent`, or the run has ended."""
    while running.poll() is None and not left_overs(parent):
        time.sleep(0.005)


def kill_after(line, parent, seconds, patience):
    """Start `line`, kill its main process `seconds` after it began to write to `parent`; then whatever it started must
    end within `patience`."""
    running = start(line)
    wait_for_files(parent, running)
    time.sleep(seconds)
    ended_first = running.poll() is not None
    if not ended_first:
        os.kill(running.pid, signal.SIGKILL)
    running.wait(timeout=10)
    deadline = time.monotonic() + patience
    while alive(running.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert alive(running.pid) == [], "worker processes outlived the run"
    return ended_first


def verify(directory):
    convert.run(ConvertConfig(verify=str(directory), workers=1))


def left_overs(parent):
    return [name for name in os.listdir(parent) if name.startswith(".")]


def expect_no_part_passes(parent):
    """What a killed run left does not pass for a dataset."""
    for name in left_overs(parent):
        if ".partial-" in name:
            with pytest.raises(VerificationError, match="is no whole dataset: the run that made it was killed"):
                verify(parent / name)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return support.photos(tmp_path_factory.mktemp("many"), COUNT, 48, quality=60)


@pytest.fixture(scope="module")
def run_seconds(photos, tmp_path_factory):
    """How long an undisturbed run writes, here and now."""
    parent = tmp_path_factory.mktemp("whole")
    running = start(command(photos, parent / "out"))
    wait_for_files(parent, running)
    began = time.monotonic()
    assert running.wait(timeout=300) == 0
    return time.monotonic() - began


def moment(number, run_seconds):
    return run_seconds * (FIRST + (LAST - FIRST) * number / (MOMENTS - 1))


def patience(run_seconds):
    """15 s; more on a busy machine, where a worker that is killed while it imports takes longer to look around."""
    return max(15, 3 * run_seconds)


def test_killed_at_ten_moments_a_new_data_set_is_whole_or_absent(photos, run_seconds, tmp_path):
    out, interrupted, wanted = tmp_path / "out", 0, None
    for number in range(MOMENTS):
        kill_after(command(photos, out), tmp_path, moment(number, run_seconds), patience(run_seconds))
        interrupted += bool(left_overs(tmp_path))
        expect_no_part_passes(tmp_path)
        if out.exists():
            verify(out)
            shutil.rmtree(out)
        facts = support.converted(photos, out, workers=2)  # running again goes to the end
        wanted = wanted or facts["fingerprint"]
        assert facts["fingerprint"] == wanted
        assert os.listdir(tmp_path) == ["out"], "left-overs of the killed run stayed"
        if number < MOMENTS - 1:
            shutil.rmtree(out)
    verify(out)
    assert interrupted >= MOMENTS // 2, "the kills came before or after the work"


def test_killed_while_it_replaces_an_older_data_set_the_older_stays_whole(photos, run_seconds, tmp_path):
    out = tmp_path / "out"
    old = support.converted(support.photos(tmp_path / "few", 8), out)["fingerprint"]
    new = support.converted(photos, tmp_path / "other", workers=2)["fingerprint"]
    seen = []
    for number in (3, 6, 8):
        line = command(photos, out, "--overwrite")
        kill_after(line, tmp_path, moment(number, run_seconds), patience(run_seconds))
        seen.append((bool(left_overs(tmp_path)), fingerprint(out) == old))
        verify(out)
        assert fingerprint(out) in (old, new)
        expect_no_part_passes(tmp_path)
    assert (True, True) in seen  # killed in the middle, and the older one was there
    assert support.converted(photos, out, workers=2, overwrite=True)["fingerprint"] == new != old
    assert sorted(os.listdir(tmp_path)) == ["few", "other", "out"]
    verify(out)


def fingerprint(out):
    return dataset.load(str(out)).metadata["fingerprint"]


def test_killed_between_the_two_renames_the_older_data_set_comes_back(tmp_path):
    photos, out = support.photos(tmp_path / "photos", 8), tmp_path / "out"
    old = support.converted(photos, out)["fingerprint"]
    aside = tmp_path / support.dead_name("out", temporary_files.REPLACED)
    out.rename(aside)  # as a kill right there leaves it
    stage = tmp_path / support.dead_name("out")
    stage.mkdir()
    support.put(stage / run_folder.LOCK, b"")
    support.put(photos / "Positive/bad.jpg", b"")
    with pytest.raises(UserError, match="'Positive/bad.jpg': empty file"):
        support.converted(photos, out, overwrite=True, on_bad=OnBad.FAIL)
    assert fingerprint(out) == old
    assert sorted(os.listdir(tmp_path)) == ["out", "photos"]
    verify(out)


def test_a_run_that_is_still_alive_keeps_its_unfinished_folder(tmp_path):
    out = tmp_path / "out"
    with atomic.folder(str(out), "dataset.json", overwrite=False, owned_patterns=()) as stage:
        support.put(os.path.join(stage, "shard"), b"1")
        support.converted(support.photos(tmp_path / "photos", 8), tmp_path / "other")
        with (
            pytest.raises(RuntimeError, match="second"),
            atomic.folder(str(out), "dataset.json", overwrite=False, owned_patterns=()),
        ):
            raise RuntimeError("second")
        assert os.path.exists(stage)
    assert (out / "shard").read_bytes() == b"1"
    assert not left_overs(tmp_path)
