"""What a model said of each photograph so far, on the disk, so that `crackflow.predict` goes on where it was stopped.

Synopsis::

    with prediction_log.open_log("findings", run, overwrite=False) as log:      # findings/unfinished/
        record = log.find("site/wall.jpg")
        if record is None:
            record = log.append(prediction_log.new_record(found, photo, "site/wall.jpg", stat), overlay, picture)
        log.copy_overlay(record, "overlays/000001.jpg")

unfinished/photos.jsonl    the settings of the run, then a line for each photograph
unfinished/overlays/       its overlay
unfinished/pictures/       the photograph made small, of those that were on the page so far

Each line carries a checksum of itself and of its files. What was torn by a power cut or a full disk does not match,
and its photograph is looked at again.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from crackflow.core import errors, locks
from crackflow.core.errors import UserError
from crackflow.data import image_file
from crackflow.inference.photo_files import Photo
from crackflow.inference.predictor import Finding, Prediction

FOLDER, LINES, OVERLAYS, PICTURES, LOCK = "unfinished", "photos.jsonl", "overlays", "pictures", ".lock"
OWNED_FILES = tuple(f"{FOLDER}/{name}" for name in (LINES, LOCK, f"{OVERLAYS}/*.jpg", f"{PICTURES}/*.jpg"))
MAX_NUMBER = 10**9  # of an overlay
NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
NO_HEAT = np.zeros((0, 0), np.float32)


@dataclasses.dataclass(frozen=True)
class Record:
    """`prediction`: without its heat; `photo`: without its pixels; `file`: its absolute path; `stat`: of the file,
    before it was read; `number`: of its overlay, 0 before it has one."""

    prediction: Prediction
    photo: Photo
    file: str
    stat: tuple[int, ...]
    number: int = 0


def new_record(prediction: Prediction, photo: Photo, file: str, stat: tuple[int, ...]) -> Record:
    """As a later process will read it: a float32 becomes Python's float, so that both make the same page of it."""
    return _from_dict(json.loads(_to_json(_as_dict(Record(prediction, photo, os.path.abspath(file), stat)))))


def file_stat(path: str) -> tuple[int, ...]:
    """Size, and times of change of content and of attributes in ns: while they stay, so does the file; nothing where it
    can't be reached."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


class PredictionLog:
    """Records by file. Holds in memory where each of them lies, not what it says."""

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
        self._writer.truncate(end)  # what comes next must begin a line

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def __contains__(self, file: str) -> bool:
        return os.path.abspath(file) in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def find(self, file: str) -> Record | None:
        """What was said of the photograph `file`, where neither that nor what lies here has changed since."""
        content = self._read(os.path.abspath(file))
        if content is None:
            return None
        record = _readable(content)
        if record is None:
            return None
        if _checksum(self._file(OVERLAYS, record)) == content["overlay_crc32"] and _is_same(file, record):
            return record
        del self._offsets[record.file]
        return None

    def picture(self, record: Record) -> bytes | None:
        """The photograph made small, where `append` was given it and it is whole."""
        content, path = self._read(record.file), self._file(PICTURES, record)
        if content is None or content["picture_crc32"] is None or _checksum(path) != content["picture_crc32"]:
            return None
        with open(path, "rb") as file:
            return file.read()

    def append(self, record: Record, overlay: bytes, picture: bytes | None) -> Record:
        """`record` with its number. Raises: OSError; then nothing of it counts."""
        record = dataclasses.replace(record, number=self._last_number + 1)
        for kind, data in ((OVERLAYS, overlay), (PICTURES, picture)):
            if data is not None:
                with _open(self._file(kind, record), "wb") as file:
                    file.write(data)
        sums = {"overlay_crc32": zlib.crc32(overlay), "picture_crc32": None if picture is None else zlib.crc32(picture)}
        self._offsets[record.file] = _write_line(self._writer, _as_dict(record) | sums)
        self._last_number = record.number
        return record

    def copy_overlay(self, record: Record, path: str) -> None:
        """The overlay as `path`: a second name where the file system has such, else a copy."""
        source = self._file(OVERLAYS, record)
        _expect_no_link(source)
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
    """The log of the folder `out`, for this process alone: what a run of the same settings `run` left there, else an
    empty one. `overwrite`: another run may be begun anew. One without photographs is removed when the block ends.

    Raises: UserError when another process uses it, or `run` differs from the run that was begun.
    """
    target = os.path.realpath(out)
    path, existed = os.path.join(target, FOLDER), os.path.isdir(target)
    for name in ("", OVERLAYS, PICTURES):
        _expect_no_link(os.path.join(path, name).rstrip(os.sep))
        os.makedirs(os.path.join(path, name), exist_ok=True)
    busy = f"--out: another process looks at photographs for {out!r}; let it end, or choose another folder"
    unlocked = f"{out!r} can't be locked; see that no other run uses it"
    with locks.exclusive(os.path.join(path, LOCK), busy, unlocked):
        _begin(out, os.path.join(path, LINES), run, overwrite)
        log = PredictionLog(path)
        try:
            yield log
        finally:
            log.close()
            if not len(log):
                _remove(path, None if existed else target)


def _begin(out: str, lines: str, run: dict[str, str], overwrite: bool) -> None:
    """The first line is that of `run`, and lines of another one are gone."""
    stored = _stored_run(lines)
    was = stored["run"] if stored else run
    differing = next((name for name in run | was if was.get(name) != run.get(name)), None)
    # A command with --overwrite goes on with what it began itself, and begins everything else anew.
    if stored is None or (overwrite and (differing or not stored["overwrite"])):
        with _open(lines, "wb") as file:
            _write_line(file, {"run": run, "overwrite": overwrite})
    elif differing:
        raise UserError(
            f"{differing}: the unfinished results in {out!r} were begun with {was.get(differing)!r}, received "
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
    """The files of a log in `path`, and the folders that are empty then."""
    for kind in (OVERLAYS, PICTURES):
        for name in os.listdir(os.path.join(path, kind)):
            if name.endswith(".jpg"):
                os.remove(os.path.join(path, kind, name))
    for name in (LINES, LOCK):
        with contextlib.suppress(OSError):  # it is not there; or it is the lock, held until this is done, on Windows
            os.remove(os.path.join(path, name))
    for place in (os.path.join(path, OVERLAYS), os.path.join(path, PICTURES), path, parent):
        with contextlib.suppress(OSError):  # something of the user's lies in it
            os.rmdir(place or path)


def _is_same(file: str, record: Record) -> bool:
    """Whether the photograph is the one that was looked at; by its SHA-256 where its times have changed."""
    if record.stat and file_stat(file) == record.stat:
        return True
    try:
        return image_file.digest(image_file.read_file(file)).hex() == record.photo.sha256
    except errors.ImageError:
        return False


def _as_dict(record: Record) -> dict:
    found = {field.name: getattr(record.prediction, field.name) for field in dataclasses.fields(record.prediction)}
    found["findings"] = [one._asdict() for one in record.prediction.findings]
    del found["heat"]
    photo = record.photo._asdict()
    del photo["pixels"]
    return {"file": record.file, "number": record.number, "stat": record.stat, "photo": photo, "prediction": found}


def _from_dict(content: dict) -> Record:
    found, photo = content["prediction"], content["photo"]
    findings = [Finding(**one) for one in found["findings"]]
    return Record(
        Prediction(**found | {"findings": findings, "scales": tuple(found["scales"]), "heat": NO_HEAT}),
        Photo(**photo | {"pixels": NO_PIXELS}),
        content["file"],
        tuple(content["stat"]),
        content["number"],
    )


def _is_record(content: dict) -> bool:
    number = content.get("number")
    return isinstance(content.get("file"), str) and type(number) is int and 0 <= number < MAX_NUMBER


def _readable(content: dict) -> Record | None:
    """None for a line with a sound checksum that this version did not write."""
    try:
        content["overlay_crc32"], content["picture_crc32"]
        record = _from_dict(content)
        return record if _is_sound(record) else None
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def _is_sound(record: Record) -> bool:
    """Whether the values are of their kinds, so that whoever shows them can."""
    found, photo = record.prediction, record.photo
    numbers = [found.probability, found.shift, found.distance or 0.0, *found.scales, *(photo.place or (0.0, 0.0))]
    texts = [found.name, found.decision, found.label, photo.sha256, *found.warnings, *photo.notes]
    whole = [found.width, found.height, *record.stat]
    for one in found.findings:
        numbers += [one.probability, one.length_px or 0.0, one.length_mm or 0.0, *one.box]
        numbers += [side for outline in one.outlines for x, y in outline for side in (x, y)]
        texts += [one.decision, one.length_note]
    sound = all(type(one) in (int, float) for one in numbers) and all(type(one) is int for one in whole)
    return sound and all(isinstance(one, str) for one in texts) and len(photo.place or "ab") == 2


def _open(path: str, mode: str) -> BinaryIO:
    """As `open`, unbuffered where it writes. Raises: UserError for a symbolic link, which leads to a file elsewhere."""
    _expect_no_link(path)
    return open(path, mode, buffering=-1 if mode == "rb" else 0)


def _expect_no_link(path: str) -> None:
    if os.path.islink(path):
        raise UserError(
            f"expected unfinished results of crackflow.predict, found the symbolic link {path!r}; remove it"
        )


def _to_json(content: dict) -> str:
    return json.dumps(content, default=lambda number: number.item())  # NumPy's


def _write_line(file: BinaryIO, content: dict) -> int:
    """Where the line begins. Raises: OSError; then the file is as it was."""
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
    """What `_write_line` wrote; None where it is not that."""
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
