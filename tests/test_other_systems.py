"""The commands where modules and functions of Linux are absent: see tests/elsewhere, which says what is pretended."""

import json
import pathlib
import subprocess
import sys

import pytest

from tests import support

HERE = pathlib.Path(__file__).parent / "elsewhere"
VERBS = sorted(path.stem for path in (support.ROOT / "crackflow").glob("*.py") if path.stem != "__init__")


def answers(system, *commands):
    """[exit code, stdout, stderr] of each command, a verb and its flags, on the pretended `system`."""
    environment = support.environment()
    environment |= {"ELSEWHERE": system, "PYTHONPATH": f"{HERE}:{environment['PYTHONPATH']}"}
    done = subprocess.run(
        [sys.executable, HERE / "verbs.py"],
        input="\n".join(json.dumps(list(map(str, command))) for command in commands),
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def work(tmp_path):
    images, data, both = (tmp_path / name for name in ("images", "data", "both"))
    synth = ["synth", f"--out={images}", "--count=48", "--image_px=64", "--workers=2"]
    convert = ["convert", f"--images={images}", f"--out={data}", "--workers=2"]
    predict = ["predict", f"--photos={images}/Positive", f"--out={tmp_path / 'found'}", "--scale=1"]
    train = ["train", f"--data={data}", f"--run_dir={tmp_path / 'run'}", "--image_px=32"]
    train += ["--batch_size=16", "--epochs=1", "--xla=off"]
    return [
        synth,
        [*synth, "--overwrite"],
        convert,
        [*convert, "--overwrite"],
        ["convert", f"--verify={data}"],
        ["synth", f"--out={tmp_path / 'more'}", "--count=32", "--image_px=64", "--workers=1", "--seed=1"],
        ["convert", f"--images={tmp_path / 'more'}", f"--out={tmp_path / 'other'}", "--workers=1"],
        ["convert", f"--join={data},{tmp_path / 'other'}", f"--out={both}", "--workers=2"],
        predict,
        [*predict, "--overwrite"],
        train,
        train,
        ["evaluate", f"--model={tmp_path / 'run'}", f"--data={data}", f"--out={tmp_path / 'test'}"],
    ]


@pytest.mark.parametrize("system", ["windows", "macos"])
def test_the_commands_work_without_what_is_linux_alone(tmp_path, system):
    commands = work(tmp_path)
    if system == "macos":
        commands = [command for command in commands if command[0] not in ("train", "evaluate")]
    for command, (code, _, error) in zip(commands, answers(system, *commands), strict=True):
        assert (code, error) == (0, ""), command
    left = sorted(path.name for path in tmp_path.iterdir())
    assert not [name for name in left if name.startswith(".")], left
    assert len(json.loads((tmp_path / "found" / "findings.json").read_text())["photos"]) == 24
