"""How often is a clean photograph called cracked, and a cracked one missed, from 0.05 to 12 megapixels?

  python -m benchmarks.false_alarms --json=benchmarks/results/false_alarms.json        # an hour on 2 cores
  python -m benchmarks.false_alarms --share=0.2                                        # a fifth of the photographs
  python -m benchmarks.false_alarms --sizes=3,12 --real=0 --json=FILE                  # beside what the file holds

Clean walls are laid of METU's clean test images (synthesis/mosaics.py), less two that show a crack; the shipped model
was not trained on them, nor its threshold chosen. Others are made by crackflow.synth. For each size half as many have
one of METU's cracked test images blended in at a random place, and count as found when the crack itself is. Real
photographs: METU's test images, DeepCrack, CFD and uav75, and clean parts of the last two, away from any mask.
`logits`: of the most probable place, or of the crack, before anything is taken off. `before`: the most probable place
alone decides; `after`: as the model's card says. A false alarm is a place that hangs together at or above the
threshold; square metres are those of METU's scale, 0.53 mm at 128 of its 227 pixels.
"""

import csv
import sys
import tempfile

import numpy as np
from PIL import Image
from scipy import ndimage, special

from benchmarks import harness
from crackflow.core import runtime
from crackflow.data import image_file, mask_tiles
from crackflow.evaluation import metrics
from crackflow.explanation import inputs
from crackflow.inference import predictor
from crackflow.model import model_file
from crackflow.synthesis import concrete, mosaics

SIZES = {0.05: 200, 0.2: 120, 0.8: 80, 3.0: 40, 12.0: 24}  # megapixels: clean walls
MAX_SYNTHETIC_MP, SYNTHETIC_FRACTION = (
    3.0,
    0.25,
)  # made surfaces are smooth noise drawn pixel by pixel: 12 MP take a minute each
REAL = {"metu": 200, "deepcrack": 200, "cfd": 118, "uav75": 75}
# Of METU's 500 clean test images, all of which were looked at, those that show a crack. A wall with one is not clean.
MISLABELLED = ("Negative/02966.jpg", "Negative/17731.jpg")
AWAY_PX = 24  # of a clean part of a photograph from any crack
METRES_PER_PX = 0.53e-3 * 128 / 227
VARIANTS = ("before", "after")


class Models:
    """The model with and without its threshold of photographs."""

    def __init__(self) -> None:
        loaded = model_file.load("")
        self.after = predictor.Model(loaded)
        card = {"photo_shift": 0.0, "photo_level": 0.0, "photo_growth": 0.0, "photo_most": 0.0}
        without_photo_threshold = type(loaded.card)(**(vars(loaded.card) | card))
        self.before = predictor.Model(type(loaded)(loaded.model, without_photo_threshold, None, loaded.locator))

    def heats(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        glance = self.before.glance(pixels)  # without the distance from training, which decides nothing
        return {variant: getattr(self, variant).heat(glance) for variant in VARIANTS}


def test_images(folder: str) -> dict[str, list[np.ndarray]]:
    """METU's test split by class, one image of each group of copies."""
    paths = {"Negative": {}, "Positive": {}}
    with open(f"{folder}/groups.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] == "test" and row["path"] not in MISLABELLED:
                paths[row["path"].split("/")[0]].setdefault(row["group"], row["path"])
    directory = harness.data_folder() / "metu"
    return {
        kind: [np.asarray(Image.open(directory / path)) for path in group_paths.values()]
        for kind, group_paths in paths.items()
    }


def blend_crack(
    wall: np.ndarray, crack: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, tuple[slice, ...]]:
    """`wall` with `picture` somewhere in it, exposed as the wall is there, and the middle of that place."""
    side = min(crack.shape[0], *wall.shape[:2])
    crack = crack[:side, :side]
    top, left = (int(random.integers(length - side + 1)) for length in wall.shape[:2])
    window = slice(top, top + side), slice(left, left + side)
    weight = mosaics.blending(side, side // mosaics.OVERLAP)
    inside = wall[window].astype(np.float32)
    matched = mosaics.exposed(crack, inside.mean((0, 1)))
    composite = wall.copy()
    composite[window] = np.clip(weight * matched + (1 - weight) * inside + 0.5, 0, 255)
    return composite, window


def wall_shape(megapixels: float) -> tuple[int, int]:
    height = round((megapixels * 0.75e6) ** 0.5)
    return height, round(megapixels * 1e6 / height)


def rate(part: int, whole: int) -> dict:
    return {"n": whole, "share": part / whole if whole else None, "ci95": metrics.wilson(part, whole)}


def clean_walls(models: Models, walls, megapixels: float) -> dict:
    """Photographs left alone, and false alarms a photograph and a square metre."""
    threshold = models.after.card.threshold
    alarms, logits = {variant: [] for variant in VARIANTS}, []
    for wall in walls:
        heatmaps = models.heatmaps(wall)
        logits.append(round(float(special.logit(heatmaps["before"].max())), 3))
        for variant, heatmap in heatmaps.items():
            alarms[variant].append(ndimage.label(heatmap >= threshold, np.ones((3, 3)))[1])
    area = megapixels * 1e6 * METRES_PER_PX**2
    return {
        variant: rate(sum(count == 0 for count in counts), len(counts))
        | {"alarms_a_photograph": float(np.mean(counts)), "alarms_a_square_metre": float(np.mean(counts) / area)}
        for variant, counts in alarms.items()
    } | {"logits": logits}


def cracked_walls(models: Models, walls) -> dict:
    """Of (pixels, place of the crack): those where the crack reaches the threshold."""
    detected, step, logits = {variant: [] for variant in VARIANTS}, models.after._scorer.step, []
    for wall, window in walls:
        y, x = (slice(axis.start // step, -(-axis.stop // step)) for axis in window)
        heatmaps = models.heatmaps(wall)
        logits.append(round(float(special.logit(heatmaps["before"][y, x].max())), 3))
        for variant, heatmap in heatmaps.items():
            detected[variant].append(bool(heatmap[y, x].max() >= models.after.card.threshold))
    return {variant: rate(sum(hits), len(hits)) for variant, hits in detected.items()} | {"logits": logits}


def measure_size(models: Models, metu: dict, megapixels: float, count: int) -> dict:
    random = np.random.default_rng((7, round(100 * megapixels)))
    shape = wall_shape(megapixels)
    clean = (mosaics.lay(metu["Negative"], *shape, random) for _ in range(count))
    results = {"laid": clean_walls(models, clean, megapixels)}
    if megapixels <= MAX_SYNTHETIC_MP:
        surfaces = (
            concrete.draw_example(31, 2 * index, min(shape)).image
            for index in range(max(round(count * SYNTHETIC_FRACTION), 1))
        )
        results["made"] = clean_walls(models, surfaces, min(shape) ** 2 / 1e6)
    cracks = (metu["Positive"][random.integers(len(metu["Positive"]))] for _ in range(max(count // 2, 1)))
    cracked = (blend_crack(mosaics.lay(metu["Negative"], *shape, random), crack, random) for crack in cracks)
    return results | {"cracked": cracked_walls(models, cracked)}


def masked_photos(name: str):
    """(pixels, mask) of every photograph of a set with masks."""
    directory = harness.data_folder() / name
    for file in inputs.list_images(str(directory / "images"), str(directory / "masks"))[0]:
        photo = image_file.open_photo(f"{file.root}/{file.path}", 100)
        yield (
            image_file.pixels(photo, 3, 0),
            mask_tiles.read_mask(file.masks, file.mask, photo, 100) > mask_tiles.CRACK_ABOVE,
        )


def clean_part(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """The largest square around one place that no crack comes near; None where it is smaller than a window."""
    clearance = ndimage.distance_transform_cdt(np.pad(~mask, 1), "chessboard")[1:-1, 1:-1] - AWAY_PX
    y, x = np.unravel_index(clearance.argmax(), clearance.shape)
    half = int(clearance[y, x])
    return pixels[max(y - half, 0) : y + half, max(x - half, 0) : x + half] if half >= 64 else None


def measure_real(models: Models, metu: dict, fraction: float) -> dict:
    results, with_full_window = {}, lambda pixels: (pixels, (slice(0, pixels.shape[0]), slice(0, pixels.shape[1])))
    for name, count in REAL.items():
        count = max(round(fraction * count), 1)
        if name == "metu":
            photos = [(pixels, None) for pixels in metu["Positive"][:count]]
            parts = metu["Negative"][:count]
        else:
            photos = list(masked_photos(name))
            photos = [photos[index] for index in np.linspace(0, len(photos) - 1, min(count, len(photos))).astype(int)]
            parts = [part for pixels, mask in photos if (part := clean_part(pixels, mask)) is not None]
        cracked = [pixels for pixels, mask in photos if mask is None or mask.any()]
        size = float(np.mean([pixels.shape[0] * pixels.shape[1] for pixels in cracked])) / 1e6
        results[name] = {"megapixels": size, "cracked": cracked_walls(models, map(with_full_window, cracked))}
        if parts and name != "deepcrack":
            size = float(np.mean([pixels.shape[0] * pixels.shape[1] for pixels in parts])) / 1e6
            results[name] |= {"clean_megapixels": size, "clean": clean_walls(models, parts, size)}
        print(name, results[name], file=sys.stderr, flush=True)
    return results


def main() -> None:
    options = harness.arguments(__doc__, share=1.0, data="", sizes=",".join(map(str, SIZES)), real=1)
    runtime.configure(seed=0, threads=0, deterministic=False)
    models = Models()
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        data = options.data or f"{folder}/metu"
        if not options.data:
            source = f"--images={harness.data_folder() / 'metu'}"
            harness.watch([sys.executable, "-m", "crackflow.convert", source, f"--out={data}"])
        metu = test_images(data)
    card = models.after.card
    results = {"sha256": models.after.bundle.sha256, "threshold": card.threshold, "share": options.share}
    results |= {name: value for name, value in vars(card).items() if name.startswith("photo_")}
    earlier = harness.results(options.json)
    measured = measure_real(models, metu, options.share) if options.real else earlier.get("real", {})
    results |= {"real": measured, "sizes": earlier.get("sizes", {})}
    for megapixels in map(float, options.sizes.split(",")):
        result = measure_size(models, metu, megapixels, max(round(options.share * SIZES[megapixels]), 2))
        results["sizes"][str(megapixels)] = result
        print(megapixels, result, file=sys.stderr, flush=True)
    harness.save(options.json, results)


if __name__ == "__main__":
    main()
