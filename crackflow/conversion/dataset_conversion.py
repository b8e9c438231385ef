"""From a folder of photographs, or from datasets, to one dataset: all steps of crackflow.convert in their order.

Synopsis::

    facts = dataset_conversion.convert_images(ConvertConfig(images="photos", out="data/photos"))
    facts = dataset_conversion.join_datasets(ConvertConfig(join=("data/a", "data/b"), out="data/both"))
    facts["splits"]["train"]["count"]           # facts: the content of dataset.json
"""

import contextlib
import glob
import os
import time

from crackflow.conversion import folder_splits, grouping, join, layouts, near_duplicates, scan, shards, summary
from crackflow.core import atomic, beam_pool, console, process_pool
from crackflow.core.config.data import ConvertConfig, GroupBy, Layout, OnBad, Runner
from crackflow.core.errors import UserError
from crackflow.data import dataset, rejections, splits

OWNED_FILES = (dataset.GROUPS, dataset.REJECTED, dataset.MANIFEST, "*-of-*.tfrecord", "packs/**")


def convert_images(config: ConvertConfig, announce: bool = True, both_classes: bool = True) -> dict:
    """Converts `config.images` to a dataset in `config.out`.

    Args:
        config: The flags.
        announce: Whether to print the summary.
        both_classes: Whether images of one class alone are refused.

    Returns:
        The content of its dataset.json.

    Raises:
        UserError: The images or the options cannot be used.
    """
    start = time.perf_counter()
    size = process_pool.count(config.workers)
    by_name = config.group_by_name and config.group_by is not GroupBy.NONE
    layout_scan = layouts.scan_layout(config.images, config.layout, config.positive_class, by_name, both_classes)
    layout_scan = folder_splits.settle(layout_scan, config.split)
    _require_disjoint("--images", config.images, config.out)
    if config.on_bad is OnBad.FAIL and layout_scan.rejected:
        raise scan.refusal(*min(layout_scan.rejected))
    with (
        atomic.folder(config.out, dataset.DATASET, config.overwrite, OWNED_FILES) as stage,
        _create_pool(config, size, stage) as pool,
    ):
        signatures = near_duplicates.ImageSignatures.empty(
            len(layout_scan.files), os.path.join(stage, "thumbnails.tmp")
        )
        scan_options = scan.ScanOptions(
            config.images, config.max_megapixels, config.patch_px, config.min_crack_fraction
        )
        with console.progress_bar(len(layout_scan.files), "reading ") as advance:
            scan_result = scan.scan_images(
                layout_scan.files, signatures, scan_options, config.on_bad, pool, 4 * size, advance
            )
        assignment = grouping.assign_splits(layout_scan.files, scan_result, signatures, config, layout_scan.classes)
        with contextlib.suppress(FileNotFoundError):  # the thumbnails may be in memory
            os.remove(os.path.join(stage, "thumbnails.tmp"))
        rejected = sorted(layout_scan.rejected + scan_result.rejected + assignment.rejected)
        if both_classes or not assignment.entries:
            _require_both_classes(config, layout_scan, assignment.entries, rejected, assignment.conflict)
        encoding_plan = summary.plan_encoding(config, layout_scan.is_cut, scan_result, assignment.entries)
        plans = shards.plan_shards(encoding_plan.entries, encoding_plan.bytes_per_image, config.shards, config.seed)
        with console.progress_bar(assignment.leaks["images"], "writing ") as advance:
            written = []
            for shard in shards.write_shards(plans, stage, encoding_plan.options, pool, 2 * size):
                written.append(shard)
                advance(shard.count)
        for leftover in glob.glob(os.path.join(glob.escape(stage), "*.tmp")):  # left by a task that Beam ran twice
            os.remove(leftover)
        checksums = summary.save_tables(stage, encoding_plan.entries, written, rejected)
        notes = summary.notes(layout_scan.is_cut, scan_result)
        facts = summary.build_metadata(
            config, layout_scan, encoding_plan, written, checksums, assignment.leaks, rejected, notes
        )
        dataset.save(stage, facts)
    if announce:
        console.info_lines(summary.format_summary(config.out, facts, time.perf_counter() - start))
    for line in filter(None, [assignment.conflict, *assignment.advice]):
        console.warning(line)
    if not announce:
        return facts
    _warn_about_thin_splits(
        facts, [name for name, part in zip(splits.NAMES, config.split or (1, 1, 1), strict=True) if part]
    )
    return facts


def join_datasets(config: ConvertConfig) -> dict:
    """Joins the datasets `config.join` into one dataset in `config.out`.

    Returns:
        The content of its dataset.json.

    Raises:
        UserError: The datasets cannot be joined.
    """
    start = time.perf_counter()
    parts = [dataset.load(folder) for folder in config.join]
    for folder in config.join:
        _require_disjoint("--join", folder, config.out)
    repeat = config.repeat or (1,) * len(parts)
    total = sum(
        part.count(split) * join.repeat_count(split, training_repeat)
        for part, training_repeat in zip(parts, repeat, strict=True)
        for split in part.metadata["splits"]
    )
    size = process_pool.count(config.workers)
    with (
        atomic.folder(config.out, dataset.DATASET, config.overwrite, OWNED_FILES) as stage,
        process_pool.pool(size) as pool,
    ):
        with console.progress_bar(total, "joining ") as advance:
            facts = join.merge_datasets(parts, repeat, stage, pool, 2 * size, advance)
        dataset.save(stage, facts)
    console.info_lines(summary.format_summary(config.out, facts, time.perf_counter() - start))
    _warn_about_thin_splits(facts, [name for name, split in facts["splits"].items() if split["count"]])
    return facts


def _warn_about_thin_splits(facts: dict, names: list[str]) -> None:
    """Warns if a split among `names`, those that should have images, has too few of a class."""
    if message := summary.thin_splits(facts, names):
        console.warning(message)


def _create_pool(config: ConvertConfig, size: int, stage: str):
    """The pool that processes images and shards: processes of this host, or Beam workers."""
    if config.runner is Runner.BEAM:
        return contextlib.nullcontext(beam_pool.Pool(config.beam_options, stage))
    return process_pool.pool(size)


def _require_disjoint(flag: str, source: str, out: str) -> None:
    """Raises UserError if `source` contains `out` or `out` contains `source`.

    A conversion would read the dataset, or --overwrite would remove the photographs.
    """
    root, target = os.path.realpath(source), os.path.realpath(out)
    if _within(root, target) or _within(target, root):
        raise UserError(
            f"--out: expected a folder outside {flag} that does not hold it, received {out!r}; choose another"
        )


def _within(folder: str, path: str) -> bool:
    try:
        return os.path.commonpath([folder, path]) == folder
    except ValueError:  # on two drives of Windows
        return False


def _require_both_classes(
    config: ConvertConfig, layout_scan: layouts.LayoutScan, entries: dict, rejected: list, conflict: str
) -> None:
    labels = {
        label
        for part in entries.values()
        for entry in part
        for label in ([window.label for window in entry.windows] or [entry.label])
    }
    if missing := [name for label, name in enumerate(layout_scan.classes) if label not in labels]:
        kind = "--layout=masks" if config.layout is Layout.MASKS else "--images"
        names = " or ".join(map(repr, missing))
        reason = _explain_missing_class(layout_scan, missing, rejected)
        reason = conflict if conflict and grouping.IN_OTHER_CLASS in reason else reason
        raise UserError(f"{kind}: expected usable images of both classes, found none of {names}; {reason}")
    if config.split and config.split[0] and "train" not in entries:
        raise UserError(f"--split: expected some images in train, received {config.split}; give train a larger part")


def _explain_missing_class(layout_scan: layouts.LayoutScan, missing: list[str], rejected: list[tuple[str, str]]) -> str:
    """Why a class has no images: the most common reason for rejecting its files, or what their masks contain."""
    label_of = {file.path: file.label for file in layout_scan.files}
    lacking = {label for label, name in enumerate(layout_scan.classes) if name in missing} | {layouts.UNLABELLED}
    class_rejected = [row for row in rejected if label_of.get(row[0].split("#xywh=")[0], layouts.UNLABELLED) in lacking]
    reason = rejections.most_common(class_rejected)
    if layout_scan.is_cut and len(missing) == 1 and layout_scan.layout is not Layout.MASKS:
        word = "no window is free of crack" if missing[0] == layout_scan.classes[0] else "nothing is drawn as crack"
        return f"{word}; {reason}" if reason else f"{word} (--patch_px, --positive_class)"
    if layout_scan.layout is Layout.MASKS and len(missing) == 1:
        is_all_cracked = missing[0] == layout_scan.classes[0]
        message = "there is crack in every window by the masks" if is_all_cracked else "there is no crack in the masks"
        message += "; expected white, 255, where there is crack and black elsewhere: are they inverted?"
        return f"{message}; {reason}" if reason else message
    return reason or "none was given"
