import dataclasses
import signal
import string
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackflow.core import errors, flags, verbs
from crackflow.core.config.augmentation import Augment, Augmentation, PreviewConfig
from crackflow.core.config.data import ConvertConfig, Encoding, GroupBy, Layout, OnBad
from crackflow.core.config.training import ExtraMetric, Optimization, Optimizer, TrainConfig
from crackflow.core.errors import ConfigError, UserError

CLASSES = list(verbs.CONFIGS.values())
PATHS = ["--images=in", "--out=out"]


def leaves(kind):
    """Fields by name; a field that is a dataclass is replaced by its own fields."""
    leaf_fields = {}
    for field in dataclasses.fields(kind):
        leaf_fields |= leaves(type(field.default)) if dataclasses.is_dataclass(field.default) else {field.name: field}
    return leaf_fields


@pytest.mark.parametrize("kind", CLASSES)
def test_every_setting_is_a_flag_with_its_default_and_nothing_else_is(kind):
    values = flags.define(kind)
    fields = leaves(kind)
    aliases = {alias for field in fields.values() for alias in field.metadata["aliases"]}
    assert set(values) - {"flagfile", "help", "h"} - aliases == set(fields) and not aliases & set(fields)
    for name, field in fields.items():
        assert values[name].help.endswith(field.metadata["help"])


def test_flags_that_were_written_out_are_known_even_with_their_defaults(tmp_path):
    (tmp_path / "some.cfg").write_text("--stem=32\n")
    config = flags.parse(
        TrainConfig, ["--data=d", "--run_dir=r", "--model=crackflow_s", f"--flagfile={tmp_path}/some.cfg"]
    )
    assert {"data", "run_dir", "model", "stem"} <= flags.explicit_flags(
        config
    ) and "image_px" not in flags.explicit_flags(config)
    assert config == TrainConfig(data="d", run_dir="r")
    assert flags.explicit_flags(TrainConfig(data="d", run_dir="r", seed=3)) == {"data", "run_dir", "seed"}


def test_settings_within_settings_are_flags_beside_the_others_and_replay(tmp_path):
    argv = ["--data=d", "--run_dir=r", "--augment=strong", "--noise=3.5", "--optimizer=sgd", "--metrics=mcc,kappa"]
    config = flags.parse(TrainConfig, argv)
    assert config == TrainConfig(
        data="d",
        run_dir="r",
        augmentation=Augmentation(augment=Augment.STRONG, noise=3.5),
        optimization=Optimization(optimizer=Optimizer.SGD),
        metrics=(ExtraMetric.MCC, ExtraMetric.KAPPA),
    )
    (tmp_path / "flags.cfg").write_text(flags.as_flagfile(config))
    assert flags.parse(TrainConfig, [f"--flagfile={tmp_path / 'flags.cfg'}"]) == config


def test_settings_within_settings_have_the_defaults_that_the_outer_ones_give_them():
    config = flags.parse(PreviewConfig, ["--data=d", "--out=o.png"])
    assert config == PreviewConfig("d", "o.png") and config.augmentation.augment is Augment.STANDARD
    with pytest.raises(flags.HelpRequested, match=r"\(default standard\)"):
        flags.parse(PreviewConfig, ["--help"])


def test_flags_left_out_keep_the_defaults_of_the_dataclass():
    assert flags.parse(ConvertConfig, PATHS) == ConvertConfig("in", "out")


def test_flags_become_the_kinds_of_the_fields():
    more = ["--encoding=png", "--split=0.6,0.2,0.2", "--overwrite", "--max_megapixels=7", "--layout=sdnet"]
    assert flags.parse(ConvertConfig, [*PATHS, *more]) == ConvertConfig(
        "in",
        "out",
        encoding=Encoding.PNG,
        split=(0.6, 0.2, 0.2),
        overwrite=True,
        max_megapixels=7.0,
        layout=Layout.SDNET,
    )
    assert flags.parse(ConvertConfig, [*PATHS, "--overwrite", "--nooverwrite"]).overwrite is False


# A flagfile holds one flag per line and is trimmed: it cannot hold line breaks and outer blanks.
PATH = st.text(string.printable[:94] + " äß裂缝", min_size=1, max_size=30).filter(lambda text: text == text.strip())
FRACTION = st.sampled_from([(0.8, 0.1, 0.1), (1.0, 0.0, 0.0), (0.7, 0.15, 0.15)])


@given(
    st.builds(
        ConvertConfig,
        images=PATH,
        out=PATH,
        image_px=st.sampled_from([0, 8, 4096]),
        encoding=st.sampled_from(Encoding),
        split=FRACTION,
        group_by=st.sampled_from(GroupBy),
        layout=st.sampled_from(Layout),
        seed=st.integers(0, 2**40),
        on_bad=st.sampled_from(OnBad),
        min_crack_fraction=st.floats(1e-6, 0.99),
        overwrite=st.booleans(),
    )
)
def test_a_flagfile_replays_the_settings_exactly(tmp_path_factory, settings):
    path = tmp_path_factory.getbasetemp() / "flags.cfg"
    path.write_text(flags.as_flagfile(settings, header="two\nlines of comment"), encoding="utf-8")
    assert flags.parse(ConvertConfig, [f"--flagfile={path}"]) == settings


def test_a_flag_after_the_flagfile_wins(tmp_path):
    (tmp_path / "flags.cfg").write_text("# a comment\n\n--images=in\n--out=out\n--seed=5\n")
    assert flags.parse(ConvertConfig, [f"--flagfile={tmp_path / 'flags.cfg'}", "--seed=6"]).seed == 6


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--sed=1"], r"Unknown command line flag 'sed'. Did you mean: seed"),
        (["--encoding=gif"], r"encoding.*<jpeg\|png\|raw>"),
        (["--seed=x"], r"seed.*'x'"),
        (["--split=a,b,c"], r"--split: expected float values separated by commas, received 'a,b,c'"),
        (["stray"], r"expected only --flags, received 'stray'; write --name=value"),
        (["--flagfile=/nowhere.cfg"], r"/nowhere.cfg.*; --help lists the flags"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(argv, message):
    with pytest.raises(UserError, match=message) as refused:
        flags.parse(ConvertConfig, [*PATHS, *argv])
    assert "\n" not in str(refused.value)


def test_a_flagfile_in_no_encoding_is_refused(tmp_path):
    (tmp_path / "flags.cfg").write_bytes(b"--images=\xff\xfe\n")
    with pytest.raises(UserError, match="--help lists the flags"):
        flags.parse(ConvertConfig, [f"--flagfile={tmp_path / 'flags.cfg'}"])


def test_a_value_out_of_range_is_refused_by_the_dataclass():
    with pytest.raises(ConfigError, match="--seed: expected 0 or more, received -1"):
        flags.parse(ConvertConfig, [*PATHS, "--seed=-1"])


def test_help_lists_every_setting_with_its_text():
    with pytest.raises(flags.HelpRequested) as help_request:
        flags.parse(ConvertConfig, ["--help"])
    for field in dataclasses.fields(ConvertConfig):
        assert f"--{field.name}=" in str(help_request.value) and field.metadata["help"] in str(help_request.value)
    assert "--encoding=jpeg|png|raw" in str(help_request.value)


@pytest.mark.parametrize(
    ("failure", "code", "words"),
    [
        (UserError("say\nso"), 2, "say\\nso\n"),
        (errors.VerificationError("damaged"), 1, "damaged\n"),
        (errors.RetryableError("stopped after step 3"), 75, "stopped after step 3\n"),
        (KeyboardInterrupt(), 130, "interrupted; nothing half-written was left under the final name\n"),
        (OSError(28, "No space left on device"), 2, "the disk is full; free some space"),
    ],
)
def test_each_kind_of_failure_has_its_exit_code_and_one_line(capsys, monkeypatch, failure, code, words):
    def run(settings):
        raise failure

    monkeypatch.setattr(sys, "argv", ["/somewhere/convert.py"])
    with pytest.raises(SystemExit) as left:
        flags.main(ConvertConfig, run, "about", PATHS)
    error = capsys.readouterr().err
    assert left.value.code == code
    assert error.startswith(f"crackflow.convert: {words}") and error.count("\n") == 1


def test_a_fault_of_ours_keeps_its_traceback():
    def run(settings):
        raise OSError(9, "Bad file descriptor")

    with pytest.raises(OSError, match="Bad file descriptor"):
        flags.main(ConvertConfig, run, "about", PATHS)


def test_sigterm_is_an_interruption(capsys):
    with pytest.raises(SystemExit) as left:
        flags.main(ConvertConfig, lambda settings: signal.raise_signal(signal.SIGTERM), "about", PATHS)
    assert left.value.code == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_run_that_ends_well_says_nothing_and_raises_nothing(capsys):
    seen = []
    flags.main(ConvertConfig, seen.append, "about", PATHS)
    assert seen == [ConvertConfig("in", "out")]
    assert capsys.readouterr() == ("", "")


def test_flags_as_a_dictionary_are_those_of_the_flagfile_but_for_some():
    config = ConvertConfig("in", "out", split=(0.5, 0.25, 0.25), overwrite=True)
    lines = dict(line[2:].split("=", 1) for line in flags.as_flagfile(config).splitlines())
    assert flags.as_dict(config) == lines and lines["split"] == "0.5,0.25,0.25" and lines["overwrite"] == "true"
    assert flags.as_dict(config, {"seed"}) == {name: value for name, value in lines.items() if name != "seed"}


def test_the_home_of_the_user_is_meant_by_a_tilde(monkeypatch):
    """A shell does not expand it after an = sign."""
    monkeypatch.setenv("HOME", "/home/ada")
    leaf_fields = flags.parse(ConvertConfig, ["--images=~/walls", "--out=~/data/walls"])
    assert (leaf_fields.images, leaf_fields.out) == ("/home/ada/walls", "/home/ada/data/walls")
    assert flags.parse(ConvertConfig, ["--join=~/a,b", "--out=c"]).join == ("/home/ada/a", "b")


@pytest.mark.parametrize("argument", ["--nooverwrite=3", "--nooverwrite=true"])
def test_a_value_for_a_flag_that_takes_none_is_one_line(argument):
    with pytest.raises(UserError, match="--help lists the flags"):
        flags.parse(ConvertConfig, ["--images=a", "--out=b", argument])
