"""Verify that a dataset is intact: read every file, record and image again.

Synopsis::

    damages = verify.find_damage("data/metu", pool, ahead, advance)     # [] when intact
"""

import collections
import concurrent.futures
import csv
import hashlib
import os
from collections.abc import Callable

from crackflow.core import csv_files, errors, process_pool
from crackflow.data import dataset as dataset_io
from crackflow.data import image_file, records, thumbnail

Sources = dict[int, str]  # record number -> source path


def find_damage(
    folder: str, pool: concurrent.futures.Executor, ahead: int, advance: Callable[[int], None]
) -> list[str]:
    """Reads the whole dataset in `folder` again.

    Args:
        folder: The dataset.
        pool: The worker processes.
        ahead: Number of shards submitted ahead of their results.
        advance: Called with the number of images that were read since the last call.

    Returns:
        One sentence per damage, with shard, record and source image; empty if the dataset is intact.

    Raises:
        UserError: `folder` is not a dataset.
    """
    dataset = dataset_io.read(folder)
    problems = [
        f"{name}: does not have the SHA-256 that {dataset_io.DATASET} gives"
        for name, expected in dataset.metadata.get("tables", {}).items()
        if _sha256(os.path.join(folder, name)) != expected
    ]
    if dataset_io.fingerprint(dataset.metadata) != dataset.metadata["fingerprint"]:
        problems.append(f"{dataset_io.DATASET}: the fingerprint does not fit the shards it lists")
    problems += [
        f"{dataset_io.DATASET}: the counts of split {name} contradict each other"
        for name, split in dataset.metadata["splits"].items()
        if {sum(shard["count"] for shard in split["shards"]), sum(split["class_counts"].values())} != {split["count"]}
    ]
    sources = _load_sources(folder)
    shards = [shard for split in dataset.metadata["splits"].values() for shard in split["shards"]]
    tasks = [(folder, dataset.metadata, shard, sources[shard["file"]]) for shard in shards]
    for shard, result in zip(shards, process_pool.map_ordered(pool, _verify_shard, tasks, ahead), strict=True):
        problems += result
        advance(shard["count"])
    return problems


def _load_sources(folder: str) -> dict[str, Sources]:
    """Shard -> record number -> source image, as far as the manifest can be read."""
    sources = collections.defaultdict(dict)
    for row in _read_rows(os.path.join(folder, dataset_io.MANIFEST)):
        record = row.get("record") or ""
        if record.isascii() and record.isdigit():
            sources[row.get("shard")][int(record)] = row.get("path")
    return sources


def _read_rows(path: str) -> list[dict[str, str]]:
    try:
        return csv_files.read(path) if os.path.exists(path) else []
    except csv.Error:  # so damaged that it is not a table; its SHA-256 shows that too
        return []


def _sha256(path: str) -> str:
    if not os.path.exists(path):
        return "missing"
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else _hash_in_blocks(file)
        )


def _hash_in_blocks(file) -> str:
    """`hashlib.file_digest` for Python 3.10, which lacks it."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _verify_shard(task: tuple[str, dict, dict, Sources]) -> list[str]:
    """In a worker: the damages of one shard."""
    folder, facts, shard, sources = task
    path, number, problems = os.path.join(folder, shard["file"]), 0, []

    def report(fault: str) -> None:
        source = sources.get(number)
        problems.append(f"{shard['file']}: record {number} ({source!r}): {fault}")

    try:
        with open(path, "rb") as file:
            for _, payload in records.read(file):
                reason = _find_fault(payload, facts, sources.get(number))
                if reason:
                    report(reason)
                number += 1
    except records.RecordError as damage:
        report(f"{damage}; the records after it can't be read")
        return problems
    except OSError as error:
        report(f"unreadable: {error.strerror}; so are all {shard['count']} records of this shard")
        return problems
    if number != shard["count"]:
        report(f"missing: the shard holds {number} records, expected {shard['count']}")
    elif _sha256(path) != shard["sha256"]:
        problems.append(f"{shard['file']}: every record can be read, but its SHA-256 is not the one recorded")
    return problems


def _find_fault(payload: bytes, facts: dict, source: str | None) -> str:
    try:
        fields = records.parse(payload)
        if facts["encoding"] == "raw":
            expected = facts["image_px"] ** 2 * facts["channels"]
            if len(fields["image"]) != expected:
                return f"{len(fields['image'])} bytes of pixels, expected {expected}"
        else:
            photo = image_file.parse_photo(fields["image"], os.fsdecode(fields["path"]), float("inf"), min_side_px=1)
            if not thumbnail.thumbnail(photo).strict:
                return "its JPEG data is damaged, where most decoders look past it; convert the images again"
    except (records.RecordError, errors.ImageError) as error:
        return str(error)
    if source is not None and os.fsdecode(fields["path"]) != source:
        return f"is of {os.fsdecode(fields['path'])!r}"
    if fields["label"] not in (0, 1):
        return f"its label is {fields['label']}, expected 0 or 1"
    return ""
