"""Does grouping find all near-copies, does it join different images, and how does its cost grow with the dataset?

  python -m benchmarks.leaks --json=benchmarks/results/leaks.json

Oracle: METU's `metu_groups.csv`, computed by comparing 24 x 24 thumbnails. Cost: sets of 1 k to 640 k thumbnails. Each
is a random mixture of two METU thumbnails, so that all differ but have METU's contrasts.
"""

import csv
import pathlib
import resource
import sys
import tempfile
import time

import numpy as np

from benchmarks import harness
from crackflow.conversion import layouts, near_duplicates, scan
from crackflow.core import csv_files, process_pool
from crackflow.core.config.data import Layout, OnBad

SIZES = (1_000, 10_000, 40_000, 160_000, 640_000)


def against_oracle(data: pathlib.Path) -> dict:
    """Converts METU and compares groups and splits with the oracle."""
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        out = pathlib.Path(folder) / "data"
        harness.watch([sys.executable, "-m", "crackflow.convert", f"--images={data / 'metu'}", f"--out={out}"])
        rows = {row["path"]: row for row in csv_files.read(str(out / "groups.csv"))}
    members: dict[str, list[dict]] = {}
    joined: dict[str, set[str]] = {}
    with open(data / "metu_groups.csv", newline="") as file:
        for truth in csv.DictReader(file):
            row = rows[f"{truth['class']}/{truth['file']}"]
            members.setdefault(truth["group"], []).append(row)
            joined.setdefault(row["group"], set()).add(truth["group"])
    num_torn = sum(len({row["split"] for row in group}) > 1 for group in members.values())
    num_cut = sum(len({row["group"] for row in group}) > 1 for group in members.values())
    num_merged = sum(len(groups) for groups in joined.values() if len(groups) > 1)
    return {
        "oracle_groups": len(members),
        "in_two_splits": num_torn,
        "in_two_splits_percent": round(100 * num_torn / len(members), 3),
        "in_two_of_our_groups": num_cut,
        "joined_to_another": num_merged,
        "joined_percent": round(100 * num_merged / len(members), 3),
    }


def thumbnails(data: pathlib.Path) -> np.ndarray:
    """float32 [10000, 16, 16]: METU's thumbnails, zero-centred."""
    layout = layouts.scan_layout(str(data / "metu"), Layout.CLASSES, "")
    signatures = near_duplicates.ImageSignatures.empty(len(layout.files))
    settings = scan.ScanOptions(str(data / "metu"), 100.0, 128, 0.005)
    size = process_pool.count(0)
    with process_pool.pool(size) as pool:
        scan.scan_images(layout.files, signatures, settings, OnBad.SKIP, pool, 4 * size, lambda _: None)
    return signatures.thumb.astype(np.float32)


def synthetic_signatures(base: np.ndarray, count: int, seed: int) -> near_duplicates.ImageSignatures:
    """`count` distinct images: sums of two METU thumbnails, one of them transposed and mirrored."""
    random = np.random.default_rng(seed)
    signatures = near_duplicates.ImageSignatures.empty(count)
    for start in range(0, count, 10_000):
        stop = min(start + 10_000, count)
        first, second = random.integers(0, len(base), (2, stop - start))
        weight = random.uniform(0.2, 0.98, (stop - start, 1, 1)).astype(np.float32)
        mixed = weight * base[first] + np.sqrt(1 - weight**2) * base[second].swapaxes(1, 2)[:, ::-1]
        signatures.thumb[start:stop] = mixed
        signatures.mean[start:stop] = random.uniform(100, 200, stop - start)
        signatures.digest[start:stop, :8] = np.arange(start, stop, dtype=">u8").view(np.uint8).reshape(-1, 8)
    return signatures


def main() -> None:
    options = harness.arguments(__doc__, largest=640_000)
    data = harness.data_folder()
    base = thumbnails(data)
    curve = []
    for count in (size for size in SIZES if size <= options.largest):
        signatures = synthetic_signatures(base, count, seed=count)
        began = time.perf_counter()
        near_duplicates.duplicate_groups(signatures, near=True)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        curve.append({"images": count, "seconds": round(seconds, 2), "us_an_image": round(1e6 * seconds / count, 1)})
        curve[-1]["peak_resident_mb"] = round(peak)
        print(curve[-1], file=sys.stderr)
    harness.save(options.json, {"oracle": against_oracle(data), "curve": curve})


if __name__ == "__main__":
    main()
