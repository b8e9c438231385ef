"""Matching of masks to images by their names.

Synopsis::

    masks = mask_names.MaskIndex(["1_mask.png", "sub/2.png"])
    masks.find("1.jpg")         # "1_mask.png"
    masks.find("3.jpg")         # raises LookupError: "no mask of the same name"
    masks.loosely               # 1: how many were matched by a name that differs

A mask of the same name without the extension is preferred. Otherwise, where exactly one mask matches, its name may
differ in capitals, in a word such as _mask or gt_ before or after it, or in the image's own extension before the mask's
(1.jpg.png).
"""

import collections
import os
import re
from collections.abc import Iterable

WORDS = (
    "masks?|labels?|gt|ground[-_ ]?truth|seg(?:mentation)?s?|annotations?|annot|anno|bw|binary|target|mask[-_]crack|"
    "crack[-_]?mask|label[-_]?ids?"
)
IMAGE_WORDS = "images?|img|photo|picture|pic|rgb|orig(?:inal)?|input|sat"
ENDINGS = r"\.(?:jpe?g|png|bmp|tiff?|webp)$"


class MaskIndex:
    """An index of masks. `paths`: relative to their folder. `loosely`: how many were matched by a name that differs."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.loosely = 0
        self._exact: dict[str, str] = {}
        self._loose: dict[str, list[str]] = collections.defaultdict(list)
        for path in sorted(paths):
            stem = os.path.splitext(path)[0]
            self._exact.setdefault(stem, path)
            self._loose[_normalize_stem(stem, WORDS)].append(path)

    def find(self, path: str) -> str:
        """Returns the mask of the image `path`, relative to its own folder. Raises: LookupError with the reason."""
        stem = os.path.splitext(path)[0]
        if stem in self._exact:
            return self._exact[stem]
        for key in (_normalize_stem(stem, ""), _normalize_stem(stem, IMAGE_WORDS)):
            fitting = self._loose.get(key, [])
            if len(fitting) > 1:
                raise LookupError(f"several masks of its name: {fitting[0]!r}, {fitting[1]!r}")
            if fitting:
                self.loosely += 1
                return fitting[0]
        raise LookupError("no mask of the same name")


def stem_of_picture(path: str) -> str:
    """The path of the picture, without its ending and in lower case, whose mask `path` is by its name, as 1_mask.png is
    that of 1.jpg; "" if its name says nothing of a mask."""
    stem, own = _normalize_stem(os.path.splitext(path)[0], WORDS), os.path.splitext(path)[0].lower()
    return stem if os.path.basename(stem) != os.path.basename(own) else ""


def _normalize_stem(stem: str, words: str) -> str:
    """Returns `stem` in lower case, without an image extension and without one of `words` around its last part."""
    folder, name = os.path.split(re.sub(ENDINGS, "", stem.lower()))
    if words:
        name = re.sub(rf"(?<=.)[-_. ]+(?:{words})$", "", name)
        name = re.sub(rf"^(?:{words})[-_. ]+(?=.)", "", name)
    return os.path.join(folder, name)
