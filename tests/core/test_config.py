import dataclasses
import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackflow.core import config
from crackflow.core.errors import ConfigError

CLASSES = [kind for kind in vars(config).values() if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
CHOICES = [kind for kind in vars(config).values() if isinstance(kind, type) and issubclass(kind, enum.Enum)]
CONVERT = {"images": "in", "out": "out"}


def test_there_are_settings_to_test():
    assert len(CLASSES) >= 4 and len(CHOICES) >= 5


@pytest.mark.parametrize("kind", CLASSES)
def test_settings_are_frozen_and_every_one_has_a_default_and_help(kind):
    assert kind.__dataclass_params__.frozen
    for field in dataclasses.fields(kind):
        assert field.default is not dataclasses.MISSING, field.name
        assert field.metadata["help"], field.name


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind is not config.DoctorConfig])
def test_settings_without_their_paths_are_refused(kind):
    with pytest.raises(ConfigError, match="^--[a-z_]+: expected (a path|one data set or more)"):
        kind()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": ""}, "--images: expected a path, received ''"),
        ({"image_px": 7}, "--image_px: expected 0, or 8 to 4096, received 7"),
        ({"image_px": 4097}, "--image_px: expected 0, or 8 to 4096, received 4097"),
        ({"patch_px": 4}, "--patch_px: expected 8 to 4096, received 4"),
        ({"shards": -1}, "--shards: expected 0 or more, received -1"),
        ({"workers": -1}, "--workers: expected 0 or more, received -1"),
        ({"seed": -1}, "--seed: expected 0 or more, received -1"),
        ({"max_megapixels": 0.0}, "--max_megapixels: expected a number above 0, received 0.0"),
        ({"max_megapixels": float("inf")}, "--max_megapixels: expected a number above 0, received inf"),
        ({"jpeg_quality": 101}, "--jpeg_quality: expected 1 to 100, received 101"),
        ({"min_crack_fraction": 0.0}, "--min_crack_fraction: expected a fraction, received 0.0"),
        ({"split": (0.8, 0.2)}, "--split: expected three fractions train,val,test that add up to 1, train above 0"),
        ({"split": (0.0, 0.5, 0.5)}, "--split: expected three fractions"),
        ({"split": (1.2, -0.1, -0.1)}, "--split: expected three fractions"),
    ],
)
def test_a_conversion_setting_out_of_range_is_refused_with_the_range(settings, message):
    with pytest.raises(ConfigError) as refused:
        config.ConvertConfig(**(CONVERT | settings))
    assert message in str(refused.value)


def test_verify_needs_no_other_path():
    assert config.ConvertConfig(verify="data").images == ""


@given(st.integers(1, 98), st.integers(0, 50))
def test_fractions_that_add_up_but_for_rounding_are_taken(train, val):
    val = min(val, 100 - train)
    split = (train / 100, val / 100, (100 - train - val) / 100)
    assert config.ConvertConfig(**CONVERT, split=split).split == split
    off = (train / 100, val / 100, (100 - train - val) / 100 + 0.01)
    with pytest.raises(ConfigError, match="add up to 1"):
        config.ConvertConfig(**CONVERT, split=off)


@pytest.mark.parametrize("kind", CHOICES)
def test_choices_are_written_as_lower_case_words(kind):
    for member in kind:
        assert member.value == member.name.lower()
