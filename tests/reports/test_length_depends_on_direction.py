"""A straight line was up to 7.7 % too long, by its direction, and a circle 5.5 %."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from crackflow.inference import crack_tracing

CELL, ACROSS, SIDE = 16, 8, 720


def length_of(draw):
    """What `draw(pen)` draws 3 pixels wide, 4 times as large and made smaller, everything being warm."""
    page = Image.new("L", (4 * SIDE, 4 * SIDE))
    draw(ImageDraw.Draw(page))
    cover = np.asarray(page.resize((SIDE, SIDE), Image.Resampling.BOX)) / 255
    picture = (170 - 120 * cover).astype(np.uint8)[..., None]
    warm = np.ones((SIDE // CELL, SIDE // CELL), np.float32)
    (found,) = crack_tracing.extract_cracks(warm, CELL, ACROSS, picture, 0.5)
    return found.length_px


@pytest.mark.parametrize("angle", [0, 10, 15, 22.5, 30, 45, 90])
def test_a_line_of_600_pixels_is_600_long_in_every_direction(report, angle):
    report("17-length-depends-on-direction")
    way = 4 * 300 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    ends = [tuple(2 * SIDE - way), tuple(2 * SIDE + way)]
    assert length_of(lambda pen: pen.line(ends, 255, 12)) == pytest.approx(600, rel=0.02)


def test_neither_does_that_of_a_circle():
    box = [2 * SIDE - 806, 2 * SIDE - 806, 2 * SIDE + 806, 2 * SIDE + 806]
    assert length_of(lambda pen: pen.ellipse(box, outline=255, width=12)) == pytest.approx(2 * np.pi * 200, rel=0.03)


@pytest.mark.parametrize("slope", [0.1, 0.5])
def test_nor_that_of_a_zigzag(slope):
    x = np.arange(400, 2500, 400)
    corners = [(int(at), int(1400 + (number % 2) * 400 * slope)) for number, at in enumerate(x)]
    true = np.hypot(400, 400 * slope) * (len(corners) - 1) / 4
    assert length_of(lambda pen: pen.line(corners, 255, 12, "curve")) == pytest.approx(true, rel=0.02)
