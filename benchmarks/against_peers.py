"""How fast does each input pipeline deliver METU? crackflow, its peers, and the limits of the hardware.

  bash benchmarks/peers/environments.sh                                     # once: one environment per family
  python -m benchmarks.against_peers --json=benchmarks/results/peers.json

All deliver shuffled batches of uint8 [128, px, px, 3] from the same files. All programs of a size are started and
warmed up; then each runs for a window in turn while the others wait, so that a slow phase of the machine affects all of
them.
"""

import os
import pathlib
import statistics
import sys
import tempfile

from benchmarks import harness
from benchmarks.competitor import Competitor, python_of
from benchmarks.peers import roster

PEERS = harness.REPOSITORY / "benchmarks" / "peers"


def measure_size(image_px: int, work: pathlib.Path, seconds: float, windows: int) -> dict:
    """Every competitor at `image_px`: median, lowest and highest window, or the reason why it could not run."""
    competitors, results = {}, {}
    for name, (environment, sizes) in roster.PEERS.items():
        if image_px not in sizes:
            continue
        command = [str(python_of(environment)), str(PEERS / f"{name}.py")]
        command += ["--images", str(harness.data_folder() / "metu"), "--image_px", str(image_px)]
        command += ["--batch", "128", "--work", str(work / name)]
        try:
            competitors[name] = Competitor(command, work / f"{name}-{image_px}.log")
        except (OSError, EOFError) as error:
            results[name] = {"absent": str(error)}
        print(f"{image_px} px: {name} {results.get(name, 'is ready')}", file=sys.stderr)
    for _ in range(windows):
        for competitor in competitors.values():
            competitor.window(seconds)
    for name, competitor in competitors.items():
        competitor.end()
        speeds = {
            "median": statistics.median(competitor.speeds),
            "low": min(competitor.speeds),
            "high": max(competitor.speeds),
        }
        results[name] = {"version": competitor.metadata["version"]} | {
            key: round(value) for key, value in speeds.items()
        }
        print(f"{image_px} px: {name:<18} {speeds['median']:10,.0f} images/s", file=sys.stderr)
    return results


def ratios(sizes: dict) -> dict:
    """crackflow's median over that of each competitor, and the stream over cores x the decoding speed of one core."""
    table = {}
    for size, rates in sizes.items():
        medians = {name: rate["median"] for name, rate in rates.items() if "median" in rate}
        for pipeline in ("crackflow_stream", "crackflow_pack"):
            others = {
                name: round(medians[pipeline] / median, 2) for name, median in medians.items() if name != pipeline
            }
            table[f"{pipeline} at {size}"] = others
        for decoder in ("turbojpeg_limit", "turbojpeg_accurate"):
            if decoder in medians:
                limit = len(os.sched_getaffinity(0)) * medians[decoder]
                row = table[f"crackflow_stream at {size}"]
                row[f"{decoder}, all cores"] = round(medians["crackflow_stream"] / limit, 2)
    return table


def main() -> None:
    options = harness.arguments(__doc__, seconds=2.0, windows=7, work="")
    with tempfile.TemporaryDirectory(prefix="crackflow-peers-") as folder:
        work = pathlib.Path(options.work or folder)
        work.mkdir(parents=True, exist_ok=True)
        sizes = {f"{px} px": measure_size(px, work, options.seconds, options.windows) for px in (227, 128)}
    results = {"batch": 128, "windows": options.windows, "seconds": options.seconds}
    harness.save(options.json, results | {"images_per_sec": sizes, "ours_over_theirs": ratios(sizes)})


if __name__ == "__main__":
    main()
