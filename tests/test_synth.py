import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from crackflow import synth
from crackflow.core import flags
from crackflow.core.config.data import Surfaces, SynthConfig
from crackflow.core.errors import UserError
from tests.helpers import small


def config(out, **changes):
    return SynthConfig(out=str(out), **({"count": 6, "image_px": 32, "workers": 1} | changes))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def processes_with(word):
    process_ids = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            process_ids += [entry.name] if word in (entry / "environ").read_bytes().decode(errors="replace") else []
        except OSError:
            continue
    return process_ids


@pytest.fixture(scope="module")
def synthetic_dir(tmp_path_factory):
    out = tmp_path_factory.mktemp("synth") / "photos"
    synth.run(config(out, count=39, seed=4))
    return out


def test_half_of_the_images_are_cracked_and_have_masks(synthetic_dir):
    names = sorted(contents(synthetic_dir))
    assert names == sorted(
        [f"Negative/{index:08d}.jpg" for index in range(0, 39, 2)]
        + [f"Positive/{index:08d}.jpg" for index in range(1, 39, 2)]
        + [f"masks/{index:08d}.png" for index in range(1, 39, 2)]
        + ["synth.json"]
    )
    with (
        Image.open(synthetic_dir / "Positive" / "00000001.jpg") as image,
        Image.open(synthetic_dir / "masks" / "00000001.png") as mask,
    ):
        assert (image.size, image.mode, mask.size) == ((32, 32), "RGB", (32, 32))


def test_the_number_of_workers_changes_no_byte(synthetic_dir, tmp_path):
    synth.run(config(tmp_path / "photos", count=39, seed=4, workers=2))
    assert contents(tmp_path / "photos") == contents(synthetic_dir)


def test_the_folder_says_what_made_it(synthetic_dir):
    facts = json.loads((synthetic_dir / synth.MARKER).read_text())
    assert facts == synth.facts(config(synthetic_dir, count=39, seed=4), "")
    assert (facts["seed"], facts["count"], facts["image_px"]) == (4, 39, 32)


def test_varied_surfaces_are_written_with_what_a_data_set_lends(tmp_path):
    lent = small.data(image_px=128)
    varied = {"surfaces": Surfaces.VARIED, "image_px": 64, "donors": lent.folder}
    for workers in (1, 2):
        synth.run(config(tmp_path / str(workers), workers=workers, **varied))
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    facts = json.loads((tmp_path / "1" / synth.MARKER).read_text())
    assert (facts["surfaces"], facts["donors"]) == ("varied", lent.metadata["fingerprint"])


def test_donors_that_are_no_data_set_are_told_before_a_folder_is_made(tmp_path):
    wrong = config(tmp_path / "out", surfaces=Surfaces.VARIED, donors=str(tmp_path))
    with pytest.raises(UserError, match="expected a dataset made by crackflow.convert"):
        synth.run(wrong)
    assert os.listdir(tmp_path) == []


def test_nothing_else_is_left_beside_the_folder(synthetic_dir):
    assert os.listdir(synthetic_dir.parent) == ["photos"]


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is not empty"):
        synth.run(config(tmp_path))
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_overwrite_replaces_what_synth_made_and_nothing_else(tmp_path):
    own, foreign = tmp_path / "own", tmp_path / "foreign"
    for folder in (own, foreign):
        (folder / "Positive").mkdir(parents=True)
        (folder / "Positive" / "00000999.jpg").write_text("old")
    (own / synth.MARKER).write_text("{}")
    synth.run(config(own, overwrite=True))
    assert len(list(own.rglob("*.jpg"))) == 6 and not (own / "Positive" / "00000999.jpg").exists()
    (own / "Positive" / "my_bridge.jpg").write_text("mine")
    with pytest.raises(UserError, match="holds 'Positive/my_bridge.jpg', which this command did not write"):
        synth.run(config(own, overwrite=True))
    assert (own / "Positive" / "my_bridge.jpg").read_text() == "mine"
    with pytest.raises(UserError, match=r"holds no synth\.json"):
        synth.run(config(foreign, overwrite=True))
    assert (foreign / "Positive" / "00000999.jpg").read_text() == "old"


def test_a_taken_folder_is_one_line_and_exit_code_2(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        flags.main(SynthConfig, synth.run, synth.__doc__, [f"--out={tmp_path}", "--count=2"])
    assert capsys.readouterr().err.count("\n") == 1


def test_a_killed_run_leaves_no_folder_no_process_and_the_next_run_tidies_up(tmp_path):
    out, word = tmp_path / "photos", f"CRACKFLOW_TEST={tmp_path}"
    command = [
        sys.executable,
        "-m",
        "crackflow.synth",
        f"--out={out}",
        "--count=100000",
        "--image_px=32",
        "--workers=2",
    ]
    running = subprocess.Popen(command, env=os.environ | dict([word.split("=", 1)]), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.rglob("*.jpg"))
    running.send_signal(signal.SIGKILL)
    running.communicate()
    while processes_with(word) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes_with(word)
    assert not out.exists() and len(os.listdir(tmp_path)) == 1
    synth.run(config(out))
    assert os.listdir(tmp_path) == ["photos"]


def test_an_interrupted_run_leaves_nothing(tmp_path):
    command = [
        sys.executable,
        "-m",
        "crackflow.synth",
        f"--out={tmp_path / 'photos'}",
        "--count=100000",
        "--image_px=32",
    ]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    assert running.communicate()[1].startswith("crackflow.synth: interrupted")
    assert running.returncode in (130, -signal.SIGINT)  # a shell says 130 for both
    assert os.listdir(tmp_path) == []


def test_the_command_loads_no_tensorflow_sklearn_or_matplotlib():
    code = (
        "import sys, crackflow.synth; print([m for m in ('tensorflow', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout == "[]\n"
