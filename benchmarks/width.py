"""How accurate are the measured crack widths? On synthetic cracks of known width, and beside the masks of DeepCrack.

  python -m benchmarks.width --json=benchmarks/results/width.json
  python -m benchmarks.width --parts=drawn --repeats=2     # only these; other results in FILE are preserved

`drawn`: wavy cracks of 0.5 to 20 px on seven surfaces of crackflow.synthesis, rendered four times as large in linear
light, blurred (standard deviation 0.5 to 1.3 px), encoded as sRGB with noise of 0.5 to 5 levels and as JPEG of quality
70 to 96, at any angle, 45 to 95 % darker than the ground. `known`: measured along the true line moved by up to 2 px;
`traced`: along the product's own line, with probability 1 in every cell that the crack crosses. `encoded`: blurred
after the encoding, as by a program that makes photographs smaller. `ordinary`: cracks of 2 px or more on all surfaces
but pebbles. `coverage`: the fraction of 95 % intervals of the median that hold the true width; `bounds_hold`: the
fraction of the upper bounds that do. `at_most`: the fraction of cracks that got a bound and no width, by true width.
`p95`, `max`: coverage of those intervals, the true width being the same all along.

`deepcrack`: findings of the shipped model with at least half of their outline within 8 pixels of the mask, every
fourth photograph. The truth is the mask's area over the length of its skeleton within the same outline: a person's
drawing of whole pixels, so it tells about rank and bias, not about tenths. `time_share`: of crackflow.predict of these
photographs, the fraction that widths take.
"""

import io
import math
import time

import numpy as np
from PIL import Image
from scipy import ndimage, stats

from benchmarks import findings as found_cracks
from benchmarks import harness, lengths
from crackflow.core import runtime
from crackflow.inference import crack_tracing, crack_width, predictor
from crackflow.inference.cross_profiles import GreyPixels
from crackflow.synthesis import materials, surfaces

SUPERSAMPLE, SIDE, CELL, ACROSS = 4, 256, 16, 8
WIDTHS = (0.5, 0.8, 1.2, 1.6, 2.0, 2.5, 3.0, 4.0, 6.0, 9.0, 14.0, 20.0)
SURFACES = {
    "concrete": surfaces.concrete,
    "plaster": surfaces.plaster,
    "asphalt": surfaces.asphalt,
    "boards": materials.boards,
    "rough": materials.rough,
    "tiles": materials.tiles,
    "pebbles": materials.pebbles,
}
ORDINARY_PX, UNORDINARY = 2.0, "pebbles"
EVERY = 4  # photographs of DeepCrack


def draw(rng: np.random.Generator, surface: str, width: float, encoded: bool) -> tuple[np.ndarray, np.ndarray]:
    """(photograph, uint8 [SIDE, SIDE, 1]; the true middle line, float64 [N, 2], (x, y))."""
    ground = SURFACES[surface](rng, SIDE, 300)
    tone = np.asarray(ground.tone * np.ones((SIDE, SIDE), np.float32))
    tone = tone / tone.mean() * rng.uniform(0.25, 0.5)
    angle, phase, period, wave = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi), rng.uniform(60, 120), 2.0
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    center = SIDE / 2 + rng.uniform(-1, 1, 2)
    y, x = (np.mgrid[: SIDE * SUPERSAMPLE, : SIDE * SUPERSAMPLE].astype(np.float32) + 0.5) / SUPERSAMPLE
    position = (x - center[0]) * along[0] + (y - center[1]) * along[1]
    beside = (x - center[0]) * across[0] + (y - center[1]) * across[1]
    turn = 2 * np.pi * position / period + phase
    steep = wave * 2 * np.pi / period * np.cos(turn)
    distance = np.abs(beside - wave * np.sin(turn)) / np.sqrt(1 + steep**2)
    cover = np.clip(0.5 - (distance - width / 2) * SUPERSAMPLE, 0, 1)
    light = np.repeat(np.repeat(tone, SUPERSAMPLE, 0), SUPERSAMPLE, 1) * (1 - rng.uniform(0.45, 0.95) * cover)
    # The box of a pixel has a variance of a twelfth.
    sigma = math.sqrt(rng.uniform(0.5, 1.3) ** 2 - 1 / 12) * SUPERSAMPLE
    light = ndimage.gaussian_filter(_encode(light) if encoded else light, sigma)
    small = light.reshape(SIDE, SUPERSAMPLE, SIDE, SUPERSAMPLE).mean((1, 3))
    levels = 255 * (small if encoded else _encode(small)) + rng.normal(0, rng.uniform(0.5, 5), small.shape)
    data = io.BytesIO()
    page = Image.fromarray(np.clip(levels, 0, 255).round().astype(np.uint8))
    page.save(data, "JPEG", quality=int(rng.integers(70, 97)))
    places = np.arange(-0.72 * SIDE, 0.72 * SIDE)
    offset = wave * np.sin(2 * np.pi * places / period + phase)
    line = center + places[:, None] * along + offset[:, None] * across
    return np.asarray(Image.open(data))[..., None], line[((line > 12) & (line < SIDE - 12)).all(1)]


def _encode(light: np.ndarray) -> np.ndarray:
    """The levels of sRGB, 0..1, of linear light (IEC 61966-2-1)."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)


def trace(pixels: np.ndarray, line: np.ndarray) -> list[np.ndarray]:
    """The product's own lines."""
    cells = np.zeros((SIDE // CELL, SIDE // CELL), np.float32)
    cells[tuple((line[:, ::-1] / CELL).astype(int).T)] = 1
    cracks = crack_tracing.extract_cracks(cells, CELL, ACROSS, pixels, 0.5, cells)
    return cracks[0].lines if cracks else []


def measure_drawn(repeats: int) -> dict:
    results: dict[str, list] = {"known": [], "traced": [], "encoded": []}
    for repeat in range(repeats):
        for width in WIDTHS:
            for number, surface in enumerate(SURFACES):
                for name, rows in results.items():
                    rng = np.random.default_rng([repeat, round(10 * width), number, 7])
                    pixels, line = draw(rng, surface, width, name == "encoded")
                    lines = trace(pixels, line) if name == "traced" else [line + rng.uniform(-1.4, 1.4, 2)]
                    (crack,), limits = crack_width.measure(GreyPixels.of(pixels), [lines])
                    rows.append((surface, width, crack, limits))
    return {name: summarize(rows) for name, rows in results.items()}


def summarize(rows: list[tuple]) -> dict:
    measured = [(surface, width, crack.width_px) for surface, width, crack, _ in rows if crack.width_px]
    ordinary = [row for row in measured if row[1] >= ORDINARY_PX and row[0] != UNORDINARY]
    bounds = [width <= float(crack.note.split()[2]) for _, width, crack, _ in rows if crack.note.startswith("at most ")]
    by_width = {}
    for width in WIDTHS:
        own = [row for row in rows if row[1] == width and row[0] != UNORDINARY]
        by_width[f"{width:g}"] = errors([row for row in measured if row[1] == width and row[0] != UNORDINARY]) | {
            "at_most": float(np.mean([row[2].note.startswith("at most ") for row in own]))
        }
    return {
        "cracks": len(rows),
        "all": errors(measured),
        "ordinary": errors(ordinary),
        "bounds": len(bounds),
        "bounds_hold": float(np.mean(bounds)),
        "by_width": by_width,
        "by_surface": {
            name: errors([row for row in measured if row[0] == name and row[1] >= ORDINARY_PX]) for name in SURFACES
        },
    }


def errors(measured: list[tuple]) -> dict:
    if not measured:
        return {"measured": 0}
    error = np.array([width_px["median"]["value"] - width for _, width, width_px in measured])
    half = [(width_px["median"]["high"] - width_px["median"]["low"]) / 2 for _, _, width_px in measured]
    coverage = {
        f"coverage{'' if name == 'median' else f'_{name}'}": float(
            np.mean([width_px[name]["low"] <= width <= width_px[name]["high"] for _, width, width_px in measured])
        )
        for name in ("median", "p95", "max")
    }
    return {
        "measured": len(measured),
        "median_absolute_error_px": float(np.median(np.abs(error))),
        "mean_absolute_error_px": float(np.abs(error).mean()),
        "p90_absolute_error_px": float(np.quantile(np.abs(error), 0.9)),
        "bias_px": float(np.median(error)),
        "half_interval_px": float(np.median(half)),
    } | coverage


def measure_deepcrack() -> dict:
    """Widths of findings beside those of the masks, and what they cost."""
    model = predictor.load()
    spent, original = [0.0, 0.0], crack_width.measure

    def timed(*args):
        began = time.perf_counter()
        result = original(*args)
        spent[0] += time.perf_counter() - began
        return result

    crack_width.measure = timed
    pairs, bounds = [], []
    for index, (pixels, mask) in enumerate(found_cracks.photographs("deepcrack")):
        if index % EVERY or not mask.any():
            continue
        began = time.perf_counter()
        (prediction,) = model.predict(pixels)
        spent[1] += (time.perf_counter() - began) * (len(pairs) > 2)  # the first calls compile
        if len(pairs) <= 2:
            spent[0] = 0.0
        near = ndimage.distance_transform_edt(~mask) <= found_cracks.NEAR_PX
        for finding in prediction.findings:
            inside = found_cracks.outline_mask(finding, mask.shape)
            if not inside.any() or near[inside].mean() < 0.5:
                continue
            _, steps = lengths.true_centerline(mask & inside)
            if steps.sum() < 30:
                continue
            true = float((mask & inside).sum() / steps.sum())
            if finding.width_px:
                interval = finding.width_px["median"]
                pairs.append((true, interval["value"], interval["low"] <= true <= interval["high"]))
            elif finding.width_note.startswith("at most "):
                bounds.append(true <= float(finding.width_note.split()[2]))
    crack_width.measure = original
    true, value, covered = np.array(pairs).T
    return {
        "findings": len(pairs),
        "rank_correlation": float(stats.spearmanr(true, value).statistic),
        "bias_px": float(np.median(value - true)),
        "median_ratio": float(np.median(value / true)),
        "median_absolute_error_px": float(np.median(np.abs(value - true))),
        "coverage": float(covered.mean()),
        "bounds": len(bounds),
        "bounds_hold": float(np.mean(bounds)) if bounds else None,
        "time_share": spent[0] / spent[1],
    }


def main() -> None:
    options = harness.arguments(__doc__, parts="drawn,deepcrack", repeats=4)
    runtime.configure(seed=0, threads=0, deterministic=False)
    results = harness.results(options.json)
    if "drawn" in options.parts.split(","):
        results["drawn"] = measure_drawn(options.repeats)
    if "deepcrack" in options.parts.split(","):
        results["deepcrack"] = measure_deepcrack()
    harness.save(options.json, results)


if __name__ == "__main__":
    main()
