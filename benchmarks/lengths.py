"""How long are cracks said to be, and how long are they? Drawn lines, and the photographs of DeepCrack, CFD and uav75.

  python -m benchmarks.lengths --json=benchmarks/results/lengths.json
  python -m benchmarks.lengths --kept=FOLDER    # what the network said stays there, for the next time
  python -m benchmarks.lengths --parts=wide,cfd --json=FILE     # these anew, the others as they are in FILE

`drawn`: lines, 600 px long, and circles of 100 px radius, 2 to 32 px wide, in every direction, in cells that all are
sure: length over what was drawn. `wide`: a crack of 475 mm, 8 to 24 px wide, through the shipped model, of
CRACKFLOW_DATA/reports. Photographs: through the shipped model. The truth is the mask's skeleton, less its spurs,
smoothed as the lines of crackflow.inference.centerline are, its loops kept. A finding is right when half of its outline
lies within 8 pixels of the mask, as in benchmarks.findings. `ratio`: the lengths of right findings over the truth
within 8 pixels of their outlines, sums of all photographs; `within_20`: the share of photographs whose own ratio is .8
to 1.2; `sure`: the same of findings nine tenths of which lie within 8 pixels of the mask; `overall`: all lengths, those
of wrong findings too, over all of the truth, missed cracks too. `even`, `odd`: every second photograph; constants were
chosen on the even ones of CFD and uav75. `nets`: findings without a length because they are none, and the truth's share
in them. `longest_of_area`, `longest_of_box`: the largest length over its bound. `longer_than_box`: the share of right
findings that are longer than their box is wide and high together.
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


def links_of(skeleton: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(points [N, 2], (row, column), links int [M, 2] between neighbours; over a corner only where no straight ones
    lead there)."""
    index = np.full(np.array(skeleton.shape) + 2, -1)
    points = np.argwhere(skeleton)
    y, x = points.T + 1
    index[y, x] = np.arange(len(points))
    links = []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        other = index[y + down, x + right]
        linked = other >= 0
        if down and right:
            linked &= (index[y + down, x] < 0) & (index[y, x + right] < 0)
        links.append(np.stack([np.flatnonzero(linked), other[linked]], 1))
    return points, np.concatenate(links)


def smoothed(points: np.ndarray, links: np.ndarray) -> np.ndarray:
    """float64 [N, 2]: as `centerline.smooth`, over junctions as well."""
    count = len(points)
    near = sparse.coo_matrix((np.ones(len(links)), tuple(links.T)), (count, count)).tocsr()
    near = near + near.T + sparse.eye(count)
    total, at = np.asarray(near.sum(1)).reshape(-1, 1), points.astype(np.float64)
    ends = total[:, 0] <= 2
    for _ in range(round(1.5 * centerline.SMOOTHING_PX**2)):
        at = np.where(ends[:, None], points, near @ at / total)
    return at


def _spurs(points: np.ndarray, links: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """bool [M]: the links of branches with a loose end that are shorter than `limit` [N] at their junction, of each
    junction the shortest."""
    degree = np.bincount(links.ravel(), minlength=len(points))
    inner = (degree[links] == 2).all(1)
    count = len(points)
    _, piece = csgraph.connected_components(
        sparse.coo_matrix((np.ones(inner.sum(), bool), tuple(links[inner].T)), (count, count)), directed=False
    )
    chain = degree[links] == 2
    branch = np.where(chain[:, 0], piece[links[:, 0]], np.where(chain[:, 1], piece[links[:, 1]], -1))
    branch = np.where(branch < 0, count + np.arange(len(links)), branch)
    long = np.bincount(branch, np.hypot(*(points[links[:, 0]] - points[links[:, 1]]).T))
    loose, joint = np.zeros(len(long), bool), np.full(len(long), -1)
    for side in (0, 1):
        loose[branch[degree[links[:, side]] == 1]] = True
        forked = degree[links[:, side]] > 2
        joint[branch[forked]] = links[forked, side]
    spurs = np.flatnonzero(loose & (joint >= 0))
    spurs = spurs[long[spurs] < limit[joint[spurs]]]
    spurs = spurs[np.argsort(long[spurs], kind="stable")]
    first = np.unique(joint[spurs], return_index=True)[1]
    return np.isin(branch, spurs[first])


def truth(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(middles of the links of the skeleton of `mask`, float64 [M, 2], (row, column), and how long each is)."""
    skeleton, thickness = morphology.skeletonize(mask), ndimage.distance_transform_edt(mask)
    while True:
        points, links = links_of(skeleton)
        gone = _spurs(points, links, thickness[tuple(points.T)] + SPUR_PX) if len(links) else np.zeros(0, bool)
        if not gone.any():
            break
        left = np.bincount(links[~gone].ravel(), minlength=len(points)) > 0
        skeleton[tuple(points[~left & np.isin(np.arange(len(points)), links)].T)] = False
    if not len(links):
        return np.zeros((0, 2)), np.zeros(0)
    ends = smoothed(points, links)[links]
    return ends.mean(1), np.hypot(*(ends[:, 0] - ends[:, 1]).T)


def area_of(outline: list) -> float:
    x, y = np.array(outline).T
    return abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2


def measured(told: predictor.Prediction, mask: np.ndarray) -> dict:
    """What one photograph adds."""
    near = ndimage.distance_transform_edt(~mask) <= NEAR_PX if mask.any() else np.zeros(mask.shape, bool)
    middles, links = truth(mask)
    at = tuple(np.clip(middles.round().astype(int), 0, np.array(mask.shape) - 1).T)
    inside = {
        "right": np.zeros(mask.shape, bool),
        "sure": np.zeros(mask.shape, bool),
        "net": np.zeros(mask.shape, bool),
    }
    sums, of_area, of_box, nets = {"right": 0.0, "sure": 0.0, "all": 0.0}, [0.0], [], 0
    for finding in told.findings:
        shape = found_cracks.filled(finding, mask.shape)
        share = near[shape].mean() if shape.any() else 0
        if finding.length_px is None:
            nets += finding.length_note == centerline.NET
            inside["net"] |= shape & (share >= 0.5)
            continue
        sums["all"] += finding.length_px
        of_area.append(finding.length_px * centerline.MIN_WIDTH_PX / sum(map(area_of, finding.outlines)))
        for name, least in (("right", 0.5), ("sure", 0.9)):
            if share >= least:
                inside[name] |= shape
                sums[name] += finding.length_px
        if share >= 0.5:
            of_box.append(finding.length_px / (finding.box[2] + finding.box[3]))
    for name, shape in inside.items():
        beside = ndimage.distance_transform_edt(~shape) <= NEAR_PX if shape.any() else shape
        inside[name] = float(links[beside[at]].sum())
    return {
        "sums": sums,
        "truth": inside | {"all": float(links.sum())},
        "area": max(of_area),
        "box": of_box,
        "nets": nets,
    }


def summed(photos: list[dict], name: str = "right") -> dict:
    """Ratio of sums, and how many photographs come near it; those where such a crack was found."""
    pairs = [(one["sums"][name], one["truth"][name]) for one in photos if one["truth"][name]]
    told, true = np.array(pairs).reshape(-1, 2).T
    near = np.abs(told / true - 1) <= 0.2
    return {"photographs": len(pairs), "ratio": float(told.sum() / true.sum()), "within_20": float(near.mean())}


def in_photographs(model: predictor.Model, name: str, kept: str) -> dict:
    photos = [measured(model.tell(*one), mask) for one, mask in glances(model, name, kept)]
    boxes = np.array([ratio for one in photos for ratio in one["box"]])
    whole = {key: sum(one["truth"][key] for one in photos) for key in ("all", "right", "net")}
    return summed(photos) | {
        "even": summed(photos[::2]),
        "odd": summed(photos[1::2]),
        "sure": summed(photos, "sure"),
        "overall": summed(photos, "all"),
        "truth_in_findings": whole["right"] / whole["all"],
        "nets": sum(one["nets"] for one in photos),
        "truth_in_nets": whole["net"] / whole["all"],
        "longest_of_area": max(one["area"] for one in photos),
        "longest_of_box": float(boxes.max() / centerline.MAX_TURNS),
        "longer_than_box": float((boxes > 1).mean()),
    }


def glances(model: predictor.Model, name: str, kept: str):
    """((what the network said of a photograph, its name), mask) one after the other; in `kept`, where it is given."""
    file = pathlib.Path(kept) / f"{name}-{model.bundle.sha256[:12]}.pickle"
    if kept and file.exists():
        said = pickle.loads(file.read_bytes())
        masks = [mask for _, mask in found_cracks.photographs(name)]
        yield from (((one, ""), mask) for one, mask in zip(said, masks, strict=True))
        return
    said = []
    for pixels, mask in found_cracks.photographs(name):
        said.append(model.glance(pixels))
        yield (said[-1], ""), mask
        if not kept:
            said.clear()
    if kept:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pickle.dumps(said))


def drawn_length(width: int, angle: int | None) -> tuple[float | None, float]:
    """(found, drawn) of a line in a direction, or a circle."""
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
        way = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))]) * LINE_PX / 2
        ends = [tuple((side / 2 + sign * way) * scale) for sign in (-1, 1)]
        draw.line(ends, fill=255, width=width * scale)
        true = float(LINE_PX)
    cover = np.asarray(page.resize((side, side), Image.Resampling.BOX)) / 255
    grain = np.random.default_rng(width).normal(0, 4, cover.shape)
    picture = np.clip(170 - 100 * cover + grain, 0, 255).astype(np.uint8)[..., None]
    cells = (cover > 0.5).reshape(side // CELL, CELL, side // CELL, CELL).any((1, 3)).astype(np.float32)
    found = crack_tracing.extract_cracks(cells, CELL, ACROSS, picture, 0.5, cells)
    known = [one.length_px for one in found if one.length_px is not None]
    return (sum(known) if known else None), true


def drawn() -> dict:
    found = {}
    for name, angles in (("lines", DIRECTIONS), ("circle", [None])):
        for width in WIDTHS:
            pairs = [drawn_length(width, angle) for angle in angles]
            ratios = [told / true for told, true in pairs if told is not None]
            found.setdefault(name, {})[str(width)] = {
                "lowest": min(ratios, default=None),
                "highest": max(ratios, default=None),
                "without": len(pairs) - len(ratios),
            }
    return found


def wide(model: predictor.Model) -> dict:
    found = {}
    for file in sorted((harness.data_folder() / WIDE).iterdir()):
        (told,) = model.predict([str(file)], mm_per_px=MM_PER_PX)
        known = [one.length_mm for one in told.findings if one.length_mm is not None]
        found[file.stem] = {"mm": sum(known) if known else None, "of": WIDE_MM, "findings": len(told.findings)}
    return found


def main() -> None:
    options = harness.arguments(__doc__, kept="", parts="drawn,wide,deepcrack,cfd,uav75")
    parts = options.parts.split(",")
    runtime.configure(seed=0, threads=0, deterministic=False)
    model = predictor.load()
    results = {"sets": {}} | harness.results(options.json) | {"sha256": model.bundle.sha256}
    if "drawn" in parts:
        results["drawn"] = drawn()
    if "wide" in parts:
        results["wide"] = wide(model)
    for name in ("deepcrack", "cfd", "uav75"):
        if name in parts:
            results["sets"][name] = in_photographs(model, name, options.kept)
    harness.save(options.json, results)


if __name__ == "__main__":
    main()
