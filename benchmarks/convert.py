"""How fast is the conversion of METU, leak analysis included, and how much memory does it use?

  python -m benchmarks.convert --json=benchmarks/results/convert.json

Measures the whole command as a process, start-up included. A first run brings the source files into the page cache.
"""

import pathlib
import statistics
import sys
import tempfile

from benchmarks import harness


def main() -> None:
    options = harness.arguments(__doc__, runs=5)
    images = harness.data_folder() / "metu"
    count = sum(1 for _ in images.glob("*/*.jpg"))
    runs = []
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        out = pathlib.Path(folder) / "data"
        command = [sys.executable, "-m", "crackflow.convert", f"--images={images}", f"--out={out}", "--overwrite"]
        peak = harness.watch(command, memory=True).peak_bytes
        runs = [harness.watch(command) for _ in range(options.runs)]
    speeds = [count / run.seconds for run in runs]
    harness.save(
        options.json,
        {
            "images": count,
            "images_per_sec": {
                "median": round(statistics.median(speeds)),
                "low": round(min(speeds)),
                "high": round(max(speeds)),
            },
            "peak_resident_mb": round(peak / 1e6),
            "runs": len(runs),
        },
    )


if __name__ == "__main__":
    main()
