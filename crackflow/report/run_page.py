"""A run as one self-contained HTML page, without network access or other files.

Its one script is inline, and everything the script shows can also be read on the page without it.

Synopsis::

    test = results.Evaluation("metu", "test", measured, labels, probabilities, mistakes, ("Negative", "Positive"))
    headline = "crackflow_s, trained on ..."
    report = run_page.Report("metu run 3", headline, dataset.facts, [test], history, facts, flags, {})
    run_page.write(report, "run/report.html")

External text (file and class names, flags) is escaped, and characters that UTF-8 cannot hold appear as \\udcff.
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
from crackflow.report import evaluation_plots, plots, rendering

# Key in metrics.json, displayed name, whether it is a percentage, meaning.
MEASURES = (
    ("accuracy", "Accuracy", True, "images decided correctly"),
    ("balanced_accuracy", "Balanced accuracy", True, "mean of recall and specificity; the mix of classes has no say"),
    ("recall", "Recall", True, "cracked images that are found"),
    ("precision", "Precision", True, "of the images called cracked, those that are"),
    ("specificity", "Specificity", True, "clean images that are left alone"),
    ("f1", "F1", True, "harmonic mean of precision and recall"),
    ("mcc", "Matthews correlation", False, "decision against truth: 0 is chance, 1 perfect"),
    ("roc_auc", "ROC AUC", False, "chance that a cracked image scores above a clean one"),
    ("pr_auc", "Precision-recall area", False, "average precision over all thresholds"),
    ("ece", "Calibration error", False, "mean gap between stated and observed frequency; 0 is perfect"),
)
# Key in scores.json, heading, format. random_ marks the same method on random weights.
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
STEPS = 1000  # of the threshold slider
SUSPECTS_SHOWN = 12
CAPTIONS = {
    "roc": "Cracks found against false alarms (ROC)",
    "precision_recall": "Precision and recall",
    "scores": "Scores by class",
    "calibration": "Reliability: what a probability is worth",
    "coverage": "Coverage: mistakes when the doubtful are left out",
}
HISTORY = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "images_per_sec")


@dataclasses.dataclass(frozen=True, eq=False)
class Explained:
    """Results of crackflow.explain.

    Attributes:
        scores: the content of scores.json.
        pictures: (caption, PNG) of overlays.
        layers: (caption, PNG) of filters and activation maps.
    """

    scores: dict
    pictures: list[tuple[str, bytes]]
    layers: list[tuple[str, bytes]]


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """The content of a page. Sections without content are omitted.

    Attributes:
        data: dataset.json, or {}.
        history: rows of history.csv, may be empty.
        facts: are displayed verbatim.
        flags: text of the flagfile.
        warnings: are displayed in red, so that nobody overlooks them.
    """

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
    """Write the page to `path` atomically: the file is the old page or the new one, never a part."""
    atomic.write_text(os.fspath(path), render(report))


def render(report: Report) -> str:
    """The page as HTML text, which can always be encoded as UTF-8."""
    script = rendering.environment().loader.get_source(rendering.environment(), "report.js")[0]
    return (
        rendering.environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            warnings=[*report.warnings, *results.guesses(report.evaluations)],
            script=Markup(script),
            suspects_shown=SUSPECTS_SHOWN,
            # The page may run this script and no other, whatever a file name or a flag contains.
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            explanation=_explanation(report.explained),
            matrix=matrix(report.evaluations) if len(report.evaluations) > 1 else None,
            sliders=[_slider(evaluation) for evaluation in report.evaluations],
            contents=_contents(report),
            measures=_measure_rows(report.evaluations),
            figures=[_figures(evaluation, f"e{index}") for index, evaluation in enumerate(report.evaluations)],
            history=_history(report.history),
            data=_data(report.data),
            leaks=_leaks(report.data),
        )
    )


class Cell(NamedTuple):
    """`value` and `interval` are text; `fallen`: the whole interval is worse than that of the first dataset."""

    value: str
    interval: str
    fallen: bool


def matrix(evaluations: Sequence[Evaluation]) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """One model on several datasets.

    Returns:
        The names of the measures, and (name, cells) per dataset.
    """
    forms = {
        key: (name, rendering.percent if is_percent else rendering.number) for key, name, is_percent, _ in MEASURES
    }
    first, rows = evaluations[0].metrics, []
    for evaluation in evaluations:
        cells = []
        for key in results.COMPARED:
            form, bounds, best = forms[key][1], evaluation.metrics.get(f"{key}_ci95"), first.get(f"{key}_ci95")
            fallen = bool(bounds and best) and (bounds[0] > best[1] if key == "ece" else bounds[1] < best[0])
            cells.append(
                Cell(form(evaluation.metrics[key]), rendering.interval(bounds, form) if bounds else "", fallen)
            )
        rows.append((f"{evaluation.name} {evaluation.split}", cells))
    return [forms[key][0] for key in results.COMPARED], rows


def _contents(report: Report) -> list[tuple[str, str]]:
    """(anchor, title) of each section that the report has, in order."""
    tested, data = bool(report.evaluations), bool(report.data)
    sections = (
        ("figures", "Key figures", tested),
        ("photographs", "As photographs", any(evaluation.photographs for evaluation in report.evaluations)),
        ("matrix", "Across datasets", len(report.evaluations) > 1),
        ("confusion", "Confusion matrix", tested),
        ("threshold", "Another threshold", tested),
        ("curves", "Curves", tested),
        ("review", "For human review", any(evaluation.review for evaluation in report.evaluations)),
        ("slices", "Where it is weak", any(evaluation.slices for evaluation in report.evaluations)),
        ("explanation", "Where it looks", report.explained is not None),
        ("layers", "Filters and activation maps", report.explained is not None),
        ("history", "Training history", bool(report.history)),
        ("mistakes", "Worst mistakes", tested),
        ("suspects", "Labels that may be wrong", any(evaluation.suspects for evaluation in report.evaluations)),
        ("data", "The data", data),
        ("leaks", "Leaks", data),
        ("flags", "Exact flags", bool(report.flags.strip())),
        ("versions", "Versions", bool(report.versions)),
    )
    return [(anchor, title) for anchor, title, is_present in sections if is_present]


def _measure_rows(evaluations: Sequence[Evaluation]) -> list[dict]:
    """One row per measure: its name, its meaning, and per evaluation its value and interval as text."""
    rows = []
    for key, name, is_percent, meaning in MEASURES:
        form = rendering.percent if is_percent else rendering.number
        cells = []
        for evaluation in evaluations:
            bounds = evaluation.metrics.get(f"{key}_ci95")
            cells.append((form(evaluation.metrics[key]), rendering.interval(bounds, form) if bounds else ""))
        rows.append({"name": name, "meaning": meaning, "cells": cells})
    thresholds = [(f"{evaluation.metrics['threshold']:.4g}", "") for evaluation in evaluations]
    rows.append({"name": "Threshold", "meaning": "from this probability on it says cracked", "cells": thresholds})
    return rows


def _explanation(explained: Explained | None) -> dict | None:
    """The table of methods and scores: `columns` are the headings with any value, `rows` are (name, cells).

    A cell is (value, text). None without explanations.
    """
    if explained is None:
        return None
    content = explained.scores
    rows = {}
    for name, scores in (content["methods"] | content["baselines"]).items():
        random = scores.get("random_weights") or {}
        rows[name.replace("_", " ")] = scores | {f"random_{key}": value for key, value in random.items()}
    columns = [column for column in EXPLAINED if any(row.get(column[0]) is not None for row in rows.values())]
    table = []
    for name, row in rows.items():
        values = [(row.get(key), form) for key, _, form in columns]
        table.append((name, [(value, "" if value is None else form.format(value)) for value, form in values]))
    return {"columns": [name for _, name, _ in columns], "rows": table}


def _slider(evaluation: Evaluation) -> dict[str, str]:
    """Counts of true (`found`) and false positives (`alarms`) at thresholds 0, 0.001, ... 1, as JSON."""
    labels, probabilities = np.asarray(evaluation.labels, bool), np.asarray(evaluation.probabilities)
    thresholds = np.arange(STEPS + 1) / STEPS

    def count_called(scores: np.ndarray) -> str:
        return json.dumps((len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")).tolist())

    return {"found": count_called(probabilities[labels]), "alarms": count_called(probabilities[~labels])}


def _figures(evaluation: Evaluation, prefix: str) -> dict:
    """The figures of an evaluation as SVG: `confusion`, and `curves` as (caption, SVG)."""
    figures = evaluation_plots.draw(evaluation)
    return {
        "confusion": _svg(figures["confusion"], f"{prefix}m"),
        "curves": [
            (caption, _svg(figures[name], f"{prefix}c{index}"))
            for index, (name, caption) in enumerate(CAPTIONS.items())
        ],
    }


def _svg(figure: plots.Figure, prefix: str) -> Markup:
    return Markup(plots.as_svg(figure, prefix))


def _history(rows: Sequence[Mapping]) -> dict | None:
    """Curves, a table of text, the best epoch and the median speed; None without rows."""
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
    """The data section: one row per split, and the dataset's metadata as text; None without `facts`."""
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
    displayed = {
        "Cracked means": facts["positive_class"],
        "Images": f"{side}, {facts['channels']} channel{'s' if facts['channels'] > 1 else ''}, {facts['encoding']}",
        "Rejected files": f"{facts.get('rejected') or 0:,}",
        "Kept together": str(facts.get("group_by", "")).replace("_", " "),
        "Source": facts.get("source"),
        "Converted": facts.get("created"),
        "Seed": facts.get("seed"),
        "Fingerprint": facts["fingerprint"],
    }
    displayed = {name: value for name, value in displayed.items() if value not in (None, "")}
    return {"splits": splits, "facts": displayed, "notes": facts.get("notes") or []}


def _leaks(facts: Mapping) -> dict | None:
    """The dataset's leak counts with two derived values, `copies` and `random_share`; None without leak counts."""
    leaks = facts.get("leaks")
    if not leaks:
        return None
    tested = leaks["random_split_test"]
    return leaks | {
        "copies": leaks["byte_copies"] + leaks["near_copies"],
        "random_share": f"{100 * leaks['random_split_twins'] / max(tested, 1):.1f}{rendering.PERCENT}",
    }
