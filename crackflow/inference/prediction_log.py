"""A log on disk of the predictions made so far, from which `crackflow.predict` resumes after an interruption.

Synopsis::

    with prediction_log.open_log("findings", run, overwrite=False) as log:      # findings/unfinished/
        record = log.find("site/wall.jpg")
        if record is None:
            record = log.append(prediction_log.new_record(prediction, photo, "site/wall.jpg", stat), overlay, picture)
        log.copy_overlay(record, "overlays/000001.jpg")

unfinished/photos.jsonl    the settings of the run, then one line per photograph
unfinished/overlays/       the overlay of each photograph
unfinished/pictures/       downscaled photographs, of those that were on the page so far

Each line carries a checksum of itself and of its files. What a power cut or a full disk has torn does not match, and
its photograph is predicted again.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from crackflow.core import errors, locks
from crackflow.core.errors import UserError
from crackflow.data import image_file
from crackflow.inference import suggestions, width_results
from crackflow.inference.photo_files import Photo
from crackflow.inference.predictor import Finding, Prediction
from crackflow.inference.suggestions import Candidate

FOLDER, LINES, OVERLAYS, PICTURES, LOCK = "unfinished", "photos.jsonl", "overlays", "pictures", ".lock"
OWNED_FILES = tuple(f"{FOLDER}/{name}" for name in (LINES, LOCK, f"{OVERLAYS}/*.jpg", f"{PICTURES}/*.jpg"))
MAX_NUMBER = 10**9  # of an overlay
NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
NO_HEAT = np.zeros((0, 0), np.float32)


@dataclasses.dataclass(frozen=True)
class Record:
    """The prediction of one photograph.

    Attributes:
        prediction: without its heat map.
        photo: without its pixels.
        file: absolute path of the photograph.
        stat: `file_stat` of the file before it was read.
        number: number of its overlay, 0 before it has one.
        candidates: windows that may be suggested for labels; none where none are asked for.
        scale: what findings.json says of its scale, or None.
    """

    prediction: Prediction
    photo: Photo
    file: str
    stat: tuple[int, ...]
    number: int = 0
    candidates: tuple[Candidate, ...] = ()
    scale: dict | None = None


def new_record(
    prediction: Prediction,
    photo: Photo,
    file: str,
    stat: tuple[int, ...],
    candidates: Sequence[Candidate] = (),
    scale: dict | None = None,
) -> Record:
    """Build a record exactly as a later process will read it.

    Values pass through JSON, so a float32 becomes Python's float and both processes render the same page.

    Args:
        prediction: of the photograph.
        photo: the photograph.
        file: path of the photograph.
        stat: `file_stat` of the file before it was read.
        candidates: windows that may be suggested for labels.
        scale: what findings.json says of its scale.
    """
    record = Record(prediction, photo, os.path.abspath(file), stat, candidates=tuple(candidates), scale=scale)
    return _from_dict(json.loads(_to_json(_as_dict(record))))


def file_stat(path: str) -> tuple[int, ...]:
    """Size in bytes, and times of the last change of content and of metadata in ns; () if `path` can't be reached.

    While they stay equal, the file counts as unchanged.
    """
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


class PredictionLog:
    """Records by file. Memory has only the offset of each record, not its content."""

    def __init__(self, path: str) -> None:
        self._path, self._offsets, self._last_number = path, {}, 0
        lines = os.path.join(path, LINES)
        self._reader, self._writer = _open(lines, "rb"), _open(lines, "ab")
        end = 0
        for line in self._reader:
            if not line.endswith(b"\n"):
                break
            content = _parse_line(line)
            if content and _is_record(content):
                self._offsets[content["file"]] = end
                self._last_number = max(self._last_number, content["number"])
            end += len(line)
        self._writer.truncate(end)  # the next record must begin a line

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def __contains__(self, file: str) -> bool:
        return os.path.abspath(file) in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def find(self, file: str) -> Record | None:
        """The record of the photograph `file`, or None without one, or if the file, line or overlay has changed."""
        content = self._read(os.path.abspath(file))
        if content is None:
            return None
        record = _decode_record(content)
        if record is None:
            return None
        if _checksum(self._file(OVERLAYS, record)) == content["overlay_crc32"] and _is_unchanged(file, record):
            return record
        del self._offsets[record.file]
        return None

    def picture(self, record: Record) -> bytes | None:
        """The downscaled photograph as a JPEG file, or None if `append` received none or it is damaged."""
        content, path = self._read(record.file), self._file(PICTURES, record)
        if content is None or content["picture_crc32"] is None or _checksum(path) != content["picture_crc32"]:
            return None
        with open(path, "rb") as file:
            return file.read()

    def append(self, record: Record, overlay: bytes, picture: bytes | None) -> Record:
        """Append a record and its files.

        Args:
            record: its number is replaced by the next one.
            overlay: the overlay as a JPEG file.
            picture: the downscaled photograph as a JPEG file, or None.

        Returns:
            The record with its number.

        Raises:
            OSError: the disk refused it; nothing of the record counts then.
        """
        record = dataclasses.replace(record, number=self._last_number + 1)
        for kind, data in ((OVERLAYS, overlay), (PICTURES, picture)):
            if data is not None:
                with _open(self._file(kind, record), "wb") as file:
                    file.write(data)
        checksums = {
            "overlay_crc32": zlib.crc32(overlay),
            "picture_crc32": None if picture is None else zlib.crc32(picture),
        }
        self._offsets[record.file] = _write_line(self._writer, _as_dict(record) | checksums)
        self._last_number = record.number
        return record

    def copy_overlay(self, record: Record, path: str) -> None:
        """Place the overlay at `path`: as a hard link if the file system supports it, else as a copy."""
        source = self._file(OVERLAYS, record)
        _require_no_link(source)
        try:
            os.link(source, path)
        except OSError:
            shutil.copyfile(source, path)

    def _read(self, file: str) -> dict | None:
        if file not in self._offsets:
            return None
        self._reader.seek(self._offsets[file])
        return _parse_line(self._reader.readline())

    def _file(self, kind: str, record: Record) -> str:
        return os.path.join(self._path, kind, f"{record.number:06d}.jpg")


@contextlib.contextmanager
def open_log(out: str, run: dict[str, str], overwrite: bool) -> Iterator[PredictionLog]:
    """Open the log of the folder `out` exclusively for this process.

    It has the records that a run with the same settings left there, else it is empty. A log without photographs is
    removed when the block ends.

    Args:
        out: the results folder.
        run: the settings of the run, by flag.
        overwrite: a log with other settings may be replaced by an empty one.

    Yields:
        The log.

    Raises:
        UserError: another process uses the log, or `run` differs from the settings of the unfinished run.
    """
    target = os.path.realpath(out)
    path, existed = os.path.join(target, FOLDER), os.path.isdir(target)
    for name in ("", OVERLAYS, PICTURES):
        _require_no_link(os.path.join(path, name).rstrip(os.sep))
        os.makedirs(os.path.join(path, name), exist_ok=True)
    busy_message = f"--out: another process is predicting for {out!r}; let it end, or choose another folder"
    unlocked_message = f"{out!r} can't be locked; see that no other run uses it"
    with locks.exclusive(os.path.join(path, LOCK), busy_message, unlocked_message):
        _start_run(out, os.path.join(path, LINES), run, overwrite)
        log = PredictionLog(path)
        try:
            yield log
        finally:
            log.close()
            if not len(log):
                _remove(path, None if existed else target)


def _start_run(out: str, lines: str, run: dict[str, str], overwrite: bool) -> None:
    """Make the first line that of `run`; discard the lines of another run or raise UserError."""
    stored = _stored_run(lines)
    stored_run = stored["run"] if stored else run
    differing = next((name for name in run | stored_run if stored_run.get(name) != run.get(name)), None)
    # A command with --overwrite resumes only what such a command began, and replaces everything else.
    if stored is None or (overwrite and (differing or not stored["overwrite"])):
        with _open(lines, "wb") as file:
            _write_line(file, {"run": run, "overwrite": overwrite})
    elif differing:
        raise UserError(
            f"{differing}: the unfinished results in {out!r} were begun with {stored_run.get(differing)!r}, received "
            f"{run.get(differing)!r}; give the command as it was, begin anew with --overwrite, or choose another --out"
        )


def _stored_run(lines: str) -> dict | None:
    try:
        with open(lines, "rb") as file:
            content = _parse_line(file.readline())
    except FileNotFoundError:
        return None
    return content if content and isinstance(content.get("run"), dict) and "overwrite" in content else None


def _remove(path: str, parent: str | None) -> None:
    """Remove the files of the log in `path`, then the folders that are empty."""
    for kind in (OVERLAYS, PICTURES):
        for name in os.listdir(os.path.join(path, kind)):
            if name.endswith(".jpg"):
                os.remove(os.path.join(path, kind, name))
    for name in (LINES, LOCK):
        with contextlib.suppress(OSError):  # it does not exist; or, on Windows, it is the lock, which is still locked
            os.remove(os.path.join(path, name))
    for directory in (os.path.join(path, OVERLAYS), os.path.join(path, PICTURES), path, parent):
        with contextlib.suppress(OSError):  # it contains a file of the user
            os.rmdir(directory or path)


def _is_unchanged(file: str, record: Record) -> bool:
    """Whether the photograph is the one that was predicted; by its SHA-256 if its times have changed."""
    if record.stat and file_stat(file) == record.stat:
        return True
    try:
        return image_file.digest(image_file.read_file(file)).hex() == record.photo.sha256
    except errors.ImageError:
        return False


def _as_dict(record: Record) -> dict:
    prediction = {field.name: getattr(record.prediction, field.name) for field in dataclasses.fields(record.prediction)}
    prediction["findings"] = [finding._asdict() for finding in record.prediction.findings]
    del prediction["heat"]
    photo = record.photo._asdict()
    del photo["pixels"], photo["camera"]
    content = {"file": record.file, "number": record.number, "stat": record.stat}
    return content | {"photo": photo, "prediction": prediction, "candidates": record.candidates, "scale": record.scale}


def _from_dict(content: dict) -> Record:
    prediction, photo = content["prediction"], content["photo"]
    findings = [Finding(**fields) for fields in prediction["findings"]]
    return Record(
        Prediction(**prediction | {"findings": findings, "scales": tuple(prediction["scales"]), "heat": NO_HEAT}),
        Photo(**photo | {"pixels": NO_PIXELS}),
        content["file"],
        tuple(content["stat"]),
        content["number"],
        tuple(Candidate(*fields[:-1], tuple(fields[-1])) for fields in content["candidates"]),
        content["scale"],
    )


def _is_record(content: dict) -> bool:
    number = content.get("number")
    return isinstance(content.get("file"), str) and type(number) is int and 0 <= number < MAX_NUMBER


def _decode_record(content: dict) -> Record | None:
    """The record in `content`; None for a line with a valid checksum that this version did not write."""
    try:
        content["overlay_crc32"], content["picture_crc32"]
        record = _from_dict(content)
        return record if _has_valid_types(record) else None
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def _has_valid_types(record: Record) -> bool:
    """Whether all values have the types that their users rely on."""
    prediction, photo = record.prediction, record.photo
    numbers = [prediction.probability, prediction.shift, prediction.distance or 0.0]
    numbers += [*prediction.scales, *(photo.place or (0.0, 0.0))]
    texts = [prediction.name, prediction.decision, prediction.label, photo.sha256, *prediction.warnings, *photo.notes]
    location = dict(photo.location or {})
    numbers += location.pop("transform", [0.0] * 6)
    for name, value in location.items():
        (numbers if name.endswith(("_m", "_deg")) else texts).append(value or "")
    integers = [prediction.width, prediction.height, *record.stat]
    for finding in prediction.findings:
        numbers += [finding.probability, finding.length_px or 0.0, finding.length_mm or 0.0, *finding.box]
        numbers += [side for outline in finding.outlines for x, y in outline for side in (x, y)]
        texts += [finding.decision, finding.length_note, finding.width_note]
    if record.scale is not None:
        numbers.append(record.scale["mm_per_px"])
        texts.append(record.scale["source"])
    is_valid = all(type(value) in (int, float) for value in numbers) and all(type(value) is int for value in integers)
    is_valid = is_valid and suggestions.are_valid(record.candidates, prediction.width, prediction.height)
    is_valid = is_valid and width_results.are_valid_limits(prediction.width_limits)
    is_valid = is_valid and all(
        width_results.are_valid(finding.centerline, finding.width_px, finding.width_mm)
        for finding in prediction.findings
    )
    return is_valid and all(isinstance(value, str) for value in texts) and len(photo.place or "ab") == 2


def _open(path: str, mode: str) -> BinaryIO:
    """Like `open`, but unbuffered for writing; raises UserError for a symbolic link, which leads elsewhere."""
    _require_no_link(path)
    return open(path, mode, buffering=-1 if mode == "rb" else 0)


def _require_no_link(path: str) -> None:
    if os.path.islink(path):
        raise UserError(
            f"expected unfinished results of crackflow.predict, found the symbolic link {path!r}; remove it"
        )


def _to_json(content: dict) -> str:
    return json.dumps(content, default=lambda number: number.item())  # NumPy scalars


def _write_line(file: BinaryIO, content: dict) -> int:
    """Append a line with its checksum and return its offset. After an OSError the file is as it was."""
    text, start = _to_json(content), file.seek(0, os.SEEK_END)
    line = memoryview(f'{text[:-1]}, "crc32": {zlib.crc32(text.encode())}}}\n'.encode())
    try:
        while line:
            line = line[file.write(line) :]
    except BaseException:
        with contextlib.suppress(OSError):
            file.truncate(start)
        raise
    return start


def _parse_line(line: bytes) -> dict | None:
    """The content that `_write_line` wrote; None for any other line."""
    try:
        content = json.loads(line)
        expected = content.pop("crc32")
        return content if zlib.crc32(_to_json(content).encode()) == expected else None
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None


def _checksum(path: str) -> int | None:
    try:
        with open(path, "rb") as file:
            return zlib.crc32(file.read())
    except OSError:
        return None
