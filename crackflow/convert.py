"""A folder of photographs becomes TFRecord shards, with no picture in two splits.

  python -m crackflow.convert --images=photos --out=data/photos
  python -m crackflow.convert --verify=data/photos
  python -m crackflow.convert --join=data/metu,data/made --out=data/both      # every image keeps its split
  python -m crackflow.convert --images=/nfs/photos --out=/nfs/data --runner=beam --beam_options=--runner=SparkRunner

Layouts: one folder a class (Positive/ Negative/, cracked/ uncracked/, ...); SDNET2018; images/ + masks/.
"""

import contextlib
import glob
import os
import time

from crackflow.conversion import grouping, join, layouts, near_duplicates, scan, shards, summary, verify
from crackflow.core import atomic, beam_pool, console, flags, process_pool
from crackflow.core.config.data import ConvertConfig, GroupBy, Layout, OnBad, Runner
from crackflow.core.errors import UserError, VerificationError
from crackflow.data import dataset, rejections, splits

OWNED_FILES = (dataset.GROUPS, dataset.REJECTED, dataset.MANIFEST, "*-of-*.tfrecord", "packs/**")


def run(config: ConvertConfig) -> None:
    """Convert; or with `verify` check, with `join` put together, what was converted before."""
    if config.verify:
        verify_dataset(config)
    elif config.join:
        join_datasets(config)
    else:
        convert(config)


def convert(config: ConvertConfig) -> dict:
    """The data set in `config.out`; returns its dataset.json. Raises: UserError."""
    began = time.perf_counter()
    size = process_pool.count(config.workers)
    by_name = config.group_by_name and config.group_by is not GroupBy.NONE
    found = layouts.scan_layout(config.images, config.layout, config.positive_class, by_name)
    _expect_apart("--images", config.images, config.out)
    if config.on_bad is OnBad.FAIL and found.rejected:
        raise scan.refusal(*min(found.rejected))
    with (
        atomic.folder(config.out, dataset.DATASET, config.overwrite, OWNED_FILES) as stage,
        _pool(config, size, stage) as pool,
    ):
        looks = near_duplicates.ImageSignatures.empty(len(found.files), os.path.join(stage, "thumbnails.tmp"))
        judge = scan.ScanOptions(config.images, config.max_megapixels, config.patch_px, config.min_crack_fraction)
        with console.progress_bar(len(found.files), "reading ") as advance:
            seen = scan.scan_images(found.files, looks, judge, config.on_bad, pool, 4 * size, advance)
        sorted_out = grouping.assign_splits(found.files, seen, looks, config, found.classes)
        with contextlib.suppress(FileNotFoundError):  # they may have been kept in memory
            os.remove(os.path.join(stage, "thumbnails.tmp"))
        rejected = sorted(found.rejected + seen.rejected + sorted_out.rejected)
        _expect_enough(config, found, sorted_out.entries, rejected, sorted_out.conflict)
        form = summary.plan_encoding(config, found.layout, seen, sorted_out.entries)
        plans = shards.plan_shards(form.entries, form.bytes_an_image, config.shards, config.seed)
        with console.progress_bar(sorted_out.leaks["images"], "writing ") as advance:
            written = []
            for shard in shards.write_shards(plans, stage, form.settings, pool, 2 * size):
                written.append(shard)
                advance(shard.count)
        for left in glob.glob(os.path.join(glob.escape(stage), "*.tmp")):  # of a task that Beam ran twice
            os.remove(left)
        checksums = summary.save_tables(stage, form.entries, written, rejected)
        notes = summary.notes(found.layout, seen)
        facts = summary.build_metadata(config, found, form, written, checksums, sorted_out.leaks, rejected, notes)
        dataset.save(stage, facts)
    console.info_lines(summary.format_summary(config.out, facts, time.perf_counter() - began))
    for line in filter(None, [sorted_out.conflict, *sorted_out.advice]):
        console.warning(line)
    _warn_of_thin_splits(
        facts, [name for name, part in zip(splits.NAMES, config.split or (1, 1, 1), strict=True) if part]
    )
    return facts


def verify_dataset(config: ConvertConfig) -> None:
    """Exit quietly when every record of `config.verify` is intact. Raises: CheckFailed naming every damage."""
    if atomic.is_unfinished(config.verify):
        raise VerificationError(
            f"{config.verify!r} is no whole data set: the run that made it was killed, or is not done"
        )
    if os.path.isdir(config.verify) and not os.path.exists(os.path.join(config.verify, dataset.DATASET)):
        raise VerificationError(f"{config.verify!r} is no whole data set: it has no {dataset.DATASET}")
    size = process_pool.count(config.workers)
    try:
        total = sum(split["count"] for split in dataset.read(config.verify).facts["splits"].values())
    except dataset.DatasetCorruptedError as error:
        raise VerificationError(str(error)) from error
    with process_pool.pool(size) as pool, console.progress_bar(total, "checking") as advance:
        found = verify.find_damage(config.verify, pool, 2 * size, advance)
    for damage in found:
        console.info(damage)
    if found:
        raise VerificationError(f"{config.verify!r} is damaged in {len(found)} places; the first: {found[0]}")
    console.info(f"{config.verify}: {total:,} images intact")


def join_datasets(config: ConvertConfig) -> dict:
    """One data set in `config.out` of several; returns its dataset.json. Raises: UserError."""
    began = time.perf_counter()
    parts = [dataset.load(folder) for folder in config.join]
    for folder in config.join:
        _expect_apart("--join", folder, config.out)
    repeat = config.repeat or (1,) * len(parts)
    total = sum(
        part.count(split) * join.repeat_count(split, often)
        for part, often in zip(parts, repeat, strict=True)
        for split in part.facts["splits"]
    )
    size = process_pool.count(config.workers)
    with (
        atomic.folder(config.out, dataset.DATASET, config.overwrite, OWNED_FILES) as stage,
        process_pool.pool(size) as pool,
    ):
        with console.progress_bar(total, "joining ") as advance:
            facts = join.merge_datasets(parts, repeat, stage, pool, 2 * size, advance)
        dataset.save(stage, facts)
    console.info_lines(summary.format_summary(config.out, facts, time.perf_counter() - began))
    _warn_of_thin_splits(facts, [name for name, split in facts["splits"].items() if split["count"]])
    return facts


def _warn_of_thin_splits(facts: dict, names: list[str]) -> None:
    """`names`: of the splits that are to have images."""
    if told := summary.thin_splits(facts, names):
        console.warning(told)


def _pool(config: ConvertConfig, size: int, stage: str):
    """Who works on images and shards: processes of this host, or Beam's workers."""
    if config.runner is Runner.BEAM:
        return contextlib.nullcontext(beam_pool.Pool(config.beam_options, stage))
    return process_pool.pool(size)


def _expect_apart(flag: str, source: str, out: str) -> None:
    """Neither may hold the other: a conversion would read the data set, or --overwrite remove the photographs."""
    root, place = os.path.realpath(source), os.path.realpath(out)
    if _within(root, place) or _within(place, root):
        raise UserError(
            f"--out: expected a folder outside {flag} that does not hold it, received {out!r}; choose another"
        )


def _within(folder: str, path: str) -> bool:
    try:
        return os.path.commonpath([folder, path]) == folder
    except ValueError:  # on two drives of Windows
        return False


def _expect_enough(
    config: ConvertConfig, found: layouts.LayoutScan, entries: dict, rejected: list, conflict: str
) -> None:
    labels = {
        label for part in entries.values() for one in part for label in ([w.label for w in one.windows] or [one.label])
    }
    if missing := [name for label, name in enumerate(found.classes) if label not in labels]:
        kind = "--layout=masks" if config.layout is Layout.MASKS else "--images"
        names = " or ".join(map(repr, missing))
        why = _why(found, missing, rejected)
        why = conflict if conflict and grouping.IN_OTHER_CLASS in why else why
        raise UserError(f"{kind}: expected usable images of both classes, found none of {names}; {why}")
    if config.split and config.split[0] and "train" not in entries:
        raise UserError(f"--split: expected some images in train, received {config.split}; give train a larger part")


def _why(found: layouts.LayoutScan, missing: list[str], rejected: list[tuple[str, str]]) -> str:
    """Why a class has no images left: what most of its files were rejected for, or what their masks say."""
    label_of = {file.path: file.label for file in found.files}
    lacking = {label for label, name in enumerate(found.classes) if name in missing} | {layouts.UNLABELLED}
    own = [row for row in rejected if label_of.get(row[0].split("#xywh=")[0], layouts.UNLABELLED) in lacking]
    why = rejections.most_common(own)
    if found.layout is Layout.MASKS and len(missing) == 1:
        is_all_cracked = missing[0] == found.classes[0]
        told = "there is crack in every window by the masks" if is_all_cracked else "there is no crack in the masks"
        told += "; expected white, 255, where there is crack and black elsewhere: are they inverted?"
        return f"{told}; {why}" if why else told
    return why or "none was given"


if __name__ == "__main__":
    flags.main(ConvertConfig, run, __doc__)
