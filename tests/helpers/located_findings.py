"""The content of findings.json for photographs whose ground is known in one way or another."""

SQUARE = [[10.0, 20.0], [10.0, 40.0], [50.0, 40.0], [50.0, 20.0], [10.0, 20.0]]
UTM_TRANSFORM = [0.01, 0.0, 500_000.0, 0.0, -0.01, 5_200_000.0]  # a GeoTIFF of 1 cm per pixel
NADIR = {"latitude": -33.85, "longitude": -70.66, "heading_deg": 90.0, "heading_reference": "true", "pitch_deg": -90.0}
CAMERA_ALONE = {"latitude": -33.85, "longitude": -70.66, "uncertainty_m": 4.5, "altitude_m": 12.0}
GEOTIFF = {
    "latitude": 46.953,
    "longitude": 9.0,
    "crs": "EPSG:25832",
    "crs_unit": "metre",
    "transform": UTM_TRANSFORM,
}


def finding(polygons=(SQUARE,), box=(10.0, 20.0, 40.0, 20.0), decision="cracked", **more):
    """A crack as findings.json has it."""
    return {
        "box": list(box),
        "polygons": [list(outline) for outline in polygons],
        "probability": 0.9,
        "decision": decision,
        "length_px_estimate": 42.0,
        "length_mm_estimate": None,
        "length_note": None,
        "probability_at_prior": 0.5,
    } | more


def photo(place=None, findings=(), path="wall.jpg", **more):
    """A photograph of 200 x 100 pixels as findings.json has it."""
    decision = "cracked" if findings else "clean"
    return {
        "path": path,
        "sha256": "a" * 64,
        "width": 200,
        "height": 100,
        "label": decision,
        "probability": 0.9,
        "decision": decision,
        "place": place,
        "overlay": "overlays/000001.jpg",
        "findings": list(findings),
    } | more


def content(*photos, mm_per_px=None):
    """findings.json of `photos`."""
    return {"crackflow": "1.0.0", "mm_per_px": mm_per_px, "photos": list(photos)}
