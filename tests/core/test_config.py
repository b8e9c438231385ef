import dataclasses
import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackflow.core.config import adapt, augmentation, data, hardware, network, search, tools, trained, training
from crackflow.core.config.threshold import ThresholdRule
from crackflow.core.errors import ConfigError

MODULES = (adapt, augmentation, data, hardware, network, search, tools, trained, training)
KINDS = sorted(
    {kind for module in MODULES for kind in vars(module).values() if isinstance(kind, type)},
    key=lambda kind: kind.__name__,
)
CLASSES = [kind for kind in KINDS if dataclasses.is_dataclass(kind) and kind is not ThresholdRule]  # the rest are flags
CHOICES = [kind for kind in KINDS if issubclass(kind, enum.Enum)]
WITHOUT_PATHS = {
    tools.DoctorConfig,
    network.Architecture,
    augmentation.Augmentation,
    training.Optimization,
    training.Safety,
    tools.DataServiceConfig,
    adapt.FineTuning,
}
CONVERT = {"images": "in", "out": "out"}


def test_there_are_settings_to_test():
    assert len(CLASSES) >= 4 and len(CHOICES) >= 5


@pytest.mark.parametrize("kind", CLASSES)
def test_settings_are_frozen_and_every_one_has_a_default_and_help(kind):
    assert kind.__dataclass_params__.frozen
    for field in dataclasses.fields(kind):
        assert field.default is not dataclasses.MISSING, field.name
        assert dataclasses.is_dataclass(field.default) or field.metadata["help"], field.name


def test_a_batch_that_replicas_can_not_share_is_refused_with_the_next_that_they_can():
    optimization = training.Optimization(accumulate=3)
    config = training.TrainConfig(**TRAIN, batch_size=24, optimization=optimization)
    config.require_shared(8)
    with pytest.raises(
        ConfigError,
        match=r"--batch_size: expected a multiple of 15 \(5 replicas, --accumulate=3\), such as 30, received",
    ):
        config.require_shared(5)


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind not in WITHOUT_PATHS])
def test_settings_without_their_paths_are_refused(kind):
    with pytest.raises(ConfigError, match="^--[a-z_]+: expected (a path|one dataset or more)"):
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
        ({"seed": 2**63}, "--seed: expected a number that fits into 64 bits, received 9223372036854775808"),
        ({"max_megapixels": 0.0}, "--max_megapixels: expected a number above 0, received 0.0"),
        ({"max_megapixels": float("inf")}, "--max_megapixels: expected a number above 0, received inf"),
        ({"jpeg_quality": 101}, "--jpeg_quality: expected 1 to 100, received 101"),
        ({"min_crack_fraction": 0.0}, "--min_crack_fraction: expected a fraction, received 0.0"),
        ({"split": (0.8, 0.2)}, "--split: expected three fractions train,val,test that add up to 1"),
        ({"split": (1.2, -0.1, -0.1)}, "--split: expected three fractions"),
    ],
)
def test_a_conversion_setting_out_of_range_is_refused_with_the_range(settings, message):
    with pytest.raises(ConfigError) as refused:
        data.ConvertConfig(**(CONVERT | settings))
    assert message in str(refused.value)


TRAIN = {"data": "in", "run_dir": "out"}


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (augmentation.Augmentation, {"rotation": 181.0}, "--rotation: expected 0 to 180, or -1 for the preset's"),
        (augmentation.Augmentation, {"blur": 0.3}, "--blur: expected 0 to 0.2, or -1 for the preset's, received 0.3"),
        (augmentation.Augmentation, {"noise": -2.0}, "--noise: expected 0 to 128, or -1"),
        (augmentation.Augmentation, {"mixup": float("nan")}, "--mixup: expected 0 to 0.5, or -1"),
        (training.Optimization, {"learning_rate": 0.0}, "--learning_rate: expected a number above 0, received 0.0"),
        (training.Optimization, {"warmup_fraction": 1.0}, "--warmup_fraction: expected a fraction from 0 up to"),
        (training.Optimization, {"ema": 1.0}, "--ema: expected a fraction from 0 up to"),
        (
            training.Optimization,
            {"ema": 0.9, "optimizer": training.Optimizer.SWA},
            "--ema: expected 0 with --optimizer=swa, which",
        ),
        (training.Optimization, {"clip_norm": -1.0}, "--clip_norm: expected 0 or more, received -1.0"),
        (training.Optimization, {"weight_decay": float("inf")}, "--weight_decay: expected 0 or more, received inf"),
        (training.Optimization, {"accumulate": 0}, "--accumulate: expected 1 or more, received 0"),
        (training.Optimization, {"rate_batch": -1}, "--rate_batch: expected 0 or more, received -1"),
        (training.Optimization, {"rate_drops": (0.7, 0.5)}, "--rate_drops: expected rising shares between 0 and 1"),
        (training.Optimization, {"rate_drops": (0.5, 1.0)}, "--rate_drops: expected rising shares between 0 and 1"),
        (training.Optimization, {"class_weights": (1.0,)}, "--class_weights: expected two numbers above 0 for clean,"),
        (training.Optimization, {"class_weights": (0.0, 1.0)}, "--class_weights: expected two numbers above 0"),
        (
            training.TrainConfig,
            TRAIN | {"batch_size": 10, "optimization": training.Optimization(accumulate=4)},
            "--batch_size: expected a multiple of 4 (--accumulate=4), such as 12, received 10",
        ),
        (
            training.TrainConfig,
            TRAIN | {"batch_size": 9, "augmentation": augmentation.Augmentation(mixup=0.2)},
            "--batch_size: expected a multiple of 2 (--mixup, which mixes pairs), such as 10, received 9",
        ),
        (training.Optimization, {"mask_weight": -1.0}, "--mask_weight: expected 0 or more, received -1.0"),
        (
            training.TrainConfig,
            TRAIN
            | {
                "optimization": training.Optimization(mask_weight=1.0),
                "augmentation": augmentation.Augmentation(augment=augmentation.Augment.D4, zoom=0.1, mixup=0.2),
            },
            "--augment: expected none or d4 with --mask_weight: masks follow flips and quarter turns alone, received "
            "'--zoom, --mixup'",
        ),
        (training.TrainConfig, TRAIN | {"review": 1.0}, "--review: expected a fraction from 0 up to, not including, 1"),
        (
            training.TrainConfig,
            TRAIN | {"threshold": "best"},
            "--threshold: expected f1, youden, recall:R, cost:C or bayes:C",
        ),
        (training.TrainConfig, TRAIN | {"steps_per_execution": -1}, "--steps_per_execution: expected 0 or more"),
        (training.TrainConfig, TRAIN | {"cpu_devices": 0}, "--cpu_devices: expected 1 or more, received 0"),
        (
            training.TrainConfig,
            TRAIN | {"data_service": "host:5"},
            "--data_service: expected grpc://host:port, received 'h",
        ),
        (
            training.TrainConfig,
            TRAIN | {"data_service": "grpc://h:5", "input": training.Input.PACK},
            "--input: expected auto or stream with --data_service, received 'pack'",
        ),
        (
            training.TrainConfig,
            TRAIN | {"data_service": "grpc://h:5", "deterministic": True},
            "--deterministic: expected false with --data_service, which keeps no order, received True",
        ),
        (training.Safety, {"checkpoint_minutes": 0.0}, "--checkpoint_minutes: expected a number above 0, received 0.0"),
        (training.Safety, {"loss_limit": float("inf")}, "--loss_limit: expected a number above 0, received inf"),
        (training.Safety, {"rollbacks": -1}, "--rollbacks: expected 0 or more, received -1"),
    ],
)
def test_a_training_setting_out_of_range_is_refused_with_the_range(kind, settings, message):
    with pytest.raises(ConfigError) as refused:
        kind(**settings)
    assert message in str(refused.value)


@pytest.mark.parametrize("preset", augmentation.Augment)
def test_a_preset_fills_what_was_not_said_and_nothing_else(preset):
    filled = augmentation.Augmentation(augment=preset, noise=3.0).filled()
    expected = {"noise": 3.0}
    for field in dataclasses.fields(filled):
        if field.name not in ("augment", "noise"):
            expected[field.name] = augmentation.PRESETS.get(preset, {}).get(field.name, 0.0)
    assert {name: getattr(filled, name) for name in expected} == expected
    assert filled.augment is preset and filled.filled() == filled


def test_each_preset_names_settings_alone_and_strong_is_no_weaker_than_standard():
    standard, strong = (
        augmentation.PRESETS[preset] for preset in (augmentation.Augment.STANDARD, augmentation.Augment.STRONG)
    )
    names = {field.name for field in dataclasses.fields(augmentation.Augmentation)}
    assert set(standard) <= set(strong) <= names
    assert all(strong[name] >= value for name, value in standard.items())


def test_verify_needs_no_other_path():
    assert data.ConvertConfig(verify="data").images == ""


@given(st.integers(1, 98), st.integers(0, 50))
def test_fractions_that_add_up_but_for_rounding_are_accepted(train, val):
    val = min(val, 100 - train)
    split = (train / 100, val / 100, (100 - train - val) / 100)
    assert data.ConvertConfig(**CONVERT, split=split).split == split
    off = (train / 100, val / 100, (100 - train - val) / 100 + 0.01)
    with pytest.raises(ConfigError, match="add up to 1"):
        data.ConvertConfig(**CONVERT, split=off)


@pytest.mark.parametrize("kind", CHOICES)
def test_choices_are_written_as_lower_case_words(kind):
    for member in kind:
        assert member.value == member.name.lower()


TUNE = {"data": "d", "out": "o"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stem": 0}, "--stem: expected 1 to 1024, received 0"),
        ({"kernel": 4}, "--kernel: expected 1, 3, 5 or 7, received 4"),
        ({"stem_kernel": 2}, "--stem_kernel: expected 1, 3, 5 or 7, received 2"),
        ({"stem_stride": 3}, "--stem_stride: expected 1, 2 or 4, received 3"),
        ({"widths": ()}, r"--widths: expected one to six numbers from 1 to 2048, received \(\)"),
        (
            {"widths": (32, 64)},
            r"--repeats: expected as many numbers as --widths has, 2, from 0 to 16, received \(0, 0, 1",
        ),
        ({"squeeze_excite": -1}, "--squeeze_excite: expected 0 to 64, received -1"),
        ({"standardised": True}, "--standardised: expected --padding=same and a --stem of 2 or more, received True"),
        ({"dropout": 1.0}, "--dropout: expected a fraction from 0 up to"),
    ],
)
def test_an_architecture_that_can_not_be_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        network.Architecture(**settings)


@pytest.mark.parametrize("kind", [training.TrainConfig, tools.DoctorConfig])
def test_layers_are_only_for_custom_networks(kind):
    paths = TRAIN if kind is training.TrainConfig else {}
    layers = network.Architecture(stem=16)
    kind(**paths, model=network.Network.CUSTOM, architecture=layers)
    with pytest.raises(
        ConfigError, match="--stem: expected nothing with --model=crackflow_s; use --model=custom, rece"
    ):
        kind(**paths, architecture=layers)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_trials": 0}, "--max_trials: expected 1 or more, received 0"),
        ({"max_epochs": 0}, "--max_epochs: expected 1 or more, received 0"),
        ({"min_images_per_sec": -1.0}, "--min_images_per_sec: expected 0 or a number above 0, received -1"),
        ({"max_params": -1}, "--max_params: expected 0 or more, received -1"),
        ({"doubling_worth": float("nan")}, "--doubling_worth: expected 0 or a number above 0, received nan"),
        ({"speed_seconds": 0.0}, "--speed_seconds: expected a number above 0, received 0"),
        ({"image_px": 8}, "--image_px: expected 0, or 32 to 1024, received 8"),
        ({"hold": ("colour",)}, "--hold: expected some of stem, stem_kernel, .*, each once, received 'colour'"),
        ({"hold": ("stem", "stem")}, "--hold: expected some of .*, each once, received 'stem,stem'"),
        ({"hold": search.CHOICES}, "--hold: expected a choice that is left to be searched, received 'stem,"),
        (
            {"hold": search.TRAINING_CHOICES, "model": network.Network.CRACKFLOW_S},
            "--hold: expected a choice that is left to be searched, received 'optimizer,",
        ),
        (
            {"strategy": hardware.Strategy.MULTIWORKER},
            "--strategy: expected auto, one or mirrored: hosts share a search, not a trial, received 'multiworker'",
        ),
    ],
)
def test_a_search_that_can_not_be_is_refused(settings, words):
    search.TuneConfig(**TUNE)
    with pytest.raises(ConfigError, match=words):
        search.TuneConfig(**TUNE | settings)


@pytest.mark.parametrize(
    "images, replicas, expected", [(8000, 1, 64), (3200, 1, 64), (3199, 1, 32), (320, 1, 32), (4, 1, 32), (320, 3, 33)]
)
def test_the_batch_of_a_small_set_is_smaller_and_can_be_shared(images, replicas, expected):
    sized = training.TrainConfig(data="d", run_dir="r").sized_for(images, replicas)
    assert sized.batch_size == expected
    sized.require_shared(replicas)


def test_a_requested_batch_size_stays():
    assert training.TrainConfig(data="d", run_dir="r", batch_size=7).sized_for(10, 1).batch_size == 7


def test_an_automatic_batch_size_is_one_that_its_parts_can_share():
    sized = training.TrainConfig(data="d", run_dir="r", optimization=training.Optimization(accumulate=5))
    assert sized.sized_for(320, 2).batch_size == 40


@pytest.mark.parametrize("epochs, steps, expected", [(4, 125, 4), (4, 50, 10), (4, 501, 4), (12, 50, 12), (0, 50, 0)])
def test_patience_is_never_shorter_than_its_steps(epochs, steps, expected):
    assert training.TrainConfig(data="d", run_dir="r", early_stopping_epochs=epochs).patience_epochs(steps) == expected
