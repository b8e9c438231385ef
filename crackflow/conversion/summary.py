"""The encoding of the records, the tables beside them, dataset.json, and the summary of a conversion.

Synopsis::

    encoding_plan = summary.plan_encoding(config, is_cut, scan_result, entries)     # encoding, channels, size
    facts = summary.build_metadata(config, layout_scan, encoding_plan, written, checksums, leaks, rejected, notes)
    print(summary.format_summary("data/metu", facts, seconds))
"""

import collections
import dataclasses
import math
import os
import time
from collections.abc import Mapping, Sequence

from crackflow.conversion.scan import ScanResult
from crackflow.conversion.shards import EncodeOptions, Shard, SourceImage
from crackflow.conversion.source_files import LayoutScan
from crackflow.core import csv_files, json_schema, system_files
from crackflow.core.config.data import ConvertConfig, Encoding, Layout
from crackflow.core.errors import UserError
from crackflow.core.escaping import one_line
from crackflow.data import bit_depth, dataset, splits
from crackflow.version import __version__

GROUP_COLUMNS = ("path", "label", "group", "split")
WARN_ABOVE_PX = 512  # a crack 4 pixels wide is 1 pixel wide at 128, the input size of the networks
REJECTED_COLUMNS = ("path", "reason")
MANIFEST_COLUMNS = ("shard", "record", "offset", "label", "sha256", "path", "cells")


@dataclasses.dataclass(frozen=True)
class EncodingPlan:
    """How the records are written.

    Attributes:
        options: For the workers.
        entries: The source images of each split; `plain` is set where bytes pass through.
        image_px: Side of all stored images, in pixels; 0 if they differ.
        source_px: Side of the source images or tiles, in pixels; the median if they differ.
        bytes_per_image: Expected size of a record's image.
    """

    options: EncodeOptions
    entries: dict[str, list[SourceImage]]
    image_px: int
    source_px: int
    bytes_per_image: float


def plan_encoding(
    config: ConvertConfig, is_cut: bool, scan_result: ScanResult, entries: dict[str, list[SourceImage]]
) -> EncodingPlan:
    """Decides how the records are encoded, and whose bytes pass through unchanged.

    Args:
        config: The flags.
        is_cut: Whether the images are cut to tiles.
        scan_result: What was read.
        entries: The source images of each split.

    Raises:
        UserError: Raw pixels of several sizes were requested; no reader could distinguish them.
    """
    image_px = config.image_px or (config.patch_px if is_cut else _common_px(scan_result.sizes))
    if config.encoding is Encoding.RAW and not image_px:
        sizes = ", ".join(f"{width} x {height}" for (width, height), _ in scan_result.sizes.most_common(3))
        raise UserError(f"--encoding=raw: expected images of one square size, found {sizes}; add --image_px=...")
    channels = 3 if scan_result.colour else 1
    keeps_size = not config.image_px or set(scan_result.sizes) == {(config.image_px, config.image_px)}
    passes_through = config.encoding is Encoding.JPEG and keeps_size and not is_cut
    if not passes_through:
        entries = {
            name: [dataclasses.replace(entry, can_store_as_is=False) for entry in members]
            for name, members in entries.items()
        }
    options = EncodeOptions(
        config.images, config.encoding.value, channels, config.image_px, config.jpeg_quality, config.max_megapixels
    )
    file_count = max(len(scan_result.accepted), 1)
    bytes_per_image = (
        scan_result.stored_bytes / file_count if passes_through or not image_px else float(image_px**2 * channels)
    )
    if config.encoding is Encoding.JPEG and not passes_through and image_px:
        bytes_per_image /= 4  # JPEG at quality 95 has about a quarter of the raw bytes of a photograph
    source_px = config.patch_px if is_cut else _median_px(scan_result.sizes)
    return EncodingPlan(options, entries, image_px, source_px, bytes_per_image)


def _median_px(sizes: Mapping[tuple[int, int], int]) -> int:
    """The median of the sides of squares with the same areas as the images."""
    sides = sorted((math.sqrt(width * height), count) for (width, height), count in sizes.items())
    passed, half = 0, sum(count for _, count in sides) / 2
    for side, count in sides:
        passed += count
        if passed >= half:
            return round(side)
    return 0


def _common_px(sizes: Mapping[tuple[int, int], int]) -> int:
    """The side of all images if they are squares of one size, else 0."""
    if len(sizes) != 1:
        return 0
    ((width, height),) = sizes
    return width if width == height else 0


def save_tables(
    stage: str, entries: dict[str, list[SourceImage]], written: Sequence[Shard], rejected: Sequence[tuple[str, str]]
) -> dict[str, str]:
    """Writes groups.csv, rejected.csv and manifest.csv to `stage` and returns the SHA-256 of each."""
    return {
        dataset.GROUPS: csv_files.save(os.path.join(stage, dataset.GROUPS), GROUP_COLUMNS, _group_rows(entries)),
        dataset.REJECTED: csv_files.save(os.path.join(stage, dataset.REJECTED), REJECTED_COLUMNS, rejected),
        dataset.MANIFEST: csv_files.save(
            os.path.join(stage, dataset.MANIFEST),
            MANIFEST_COLUMNS,
            ((shard.file, *row) for shard in written for row in shard.rows),
        ),
    }


def _group_rows(entries: dict[str, list[SourceImage]]) -> list[tuple[str, int, int, str]]:
    rows = []
    for split, members in entries.items():
        for entry in members:
            if entry.windows:
                rows += [(window.name(entry.path), window.label, entry.group, split) for window in entry.windows]
            else:
                rows.append((entry.path, entry.label, entry.group, split))
    return sorted(rows)


def notes(is_cut: bool, scan_result: ScanResult) -> collections.Counter:
    """Counts remarks on the images, and images so large that a crack may be lost at the input size of a network."""
    counts = scan_result.notes + _uneven_depths(scan_result.notes)
    large = sum(count for size, count in scan_result.sizes.items() if min(size) > WARN_ABOVE_PX)
    if is_cut or not large:
        return counts
    advice = (
        f"larger than {WARN_ABOVE_PX} pixels: each is one window to a network, which sees it at --image_px (128) and "
        "loses fine cracks; cut photographs of walls into windows, or draw masks"
    )
    return counts + collections.Counter({advice: large})


def _uneven_depths(notes: Mapping[str, int]) -> collections.Counter:
    """Warns that each image of more than 8 bits is scaled by itself, so a dark one may become brighter than others."""
    deep = {note: count for note, count in notes.items() if bit_depth.is_scaling(note)}
    if len(deep) < 2 or not any(bit_depth.GUESSED in note for note in deep):
        return collections.Counter()
    return collections.Counter({bit_depth.UNEVEN: sum(deep.values())})


def build_metadata(
    config: ConvertConfig,
    layout_scan: LayoutScan,
    encoding_plan: EncodingPlan,
    written: Sequence[Shard],
    checksums: dict[str, str],
    leaks: dict[str, int],
    rejected: Sequence[tuple[str, str]],
    notes: collections.Counter,
) -> dict:
    """Returns the content of dataset.json."""
    metadata = {
        "version": dataset.VERSION,
        "classes": list(layout_scan.classes),
        "positive_class": layout_scan.classes[1],
        "image_px": encoding_plan.image_px,
        "source_px": encoding_plan.source_px,
        "channels": encoding_plan.options.channels,
        "encoding": encoding_plan.options.encoding,
        "splits": {name: split_facts(name, layout_scan.classes, written) for name in splits.NAMES},
        "seed": config.seed,
        "group_by": config.group_by.value,
        "source": os.path.abspath(config.images),
        "layout": layout_scan.layout.value,
        "leaks": leaks,
        "rejected": len(rejected),
        "notes": _note_lines(notes + layout_scan.notes, layout_scan.passed_over),
        "tables": checksums,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "crackflow": __version__,
    }
    return json_schema.with_version(dataset.DATASET, metadata | {"fingerprint": dataset.fingerprint(metadata)})


def _note_lines(notes: collections.Counter, passed_over: collections.Counter) -> list[str]:
    lines = [f"{count:,} {what}" for what, count in sorted(notes.items())]
    return lines + [system_files.summary(passed_over)] * bool(passed_over)


def split_facts(name: str, classes: Sequence[str], written: Sequence[Shard]) -> dict:
    """Returns the entry of the split `name` in dataset.json."""
    split_shards = [shard for shard in written if shard.split == name]
    labels = collections.Counter(row[2] for shard in split_shards for row in shard.rows)
    count, different = (
        sum(shard.count for shard in split_shards),
        len({row[4] for shard in split_shards for row in shard.rows}),
    )
    return {
        "count": count,
        **({"different": different} if different < count else {}),  # some images were written several times
        "class_counts": {kind: labels[label] for label, kind in enumerate(classes)},
        "shards": [
            {"file": shard.file, "count": shard.count, "bytes": shard.bytes, "sha256": shard.sha256}
            for shard in split_shards
        ],
    }


def format_summary(out: str, facts: dict, seconds: float) -> str:
    """Returns the summary that is printed at the end of a conversion."""
    leaks, counts = facts["leaks"], {name: split["count"] for name, split in facts["splits"].items()}
    total = sum(counts.values())
    lines = [
        f"{total:,} images in {seconds:.1f} s ({total / seconds:,.0f} images/s): "
        + ", ".join(f"{name} {count:,}" for name, count in counts.items()),
        "classes: " + "; ".join(f"{name} {_class_counts(split)}" for name, split in facts["splits"].items()),
        f"copies: {leaks['byte_copies']:,} byte copies, {leaks['near_copies']:,} near copies; "
        f"{leaks['groups']:,} groups that stay together ({facts['group_by']})",
    ]
    if leaks["random_split_test"]:
        lines.append(_leak_line(leaks))
    if facts["layout"] == Layout.CLASSES.value:  # which may have been inferred
        lines.append(f"cracked: {facts['classes'][1]}; clean: {facts['classes'][0]}")
    if leaks["conflicts"]:
        lines.append(f"left out: {leaks['conflicts']:,} files whose picture is found in both classes")
    if leaks.get("surplus"):
        lines.append(f"left out: {leaks['surplus']:,} near copies beyond --max_near_copies")
    if leaks.get("straddling"):
        lines.append(
            f"left out: {leaks['straddling']:,} files that show what is in val or test as well, where they stay"
        )
    if facts["rejected"] and dataset.REJECTED in facts["tables"]:
        lines.append(f"rejected: {facts['rejected']:,} files, each with its reason in {dataset.REJECTED}")
    lines += [f"note: {note}" for note in facts["notes"]]
    return "\n".join(map(one_line, [*lines, f"wrote {out}, fingerprint {facts['fingerprint'][:12]}"]))


def _class_counts(split: dict) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in split["class_counts"].items())


def thin_splits(facts: dict, names: Sequence[str]) -> str:
    """Returns a line on the splits among `names` with no or too few images of a class; empty if there are none."""
    thin = splits.thin({name: facts["splits"][name]["class_counts"] for name in names})
    if not thin:
        return ""
    description = ", ".join(
        f"{split} has " + " and ".join(f"{count or 'none'} of {one_line(kind)!r}" for kind, count in counts.items())
        for split, counts in thin.items()
    )
    reason = (
        "copies and windows of one photograph stay together; "
        if facts["leaks"]["groups"] < facts["leaks"]["images"]
        else ""
    )
    return (
        f"{description}: expected {splits.MIN_IMAGES} or more of each class, for figures on fewer say little; {reason}"
        "add photographs, or convert with other parts (--split)"
    )


def _leak_line(leaks: dict[str, int]) -> str:
    tested, twins = leaks["random_split_test"], leaks["random_split_twins"]
    leaked = f"{twins:,} of {tested:,} test images ({100 * twins / tested:.1f} %)"
    return (
        f"leaks: a random split would have put a twin of {leaked} into training; this split: {leaks['split_twins']:,}"
    )
