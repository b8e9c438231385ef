"""A run as one HTML page that needs nothing beside it: no network and no other file; its one script is in it, and says
nothing that the page does not say without it.

Synopsis::

    test = results.Evaluation("metu", "test", measured, labels, probabilities, mistakes, ("Negative", "Positive"))
    report = run_page.Report("metu run 3", "crackflow_s, trained on ...", dataset.facts, [test], history, facts, flags,
    {}) run_page.write(report, "run/report.html")

Text from outside (file and class names, flags) is escaped, and what UTF-8 cannot hold is shown as \\udcff.
"""

import base64
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from crackflow.core import atomic
from crackflow.evaluation import results
from crackflow.evaluation.results import Evaluation
from crackflow.report import plots, rendering

# Key in metrics.json, its name, whether it reads as a percentage, and what it means.
MEASURES = (
    ("accuracy", "Accuracy", True, "images decided correctly"),
    ("balanced_accuracy", "Balanced accuracy", True, "mean of recall and specificity; the mix of classes has no say"),
    ("recall", "Recall", True, "cracked images that are found"),
    ("precision", "Precision", True, "of the images called cracked, those that are"),
    ("specificity", "Specificity", True, "clean images that are left alone"),
    ("f1", "F1", True, "harmonic mean of precision and recall"),
    ("mcc", "Matthews correlation", False, "decision against truth: 0 is chance, 1 perfect"),
    ("roc_auc", "ROC area", False, "chance that a cracked image scores above a clean one"),
    ("pr_auc", "Precision-recall area", False, "average precision over all thresholds"),
    ("ece", "Calibration error", False, "mean gap between stated and observed frequency; 0 is perfect"),
)
# Key in scores.json, heading, form. random_: of the same method on random weights.
EXPLAINED = (
    ("pointing", "Hits the crack", "{:.1%}"),
    ("exact", "without tolerance", "{:.1%}"),
    ("energy", "Energy in mask", "{:.3f}"),
    ("iou", "IoU", "{:.3f}"),
    ("deletion", "Deletion \u2193", "{:.3f}"),
    ("insertion", "Insertion \u2191", "{:.3f}"),
    ("drop", "Drop \u2193", "{:.3f}"),
    ("increase", "Increase \u2191", "{:.1%}"),
    ("random_likeness", "Likeness to random", "{:.2f}"),
    ("random_energy", "Energy, random", "{:.3f}"),
    ("images_per_sec", "Images/s", "{:,.0f}"),
)
STEPS = 1000  # of the threshold's slider
SUSPECTS_SHOWN = 12
HISTORY = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "images_per_sec")


@dataclasses.dataclass(frozen=True, eq=False)
class Explained:
    """What crackflow.explain found. `scores`: the content of scores.json; `pictures`: (caption, PNG) of overlays;
    `layers`: (caption, PNG) of filters and activation maps."""

    scores: dict
    pictures: list[tuple[str, bytes]]
    layers: list[tuple[str, bytes]]


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """`data`: dataset.json, or {}; `history`: rows of history.csv, may be empty; `facts`: shown as they are; `flags`:
    text of the flagfile; `warnings`: what nobody may overlook, in red. Sections without content are left out."""

    title: str
    headline: str
    data: dict
    evaluations: list[Evaluation]
    history: list[dict]
    facts: dict[str, str]
    flags: str
    versions: dict[str, str]
    explained: Explained | None = None
    warnings: list[str] = dataclasses.field(default_factory=list)


def write(report: Report, path: str | os.PathLike) -> None:
    """The page at `path`: the old one or the new one, never a part."""
    atomic.write_text(os.fspath(path), render(report))


def render(report: Report) -> str:
    """The page. Its text can always be encoded as UTF-8."""
    script = rendering.environment().loader.get_source(rendering.environment(), "report.js")[0]
    return (
        rendering.environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            warnings=[*report.warnings, *results.guesses(report.evaluations)],
            script=Markup(script),
            suspects_shown=SUSPECTS_SHOWN,
            # The page may run this script and no other, whatever a file name or a flag holds.
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            explanation=_explanation(report.explained),
            matrix=matrix(report.evaluations) if len(report.evaluations) > 1 else None,
            sliders=[_slider(one) for one in report.evaluations],
            contents=_contents(report),
            measures=_measure_rows(report.evaluations),
            figures=[_figures(one, f"e{place}") for place, one in enumerate(report.evaluations)],
            history=_history(report.history),
            data=_data(report.data),
            leaks=_leaks(report.data),
        )
    )


class Cell(NamedTuple):
    """`value`, `interval`: text; `fallen`: the whole interval lies below that of the first data set."""

    value: str
    interval: str
    fallen: bool


def matrix(evaluations: Sequence[Evaluation]) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """(names of measures, (name, cells) of each data set): one model on several data sets."""
    forms = {
        key: (name, rendering.percent if is_percent else rendering.number) for key, name, is_percent, _ in MEASURES
    }
    first, rows = evaluations[0].metrics, []
    for one in evaluations:
        cells = []
        for key in results.COMPARED:
            form, bounds, best = forms[key][1], one.metrics.get(f"{key}_ci95"), first.get(f"{key}_ci95")
            fallen = bool(bounds and best) and (bounds[0] > best[1] if key == "ece" else bounds[1] < best[0])
            cells.append(Cell(form(one.metrics[key]), rendering.interval(bounds, form) if bounds else "", fallen))
        rows.append((f"{one.name} {one.split}", cells))
    return [forms[key][0] for key in results.COMPARED], rows


def _contents(report: Report) -> list[tuple[str, str]]:
    """(anchor, title) of the sections that this report has, in order."""
    tested, data = bool(report.evaluations), bool(report.data)
    sections = (
        ("figures", "Key figures", tested),
        ("photographs", "As photographs", any(one.photographs for one in report.evaluations)),
        ("matrix", "Across data sets", len(report.evaluations) > 1),
        ("confusion", "Confusion matrix", tested),
        ("threshold", "Another threshold", tested),
        ("curves", "Curves", tested),
        ("review", "Left to a person", any(one.review for one in report.evaluations)),
        ("slices", "Where it is weak", any(one.slices for one in report.evaluations)),
        ("explanation", "Where it looks", report.explained is not None),
        ("layers", "Filters and activation maps", report.explained is not None),
        ("history", "Training history", bool(report.history)),
        ("mistakes", "Worst mistakes", tested),
        ("suspects", "Labels that may be wrong", any(one.suspects for one in report.evaluations)),
        ("data", "The data", data),
        ("leaks", "Leaks", data),
        ("flags", "Exact flags", bool(report.flags.strip())),
        ("versions", "Versions", bool(report.versions)),
    )
    return [(anchor, title) for anchor, title, there in sections if there]


def _measure_rows(evaluations: Sequence[Evaluation]) -> list[dict]:
    """One row for each measure: name, meaning, and for each evaluation its value and interval as text."""
    rows = []
    for key, name, is_percent, meaning in MEASURES:
        form = rendering.percent if is_percent else rendering.number
        cells = []
        for one in evaluations:
            bounds = one.metrics.get(f"{key}_ci95")
            cells.append((form(one.metrics[key]), rendering.interval(bounds, form) if bounds else ""))
        rows.append({"name": name, "meaning": meaning, "cells": cells})
    thresholds = [(f"{one.metrics['threshold']:.4g}", "") for one in evaluations]
    rows.append({"name": "Threshold", "meaning": "from this probability on it says cracked", "cells": thresholds})
    return rows


def _explanation(explained: Explained | None) -> dict | None:
    """The table of methods and scores: names of the columns that have values, and (name, values) of each row."""
    if explained is None:
        return None
    found = explained.scores
    rows = {}
    for name, scores in (found["methods"] | found["baselines"]).items():
        random = scores.get("random_weights") or {}
        rows[name.replace("_", " ")] = scores | {f"random_{key}": value for key, value in random.items()}
    columns = [column for column in EXPLAINED if any(row.get(column[0]) is not None for row in rows.values())]
    table = []
    for name, row in rows.items():
        values = [(row.get(key), form) for key, _, form in columns]
        table.append((name, [(value, "" if value is None else form.format(value)) for value, form in values]))
    return {"columns": [name for _, name, _ in columns], "rows": table}


def _slider(one: Evaluation) -> dict[str, str]:
    """For thresholds 0, 0.001, ... 1: how many cracked images are found, and how many clean ones are called cracked."""
    labels, probabilities = np.asarray(one.labels, bool), np.asarray(one.probabilities)
    thresholds = np.arange(STEPS + 1) / STEPS

    def called(scores: np.ndarray) -> str:
        return json.dumps((len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")).tolist())

    return {"found": called(probabilities[labels]), "alarms": called(probabilities[~labels])}


def _figures(one: Evaluation, prefix: str) -> dict:
    """The pictures of an evaluation: `confusion`, and `curves` as (caption, svg)."""
    sample, threshold = (one.labels, one.probabilities), one.metrics["threshold"]
    left = one.review.get("share")
    drawn = (
        ("Cracks found against false alarms (ROC)", plots.roc(*sample, threshold)),
        ("Precision and recall", plots.precision_recall(*sample, threshold)),
        ("Scores by class", plots.histogram(*sample, threshold, one.classes)),
        ("Reliability: what a probability is worth", plots.calibration(*sample)),
        (
            "Coverage: mistakes when the doubtful are left out",
            plots.coverage(*sample, threshold, left),
        ),
    )
    matrix = plots.confusion(one.metrics["confusion"], one.classes)
    return {
        "confusion": _svg(matrix, f"{prefix}m"),
        "curves": [(caption, _svg(figure, f"{prefix}c{place}")) for place, (caption, figure) in enumerate(drawn)],
    }


def _svg(figure: plots.Figure, prefix: str) -> Markup:
    return Markup(plots.as_svg(figure, prefix))


def _history(rows: Sequence[Mapping]) -> dict | None:
    """Curves, a table of text, and the facts worth a sentence; None without rows."""
    if not rows:
        return None
    columns = {name: plots.column(rows, name) for name in HISTORY}
    losses, speeds = columns["val_loss"], columns["images_per_sec"]
    best = int(np.nanargmin(losses)) if np.isfinite(losses).any() else None
    forms = ("{:.0f}", "{:.4f}", "{:.4f}", "{:.4f}", "{:.4f}", "{:,.0f}")
    table = [
        ["" if np.isnan(value) else form.format(value) for form, value in zip(forms, row, strict=True)]
        for row in zip(*columns.values(), strict=True)
    ]
    return {
        "loss": _svg(plots.loss_history(rows), "hl"),
        "accuracy": _svg(plots.accuracy_history(rows), "ha"),
        "columns": HISTORY,
        "table": table,
        "best": table[best] if best is not None else None,
        "speed": f"{np.nanmedian(speeds):,.0f}" if np.isfinite(speeds).any() else None,
    }


def _data(facts: Mapping) -> dict | None:
    """What the data section shows: a row for each split and the facts, as text."""
    if not facts:
        return None
    splits = [
        {
            "name": name,
            "count": split["count"],
            "classes": [split["class_counts"][kind] for kind in facts["classes"]],
            "shards": len(split["shards"]),
            "megabytes": sum(shard["bytes"] for shard in split["shards"]) / 1e6,
        }
        for name, split in facts["splits"].items()
    ]
    side = f"{facts['image_px']} × {facts['image_px']} px" if facts["image_px"] else "as they came, of several sizes"
    shown = {
        "Cracked means": facts["positive_class"],
        "Images": f"{side}, {facts['channels']} channel{'s' if facts['channels'] > 1 else ''}, {facts['encoding']}",
        "Rejected files": f"{facts.get('rejected') or 0:,}",
        "Kept together": str(facts.get("group_by", "")).replace("_", " "),
        "Source": facts.get("source"),
        "Converted": facts.get("created"),
        "Seed": facts.get("seed"),
        "Fingerprint": facts["fingerprint"],
    }
    shown = {name: value for name, value in shown.items() if value not in (None, "")}
    return {"splits": splits, "facts": shown, "notes": facts.get("notes") or []}


def _leaks(facts: Mapping) -> dict | None:
    """The counts of `leaks` with the two that follow from them; None when the data set has none."""
    leaks = facts.get("leaks")
    if not leaks:
        return None
    tested = leaks["random_split_test"]
    return leaks | {
        "copies": leaks["byte_copies"] + leaks["near_copies"],
        "random_share": f"{100 * leaks['random_split_twins'] / max(tested, 1):.1f}{rendering.PERCENT}",
    }
