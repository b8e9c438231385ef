"""Recognise windows of one photograph by their file names, so that they stay in one split.

Synopsis::

    grouped(files, layout, notes)       # {"files": [...], "notes": Counter}: `source` is the photograph
    windows_of(["7001-1.jpg", "7001-2.jpg", "7002-1.jpg", "7002-2.jpg"], labels=[1, 0, 1, 0])
    # {"7001-1.jpg": "7001", ...}

The name of a window is the name of its photograph with a suffix. There are three kinds of suffix. Named: a word such
as tile or patch with numbers (wall3_tile_12), coordinates with their letters (wall3_x0_y256), Roboflow's copies
(wall3_jpg.rf.8c1f...). Numbered: one to four bare numbers (7001-115, IMG_0034_0_256), if the name of the photograph
contains a digit itself and the same numbers recur with other photographs, as rows and columns do, or are written
without leading zeros. Lettered: one letter after a number (DSC00674b), if letters recur.

Numbers of photographs must not be mistaken for numbers of windows: 00001, IMG_0034 and DJI_0034 have no prefix that
distinguishes photographs; 100_0034 is the folder and number of a camera; dates and times count as one word;
Positive_0034 and 1_00034 name the class. Mistaking windows for photographs invalidates the test split; the opposite
mistake only merges some groups. If names allow both readings, they are taken as windows; `--group_by_name=false`
disables this.
"""

import collections
import dataclasses
import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from crackflow.conversion import folder_names
from crackflow.core.config.data import Layout

MIN_RECURRING = 0.5  # fraction of windows whose numbers must recur with another photograph
MAX_NAMES = 0.9
MAX_WINDOWS = 4096  # of one photograph: 50 megapixels in windows of 110
MAX_NUMBERS = 4  # left, top, right, bottom

_WORDS = (
    "tiles?|patch(?:es)?|windows?|win|crop(?:ped)?s?|parts?|pieces?|sub(?:[-_ ]?(?:image|img))?s?|blocks?|chips?|"
    "slices?|segments?|seg|sections?|regions?|roi|cells?|grid|cuts?|frames?|aug(?:mented)?|copy"
)
_NAMED = re.compile(rf"(.+?)[-_. ]*(?<![a-z])(?:{_WORDS})[-_. (#]*\d+(?:[-_,.x ]+(?:of[-_ ]?)?\d+)*\)?", re.I)
_AXES = "xmin|ymin|xmax|ymax|rows?|cols?|columns?|width|height|left|right|top|bottom|size|x|y|r|c|i|j|w|h|z"
_PREFIXED = re.compile(rf"(?:{_WORDS})[-_. (#]*\d+(?:[-_,.x ]+\d+)*\)?[-_. ]+(.*(?:[a-z]|\d{{4}}).*)", re.I)
_COORDINATES = re.compile(rf"(.+?)[-_. ,(\[#]+(?:xywh=[\d,]+|(?:(?:{_AXES})[-_= ]?\d+[-_,. )\]]*){{2,}})", re.I)
_ROBOFLOW = re.compile(r"(.+?)[._](?:jpe?g|png|bmp|tiff?|webp)\.rf\.[0-9a-z]{6,}", re.I)
_LETTERED = re.compile(r"(.*\d)([-_ ]?)([a-z]\d*)", re.I)
_TRAILING = re.compile(r"(.*?)((?:[-_. ,(#+~]+\d+|(?<=\d)x\d+)+)\)?", re.I | re.S)
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATE = rf"(?:{_YEAR}[-_.]?{_MONTH}[-_.]?{_DAY}|{_DAY}[-_.]{_MONTH}[-_.]{_YEAR})"
_TIME = r"(?:[01]\d|2[0-3])[-_.h: ]?[0-5]\d(?:[-_.m: ]?[0-5]\d)(?:\.?\d{3}(?!\d))?"
_TIMESTAMP = re.compile(rf"(?<!\d){_DATE}(?:(?:[-_. T]|,| at )+{_TIME}(?!\d)|{_TIME}(?!\d))?(?!\d)", re.I)
_DAY_ALONE = re.compile(r"@\d{8}$")  # the form that `_stem` writes
_GENERIC = {
    "image",
    "images",
    "img",
    "photo",
    "picture",
    "pic",
    "sample",
    "data",
    "dataset",
    "file",
    "frame",
    "dsc",
    "dji",
}


class _Name(NamedTuple):
    """A file name, split into `photograph` and the `window` suffix that identifies it."""

    photograph: str
    window: str


def grouped(files: Sequence, layout: Layout, notes: collections.Counter) -> dict:
    """Sets the source of files whose names identify their photograph.

    Args:
        files: `layouts.SourceFile` objects; those of SDNET2018 already have their sources.
        layout: The layout of the files.
        notes: Number of files for each remark.

    Returns:
        {"files": the files with their sources, "notes": `notes` with a remark on the sources}.
    """
    if layout is not Layout.SDNET:
        photograph_of = windows_of([file.path for file in files], [file.label for file in files])
        files = [dataclasses.replace(file, source=photograph_of.get(file.path, file.source)) for file in files]
    sizes = collections.Counter(file.source for file in files)
    windows = [file for file in files if sizes[file.source] > 1]
    if windows:
        example_file = next((file for file in windows if _stem(file.path) != os.path.basename(file.source)), windows[0])
        example, photograph = example_file.path, os.path.basename(example_file.source).replace("@", "")
        note = (
            f"named as windows of {len({file.source for file in windows}):,} photographs (such as {example!r} of "
            f"{photograph!r}), those of one stay in one split; --group_by_name=false undoes it"
        )
        notes = notes + collections.Counter({note: len(windows)})
    elif photograph := only_photograph([file.path for file in files]).replace("@", ""):
        note = f"named as windows of one photograph, {photograph!r}: if they are, every split shows the same place"
        notes = notes + collections.Counter({note: len(files)})
    return {"files": list(files), "notes": notes}


def only_photograph(paths: Sequence[str]) -> str:
    """Returns the photograph of which nearly all files seem to be windows; empty if there is none."""
    stems = {path: _stem(path) for path in paths}
    for family in _families(stems):
        windows = collections.defaultdict(set)
        for photograph, window in family.names.values():
            windows[photograph].add(window)
        photograph, own = max(windows.items(), key=lambda item: len(item[1]), default=("", set()))
        is_identified = not family.needs_evidence or _has_evidence({photograph: own})
        if len(own) >= max(MAX_NAMES * len(paths), 4) and is_identified and not _is_general(photograph):
            return photograph
    return ""


def windows_of(paths: Sequence[str], labels: Sequence[int]) -> dict[str, str]:
    """Finds files that are windows of the same photograph.

    Args:
        paths: Of all files.
        labels: Of all files: 0, 1 or -1 (unknown).

    Returns:
        Path -> name of its photograph, for files that share one with another file.
    """
    label_of = dict(zip(paths, labels, strict=True))
    stems = {path: _stem(path) for path in paths}
    photograph_of: dict[str, str] = {}
    for family in _families(stems):
        names = {path: name for path, name in family.names.items() if path not in photograph_of}
        accepted = _accept_photographs(names, label_of, stems, family.needs_evidence)
        photograph_of |= {path: names[path].photograph for path in names if names[path].photograph in accepted}
    whole = {(os.path.dirname(path), photograph) for path, photograph in photograph_of.items()}
    photograph_of |= {
        path: stem
        for path, stem in stems.items()
        if path not in photograph_of
        and ((os.path.dirname(path), stem) in whole or _ROBOFLOW.fullmatch(os.path.splitext(os.path.basename(path))[0]))
    }
    return _prefix_folders(photograph_of, label_of)


def _stem(path: str) -> str:
    stem = _strip_roboflow_mark(path)
    return _TIMESTAMP.sub(lambda timestamp: f"@{re.sub(r'[^0-9]', '', timestamp[0])}", stem)


def _strip_roboflow_mark(path: str) -> str:
    """The name without its extension, and without the suffix by which Roboflow distinguishes copies of an image."""
    stem = os.path.splitext(os.path.basename(path))[0]
    marked = _ROBOFLOW.fullmatch(stem)
    return marked[1] if marked else stem


class _Family(NamedTuple):
    """Names of one pattern, by path. `needs_evidence`: the pattern alone does not show that they are windows."""

    names: dict[str, _Name]
    needs_evidence: bool


def _families(stems: dict[str, str]) -> Iterable[_Family]:
    """Yields families from the most to the least certain; of bare numbers the longest tail first."""
    for pattern in (_NAMED, _PREFIXED, _COORDINATES):
        yield _Family(_match_names(stems, pattern), needs_evidence=False)
    trailing = {path: match for path, stem in stems.items() if (match := _TRAILING.fullmatch(stem))}
    for count in range(MAX_NUMBERS, 0, -1):
        manners = collections.defaultdict(dict)
        for path, match in trailing.items():
            if split := _split_tail(match, count):
                manner, name = split
                manners[manner][path] = name
        yield from (_Family(names, needs_evidence=True) for names in manners.values())
    manners = collections.defaultdict(dict)
    for path, stem in stems.items():
        match = _LETTERED.fullmatch(stem)
        if match and not _DAY_ALONE.search(match[1]):
            photograph, between, window = match.groups()
            manner = between, window[0] if len(window) > 1 else window.isupper()
            manners[manner][path] = _Name(photograph, window[1:] or window)
    yield from (_Family(names, needs_evidence=True) for names in manners.values())


def _match_names(stems: dict[str, str], pattern: re.Pattern) -> dict[str, _Name]:
    # A name without letters cannot match, and matching it would take as long as everything else.
    matches = {path: pattern.fullmatch(stem) for path, stem in stems.items() if stem.upper() != stem.lower()}
    return {
        path: _Name(match[1].rstrip("-_. ("), stems[path].replace(match[1], "", 1))
        for path, match in matches.items()
        if match
    }


def _split_tail(match: re.Match, count: int) -> tuple[str, _Name] | None:
    """(separators, name) of a stem that ends in `count` numbers; None if the rest does not name a photograph."""
    tail = re.findall(r"([^\d]+)(\d+)", match[2])
    if len(tail) < count:
        return None
    window = tail[len(tail) - count :]
    photograph = match[1] + "".join(a + b for a, b in tail[: len(tail) - count])
    is_identified = count > 1 or re.search(r"\d", photograph)
    if not photograph or not is_identified or _DAY_ALONE.search(photograph):  # a day is no photograph
        return None
    return "".join(a for a, _ in window), _Name(photograph, " ".join(b for _, b in window))


def _accept_photographs(
    names: dict[str, _Name], label_of: dict[str, int], stems: dict[str, str], needs_evidence: bool
) -> set[str]:
    """The photographs whose windows among `names` are accepted as such."""
    # The photograph may lie beside its windows. One in another folder does not count: METU numbers both classes alike.
    beside = {(os.path.dirname(path), stem) for path, stem in stems.items()}
    windows, labels = collections.defaultdict(set), collections.defaultdict(set)
    for path, (photograph, window) in names.items():
        windows[photograph].add(window)
        if (os.path.dirname(path), photograph) in beside:
            windows[photograph].add("")
        labels[photograph].add(label_of[path])
    several = {
        photograph
        for photograph, own_windows in windows.items()
        if len(own_windows) > 1 and not _is_general(photograph)
    }
    if not several or any(len(windows[photograph]) > MAX_WINDOWS for photograph in several):
        return set()
    if len(several) == 1:  # forty photographs, one of them tiled; of nearly all files, `only_photograph` speaks
        (photograph,) = several
        is_certain = not needs_evidence or _is_grid(windows[photograph] - {""})
        is_certain = is_certain and re.search(r"\d", photograph) is not None  # "ok_tile_7": any word may name a class
        return several if is_certain and len(windows[photograph]) < MAX_NAMES * len(stems) else set()
    if _are_class_names({photograph: labels[photograph] for photograph in several}):
        return set()
    if needs_evidence and not _has_evidence({photograph: windows[photograph] - {""} for photograph in several}):
        return set()
    return several


def _are_class_names(labels: dict[str, set[int]]) -> bool:
    """Whether two names of at most one digit stand for the two classes: 1_0034 and 0_0034."""
    short = all(len(re.sub(r"\D", "", photograph)) <= 1 for photograph in labels)
    return short and sorted(map(sorted, labels.values())) == [[0], [1]]


def _is_general(photograph: str) -> bool:
    """Whether a name without a digit fits any image: the name of a class, or what cameras and programs write."""
    if re.search(r"\d", photograph):
        return False
    plain = re.sub(r"[\W_]", "", photograph.lower())
    return folder_names.label(photograph) is not None or plain in _GENERIC or not plain


def _has_evidence(windows: dict[str, set[str]]) -> bool:
    """Whether the suffixes number windows: they recur with another photograph, or have no leading zeros.

    Cameras write leading zeros.
    """
    all_windows = [window for own_windows in windows.values() for window in own_windows]
    if _are_camera_names(list(windows), all_windows):
        return False
    counts = collections.Counter(all_windows)
    recurring = sum(counts[window] > 1 for window in all_windows) >= MIN_RECURRING * len(all_windows)
    numbers = [number for window in all_windows for number in window.split() if number.isdecimal()]
    bare = len({len(number) for number in numbers}) > 1 and not any(len(n) > 1 and n[0] == "0" for n in numbers)
    return recurring or (bare and all(int(number) <= MAX_WINDOWS for number in numbers))


def _is_grid(windows: set[str]) -> bool:
    """Whether suffixes of two numbers are rows and columns: 0_0, 0_256, 256_0, 256_256."""
    places = {tuple(window.split()) for window in windows}
    if len(places) < 4 or any(len(numbers) != 2 for numbers in places):
        return False
    rows, columns = (len({numbers[axis] for numbers in places}) for axis in (0, 1))
    return min(rows, columns) > 1 and 2 * len(places) > rows * columns


def _are_camera_names(photographs: Sequence[str], windows: Sequence[str]) -> bool:
    """Whether names are the folder and number of a camera, as 100_0034 (DCF: three and four digits)."""
    return all(re.fullmatch(r"[1-9]\d\d", name) for name in photographs) and all(
        re.fullmatch(r"\d{4}", name) for name in windows
    )


def _prefix_folders(photograph_of: dict[str, str], label_of: dict[str, int]) -> dict[str, str]:
    """Prefixes a photograph's name with its folder if it stands for several photographs in several folders.

    This is so if two files of one class have the same name.
    """
    names = collections.Counter((label_of[path], os.path.basename(path)) for path in photograph_of)
    twice = {photograph_of[path] for path in photograph_of if names[label_of[path], os.path.basename(path)] > 1}
    return {
        path: os.path.join(_folder(path), photograph) if photograph in twice else photograph
        for path, photograph in photograph_of.items()
    }


def _folder(path: str) -> str:
    """The folder of a file, without the parts that name classes."""
    parts = os.path.dirname(path).split("/")
    return os.path.join("", *(part for part in parts if folder_names.label(part) is None))
