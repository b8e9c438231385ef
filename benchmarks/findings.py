"""Do the findings of crackflow.predict match annotated cracks? On synthetic surfaces, DeepCrack and CFD.

  python -m benchmarks.findings --json=benchmarks/results/findings.json

Runs the shipped model as a user would, with its default threshold and scales. Pieces of the mask less than 8 pixels
apart form one crack; cracks of fewer than 20 pixels don't count. A crack is found when findings cover at least half of
it; a finding is right when at least half of its outlined area lies within 8 pixels of a crack. `pixels`: the same by
area, without pieces. `photos`: does the photograph have any finding? `called_cracked`: findings without those for human
review. Intervals are Wilson's.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from benchmarks import harness
from crackflow.core import runtime
from crackflow.data import image_file, mask_tiles
from crackflow.evaluation import metrics
from crackflow.explanation import inputs
from crackflow.inference import predictor
from crackflow.synthesis import concrete

NEAR_PX, APART_PX, MIN_CRACK_PX = 8, 8, 20
NUM_SYNTHETIC = 300
SIDE = 681  # of synthetic photographs: 3 x 3 of METU's images


def photographs(name: str):
    """Yields (pixels uint8 [H, W, 3], mask bool [H, W])."""
    if name == "made":
        for index in range(NUM_SYNTHETIC):
            example = concrete.draw_example(101, index, SIDE)
            yield example.image, example.mask > 0
        return
    directory = harness.data_folder() / name
    for file in inputs.list_images(str(directory / "images"), str(directory / "masks"))[0]:
        photo = image_file.open_photo(f"{file.root}/{file.path}", 100)
        mask = mask_tiles.read_mask(file.masks, file.mask, photo, 100) > mask_tiles.CRACK_ABOVE
        yield image_file.pixels(photo, 3, 0), mask


def outline_mask(outlines: Sequence[Sequence[Sequence[float]]], shape: tuple[int, int]) -> np.ndarray:
    """bool [H, W]: the area in the outlines of a finding, polygons of (x, y) in pixels."""
    page = Image.new("1", shape[::-1])
    for outline in outlines:
        ImageDraw.Draw(page).polygon([tuple(point) for point in outline], fill=1)
    return np.asarray(page)


def evaluate(model: predictor.Model, name: str) -> dict:
    cracks, right, confident, photos = [], [], [], []
    area = {"crack": 0, "covered": 0, "outlined": 0, "near": 0}
    for pixels, mask in photographs(name):
        (prediction,) = model.predict(pixels)
        near = ndimage.distance_transform_edt(~mask) <= NEAR_PX if mask.any() else np.zeros(mask.shape, bool)
        covered = np.zeros(mask.shape, bool)
        for finding in prediction.findings:
            inside = outline_mask(finding.outlines, mask.shape)
            covered |= inside
            right.append(near[inside].mean() >= 0.5 if inside.any() else False)
            confident.append(finding.decision == predictor.CRACKED)
        pieces, _ = ndimage.label(ndimage.binary_dilation(mask, iterations=APART_PX // 2))
        for number in range(1, pieces.max() + 1):
            piece = mask & (pieces == number)
            if piece.sum() >= MIN_CRACK_PX:
                cracks.append(covered[piece].mean() >= 0.5)
        area["crack"] += int(mask.sum())
        area["covered"] += int((covered & mask).sum())
        area["outlined"] += int(covered.sum())
        area["near"] += int((covered & near).sum())
        photos.append((bool(mask.any()), bool(prediction.findings)))
    truth, flagged = np.array(photos).T
    return {
        "photographs": len(photos),
        "cracks": len(cracks),
        "findings": len(right),
        "recall": float(np.mean(cracks)),
        "recall_ci95": metrics.wilson(int(np.sum(cracks)), len(cracks)),
        "precision": float(np.mean(right)),
        "precision_ci95": metrics.wilson(int(np.sum(right)), len(right)),
        "called_cracked": int(np.sum(confident)),
        "precision_of_these": float(np.mean(np.array(right)[np.array(confident)])),
        "pixels": {"recall": area["covered"] / area["crack"], "precision": area["near"] / max(area["outlined"], 1)},
        "photos": {
            "cracked_found": float(flagged[truth].mean()),
            "clean_left_alone": float((~flagged[~truth]).mean()) if (~truth).any() else None,
        },
    }


def main() -> None:
    options = harness.arguments(__doc__)
    runtime.configure(seed=0, threads=0, deterministic=False)
    model = predictor.load()
    results = {name: evaluate(model, name) for name in ("made", "deepcrack", "cfd")}
    harness.save(options.json, {"sha256": model.bundle.sha256, "threshold": model.card.threshold, "sets": results})


if __name__ == "__main__":
    main()
