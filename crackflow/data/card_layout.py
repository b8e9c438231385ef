"""Where everything lies on the scale card, in millimetres: `crackflow.card` draws it and `crackflow.predict` reads it.

Synopsis::

    layout = card_layout.CardLayout(marker_mm=50.0)
    layout.lines[0].x, layout.lines[0].width_mm, layout.line_y       # 4.0, 0.1, (60.0, 85.0)

The origin is the upper left corner of the marker's black square, x to the right, y down. The positions of the lines
depend on the side of the marker alone, not on the paper.
"""

from typing import NamedTuple

CARD_ID = 113  # of the marker in its dictionary, apriltag_36h11: not the 0 that other cards begin with
LINE_WIDTHS_MM = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0)
LINE_START_MM, LINE_SPACING_MM, LINE_LENGTH_MM = 4.0, 9.0, 25.0
LINES_BELOW_MM, RULER_BELOW_MM = 10.0, 47.0  # from the lower side of the marker
RULER_MM = 100


class CardLine(NamedTuple):
    """An upright line: the x of its middle, and its width."""

    x: float
    width_mm: float


class CardLayout(NamedTuple):
    """The card whose marker has this side in mm."""

    marker_mm: float

    @property
    def lines(self) -> tuple[CardLine, ...]:
        """The lines, thinnest first."""
        return tuple(
            CardLine(LINE_START_MM + number * LINE_SPACING_MM, width) for number, width in enumerate(LINE_WIDTHS_MM)
        )

    @property
    def line_y(self) -> tuple[float, float]:
        """The y of the upper and the lower end of the lines."""
        top = self.marker_mm + LINES_BELOW_MM
        return top, top + LINE_LENGTH_MM

    @property
    def ruler_y(self) -> float:
        """The y of the ruler, whose 0 lies at x = 4 mm, in the middle of the first line."""
        return self.marker_mm + RULER_BELOW_MM
