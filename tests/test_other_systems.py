"""The commands where modules, functions and signals of Linux are absent, and where open files can't be moved: see
tests/elsewhere, which says what is simulated."""

import json
import pathlib
import subprocess
import sys

import pytest

from crackflow.core import verbs
from tests.helpers import support

HERE = pathlib.Path(__file__).parent / "elsewhere"
VERBS = sorted(verbs.CONFIGS)
PHOTOS = 4


def answers(system, *commands):
    """[exit code, stdout, stderr] of each command, a verb and its flags, all in one process on a simulated system."""
    environment = support.environment()
    environment |= {"ELSEWHERE": system, "PYTHONPATH": f"{HERE}:{environment['PYTHONPATH']}"}
    done = subprocess.run(
        [sys.executable, HERE / "verbs.py"],
        input="\n".join(json.dumps(list(map(str, command))) for command in commands),
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def conversions(tmp_path):
    """Generate and convert with two workers, twice; then a second dataset, a merge of both, and its verification."""
    images, data, more, other = (tmp_path / name for name in ("images", "data", "more", "other"))
    synth = ["synth", f"--out={images}", "--count=48", "--image_px=64", "--workers=2"]
    convert = ["convert", f"--images={images}", f"--out={data}", "--workers=2"]
    return [
        synth,
        convert,
        [*convert, "--overwrite"],
        ["synth", f"--out={more}", f"--count={2 * PHOTOS}", "--image_px=64", "--workers=1", "--seed=1"],
        ["convert", f"--images={more}", f"--out={other}", "--split=1,0,0", "--workers=1"],
        ["convert", f"--join={data},{other}", f"--out={tmp_path / 'both'}", "--workers=1"],
        ["convert", f"--verify={tmp_path / 'both'}", "--workers=1"],
    ]


def looking(tmp_path):
    """Photographs predicted twice; a network trained, and the run repeated."""
    predict = ["predict", f"--photos={tmp_path}/more/Positive", f"--out={tmp_path / 'found'}", "--scale=1"]
    train = ["train", f"--data={tmp_path / 'data'}", f"--run_dir={tmp_path / 'run'}", "--image_px=32", "--epochs=1"]
    train += ["--batch_size=16", "--xla=off"]
    return [predict, [*predict, "--overwrite"], train, train]


def expect_done(commands, results):
    for command, (code, _, error) in zip(commands, results, strict=True):
        # Sixty images cause a warning about small splits, and one epoch one about a model no better than a guess.
        assert code == 0 and all(line.lower().startswith("warning: ") for line in error.splitlines()), (command, error)


def expect_whole(tmp_path):
    """No temporary folder, lock or older folder is left, and the dataset is the one that Linux writes."""
    left = sorted(path.name for path in tmp_path.iterdir())
    assert not [name for name in left if name.startswith(".")], left
    here = support.converted(tmp_path / "images", tmp_path / "here")
    there = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert there["fingerprint"] == here["fingerprint"]


@pytest.mark.slow
def test_every_command_works_where_only_windows_modules_functions_and_signals_are(tmp_path):
    helps = [[verb, "--help"] for verb in VERBS]
    commands = [*helps, *conversions(tmp_path), *looking(tmp_path)]
    results = answers("windows", *commands)
    expect_done(commands, results)
    for verb, (_, stdout, _) in zip(VERBS, results, strict=False):
        assert "\nFlags:\n  --" in stdout, verb
    assert len(json.loads((tmp_path / "found" / "findings.json").read_text())["photos"]) == PHOTOS
    expect_whole(tmp_path)


def test_conversion_works_with_spawned_processes_and_no_preallocation_as_on_macos(tmp_path):
    commands = conversions(tmp_path)[:2]
    expect_done(commands, answers("macos", *commands))
    expect_whole(tmp_path)


@pytest.mark.parametrize("name", ["fcntl", "resource", "os.posix_fallocate", "os.fork", "signal.SIGUSR1"])
def test_what_is_pretended_to_be_absent_is(name):
    module, _, attribute = name.partition(".")
    code = f"import {module}; {name}" if attribute else f"import {name}"
    environment = support.environment() | {"ELSEWHERE": "windows", "PYTHONPATH": str(HERE)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and f"'{attribute or module}'" in done.stderr
