"""A data set on disk: `dataset.json` and the files beside it.

Synopsis::

    made = dataset.load("data/metu")                # a Dataset; UserError when there is none
    made.count("train"), made.files("train")        # 8000, [".../train-00000-of-00032.tfrecord", ...]

dataset.json      what is inside, a SHA-256 for each file
groups.csv        path,label,group,split: every accepted image once
rejected.csv      path,reason: every file that was left out
manifest.csv      shard,record,offset,label,sha256,path,cells: where each source image lies, the hash of its file, and
                  where in it the crack is; a line for each time that an image was written
"""

import dataclasses
import hashlib
import json
import os

from crackflow.core import atomic, checked_json
from crackflow.core.config.data import Encoding
from crackflow.core.errors import UserError
from crackflow.data import splits

VERSION = 1
MAX_PX, CHANNELS = 65_500, (1, 3)  # a JPEG has no longer side
DATASET, GROUPS, REJECTED, MANIFEST = "dataset.json", "groups.csv", "rejected.csv", "manifest.csv"
JOINED = "joined"  # the layout of a set that was put together of others
REQUIRED = ("version", "classes", "positive_class", "image_px", "channels", "encoding", "splits", "fingerprint")


class DatasetCorruptedError(UserError):
    """dataset.json is not as crackflow.convert writes it."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set that was found at `folder`; `facts` is its dataset.json."""

    folder: str
    facts: dict

    @property
    def classes(self) -> tuple[str, str]:
        return tuple(self.facts["classes"])

    @property
    def image_px(self) -> int:
        """Side of its square images, in pixels; 0 when they differ."""
        return self.facts["image_px"]

    @property
    def source_px(self) -> int:
        """Side that photographs had before they were stored, in pixels: of a window, where they were cut; the median
        where they differ; 0 when nothing tells."""
        return self.facts.get("source_px", self.image_px)

    def count(self, split: str) -> int:
        return self.facts["splits"][split]["count"]

    def describe_count(self, split: str) -> str:
        """How many images, in words; those that were joined several times are counted each time, and once."""
        count, different = self.count(split), self.facts["splits"][split].get("different")
        return f"{count:,} images" + (f" ({different:,} different ones)" if different else "")

    def expect_images(self, split: str) -> None:
        """Raises: UserError when `split` has none."""
        if split not in self.facts["splits"] or not self.count(split):
            raise UserError(
                f"{self.folder!r}: expected images in the split {split!r}, found none; convert with another --split"
            )

    def files(self, split: str) -> list[str]:
        return [os.path.join(self.folder, shard["file"]) for shard in self.facts["splits"][split]["shards"]]


def load(folder: str) -> Dataset:
    """The data set in `folder`. Raises: UserError when there is none, or it is of another version, or incomplete."""
    found = read(folder)
    for name in found.facts["splits"]:
        for file in found.files(name):
            if not os.path.exists(file):
                raise UserError(f"{file!r} is missing; restore it or convert the images again")
    return found


def read(folder: str) -> Dataset:
    """As `load`, without a look at the shards: `verify` names those that are missing. Raises: DatasetCorruptedError
    when dataset.json is not as it was written."""
    path = os.path.join(folder, DATASET)
    try:
        with open(path, encoding="utf-8") as file:
            facts = json.load(file)
    except OSError as error:
        raise UserError(
            f"expected a data set made by crackflow.convert, found no {DATASET} in {folder!r} ({error.strerror}); "
            "make one with: python -m crackflow.convert --images=... --out=..."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DatasetCorruptedError(f"{path!r} is damaged ({error}); convert the images again") from error
    missing = [key for key in REQUIRED if not isinstance(facts, dict) or key not in facts]
    if missing:
        raise DatasetCorruptedError(f"{path!r} lacks {', '.join(missing)}; convert the images again")
    if facts["version"] != VERSION:
        raise UserError(f"{path!r} is of version {facts['version']}, expected {VERSION}; convert the images again")
    if not _is_well_formed(facts):
        raise DatasetCorruptedError(
            f"{path!r} is damaged (it is not as crackflow.convert writes it); convert the images again"
        )
    try:
        return Dataset(folder, checked_json.strip_checksum(facts))
    except ValueError as error:
        raise DatasetCorruptedError(f"{path!r} is damaged ({error}); convert the images again") from error


def _is_well_formed(facts: dict) -> bool:
    """Whether every value that is used has its kind, so that a damaged file is one clear error."""
    try:
        shards = [shard for name in splits.NAMES for shard in facts["splits"][name]["shards"]]
        numbers = [facts["image_px"], facts["channels"], *(facts["splits"][name]["count"] for name in splits.NAMES)]
        numbers += [number for name in splits.NAMES for number in facts["splits"][name]["class_counts"].values()]
        numbers += [facts.get("source_px", 0)]
        numbers += [facts["splits"][name].get("different", 0) for name in splits.NAMES]
        numbers += [shard[key] for shard in shards for key in ("count", "bytes")]
        texts = [*facts["classes"], *(facts[key] for key in ("positive_class", "encoding", "fingerprint"))]
        texts += [shard[key] for shard in shards for key in ("file", "sha256")]
        texts += [one for table in facts.get("tables", {}).items() for one in table]
        parts = [(facts["splits"][name]["count"], facts["splits"][name]["shards"]) for name in splits.NAMES]
        files = [shard["file"] for shard in shards] + list(facts.get("tables", {}))
    except (KeyError, TypeError, AttributeError):
        return False
    whole = set(facts["splits"]) == set(splits.NAMES) and len(facts["classes"]) == 2
    whole = whole and facts["classes"][1] == facts["positive_class"]
    whole = whole and all(type(one) is int and one >= 0 for one in numbers) and all(type(one) is str for one in texts)
    whole = whole and facts["image_px"] <= MAX_PX and facts["channels"] in CHANNELS
    whole = whole and facts["encoding"] in {one.value for one in Encoding}
    return (
        whole
        and all(count == sum(shard["count"] for shard in shards) for count, shards in parts)
        and all(map(_is_plain_name, files))
    )


def _is_plain_name(name: str) -> bool:
    """Whether `name` is that of a file in the folder itself, on every system."""
    return name not in ("", os.curdir, os.pardir) and not set(name) & set("/\\:\0")


def save(folder: str, facts: dict) -> None:
    """dataset.json, last of all files: without it the folder is no data set."""
    atomic.write_text(
        os.path.join(folder, DATASET), json.dumps(checked_json.add_checksum(facts), indent=1, ensure_ascii=True) + "\n"
    )


def fingerprint(facts: dict) -> str:
    """SHA-256 of what the records hold: equal for equal data, wherever and whenever they were converted."""
    essence = {key: facts[key] for key in ("version", "classes", "encoding", "channels", "image_px")}
    shards = {name: [shard["sha256"] for shard in split["shards"]] for name, split in facts["splits"].items()}
    return hashlib.sha256(json.dumps([essence, shards], sort_keys=True).encode()).hexdigest()
