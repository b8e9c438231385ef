"""The pictures of the README, made anew.

  python -m benchmarks.pictures             docs/images/surfaces.jpg, and inputs.png from results/peers.json

The report's picture is a screenshot of the page that launch/quickstart.sh leaves (quickstart/run/report.html).
"""

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from benchmarks import harness, report
from crackflow.data import synthetic

COLUMNS, PX, GAP = 8, 160, 4


def inputs() -> None:
    """Bars of images/s at 227 px, the fastest above, ours in colour; the axis is logarithmic."""
    found = report.load("peers")["results"]["images_per_sec"]["227 px"]
    rates = sorted((rate["median"], name) for name, rate in found.items() if "median" in rate)
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(
        [report.NAMES[name] for _, name in rates],
        [median for median, _ in rates],
        color=["#c0392b" if name.startswith("crackflow") else "#9aa5b1" for _, name in rates],
    )
    axes.bar_label(bars, labels=[f"{median:,}" for median, _ in rates], padding=3, fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(100, 3 * rates[-1][0])
    axes.set_xlabel("images/s of METU, uint8 [128, 227, 227, 3], shuffled; 2 cores")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(harness.REPOSITORY / "docs" / "images" / "inputs.png", dpi=120)


def surfaces() -> None:
    """Two rows of made surfaces: cracked above, clean below."""
    rows = [
        [synthetic.make(seed=1, index=2 * column + label, image_px=PX).image for column in range(COLUMNS)]
        for label in (1, 0)
    ]
    sheet = np.full((2 * PX + GAP, COLUMNS * (PX + GAP) - GAP, 3), 255, np.uint8)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet[y * (PX + GAP) : y * (PX + GAP) + PX, x * (PX + GAP) : x * (PX + GAP) + PX] = picture
    place = harness.REPOSITORY / "docs" / "images" / "surfaces.jpg"
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(place, quality=88)


def main() -> None:
    surfaces()
    inputs()


if __name__ == "__main__":
    main()
