import pytest

from crackflow.core.config.card import MAX_MARKER_MM, Paper
from crackflow.data.card_layout import LINE_SPACING_MM, RULER_MM, CardLayout
from crackflow.report.card_drawing import MARGIN_MM, PAPER_MM, TITLE_MM


@pytest.mark.parametrize("paper", Paper)
def test_everything_lies_on_the_paper_with_the_largest_marker(paper):
    layout, (width, height) = CardLayout(MAX_MARKER_MM[paper]), PAPER_MM[paper]
    right = max(layout.marker_mm, layout.lines[-1].x + 1, layout.lines[0].x + RULER_MM)
    assert right + MARGIN_MM <= width - 5 and layout.ruler_y + 35 + TITLE_MM <= height - 5


def test_lines_are_apart_so_that_each_is_seen_by_itself():
    lines = CardLayout(50.0).lines
    assert all(
        b.x - a.x - (a.width_mm + b.width_mm) / 2 >= LINE_SPACING_MM - 2 for a, b in zip(lines, lines[1:], strict=False)
    )
    assert CardLayout(50.0).line_y[1] < CardLayout(50.0).ruler_y and CardLayout(50.0).line_y[0] > 50
