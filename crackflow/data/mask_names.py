"""Which mask belongs to which picture, by their names.

Synopsis::

    masks = mask_names.MaskIndex(["1_mask.png", "sub/2.png"])
    masks.find("1.jpg")         # "1_mask.png"
    masks.find("3.jpg")         # raises LookupError: "no mask of the same name"
    masks.loosely               # 1: how many were found by a name that differs

The same name without its ending is taken first; then, where one mask alone fits, a name that differs in capitals, in
a word such as _mask or gt_ before or after, or in the picture's own ending kept before the mask's (1.jpg.png).
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
    """`paths`: of masks, relative to their folder. `loosely`: how many were found by a name that differs."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.loosely = 0
        self._exact: dict[str, str] = {}
        self._loose: dict[str, list[str]] = collections.defaultdict(list)
        for path in sorted(paths):
            stem = os.path.splitext(path)[0]
            self._exact.setdefault(stem, path)
            self._loose[_key(stem, WORDS)].append(path)

    def find(self, path: str) -> str:
        """The mask of the picture `path`, relative to its own folder. Raises: LookupError with the reason."""
        stem = os.path.splitext(path)[0]
        if stem in self._exact:
            return self._exact[stem]
        for key in (_key(stem, ""), _key(stem, IMAGE_WORDS)):
            fitting = self._loose.get(key, [])
            if len(fitting) > 1:
                raise LookupError(f"several masks of its name: {fitting[0]!r}, {fitting[1]!r}")
            if fitting:
                self.loosely += 1
                return fitting[0]
        raise LookupError("no mask of the same name")


def _key(stem: str, words: str) -> str:
    """`stem` in small letters and without an ending and one of `words` around its last part."""
    folder, name = os.path.split(re.sub(ENDINGS, "", stem.lower()))
    if words:
        name = re.sub(rf"(?<=.)[-_. ]+(?:{words})$", "", name)
        name = re.sub(rf"^(?:{words})[-_. ]+(?=.)", "", name)
    return os.path.join(folder, name)
