"""Join several datasets into one; every image keeps its split.

Synopsis::

    facts = join.merge_datasets([dataset.load("data/metu"), dataset.load("data/made")], (3, 1), stage, pool, 4, advance)

The records are rewritten: each path is prefixed with the name of its dataset, and group numbers are offset, so that the
datasets cannot be confused. Datasets may have different class names; the joined dataset has those of the first. An
image that shows the same as a validation or test image of another dataset is left out and listed in rejected.csv. The
training images of a dataset with more weight are written several times, so that no reader needs to know about it.
"""

import collections
import concurrent.futures
import csv
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from crackflow.conversion import near_duplicates, summary
from crackflow.conversion.shards import Shard
from crackflow.core import console, csv_files, errors, json_schema, process_pool
from crackflow.core.config.data import Encoding
from crackflow.core.errors import UserError
from crackflow.data import dataset as dataset_io
from crackflow.data import image_file, records, splits, thumbnail
from crackflow.data.dataset import Dataset
from crackflow.version import __version__

MUST_MATCH = ("encoding", "channels")


def repeat_count(split: str, repeat: int) -> int:
    """Returns how often images of `split` are written if training images are written `repeat` times."""
    return repeat if split == "train" else 1


def merge_datasets(
    parts: Sequence[Dataset],
    repeat: Sequence[int],
    stage: str,
    pool: concurrent.futures.Executor,
    ahead: int,
    advance: Callable[[int], None],
) -> dict:
    """Writes the joined dataset to the folder `stage`, except for its dataset.json.

    Args:
        parts: The datasets to join.
        repeat: How often the training images of each of `parts` are written.
        stage: The folder to write to.
        pool: Worker processes that compute the signatures of all images first.
        ahead: Number of shards submitted to `pool` ahead of their results.
        advance: Called with the number of images that were written since the last call.

    Returns:
        The content of dataset.json.

    Raises:
        UserError: The datasets differ in encoding or channels, or raw ones in size; one file is in two splits, or in
            the validation or test splits of two datasets; or a dataset is damaged.
    """
    _require_same_format(parts)
    members = list(_open_members(parts, repeat))
    _require_disjoint(members)
    left_out = _leave_out_copies(members, pool, ahead)
    rows = [row for member in members for row in member.rows()]
    written = []
    for split in splits.NAMES:
        shards = [(member, shard) for member in members for shard in member.shards(split)]
        for number, (member, shard) in enumerate(shards):
            target = f"{split}-{number:05d}-of-{len(shards):05d}.tfrecord"
            written.append(member.copy_shard(shard, stage, split, target))
            advance(shard["count"])
    checksums = {
        dataset_io.GROUPS: csv_files.save(os.path.join(stage, dataset_io.GROUPS), summary.GROUP_COLUMNS, sorted(rows)),
        dataset_io.REJECTED: csv_files.save(
            os.path.join(stage, dataset_io.REJECTED),
            summary.REJECTED_COLUMNS,
            sorted(left_out + [row for member in members for row in member.rejected()]),
        ),
        dataset_io.MANIFEST: csv_files.save(
            os.path.join(stage, dataset_io.MANIFEST),
            summary.MANIFEST_COLUMNS,
            ((shard.file, *row) for shard in written for row in shard.rows),
        ),
    }
    return _build_metadata(members, written, checksums, len(left_out))


class _SourceDataset:
    """One of the datasets to join.

    Attributes:
        name: Prefix of its paths in the joined dataset.
        first_group: The number of its group 0 in the joined dataset.
        repeat: How often its training images are written.
        records_by_shard: (path, digest, cells) of the records of each shard.
        left_out: Paths that are not copied.
    """

    def __init__(self, dataset: Dataset, name: str, first_group: int, repeat: int) -> None:
        self.dataset, self.name, self.first_group, self.repeat = dataset, name, first_group, repeat
        self.groups = _read_table(dataset, dataset_io.GROUPS, summary.GROUP_COLUMNS)
        self.split_of = {row["path"]: row["split"] for row in self.groups}
        self.label_of = {row["path"]: row["label"] for row in self.groups}
        self.records_by_shard = collections.defaultdict(list)
        self.hash_of = {}
        for row in _read_table(dataset, dataset_io.MANIFEST, ("shard", "path", "sha256")):
            self.records_by_shard[row["shard"]].append((row["path"], row["sha256"], row.get("cells", "")))
            self.hash_of[row["sha256"]] = row["path"]
        self.left_out: set[str] = set()
        for _, shard in self.iter_shards():
            if len(self.records_by_shard[shard["file"]]) != shard["count"]:
                raise _damaged_table_error(dataset, dataset_io.MANIFEST)
        if self.split_of.keys() != {path for rows in self.records_by_shard.values() for path, *_ in rows}:
            raise _damaged_table_error(dataset, dataset_io.GROUPS)

    @property
    def next_first_group(self) -> int:
        """The first group of the next dataset."""
        return self.first_group + 1 + max((int(row["group"]) for row in self.groups), default=0)

    def rows(self) -> Iterator[tuple[str, str, int, str]]:
        """Yields its rows of groups.csv."""
        for row in self.groups:
            if row["path"] in self.left_out:
                continue
            yield f"{self.name}/{row['path']}", row["label"], self.first_group + int(row["group"]), row["split"]

    def iter_shards(self) -> Iterator[tuple[str, dict]]:
        """Yields (split, entry in dataset.json) of each shard, once."""
        for split in splits.NAMES:
            yield from ((split, shard) for shard in self.dataset.metadata["splits"][split]["shards"])

    def shards(self, split: str) -> list[dict]:
        shards = self.dataset.metadata["splits"][split]["shards"] * repeat_count(split, self.repeat)
        return [
            shard for shard in shards if {path for path, *_ in self.records_by_shard[shard["file"]]} - self.left_out
        ]

    def rejected(self) -> list[tuple[str, str]]:
        """Returns its rows of rejected.csv."""
        if not os.path.exists(os.path.join(self.dataset.folder, dataset_io.REJECTED)):
            return []  # joined by an older version
        rows = _read_table(self.dataset, dataset_io.REJECTED, summary.REJECTED_COLUMNS)
        return [(f"{self.name}/{row['path']}", row["reason"]) for row in rows]

    def copy_shard(self, shard: dict, stage: str, split: str, target: str) -> Shard:
        """Copies the renamed records of `shard` to `target` in `stage`, which is on the disk when this returns."""
        source_path, digest, offset, rows = os.path.join(self.dataset.folder, shard["file"]), hashlib.sha256(), 0, []
        with (
            open(source_path, "rb") as source_file,
            open(os.path.join(stage, target), "wb", buffering=1 << 20) as target_file,
        ):
            for record, (name, sha256, cells) in zip(
                _iter_valid_records(source_path, source_file), self.records_by_shard[shard["file"]], strict=True
            ):
                if name in self.left_out:
                    continue
                path = os.fsencode(self.name) + b"/" + record["path"]
                data = records.frame(
                    records.example(record["image"], record["label"], path, self.first_group + record["group"])
                )
                rows.append((len(rows), offset, record["label"], sha256, os.fsdecode(path), cells))
                digest.update(data)
                target_file.write(data)
                offset += len(data)
            target_file.flush()
            os.fsync(target_file.fileno())
        return Shard(split, target, len(rows), offset, digest.hexdigest(), rows)


def _iter_valid_records(path: str, file) -> Iterator[dict]:
    """Yields the fields of the records of a shard. Raises UserError if one is damaged."""
    try:
        for _, payload in records.read(file):
            yield records.parse(payload)
    except records.RecordError as damage:
        raise UserError(f"{path!r}: {damage}; convert its images again") from damage


def _read_table(dataset: Dataset, name: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of the table `name` of `dataset`, each with all of `columns`. Raises UserError if it is damaged."""
    try:
        rows = csv_files.read(os.path.join(dataset.folder, name))
    except (FileNotFoundError, csv.Error) as error:
        raise _damaged_table_error(dataset, name) from error
    if any(row.get(column) is None for row in rows for column in columns):
        raise _damaged_table_error(dataset, name)
    return rows


def _damaged_table_error(dataset: Dataset, name: str) -> UserError:
    return UserError(
        f"--join: {os.path.join(dataset.folder, name)!r} is missing or not as it was written; restore it "
        "or convert the images again"
    )


def _open_members(parts: Sequence[Dataset], repeat: Sequence[int]) -> Iterator[_SourceDataset]:
    """Yields the datasets, named by their folders, with a number if two have the same name."""
    names, first_group = collections.Counter(), 0
    for part, training_repeat in zip(parts, repeat, strict=True):
        name = os.path.basename(os.path.abspath(part.folder))
        names[name] += 1
        member = _SourceDataset(
            part, name if names[name] == 1 else f"{name}_{names[name]}", first_group, training_repeat
        )
        first_group = member.next_first_group
        yield member


def _require_same_format(parts: Sequence[Dataset]) -> None:
    # Raw pixels do not contain their size.
    keys = (*MUST_MATCH, "image_px") if parts[0].metadata["encoding"] == Encoding.RAW.value else MUST_MATCH
    for part in parts[1:]:
        for key in keys:
            expected, received = parts[0].metadata[key], part.metadata[key]
            if expected != received:
                raise UserError(
                    f"--join: expected datasets of one kind, received {key} {expected!r} in {parts[0].folder!r} and "
                    f"{received!r} in {part.folder!r}; convert one of them again"
                )


def _require_disjoint(members: Sequence[_SourceDataset]) -> None:
    for number, first in enumerate(members):
        for second in members[number + 1 :]:
            for sha256 in sorted(first.hash_of.keys() & second.hash_of.keys()):
                path, second_path = first.hash_of[sha256], second.hash_of[sha256]
                split, second_split = first.split_of.get(path), second.split_of.get(second_path)
                if split == second_split == "train":
                    continue
                conflict = (
                    "in different splits" if split != second_split else f"that the {split} split would count twice"
                )
                raise UserError(
                    f"--join: {path!r} of {first.dataset.folder!r} and {second_path!r} of {second.dataset.folder!r} "
                    f"are one file {conflict}; convert the photographs of both together"
                )


def _leave_out_copies(
    members: Sequence[_SourceDataset], pool: concurrent.futures.Executor, ahead: int
) -> list[tuple[str, str]]:
    """Marks copies of images in other datasets as left out.

    An image is left out if it is a copy of a validation or test image of another dataset, or if another dataset has a
    copy in the other class. Of several copies the one in the test split is retained, else the one in validation, else
    the one in training; of two datasets, the one in the first.

    Returns:
        (path, reason) of each image that is left out.
    """
    owners = [
        (number, split, path, member.label_of[path])
        for number, member in enumerate(members)
        for split, shard in member.iter_shards()
        for path, *_ in member.records_by_shard[shard["file"]]
    ]
    signatures = _compute_signatures(members, len(owners), pool, ahead)
    owners_by_group = collections.defaultdict(list)
    for group, owner in zip(near_duplicates.duplicate_groups(signatures, near=True).tolist(), owners, strict=True):
        owners_by_group[group].append(owner)
    rejected = []
    for duplicates in owners_by_group.values():
        owner_by_label = {owner[3]: owner for owner in reversed(duplicates)}
        has_conflict = len(owner_by_label) > 1
        if len({owner[0] for owner in duplicates}) == 1 or (
            all(owner[1] == "train" for owner in duplicates) and not has_conflict
        ):
            continue
        number, split, path, _ = min(duplicates, key=lambda owner: (-splits.NAMES.index(owner[1]), *owner[::2]))
        for other_number, other_split, other_path, other_label in duplicates:
            if has_conflict:
                opposite = next(owner for label, owner in owner_by_label.items() if label != other_label)
                reason = f"the same picture is in the other class: {members[opposite[0]].name}/{opposite[2]}"
            elif (other_number, other_split) != (number, split):
                reason = f"shows what {members[number].name}/{path} of the {split} split shows"
            else:
                continue
            members[other_number].left_out.add(other_path)
            rejected.append((f"{members[other_number].name}/{other_path}", reason))
    return sorted(set(rejected))


def _compute_signatures(
    members: Sequence[_SourceDataset], count: int, pool: concurrent.futures.Executor, ahead: int
) -> near_duplicates.ImageSignatures:
    """Signatures of all `count` images, in the order of the shards."""
    tasks = [
        (
            member.dataset.folder,
            shard["file"],
            shard["count"],
            member.dataset.metadata["encoding"],
            member.dataset.image_px,
        )
        for member in members
        for _, shard in member.iter_shards()
    ]
    signatures, row = near_duplicates.ImageSignatures.empty(count), 0
    with console.progress_bar(count, "reading ") as advance:
        for task, part in zip(
            tasks, process_pool.map_ordered(pool, _compute_shard_signatures, tasks, ahead), strict=True
        ):
            folder, name, expected, *_ = task
            if len(part.digest) != expected:
                raise UserError(
                    f"{os.path.join(folder, name)!r}: expected {expected} records, found {len(part.digest)}; "
                    "restore it, or convert its images again"
                )
            signatures.put(row, part)
            row += len(part.digest)
            advance(len(part.digest))
    return signatures


def _compute_shard_signatures(task: tuple[str, str, int, str, int]) -> near_duplicates.ImageSignatures:
    """In a worker: the signatures of the images of one shard."""
    folder, name, _, encoding, image_px = task
    path, digests, thumbnails = os.path.join(folder, name), [], []
    with open(path, "rb") as file:
        for record in _iter_valid_records(path, file):
            data = record["image"]
            digests.append(image_file.digest(data))
            if encoding == Encoding.RAW.value:
                data = image_file.encode(
                    np.frombuffer(data, np.uint8).reshape(image_px, image_px, -1), Encoding.PNG.value, 0
                )
            try:
                thumbnails.append(
                    thumbnail.thumbnail(image_file.parse_photo(data, "", float("inf"), min_side_px=1)).grey
                )
            except errors.ImageError as error:
                raise UserError(f"{path!r}: {os.fsdecode(record['path'])!r}: {error}; convert it again") from error
    return near_duplicates.ImageSignatures.of(digests, thumbnails)


def _build_metadata(
    members: Sequence[_SourceDataset], written: Sequence[Shard], checksums: dict[str, str], left_out: int
) -> dict:
    """The content of dataset.json: that of the first dataset, with the counts of all."""
    all_facts = [member.dataset.metadata for member in members]
    sides = {facts["image_px"] for facts in all_facts}
    image_px = sides.pop() if len(sides) == 1 else 0
    sources = {member.dataset.source_px for member in members}
    counts = collections.Counter()
    for facts in all_facts:
        counts.update(facts["leaks"])
    metadata = all_facts[0] | {
        "image_px": image_px,
        # If the datasets were scaled down by different factors, the stored size counts as the source size.
        "source_px": sources.pop() if len(sources) == 1 else image_px,
        "splits": {name: summary.split_facts(name, all_facts[0]["classes"], written) for name in splits.NAMES},
        "source": [path for facts in all_facts for path in np.atleast_1d(facts["source"]).tolist()],
        "layout": dataset_io.JOINED,
        "leaks": dict(counts),
        "rejected": sum(facts["rejected"] for facts in all_facts) + left_out,
        "notes": [note for member in members for note in _notes(member, all_facts[0]["classes"])],
        "tables": checksums,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "crackflow": __version__,
    }
    metadata |= {"fingerprint": dataset_io.fingerprint(metadata)}
    return json_schema.with_version(dataset_io.DATASET, metadata)


def _notes(member: _SourceDataset, classes: Sequence[str]) -> list[str]:
    """Notes on a dataset; if it was joined itself, also the notes on its parts."""
    facts = member.dataset.metadata
    description = f"joined: {member.name}, fingerprint {facts['fingerprint'][:12]}"
    description += f", training images {member.repeat} times" * (member.repeat > 1)
    if facts["classes"] != classes:
        description += f", {' and '.join(facts['classes'])} as {' and '.join(classes)}"
    return [description, *(f"{member.name}: {note}" for note in facts["notes"] if facts["layout"] == dataset_io.JOINED)]
