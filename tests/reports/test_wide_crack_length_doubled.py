"""A crack of 475 mm drawn 14 or 24 pixels wide had twice its length: both edges were traced, and added up."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from crackflow.inference import crack_tracing, predictor

CELL, ACROSS = 16, 8


def test_a_crack_is_as_long_however_wide_it_is(report):
    model = predictor.load()
    for file in sorted((report("05-wide-crack-length-doubled") / "wide").iterdir()):
        (prediction,) = model.predict([file], mm_per_px=0.53)
        assert sum(finding.length_mm for finding in prediction.findings) == pytest.approx(475, rel=0.05), file.name


def length_of(draw, width):
    """Of what `draw(pen)` draws, dark on a wall with some grain, where each cell that it touches is surely cracked."""
    page = Image.new("L", (480, 320))
    draw(ImageDraw.Draw(page), width)
    mask = np.asarray(page) > 0
    picture = np.random.default_rng(width).normal(170, 4, mask.shape)
    picture[mask] -= 100
    cells = mask.reshape(20, CELL, 30, CELL).any((1, 3)).astype(np.float32)
    cracks = crack_tracing.extract_cracks(
        cells, CELL, ACROSS, picture.clip(0, 255).astype(np.uint8)[..., None], 0.5, cells
    )
    return sum(crack.length_px for crack in cracks)


@pytest.mark.parametrize("width", [2, 10, 18, 32])
def test_neither_is_a_bent_one(width):
    bent = [(40, 60), (200, 220), (440, 240)]
    true = np.hypot(160, 160) + np.hypot(240, 20)
    assert length_of(lambda pen, wide: pen.line(bent, 255, wide, "curve"), width) == pytest.approx(true, rel=0.05)


@pytest.mark.parametrize("width", [3, 12, 24])
def test_nor_is_an_arc(width):
    radius = 120 + width / 2
    box = [240 - radius, 280 - radius, 240 + radius, 280 + radius]
    assert length_of(lambda pen, wide: pen.arc(box, 180, 360, 255, wide), width) == pytest.approx(np.pi * 120, rel=0.05)
