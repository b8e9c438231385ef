"""How accurate are the predicted crack lengths? On drawn lines, and on photographs of DeepCrack, CFD and uav75.

  python -m benchmarks.lengths --json=benchmarks/results/lengths.json
  python -m benchmarks.lengths --kept=FOLDER    # caches the network's scores there for the next run
  python -m benchmarks.lengths --parts=wide,cfd --json=FILE     # only these; other results in FILE are preserved

`drawn`: lines 600 px long and circles of 100 px radius, 2 to 32 px wide, in every direction, with probability 1 in
every cell they cross: predicted over drawn length. `wide`: a crack of 475 mm, 8 to 24 px wide, from
CRACKFLOW_DATA/reports, predicted by the shipped model. Photographs: predicted by the shipped model. The ground truth is
the mask's skeleton without spurs, smoothed like the lines of crackflow.inference.centerline; its loops remain. A
finding is right when half of its outline lies within 8 pixels of the mask, as in benchmarks.findings. `ratio`: lengths
of right findings over the truth within 8 pixels of their outlines, summed over all photographs; `within_20`: the
fraction of photographs whose own ratio is .8 to 1.2; `sure`: the same for findings with nine tenths of their outline
within 8 pixels of the mask; `overall`: all lengths, wrong findings included, over the whole truth, missed cracks
included. `even`, `odd`: every second photograph; constants were tuned on the even ones of CFD and uav75. `nets`:
findings without a length because they are a net of cracks, and the fraction of the truth in them. `longest_of_area`,
`longest_of_box`: the largest length over its bound. `longer_than_box`: the fraction of right findings that are longer
than width plus height of their box.
"""

import pathlib
import pickle

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage, sparse
from scipy.sparse import csgraph
from skimage import morphology

from benchmarks import findings as found_cracks
from benchmarks import harness
from crackflow.core import runtime
from crackflow.inference import centerline, crack_tracing, predictor

NEAR_PX, SPUR_PX, CELL, ACROSS = found_cracks.NEAR_PX, 3, 16, 8
WIDE, MM_PER_PX, WIDE_MM = "reports/05-wide-crack-length-doubled/wide", 0.53, 475
WIDTHS, DIRECTIONS, LINE_PX, RADIUS_PX = (2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 32), range(0, 180, 15), 600, 100


def skeleton_links(skeleton: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(points [N, 2] as (row, column), links int [M, 2] between neighbours). A diagonal link exists only where no
    straight links connect the two points."""
    index = np.full(np.array(skeleton.shape) + 2, -1)
    points = np.argwhere(skeleton)
    y, x = points.T + 1
    index[y, x] = np.arange(len(points))
    links = []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        neighbour = index[y + down, x + right]
        linked = neighbour >= 0
        if down and right:
            linked &= (index[y + down, x] < 0) & (index[y, x + right] < 0)
        links.append(np.stack([np.flatnonzero(linked), neighbour[linked]], 1))
    return points, np.concatenate(links)


def smooth(points: np.ndarray, links: np.ndarray) -> np.ndarray:
    """float64 [N, 2]: like `centerline.smooth`, but across junctions as well."""
    count = len(points)
    adjacency = sparse.coo_matrix((np.ones(len(links)), tuple(links.T)), (count, count)).tocsr()
    adjacency = adjacency + adjacency.T + sparse.eye(count)
    total, positions = np.asarray(adjacency.sum(1)).reshape(-1, 1), points.astype(np.float64)
    ends = total[:, 0] <= 2
    for _ in range(round(1.5 * centerline.SMOOTHING_PX**2)):
        positions = np.where(ends[:, None], points, adjacency @ positions / total)
    return positions


def _spurs(points: np.ndarray, links: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """bool [M]: the links of spurs, i.e. branches with a loose end that are shorter than `limit` [N] at their junction;
    only the shortest per junction."""
    degree = np.bincount(links.ravel(), minlength=len(points))
    inner = (degree[links] == 2).all(1)
    count = len(points)
    _, component = csgraph.connected_components(
        sparse.coo_matrix((np.ones(inner.sum(), bool), tuple(links[inner].T)), (count, count)), directed=False
    )
    chain = degree[links] == 2
    branch = np.where(chain[:, 0], component[links[:, 0]], np.where(chain[:, 1], component[links[:, 1]], -1))
    branch = np.where(branch < 0, count + np.arange(len(links)), branch)
    lengths = np.bincount(branch, np.hypot(*(points[links[:, 0]] - points[links[:, 1]]).T))
    loose, joint = np.zeros(len(lengths), bool), np.full(len(lengths), -1)
    for side in (0, 1):
        loose[branch[degree[links[:, side]] == 1]] = True
        forked = degree[links[:, side]] > 2
        joint[branch[forked]] = links[forked, side]
    spurs = np.flatnonzero(loose & (joint >= 0))
    spurs = spurs[lengths[spurs] < limit[joint[spurs]]]
    spurs = spurs[np.argsort(lengths[spurs], kind="stable")]
    first = np.unique(joint[spurs], return_index=True)[1]
    return np.isin(branch, spurs[first])


def true_centerline(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(midpoints of the skeleton links of `mask`, float64 [M, 2] as (row, column), and the length of each link)."""
    skeleton, thickness = morphology.skeletonize(mask), ndimage.distance_transform_edt(mask)
    while True:
        points, links = skeleton_links(skeleton)
        spurs = _spurs(points, links, thickness[tuple(points.T)] + SPUR_PX) if len(links) else np.zeros(0, bool)
        if not spurs.any():
            break
        remaining = np.bincount(links[~spurs].ravel(), minlength=len(points)) > 0
        skeleton[tuple(points[~remaining & np.isin(np.arange(len(points)), links)].T)] = False
    if not len(links):
        return np.zeros((0, 2)), np.zeros(0)
    ends = smooth(points, links)[links]
    return ends.mean(1), np.hypot(*(ends[:, 0] - ends[:, 1]).T)


def area_of(outline: list) -> float:
    x, y = np.array(outline).T
    return abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2


def measure_photo(prediction: predictor.Prediction, mask: np.ndarray) -> dict:
    """Lengths and bounds of one photograph."""
    near = ndimage.distance_transform_edt(~mask) <= NEAR_PX if mask.any() else np.zeros(mask.shape, bool)
    middles, links = true_centerline(mask)
    pixels = tuple(np.clip(middles.round().astype(int), 0, np.array(mask.shape) - 1).T)
    inside = {
        "right": np.zeros(mask.shape, bool),
        "sure": np.zeros(mask.shape, bool),
        "net": np.zeros(mask.shape, bool),
    }
    sums, of_area, of_box, nets = {"right": 0.0, "sure": 0.0, "all": 0.0}, [0.0], [], 0
    for finding in prediction.findings:
        shape = found_cracks.outline_mask(finding.outlines, mask.shape)
        fraction = near[shape].mean() if shape.any() else 0
        if finding.length_px is None:
            nets += finding.length_note == centerline.NET
            inside["net"] |= shape & (fraction >= 0.5)
            continue
        sums["all"] += finding.length_px
        of_area.append(finding.length_px * centerline.MIN_WIDTH_PX / sum(map(area_of, finding.outlines)))
        for name, min_fraction in (("right", 0.5), ("sure", 0.9)):
            if fraction >= min_fraction:
                inside[name] |= shape
                sums[name] += finding.length_px
        if fraction >= 0.5:
            of_box.append(finding.length_px / (finding.box[2] + finding.box[3]))
    for name, shape in inside.items():
        nearby = ndimage.distance_transform_edt(~shape) <= NEAR_PX if shape.any() else shape
        inside[name] = float(links[nearby[pixels]].sum())
    return {
        "sums": sums,
        "truth": inside | {"all": float(links.sum())},
        "area": max(of_area),
        "box": of_box,
        "nets": nets,
    }


def summarize(photos: list[dict], name: str = "right") -> dict:
    """Ratio of the sums, and the fraction of photographs within 20 %, over photographs with such findings."""
    pairs = [(photo["sums"][name], photo["truth"][name]) for photo in photos if photo["truth"][name]]
    predicted, true = np.array(pairs).reshape(-1, 2).T
    within = np.abs(predicted / true - 1) <= 0.2
    return {"photographs": len(pairs), "ratio": float(predicted.sum() / true.sum()), "within_20": float(within.mean())}


def evaluate_photos(model: predictor.Model, name: str, cache_dir: str) -> dict:
    photos = [
        measure_photo(model.extract_findings(*glance), mask) for glance, mask in iter_scores(model, name, cache_dir)
    ]
    boxes = np.array([ratio for photo in photos for ratio in photo["box"]])
    truth = {key: sum(photo["truth"][key] for photo in photos) for key in ("all", "right", "net")}
    return summarize(photos) | {
        "even": summarize(photos[::2]),
        "odd": summarize(photos[1::2]),
        "sure": summarize(photos, "sure"),
        "overall": summarize(photos, "all"),
        "truth_in_findings": truth["right"] / truth["all"],
        "nets": sum(photo["nets"] for photo in photos),
        "truth_in_nets": truth["net"] / truth["all"],
        "longest_of_area": max(photo["area"] for photo in photos),
        "longest_of_box": float(boxes.max() / centerline.MAX_TURNS),
        "longer_than_box": float((boxes > 1).mean()),
    }


def iter_scores(model: predictor.Model, name: str, cache_dir: str):
    """Yields ((scores of a photograph, its name), mask). Scores are cached in `cache_dir`, if it is given."""
    file = pathlib.Path(cache_dir) / f"{name}-{model.bundle.sha256[:12]}.pickle"
    if cache_dir and file.exists():
        stored = pickle.loads(file.read_bytes())
        masks = [mask for _, mask in found_cracks.photographs(name)]
        yield from (((glance, ""), mask) for glance, mask in zip(stored, masks, strict=True))
        return
    stored = []
    for pixels, mask in found_cracks.photographs(name):
        stored.append(model.score(pixels))
        yield (stored[-1], ""), mask
        if not cache_dir:
            stored.clear()
    if cache_dir:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pickle.dumps(stored))


def drawn_length(width: int, angle: int | None) -> tuple[float | None, float]:
    """(predicted, drawn) length of a line at `angle`, or of a circle if it is None."""
    side, scale = 720, 4
    page = Image.new("L", (side * scale, side * scale))
    draw = ImageDraw.Draw(page)
    if angle is None:
        radius = (RADIUS_PX + width / 2) * scale
        box = [
            side * scale / 2 - radius,
            side * scale / 2 - radius,
            side * scale / 2 + radius,
            side * scale / 2 + radius,
        ]
        draw.ellipse(box, outline=255, width=width * scale)
        true = 2 * np.pi * RADIUS_PX
    else:
        offset = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))]) * LINE_PX / 2
        ends = [tuple((side / 2 + sign * offset) * scale) for sign in (-1, 1)]
        draw.line(ends, fill=255, width=width * scale)
        true = float(LINE_PX)
    cover = np.asarray(page.resize((side, side), Image.Resampling.BOX)) / 255
    grain = np.random.default_rng(width).normal(0, 4, cover.shape)
    pixels = np.clip(170 - 100 * cover + grain, 0, 255).astype(np.uint8)[..., None]
    cells = (cover > 0.5).reshape(side // CELL, CELL, side // CELL, CELL).any((1, 3)).astype(np.float32)
    cracks = crack_tracing.extract_cracks(cells, CELL, ACROSS, pixels, 0.5, cells)
    lengths = [crack.length_px for crack in cracks if crack.length_px is not None]
    return (sum(lengths) if lengths else None), true


def measure_drawn() -> dict:
    results = {}
    for name, angles in (("lines", DIRECTIONS), ("circle", [None])):
        for width in WIDTHS:
            pairs = [drawn_length(width, angle) for angle in angles]
            ratios = [measured / true for measured, true in pairs if measured is not None]
            results.setdefault(name, {})[str(width)] = {
                "lowest": min(ratios, default=None),
                "highest": max(ratios, default=None),
                "without": len(pairs) - len(ratios),
            }
    return results


def measure_wide(model: predictor.Model) -> dict:
    results = {}
    for file in sorted((harness.data_folder() / WIDE).iterdir()):
        (prediction,) = model.predict([str(file)], mm_per_px=MM_PER_PX)
        lengths = [finding.length_mm for finding in prediction.findings if finding.length_mm is not None]
        results[file.stem] = {
            "mm": sum(lengths) if lengths else None,
            "of": WIDE_MM,
            "findings": len(prediction.findings),
        }
    return results


def main() -> None:
    options = harness.arguments(__doc__, kept="", parts="drawn,wide,deepcrack,cfd,uav75")
    parts = options.parts.split(",")
    runtime.configure(seed=0, threads=0, deterministic=False)
    model = predictor.load()
    results = {"sets": {}} | harness.results(options.json) | {"sha256": model.bundle.sha256}
    if "drawn" in parts:
        results["drawn"] = measure_drawn()
    if "wide" in parts:
        results["wide"] = measure_wide(model)
    for name in ("deepcrack", "cfd", "uav75"):
        if name in parts:
            results["sets"][name] = evaluate_photos(model, name, options.kept)
    harness.save(options.json, results)


if __name__ == "__main__":
    main()
