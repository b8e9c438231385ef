"""Figures: what they show, that they stay small, and that their SVG can live inside any page."""

import io
import re
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crackflow.report import plots

CLASSES = ("Negative", "Positive")
ROWS = [
    {"epoch": "1", "loss": "0.5", "accuracy": "0.8", "val_loss": "0.6", "val_accuracy": "0.7"},
    {"epoch": "2", "loss": "0.2", "accuracy": "0.9", "val_loss": "", "val_accuracy": None},
]


def sample(count):
    generator = np.random.default_rng(0)
    labels = generator.random(count) < 0.5
    return labels, np.clip(0.5 + 0.5 * (labels - 0.5) + generator.normal(0, 0.3, count), 0, 1)


def every_figure(count=200, classes=CLASSES):
    labels, probabilities = sample(count)
    return [
        plots.confusion({"tn": 90, "fp": 10, "fn": 2, "tp": 98}, classes),
        plots.roc(labels, probabilities, 0.5),
        plots.precision_recall(labels, probabilities, 0.5),
        plots.histogram(labels, probabilities, 0.5, classes),
        plots.calibration(labels, probabilities),
        plots.loss_history(ROWS),
        plots.accuracy_history(ROWS),
    ]


@pytest.fixture(scope="module")
def svgs():
    """Every figure as SVG: drawing takes a second."""
    return {figure.get_label(): plots.as_svg(figure) for figure in every_figure()}


def texts(figure):
    return [artist.get_text() for artist in figure.findobj(matplotlib.text.Text)]


def line(figure, index=0):
    return figure.axes[0].get_lines()[index]


def test_the_confusion_matrix_shows_counts_and_shares_of_the_truth():
    displayed = texts(plots.confusion({"tn": 900, "fp": 100, "fn": 6, "tp": 1994}, CLASSES))
    for text in ("900", "100", "6", "1,994", "90.00 % of row", "10.00 % of row", "0.30 % of row", "99.70 % of row"):
        assert text in displayed


def test_the_confusion_matrix_of_nothing_is_drawn_all_the_same():
    assert texts(plots.confusion(dict.fromkeys(("tn", "fp", "fn", "tp"), 0), CLASSES)).count("0.00 % of row") == 4


def test_the_roc_curve_passes_through_the_threshold():
    labels, probabilities = np.array([0, 0, 1, 1, 0]), np.array([0.1, 0.6, 0.4, 0.9, 0.2])
    figure = plots.roc(labels, probabilities, 0.5)
    points = [artist for artist in figure.axes[0].get_lines() if artist.get_marker() == "o" and len(artist.get_xdata())]
    assert points[0].get_xydata().tolist() == [[1 / 3, 0.5]]


def test_a_nearly_perfect_curve_gets_its_corner_enlarged():
    labels = np.arange(100) % 2
    good = plots.roc(labels, 0.1 + 0.8 * labels, 0.5)
    fair = plots.roc(*sample(300), 0.5)
    assert [len(figure.axes[0].child_axes) for figure in (good, fair)] == [1, 0]


def test_an_area_is_never_rounded_up_to_perfection():
    assert plots.four_digits(0.99998) == "0.9999"
    assert plots.four_digits(1.0) == "1"
    assert plots.four_digits(-0.25) == "-0.2500"


@pytest.mark.parametrize("draw", [plots.roc, plots.precision_recall])
def test_a_curve_of_one_class_says_what_it_needs(draw):
    assert "needs images of both classes" in texts(draw(np.ones(5), np.linspace(0, 1, 5), 0.5))


def test_the_histogram_counts_every_image_of_each_class():
    labels, probabilities = sample(500)
    figure = plots.histogram(labels, probabilities, 0.5, CLASSES)
    filled = [patch for patch in figure.axes[0].patches if patch.get_fill()]
    assert [int(patch.get_data().values.sum()) for patch in filled] == [(~labels).sum(), labels.sum()]


def test_calibration_points_are_observed_shares():
    figure = plots.calibration(np.array([0, 1, 1, 1]), np.array([0.22, 0.25, 0.95, 0.95]))
    points = figure.axes[0].collections[-1].get_offsets()
    assert points.tolist() == [[pytest.approx(0.235), 0.5], [pytest.approx(0.95), 1.0]]


def test_the_history_leaves_out_what_was_not_measured():
    figure = plots.loss_history(ROWS)
    assert line(figure, 0).get_ydata().tolist() == [0.5, 0.2]
    assert line(figure, 1).get_ydata().tolist() == [0.6, pytest.approx(np.nan, nan_ok=True)]
    assert np.isnan(plots.column(ROWS, "absent")).all()


@given(st.integers(2, 3000), st.integers(2, 600))
def test_thinning_keeps_the_ends_the_order_and_the_limit(count, points):
    generator = np.random.default_rng(count)
    x, y = np.sort(generator.random(count)), np.sort(generator.random(count))
    thin_x, thin_y = plots.thin(x, y, points)
    assert len(thin_x) == len(thin_y) <= max(points, 2)
    assert (thin_x[0], thin_y[0], thin_x[-1], thin_y[-1]) == (x[0], y[0], x[-1], y[-1])
    assert (np.diff(thin_x) >= 0).all() and np.isin(thin_x, x).all()


def test_a_thinned_curve_looks_like_the_whole_one():
    x = np.linspace(0, 1, 20_000)
    thin_x, thin_y = plots.thin(x, np.sqrt(x))
    assert np.abs(np.interp(x, thin_x, thin_y) - np.sqrt(x)).max() < 0.002


@pytest.mark.parametrize("draw", [plots.roc, plots.precision_recall])
def test_pictures_of_many_images_stay_small(draw):
    figure = draw(*sample(200_000), 0.5)
    assert max(len(artist.get_xdata()) for artist in figure.axes[0].get_lines()) <= 500
    assert len(plots.as_svg(figure)) < 40_000


def test_an_svg_refers_only_to_ids_of_its_own():
    svg = plots.as_svg(every_figure()[1], prefix="p7")
    ids = re.findall(r' id="([^"]+)"', svg)
    referenced = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
    assert set(ids) == referenced and len(ids) == len(referenced) > 3
    assert all(svg_id.startswith("p7-") for svg_id in ids)


def test_svgs_without_a_prefix_share_no_id(svgs):
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in svgs.values()]
    assert sum(map(len, ids)) == len(set().union(*ids)) > 10


def test_an_svg_takes_colours_and_fonts_from_the_page(svgs):
    for label, svg in svgs.items():
        assert "currentColor" in svg and "<text" in svg
        for foreign in ("#000000", "#ffffff", plots.INK, "font-family", "<style", "<metadata", "<?xml", "<!"):
            assert foreign not in svg
        root = ET.fromstring(svg)
        assert root.get("aria-label") == label and root.get("width") is None


def test_the_same_figure_gives_the_same_svg():
    first, second = (plots.as_svg(plots.loss_history(ROWS)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "name", ["<script>", "5$ or $x_1$ $", 'a"b&c', "line\nbreak", "\udcff", "\x00\x1b", "裂缝", "x" * 30]
)
def test_odd_class_names_are_drawn_as_text(name):
    counts = {"tn": 90, "fp": 10, "fn": 2, "tp": 98}
    root = ET.fromstring(plots.as_svg(plots.confusion(counts, ("clean", name))))
    displayed = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert plots._printable_name(name) in displayed and len(plots._printable_name(name)) <= plots.LONGEST_NAME


def test_a_png_is_on_white_and_replaces_the_old_one_whole(tmp_path):
    path = tmp_path / "roc.png"
    path.write_bytes(b"old")
    plots.save_png(plots.loss_history(ROWS), path)
    with Image.open(io.BytesIO(path.read_bytes())) as picture:
        assert picture.format == "PNG" and picture.size == (690, 555)
        assert picture.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)
    assert [entry.name for entry in tmp_path.iterdir()] == ["roc.png"]


def test_a_png_of_a_script_without_glyphs_gives_no_warning(tmp_path):
    plots.save_png(plots.confusion({"tn": 1, "fp": 0, "fn": 0, "tp": 1}, ("无", "裂缝")), tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as picture:  # a warning would be an error here
        assert picture.format == "PNG"


def test_drawing_changes_no_setting_of_matplotlib():
    before = {name: matplotlib.rcParams[name] for name in plots.STYLE}
    plots.as_svg(plots.confusion({"tn": 1, "fp": 0, "fn": 0, "tp": 1}, CLASSES))
    assert before == {name: matplotlib.rcParams[name] for name in plots.STYLE}
    assert before["text.color"] != plots.INK  # nor did an earlier test
