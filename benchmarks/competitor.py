"""A program that waits for its window, so that several can be measured in turn while the others are idle.

Synopsis::

    dali = competitor.Competitor([python, "benchmarks/peers/dali.py", ...], log)     # started and warmed up
    dali.window(seconds=2.0)
    dali.end()
    dali.speeds                                                                       # images/s, one per window
"""

import json
import os
import pathlib
import subprocess
import sys
import time

from benchmarks.peers import roster


class Competitor:
    """One program that waits for its window. Raises: EOFError if it ends early."""

    def __init__(self, command: list[str], log: pathlib.Path, variables: dict[str, str] | None = None) -> None:
        self.log = open(log, "w+")
        pipe = subprocess.PIPE
        # Without crackflow's TensorFlow settings of this process: they would speed up other TensorFlow programs.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "KERAS_"))}
        environment = inherited | (variables or {})
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.log, text=True, env=environment)
        self.speeds: list[float] = []
        self.metadata = self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            raise EOFError((self.log.read().strip().splitlines() or ["it said nothing"])[-1])
        return json.loads(line)

    def window(self, seconds: float) -> None:
        """Measures one window, after the others have filled their queues and become idle."""
        _wait_for_silence()
        self.process.stdin.write(f"window {seconds}\n")
        self.process.stdin.flush()
        self.speeds.append(self._answer()["images_per_sec"])

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)


def _wait_for_silence() -> None:
    """Waits until the cores were idle for 0.2 s, at most 5 s."""
    before = _busy_seconds()
    for _ in range(25):
        time.sleep(0.2)
        now = _busy_seconds()
        if now - before < 0.04:
            return
        before = now


def _busy_seconds() -> float:
    """Busy CPU seconds of all cores since the machine started."""
    with open("/proc/stat") as file:
        user, nice, system = (int(ticks) for ticks in file.readline().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def python_of(environment: str) -> pathlib.Path:
    if environment == roster.CRACKFLOW_ENV:
        return pathlib.Path(sys.executable)
    home = pathlib.Path(os.environ.get("PEERS_HOME", pathlib.Path.home() / ".cache" / "crackflow-peers"))
    return home / environment / "bin" / "python"
