"""Cracks in photographs of any size: which have some, where, how long, how sure.

  python -m crackflow.predict --photos=wall.jpg
  python -m crackflow.predict --photos='site/*.jpg' --model=runs/metu --mm_per_px=0.4 --out=site/findings

Leaves in the folder: predictions.csv, one photograph a row (cracked, clean, or review: a person should look);
findings.json, the outline, probability and estimated length of each crack in pixels of the photograph; findings.geojson
when photographs say where they were taken; overlays/; report.html, to zoom in and to move the threshold. What cannot be
read is listed in rejected.csv. The photographs are not changed. A run that was stopped or killed goes on when the same
command is given again; until it ends, what it has lies in unfinished/. Exit code 75: stopped by a signal.
"""

import collections
import contextlib
import dataclasses
import os
from collections.abc import Iterator

import numpy as np

from crackflow.core import atomic, console, csv_files, errors, flags, runtime, system_files
from crackflow.core.config.trained import PredictConfig
from crackflow.core.errors import RetryableError, UserError
from crackflow.data import overlays
from crackflow.evaluation import chance, photo_evaluation
from crackflow.inference import photo_files, prediction_log, predictor
from crackflow.report import findings_page
from crackflow.training import run_folder
from crackflow.version import __version__

FINDINGS, GEOJSON, PREDICTIONS = "findings.json", "findings.geojson", "predictions.csv"
COLUMNS = ("path", "label", "probability", "decision")
OWNED_FILES = (PREDICTIONS, GEOJSON, "rejected.csv", run_folder.REPORT, "overlays/*.jpg", *prediction_log.OWNED_FILES)
# Flags that may differ between two parts of one run: what they change is made anew, or they change no result.
RESUMABLE_FLAGS = {"out", "model", "threads", "page_photos", "overwrite"}


def run(config: PredictConfig) -> dict:
    """Look at every photograph, write the results; returns the content of findings.json. Raises: UserError;
    TryAgain when it stopped and can go on."""
    runtime.configure(0, config.threads, deterministic=False)
    model = predictor.load(config.model, config.threshold)
    passed_over: collections.Counter = collections.Counter()
    files, rejected = photo_files.list_photos(config.photos, config.out, passed_over)
    with atomic.folder(config.out, FINDINGS, config.overwrite, OWNED_FILES, prediction_log.FOLDER) as stage:
        with (
            prediction_log.open_log(config.out, _settings(config, model), config.overwrite) as log,
            _going_on(log, files),
        ):
            shown = findings_page.FindingsPage(config.page_photos)
            facts = _look_at_all(config, model, files, rejected, shown, stage, log)
            content = _about(model) | {"mm_per_px": config.mm_per_px or None, "photos": facts}
            rows = [
                tuple(one[name] if name != "probability" else f"{one[name]:.6f}" for name in COLUMNS) for one in facts
            ]
            csv_files.save(os.path.join(stage, PREDICTIONS), COLUMNS, rows)
            csv_files.save(os.path.join(stage, "rejected.csv"), ("path", "reason"), rejected)
            places = _geojson(facts)
            if places["features"]:
                atomic.save_json(stage, GEOJSON, places)
            shown.write(os.path.join(stage, run_folder.REPORT), content, len(facts), flags.as_flagfile(config))
            atomic.save_json(stage, FINDINGS, content)
    _tell(config, facts, rejected)
    for doubt in content["warnings"]:
        console.alert(doubt)
    if passed_over:
        console.info(system_files.summary(passed_over))
    return content


def _settings(config: PredictConfig, model: predictor.Model) -> dict[str, str]:
    """What two parts of one run have in common."""
    settings = {f"--{name}": value for name, value in flags.as_dict(config, RESUMABLE_FLAGS).items()}
    settings |= {"--photos": os.path.abspath(config.photos), "--model": model.bundle.sha256}
    return settings | {"the version of crackflow": __version__}


@contextlib.contextmanager
def _going_on(log: prediction_log.PredictionLog, files: list[photo_files.PhotoPath]) -> Iterator[None]:
    """Around the work: says what is done when it is stopped. Raises: TryAgain after a signal."""
    began = sum(named.file in log for named in files)
    if began:
        console.info(f"going on: {began:,} of {len(files):,} photographs were looked at before")
    try:
        yield
    except KeyboardInterrupt as error:
        if not log:
            raise
        raise RetryableError(f"stopped by a signal; {_done(log, files)}") from error
    except OSError as error:
        mistake = errors.from_os_error(error)
        if not log or mistake is None:
            raise
        raise UserError(f"{mistake}; {_done(log, files)}") from error


def _done(log: prediction_log.PredictionLog, files: list[photo_files.PhotoPath]) -> str:
    count = sum(named.file in log for named in files)
    return f"{count:,} of {len(files):,} photographs are done, and the same command goes on with the others"


def _look_at_all(config, model, files, rejected, shown, stage, log) -> list[dict]:
    """Overlays, and what findings.json says of each photograph."""
    os.makedirs(os.path.join(stage, "overlays"))
    facts = []
    with console.progress_bar(len(files), "looking") as advance:
        for named in files:
            advance(1)
            try:
                record = _stored(named, config, model, shown, log) or _look_at(named, config, model, shown, log)
            except errors.ImageError as error:
                rejected.append((named.path, str(error)))
                continue
            overlay = f"overlays/{len(facts) + 1:06d}.jpg"
            log.copy_overlay(record, os.path.join(stage, overlay))
            facts.append(_facts(record.prediction, record.photo, overlay))
    if not facts:
        raise UserError(
            f"--photos: expected photographs, none of {len(files):,} files can be used; the first: "
            + ": ".join(rejected[0])
        )
    return facts


def _stored(named, config, model, shown, log) -> prediction_log.Record | None:
    """What an earlier process said of a photograph that has not changed since."""
    record = log.find(named.file)
    if record is None:
        return None

    def picture() -> bytes:  # not stored where the page had no room for it
        return log.picture(record) or overlays.as_jpeg(
            overlays.fitted(
                photo_files.read(named.file, model.card.channels, config.max_megapixels).pixels, overlays.SHOWN_PX
            )
        )

    record = dataclasses.replace(record, prediction=dataclasses.replace(record.prediction, name=named.path))
    shown.offer(record.prediction, picture)
    return record


def _look_at(named, config, model, shown, log) -> prediction_log.Record:
    stat = prediction_log.file_stat(named.file)
    photo = photo_files.read(named.file, model.card.channels, config.max_megapixels)
    glance = model.glance(photo.pixels, config.scale, config.mm_per_px)
    small = overlays.fitted(photo.pixels, overlays.SHOWN_PX)
    photo = photo._replace(pixels=small)  # the photograph itself is as large as all that follows
    found = model.tell(glance, named.path)
    record = prediction_log.new_record(found, photo, named.file, stat)
    overlay = overlays.as_jpeg(overlays.marked(small, found))
    record = log.append(record, overlay, shown.add(record.prediction, small))
    for warning in found.warnings:
        console.warning(f"{named.path}: {warning}")
    return record


def _about(model: predictor.Model) -> dict:
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
        "photo_threshold": photo_evaluation.facts(card),
        "warnings": chance.doubts(card.validation),
    }


def _facts(found: predictor.Prediction, photo: photo_files.Photo, overlay: str) -> dict:
    return {
        "path": found.name,
        "sha256": photo.sha256,
        "width": found.width,
        "height": found.height,
        "label": found.label,
        "probability": round(found.probability, 6),
        "decision": found.decision,
        "logits_taken_off": round(found.shift, 3),
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
            console.info(
                f"{one['path']}: {one['decision']}, probability {one['probability']:.3f}, "
                f"{len(one['findings'])} finding{'s' if len(one['findings']) != 1 else ''}"
            )
    console.info(", ".join(f"{name} {count:,}" for name, count in counts.items()))
    if rejected:
        console.info(f"left out: {len(rejected):,}, each with its reason in rejected.csv; the first: {rejected[0][1]}")
    console.info(f"findings {os.path.join(config.out, FINDINGS)}, report {os.path.join(config.out, run_folder.REPORT)}")


if __name__ == "__main__":
    flags.main(PredictConfig, run, __doc__)
