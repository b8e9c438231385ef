"""What a review is worth: predict, judge every finding, adapt, predict again.

  python -m benchmarks.review --json=benchmarks/results/review.json
  python -m benchmarks.review --sets=deepcrack --draws=1 --photos=30 --others=60

In each draw the commands run as a user gives them: crackflow.predict on so many photographs of a set with masks, or of
a synthetic surface that no training has (`benchmarks.strange_surfaces`), a review of all findings, crackflow.adapt
--reviews, and crackflow.predict with the new model on the reviewed photographs and on others. The masks stand in for
the person: a finding is a crack when at least half of its outlined area lies within 8 pixels of one (as in
benchmarks.findings), not a crack when less than a tenth does, and unsure between; a crack of which less than half is
outlined is marked by the box around it. `precision` and `recall` of findings are those of benchmarks.findings, `before`
and `after`; `reviewed` photographs have taught the model, `others` have not. Results are saved after each draw, and a
run with the same --json measures only what is missing there.
"""

import hashlib
import os
import pathlib
import shutil
import tempfile

import numpy as np
from PIL import Image
from scipy import ndimage

import crackflow
from benchmarks import findings as found_cracks
from benchmarks import harness, strange_surfaces
from crackflow.data import image_file, mask_tiles, reviews
from crackflow.evaluation import metrics
from crackflow.explanation import inputs

SYNTHETIC_PX, SYNTHETIC_COUNT = 512, 200
UNSURE_FROM = 0.1  # of the outlined area near a crack
TIME = "2026-12-01T12:00:00Z"
Masks = dict[str, np.ndarray]  # name of a photograph -> bool [H, W]


def copy_photographs(name: str, rows: np.ndarray, folder: pathlib.Path) -> Masks:
    """Copies photographs of a set to `folder`, or draws them there; returns their masks."""
    if name in strange_surfaces.SURFACES:
        return _draw_photographs(name, rows, folder)
    directory, masks = harness.data_folder() / name, {}
    files = inputs.list_images(str(directory / "images"), str(directory / "masks"))[0]
    folder.mkdir(parents=True)
    for row in rows:
        file = files[row]
        photo = image_file.open_photo(f"{file.root}/{file.path}", 100)
        masks[os.path.basename(file.path)] = (
            mask_tiles.read_mask(file.masks, file.mask, photo, 100) > mask_tiles.CRACK_ABOVE
        )
        shutil.copy(f"{file.root}/{file.path}", folder)
    return masks


def _draw_photographs(name: str, rows: np.ndarray, folder: pathlib.Path) -> Masks:
    folder.mkdir(parents=True)
    masks = {}
    for row in rows:
        example, file = strange_surfaces.draw_example(name, int(row), SYNTHETIC_PX), f"{row:04d}.png"
        Image.fromarray(example.image).save(folder / file)
        masks[file] = example.mask > 0
    return masks


def photograph_count(name: str) -> int:
    """How many photographs a set has."""
    if name in strange_surfaces.SURFACES:
        return SYNTHETIC_COUNT
    parts = (str(harness.data_folder() / name / part) for part in ("images", "masks"))
    return len(inputs.list_images(*parts)[0])


def pieces(mask: np.ndarray) -> list[np.ndarray]:
    """The cracks of a mask, bool [H, W] each, as benchmarks.findings counts them."""
    labels, count = ndimage.label(ndimage.binary_dilation(mask, iterations=found_cracks.APART_PX // 2))
    parts = [mask & (labels == number) for number in range(1, count + 1)]
    return [part for part in parts if part.sum() >= found_cracks.MIN_CRACK_PX]


def judge(photo: dict, mask: np.ndarray) -> tuple[list[float], list[np.ndarray]]:
    """(for each finding the fraction of its outlined area that lies near a crack; the cracks that findings miss)."""
    near = ndimage.distance_transform_edt(~mask) <= found_cracks.NEAR_PX if mask.any() else mask
    covered, fractions = np.zeros(mask.shape, bool), []
    for finding in photo["findings"]:
        inside = found_cracks.outline_mask(finding["polygons"], mask.shape)
        covered |= inside
        fractions.append(float(near[inside].mean()) if inside.any() else 0.0)
    return fractions, [piece for piece in pieces(mask) if covered[piece].mean() < 0.5]


def figures(content: dict, masks: Masks) -> dict:
    """Precision and recall of the findings of a run, with Wilson's intervals."""
    right = judged = cracks = missed = 0
    for photo in content["photos"]:
        mask = masks[os.path.basename(photo["path"])]
        fractions, absent = judge(photo, mask)
        right += sum(fraction >= 0.5 for fraction in fractions)
        judged += len(fractions)
        cracks += len(pieces(mask))
        missed += len(absent)
    return {
        "findings": judged,
        "cracks": cracks,
        "precision": right / max(judged, 1),
        "precision_ci95": metrics.wilson(right, judged),
        "recall": (cracks - missed) / cracks,
        "recall_ci95": metrics.wilson(cracks - missed, cracks),
    }


def write_review(content: dict, masks: Masks, folder: pathlib.Path, path: str) -> dict[str, int]:
    """Writes the reviews.json of somebody who knows the masks; returns how often each verdict was said."""
    photographs, counts = [], dict.fromkeys((*reviews.VERDICTS, reviews.DRAWN), 0)
    for photo in content["photos"]:
        fractions, missed = judge(photo, masks[os.path.basename(photo["path"])])
        verdicts = []
        for finding, fraction in zip(photo["findings"], fractions, strict=True):
            word = reviews.CRACK if fraction >= 0.5 else reviews.UNSURE
            word = reviews.NOT_A_CRACK if fraction < UNSURE_FROM else word
            counts[word] += 1
            verdicts.append(
                reviews.Verdict(tuple(finding["box"]), word, reviews.FINDING, finding["probability"], "mask", TIME)
            )
        for piece in missed:
            rows, columns = np.flatnonzero(piece.any(1)), np.flatnonzero(piece.any(0))
            box = (columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])
            counts[reviews.DRAWN] += 1
            verdicts.append(reviews.Verdict(tuple(map(float, box)), reviews.CRACK, reviews.DRAWN, None, "mask", TIME))
        digest = hashlib.sha256((folder / photo["path"]).read_bytes()).hexdigest()
        size = photo["width"], photo["height"]
        photographs.append(reviews.PhotoReview(photo["path"], digest, *size, True, tuple(verdicts)))
    reviews.write(path, reviews.Reviews(content["crackflow"], content["model"]["sha256"], "mask", tuple(photographs)))
    return counts


def draw(name: str, count: int, others: int, number: int, folder: pathlib.Path) -> dict:
    """One review of `count` photographs, measured on them and on `others`."""
    rows = np.random.default_rng(number).permutation(photograph_count(name))[: count + others]
    parts = {"reviewed": rows[:count], "others": rows[count:]}
    masks = {part: copy_photographs(name, rows, folder / part) for part, rows in parts.items()}
    before = {part: crackflow.predict(photos=str(folder / part), out=str(folder / f"before_{part}")) for part in parts}
    file = str(folder / "reviews.json")
    counts = write_review(before["reviewed"], masks["reviewed"], folder / "reviewed", file)
    adapted = crackflow.adapt(reviews=(file,), photos=str(folder / "reviewed"), out=str(folder / "adapted"))
    after = {
        part: crackflow.predict(
            photos=str(folder / part), out=str(folder / f"after_{part}"), model=str(folder / "adapted")
        )
        for part in parts
    }
    result = {
        part: {"before": figures(before[part], masks[part]), "after": figures(after[part], masks[part])}
        for part in parts
    }
    said = {key: adapted[key] for key in ("clean", "cracked", "changed", "before", "after")}
    return result | {"verdicts": counts, "adapt": said}


def main() -> None:
    options = harness.arguments(__doc__, sets="deepcrack,uav75,travertine", draws=3, photos=30, others=60)
    results = harness.results(options.json)
    for name in options.sets.split(","):
        draws = results.setdefault(name, {})
        for number in range(options.draws):
            if str(number) in draws:
                continue
            with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
                draws[str(number)] = draw(name, options.photos, options.others, number, pathlib.Path(folder))
            for part in ("reviewed", "others"):
                pair = [draws[str(number)][part][state] for state in ("before", "after")]
                texts = [f"precision {one['precision']:.3f}, recall {one['recall']:.3f}" for one in pair]
                print(f"{name} {number}, {part}: {texts[0]} before; {texts[1]} after", flush=True)
            if options.json:
                harness.save(options.json, results, quiet=True)


if __name__ == "__main__":
    main()
