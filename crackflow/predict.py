"""Find cracks in photographs of any size: which photographs have any, where, how long, and with what probability.

  python -m crackflow.predict --photos=wall.jpg
  python -m crackflow.predict --photos='site/*.jpg' --model=runs/metu --mm_per_px=0.4 --out=site/findings
  python -m crackflow.predict --photos='site/*.jpg' --reviews=reviews.json --out=site/reviewed
  python -m crackflow.predict --photos='site/*.jpg' --replay=site/findings/findings.json

Leaves in the folder: predictions.csv, one row per photograph (cracked, clean, or review: a person should look);
findings.json, the outline, probability, length and width of each crack in pixels of the photograph; findings.csv, one
row per finding; findings.geojson when photographs say where they were taken; with --export=dxf,kml,coco,yolo the
findings for CAD, for maps and for labelling; overlays/; report.html, to zoom in, to move the threshold and to judge the
findings; with --suggest suggested/, windows to label. What cannot be read is listed in rejected.csv. The photographs
are not changed. A run that was stopped or killed resumes when the same command is given again; until it ends, its
results lie in unfinished/. Exit code 75: stopped by a signal. With --replay nothing is written: the photographs of an
earlier run are predicted again, with its flags, and exit code 1 says that findings differ.
"""

import collections
import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator

import numpy as np

from crackflow.core import (
    atomic,
    callable_module,
    console,
    csv_files,
    errors,
    flags,
    runtime,
    system_files,
    temporary_files,
)
from crackflow.core.config.trained import PredictConfig
from crackflow.core.errors import RetryableError, UserError
from crackflow.data import image_file, overlays
from crackflow.evaluation import findings_content, review_tally
from crackflow.inference import (
    marker_cover,
    photo_files,
    photo_scale,
    prediction_log,
    predictor,
    replay,
    suggested_windows,
)
from crackflow.report import findings_exports, findings_page
from crackflow.training import run_folder
from crackflow.version import __version__

FINDINGS, PREDICTIONS = photo_files.RESULT_FILES
COLUMNS = ("path", "label", "probability", "decision")
OWNED_FILES = (PREDICTIONS, "rejected.csv", run_folder.REPORT, "overlays/*.jpg", *prediction_log.OWNED_FILES)
OWNED_FILES += (*suggested_windows.OWNED_FILES, *findings_exports.OWNED_FILES)
# Flags that may change when a run resumes: their outputs are rewritten anyway, or they affect no result.
RESUMABLE_FLAGS = {"out", "model", "threads", "page_photos", "expected_cracked", "export", "overwrite", "replay"}


def run(config: PredictConfig) -> dict:
    """Analyse every photograph and write the results.

    Returns:
        The content of findings.json.

    Raises:
        UserError: the flags or files are unusable.
        RetryableError: the run stopped and can resume.
        VerificationError: with --replay, if findings differ.
    """
    if config.replay:
        return _replay(config)
    findings_exports.require_packages(config.export)
    runtime.configure(0, config.threads, deterministic=False)
    tally = review_tally.ReviewTally(config.reviews) if config.reviews else None
    model = predictor.load(config.model, config.threshold)
    passed_over: collections.Counter = collections.Counter()
    files, rejected = photo_files.list_photos(config.photos, config.out, passed_over)
    if tally:
        _require_reviewed_photos(files, tally)
    sources = photo_scale.sources_of(config, [named.path for named in files] + [path for path, _ in rejected])
    with atomic.folder(config.out, FINDINGS, config.overwrite, OWNED_FILES, prediction_log.FOLDER) as stage:
        with (
            prediction_log.open_log(config.out, _run_settings(config, model, tally, sources), config.overwrite) as log,
            _report_interruption(log, files),
        ):
            page = findings_page.FindingsPage(config.page_photos)
            pool = suggested_windows.CandidatePool()
            photos = _process_photos(config, model, files, rejected, page, stage, log, pool, tally, sources)
            content = findings_content.build(config, model, photos)
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
    config: PredictConfig,
    model: predictor.Model,
    tally: review_tally.ReviewTally | None,
    sources: photo_scale.ScaleSources,
) -> dict[str, str]:
    """The settings that must not change when a run resumes, by flag."""
    texts = flags.as_dict(config, RESUMABLE_FLAGS | {"reviews"})
    settings = {f"--{name}": value for name, value in texts.items()}
    settings |= {"--photos": os.path.abspath(config.photos), "--model": model.bundle.sha256}
    if tally:
        settings |= {"--reviews": tally.sha256}  # in whatever files
    if sources.table:
        settings |= {"--scales": sources.table.sha256}
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


def _process_photos(config, model, files, rejected, page, stage, log, pool, tally, sources) -> list[dict]:
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
                    named, config, model, page, stage, log, sources
                )
            except errors.ImageError as error:
                rejected.append((named.path, str(error)))
                continue
            overlay = f"overlays/{len(photos) + 1:06d}.jpg"
            log.copy_overlay(record, os.path.join(stage, overlay))
            photos.append(_photo_metadata(record.prediction, record.photo, overlay, record.scale))
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


def _process_photo(named, config, model, page, stage, log, sources) -> prediction_log.Record:
    """Predict one photograph, log it, and add it to `page`."""
    record, small, prediction = _predict_photo(named, config, model, sources, stage)
    overlay = overlays.as_jpeg(overlays.marked(small, prediction))
    record = log.append(record, overlay, page.add(record.prediction, small))
    for warning in prediction.warnings:
        console.warning(f"{named.path}: {warning}")
    return record


def _predict_photo(
    named, config, model, sources, scratch
) -> tuple[prediction_log.Record, np.ndarray, predictor.Prediction]:
    """(what findings.json is made from, the photograph at the size of the page, the prediction with its heat map)."""
    stat = prediction_log.file_stat(named.file)
    with photo_files.open_any(named.file, model.card.channels, config.max_megapixels, scratch) as photo:
        scale, notes = sources.measure(photo.pixels, photo.camera, named.path)
        small = overlays.fitted(photo.pixels, overlays.SHOWN_PX)
        seen = marker_cover.cover(photo.pixels, scale.covered) if scale else photo.pixels
        scores = model.score(seen, config.scale, measured=scale, surface=photo.surface)
        # Frees the full-size pixels, which are as large as all that follows, if a marker was covered in a copy of them.
        photo = photo._replace(pixels=small, surface=None, notes=photo.notes + notes)
        del seen
        prediction = model.extract_findings(scores, named.path)
        candidates = model.window_candidates(scores, prediction.heat) if config.suggest else ()
        del scores
    record = prediction_log.new_record(prediction, photo, named.file, stat, candidates, scale and scale.as_dict())
    return record, small, prediction


def _replay(config: PredictConfig) -> dict:
    """Predict the photographs of config.replay again, write nothing, and say whether the findings are equal.

    Raises:
        UserError: the file, the model, the version or the photographs are not those of that run.
        VerificationError: findings differ.
    """
    earlier = replay.read_findings(config.replay)
    config = earlier.restore_settings(config)
    runtime.configure(0, config.threads, deterministic=False)
    model = predictor.load(config.model, config.threshold)
    earlier.require_model(model.bundle.sha256)
    files = earlier.match_photos(photo_files.list_photos(config.photos)[0])
    sources = photo_scale.sources_of(config, None)  # a line may be about a file that was rejected
    photos = []
    with (
        temporary_files.scratch_folder(tempfile.gettempdir(), "crackflow-replay") as scratch,
        console.progress_bar(len(files), "looking") as advance,
    ):
        for named, before in zip(files, earlier.photos, strict=True):
            try:
                record = _predict_photo(named, config, model, sources, scratch)[0]
            except errors.ImageError as error:
                raise UserError(f"{named.path!r}: expected the photograph of {config.replay!r}: {error}") from error
            photos.append(_photo_metadata(record.prediction, record.photo, before["overlay"], record.scale))
            advance(1)
    content = findings_content.build(config, model, photos)
    console.info(earlier.verify(content))
    return content


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


def _photo_metadata(
    prediction: predictor.Prediction, photo: photo_files.Photo, overlay: str, scale: dict | None
) -> dict:
    """The entry of a photograph in findings.json."""
    content = {
        "path": prediction.name,
        "sha256": photo.sha256,
        "width": prediction.width,
        "height": prediction.height,
        "label": prediction.label,
        "probability": round(prediction.probability, 6),
        "decision": prediction.decision,
        "logits_taken_off": round(prediction.shift, 3),
        "scales": list(prediction.scales),
        "scale": scale,
        "unlike_training": None if prediction.distance is None else round(prediction.distance, 3),
        "warnings": prediction.warnings,
        "notes": list(photo.notes),
        "place": photo.place_entry(),
        "overlay": overlay,
        "width_limits": prediction.width_limits,
        "findings": [
            {
                "box": _round_coordinates(finding.box),
                "polygons": [[_round_coordinates(point) for point in outline] for outline in finding.outlines],
                "probability": round(finding.probability, 6),
                "decision": finding.decision,
                "length_px_estimate": None if finding.length_px is None else round(finding.length_px, 1),
                "length_mm_estimate": None if finding.length_mm is None else round(finding.length_mm, 1),
                "length_note": finding.length_note or None,
                "centerline": list(finding.centerline),
                "width_px": finding.width_px,
                "width_mm": finding.width_mm,
                "width_note": finding.width_note or None,
            }
            for finding in prediction.findings
        ],
    }
    photo_scale.rectify_widths(content["findings"], scale)
    return content


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
    if photo_scale.is_requested(config) or any(photo["scale"] for photo in photos):
        console.info(photo_scale.summary(photos))
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
