"""Write records to shard files: planned once, written in parallel, with the same bytes for any number of processes.

Synopsis::

    entries = [shards.SourceImage("Positive/00001.jpg", label=1, group=0, digest=..., can_store_as_is=True), ...]
    plans = shards.plan_shards({"train": entries, ...}, bytes_per_image, requested=0, seed=0)
    for shard in shards.write_shards(plans, folder, options, pool, ahead): ...
"""

import concurrent.futures
import dataclasses
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence

import numpy as np

from crackflow.conversion import source_files
from crackflow.core import errors, process_pool
from crackflow.core.errors import UserError
from crackflow.data import image_file, mask_grid, records, resize
from crackflow.data.mask_tiles import Tile

# Enough shards for 16 parallel readers of 4 workers before shards get small; none so large that copying it is slow.
IMAGES_PER_SHARD = 256
MAX_AUTO_SHARDS = 64
MAX_SHARD_BYTES = 128 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class SourceImage:
    """One source file of a split.

    Attributes:
        path: Relative to the source folder.
        label: 0 or 1.
        group: Images of one group stay in one split.
        digest: SHA-256 of the file.
        can_store_as_is: Whether the bytes of the file are stored as they are.
        windows: Tiles that are stored instead of the whole image.
        mask_bits: Mask grid of the whole image, as `data.mask_grid` defines it.
    """

    path: str
    label: int
    group: int
    digest: bytes
    can_store_as_is: bool
    windows: tuple[Tile, ...] = ()
    mask_bits: int = 0

    @property
    def count(self) -> int:
        return len(self.windows) or 1


@dataclasses.dataclass(frozen=True)
class EncodeOptions:
    """How images are encoded as records."""

    root: str
    encoding: str
    channels: int
    image_px: int
    jpeg_quality: int
    max_megapixels: float


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """A shard to write: its entries, in order."""

    split: str
    file: str
    entries: tuple[SourceImage, ...]


@dataclasses.dataclass(frozen=True)
class Shard:
    """A written shard. `rows`: (record, offset, label, SHA-256 of the source file, path, cells) for the manifest."""

    split: str
    file: str
    count: int
    bytes: int
    sha256: str
    rows: list[tuple[int, int, int, str, str, str]]


def plan_shards(
    entries: dict[str, list[SourceImage]], bytes_per_image: float, requested: int, seed: int
) -> list[ShardPlan]:
    """Distributes the entries of each split over shards.

    Args:
        entries: The entries of each split.
        bytes_per_image: Expected size of a record's image.
        requested: Number of training shards (without a training split, of the largest split); 0 for automatic.
        seed: Determines the order of the entries.
    """
    plans = []
    counts = {name: sum(entry.count for entry in part) for name, part in entries.items()}
    train = max(counts.get("train") or max(counts.values()), 1)
    for split_number, (split, members) in enumerate(entries.items()):
        split_images = sum(entry.count for entry in members)
        shard_count = (
            max(1, round(requested * split_images / train))
            if requested
            else _auto_shard_count(split_images, bytes_per_image)
        )
        shard_count = min(shard_count, len(members))
        order = np.random.default_rng([seed, 2, split_number]).permutation(len(members))
        for shard in range(shard_count):
            file = f"{split}-{shard:05d}-of-{shard_count:05d}.tfrecord"
            plans.append(ShardPlan(split, file, tuple(members[row] for row in order[shard::shard_count].tolist())))
    return plans


def _auto_shard_count(count: int, bytes_per_image: float) -> int:
    by_count = min(-(-count // IMAGES_PER_SHARD), MAX_AUTO_SHARDS)
    return max(1, by_count, int(count * bytes_per_image / MAX_SHARD_BYTES))


def write_shards(
    plans: Sequence[ShardPlan], folder: str, options: EncodeOptions, pool: concurrent.futures.Executor, ahead: int
) -> Iterator[Shard]:
    """Writes all shards to `folder` and yields each, in order. Raises UserError if a source file has changed."""
    yield from process_pool.map_ordered(pool, _write_shard, ((plan, folder, options) for plan in plans), ahead)


def _write_shard(task: tuple[ShardPlan, str, EncodeOptions]) -> Shard:
    """In a worker: writes one shard, which is on the disk when this returns."""
    plan, folder, options = task
    digest, offset, rows = hashlib.sha256(), 0, []
    # A unique name: Beam may run this twice at the same time, and stop either run at any point.
    target = os.path.join(folder, plan.file)
    temporary = f"{target}.{secrets.token_hex(4)}.tmp"
    with open(temporary, "wb", buffering=1 << 20) as file:
        for entry in plan.entries:
            for (path, label, cells), image in _iter_encoded(entry, options):
                data = records.frame(records.example(image, label, os.fsencode(path), entry.group))
                rows.append((len(rows), offset, label, entry.digest.hex(), path, mask_grid.text(cells)))
                digest.update(data)
                file.write(data)
                offset += len(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, target)
    return Shard(plan.split, plan.file, len(rows), offset, digest.hexdigest(), rows)


def _iter_encoded(entry: SourceImage, options: EncodeOptions) -> Iterator[tuple[tuple[str, int, int], bytes]]:
    """Yields ((name, label, cells), bytes) of the image, or of each of its tiles."""
    try:
        data = source_files.read_bytes(options.root, entry.path)
    except errors.ImageError as error:
        raise UserError(f"{entry.path!r} could be read before, and now: {error}; run the conversion again") from error
    if image_file.digest(data) != entry.digest:
        raise UserError(f"{entry.path!r} changed while it was converted; run the conversion again")
    if entry.can_store_as_is:
        yield (entry.path, entry.label, entry.mask_bits), data
        return
    photo = image_file.parse_photo(data, entry.path, options.max_megapixels)
    if not entry.windows:
        values = image_file.pixels(photo, options.channels, options.image_px)
        identity = entry.path, entry.label, entry.mask_bits
        yield identity, image_file.encode(values, options.encoding, options.jpeg_quality)
        return
    whole = image_file.pixels(photo, options.channels, 0)
    for window in entry.windows:
        values = whole[window.y : window.y + window.px, window.x : window.x + window.px]
        if options.image_px:
            values = resize.resize_array(values, options.image_px)
        identity = window.name(entry.path), window.label, window.mask_bits
        yield identity, image_file.encode(values, options.encoding, options.jpeg_quality)
