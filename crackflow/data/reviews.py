"""Reviews (reviews.json): what people said of the findings in photographs, and the cracks that they marked.

Synopsis::

    review = reviews.read("reviews.json")                  # a UserError names the key that is wrong
    merged = reviews.merge([review, reviews.read("ann.json")])
    merged.reviews, merged.conflicts                       # of two verdicts about one box the newest counts
    reviews.write("both.json", merged.reviews)

The page of crackflow.predict offers such files as a download and goes on with them. A photograph is identified by the
SHA-256 of its file, so that it may be moved and renamed. Boxes are x, y, width and height in pixels of the photograph.
"""

import dataclasses
import datetime
import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from crackflow.core import atomic, json_schema
from crackflow.core.errors import UserError

SCHEMA_VERSION = json_schema.VERSIONS[json_schema.REVIEWS]
CRACK, NOT_A_CRACK, UNSURE = "crack", "not_a_crack", "unsure"
VERDICTS = (CRACK, NOT_A_CRACK, UNSURE)
FINDING, DRAWN = "finding", "drawn"
SOURCES = (FINDING, DRAWN)
MAX_BYTES = 64 << 20
MAX_SIDE_PX = 10**6
MAX_VERDICTS = 5_000  # of a photograph: each is compared with each when reviews are merged
MIN_IOU = 0.5  # from which two boxes are about one thing
ROUNDING_PX = 0.5  # coordinates are rounded, and x + width may lie that much outside
MAX_QUOTED = 80  # characters of a refused value that a message repeats
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
ADVICE = "use the file as the page of crackflow.predict offered it"

Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a person said of a part of a photograph.

    Attributes:
        box: x, y, width and height in pixels of the photograph.
        verdict: crack, not_a_crack or unsure.
        source: finding, or drawn: the person marked a crack that the model had missed.
        probability: of the finding, 0..1; None for a drawn box.
        reviewer: name of the person, or "".
        time: of the verdict, as 2026-11-30T15:04:05Z.
    """

    box: Box
    verdict: str
    source: str
    probability: float | None
    reviewer: str
    time: str


@dataclasses.dataclass(frozen=True)
class PhotoReview:
    """The verdicts about one photograph.

    Attributes:
        path: name of the photograph when it was reviewed.
        sha256: of its file, in hexadecimal.
        width: of the photograph in pixels.
        height: of the photograph in pixels.
        looked_through: whether a person said that nothing is cracked but what has a verdict or is a finding.
        verdicts: in the order in which they were written.
    """

    path: str
    sha256: str
    width: int
    height: int
    looked_through: bool
    verdicts: tuple[Verdict, ...]


@dataclasses.dataclass(frozen=True)
class Reviews:
    """The content of a reviews.json.

    Attributes:
        crackflow: the version that wrote it.
        model_sha256: of the model whose findings were reviewed, in hexadecimal.
        reviewer: name of the person, or "".
        photographs: no two with the same SHA-256.
    """

    crackflow: str
    model_sha256: str
    reviewer: str
    photographs: tuple[PhotoReview, ...]


class MergedReviews(NamedTuple):
    """The result of `merge`. `conflicts`: how often two files disagreed about a box."""

    reviews: Reviews
    conflicts: int


class _Rule(NamedTuple):
    """What the value of a key must be. `expected`: the same in words."""

    accepts: Callable[[Any], bool]
    expected: str


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    """Whether `value` is a finite number; Python compares integers of any size, and NaN with nothing."""
    return type(value) in (int, float) and abs(value) <= 1e9


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_side(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_SIDE_PX


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value)) and min(value[2:]) > 0


def _is_time(value: Any) -> bool:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}Z", value):
        return False
    try:
        datetime.datetime.strptime(value, TIME_FORMAT)
    except ValueError:
        return False
    return True


TEXT, DIGEST = _Rule(_is_text, "text"), _Rule(_is_digest, "64 hexadecimal digits in lower case")
SIDE = _Rule(_is_side, f"a whole number from 1 to {MAX_SIDE_PX:,}")
FILE_RULES = {
    "schema_version": _Rule(lambda value: type(value) is int and value == SCHEMA_VERSION, f"{SCHEMA_VERSION}"),
    "crackflow": TEXT,
    "model_sha256": DIGEST,
    "reviewer": TEXT,
    "photographs": _Rule(lambda value: isinstance(value, list), "a list"),
}
PHOTO_RULES = {
    "path": TEXT,
    "sha256": DIGEST,
    "width": SIDE,
    "height": SIDE,
    "looked_through": _Rule(lambda value: isinstance(value, bool), "true or false"),
    "verdicts": _Rule(
        lambda value: isinstance(value, list) and len(value) <= MAX_VERDICTS,
        f"a list of at most {MAX_VERDICTS:,} verdicts",
    ),
}
VERDICT_RULES = {
    "box": _Rule(_is_box, "[x, y, width, height], finite numbers, with width and height above 0"),
    "verdict": _Rule(lambda value: value in VERDICTS, " or ".join(VERDICTS)),
    "source": _Rule(lambda value: value in SOURCES, " or ".join(SOURCES)),
    "probability": _Rule(lambda value: value is None or (_is_number(value) and 0 <= value <= 1), "0 to 1, or null"),
    "reviewer": TEXT,
    "time": _Rule(_is_time, "a time such as 2026-11-30T15:04:05Z"),
}


def read(path: str | os.PathLike) -> Reviews:
    """Reads and checks a reviews.json.

    Raises:
        UserError: the file can't be read, or is not as the page writes it; the message names the key.
    """
    return _parse(os.fspath(path), _read_bytes(os.fspath(path)))


def write(path: str | os.PathLike, reviews: Reviews) -> None:
    """Writes `reviews` to `path`; a reader sees the old file or the new one."""
    atomic.write_text(os.fspath(path), json.dumps(as_dict(reviews), indent=1, allow_nan=False) + "\n")


def as_dict(reviews: Reviews) -> dict:
    """Returns `reviews` as the content of a reviews.json."""
    return json.loads(json.dumps({"schema_version": SCHEMA_VERSION} | dataclasses.asdict(reviews)))


def merge(files: Sequence[Reviews]) -> MergedReviews:
    """Merges reviews of several people, or of several days.

    Where boxes of two files overlap by MIN_IOU or more they are about one thing, and the newest verdict counts. All
    others are joined. A photograph was looked through if one of the files says so.

    Args:
        files: one or more; of verdicts with equal times that of the last file counts.

    Returns:
        The reviews, with the version and the model of the last file, and the number of conflicts.

    Raises:
        UserError: two files give one photograph different sizes.
    """
    photos: dict[str, PhotoReview] = {}
    conflicts = 0
    for file in files:
        for photo in file.photographs:
            earlier = photos.get(photo.sha256)
            if earlier is not None:
                photo, differing = _merge_photos(earlier, photo)
                conflicts += differing
            photos[photo.sha256] = photo
    names = {file.reviewer for file in files}
    reviewer = names.pop() if len(names) == 1 else ""  # each verdict has its own
    reviews = dataclasses.replace(files[-1], reviewer=reviewer, photographs=tuple(photos.values()))
    return MergedReviews(reviews, conflicts)


def match(boxes: Sequence[Box], others: Sequence[Box]) -> list[tuple[int, int]]:
    """Pairs boxes that overlap by MIN_IOU or more, each with at most one, the best pairs first.

    Returns:
        Pairs of an index into `boxes` and one into `others`.
    """
    overlaps = [
        (iou(box, other), -index, -other_index)
        for index, box in enumerate(boxes)
        for other_index, other in enumerate(others)
        if _may_overlap(box, other)
    ]
    pairs: dict[int, int] = {}
    matched_others: set[int] = set()
    for overlap, index, other_index in sorted(overlaps, reverse=True):
        if overlap >= MIN_IOU and -index not in pairs and -other_index not in matched_others:
            pairs[-index] = -other_index
            matched_others.add(-other_index)
    return list(pairs.items())


def iou(box: Box, other: Box) -> float:
    """Returns the area that both boxes cover as a fraction, 0..1, of the area that at least one of them covers."""
    (x, y, width, height), (other_x, other_y, other_width, other_height) = box, other
    shared_width = min(x + width, other_x + other_width) - max(x, other_x)
    shared_height = min(y + height, other_y + other_height) - max(y, other_y)
    if shared_width <= 0 or shared_height <= 0:
        return 0.0
    shared = shared_width * shared_height
    return shared / (width * height + other_width * other_height - shared)


def _may_overlap(box: Box, other: Box) -> bool:
    """Whether the boxes share pixels: most pairs of a photograph do not, and need no IoU."""
    return (
        box[0] < other[0] + other[2]
        and other[0] < box[0] + box[2]
        and box[1] < other[1] + other[3]
        and other[1] < box[1] + box[3]
    )


def _merge_photos(earlier: PhotoReview, later: PhotoReview) -> tuple[PhotoReview, int]:
    """The photograph with the verdicts of both, and the number of conflicts. Raises: UserError."""
    if (earlier.width, earlier.height) != (later.width, later.height):
        raise UserError(
            f"{later.path!r}: expected one size in all reviews, received {earlier.width} x {earlier.height} and "
            f"{later.width} x {later.height} pixels; {ADVICE}"
        )
    verdicts, conflicts = list(earlier.verdicts), 0
    pairs = match([verdict.box for verdict in earlier.verdicts], [verdict.box for verdict in later.verdicts])
    for index, later_index in pairs:
        old, new = earlier.verdicts[index], later.verdicts[later_index]
        conflicts += old.verdict != new.verdict
        if new.time >= old.time:
            verdicts[index] = new
    paired = {later_index for _, later_index in pairs}
    verdicts += [verdict for index, verdict in enumerate(later.verdicts) if index not in paired]
    looked_through = earlier.looked_through or later.looked_through
    return dataclasses.replace(later, looked_through=looked_through, verdicts=tuple(verdicts)), conflicts


def _read_bytes(path: str) -> bytes:
    """The bytes of a regular file of at most MAX_BYTES. Raises: UserError."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            data = file.read(MAX_BYTES + 1) if is_regular else b""
    except OSError as error:
        reason = f"received no readable file ({error.strerror}); check the path"
        raise UserError(f"{path!r}: expected a reviews.json, {reason}") from error
    if not is_regular:
        raise UserError(f"{path!r}: expected a reviews.json, received a device or a pipe; name a file")
    if len(data) > MAX_BYTES:
        raise UserError(
            f"{path!r}: expected a reviews.json of at most {MAX_BYTES >> 20} MiB, received a larger file; {ADVICE}"
        )
    return data


def _open_without_waiting(path: str, flags: int) -> int:
    """Opens a pipe without a writer at once, where the system has such a flag, instead of waiting for one."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _parse(path: str, data: bytes) -> Reviews:
    """The content of a file. Raises: UserError."""
    try:
        content = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path!r}: expected JSON, received something else ({error}); {ADVICE}") from error
    if isinstance(content, dict) and content.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        _refuse(path, "schema_version", f"{SCHEMA_VERSION}", content["schema_version"])
    _check(path, "", content, FILE_RULES)
    photographs = tuple(
        _parse_photo(path, f"photographs[{index}]", fields) for index, fields in enumerate(content["photographs"])
    )
    indices: dict[str, int] = {}
    for index, photo in enumerate(photographs):
        if photo.sha256 in indices:
            expected = f"another than that of photographs[{indices[photo.sha256]}]"
            _refuse(path, f"photographs[{index}].sha256", expected, photo.sha256)
        indices[photo.sha256] = index
    return Reviews(content["crackflow"], content["model_sha256"], content["reviewer"], photographs)


def _parse_photo(path: str, key: str, content: Any) -> PhotoReview:
    _check(path, key, content, PHOTO_RULES)
    verdicts = []
    for index, fields in enumerate(content["verdicts"]):
        verdict_key = f"{key}.verdicts[{index}]"
        _check(path, verdict_key, fields, VERDICT_RULES)
        x, y, width, height = fields["box"]
        is_inside = min(x, y) >= -ROUNDING_PX and x + width <= content["width"] + ROUNDING_PX
        if not is_inside or y + height > content["height"] + ROUNDING_PX:
            expected = f"inside the photograph of {content['width']} x {content['height']} pixels"
            _refuse(path, f"{verdict_key}.box", expected, fields["box"])
        box = (float(x), float(y), float(width), float(height))
        verdicts.append(Verdict(**fields | {"box": box}))
    return PhotoReview(**content | {"verdicts": tuple(verdicts)})


def _check(path: str, key: str, content: Any, rules: Mapping[str, _Rule]) -> None:
    """Raises: UserError unless `content` is an object with exactly the keys of `rules` and values that they accept."""
    if not isinstance(content, dict) or set(content) != set(rules):
        received = sorted(content) if isinstance(content, dict) else content
        _refuse(path, key or "the content", f"an object with the keys {', '.join(rules)}", received)
    for name, rule in rules.items():
        if not rule.accepts(content[name]):
            _refuse(path, f"{key}.{name}".lstrip("."), rule.expected, content[name])


def _refuse(path: str, key: str, expected: str, received: Any) -> NoReturn:
    text = json.dumps(received)
    text = text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."
    raise UserError(f"{path!r}: expected {key} to be {expected}, received {text}; {ADVICE}")


def _refuse_constant(name: str) -> NoReturn:
    """Raises: ValueError for NaN and Infinity, which Python's JSON takes and no other does."""
    raise ValueError(f"{name} is no JSON")
