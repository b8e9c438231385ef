"""The trials of a search as figures, as an HTML page, and for TensorBoard.

Synopsis::

    plots.save_png(search_page.pareto(result.outcomes, result.best), "search/pareto.png")
    search_page.write("search/report.html", result, config)
    search_page.write_hparams("search/trials", result.outcomes)         # tensorboard --logdir=search/trials
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
MIN_ERROR = 0.0005  # the error at which an accuracy of 1 is drawn
HPARAMS = "hparams"
METRICS = ("score", "accuracy", "cross_entropy", "images_per_sec", "params")


class Point(NamedTuple):
    """A network that was measured outside the search; `accuracy` is on the same images."""

    name: str
    images_per_sec: float
    accuracy: float


def front(outcomes: Sequence[TrialResult | Point]) -> list[TrialResult | Point]:
    """The Pareto front: trials that no other trial beats in both accuracy and images/s, the fastest first."""
    front_trials, best = [], -1.0
    for trial in sorted(outcomes, key=lambda trial: (-trial.images_per_sec, -trial.accuracy)):
        if trial.accuracy > best:
            front_trials.append(trial)
            best = trial.accuracy
    return front_trials


@matplotlib.rc_context(plots.STYLE)
def pareto(outcomes: Sequence[TrialResult], best: TrialResult | None, others: Sequence[Point] = ()) -> Figure:
    """Validation accuracy against images/s: trials, their Pareto front, the best by the objective, and `others`."""
    figure = Figure(figsize=(7.4, 4.4), layout="constrained", label="Accuracy against images per second")
    axes = figure.add_subplot()
    done = [trial for trial in outcomes if trial.status == COMPLETED]
    most = max((trial.epochs for trial in done), default=0)
    for whole, face, label in ((True, plots.CLEAN, f"trials, {most} epochs"), (False, "none", "ended earlier")):
        group = [trial for trial in done if (trial.epochs == most) is whole]
        if group:
            axes.scatter(*_coordinates(group), s=26, facecolor=face, edgecolor=plots.CLEAN, alpha=0.75, label=label)
    edge = front(done)
    if edge:
        axes.step(*_coordinates(edge), where="post", color=plots.CLEAN, lw=1.2, alpha=0.7, label="best at its speed")
    if others:
        ordered = sorted(others, key=lambda point: -point.images_per_sec)
        axes.plot(*_coordinates(ordered), "s-", color=plots.INK, alpha=0.6, ms=6, lw=1, label="hand-made networks")
        for point, (x, y) in zip(ordered, zip(*_coordinates(ordered), strict=True), strict=True):
            axes.annotate(point.name, (x, y), (6, -11), textcoords="offset points", fontsize=8)
    if best:
        axes.scatter(
            *_coordinates([best]), s=110, marker="*", color=plots.CRACKED, zorder=3, label=f"best: trial {best.trial}"
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


def _coordinates(trials: Sequence[TrialResult | Point]) -> tuple[list[float], list[float]]:
    """x and y of the Pareto figure: images/s, and the error fraction, at least MIN_ERROR."""
    return [trial.images_per_sec for trial in trials], [max(1 - trial.accuracy, MIN_ERROR) for trial in trials]


@matplotlib.rc_context(plots.STYLE)
def bars(measured: importance.Importance, what: str) -> Figure:
    """The importance of each hyperparameter for `what` as horizontal bars, the most important at the top."""
    shares = {name: share for name, share in measured.shares.items() if share.mean > 0}
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
    """The importance of each hyperparameter for the log error and for log images/s; {} when there are too few trials.

    Args:
        outcomes: trials of any status; only the completed ones count.
        config: the search, which names the hyperparameters that were searched.

    Returns:
        Importances by target, "accuracy" and "images/s"; a target without enough trials is absent.
    """
    done = [trial for trial in outcomes if trial.status == COMPLETED]
    names = space.searched(config)
    hyperparameters = np.array([[_as_number(name, trial.chosen[name]) for name in names] for trial in done]).reshape(
        -1, len(names)
    )
    epochs = np.array([trial.epochs for trial in done], float)
    errors = np.log10([max(1 - trial.accuracy, MIN_ERROR) for trial in done])
    # With fewer epochs, as Hyperband assigns them, any network is worse: its layers must not be blamed for that.
    with_epochs = np.column_stack([hyperparameters, epochs]) if len(set(epochs)) > 1 else hyperparameters
    measured = {
        "accuracy": importance.measure(with_epochs, [*names, "epochs"][: with_epochs.shape[1]], errors),
        "images/s": importance.measure(hyperparameters, names, np.log([trial.images_per_sec for trial in done])),
    }
    return {what: ranking for what, ranking in measured.items() if ranking}


def _as_number(name: str, value: space.Value) -> float:
    choice = space.SPACE[name]
    return float(np.log(value)) if choice.log else float(choice.values.index(value))


class Axis(NamedTuple):
    """An axis of the parallel coordinates. `ticks`: (height 0..1 from the bottom, text) of each."""

    name: str
    ticks: list[tuple[float, str]]


def coordinates(
    outcomes: Sequence[TrialResult], config: TuneConfig
) -> tuple[list[Axis], list[tuple[TrialResult, list[float]]]]:
    """Parallel coordinates of the completed trials.

    Returns:
        The axes, and per completed trial, by ascending score, its height 0..1 from the bottom on each axis.
    """
    done = sorted((trial for trial in outcomes if trial.status == COMPLETED), key=lambda trial: trial.score)
    axes, columns = [], []
    for name in space.searched(config):
        choice = space.SPACE[name]
        if choice.log:
            low, high = np.log(choice.values)
            axes.append(Axis(name, [(0.0, f"{choice.values[0]:g}"), (1.0, f"{choice.values[1]:g}")]))
            columns.append([(np.log(trial.chosen[name]) - low) / (high - low) for trial in done])
        else:
            last = len(choice.values) - 1
            axes.append(Axis(name, [(index / last, str(value)) for index, value in enumerate(choice.values)]))
            columns.append([choice.values.index(trial.chosen[name]) / last for trial in done])
    measured = (
        ("parameters", [np.log(trial.params) for trial in done], lambda value: f"{np.exp(value) / 1000:,.0f}k"),
        ("images/s", [np.log(trial.images_per_sec) for trial in done], lambda value: f"{np.exp(value) / 1000:,.1f}k"),
        (
            "accuracy",
            [-np.log(max(1 - trial.accuracy, MIN_ERROR)) for trial in done],
            lambda value: f"{100 * (1 - np.exp(-value)):.1f} %",
        ),
    )
    for name, values, form in measured:
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        axes.append(Axis(name, [(0.0, form(low)), (1.0, form(high))] if high > low else [(0.5, form(low))]))
        columns.append([(value - low) / (high - low) if high > low else 0.5 for value in values])
    return axes, [(trial, list(row)) for trial, row in zip(done, zip(*columns, strict=True), strict=True)]


def write(path: str | os.PathLike, result: search.SearchResult, config: TuneConfig) -> None:
    """Write the page to `path` atomically."""
    atomic.write_text(os.fspath(path), render(result, config))


def render(result: search.SearchResult, config: TuneConfig) -> str:
    """The page as HTML text; it is self-contained."""
    environment = rendering.environment()
    script = environment.loader.get_source(environment, "trials.js")[0]
    axes, lines = coordinates(result.outcomes, config)
    done = [trial for trial in result.outcomes if trial.status == COMPLETED]
    important = importances(result.outcomes, config)
    return environment.get_template("trials.html.j2").render(
        config=config,
        result=result,
        done=done,
        infeasible=[trial for trial in result.outcomes if trial.status == INFEASIBLE],
        failed=[trial for trial in result.outcomes if trial.status == FAILED],
        names=space.searched(config),
        on_front={trial.trial for trial in front(done)},
        pareto=Markup(plots.as_svg(pareto(result.outcomes, result.best), "p")),
        axes=axes,
        lines=lines,
        importances=[
            (what, measured.explained, Markup(plots.as_svg(bars(measured, what), f"i{number}")))
            for number, (what, measured) in enumerate(important.items())
        ],
        flagfile=flags.as_flagfile(config),
        versions=runtime.versions(),
        machine=runtime.machine(),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def write_hparams(directory: str, outcomes: Sequence[TrialResult]) -> None:
    """Write event files for TensorBoard's HParams plugin, replacing those of an earlier call.

    Args:
        directory: receives the search space; each completed trial's folder in it receives its hyperparameters and
            metrics.
        outcomes: trials of any status; only the completed ones are written.
    """
    domains = [
        hparams.HParam(
            name, hparams.RealInterval(*map(float, choice.values)) if choice.log else hparams.Discrete(choice.values)
        )
        for name, choice in space.SPACE.items()
    ]
    metrics = [hparams.Metric(name) for name in METRICS]
    _write_events(os.path.join(directory, HPARAMS), [hparams.hparams_config_pb(domains, metrics)])
    for trial in outcomes:
        if trial.status == COMPLETED:
            scalars = [scalar_pb(name, float(getattr(trial, name))) for name in METRICS]
            hyperparameters = hparams.hparams_pb(trial.chosen, trial_id=trial.trial)
            _write_events(os.path.join(directory, trial.trial, "tensorboard", HPARAMS), [hyperparameters, *scalars])


def _write_events(directory: str, summaries: Sequence[Summary]) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    writer = EventFileWriter(directory)
    for summary in summaries:
        # TensorBoard builds summaries of TensorFlow's class when that is loaded, but writes only its own class.
        writer.add_event(Event(summary=Summary.FromString(summary.SerializeToString())))
    writer.close()
