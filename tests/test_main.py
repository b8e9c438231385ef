"""The command `crackflow`: the list of verbs, the version, the completion, and each verb as its page runs it."""

import subprocess
import sys

import pytest

from crackflow import __main__ as command
from crackflow.core import flags, verbs
from crackflow.version import __version__
from tests.helpers import support


def run(*words, **options):
    line = [sys.executable, "-m", "crackflow", *words]
    return subprocess.run(line, **{"capture_output": True, "text": True, "env": support.environment()} | options)


def in_process(capsys, *words):
    """(exit code, stdout, stderr) of the command in this process."""
    code = 0
    try:
        command.main(words)
    except SystemExit as ended:
        code = ended.code
    return code, *capsys.readouterr()


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_without_a_verb_it_lists_the_verbs_with_a_sentence_each(words, capsys):
    code, out, err = in_process(capsys, *words)
    assert code == 0 and not err
    for verb in verbs.CONFIGS:
        (line,) = [line for line in out.splitlines() if line.startswith(f"  {verb} ")]
        assert line.endswith(".") or line.endswith(":") or len(line.split()) > 3
        assert len(line) <= 140


def test_it_says_its_version(capsys):
    assert in_process(capsys, "--version") == (0, f"crackflow {__version__}\n", "")


def test_a_mistyped_verb_is_answered_with_the_nearest(capsys):
    code, out, err = in_process(capsys, "trian", "--data=d")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "received 'trian'; did you mean train?" in err
    assert "received 'qqq'; crackflow --help lists them" in in_process(capsys, "qqq")[2]


def test_a_mistyped_flag_is_answered_with_the_nearest():
    done = run("convert", "--imges=a")
    assert done.returncode == 2 and "images" in done.stderr and done.stderr.count("\n") == 1
    assert done.stderr.startswith("crackflow.convert: ")


def test_a_verb_does_the_same_as_its_page(tmp_path):
    done = run("synth", f"--out={tmp_path / 'a'}", "--count=8", "--image_px=32", "--workers=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = support.command("synth", f"--out={tmp_path / 'b'}", "--count=8", "--image_px=32", "--workers=1")
    assert page.returncode == 0 and done.stdout.replace("/a:", "/b:") == page.stdout
    assert (tmp_path / "a/Positive/00000001.jpg").read_bytes() == (tmp_path / "b/Positive/00000001.jpg").read_bytes()
    assert run("synth", "--help").stdout == support.command("synth", "--help").stdout


def test_listing_the_verbs_loads_neither_tensorflow_nor_numpy():
    code = "import sys; from crackflow import __main__; __main__.main(['--help']); "
    code += "assert not {'tensorflow', 'numpy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=support.environment())
    assert done.returncode == 0, done.stderr


def test_the_completion_offers_verbs_and_then_their_flags(tmp_path):
    script = (
        command.completion()
        + """
complete_at() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _crackflow; echo "${COMPREPLY[@]}"; }
complete_at crackflow tr
complete_at crackflow predict --mm
complete_at crackflow nonsense --mm
"""
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["train", "--mm_per_px=", ""], done.stderr


def test_every_page_is_a_verb_and_every_verb_a_page():
    pages = {path.stem for path in (support.ROOT / "crackflow").glob("*.py")} - {"__init__", "__main__", "version"}
    assert pages == set(verbs.CONFIGS)
    for verb, config_class in verbs.CONFIGS.items():
        source = (support.ROOT / "crackflow" / f"{verb}.py").read_text()
        assert f"callable_module.install(__name__, {config_class.__name__}, run)" in source
        assert list(flags.settings(config_class))
