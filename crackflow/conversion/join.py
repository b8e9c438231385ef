"""Several data sets become one; every image keeps its split.

Synopsis::

    facts = join.merge_datasets([dataset.load("data/metu"), dataset.load("data/made")], (3, 1), stage, pool, 4, advance)

The records are written anew: paths begin with the name of their data set and groups are counted on, so that nothing of
one set is taken for the other's. What one set calls its clean and cracked images the others may call otherwise; the
joined set has the first one's names. An image that shows what one of another set's validation or test images shows is
left out, and told in rejected.csv. A set that counts for more is written several times, in training alone: whatever
reads the joined set then needs to know nothing of it.
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
from crackflow.core import console, csv_files, errors, process_pool
from crackflow.core.config.data import Encoding
from crackflow.core.errors import UserError
from crackflow.data import dataset, image_file, records, splits, thumbnail
from crackflow.data.dataset import Dataset
from crackflow.version import __version__

MUST_MATCH = ("encoding", "channels")


def repeat_count(split: str, repeat: int) -> int:
    """How often the images of `split` are written of a set whose training images are written `repeat` times."""
    return repeat if split == "train" else 1


def merge_datasets(
    parts: Sequence[Dataset],
    repeat: Sequence[int],
    stage: str,
    pool: concurrent.futures.Executor,
    ahead: int,
    advance: Callable[[int], None],
) -> dict:
    """Writes the joined set into the folder `stage`, all but its dataset.json, which is returned. `repeat`: how often
    the training images of each of `parts` are written; `advance(images)` as they are written; `pool` looks at them
    before, `ahead` shards at once.

    Raises: UserError when the sets differ in encoding or channels, raw ones in size, or one file lies in two splits, or
    in validation or test of two sets; or when one is damaged.
    """
    _expect_alike(parts)
    members = list(_members(parts, repeat))
    _expect_apart(members)
    left_out = _leave_out_copies(members, pool, ahead)
    rows = [row for member in members for row in member.rows()]
    written = []
    for split in splits.NAMES:
        shards = [(member, shard) for member in members for shard in member.shards(split)]
        for number, (member, shard) in enumerate(shards):
            target = f"{split}-{number:05d}-of-{len(shards):05d}.tfrecord"
            written.append(member.rewritten(shard, stage, split, target))
            advance(shard["count"])
    checksums = {
        dataset.GROUPS: csv_files.save(os.path.join(stage, dataset.GROUPS), summary.GROUP_COLUMNS, sorted(rows)),
        dataset.REJECTED: csv_files.save(
            os.path.join(stage, dataset.REJECTED),
            summary.REJECTED_COLUMNS,
            sorted(left_out + [row for member in members for row in member.rejected()]),
        ),
        dataset.MANIFEST: csv_files.save(
            os.path.join(stage, dataset.MANIFEST),
            summary.MANIFEST_COLUMNS,
            ((shard.file, *row) for shard in written for row in shard.rows),
        ),
    }
    return _facts(members, written, checksums, len(left_out))


class _SourceDataset:
    """One of the sets. `name`: what its paths begin with; `first`: its group 0 in the joined set; `repeat`: how often
    its training images are written."""

    def __init__(self, made: Dataset, name: str, first: int, repeat: int) -> None:
        self.made, self.name, self.first, self.repeat = made, name, first, repeat
        self.groups = _table(made, dataset.GROUPS, summary.GROUP_COLUMNS)
        self.split_of = {row["path"]: row["split"] for row in self.groups}
        self.label_of = {row["path"]: row["label"] for row in self.groups}
        self.told = collections.defaultdict(list)  # of each shard's records: path, digest and cells
        self.hash_of = {}
        for row in _table(made, dataset.MANIFEST, ("shard", "path", "sha256")):
            self.told[row["shard"]].append((row["path"], row["sha256"], row.get("cells", "")))
            self.hash_of[row["sha256"]] = row["path"]
        self.left_out: set[str] = set()  # paths
        for _, shard in self.every_shard():
            if len(self.told[shard["file"]]) != shard["count"]:
                raise _damaged(made, dataset.MANIFEST)
        if self.split_of.keys() != {path for rows in self.told.values() for path, *_ in rows}:
            raise _damaged(made, dataset.GROUPS)

    @property
    def after(self) -> int:
        """The first group of the next set."""
        return self.first + 1 + max((int(row["group"]) for row in self.groups), default=0)

    def rows(self) -> Iterator[tuple[str, str, int, str]]:
        """Of groups.csv."""
        for row in self.groups:
            if row["path"] in self.left_out:
                continue
            yield f"{self.name}/{row['path']}", row["label"], self.first + int(row["group"]), row["split"]

    def every_shard(self) -> Iterator[tuple[str, dict]]:
        """(split, what dataset.json says of it) of each shard, once."""
        for split in splits.NAMES:
            yield from ((split, shard) for shard in self.made.facts["splits"][split]["shards"])

    def shards(self, split: str) -> list[dict]:
        every = self.made.facts["splits"][split]["shards"] * repeat_count(split, self.repeat)
        return [shard for shard in every if {path for path, *_ in self.told[shard["file"]]} - self.left_out]

    def rejected(self) -> list[tuple[str, str]]:
        """Of rejected.csv."""
        if not os.path.exists(os.path.join(self.made.folder, dataset.REJECTED)):
            return []  # joined by an older version
        rows = _table(self.made, dataset.REJECTED, summary.REJECTED_COLUMNS)
        return [(f"{self.name}/{row['path']}", row["reason"]) for row in rows]

    def rewritten(self, shard: dict, stage: str, split: str, target: str) -> Shard:
        """The records of `shard` under new names in the file `target` of `stage`, on the disk when this returns."""
        source, digest, offset, rows = os.path.join(self.made.folder, shard["file"]), hashlib.sha256(), 0, []
        with open(source, "rb") as old, open(os.path.join(stage, target), "wb", buffering=1 << 20) as new:
            for record, (name, sha256, where) in zip(
                _iter_valid_records(source, old), self.told[shard["file"]], strict=True
            ):
                if name in self.left_out:
                    continue
                path = os.fsencode(self.name) + b"/" + record["path"]
                data = records.frame(
                    records.example(record["image"], record["label"], path, self.first + record["group"])
                )
                rows.append((len(rows), offset, record["label"], sha256, os.fsdecode(path), where))
                digest.update(data)
                new.write(data)
                offset += len(data)
            new.flush()
            os.fsync(new.fileno())
        return Shard(split, target, len(rows), offset, digest.hexdigest(), rows)


def _iter_valid_records(path: str, file) -> Iterator[dict]:
    """The fields of the records of a shard."""
    try:
        for _, payload in records.read(file):
            yield records.parse(payload)
    except records.RecordError as damage:
        raise UserError(f"{path!r}: {damage}; convert its images again") from damage


def _table(made: Dataset, name: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table of `made`, each with all of `columns`."""
    try:
        rows = csv_files.read(os.path.join(made.folder, name))
    except (FileNotFoundError, csv.Error) as error:
        raise _damaged(made, name) from error
    if any(row.get(column) is None for row in rows for column in columns):
        raise _damaged(made, name)
    return rows


def _damaged(made: Dataset, name: str) -> UserError:
    return UserError(
        f"--join: {os.path.join(made.folder, name)!r} is missing or not as it was written; restore it or convert the "
        "images again"
    )


def _members(parts: Sequence[Dataset], repeat: Sequence[int]) -> Iterator[_SourceDataset]:
    """Named by their folders, with a number where two have one name."""
    names, first = collections.Counter(), 0
    for part, often in zip(parts, repeat, strict=True):
        name = os.path.basename(os.path.abspath(part.folder))
        names[name] += 1
        member = _SourceDataset(part, name if names[name] == 1 else f"{name}_{names[name]}", first, often)
        first = member.after
        yield member


def _expect_alike(parts: Sequence[Dataset]) -> None:
    # Raw pixels tell no size of their own.
    alike = (*MUST_MATCH, "image_px") if parts[0].facts["encoding"] == Encoding.RAW.value else MUST_MATCH
    for part in parts[1:]:
        for key in alike:
            ours, theirs = parts[0].facts[key], part.facts[key]
            if ours != theirs:
                raise UserError(
                    f"--join: expected data sets of one kind, received {key} {ours!r} in {parts[0].folder!r} and "
                    f"{theirs!r} in {part.folder!r}; convert one of them again"
                )


def _expect_apart(members: Sequence[_SourceDataset]) -> None:
    for number, member in enumerate(members):
        for other in members[number + 1 :]:
            for sha256 in sorted(member.hash_of.keys() & other.hash_of.keys()):
                path, copy = member.hash_of[sha256], other.hash_of[sha256]
                here, there = member.split_of.get(path), other.split_of.get(copy)
                if here == there == "train":
                    continue
                where = "in different splits" if here != there else f"that the {here} split would count twice"
                raise UserError(
                    f"--join: {path!r} of {member.made.folder!r} and {copy!r} of {other.made.folder!r} are one "
                    f"file {where}; convert the photographs of both together"
                )


def _leave_out_copies(
    members: Sequence[_SourceDataset], pool: concurrent.futures.Executor, ahead: int
) -> list[tuple[str, str]]:
    """(path, reason) of each image that shows what an image of another set's validation or test shows, and is left out
    of its own; and of each whose picture another set has in the other class. Of those that show one thing test comes
    before validation, and that before training; of two sets the first."""
    owners = [
        (number, split, path, member.label_of[path])
        for number, member in enumerate(members)
        for split, shard in member.every_shard()
        for path, *_ in member.told[shard["file"]]
    ]
    looks = _look_at_all(members, len(owners), pool, ahead)
    shown = collections.defaultdict(list)
    for picture, owner in zip(near_duplicates.duplicate_groups(looks, near=True).tolist(), owners, strict=True):
        shown[picture].append(owner)
    found = []
    for same in shown.values():
        first = {owner[3]: owner for owner in reversed(same)}
        torn = len(first) > 1
        if len({owner[0] for owner in same}) == 1 or (all(owner[1] == "train" for owner in same) and not torn):
            continue
        number, split, path, _ = min(same, key=lambda owner: (-splits.NAMES.index(owner[1]), *owner[::2]))
        for other, their_split, theirs, their_label in same:
            if torn:
                twin = next(owner for label, owner in first.items() if label != their_label)
                reason = f"the same picture is in the other class: {members[twin[0]].name}/{twin[2]}"
            elif (other, their_split) != (number, split):
                reason = f"shows what {members[number].name}/{path} of the {split} split shows"
            else:
                continue
            members[other].left_out.add(theirs)
            found.append((f"{members[other].name}/{theirs}", reason))
    return sorted(set(found))


def _look_at_all(
    members: Sequence[_SourceDataset], count: int, pool: concurrent.futures.Executor, ahead: int
) -> near_duplicates.ImageSignatures:
    """What all `count` images show, shard after shard."""
    tasks = [
        (member.made.folder, shard["file"], shard["count"], member.made.facts["encoding"], member.made.image_px)
        for member in members
        for _, shard in member.every_shard()
    ]
    looks, row = near_duplicates.ImageSignatures.empty(count), 0
    with console.progress_bar(count, "reading ") as advance:
        for task, some in zip(tasks, process_pool.map_ordered(pool, _look_at_shard, tasks, ahead), strict=True):
            folder, name, wanted, *_ = task
            if len(some.digest) != wanted:
                raise UserError(
                    f"{os.path.join(folder, name)!r}: expected {wanted} records, found {len(some.digest)}; restore it, "
                    "or convert its images again"
                )
            looks.put(row, some)
            row += len(some.digest)
            advance(len(some.digest))
    return looks


def _look_at_shard(task: tuple[str, str, int, str, int]) -> near_duplicates.ImageSignatures:
    """In a worker: what the images of one shard show."""
    folder, name, _, encoding, px = task
    path, digests, thumbnails = os.path.join(folder, name), [], []
    with open(path, "rb") as file:
        for record in _iter_valid_records(path, file):
            data = record["image"]
            digests.append(image_file.digest(data))
            if encoding == Encoding.RAW.value:
                data = image_file.encode(np.frombuffer(data, np.uint8).reshape(px, px, -1), Encoding.PNG.value, 0)
            try:
                thumbnails.append(
                    thumbnail.thumbnail(image_file.parse_photo(data, "", float("inf"), min_side_px=1)).grey
                )
            except errors.ImageError as error:
                raise UserError(f"{path!r}: {os.fsdecode(record['path'])!r}: {error}; convert it again") from error
    return near_duplicates.ImageSignatures.of(digests, thumbnails)


def _facts(
    members: Sequence[_SourceDataset], written: Sequence[Shard], checksums: dict[str, str], left_out: int
) -> dict:
    """The content of dataset.json: the first set's, and what is counted of all."""
    every = [member.made.facts for member in members]
    sides = {one["image_px"] for one in every}
    image_px = sides.pop() if len(sides) == 1 else 0
    sources = {member.made.source_px for member in members}
    counts = collections.Counter()
    for one in every:
        counts.update(one["leaks"])
    made = every[0] | {
        "image_px": image_px,
        # Where the photographs of the parts were made smaller by different factors, they count as large as stored.
        "source_px": sources.pop() if len(sources) == 1 else image_px,
        "splits": {name: summary.split_facts(name, every[0]["classes"], written) for name in splits.NAMES},
        "source": [place for one in every for place in np.atleast_1d(one["source"]).tolist()],
        "layout": dataset.JOINED,
        "leaks": dict(counts),
        "rejected": sum(one["rejected"] for one in every) + left_out,
        "notes": [note for member in members for note in _notes(member, every[0]["classes"])],
        "tables": checksums,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "crackflow": __version__,
    }
    return made | {"fingerprint": dataset.fingerprint(made)}


def _notes(member: _SourceDataset, classes: Sequence[str]) -> list[str]:
    """What is said of a member; of one that was joined itself, what was said of it as well."""
    facts = member.made.facts
    told = f"joined: {member.name}, fingerprint {facts['fingerprint'][:12]}"
    told += f", training images {member.repeat} times" * (member.repeat > 1)
    if facts["classes"] != classes:
        told += f", {' and '.join(facts['classes'])} as {' and '.join(classes)}"
    return [told, *(f"{member.name}: {note}" for note in facts["notes"] if facts["layout"] == dataset.JOINED)]
