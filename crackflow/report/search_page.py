"""The trials of a search as pictures, as a page, and for TensorBoard.

Synopsis::

    plots.save_png(search_page.pareto(found.outcomes, found.best), "search/pareto.png")
    search_page.write("search/report.html", found, config)
    search_page.write_hparams("search/trials", found.outcomes)          # tensorboard --logdir=search/trials
"""

import base64
import hashlib
import os
import shutil
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import summary_v2 as hparams
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from crackflow.core import atomic, flags, runtime
from crackflow.core.config.search import TuneConfig
from crackflow.report import plots, rendering
from crackflow.search import importance, search, space
from crackflow.search.trial import COMPLETED, FAILED, INFEASIBLE, TrialResult

ERRORS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005)
MIN_ERROR = 0.0005  # where an accuracy of 1 is drawn
HPARAMS = "hparams"
METRICS = ("score", "accuracy", "cross_entropy", "images_per_sec", "params")


class Point(NamedTuple):
    """A network that was measured outside the search; `accuracy` of the same images."""

    name: str
    images_per_sec: float
    accuracy: float


def front(outcomes: Sequence[TrialResult | Point]) -> list[TrialResult | Point]:
    """Those that no other one beats in accuracy and images/s alike, the fastest first (Pareto)."""
    found, best = [], -1.0
    for one in sorted(outcomes, key=lambda one: (-one.images_per_sec, -one.accuracy)):
        if one.accuracy > best:
            found.append(one)
            best = one.accuracy
    return found


@matplotlib.rc_context(plots.STYLE)
def pareto(outcomes: Sequence[TrialResult], best: TrialResult | None, others: Sequence[Point] = ()) -> Figure:
    """Accuracy on validation images against images/s: trials, their front, the best by the objective, and `others`."""
    figure = Figure(figsize=(7.4, 4.4), layout="constrained", label="Accuracy against images per second")
    axes = figure.add_subplot()
    done = [one for one in outcomes if one.status == COMPLETED]
    most = max((one.epochs for one in done), default=0)
    for whole, face, label in ((True, plots.CLEAN, f"trials, {most} epochs"), (False, "none", "ended earlier")):
        shown = [one for one in done if (one.epochs == most) is whole]
        if shown:
            axes.scatter(*_places(shown), s=26, facecolor=face, edgecolor=plots.CLEAN, alpha=0.75, label=label)
    edge = front(done)
    if edge:
        axes.step(*_places(edge), where="post", color=plots.CLEAN, lw=1.2, alpha=0.7, label="best at its speed")
    if others:
        ordered = sorted(others, key=lambda one: -one.images_per_sec)
        axes.plot(*_places(ordered), "s-", color=plots.INK, alpha=0.6, ms=6, lw=1, label="hand-made networks")
        for one, (x, y) in zip(ordered, zip(*_places(ordered), strict=True), strict=True):
            axes.annotate(one.name, (x, y), (6, -11), textcoords="offset points", fontsize=8)
    if best:
        axes.scatter(
            *_places([best]), s=110, marker="*", color=plots.CRACKED, zorder=3, label=f"best: trial {best.trial}"
        )
    axes.set(xscale="log", yscale="log", xlabel="images/s scored, batches of 64", ylabel="accuracy, validation images")
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(FixedLocator(ERRORS))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * (1 - value):g} %"))
    if done or others:
        figure.legend(loc="outside upper center", ncols=4, handlelength=1.4, columnspacing=1.4)
    return figure


def _places(shown: Sequence[TrialResult | Point]) -> tuple[list[float], list[float]]:
    """Images/s, and shares that are wrong."""
    return [one.images_per_sec for one in shown], [max(1 - one.accuracy, MIN_ERROR) for one in shown]


@matplotlib.rc_context(plots.STYLE)
def bars(found: importance.Importance, what: str) -> Figure:
    """How much each choice decides, the most important above."""
    shares = {name: share for name, share in found.shares.items() if share.mean > 0}
    height = 0.7 + 0.26 * max(len(shares), 3)
    figure = Figure(figsize=(4.6, height), layout="constrained", label=f"Importance for {what}")
    axes = figure.add_subplot()
    names = [name.replace("_", " ") for name in shares]
    spread = [share.spread for share in shares.values()]
    axes.barh(names, [share.mean for share in shares.values()], xerr=spread, color=plots.CLEAN, ecolor=plots.INK)
    axes.invert_yaxis()
    axes.set(xlabel="R² that is lost when it is shuffled", xlim=(0, None))
    axes.grid(False, axis="y")
    return figure


def importances(outcomes: Sequence[TrialResult], config: TuneConfig) -> dict[str, importance.Importance]:
    """Of each choice for the error, on a logarithmic scale, and for images/s; {} where trials are too few."""
    done = [one for one in outcomes if one.status == COMPLETED]
    names = space.searched(config)
    settings = np.array([[_as_number(name, one.chosen[name]) for name in names] for one in done]).reshape(
        -1, len(names)
    )
    epochs = np.array([one.epochs for one in done], float)
    errors = np.log10([max(1 - one.accuracy, MIN_ERROR) for one in done])
    # With fewer epochs, as hyperband gives them, any network is worse: that must not be put down to its layers.
    with_epochs = np.column_stack([settings, epochs]) if len(set(epochs)) > 1 else settings
    found = {
        "accuracy": importance.measure(with_epochs, [*names, "epochs"][: with_epochs.shape[1]], errors),
        "images/s": importance.measure(settings, names, np.log([one.images_per_sec for one in done])),
    }
    return {what: one for what, one in found.items() if one}


def _as_number(name: str, value: space.Value) -> float:
    choice = space.SPACE[name]
    return float(np.log(value)) if choice.log else float(choice.values.index(value))


class Axis(NamedTuple):
    """Of the parallel coordinates: `ticks`: (place 0..1 from below, text)."""

    name: str
    ticks: list[tuple[float, str]]


def coordinates(
    outcomes: Sequence[TrialResult], config: TuneConfig
) -> tuple[list[Axis], list[tuple[TrialResult, list[float]]]]:
    """The axes, and for each completed trial its place on every one, 0..1 from below."""
    done = sorted((one for one in outcomes if one.status == COMPLETED), key=lambda one: one.score)
    axes, places = [], []
    for name in space.searched(config):
        choice = space.SPACE[name]
        if choice.log:
            low, high = np.log(choice.values)
            axes.append(Axis(name, [(0.0, f"{choice.values[0]:g}"), (1.0, f"{choice.values[1]:g}")]))
            places.append([(np.log(one.chosen[name]) - low) / (high - low) for one in done])
        else:
            last = len(choice.values) - 1
            axes.append(Axis(name, [(place / last, str(value)) for place, value in enumerate(choice.values)]))
            places.append([choice.values.index(one.chosen[name]) / last for one in done])
    measured = (
        ("parameters", [np.log(one.params) for one in done], lambda value: f"{np.exp(value) / 1000:,.0f}k"),
        ("images/s", [np.log(one.images_per_sec) for one in done], lambda value: f"{np.exp(value) / 1000:,.1f}k"),
        (
            "accuracy",
            [-np.log(max(1 - one.accuracy, MIN_ERROR)) for one in done],
            lambda value: f"{100 * (1 - np.exp(-value)):.1f} %",
        ),
    )
    for name, values, form in measured:
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        axes.append(Axis(name, [(0.0, form(low)), (1.0, form(high))] if high > low else [(0.5, form(low))]))
        places.append([(value - low) / (high - low) if high > low else 0.5 for value in values])
    return axes, [(one, list(row)) for one, row in zip(done, zip(*places, strict=True), strict=True)]


def write(path: str | os.PathLike, found: search.SearchResult, config: TuneConfig) -> None:
    """The page at `path`, whole or not at all."""
    atomic.write_text(os.fspath(path), render(found, config))


def render(found: search.SearchResult, config: TuneConfig) -> str:
    """The page as text; it needs nothing beside it."""
    environment = rendering.environment()
    script = environment.loader.get_source(environment, "trials.js")[0]
    axes, lines = coordinates(found.outcomes, config)
    done = [one for one in found.outcomes if one.status == COMPLETED]
    important = importances(found.outcomes, config)
    return environment.get_template("trials.html.j2").render(
        config=config,
        found=found,
        done=done,
        infeasible=[one for one in found.outcomes if one.status == INFEASIBLE],
        failed=[one for one in found.outcomes if one.status == FAILED],
        names=space.searched(config),
        on_front={one.trial for one in front(done)},
        pareto=Markup(plots.as_svg(pareto(found.outcomes, found.best), "p")),
        axes=axes,
        lines=lines,
        importances=[
            (what, one.explained, Markup(plots.as_svg(bars(one, what), f"i{place}")))
            for place, (what, one) in enumerate(important.items())
        ],
        flagfile=flags.as_flagfile(config),
        versions=runtime.versions(),
        machine=runtime.machine(),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def write_hparams(place: str, outcomes: Sequence[TrialResult]) -> None:
    """For TensorBoard's HParams: the space in `place`, and in the folder of each completed trial what was chosen and
    measured. Written anew each time."""
    values = [
        hparams.HParam(name, hparams.RealInterval(*map(float, one.values)) if one.log else hparams.Discrete(one.values))
        for name, one in space.SPACE.items()
    ]
    measured = [hparams.Metric(name) for name in METRICS]
    _write_events(os.path.join(place, HPARAMS), [hparams.hparams_config_pb(values, measured)])
    for one in outcomes:
        if one.status == COMPLETED:
            numbers = [scalar_pb(name, float(getattr(one, name))) for name in METRICS]
            chosen = hparams.hparams_pb(one.chosen, trial_id=one.trial)
            _write_events(os.path.join(place, one.trial, "tensorboard", HPARAMS), [chosen, *numbers])


def _write_events(place: str, summaries: Sequence[Summary]) -> None:
    shutil.rmtree(place, ignore_errors=True)
    writer = EventFileWriter(place)
    for one in summaries:
        # TensorBoard makes summaries of TensorFlow's class where that is loaded, and writes its own.
        writer.add_event(Event(summary=Summary.FromString(one.SerializeToString())))
    writer.close()
