"""The figures of a report, each a matplotlib Figure, and their two output formats: PNG file and inline SVG.

Synopsis::

    figure = plots.roc(labels, probabilities, threshold)
    plots.save_png(figure, "run/roc.png")
    html = plots.as_svg(figure, prefix="roc")      # text and axes take the colour of the page around them

labels: int or bool [N], 1 means cracked; probabilities: float [N], 0..1, of cracked; classes: (clean, cracked).
Curves have at most 500 points, whatever N is. pyplot is not used, so no state remains between calls.
"""

import hashlib
import io
import math
import os
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from crackflow.core import atomic
from crackflow.core.escaping import one_line
from crackflow.evaluation import thresholds
from crackflow.evaluation.metrics import reliability, wilson

MAX_POINTS = 500
BINS = 40
LONGEST_NAME = 18
# Blue and orange stay apart for colour-blind readers, and have a contrast above 3 on white and on #16181c alike.
CLEAN, CRACKED = "#2f81d8", "#d9660f"
INK = "#2a2f3b"  # stands for "the page's text colour": as_svg turns it into currentColor
STYLE = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "text.color": INK,
    "text.parse_math": False,  # a class may be named "5$"
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "crackflow",
}
SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"


def _axes(label: str) -> tuple[Figure, Axes]:
    """An empty figure of 4.6 x 3.7 inch; screen readers read its `label`."""
    figure = Figure(figsize=(4.6, 3.7), layout="constrained", label=label)
    return figure, figure.add_subplot()


def _printable_name(name: str) -> str:
    """A class name, shortened to fit beside an axis, in characters that XML allows."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in one_line(name))
    return plain if len(plain) <= LONGEST_NAME else plain[: LONGEST_NAME - 1] + "…"


def thin(x: np.ndarray, y: np.ndarray, points: int = MAX_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Thin a curve to at most `points` points, evenly spaced along it, with both ends.

    Args:
        x: float [N], 0..1.
        y: float [N], 0..1.
        points: upper limit of the points that remain.

    Returns:
        The x and y of the points that remain; `x` and `y` themselves if N <= `points`.
    """
    if len(x) <= points:
        return x, y
    distance = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    indices = np.unique(np.searchsorted(distance, np.linspace(0, distance[-1], points)))
    indices = np.union1d(indices[: points - 1], len(x) - 1)
    return x[indices], y[indices]


@matplotlib.rc_context(STYLE)
def confusion(counts: Mapping[str, int], classes: tuple[str, str]) -> Figure:
    """Confusion matrix, truth by row and decision by column.

    Correct cells are blue, wrong ones orange; the colour is the stronger, the larger the cell's fraction of its row.
    """
    figure, axes = _axes("Confusion matrix")
    rows = ((counts["tn"], counts["fp"]), (counts["fn"], counts["tp"]))
    for row, cells in enumerate(rows):
        for column, count in enumerate(cells):
            share = count / sum(cells) if sum(cells) else 0.0
            colour = CLEAN if row == column else CRACKED
            strength = 0.1 + 0.4 * math.sqrt(share)
            axes.add_patch(Rectangle((column + 0.01, row + 0.01), 0.98, 0.98, facecolor=colour, alpha=strength, lw=0))
            axes.text(column + 0.5, row + 0.46, f"{count:,}", ha="center", va="center", fontsize=17, weight="bold")
            axes.text(column + 0.5, row + 0.68, f"{100 * share:.2f} % of row", ha="center", va="center", fontsize=9)
    axes.set(xlim=(0, 2), ylim=(2, 0), xlabel="decision", ylabel="truth")
    axes.set_xticks((0.5, 1.5), map(_printable_name, classes))
    axes.set_yticks((0.5, 1.5), map(_printable_name, classes), rotation=90, va="center")
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return figure


@matplotlib.rc_context(STYLE)
def roc(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> Figure:
    """ROC curve with the operating threshold; its upper left corner is enlarged if the area exceeds 0.95."""
    figure, axes = _axes("Receiver operating characteristic")
    axes.set(xlabel="clean images called cracked", ylabel="cracked images found")
    labels = np.asarray(labels).astype(bool)
    if not _both_classes(axes, labels):
        return figure
    curve = thin(*roc_curve(labels, probabilities)[:2])
    is_called = np.asarray(probabilities, np.float64) >= threshold
    point = is_called[~labels].mean(), is_called[labels].mean()
    area = roc_auc_score(labels, probabilities)
    panels = _corner_panels(axes, area, corner=(0.0, 0.9), at=(0.42, 0.18, 0.5, 0.5))
    if len(panels) == 1:
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.4, lw=1, ls="--")
    for panel in panels:
        panel.plot(*curve, color=CLEAN)
        _mark(panel, *point)
    _add_legend(axes, f"area {four_digits(area)}", f"threshold {threshold:.3g}", loc="lower right")
    return figure


@matplotlib.rc_context(STYLE)
def precision_recall(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> Figure:
    """Precision-recall curve with the operating threshold; its upper right corner is enlarged if the area exceeds
    0.95."""
    figure, axes = _axes("Precision and recall")
    axes.set(xlabel="recall: cracked images found", ylabel="precision of “cracked”")
    labels = np.asarray(labels).astype(bool)
    if not _both_classes(axes, labels):
        return figure
    precision, recall, _ = precision_recall_curve(labels, probabilities)
    curve = thin(recall, precision)
    is_called = np.asarray(probabilities, np.float64) >= threshold
    area = average_precision_score(labels, probabilities)
    for panel in _corner_panels(axes, area, corner=(0.9, 0.9), at=(0.1, 0.22, 0.5, 0.5)):
        panel.step(*curve, color=CLEAN, where="post")  # the steps that average precision sums, recall falling
        if is_called.any():
            _mark(panel, is_called[labels].mean(), labels[is_called].mean())
    _add_legend(axes, f"area {four_digits(area)}", f"threshold {threshold:.3g}", loc="lower left")
    return figure


def four_digits(value: float) -> str:
    """Four decimals: 0.9987 for 0.99871. Only 1 itself becomes 1: 0.99998 becomes 0.9999."""
    return "1" if value == 1 else f"{min(value, 0.9999):.4f}"


def _both_classes(axes: Axes, labels: np.ndarray) -> bool:
    """Whether both classes occur; otherwise the curve is undefined, and a note in `axes` says so."""
    if labels.any() and not labels.all():
        return True
    axes.text(0.5, 0.5, "needs images of both classes", ha="center", va="center", transform=axes.transAxes)
    return False


def _corner_panels(axes: Axes, area: float, corner: tuple[float, float], at: tuple[float, ...]) -> list[Axes]:
    """`axes` as the unit square and, if `area` exceeds 0.95, an inset that enlarges the 0.1 x 0.1 at `corner`.

    Such a curve would otherwise look like a right angle. `at`: bounds of the inset in fractions of the axes.
    """
    axes.set(xlim=(0, 1), ylim=(0, 1.005))
    if area <= 0.95:
        return [axes]
    x, y = corner
    axes.add_patch(Rectangle(corner, 0.1, 0.1, fill=False, edgecolor=INK, alpha=0.4, lw=0.8))
    inset = axes.inset_axes(at)
    inset.set(xlim=(x, x + 0.1), ylim=(y, y + 0.1005), xticks=(x, x + 0.05, x + 0.1), yticks=(y, y + 0.05, y + 0.1))
    inset.tick_params(labelsize=8)
    return [axes, inset]


def _mark(axes: Axes, x: float, y: float) -> None:
    """Draw an unclipped dot at (x, y) if that lies within `axes` or on their edge."""
    if axes.get_xlim()[0] <= x <= axes.get_xlim()[1] and axes.get_ylim()[0] <= y <= axes.get_ylim()[1]:
        axes.plot(x, y, "o", color=CRACKED, ms=7, clip_on=False)


def _add_legend(axes: Axes, curve: str, point: str, loc: str) -> None:
    axes.plot([], [], color=CLEAN, label=curve)
    axes.plot([], [], "o", color=CRACKED, label=point)
    axes.legend(loc=loc, ncols=2, handlelength=1.2, columnspacing=1.2)


@matplotlib.rc_context(STYLE)
def histogram(labels: np.ndarray, probabilities: np.ndarray, threshold: float, classes: tuple[str, str]) -> Figure:
    """Histogram of the probability of cracked, one outline per class.

    The count axis is logarithmic, so that single images are visible.
    """
    figure, axes = _axes("Scores by class")
    labels, edges = np.asarray(labels).astype(bool), np.linspace(0, 1, BINS + 1)
    for name, colour, in_class in ((classes[0], CLEAN, ~labels), (classes[1], CRACKED, labels)):
        counts, _ = np.histogram(np.asarray(probabilities)[in_class], edges)
        axes.stairs(counts, edges, baseline=0.5, fill=True, color=colour, alpha=0.28)
        axes.stairs(np.maximum(counts, 0.5), edges, baseline=0.5, color=colour, lw=1.5, label=_printable_name(name))
    axes.axvline(threshold, color=INK, lw=1.2, ls="--", label=f"threshold {threshold:.3g}")
    axes.set(xlabel="probability of cracked", xlim=(0, 1), yscale="log")
    axes.set_ylabel("images (logarithmic)")
    axes.set_ylim(bottom=0.5)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else ""))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    figure.legend(loc="outside upper center", ncols=3, handlelength=1.4, columnspacing=1.4)
    return figure


@matplotlib.rc_context(STYLE)
def calibration(labels: np.ndarray, probabilities: np.ndarray) -> Figure:
    """Observed frequency of cracked against the stated probability, in 15 bins with 95 % Wilson intervals."""
    figure, axes = _axes("Reliability")
    bins = reliability(labels, probabilities)
    count, cracked, stated = (numbers[bins[0] > 0] for numbers in bins)
    observed = cracked / count
    bounds = np.array([wilson(*pair) for pair in zip(cracked.tolist(), count.tolist(), strict=True)])
    spread = np.abs(bounds.T - observed)
    axes.plot([0, 1], [0, 1], color=INK, alpha=0.4, lw=1, ls="--", label="perfect")
    axes.errorbar(stated, observed, yerr=spread, fmt="none", ecolor=CLEAN, alpha=0.6, elinewidth=1.4)
    area = 16 + 120 * count / count.max()
    axes.scatter(stated, observed, s=area, color=CLEAN, clip_on=False, label="bins (larger: more images)")
    axes.set(xlabel="stated probability of cracked", ylabel="observed share of cracked", xlim=(0, 1), ylim=(0, 1.005))
    figure.legend(loc="outside upper center", ncols=2, handlelength=1.4)
    return figure


@matplotlib.rc_context(STYLE)
def coverage(labels: np.ndarray, probabilities: np.ndarray, threshold: float, review: float | None) -> Figure:
    """Error rate among the most confident images against the fraction of images that are decided.

    Args:
        labels: int or bool [N], 1 means cracked.
        probabilities: float [N], 0..1, of cracked.
        threshold: the operating threshold, 0..1.
        review: fraction of images for human review, which is marked on the curve, or None.
    """
    figure, axes = _axes("Coverage")
    covered, error = thresholds.coverage(labels, probabilities, threshold)
    indices = np.unique(np.linspace(0, len(covered) - 1, MAX_POINTS).astype(int))
    axes.step(100 * covered[indices], 100 * error[indices], where="post", color=CLEAN)
    axes.set(xlabel="images decided, the surest first, %", ylabel="mistakes among them, %", xlim=(0, 100.5))
    axes.set_ylim(0, max(1.1 * 100 * error[len(error) // 2 :].max(), 0.1))
    if review is not None:
        marked = min(max(round((1 - review) * len(covered)), 1), len(covered)) - 1
        axes.plot(100 * covered[marked], 100 * error[marked], "o", color=CRACKED, ms=7, clip_on=False)
        axes.plot([], [], "o", color=CRACKED, label=f"{100 * review:.1f} % for human review")
        figure.legend(loc="outside upper center")
    return figure


@matplotlib.rc_context(STYLE)
def loss_history(rows: Sequence[Mapping[str, object]]) -> Figure:
    """Loss over epochs, training and validation. `rows`: those of history.csv, numbers or text."""
    return _history(rows, "loss", "Loss by epoch")


@matplotlib.rc_context(STYLE)
def accuracy_history(rows: Sequence[Mapping[str, object]]) -> Figure:
    """Accuracy over epochs, training and validation. `rows`: those of history.csv, numbers or text."""
    return _history(rows, "accuracy", "Accuracy by epoch")


def column(rows: Sequence[Mapping[str, object]], name: str) -> np.ndarray:
    """float64 [rows]: one column of history.csv; NaN where it is absent or empty."""
    values = [row[name] if name in row else None for row in rows]
    return np.array([np.nan if value in (None, "") else float(value) for value in values])


def _history(rows: Sequence[Mapping[str, object]], name: str, label: str) -> Figure:
    figure, axes = _axes(label)
    for key, colour, what in ((name, CLEAN, "training"), (f"val_{name}", CRACKED, "validation")):
        axes.plot(column(rows, "epoch"), column(rows, key), "o-", ms=3.5, color=colour, label=what)
    axes.set(xlabel="epoch", ylabel=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


def save_png(figure: Figure, path: str | os.PathLike) -> None:
    """Write `figure` as a PNG on white at 150 dots per inch, atomically."""
    data = io.BytesIO()
    _draw(figure, data, format="png", dpi=150, facecolor="white")
    atomic.write_bytes(os.fspath(path), data.getvalue())


def _draw(figure: Figure, out: io.BytesIO, **options: object) -> None:
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # matplotlib's font lacks some scripts; the browser that displays an SVG has them.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(out, **options)
    figure.set_layout_engine("none")  # it is laid out now: drawing it again takes a third less time


def as_svg(figure: Figure, prefix: str = "") -> str:
    """Render `figure` as an <svg> element for HTML: it scales to its box, keeps text as text and has no background.

    Args:
        figure: the figure to render.
        prefix: begins every id, so that figures on one page do not share clip paths; by default a hash of the SVG.

    Returns:
        The <svg> element as text.
    """
    data = io.BytesIO()
    _draw(figure, data, format="svg", transparent=True, metadata={"Date": None})
    prefix = prefix or "f" + hashlib.sha256(data.getvalue()).hexdigest()[:12]
    root = ET.fromstring(data.getvalue())
    for parent in list(root.iter()):
        for child in parent.findall(f"{SVG}metadata") + parent.findall(f"{SVG}style"):
            parent.remove(child)  # a style element would apply to the whole page; its one rule moves to the root
    used = set(
        re.findall(r"#([\w.-]+)", " ".join(value for element in root.iter() for value in element.attrib.values()))
    )
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        element.attrib = dict(_page_attributes(element, prefix, used))
    box, style = root.attrib["viewBox"], "stroke-linejoin: round; stroke-linecap: butt"
    root.attrib = dict(xmlns=SVG[1:-1], viewBox=box, role="img", style=style) | {"aria-label": figure.get_label()}
    return ET.tostring(root, encoding="unicode")


def _page_attributes(element: ET.Element, prefix: str, used: set[str]) -> Iterator[tuple[str, str]]:
    """The attributes of `element` with prefixed ids, and with the text colour and fonts of the page around it."""
    for key, value in element.attrib.items():
        if key == "id":
            if value in used:
                yield key, f"{prefix}-{value}"
        elif key == HREF:
            yield "href", f"#{prefix}-{value[1:]}"
        else:
            value = value.replace("url(#", f"url(#{prefix}-").replace(INK, "currentColor")
            yield key, re.sub(r"font-family: [^;]*;? ?", "", value)
