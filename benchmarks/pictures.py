"""Regenerates the images of the README.

  python -m benchmarks.pictures             docs/images/surfaces.jpg, varied.jpg, augmentation.jpg, findings.jpg and
                                            adapted.jpg (of the shipped model), and from benchmarks/results: inputs.png
                                            (peers), networks.png (time_to_accuracy), pareto.png (tune), adapt.png,
                                            unseen.png
  python -m benchmarks.pictures --model=RUN also, with a trained model, explanations.jpg, filters.png and, if METU is
                                            available, filters_metu.png: the responses only, without the photograph

The image of the report is a screenshot of the page that launch/quickstart.sh writes (quickstart/run/report.html).
"""

import argparse
import pathlib
import statistics
import tempfile

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter
from PIL import Image
from scipy import ndimage

import crackflow
from benchmarks import harness, report, review, strange_surfaces, tune
from crackflow import augment_preview
from crackflow.core.backend import keras
from crackflow.core.config.augmentation import Augment, Augmentation
from crackflow.core.config.trained import Method
from crackflow.data import image_file, overlays, resize
from crackflow.evaluation import metrics
from crackflow.explanation import saliency
from crackflow.inference import predictor
from crackflow.model import model_file
from crackflow.report import plots, search_page
from crackflow.search import trial
from crackflow.synthesis import concrete, varied
from crackflow.training.augment import Augmenter

COLUMNS, PX, GAP = 8, 160, 4
FINDING_INDICES, FINDING_PX = (1, 3, 5, 2), 340
ADAPTED_INDICES = (106, 108, 110, 101, 103)


def inputs() -> None:
    """Bar chart of images/s at 227 px, fastest on top, crackflow in colour, on a logarithmic axis."""
    throughputs = report.load("peers")["results"]["images_per_sec"]["227 px"]
    rates = sorted((rate["median"], name) for name, rate in throughputs.items() if "median" in rate)
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
    """Accuracy on METU's test split against images/s: one point per network and setting, the mean of its seeds, with
    Wilson's 95 % interval of a single run, since all seeds are evaluated on the same images."""
    runs = report.load("time_to_accuracy")["results"]["runs"]
    colours = {"fast": "#2c6fbb", "accurate": "#c0392b", "baseline": "#7f8c8d"}
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.subplots()
    for setting, network in sorted({(run["setting"], run["network"]) for run in runs}):
        group = [run for run in runs if (run["setting"], run["network"]) == (setting, network)]
        accuracy, num_images = statistics.mean(run["metrics"]["accuracy"] for run in group), group[0]["metrics"]["n"]
        low, high = metrics.wilson(accuracy * num_images, num_images)
        speed = statistics.median(run["images_per_sec"]["score"] for run in group)
        px = group[0]["image_px"]
        spread = [[100 * (accuracy - low)], [100 * (high - accuracy)]]
        axes.errorbar(speed, 100 * accuracy, spread, fmt="o", color=colours[setting], capsize=3)
        label = f"{network}, {px} px"
        axes.annotate(label, (speed, 100 * high), (0, 4), textcoords="offset points", fontsize=8, rotation=35)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(
        FixedLocator([step * power for power in (10, 100, 1_000, 10_000) for step in (1, 2, 5)])
    )
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("images/s scored, batches of 64 from memory; 2 cores")
    axes.set_ylabel("accuracy on METU's test split, %")
    present = {run["setting"] for run in runs}
    legend = [(name, colour) for name, colour in colours.items() if name in present]
    handles = [axes.plot([], [], "o", color=colour, label=name)[0] for name, colour in legend]
    axes.legend(handles=handles, title="setting", loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(harness.REPOSITORY / "docs" / "images" / "networks.png", dpi=120)


def pareto() -> None:
    """Every trial of the search in benchmarks/results/tune.json, its best trial, and the hand-designed networks."""
    results = report.load("tune")["results"]
    kinds = {"images_per_sec": float, "accuracy": float, "epochs": int, "score": float, "params": int}
    rows = [row for row in results["search"]["rows"] if row["status"] == trial.COMPLETED]
    outcomes = [
        trial.TrialResult(row["trial"], row["status"], **{name: kind(row[name]) for name, kind in kinds.items()})
        for row in rows
    ]
    winner = max((outcome for outcome in outcomes if outcome.epochs == tune.EPOCHS), key=lambda outcome: outcome.score)
    points = results["compare"]["points"]
    family = [
        search_page.Point(name, points[name]["images_per_sec"]["median"], points[name]["val_accuracy"])
        for name in tune.FAMILY
        if name in points
    ]
    plots.save_png(search_page.pareto(outcomes, winner, family), harness.REPOSITORY / "docs" / "images" / "pareto.png")


def augmentation() -> None:
    """Synthetic surfaces without augmentation, and with `standard` and `strong`."""
    examples = [concrete.draw_example(seed=1, index=index, image_px=PX) for index in (1, 5, 9, 13)]
    image = np.stack([example.image for example in examples])
    columns = [image]
    for preset in (Augment.STANDARD, Augment.STRONG):
        augmenter = Augmenter(Augmentation(augment=preset), seed=0, compiled=False)
        columns += [augmenter(image, step).numpy() for step in range(3)]
    sheet = augment_preview.grid(np.stack(columns, 1))
    Image.fromarray(sheet).save(harness.REPOSITORY / "docs" / "images" / "augmentation.jpg", quality=88)


def surfaces() -> None:
    """Two rows of synthetic surfaces: cracked on top, clean below."""
    rows = [
        [concrete.draw_example(seed=1, index=2 * column + label, image_px=PX).image for column in range(COLUMNS)]
        for label in (1, 0)
    ]
    sheet = np.full((2 * PX + GAP, COLUMNS * (PX + GAP) - GAP, 3), 255, np.uint8)
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            sheet[y * (PX + GAP) : y * (PX + GAP) + PX, x * (PX + GAP) : x * (PX + GAP) + PX] = image
    path = harness.REPOSITORY / "docs" / "images" / "surfaces.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path, quality=88)


def varied_surfaces() -> None:
    """Three rows of varied surfaces, without textures from a dataset: cracked and clean in turn."""
    row = [
        [varied.draw_example(seed=2, index=COLUMNS * y + x, image_px=128).image for x in range(COLUMNS)]
        for y in range(3)
    ]
    sheet = augment_preview.grid(np.stack([np.stack(pictures) for pictures in row]))
    Image.fromarray(sheet).save(harness.REPOSITORY / "docs" / "images" / "varied.jpg", quality=88)


def unseen() -> None:
    """ROC AUC and balanced accuracy per dataset: the previous model, each seed of the shipped recipe, the targets."""
    results = report.load("unseen")["results"]
    names = ("metu", "deepcrack_128", "cfd_128", "cfd_160")
    aims = {"roc_auc": (None, 0.985, 0.98, 0.98), "balanced_accuracy": (0.997, 0.94, 0.90, 0.90)}
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, (key, title) in zip(
        figure.subplots(1, 2, sharey=True),
        (("roc_auc", "area under the ROC curve"), ("balanced_accuracy", "balanced accuracy, at the model's threshold")),
        strict=True,
    ):
        for y, name in enumerate(names):
            values = [run["datasets"][name][key] for run in results["runs"]]
            if results["before"]:
                before = results["before"]["datasets"][name][key]
                axes.plot([before, statistics.mean(values)], [y, y], color="#cbd3da", zorder=1)
                axes.scatter([before], [y], color="#7f8c8d", label="trained on METU alone" if not y else None)
            axes.scatter(
                values, [y] * len(values), color="#c0392b", s=18, label="shipped recipe, each seed" if not y else None
            )
            if aims[key][y]:
                label = "aim" if y == 1 else None
                axes.plot([aims[key][y]] * 2, [y - 0.25, y + 0.25], color="#2c6fbb", label=label)
        axes.set_yticks(range(len(names)), [report.UNSEEN[name] for name in names])
        axes.set_xlabel(title)
        axes.set_xlim(right=1.005)
        axes.spines[["top", "right"]].set_visible(False)
        axes.invert_yaxis() if key == "roc_auc" else None
    figure.axes[1].legend(frameon=False, fontsize=8, loc="upper left")
    figure.savefig(harness.REPOSITORY / "docs" / "images" / "unseen.png", dpi=120)


def adapted() -> None:
    """Balanced accuracy against the number of labelled windows, a panel for each surface."""
    colours = {
        "threshold": "#9aa5b1",
        "head": "#2c6fbb",
        "weights": "#e08e0b",
        "scratch": "#3a8f5c",
        "adapt": "#c0392b",
    }
    sets = report.load("adapt")["results"]["sets"]
    figure = Figure(figsize=(2.9 * len(sets), 3.6), layout="constrained")
    for axes, (name, entry) in zip(figure.subplots(1, len(sets), sharey=True), sets.items(), strict=True):
        for method, colour in colours.items():
            points = [(0, 100 * entry["as it is"]["balanced"])] if method != "scratch" else []
            for size, draws in sorted(entry["sizes"].items(), key=lambda item: int(item[0])):
                mean = report.adapt_means(draws, method)
                points += [(int(size), 100 * mean["balanced"])] if mean else []
            if len(points) > (method != "scratch"):
                axes.plot(*zip(*points, strict=True), "o-", color=colour, ms=3, label=report.ADAPT_COLUMNS[method])
        axes.set_title(report.SURFACE_NAMES[name], fontsize=10)
        axes.set_xlabel("labelled windows per class")
        axes.set_xlim(-3, 103)
        axes.set_ylim(45, 100)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("balanced accuracy on others, %")
    labels = {text: line for axes in figure.axes for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(labels.values(), labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    figure.savefig(harness.REPOSITORY / "docs" / "images" / "adapt.png", dpi=110)


def adapted_wall() -> None:
    """Findings on a surface that no training has: above as the model is, below adapted to a review of it."""
    with tempfile.TemporaryDirectory() as directory:
        site, file = pathlib.Path(directory, "site"), f"{directory}/reviews.json"
        masks = review.copy_photographs("travertine", np.arange(30), site)
        content = crackflow.predict(photos=str(site), out=f"{directory}/findings")
        review.write_review(content, masks, site, file)
        crackflow.adapt(reviews=(file,), photos=str(site), out=f"{directory}/wall")
        models = predictor.load(), predictor.load(f"{directory}/wall")
    photographs = [
        strange_surfaces.draw_example("travertine", index, review.SYNTHETIC_PX).image for index in ADAPTED_INDICES
    ]
    rows = [[overlays.marked(image, model.predict(image)[0]) for image in photographs] for model in models]
    Image.fromarray(overlays.sheet(rows, review.SYNTHETIC_PX // 2)).save(
        harness.REPOSITORY / "docs" / "images" / "adapted.jpg", quality=85
    )


def findings() -> None:
    """Findings of the shipped model in synthetic photographs; the last one is clean."""
    model = predictor.load()
    row = []
    for index in FINDING_INDICES:
        image = concrete.draw_example(seed=3, index=index, image_px=681).image
        row.append(overlays.marked(image, model.predict(image)[0]))
    Image.fromarray(overlays.sheet([row], FINDING_PX)).save(
        harness.REPOSITORY / "docs" / "images" / "findings.jpg", quality=88
    )


def explanations(loaded: model_file.TrainedModel) -> None:
    """Synthetic cracks, their masks, and six heatmaps of each."""
    examples = [concrete.draw_example(seed=4, index=index, image_px=loaded.card.image_px) for index in range(40)]
    probabilities = loaded.probabilities(np.stack([example.image for example in examples]))
    cracked = [
        example
        for example, is_confident in zip(examples, probabilities > 0.9, strict=True)
        if example.label and is_confident
    ][:4]
    image = np.stack([example.image for example in cracked])
    columns = [image, np.stack([np.repeat(example.mask[..., None], 3, -1) for example in cracked])]
    for method in Method:
        maps = saliency.Explainer(loaded.model, method)(image, np.ones(len(image), bool))
        columns.append(np.stack([overlays.overlay(*pair) for pair in zip(image, maps, strict=True)]))
    names = ["photograph", "mask", *(method.value.replace("_", " ") for method in Method)]
    sheet = overlays.sheet(list(zip(*columns, strict=True)), PX, names)
    Image.fromarray(sheet).save(harness.REPOSITORY / "docs" / "images" / "explanations.jpg", quality=88)


def filters(loaded: model_file.TrainedModel, image: np.ndarray, name: str, with_photograph: bool) -> None:
    """Classical filters and the strongest feature maps of the first layer on `image` uint8 [H, W, 3]."""
    grey = image.astype(np.float32).mean(-1)
    laplacian = ndimage.gaussian_laplace(grey, 2.0)
    crossings = (np.sign(laplacian[:-1, :-1]) != np.sign(laplacian[1:, :-1])) | (
        np.sign(laplacian[:-1, :-1]) != np.sign(laplacian[:-1, 1:])
    )
    panels = {
        "photograph": image,
        "Gaussian, 2 px": ndimage.gaussian_filter(grey, 2.0),
        "derivative across": ndimage.gaussian_filter(grey, 2.0, order=(0, 1)),
        "length of the gradient": ndimage.gaussian_gradient_magnitude(grey, 2.0),
        "Laplacian": laplacian,
        "its zero crossings": crossings,
    }
    panels = panels if with_photograph else dict(list(panels.items())[2:])
    first_conv = next(layer.name for layer in loaded.model.layers if isinstance(layer, keras.layers.Conv2D))
    resized = resize.resize_array(image, loaded.card.image_px)
    maps = np.asarray(keras.Model(loaded.model.inputs, loaded.model.get_layer(first_conv).output)(resized[None]))[0]
    strongest = np.argsort(-maps.std((0, 1)))[: 10 - len(panels)]
    panels |= {f"first layer, filter {channel}": maps[..., channel] for channel in strongest}
    figure = Figure(figsize=(10, 2.1 * -(-len(panels) // 5)), layout="constrained")
    for axes, (title, values) in zip(figure.subplots(-(-len(panels) // 5), 5).flat, panels.items(), strict=False):
        axes.imshow(values, cmap="gray", interpolation="nearest")
        axes.set_title(title, fontsize=8)
        axes.axis("off")
    figure.savefig(harness.REPOSITORY / "docs" / "images" / name, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="a run on METU or its model.h5")
    options = parser.parse_args()
    surfaces()
    varied_surfaces()
    unseen()
    augmentation()
    findings()
    adapted()
    adapted_wall()
    inputs()
    networks()
    pareto()
    if options.model:
        loaded = model_file.load(options.model)
        explanations(loaded)
        filters(loaded, concrete.draw_example(seed=4, index=1, image_px=227).image, "filters.png", with_photograph=True)
        photograph = image_file.open_photo(str(harness.data_folder() / "metu" / "Positive" / "00012.jpg"), 100.0)
        filters(loaded, image_file.pixels(photograph, 3, 0), "filters_metu.png", with_photograph=False)


if __name__ == "__main__":
    main()
