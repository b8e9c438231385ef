"""The campaigns of benchmarks.faults, in short: damage to every kind of file, disks that fill up, kills."""

import dataclasses
import json
import pathlib
import random
import shutil
import sys

import numpy as np
import pytest

from benchmarks import faults, faults_damage, faults_disks
from crackflow.core.config.network import Network
from crackflow.core.config.search import TuneConfig, Tuner
from crackflow.data import dataset
from crackflow.model import model_file, networks
from crackflow.pipeline import memmap_loader
from crackflow.search import oracle, search, space, trial
from crackflow.training import checkpoint
from tests.helpers import small, support
from tests.helpers.cards import CARD

PX, POINTS = 32, 4


def draw_of(number):
    return random.Random(number)


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    directory = tmp_path_factory.mktemp("faults")
    data, run, out = directory / "data", directory / "run", directory / "search"
    shutil.copytree(small.data().folder, data, ignore=shutil.ignore_patterns("packs"))
    memmap_loader.build_if_missing(dataset.load(str(data)), "train", PX, 3)
    for step in (1, 2):
        facts = {"step": step, "identity": {"flags": {}}}
        checkpoint.save(str(run / "checkpoints"), checkpoint.Snapshot(facts, {"weight/0": np.arange(99.0) * step}))
    model_file.save(str(run / "model.h5"), networks.NETWORKS[Network.CRACKFLOW_XS].build(32), CARD)
    config = TuneConfig(data=str(data), out=str(out), tuner=Tuner.RANDOM, max_trials=4)
    with search._opened(config, search.identity(config, "f" * 64)):
        search_oracle = oracle.create_oracle(config, str(out / search.ORACLE))
        search_oracle.create_trial("alone")
    trial.save(str(out / "trials/0"), trial.TrialResult("0", trial.COMPLETED, 0.5, epochs=2, chosen=space.defaults()))
    return faults_damage.targets(data, run, out, PX)


def test_no_damaged_file_is_used_as_if_it_were_whole(targets):
    assert len(targets) == 11
    for name, target in targets.items():
        saved = []
        tally = faults_damage.campaign(target, POINTS, {}, draw_of, saved.append)
        assert tally["points"] == POINTS == tally["refused"] + tally["same"], (name, tally)
        again = faults_damage.campaign(target, POINTS, tally, draw_of, saved.append)
        assert again == tally and len(saved) == POINTS  # it goes on where it was, which is the end


def test_a_file_that_is_used_whatever_it_holds_is_found_out(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": 12345678}))
    target = faults_damage.Target(path, lambda: path.read_bytes())
    tally = faults_damage.campaign(target, POINTS, {}, draw_of, lambda tally: None)
    assert len(tally["silent"]) == POINTS and path.read_text() == '{"a": 12345678}'


@pytest.mark.slow
def test_a_disk_that_is_too_small_is_one_line_and_with_room_the_same_command_goes_on(tmp_path):
    if not faults_disks.can_mount(tmp_path / "disk"):
        pytest.skip("needs the right to mount a small disk")
    images = support.photos(tmp_path / "images", 12, 256, quality=100)

    def command(directory):
        return ["crackflow.convert", f"--images={images}", f"--out={directory / 'out'}", "--workers=1"]

    tally = faults_disks.campaign(tmp_path / "disk", command, lambda _: None, 1, {}, draw_of, lambda tally: None)
    assert tally == {"points": 1, "wrong": [], "tracebacks": [], "leftovers": [], "codes": {"2": 1}}


def test_a_campaign_of_kills_goes_on_where_it_was_and_finds_what_is_left_behind(tmp_path):
    """The command writes a file, slowly, and does not tidy up first."""
    code = (
        "import sys, time; from crackflow.core import atomic\n"
        "with atomic.file(sys.argv[1]) as file: file.write(b'a'); time.sleep(2)"
    )
    target, saved = tmp_path / "a", []
    plan = faults.Plan(2, dataclasses.asdict(faults.Tally(kills=1, identical=True)), draw_of, saved.append)

    def is_writing():
        return bool(list(tmp_path.iterdir()))

    tally = faults.campaign(
        plan,
        lambda: [sys.executable, "-c", code, str(target)],
        0.5,
        lambda: [],
        target.read_bytes,
        target.unlink,
        b"a",
        pathlib.Path(tmp_path),
        is_writing,
    )
    assert tally["kills"] == 2 and tally["identical"] and len(tally["leftovers"]) == 1 and not tally["failed"]
    assert saved[-1] == tally


def test_what_was_killed_after_its_end_is_compared_and_begun_again(tmp_path):
    """The command does not replace what is there, and lives on for a while after it has written all."""
    code = "import sys, time; open(sys.argv[1], 'xb').write(b'a'); time.sleep(5)"
    target, wanted = tmp_path / "a", [b"a", b"b"]
    for content, identical in zip(wanted, (True, False), strict=True):
        plan = faults.Plan(2, {}, draw_of, lambda tally: None)
        command = [sys.executable, "-c", code.replace("5", "0.5"), str(target)]
        tally = faults.campaign(
            plan,
            lambda command=command: command,
            0.2,
            lambda: [],
            target.read_bytes,
            target.unlink,
            content,
            tmp_path,
            target.exists,
            target.exists,
        )
        assert tally["kills"] == 2 and not tally["failed"] and tally["identical"] == identical
        target.unlink()


def test_results_that_are_written_down_are_gone_on_with(tmp_path):
    path = str(tmp_path / "faults.json")
    faults.Notebook(path, 0).save("damage", "shard", {"points": 3, "silent": [], "tracebacks": []})
    assert faults.Notebook(path, 0).plan("damage", "shard", 5).done["points"] == 3
    assert not faults.Notebook(path, 1).plan("damage", "shard", 5).done
