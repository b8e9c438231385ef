"""A dataset on disk: `dataset.json` and the files beside it.

Synopsis::

    dataset = dataset_io.load("data/metu")              # a Dataset; UserError when there is none
    dataset.count("train"), dataset.files("train")      # 8000, [".../train-00000-of-00032.tfrecord", ...]

dataset.json      describes the content, with a SHA-256 of each file
groups.csv        path,label,group,split: every accepted image once
rejected.csv      path,reason: every file that was left out
manifest.csv      shard,record,offset,label,sha256,path,cells: where each source image lies, the hash of its file, and
                  where in it the crack is; one line for each time that an image was written
"""

import dataclasses
import hashlib
import json
import os

from crackflow.core import atomic, checked_json, json_schema
from crackflow.core.config.data import Encoding
from crackflow.core.errors import UserError
from crackflow.data import splits

VERSION = 1  # of the records; it is part of the fingerprint, and schema_version is not
MAX_PX, CHANNELS = 65_500, (1, 3)  # no side of a JPEG can be longer
DATASET, GROUPS, REJECTED, MANIFEST = json_schema.DATASET, "groups.csv", "rejected.csv", "manifest.csv"
JOINED = "joined"  # the layout of a dataset that was joined from others
REQUIRED = ("version", "classes", "positive_class", "image_px", "channels", "encoding", "splits", "fingerprint")


class DatasetCorruptedError(UserError):
    """dataset.json is not as crackflow.convert writes it."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The dataset in `folder`; `metadata` is the content of its dataset.json."""

    folder: str
    metadata: dict

    @property
    def classes(self) -> tuple[str, str]:
        """The names of the clean and of the cracked class."""
        return tuple(self.metadata["classes"])

    @property
    def image_px(self) -> int:
        """Side of its square images, in pixels; 0 when they differ."""
        return self.metadata["image_px"]

    @property
    def source_px(self) -> int:
        """The side of the source images before they were stored, in pixels.

        For tiles it is the side with which they were cut. It is the median where the sides differ, and 0 where it is
        unknown.
        """
        return self.metadata.get("source_px", self.image_px)

    def count(self, split: str) -> int:
        """Returns the number of images in `split`."""
        return self.metadata["splits"][split]["count"]

    def describe_count(self, split: str) -> str:
        """Returns the number of images in words. Images that were joined several times count each time, and once."""
        count, different = self.count(split), self.metadata["splits"][split].get("different")
        return f"{count:,} images" + (f" ({different:,} different ones)" if different else "")

    def require_images(self, split: str) -> None:
        """Raises: UserError when `split` has no images."""
        if split not in self.metadata["splits"] or not self.count(split):
            raise UserError(
                f"{self.folder!r}: expected images in the split {split!r}, found none; convert with another --split"
            )

    def files(self, split: str) -> list[str]:
        """Returns the paths of the shards of `split`."""
        return [os.path.join(self.folder, shard["file"]) for shard in self.metadata["splits"][split]["shards"]]


def load(folder: str) -> Dataset:
    """Loads the dataset in `folder`.

    Raises:
        UserError: when there is none, or it has another version, or lacks files.
    """
    dataset = read(folder)
    for name in dataset.metadata["splits"]:
        for file in dataset.files(name):
            if not os.path.exists(file):
                raise UserError(f"{file!r} is missing; restore it or convert the images again")
    return dataset


def read(folder: str) -> Dataset:
    """Loads the dataset in `folder` without checking that its shards exist: `verify` names those that are missing.

    Raises:
        UserError: when there is no dataset, or it has another version.
        DatasetCorruptedError: when dataset.json is not as it was written.
    """
    path = os.path.join(folder, DATASET)
    try:
        with open(path, encoding="utf-8") as file:
            metadata = json.load(file)
    except OSError as error:
        raise UserError(
            f"expected a dataset made by crackflow.convert, found no {DATASET} in {folder!r} ({error.strerror}); "
            "make one with: python -m crackflow.convert --images=... --out=..."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DatasetCorruptedError(f"{path!r} is damaged ({error}); convert the images again") from error
    missing = [key for key in REQUIRED if not isinstance(metadata, dict) or key not in metadata]
    if missing:
        raise DatasetCorruptedError(f"{path!r} lacks {', '.join(missing)}; convert the images again")
    if metadata["version"] != VERSION:
        raise UserError(f"{path!r} is of version {metadata['version']}, expected {VERSION}; convert the images again")
    json_schema.require_known(DATASET, metadata, path)
    if not _is_well_formed(metadata):
        raise DatasetCorruptedError(
            f"{path!r} is damaged (it is not as crackflow.convert writes it); convert the images again"
        )
    try:
        return Dataset(folder, checked_json.strip_checksum(metadata))
    except ValueError as error:
        raise DatasetCorruptedError(f"{path!r} is damaged ({error}); convert the images again") from error


def _is_well_formed(metadata: dict) -> bool:
    """Whether every value that is used has its type, so that a damaged file leads to one clear error."""
    try:
        shards = [shard for name in splits.NAMES for shard in metadata["splits"][name]["shards"]]
        numbers = [
            metadata["image_px"],
            metadata["channels"],
            *(metadata["splits"][name]["count"] for name in splits.NAMES),
        ]
        numbers += [number for name in splits.NAMES for number in metadata["splits"][name]["class_counts"].values()]
        numbers += [metadata.get("source_px", 0)]
        numbers += [metadata["splits"][name].get("different", 0) for name in splits.NAMES]
        numbers += [shard[key] for shard in shards for key in ("count", "bytes")]
        texts = [*metadata["classes"], *(metadata[key] for key in ("positive_class", "encoding", "fingerprint"))]
        texts += [shard[key] for shard in shards for key in ("file", "sha256")]
        texts += [text for table in metadata.get("tables", {}).items() for text in table]
        parts = [(metadata["splits"][name]["count"], metadata["splits"][name]["shards"]) for name in splits.NAMES]
        files = [shard["file"] for shard in shards] + list(metadata.get("tables", {}))
    except (KeyError, TypeError, AttributeError):
        return False
    whole = set(metadata["splits"]) == set(splits.NAMES) and len(metadata["classes"]) == 2
    whole = whole and metadata["classes"][1] == metadata["positive_class"]
    whole = (
        whole
        and all(type(number) is int and number >= 0 for number in numbers)
        and all(type(text) is str for text in texts)
    )
    whole = whole and metadata["image_px"] <= MAX_PX and metadata["channels"] in CHANNELS
    whole = whole and metadata["encoding"] in {encoding.value for encoding in Encoding}
    return (
        whole
        and all(count == sum(shard["count"] for shard in shards) for count, shards in parts)
        and all(map(_is_plain_name, files))
    )


def _is_plain_name(name: str) -> bool:
    """Whether `name` names a file in the folder itself, on every system."""
    return name not in ("", os.curdir, os.pardir) and not set(name) & set("/\\:\0")


def save(folder: str, metadata: dict) -> None:
    """Writes dataset.json. It is the last file to be written: without it the folder is no dataset."""
    atomic.write_text(
        os.path.join(folder, DATASET),
        json.dumps(checked_json.add_checksum(json_schema.with_version(DATASET, metadata)), indent=1) + "\n",
    )


def fingerprint(metadata: dict) -> str:
    """Returns the SHA-256 of the records' content.

    Equal data have equal fingerprints, wherever and whenever they were converted.
    """
    essence = {key: metadata[key] for key in ("version", "classes", "encoding", "channels", "image_px")}
    shards = {name: [shard["sha256"] for shard in split["shards"]] for name, split in metadata["splits"].items()}
    return hashlib.sha256(json.dumps([essence, shards], sort_keys=True).encode()).hexdigest()
