"""The hyperparameters that a search may choose, and the run that they describe."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackflow.core import flags
from crackflow.core.backend import load_tuner
from crackflow.core.config.network import Architecture, Network
from crackflow.core.config.search import CHOICES, TRAINING_CHOICES, TuneConfig
from crackflow.core.config.training import Optimizer, TrainConfig
from crackflow.model import networks
from crackflow.search import space

keras_tuner = load_tuner()
CONFIG = TuneConfig(data="d", out="o")


def any_hyperparameters():
    """Any value of every hyperparameter."""
    values = {
        name: st.floats(*choice.values) if choice.log else st.sampled_from(choice.values)
        for name, choice in space.SPACE.items()
    }
    return st.fixed_dictionaries(values)


def size(values, image_px=96):
    return networks.get_model_spec(Network.CUSTOM, space.architecture(values)).build(image_px).count_params()


def test_a_batch_grows_to_what_the_replicas_can_share():
    hyperparameters = space.defaults() | {"batch_size": 32}
    sizes = [space.as_training(hyperparameters, CONFIG, "r", replicas).batch_size for replicas in (1, 2, 3, 7, 8)]
    assert sizes == [32, 32, 33, 35, 32]


def test_the_space_has_the_choices_that_the_settings_name():
    assert tuple(space.SPACE) == CHOICES
    assert all(choice.log or choice.default in choice.values for choice in space.SPACE.values())


def test_the_defaults_are_crackflow_s_and_its_training():
    assert space.architecture(space.defaults()) == Architecture()
    run = space.as_training(space.defaults(), dataclasses.replace(CONFIG, model=Network.CRACKFLOW_S), "r")
    expected = TrainConfig(data="d", run_dir="r", batch_size=64, epochs=CONFIG.max_epochs, early_stopping_epochs=0)
    assert run == expected


@given(any_hyperparameters())
def test_whatever_is_chosen_is_a_run_that_a_flagfile_replays(values):
    run = space.as_training(values, CONFIG, "r")
    lines = [line for line in flags.as_flagfile(run).splitlines() if line]
    assert flags.parse(TrainConfig, lines) == run
    assert run.model is Network.CUSTOM and run.epochs == CONFIG.max_epochs
    widths = [run.architecture.stem, *run.architecture.widths]
    assert all(width % 16 == 0 for width in widths)


def test_sgd_gets_a_rate_of_its_own():
    values = space.defaults() | {"optimizer": "sgd", "learning_rate": 0.003}
    run = space.as_training(values, CONFIG, "r")
    assert run.optimization.optimizer is Optimizer.SGD and run.optimization.learning_rate == pytest.approx(0.09)


def test_the_smallest_and_the_largest_network_bound_those_between():
    low, high = (size(pick(CONFIG)) for pick in (space.smallest, space.largest))
    for seed in range(6):
        draws = {name: space.SPACE[name].values[seed % len(space.SPACE[name].values)] for name in CHOICES[:14]}
        assert low <= size(space.defaults() | draws) <= high


def test_what_is_held_stays_at_its_default_and_is_not_registered():
    hp = keras_tuner.HyperParameters()
    values = space.declare(hp, dataclasses.replace(CONFIG, hold=("depth", "augment")))
    assert values == space.defaults()
    assert {parameter.name for parameter in hp.space} == set(CHOICES) - {"depth", "augment"}


def test_of_a_network_with_a_name_the_training_alone_is_searched():
    config = dataclasses.replace(CONFIG, model=Network.CRACKFLOW_XS)
    hp = keras_tuner.HyperParameters()
    space.declare(hp, config)
    assert [parameter.name for parameter in hp.space] == list(TRAINING_CHOICES)
    run = space.as_training(space.largest(config), config, "r")
    assert run.model is Network.CRACKFLOW_XS and run.architecture == Architecture() and run.batch_size == 128


def test_values_are_those_that_the_tuner_has():
    hp = keras_tuner.HyperParameters()
    space.declare(hp, CONFIG)
    hp.values |= {"depth": 2, "learning_rate": 0.00123456, "block": "plain"}
    values = space.declare(hp, CONFIG)
    assert (values["depth"], values["learning_rate"], values["block"]) == (2, 0.00123, "plain")
