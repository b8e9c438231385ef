"""Reviews of photographs, as the page of findings writes them."""

import json

from crackflow.data.reviews import PhotoReview, Reviews, Verdict

NOON, EVENING = "2026-11-30T12:00:00Z", "2026-11-30T18:00:00Z"


def verdict(box=(10.0, 20.0, 60.0, 30.0), kind="crack", source="finding", reviewer="Ann", time=NOON):
    return Verdict(box, kind, source, 0.9 if source == "finding" else None, reviewer, time)


def photo_review(*verdicts, path="wall.jpg", sha256="1" * 64, looked_through=False, width=100, height=64):
    return PhotoReview(path, sha256, width, height, looked_through, verdicts)


def reviews_of(*photographs, reviewer="Ann"):
    return Reviews("0.1.0", "a" * 64, reviewer, photographs)


def content():
    """A reviews.json as a dict, with a verdict about a finding and a drawn box."""
    entry = {"verdict": "crack", "reviewer": "Ann", "time": NOON}
    verdicts = [
        entry | {"box": [10, 20, 60, 30], "source": "finding", "probability": 0.93},
        entry | {"box": [80.5, 5, 19.5, 10], "source": "drawn", "probability": None},
    ]
    photo = {"path": "wall.jpg", "sha256": "1" * 64, "width": 100, "height": 64, "looked_through": True}
    return {
        "schema_version": 1,
        "crackflow": "0.1.0",
        "model_sha256": "a" * 64,
        "reviewer": "Ann",
        "photographs": [photo | {"verdicts": verdicts}],
    }


def put(path, value):
    """`value` as JSON in the file `path`, which is returned as text."""
    path.write_text(json.dumps(value))
    return str(path)
