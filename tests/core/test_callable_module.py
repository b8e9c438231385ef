import inspect
import pathlib

import numpy as np
import pytest

import crackflow
from crackflow.core import callable_module, flags, verbs
from crackflow.core.config.data import ConvertConfig, Encoding
from crackflow.core.config.trained import EvaluateConfig
from crackflow.core.config.training import Optimizer, TrainConfig
from crackflow.core.errors import UserError
from tests.helpers import stub, support


def build(config_class=TrainConfig, **arguments):
    return callable_module.build_config(config_class, {"data": "d", "run_dir": "r"} | arguments)


# Flags that a verb does not do without.
REQUIRED = {
    "synth": ("out",),
    "convert": ("images", "out"),
    "augment_preview": ("data", "out"),
    "train": ("data", "run_dir"),
    "adapt": ("images", "out"),
    "tune": ("data", "out"),
    "evaluate": ("model", "data", "out"),
    "explain": ("model", "images", "out"),
    "card": (),
    "predict": ("photos",),
    "export": ("out",),
    "doctor": (),
    "data_service": (),
}


@pytest.mark.parametrize("verb", verbs.CONFIGS)
def test_a_call_with_the_defaults_written_out_is_a_call_without(verb):
    config_class, given = verbs.CONFIGS[verb], dict.fromkeys(REQUIRED[verb], "folder.png")
    defaults = {setting.name: setting.default for setting in flags.settings(config_class)}
    expected = callable_module.build_config(config_class, given)
    assert callable_module.build_config(config_class, defaults | given) == expected


def test_arguments_of_a_call_build_the_config_that_the_same_flags_do():
    called = build(epochs=3, learning_rate=1, optimizer="sgd", rate_drops=[0.25, 0.5], data=pathlib.Path("d"))
    words = ["--data=d", "--run_dir=r", "--epochs=3", "--learning_rate=1", "--optimizer=sgd", "--rate_drops=0.25,0.5"]
    parsed = flags.parse(TrainConfig, words)
    assert called == parsed and called.optimization.optimizer is Optimizer.SGD
    assert flags.explicit_flags(called) == flags.explicit_flags(parsed)


def test_one_item_stands_for_a_tuple_and_members_for_their_values():
    config = callable_module.build_config(EvaluateConfig, {"data": "a,b", "model": "m", "out": "o"})
    assert config.data == ("a,b",)  # a folder's name may have a comma, and Python has lists
    config = callable_module.build_config(ConvertConfig, {"images": "i", "out": "o", "encoding": Encoding.PNG})
    assert config.encoding is Encoding.PNG


def test_numbers_of_numpy_are_numbers():
    config = build(epochs=np.int64(3), learning_rate=np.float32(0.5), deterministic=np.True_)
    assert (config.epochs, config.optimization.learning_rate, config.deterministic) == (3, 0.5, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": "3"}, r"^epochs: expected int, received '3'$"),
        ({"epochs": True}, r"^epochs: expected int, received True$"),
        ({"epochs": 2.5}, r"^epochs: expected int, received 2.5$"),
        ({"deterministic": 1}, r"^deterministic: expected bool, received 1$"),
        ({"optimizer": "adem"}, r"^optimizer: expected .*'sgd'.*, received 'adem'$"),
        ({"metrics": ["mcc", "none"]}, r"^metrics: expected 'mcc' or 'kappa', received 'none'$"),
        ({"data": 3}, r"^data: expected str, received 3$"),
        ({"epochs": -1}, r"^--epochs: expected 1 or more, received -1$"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(arguments, message):
    with pytest.raises(UserError, match=message):
        build(**arguments)


def test_an_unknown_argument_is_answered_with_the_nearest():
    with pytest.raises(TypeError, match=r"unexpected argument 'batchsize'; did you mean batch_size\?"):
        build(batchsize=3)
    with pytest.raises(
        TypeError, match=r"unexpected argument 'zzzz', expected one of accumulate, activation, all_reduce"
    ):
        build(zzzz=3)


def test_a_flag_answers_to_the_names_of_the_field_too():
    called = build(ema_decay=0.5, gradient_accumulation_steps=2)
    assert (called.optimization.ema, called.optimization.accumulate) == (0.5, 2)
    assert {"ema", "accumulate"} <= flags.explicit_flags(called)
    parsed = flags.parse(TrainConfig, ["--data=d", "--run_dir=r", "--ema_decay=0.5", "--gradient_accumulation_steps=2"])
    assert parsed == called and flags.explicit_flags(parsed) == flags.explicit_flags(called)
    assert "--ema=0.5" in flags.as_flagfile(parsed) and "ema_decay" not in flags.as_flagfile(parsed)
    with pytest.raises(TypeError, match="argument 'ema' was given twice, also as 'ema_decay'"):
        build(ema=0.5, ema_decay=0.5)


def test_editors_see_the_flags_of_a_verb():
    signature = inspect.signature(crackflow.synth)
    assert list(signature.parameters) == [setting.name for setting in flags.settings(verbs.CONFIGS["synth"])]
    assert signature.parameters["count"].default == 2000 and signature.return_annotation is dict


def test_the_stub_of_the_package_is_what_the_configs_say():
    text = "".join(stub.render().split()).replace(",)", ")").replace(",]", "]")
    assert text == "".join(stub.PATH.read_text().split()).replace(",)", ")").replace(",]", "]"), (
        "python -m tests.helpers.stub writes it anew"
    )


def test_the_package_names_its_verbs():
    assert {name for name in crackflow.__all__ if name in verbs.CONFIGS} == {*verbs.CONFIGS} - {"data_service"}
    assert set(crackflow.__all__) <= set(dir(crackflow))
    with pytest.raises(AttributeError, match="module 'crackflow' has no attribute 'trian'"):
        crackflow.trian  # noqa: B018


def test_a_verb_called_from_python_returns_what_it_wrote(tmp_path):
    drawn = crackflow.synth(out=tmp_path / "photos", count=24, image_px=64, workers=1)
    assert drawn["count"] == 24
    converted = crackflow.convert(images=tmp_path / "photos", out=tmp_path / "data", workers=1)
    assert sum(split["count"] for split in converted["splits"].values()) == 24
    assert crackflow.convert(verify=tmp_path / "data", workers=1) == converted
    assert support.rows(tmp_path / "data", "manifest.csv")
    with pytest.raises(UserError, match="exists"):
        crackflow.synth(out=tmp_path / "photos", count=24)
