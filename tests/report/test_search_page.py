"""The pictures and the page of a search, and what TensorBoard reads."""

import dataclasses
import html.parser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from crackflow.core.config.search import TuneConfig
from crackflow.report import plots, search_page
from crackflow.search import space, trial
from tests.helpers.search_results import random_trials, search_result
from tests.helpers.trials import outcome

CONFIG = TuneConfig(data="/d", out="/o")


@given(st.lists(st.tuples(st.floats(1, 1e5), st.floats(0, 1)), max_size=30))
def test_nobody_on_the_front_is_beaten_and_everybody_else_is(coordinates):
    points = [search_page.Point(str(number), *pair) for number, pair in enumerate(coordinates)]
    front = search_page.front(points)

    def beats(a, b):
        better = a.images_per_sec > b.images_per_sec or a.accuracy > b.accuracy
        return a.images_per_sec >= b.images_per_sec and a.accuracy >= b.accuracy and better

    for a in points:
        same = any(a[1:] == b[1:] for b in front)
        assert same != any(beats(b, a) for b in points)
    assert front == sorted(front, key=lambda a: -a.images_per_sec)


def test_the_picture_tells_trials_by_their_epochs_and_names_the_others(tmp_path):
    outcomes = random_trials(20)
    figure = search_page.pareto(outcomes, outcomes[4], [search_page.Point("crackflow_s", 5000.0, 0.99)])
    axes = figure.axes[0]
    whole, earlier = axes.collections[:2]
    assert len(whole.get_offsets()) + len(earlier.get_offsets()) == 20
    assert len(earlier.get_offsets()) == sum(result.epochs == 3 for result in outcomes)
    assert [artist.get_text() for artist in axes.texts] == ["crackflow_s"]
    plots.save_png(figure, tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("outcomes", [[], random_trials(1), [outcome("0", accuracy=1.0), outcome("1", accuracy=0.0)]])
def test_few_trials_and_extreme_ones_can_be_drawn(outcomes):
    assert "<svg" in plots.as_svg(search_page.pareto(outcomes, outcomes[0] if outcomes else None))


def test_every_trial_has_a_place_from_0_to_1_on_every_axis_the_best_last():
    outcomes = random_trials(15)
    axes, lines = search_page.coordinates(outcomes, CONFIG)
    assert [axis.name for axis in axes] == [*space.SPACE, "parameters", "images/s", "accuracy"]
    assert len(lines) == 15
    assert all(len(row) == len(axes) and min(row) >= 0 and max(row) <= 1 for _, row in lines)
    assert [trial_result.score for trial_result, _ in lines] == sorted(trial_result.score for trial_result in outcomes)
    trial_result, row = lines[3]
    depths = space.SPACE["depth"].values
    assert row[list(space.SPACE).index("depth")] == depths.index(trial_result.chosen["depth"]) / (len(depths) - 1)


def test_what_makes_networks_slow_is_found():
    random, outcomes = np.random.default_rng(0), []
    for trial_result in random_trials(40):
        speed = 40_000 / trial_result.chosen["depth"] ** 3 * random.uniform(0.95, 1.05)
        outcomes.append(dataclasses.replace(trial_result, images_per_sec=speed))
    measured = search_page.importances(outcomes, CONFIG)
    assert next(iter(measured["images/s"].shares)) == "depth" and measured["images/s"].explained > 0.5
    assert "epochs" in measured["accuracy"].shares and "epochs" not in measured["images/s"].shares
    assert search_page.importances(outcomes[:3], CONFIG) == {}


class Balance(html.parser.HTMLParser):
    """Every element that is opened is closed, in order."""

    VOID = {"meta", "br", "line", "polyline", "text", "input"}

    def __init__(self, text):
        super().__init__()
        self.open, self.rows = [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.rows += tag == "tr"
        if tag in ("meta", "br", "input"):
            self.open.pop()

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_shows_every_trial_and_needs_nothing_beside_it():
    outcomes = [
        *random_trials(20),
        outcome("20", status=trial.FAILED, score=None, accuracy=None, message="<b>out of memory</b>"),
    ]
    text = search_page.render(search_result(outcomes), CONFIG)
    assert Balance(text).open == []
    assert text.count("<polyline") == 20 and text.count('<tr data-trial="') == 21
    assert "&lt;b&gt;out of memory&lt;/b&gt;" in text and "<b>out of memory" not in text
    assert "python -m crackflow.train --flagfile=/o/best.cfg" in text
    for word in ("http://", "https://", "src="):
        assert word not in text.replace("http://www.w3.org", "")


def test_the_page_of_an_impossible_search_names_the_nearest():
    near = outcome("0", status=trial.INFEASIBLE, score=-0.2, accuracy=None, message="4,000 images/s, fewer than 5,000")
    text = search_page.render(search_result([near], near), CONFIG)
    assert Balance(text).open == []
    assert "No trial was within the limits. The nearest, trial 0: 4,000 images/s, fewer than 5,000." in " ".join(
        text.split()
    )


def test_tensorboard_reads_what_was_chosen_and_measured_and_the_space(tmp_path):
    outcomes = [*random_trials(2), outcome("9", status=trial.FAILED, score=None)]
    for _ in range(2):  # written anew, not twice
        search_page.write_hparams(str(tmp_path), outcomes)
    read = EventAccumulator(str(tmp_path / "00" / "tensorboard" / "hparams")).Reload()
    (event,) = read.Tensors("images_per_sec")
    assert list(event.tensor_proto.float_val) == [pytest.approx(outcomes[0].images_per_sec)]
    content = read.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    session = metadata.parse_session_start_info_plugin_data(content)
    assert session.hparams["block"].string_value == outcomes[0].chosen["block"]
    assert session.hparams["depth"].number_value == outcomes[0].chosen["depth"]
    whole = EventAccumulator(str(tmp_path / "hparams")).Reload()
    content = whole.SummaryMetadata(metadata.EXPERIMENT_TAG).plugin_data.content
    experiment = metadata.parse_experiment_plugin_data(content)
    assert {info.name for info in experiment.hparam_infos} == set(space.SPACE)
    assert not (tmp_path / "9").exists()
