"""Shared by all benchmarks: runs a command and measures it, and saves results with machine and versions as JSON.

Synopsis::

    watched = harness.watch([sys.executable, "-m", "crackflow.convert", ...])
    watched.seconds, watched.peak_bytes
    harness.save("benchmarks/results/convert.json", results)
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from crackflow.core import runtime

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
SAMPLE_SECONDS = 0.05


@dataclasses.dataclass(frozen=True)
class Watched:
    """One finished command. `peak_bytes`: the peak proportional resident memory summed over its processes, 0 if it
    was not sampled."""

    seconds: float
    peak_bytes: int
    output: str


def data_folder() -> pathlib.Path:
    """The folder of the real images: $CRACKFLOW_DATA, or ../shared/data next to the repository."""
    folder = pathlib.Path(os.environ.get("CRACKFLOW_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "metu").is_dir():
        sys.exit(f"expected the METU images in {folder / 'metu'}; set CRACKFLOW_DATA")
    return folder


def arguments(about: str | None, **extra: object) -> argparse.Namespace:
    """Parses --json=FILE, and one --NAME for each of `extra`, with its default."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", default="", help="write the results to this file")
    for name, default in extra.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    return parser.parse_args()


def watch(command: list[str], memory: bool = False) -> Watched:
    """Runs `command` to its end. Exits the benchmark if it fails.

    `memory`: also sample memory. Do not use it when measuring time: the kernel walks every page for each sample, and
    training took twice as long (97 s against 50 s).
    """
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=REPOSITORY)
        peak = 0
        while memory and process.poll() is None:
            peak = max(peak, _resident(process.pid))
            time.sleep(SAMPLE_SECONDS)
        process.wait()
        seconds = time.perf_counter() - began
        output.seek(0)
        text = output.read()
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{text}")
    return Watched(seconds, peak, text)


def _resident(pid: int) -> int:
    """Proportional resident bytes of `pid` and its descendants: shared memory counts once."""
    total = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            total += sum(int(line.split()[1]) << 10 for line in file if line.startswith("Pss:"))
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                total += sum(_resident(int(child)) for child in file.read().split())
    except OSError:  # the process ended meanwhile
        return total
    return total


def results(path: str) -> dict:
    """The results that an earlier run saved to `path`; {} if there are none."""
    file = pathlib.Path(path)
    return json.loads(file.read_text())["results"] if path and file.exists() else {}


def save(path: str, results: object, quiet: bool = False) -> None:
    """Prints `results`, unless `quiet`; with a `path`, also writes them there with machine and versions."""
    content = {"machine": runtime.machine(), "versions": runtime.versions(), "results": results}
    content["date"] = time.strftime("%Y-%m-%d")
    if not quiet:
        print(json.dumps(results, indent=1))
    if path:
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(path).write_text(json.dumps(content, indent=1) + "\n")
