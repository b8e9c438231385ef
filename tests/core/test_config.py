import dataclasses

import pytest

from crackflow.core import config
from crackflow.core.errors import ConfigError

SYNTH = config.SynthConfig(out="o")
CONVERT = config.ConvertConfig(images="i", out="o")
TRAIN = config.TrainConfig(data="d", run_dir="r")
EVALUATE = config.EvaluateConfig(model="m", data=("d",), out="o")


@pytest.mark.parametrize(
    "legal, change, message",
    [
        (SYNTH, {"count": 1}, "--count: expected 2 to 10,000,000, received 1"),
        (SYNTH, {"image_px": 8}, "--image_px: expected 32 to 1024, received 8"),
        (SYNTH, {"out": ""}, "--out: expected a path, received ''"),
        (SYNTH, {"workers": -1}, "--workers: expected 0 or more, received -1"),
        (CONVERT, {"split": (0.5, 0.5)}, "--split: expected three fractions"),
        (CONVERT, {"split": (0.0, 0.5, 0.5)}, "--split: expected three fractions"),
        (CONVERT, {"min_crack_fraction": 0.0}, "--min_crack_fraction: expected a fraction"),
        (CONVERT, {"max_megapixels": float("nan")}, "--max_megapixels: expected a number above 0"),
        (CONVERT, {"jpeg_quality": 0}, "--jpeg_quality: expected 1 to 100, received 0"),
        (CONVERT, {"images": ""}, "--images: expected a path"),
        (TRAIN, {"epochs": 0}, "--epochs: expected 1 or more, received 0"),
        (TRAIN, {"learning_rate": -1.0}, "--learning_rate: expected a number above 0, received -1.0"),
        (TRAIN, {"label_smoothing": 1.0}, "--label_smoothing: expected a fraction from 0 up to, not including, 1"),
        (TRAIN, {"weight_decay": float("inf")}, "--weight_decay: expected 0 or more"),
        (TRAIN, {"image_px": 16}, "--image_px: expected 0, or 32 to 1024, received 16"),
        (EVALUATE, {"data": ()}, "--data: expected one data set or more"),
        (EVALUATE, {"resamples": 10}, "--resamples: expected 100 or more, received 10"),
    ],
)
def test_a_setting_outside_its_range_is_refused(legal, change, message):
    with pytest.raises(ConfigError) as refused:
        dataclasses.replace(legal, **change)
    assert message in str(refused.value)


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'seed'"):
        TRAIN.seed = 3


def test_verifying_needs_no_images():
    assert config.ConvertConfig(verify="d").verify == "d"
