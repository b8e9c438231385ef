"""The pictures of the README, made anew.

  python -m benchmarks.pictures             docs/images/surfaces.jpg, augmentation.jpg, and from benchmarks/results:
                                            inputs.png (peers), networks.png (time_to_accuracy)

The report's picture is a screenshot of the page that launch/quickstart.sh leaves (quickstart/run/report.html).
"""

import statistics

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter
from PIL import Image

from benchmarks import harness, report
from crackflow import augment_preview
from crackflow.core.config import Augment, Augmentation
from crackflow.data import synthetic
from crackflow.model.augment import Augmenter
from crackflow.report import metrics

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


def networks() -> None:
    """Accuracy on METU's test split against images/s: one point for each network and setting, the mean of its seeds,
    with Wilson's 95 % interval for one run: the seeds are measured on the same images."""
    runs = report.load("time_to_accuracy")["results"]["runs"]
    colours = {"fast": "#2c6fbb", "accurate": "#c0392b", "baseline": "#7f8c8d"}
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.subplots()
    for setting, network in sorted({(run["setting"], run["network"]) for run in runs}):
        ours = [run for run in runs if (run["setting"], run["network"]) == (setting, network)]
        accuracy, seen = statistics.mean(run["metrics"]["accuracy"] for run in ours), ours[0]["metrics"]["n"]
        low, high = metrics.wilson(accuracy * seen, seen)
        speed = statistics.median(run["images_per_sec"]["score"] for run in ours)
        px = ours[0]["image_px"]
        spread = [[100 * (accuracy - low)], [100 * (high - accuracy)]]
        axes.errorbar(speed, 100 * accuracy, spread, fmt="o", color=colours[setting], capsize=3)
        axes.annotate(f"{network}, {px} px", (speed, 100 * accuracy), (6, 6), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(
        FixedLocator([step * power for power in (10, 100, 1_000, 10_000) for step in (1, 2, 5)])
    )
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("images/s scored, batches of 64 from memory; 2 cores")
    axes.set_ylabel("accuracy on METU's test split, %")
    handles = [axes.plot([], [], "o", color=colour, label=name)[0] for name, colour in colours.items()]
    axes.legend(handles=handles, title="setting", loc="lower left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(harness.REPOSITORY / "docs" / "images" / "networks.png", dpi=120)


def augmentation() -> None:
    """Made surfaces as they are, and under `standard` and `strong`."""
    made = [synthetic.make(seed=1, index=index, image_px=PX) for index in (1, 5, 9, 13)]
    image = np.stack([example.image for example in made])
    columns = [image]
    for preset in (Augment.STANDARD, Augment.STRONG):
        augmenter = Augmenter(Augmentation(augment=preset), seed=0, compiled=False)
        columns += [augmenter(image, step).numpy() for step in range(3)]
    sheet = augment_preview.grid(np.stack(columns, 1))
    Image.fromarray(sheet).save(harness.REPOSITORY / "docs" / "images" / "augmentation.jpg", quality=88)


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
    augmentation()
    inputs()
    networks()


if __name__ == "__main__":
    main()
