"""Find cracks in photographs of any size: which photographs have any, where, how long, and with what probability.

  python -m crackflow.predict --photos=wall.jpg
  python -m crackflow.predict --photos='site/*.jpg' --model=runs/metu --mm_per_px=0.4 --out=site/findings
  python -m crackflow.predict --photos='site/*.jpg' --reviews=reviews.json --out=site/reviewed

Leaves in the folder: predictions.csv, one row per photograph (cracked, clean, or review: a person should look);
findings.json, the outline, probability and estimated length of each crack in pixels of the photograph; findings.csv,
one row per finding; findings.geojson when photographs say where they were taken; with --export=dxf,kml,coco,yolo the
findings for CAD, for maps and for labelling; overlays/; report.html, to zoom in, to move the threshold and to judge the
findings; with --suggest suggested/, windows to label. What cannot be read is listed in rejected.csv. The photographs
are not changed. A run that was stopped or killed resumes when the same command is given again; until it ends, its
results lie in unfinished/. Exit code 75: stopped by a signal.
"""

import collections
import contextlib
import dataclasses
import os
from collections.abc import Iterator

import numpy as np

from crackflow.core import atomic, callable_module, console, csv_files, errors, flags, runtime, system_files
from crackflow.core.config.trained import PredictConfig
from crackflow.core.errors import RetryableError, UserError
from crackflow.data import image_file, overlays
from crackflow.evaluation import photo_evaluation, review_tally, significance
from crackflow.inference import (
    photo_files,
    prediction_log,
    predictor,
    prior_shift,
    suggested_windows,
    work_list,
)
from crackflow.report import findings_exports, findings_page
from crackflow.training import run_folder
from crackflow.version import __version__

FINDINGS, PREDICTIONS = photo_files.RESULT_FILES
COLUMNS = ("path", "label", "probability", "decision")
OWNED_FILES = (PREDICTIONS, "rejected.csv", run_folder.REPORT, "overlays/*.jpg", *prediction_log.OWNED_FILES)
OWNED_FILES += (*suggested_windows.OWNED_FILES, *findings_exports.OWNED_FILES)
# Flags that may change when a run resumes: their outputs are rewritten anyway, or they affect no result.
RESUMABLE_FLAGS = {"out", "model", "threads", "page_photos", "expected_cracked", "export", "overwrite"}


def run(config: PredictConfig) -> dict:
    """Analyse every photograph and write the results.

    Returns:
        The content of findings.json.

    Raises:
        UserError: the flags or files are unusable.
        RetryableError: the run stopped and can resume.
    """
    findings_exports.require_packages(config.export)
    runtime.configure(0, config.threads, deterministic=False)
    tally = review_tally.ReviewTally(config.reviews) if config.reviews else None
    model = predictor.load(config.model, config.threshold)
    passed_over: collections.Counter = collections.Counter()
    files, rejected = photo_files.list_photos(config.photos, config.out, passed_over)
    if tally:
        _require_reviewed_photos(files, tally)
    with atomic.folder(config.out, FINDINGS, config.overwrite, OWNED_FILES, prediction_log.FOLDER) as stage:
        with (
            prediction_log.open_log(config.out, _run_settings(config, model, tally), config.overwrite) as log,
            _report_interruption(log, files),
        ):
            page = findings_page.FindingsPage(config.page_photos)
            pool = suggested_windows.CandidatePool()
            photos = _process_photos(config, model, files, rejected, page, stage, log, pool, tally)
            content = _run_metadata(model) | {"mm_per_px": config.mm_per_px or None}
            content |= _work_metadata(photos, model, config.expected_cracked) | {"photos": photos}
            if tally:
                content["reviews"] = tally.summary()
            suggested = _write_suggestions(pool, config, model, stage) if config.suggest else ""
            rows = [
                tuple(photo[name] if name != "probability" else f"{photo[name]:.6f}" for name in COLUMNS)
                for photo in photos
            ]
            csv_files.save(os.path.join(stage, PREDICTIONS), COLUMNS, rows)
            csv_files.save(os.path.join(stage, "rejected.csv"), ("path", "reason"), rejected)
            export_warnings = findings_exports.write(stage, content, config.export)
            reviewed = tally.content if tally else None
            page.write(
                os.path.join(stage, run_folder.REPORT), content, len(photos), flags.as_flagfile(config), reviewed
            )
            atomic.save_json(stage, FINDINGS, content)
    _print_summary(config, photos, rejected)
    for text in filter(None, (content["summary"], suggested)):
        console.info(text)
    if tally:
        _print_reviews(tally)
    for warning in content["warnings"]:
        console.alert(warning)
    for warning in export_warnings:
        console.warning(warning)
    if passed_over:
        console.info(system_files.summary(passed_over))
    return content


def _require_reviewed_photos(files: list[photo_files.PhotoPath], tally: review_tally.ReviewTally) -> None:
    """Raises: UserError if a photograph has the name of a reviewed one and another SHA-256, before hours of work."""
    for named in files:
        if tally.names(named.path):
            with contextlib.suppress(errors.ImageError):  # rejected.csv will name it
                tally.require_same_photo(named.path, image_file.digest(image_file.read_file(named.file)).hex())


def _run_settings(
    config: PredictConfig, model: predictor.Model, tally: review_tally.ReviewTally | None
) -> dict[str, str]:
    """The settings that must not change when a run resumes, by flag."""
    texts = flags.as_dict(config, RESUMABLE_FLAGS | {"reviews"})
    settings = {f"--{name}": value for name, value in texts.items()}
    settings |= {"--photos": os.path.abspath(config.photos), "--model": model.bundle.sha256}
    if tally:
        settings |= {"--reviews": tally.sha256}  # in whatever files
    return settings | {"the version of crackflow": __version__}


@contextlib.contextmanager
def _report_interruption(log: prediction_log.PredictionLog, files: list[photo_files.PhotoPath]) -> Iterator[None]:
    """Wrap the work, and report the progress so far if it is interrupted.

    Raises:
        RetryableError: after a signal, if the log has any photograph.
        UserError: after a file error that the user can mend, if the log has any photograph.
    """
    done_count = sum(named.file in log for named in files)
    if done_count:
        console.info(f"resuming: {done_count:,} of {len(files):,} photographs were scored before")
    try:
        yield
    except KeyboardInterrupt as error:
        if not log:
            raise
        raise RetryableError(f"stopped by a signal; {_describe_progress(log, files)}") from error
    except OSError as error:
        mistake = errors.from_os_error(error)
        if not log or mistake is None:
            raise
        raise UserError(f"{mistake}; {_describe_progress(log, files)}") from error


def _describe_progress(log: prediction_log.PredictionLog, files: list[photo_files.PhotoPath]) -> str:
    count = sum(named.file in log for named in files)
    return f"{count:,} of {len(files):,} photographs are done, and the same command resumes with the others"


def _process_photos(config, model, files, rejected, page, stage, log, pool, tally) -> list[dict]:
    """Predict every photograph, write its overlay, and add it to `pool`.

    Returns:
        The entry of findings.json of each photograph.

    Raises:
        UserError: no file can be used, or one is not the photograph that was reviewed.
    """
    os.makedirs(os.path.join(stage, "overlays"))
    photos = []
    with console.progress_bar(len(files), "looking") as advance:
        for named in files:
            advance(1)
            try:
                record = _load_record(named, config, model, page, stage, log) or _process_photo(
                    named, config, model, page, stage, log
                )
            except errors.ImageError as error:
                rejected.append((named.path, str(error)))
                continue
            overlay = f"overlays/{len(photos) + 1:06d}.jpg"
            log.copy_overlay(record, os.path.join(stage, overlay))
            photos.append(_photo_metadata(record.prediction, record.photo, overlay))
            source = suggested_windows.PhotoSource(record.file, named.path, record.photo.sha256)
            pool.add(source, record.candidates)
            if tally:
                tally.require_same_photo(named.path, record.photo.sha256)  # it may have changed since the first look
                tally.add(record.photo.sha256, record.prediction.findings, model.card.threshold)
    if not photos:
        raise UserError(
            f"--photos: expected photographs, none of {len(files):,} files can be used; the first: "
            + ": ".join(rejected[0])
        )
    return photos


def _load_record(named, config, model, page, stage, log) -> prediction_log.Record | None:
    """The logged prediction of a photograph that has not changed since, or None; also offers it to `page`."""
    record = log.find(named.file)
    if record is None:
        return None

    def picture() -> bytes:  # not stored if the page had no room for it
        if stored := log.picture(record):
            return stored
        with photo_files.open_any(named.file, model.card.channels, config.max_megapixels, stage) as photo:
            return overlays.as_jpeg(overlays.fitted(photo.pixels, overlays.SHOWN_PX))

    record = dataclasses.replace(record, prediction=dataclasses.replace(record.prediction, name=named.path))
    page.offer(record.prediction, picture)
    return record


def _process_photo(named, config, model, page, stage, log) -> prediction_log.Record:
    """Predict one photograph, log it, and add it to `page`."""
    stat = prediction_log.file_stat(named.file)
    with photo_files.open_any(named.file, model.card.channels, config.max_megapixels, stage) as photo:
        scores = model.score(photo.pixels, config.scale, config.mm_per_px, photo.surface)
        small = overlays.fitted(photo.pixels, overlays.SHOWN_PX)
        # Frees the full-size pixels, which are as large as all that follows.
        photo = photo._replace(pixels=small, surface=None)
        prediction = model.extract_findings(scores, named.path)
        candidates = model.window_candidates(scores, prediction.heat) if config.suggest else ()
        del scores
    record = prediction_log.new_record(prediction, photo, named.file, stat, candidates)
    overlay = overlays.as_jpeg(overlays.marked(small, prediction))
    record = log.append(record, overlay, page.add(record.prediction, small))
    for warning in prediction.warnings:
        console.warning(f"{named.path}: {warning}")
    return record


def _run_metadata(model: predictor.Model) -> dict:
    """What findings.json says of the model and the version of crackflow."""
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
        "warnings": significance.doubts(card.validation),
    }


def _work_metadata(photos: list[dict], model: predictor.Model, expected: float) -> dict:
    """What findings.json says of the share of cracked photographs, and of those to look at first.

    Adds `probability_at_prior` and `rank` to `photos`, and the first to their findings. Probabilities and decisions
    stay: the threshold was chosen for them as they are.
    """
    probabilities = [photo["probability"] for photo in photos]
    prior = work_list.choose_prior(probabilities, prior_shift.trained_share(model.card), expected)
    corrected = prior.correct(probabilities)
    visit = work_list.rank(corrected)
    for photo, probability, rank in zip(photos, corrected, visit.ranks, strict=True):
        photo |= {"probability_at_prior": _round_digits(probability), "rank": int(rank)}
        for finding in photo["findings"]:
            finding["probability_at_prior"] = _round_digits(prior.correct([finding["probability"]])[0])
    return {"prior": prior.as_dict(), "summary": work_list.sentence(visit, prior), "work_list": visit.as_dict()}


def _write_suggestions(pool, config, model, stage) -> str:
    """Write the windows to label; returns a sentence that says where they are."""
    windows = pool.select(config.suggest, model.card.threshold)
    skipped = suggested_windows.write(stage, windows, model.card.channels, config.max_megapixels)
    for path, reason in skipped:
        console.warning(f"{path}: no windows are suggested: {reason}")
    lost = {path for path, _ in skipped}
    count = sum(window.source.path not in lost for window in windows)
    folder = os.path.join(config.out, suggested_windows.FOLDER)
    return (
        f"{count:,} window{'' if count == 1 else 's'} to label in "
        f"{os.path.join(folder, suggested_windows.UNLABELLED)}: move each to cracked or clean beside that folder"
    )


def _photo_metadata(prediction: predictor.Prediction, photo: photo_files.Photo, overlay: str) -> dict:
    """The entry of a photograph in findings.json."""
    return {
        "path": prediction.name,
        "sha256": photo.sha256,
        "width": prediction.width,
        "height": prediction.height,
        "label": prediction.label,
        "probability": round(prediction.probability, 6),
        "decision": prediction.decision,
        "logits_taken_off": round(prediction.shift, 3),
        "scales": list(prediction.scales),
        "unlike_training": None if prediction.distance is None else round(prediction.distance, 3),
        "warnings": prediction.warnings,
        "notes": list(photo.notes),
        "place": photo.place_entry(),
        "overlay": overlay,
        "findings": [
            {
                "box": _round_coordinates(finding.box),
                "polygons": [[_round_coordinates(point) for point in outline] for outline in finding.outlines],
                "probability": round(finding.probability, 6),
                "decision": finding.decision,
                "length_px_estimate": None if finding.length_px is None else round(finding.length_px, 1),
                "length_mm_estimate": None if finding.length_mm is None else round(finding.length_mm, 1),
                "length_note": finding.length_note or None,
            }
            for finding in prediction.findings
        ],
    }


def _round_digits(probability: float) -> float:
    """To six significant digits: at a low share sound photographs have probabilities of a millionth."""
    return float(f"{probability:.6g}")


def _round_coordinates(values) -> list[float]:
    return [round(float(value), 1) for value in values]


def _print_summary(config: PredictConfig, photos: list[dict], rejected: list[tuple[str, str]]) -> None:
    decisions = np.array([photo["decision"] for photo in photos])
    counts = {name: int((decisions == name).sum()) for name in ("cracked", "review", "clean")}
    if len(photos) <= 10:
        for photo in photos:
            console.info(
                f"{photo['path']}: {photo['decision']}, probability {photo['probability']:.3f}, "
                f"{len(photo['findings'])} finding{'s' if len(photo['findings']) != 1 else ''}"
            )
    console.info(", ".join(f"{name} {count:,}" for name, count in counts.items()))
    if rejected:
        console.info(f"left out: {len(rejected):,}, each with its reason in rejected.csv; the first: {rejected[0][1]}")
    console.info(f"findings {os.path.join(config.out, FINDINGS)}, report {os.path.join(config.out, run_folder.REPORT)}")


def _print_reviews(tally: review_tally.ReviewTally) -> None:
    console.info(tally.describe())
    absent = tally.absent()
    if absent:
        console.warning(
            f"--reviews: {len(absent):,} of the reviewed photographs are not among those that were analysed; the "
            f"first: {absent[0]!r}"
        )


callable_module.install(__name__, PredictConfig, run)
if __name__ == "__main__":
    flags.main(PredictConfig, run, __doc__)
