import dataclasses

import pytest

from crackflow.core import config, errors, flags

EVERY = [config.SynthConfig, config.ConvertConfig, config.TrainConfig, config.EvaluateConfig]
GIVEN = {
    config.SynthConfig: {"out": "o"},
    config.ConvertConfig: {"images": "i", "out": "o"},
    config.TrainConfig: {"data": "d", "run_dir": "r"},
    config.EvaluateConfig: {"model": "m", "data": ("a", "b c"), "out": "o"},
}


@pytest.mark.parametrize("kind", EVERY)
def test_every_setting_has_a_flag_and_help(kind):
    defined = flags.define(kind)
    assert {field.name for field in dataclasses.fields(kind)} <= set(defined)
    assert all(field.metadata["help"] for field in dataclasses.fields(kind))


@pytest.mark.parametrize("kind", EVERY)
def test_a_flagfile_gives_the_settings_back(kind, tmp_path):
    made = kind(**GIVEN[kind], seed=11)
    (tmp_path / "flags.cfg").write_text(flags.as_flagfile(made, header="two\nlines"))
    assert flags.parse(kind, [f"--flagfile={tmp_path / 'flags.cfg'}"]) == made


def test_flags_after_a_flagfile_win(tmp_path):
    (tmp_path / "a.cfg").write_text("# a comment\n--seed=3\n--epochs=2\n")
    found = flags.parse(config.TrainConfig, [f"--flagfile={tmp_path / 'a.cfg'}", "--data=d", "--run_dir=r", "--seed=4"])
    assert (found.seed, found.epochs) == (4, 2)


def test_help_lists_every_flag_with_its_default(capsys):
    flags.main(config.TrainConfig, lambda found: None, "About.", ["--help"])
    text = capsys.readouterr().out
    assert text.startswith("About.")
    assert "--batch_size=64" in text and "--model=crackflow_s|seed" in text


@pytest.mark.parametrize(
    "raised, code, message",
    [
        (errors.UserError("mend\nthis"), 2, r"mend\nthis"),
        (errors.CheckFailed("broken"), 1, "broken"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "a.bin"), 2, "the disk is full: 'a.bin'; free some space"),
        (OSError(13, "Permission denied", "a.bin"), 2, "no permission (Permission denied): 'a.bin'"),
    ],
)
def test_each_failure_has_its_exit_code_and_one_line(raised, code, message, capsys):
    def fail(found):
        raise raised

    with pytest.raises(SystemExit) as left:
        flags.main(config.SynthConfig, fail, None, ["--out=o"])
    assert left.value.code == code
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and message in line


def test_a_fault_of_ours_keeps_its_traceback():
    def fail(found):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        flags.main(config.SynthConfig, fail, None, ["--out=o"])
