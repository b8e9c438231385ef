"""Draws the scale card, true to size: marker, lines of known width, a ruler to check the print, instructions.

Synopsis::

    data = card_drawing.render(CardConfig(marker_mm=50.0), "pdf")       # the bytes of a file; also "svg", "png"

Everything that is measured is a filled shape in millimetres, not a stroke: the width of a stroke is that of a pen, and
a program that prints may change it.
"""

import io

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from crackflow.core.config.card import CardConfig, MarkerDictionary, Paper
from crackflow.data import card_layout
from crackflow.inference import marker_plane

PAPER_MM = {Paper.A5: (148.0, 210.0), Paper.A4: (210.0, 297.0)}
MM_PER_INCH = 25.4
MARGIN_MM, TITLE_MM = 15.0, 20.0  # from the edges of the paper to the upper left corner of the marker
PNG_DPI = 600  # 0.1 mm is 2.4 pixels
STYLE = {"font.family": "DejaVu Sans", "pdf.fonttype": 42, "svg.hashsalt": "crackflow", "svg.fonttype": "path"}
DICTIONARY = MarkerDictionary.APRILTAG_36H11
# A file without the time of its making is the same every time.
METADATA: dict[str, dict] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}


def render(config: CardConfig, form: str) -> bytes:
    """The card as the bytes of a file.

    Args:
        config: side of the marker, and paper.
        form: pdf, svg or png.

    Raises:
        UserError: OpenCV, which knows the marker, is not installed.
    """
    width, height = PAPER_MM[config.paper]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width / MM_PER_INCH, height / MM_PER_INCH), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(-MARGIN_MM, width - MARGIN_MM)
        axes.set_ylim(height - TITLE_MM, -TITLE_MM)  # y down, 0 at the upper side of the marker
        axes.axis("off")
        layout = card_layout.CardLayout(config.marker_mm)
        title = f"crackflow scale card: marker {config.marker_mm:g} mm, --marker_mm={config.marker_mm:g}"
        axes.text(0, -10, title, fontsize=9, va="center")
        _draw_marker(axes, config.marker_mm)
        _draw_lines(axes, layout)
        _draw_ruler(axes, layout)
        _write_instructions(axes, layout)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, dpi=PNG_DPI, metadata=METADATA[form])
    return buffer.getvalue()


def _fill(axes: Axes, x: float, y: float, width: float, height: float, color: str = "black") -> None:
    # Snapping to whole pixels would make a PNG's line of 0.1 mm two or three of them.
    axes.add_patch(Rectangle((x, y), width, height, facecolor=color, edgecolor="none", linewidth=0, snap=False))


def _draw_marker(axes: Axes, side_mm: float) -> None:
    """A black square with white modules on it: runs by rows and by columns overlap, so that no seam is between them."""
    modules = marker_plane.marker_modules(DICTIONARY, card_layout.CARD_ID)
    module = side_mm / len(modules)
    _fill(axes, 0, 0, side_mm, side_mm)
    for is_column, table in ((False, ~modules), (True, ~modules.T)):
        for row, is_white in enumerate(table):
            changes = np.flatnonzero(np.diff(np.concatenate([[0], is_white, [0]]).astype(int)))
            for start, stop in zip(changes[::2], changes[1::2], strict=True):
                box = start * module, row * module, (stop - start) * module, module
                _fill(axes, *((box[1], box[0], box[3], box[2]) if is_column else box), color="white")


def _draw_lines(axes: Axes, layout: card_layout.CardLayout) -> None:
    top, bottom = layout.line_y
    for line in layout.lines:
        _fill(axes, line.x - line.width_mm / 2, top, line.width_mm, bottom - top)
        axes.text(line.x, bottom + 3, f"{line.width_mm:g}", fontsize=6, ha="center", va="center")
    axes.text(layout.lines[0].x, bottom + 6.5, "width of the lines in mm", fontsize=6, va="center")


def _draw_ruler(axes: Axes, layout: card_layout.CardLayout) -> None:
    start, y = card_layout.LINE_START_MM, layout.ruler_y
    _fill(axes, start, y, card_layout.RULER_MM, 0.2)
    for mark in range(card_layout.RULER_MM + 1):
        length = 5.0 if mark % 10 == 0 else 3.5 if mark % 5 == 0 else 2.0
        _fill(axes, start + mark - 0.1, y, 0.2, length)
        if mark % 10 == 0:
            axes.text(start + mark, y + 7, f"{mark}", fontsize=6, ha="center", va="center")


def _write_instructions(axes: Axes, layout: card_layout.CardLayout) -> None:
    lines = (
        "1. Print at 100 % (no fitting to the page), on matt paper. Lay a steel ruler on the scale above:",
        f"    100 mm must be 100 mm. The black square must be {layout.marker_mm:g} mm wide.",
        "2. Fix the card flat on the surface, beside the crack, all of it in the picture, white margin free.",
        "3. Photograph it from straight ahead, sharp, without flash on it, no more than 30 degrees aslant.",
        f"4. crackflow predict --photos=wall.jpg --marker_mm={layout.marker_mm:g}",
    )
    for number, text in enumerate(lines):
        axes.text(0, layout.ruler_y + 13 + 4.5 * number, text, fontsize=6.5, va="center")
