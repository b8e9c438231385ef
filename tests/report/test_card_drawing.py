import functools
import io
import re

import numpy as np
import pypdf
import pytest
from PIL import Image

from crackflow.core.config.card import CardConfig, MarkerDictionary, Paper
from crackflow.data.card_layout import CARD_ID, LINE_WIDTHS_MM, RULER_MM, CardLayout
from crackflow.inference import marker_plane
from crackflow.report import card_drawing

POINTS_PER_MM = 72 / 25.4


@functools.cache
def render(form, **settings):
    return card_drawing.render(CardConfig(**settings), form)


def rectangles(data):
    """float64 [N, 4]: left, bottom, width and height of the rectangles that a PDF fills, in points, and the page."""
    page = pypdf.PdfReader(io.BytesIO(data)).pages[0]
    text = page.get_contents().get_data().decode("latin-1")
    number = r"(-?[\d.]+)"
    corners = re.findall(rf"{number} {number} m\n(?:{number} {number} l\n){{3}}h", text)
    assert corners
    boxes = []
    for block in re.findall(r"(?:-?[\d.]+ -?[\d.]+ [ml]\n){4}h", text):
        points = np.array(re.findall(rf"{number} {number} [ml]", block), float)
        boxes.append([*points.min(0), *np.ptp(points, axis=0)])
    return np.array(boxes), page


@pytest.mark.parametrize("paper, marker_mm", [(Paper.A5, 50.0), (Paper.A4, 150.0)])
def test_the_pdf_is_true_to_size(paper, marker_mm):
    boxes, page = rectangles(render("pdf", paper=paper, marker_mm=marker_mm))
    size = np.array([float(page.mediabox.width), float(page.mediabox.height)]) / POINTS_PER_MM
    assert np.allclose(size, card_drawing.PAPER_MM[paper], atol=0.01)
    boxes = boxes / POINTS_PER_MM
    assert any(np.allclose(box[2:], marker_mm, atol=0.001) for box in boxes), "the black square"
    layout, top = CardLayout(marker_mm), size[1] - card_drawing.TITLE_MM
    for line in layout.lines:
        left = card_drawing.MARGIN_MM + line.x - line.width_mm / 2
        expected = [left, top - layout.line_y[1], line.width_mm, layout.line_y[1] - layout.line_y[0]]
        assert any(np.allclose(box, expected, atol=0.001) for box in boxes), line
    marks = boxes[np.isclose(boxes[:, 2], 0.2, atol=0.001) & (boxes[:, 3] < 6)][:, 0]
    assert len(marks) == RULER_MM + 1 and np.ptp(marks) == pytest.approx(RULER_MM, abs=0.002)


def test_the_pdf_says_what_to_do_and_has_no_date():
    data = render("pdf", paper=Paper.A5, marker_mm=50.0)
    text = pypdf.PdfReader(io.BytesIO(data)).pages[0].extract_text()
    assert "--marker_mm=50" in text and "Print at 100 %" in text
    assert data == card_drawing.render(CardConfig(), "pdf")


def test_the_png_has_every_line_with_its_width_and_its_resolution():
    image = Image.open(io.BytesIO(render("png")))
    assert image.info["dpi"] == pytest.approx((600, 600), abs=0.01)
    ink, dots = 1 - np.asarray(image.convert("L")) / 255, 600 / 25.4
    layout = CardLayout(50.0)
    row = ink[round((card_drawing.TITLE_MM + layout.line_y[0] + 10) * dots)]
    for line, width in zip(layout.lines, LINE_WIDTHS_MM, strict=True):
        middle = round((card_drawing.MARGIN_MM + line.x) * dots)
        assert row[middle - 80 : middle + 80].sum() / dots == pytest.approx(width, abs=0.002)


def test_the_marker_is_the_one_that_predict_looks_for():
    image = Image.open(io.BytesIO(render("png"))).convert("L")
    (marker,) = marker_plane.find_markers(np.asarray(image)[..., None], MarkerDictionary.APRILTAG_36H11)
    side = np.hypot(*(marker.corners - np.roll(marker.corners, -1, 0)).T)
    assert marker.number == CARD_ID and np.allclose(side * 25.4 / 600, 50, atol=0.03)


def test_the_svg_has_its_size_in_its_header():
    text = render("svg").decode()
    width, height = (float(value) for value in re.findall(r'(?:width|height)="([\d.]+)pt"', text)[:2])
    assert width / POINTS_PER_MM == pytest.approx(148, abs=0.01) and height / POINTS_PER_MM == pytest.approx(
        210, abs=0.01
    )
