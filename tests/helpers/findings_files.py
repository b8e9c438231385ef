"""The content of a findings.json, with and without the keys that are optional."""

import copy

SHA = "a" * 64
FINDING = {
    "box": [10.0, 20.0, 60.0, 30.0],
    "polygons": [[[10.0, 20.0], [70.0, 20.0], [70.0, 50.0]]],
    "probability": 0.9,
    "decision": "cracked",
    "length_px_estimate": 61.2,
    "length_mm_estimate": None,
    "length_note": None,
    "probability_at_prior": 0.8,
}
WIDTH = {"value": 2.0, "low": 1.5, "high": 2.5}
WIDTHS = {"median": WIDTH, "p95": WIDTH, "max": WIDTH | {"at": [12.0, 21.5]}}
MEASURED = {
    "centerline": [{"points": [[10.0, 20.0], [12.0, 21.5]], "widths_px": [2.0, None]}],
    "width_px": WIDTHS,
    "width_mm": None,
    "width_note": "at most 1.3 px: thinner than can be resolved here",
}
PHOTO = {
    "path": "wall.jpg",
    "sha256": SHA,
    "width": 100,
    "height": 64,
    "label": "cracked",
    "probability": 0.9,
    "decision": "cracked",
    "logits_taken_off": 0.66,
    "scales": [1.0, 0.5],
    "unlike_training": None,
    "warnings": [],
    "notes": ["turned"],
    "place": {"latitude": 46.5, "longitude": 7.0},
    "overlay": "overlays/000001.jpg",
    "findings": [FINDING],
    "rank": 1,
    "probability_at_prior": 0.8,
}
PLACED = {
    "place": PHOTO["place"] | {"altitude_m": 560.0, "heading_deg": 90.0, "uncertainty_m": 0.02},
    "crs": "EPSG:2056",
    "transform": [0.01, 0, 2600000, 0, -0.01, 1200000],
    "width_limits": {
        "blur_px": 0.8,
        "measurable_px": 1.9,
        "visible_px": 0.4,
        "measurable_mm": None,
        "visible_mm": None,
    },
    "scale": {"mm_per_px": 0.4, "source": "marker", "relative_error": 0.02, "marker": 7},
}
FINDINGS = {
    "schema_version": 1,
    "crackflow": "0.1.0",
    "model": {"sha256": SHA, "network": "crackflow_s", "classes": ["clean", "cracked"], "trained_on": "f" * 64},
    "threshold": 0.4,
    "temperature": 1.0,
    "review": [0.3, 0.6],
    "photo_threshold": {"shift": 0.0},
    "warnings": [],
    "mm_per_px": None,
    "settings": {
        "scale": 0.0,
        "mm_per_px": 0.0,
        "threshold": 0.0,
        "expected_cracked": 0.0,
        "max_megapixels": 200.0,
        "threads": 0,
    },
    "versions": {"crackflow": "0.1.0"},
    "machine": {"cpu": "a processor", "cores": 2, "gpus": [], "system": "Linux"},
    "prior": {
        "trained": 0.5,
        "expected": None,
        "estimated": None,
        "estimated_ci95": None,
        "photographs": 1,
        "used": "trained",
        "share": 0.5,
    },
    "summary": "Look at 1 of 1 photograph.",
    "work_list": {"photographs": 1, "of": 1, "holds": 0.95, "expected_cracked": 0.8},
    "photos": [PHOTO],
}
OPTIONAL = {*MEASURED, "altitude_m", "heading_deg", "uncertainty_m", "crs", "transform", "width_limits", "scale"}
WITH_NEW_KEYS = FINDINGS | {"photos": [PHOTO | PLACED | {"findings": [FINDING | MEASURED]}]}


def content():
    """With one photograph and one finding."""
    return copy.deepcopy(FINDINGS)
