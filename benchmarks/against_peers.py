"""How fast does each input pipeline deliver METU, side by side? Ours, the peers', and what the hardware allows.

  bash benchmarks/peers/environments.sh                                     # once: an environment for each family
  python -m benchmarks.against_peers --json=benchmarks/results/peers.json

All deliver shuffled batches of uint8 [128, px, px, 3] from the same files. All programs of a size are
started and warmed up; then each runs for a window in turn while the others wait, so that a slow moment of the machine
hits all.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks import harness
from benchmarks.peers import roster

PEERS = harness.REPOSITORY / "benchmarks" / "peers"


class Competitor:
    """One program that waits for its window. Raises: EOFError when it ends before its time."""

    def __init__(self, name: str, python: pathlib.Path, image_px: int, work: pathlib.Path) -> None:
        command = [str(python), str(PEERS / f"{name}.py"), "--images", str(harness.data_folder() / "metu")]
        command += ["--image_px", str(image_px), "--batch", "128", "--work", str(work / name)]
        self.log = open(work / f"{name}-{image_px}.log", "w+")
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.log, text=True)
        self.speeds: list[float] = []
        self.facts = self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            raise EOFError((self.log.read().strip().splitlines() or ["it said nothing"])[-1])
        return json.loads(line)

    def window(self, seconds: float) -> None:
        """One window, begun when the others have filled their queues and fallen silent."""
        _wait_for_silence()
        self.process.stdin.write(f"window {seconds}\n")
        self.process.stdin.flush()
        self.speeds.append(self._answer()["images_per_sec"])

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)


def _wait_for_silence() -> None:
    """Until the cores were idle for 0.2 s, or 5 s are over."""
    before = _busy_seconds()
    for _ in range(25):
        time.sleep(0.2)
        now = _busy_seconds()
        if now - before < 0.04:
            return
        before = now


def _busy_seconds() -> float:
    """CPU seconds that all cores together have worked since the machine started."""
    with open("/proc/stat") as file:
        user, nice, system = (int(ticks) for ticks in file.readline().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def python_of(environment: str) -> pathlib.Path:
    if environment == roster.OURS:
        return pathlib.Path(sys.executable)
    home = pathlib.Path(os.environ.get("PEERS_HOME", pathlib.Path.home() / ".cache" / "crackflow-peers"))
    return home / environment / "bin" / "python"


def one_size(image_px: int, work: pathlib.Path, seconds: float, windows: int) -> dict:
    """Every competitor at `image_px`: median, lowest and highest window; or the reason why it could not take part."""
    competitors, found = {}, {}
    for name, (environment, sizes) in roster.PEERS.items():
        if image_px not in sizes:
            continue
        try:
            competitors[name] = Competitor(name, python_of(environment), image_px, work)
        except (OSError, EOFError) as error:
            found[name] = {"absent": str(error)}
        print(f"{image_px} px: {name} {found.get(name, 'is ready')}", file=sys.stderr)
    for _ in range(windows):
        for one in competitors.values():
            one.window(seconds)
    for name, one in competitors.items():
        one.end()
        speeds = {"median": statistics.median(one.speeds), "low": min(one.speeds), "high": max(one.speeds)}
        found[name] = {"version": one.facts["version"]} | {key: round(value) for key, value in speeds.items()}
        print(f"{image_px} px: {name:<18} {speeds['median']:10,.0f} images/s", file=sys.stderr)
    return found


def ratios(sizes: dict) -> dict:
    """Ours over each competitor's median, and the stream over cores x one core's decoding."""
    found = {}
    for size, rates in sizes.items():
        medians = {name: rate["median"] for name, rate in rates.items() if "median" in rate}
        for ours in ("crackflow_stream", "crackflow_pack"):
            others = {name: round(medians[ours] / median, 2) for name, median in medians.items() if name != ours}
            found[f"{ours} at {size}"] = others
        for one_core in ("turbojpeg_limit", "turbojpeg_accurate"):
            if one_core in medians:
                limit = len(os.sched_getaffinity(0)) * medians[one_core]
                place = found[f"crackflow_stream at {size}"]
                place[f"{one_core}, all cores"] = round(medians["crackflow_stream"] / limit, 2)
    return found


def main() -> None:
    options = harness.arguments(__doc__, seconds=2.0, windows=7, work="")
    with tempfile.TemporaryDirectory(prefix="crackflow-peers-") as place:
        work = pathlib.Path(options.work or place)
        work.mkdir(parents=True, exist_ok=True)
        sizes = {f"{px} px": one_size(px, work, options.seconds, options.windows) for px in (227, 128)}
    results = {"batch": 128, "windows": options.windows, "seconds": options.seconds}
    harness.save(options.json, results | {"images_per_sec": sizes, "ours_over_theirs": ratios(sizes)})


if __name__ == "__main__":
    main()
