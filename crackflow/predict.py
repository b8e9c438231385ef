"""Cracks in photographs of any size: which have some, where, how long, how sure.

  python -m crackflow.predict --photos=wall.jpg
  python -m crackflow.predict --photos='site/*.jpg' --model=runs/metu --mm_per_px=0.4 --out=site/findings

Leaves in the folder: predictions.csv, one photograph a row (cracked, clean, or review: a person should look);
findings.json, the outline, probability and estimated length of each crack in pixels of the photograph; findings.geojson
when photographs say where they were taken; overlays/; report.html, to zoom in and to move the threshold. What cannot be
read is listed in rejected.csv. The photographs are not changed.
"""

import os

import numpy as np

from crackflow import __version__
from crackflow.core import atomic, flags, progress, runtime, tables
from crackflow.core.config import PredictConfig
from crackflow.core.errors import UserError
from crackflow.data import images, photographs
from crackflow.report import album, overlays, prediction
from crackflow.run import folder

FINDINGS, GEOJSON, PREDICTIONS = "findings.json", "findings.geojson", "predictions.csv"
COLUMNS = ("path", "label", "probability", "decision")
OURS = (PREDICTIONS, GEOJSON, "rejected.csv", folder.REPORT, "overlays/*.jpg")


def run(config: PredictConfig) -> dict:
    """Look at every photograph, write the results; returns the content of findings.json. Raises: UserError."""
    runtime.set_up(0, config.threads, deterministic=False)
    model = prediction.load(config.model, config.threshold)
    files, rejected = photographs.listed(config.photos, config.out)
    with atomic.folder(config.out, FINDINGS, config.overwrite, OURS) as stage:
        shown = album.Album(config.page_photos)
        facts = _look_at_all(config, model, files, rejected, shown, stage)
        content = _about(model) | {"mm_per_px": config.mm_per_px or None, "photos": facts}
        rows = [tuple(one[name] if name != "probability" else f"{one[name]:.6f}" for name in COLUMNS) for one in facts]
        tables.save(os.path.join(stage, PREDICTIONS), COLUMNS, rows)
        tables.save(os.path.join(stage, "rejected.csv"), ("path", "reason"), rejected)
        places = _geojson(facts)
        if places["features"]:
            folder.save_json(stage, GEOJSON, places)
        shown.write(os.path.join(stage, folder.REPORT), content, len(facts), flags.as_flagfile(config))
        folder.save_json(stage, FINDINGS, content)
    _tell(config, facts, rejected)
    return content


def _look_at_all(config, model, files, rejected, shown, stage) -> list[dict]:
    """Overlays, and what findings.json says of each photograph."""
    os.makedirs(os.path.join(stage, "overlays"))
    facts = []
    with progress.bar(len(files), "looking") as advance:
        for named in files:
            advance(1)
            try:
                photo = photographs.read(named.file, model.card.channels, config.max_megapixels)
            except images.BadImage as error:
                rejected.append((named.path, str(error)))
                continue
            glance = model.glance(photo.pixels, config.scale, config.mm_per_px)
            small = overlays.fitted(photo.pixels, overlays.SHOWN_PX)
            photo = photo._replace(pixels=small)  # the photograph itself is as large as all that follows
            found = model.tell(glance, named.path)
            overlay = f"overlays/{len(facts) + 1:06d}.jpg"
            marked = overlays.marked(small, found)
            with open(os.path.join(stage, overlay), "wb") as file:
                file.write(overlays.as_jpeg(marked))
            facts.append(_facts(found, photo, overlay))
            shown.add(found, small)
            for warning in found.warnings:
                progress.say(f"warning: {named.path}: {warning}")
    if not facts:
        raise UserError(
            f"--photos: expected photographs, none of {len(files):,} files can be used; the first: "
            + ": ".join(rejected[0])
        )
    return facts


def _about(model: prediction.Model) -> dict:
    card = model.card
    return {
        "crackflow": __version__,
        "model": {
            "sha256": model.bundle.sha256,
            "network": card.network,
            "classes": list(card.classes),
            "trained_on": card.fingerprint,
        },
        "threshold": card.threshold,
        "temperature": card.temperature,
        "review": list(card.review),
    }


def _facts(found: prediction.Prediction, photo: photographs.Photograph, overlay: str) -> dict:
    return {
        "path": found.name,
        "sha256": photo.sha256,
        "width": found.width,
        "height": found.height,
        "label": found.label,
        "probability": round(found.probability, 6),
        "decision": found.decision,
        "scales": list(found.scales),
        "unlike_training": None if found.distance is None else round(found.distance, 3),
        "warnings": found.warnings,
        "notes": list(photo.notes),
        "place": None if photo.place is None else {"latitude": photo.place[0], "longitude": photo.place[1]},
        "overlay": overlay,
        "findings": [
            {
                "box": _rounded(one.box),
                "polygons": [[_rounded(point) for point in outline] for outline in one.outlines],
                "probability": round(one.probability, 6),
                "decision": one.decision,
                "length_px_estimate": None if one.length_px is None else round(one.length_px, 1),
                "length_mm_estimate": None if one.length_mm is None else round(one.length_mm, 1),
                "length_note": one.length_note or None,
            }
            for one in found.findings
        ],
    }


def _rounded(values) -> list[float]:
    return [round(float(value), 1) for value in values]


def _geojson(facts: list[dict]) -> dict:
    """A point for each photograph that says where it was taken (RFC 7946: longitude first)."""
    features = []
    for one in facts:
        if one["place"] is None:
            continue
        lengths = [found["length_mm_estimate"] for found in one["findings"] if found["length_mm_estimate"] is not None]
        told = {name: one[name] for name in ("path", "sha256", "label", "probability", "decision", "overlay")}
        told |= {"findings": len(one["findings"]), "length_mm_estimate": round(sum(lengths), 1) if lengths else None}
        where = [one["place"]["longitude"], one["place"]["latitude"]]
        features.append({"type": "Feature", "geometry": {"type": "Point", "coordinates": where}, "properties": told})
    return {"type": "FeatureCollection", "features": features}


def _tell(config: PredictConfig, facts: list[dict], rejected: list[tuple[str, str]]) -> None:
    decisions = np.array([one["decision"] for one in facts])
    counts = {name: int((decisions == name).sum()) for name in ("cracked", "review", "clean")}
    if len(facts) <= 10:
        for one in facts:
            progress.say(
                f"{one['path']}: {one['decision']}, probability {one['probability']:.3f}, "
                f"{len(one['findings'])} finding{'s' if len(one['findings']) != 1 else ''}"
            )
    progress.say(", ".join(f"{name} {count:,}" for name, count in counts.items()))
    if rejected:
        progress.say(f"left out: {len(rejected):,}, each with its reason in rejected.csv; the first: {rejected[0][1]}")
    progress.say(f"findings {os.path.join(config.out, FINDINGS)}, report {os.path.join(config.out, folder.REPORT)}")


if __name__ == "__main__":
    flags.main(PredictConfig, run, __doc__)
