"""Inspections for the page of findings: predictions, small pictures and the content of findings.json.

They have what the page can display: widths along the middle of cracks, scales, places, and names that are hard to
display. Pictures are drawn: dark lines on noise.
"""

import numpy as np
from PIL import Image, ImageDraw

from crackflow.inference.predictor import Finding, Prediction
from tests.helpers import predictions

WIDTH, HEIGHT = 2400, 1600  # of the photographs in pixels
SMALL = 3  # by which the pictures are smaller
HARD_NAMES = (
    "bridge 7/abutment " + "very long name without an end " * 6 + ".jpg",
    "جسر/صورة ١٢.jpg",
    "пролёт/фото 🧱🔍.jpg",
    "<img src=x onerror=alert(1)>&amp;.jpg",
    "a" * 180 + ".jpg",
    "gpj.\u202eexe",
)


def estimate(value, spread=0.2, **more):
    """A width with its interval."""
    bounds = {"low": round(value * (1 - spread), 3), "high": round(value * (1 + spread), 3)}
    return {"value": round(value, 3)} | bounds | more


def crack(rng, mm_per_px=None, width_px=4.0, measured=True):
    """A crack from left to right somewhere in the photograph.

    Returns:
        (`Finding`, the keys of findings.json that a `Finding` does not have).
    """
    steps, x = int(rng.integers(20, 60)), rng.uniform(50, WIDTH - 900)
    xs = x + np.arange(steps) * 14
    ys = np.clip(rng.uniform(100, HEIGHT - 100) + np.cumsum(rng.normal(0, 6, steps)), 20, HEIGHT - 20)
    widths = width_px * (0.4 + 1.2 * np.sin(np.linspace(0, np.pi, steps)))
    upper, lower = list(zip(xs, ys - widths - 3, strict=True)), list(zip(xs, ys + widths + 3, strict=True))
    box = (xs[0], ys.min() - 15, xs[-1] - xs[0], np.ptp(ys) + 30)
    length = float(np.hypot(np.diff(xs), np.diff(ys)).sum())
    probability = float(rng.uniform(0.31, 0.999))
    finding = Finding(
        tuple(float(value) for value in box),
        [[(float(a), float(b)) for a, b in [*upper, *reversed(lower)]]],
        probability,
        "cracked" if probability >= 0.4 else "review",
        length,
        length * mm_per_px if mm_per_px else None,
    )
    if not measured:
        return finding, {"width_note": "at most 1.3 px: thinner than can be resolved here"}
    peak_position = [round(float(xs[steps // 2]), 1), round(float(ys[steps // 2]), 1)]

    def figures(scale):
        values = np.percentile(widths, (50, 95)) * scale
        peak = estimate(float(widths.max()) * scale, at=peak_position)
        return {"median": estimate(float(values[0])), "p95": estimate(float(values[1])), "max": peak}

    points = [[round(float(a), 1), round(float(b), 1)] for a, b in zip(xs, ys, strict=True)]
    sizes = [round(float(value), 2) for value in widths]
    sizes[0] = None
    return finding, {
        "centerline": [{"points": points, "widths_px": sizes}],
        "width_px": figures(1.0),
        "width_mm": figures(mm_per_px) if mm_per_px else None,
        "width_note": None,
    }


def photograph(rng, name, cracks, mm_per_px=None, place=None, **options):
    """One photograph with `cracks` cracks.

    Returns:
        (`Prediction`, small picture uint8 [h, w, 3], its entry of findings.json).
    """
    pairs = sorted((crack(rng, mm_per_px, **options) for _ in range(cracks)), key=lambda pair: -pair[0].probability)
    findings = [finding for finding, _ in pairs]
    probability = max((finding.probability for finding in findings), default=float(rng.uniform(0, 0.2)))
    decision = "cracked" if probability >= 0.4 else "review" if probability >= 0.3 else "clean"
    heat = np.zeros((4, 6), np.float32)
    warnings = ["it looks unlike the training images"] if cracks == 3 else []
    details = (findings, warnings, None, (1.0,), heat)
    prediction = Prediction(name, WIDTH, HEIGHT, probability, decision, "cracked" if findings else "clean", *details)
    size = WIDTH // SMALL, HEIGHT // SMALL
    grain = rng.normal(150, 14, (size[1], size[0], 1)) + np.linspace(-25, 25, size[0])[None, :, None]
    picture = Image.fromarray(np.repeat(np.clip(grain, 0, 255).astype(np.uint8), 3, 2))
    draw = ImageDraw.Draw(picture)
    for _, keys in pairs:
        for branch in keys.get("centerline", ()):
            draw.line([(x / SMALL, y / SMALL) for x, y in branch["points"]], (50, 45, 40), 2)
    entry = predictions.entry(prediction, place=place)
    for finding, (_, keys) in zip(entry["findings"], pairs, strict=True):
        finding |= keys
    if mm_per_px:
        entry["scale"] = {"mm_per_px": mm_per_px, "source": "marker", "relative_error": 0.02}
    return prediction, np.asarray(picture), entry


def inspection(photos=12, cracks=4, seed=0):
    """A visit: the first photographs have hard names, a third of all are clean, two thirds have a scale.

    Returns:
        (what `photograph` returns for each photograph, the content of findings.json).
    """
    rng = np.random.default_rng(seed)
    items = []
    for index in range(photos):
        name = HARD_NAMES[index] if index < len(HARD_NAMES) else f"site/DSC_{index:04d}.jpg"
        place = None
        if index % 2:
            place = {"latitude": 52.1 + index / 1e4, "longitude": 13.4, "altitude_m": 41.0, "heading_deg": 20.0 * index}
        count = 0 if index % 3 == 2 and cracks else max(cracks + index % 3 - 1, 0)
        scale = 0.05 if index % 3 != 1 else None
        items.append(photograph(rng, name, count, scale, place, measured=index % 5 != 3))
    content = predictions.CONTENT | {"photos": [entry for *_, entry in items], "warnings": []}
    return items, content
