"""The search of benchmarks.frames, run in its own process for a clean memory measurement.

  python -m benchmarks.frames_search THUMBNAIL.npy COUNT NOISE

Prints a JSON object: images, groups, seconds, cpu_seconds, peak_resident_mb (of the process, including libraries).
"""

import json
import sys
import time

import numpy as np

from crackflow.conversion import near_duplicates


def synthetic_signatures(thumbnail: np.ndarray, noise: float, count: int) -> near_duplicates.ImageSignatures:
    """`count` frames: `thumbnail` [16, 16] plus normal noise with standard deviation `noise`; all digests differ."""
    random, signatures = np.random.default_rng(count), near_duplicates.ImageSignatures.empty(count)
    for start in range(0, count, 10_000):
        stop = min(start + 10_000, count)
        frames = thumbnail + random.normal(0, noise, (stop - start, *thumbnail.shape))
        signatures.thumb[start:stop] = frames - frames.mean((1, 2), keepdims=True)
    signatures.mean[:] = 128 + 6 * np.sin(np.linspace(0, 20, count))
    signatures.digest[:, :8] = np.arange(count, dtype=">u8").view(np.uint8).reshape(-1, 8)
    return signatures


def peak_resident() -> int:
    """Peak resident bytes. getrusage would include the memory of the parent process at the start."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:"))


def main() -> None:
    count = int(sys.argv[2])
    signatures = synthetic_signatures(np.load(sys.argv[1]), float(sys.argv[3]), count)
    began, cpu_began = time.perf_counter(), time.process_time()
    groups = len(np.unique(near_duplicates.duplicate_groups(signatures, near=True)))
    row = {
        "images": count,
        "groups": groups,
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time() - cpu_began, 2),
        "peak_resident_mb": round(peak_resident() / 1e6),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
