"""Measurement of throughput that one slow moment does not distort.

Synopsis::

    batches = iter(dataset)
    speed = throughput.measure(lambda: len(next(batches)[1]), seconds=1.0, windows=5)
    speed.median, speed.low, speed.high       # images/s
"""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Throughput(NamedTuple):
    """Images per second over several windows."""

    median: float
    low: float
    high: float


def measure(advance: Callable[[], int], seconds: float, windows: int) -> Throughput:
    """Measures the throughput of `advance`.

    `advance` runs once, and then for as long as one window, before the measurement begins: tracing, full queues and
    cold caches are left out.

    Args:
        advance: does some work and returns on how many images.
        seconds: length of a window.
        windows: number of windows.
    """
    return interleaved({"": advance}, seconds, windows)[""]


def interleaved(competitors: dict[str, Callable[[], int]], seconds: float, windows: int) -> dict[str, Throughput]:
    """Measures several competitors as `measure` does, one window of each in turn, so that a slow moment affects all."""
    for advance in competitors.values():
        advance()
        _measure_window(advance, seconds)
    speeds_by_name: dict[str, list[float]] = {name: [] for name in competitors}
    for _ in range(windows):
        for name, advance in competitors.items():
            speeds_by_name[name].append(_measure_window(advance, seconds))
    return {
        name: Throughput(statistics.median(speeds), min(speeds), max(speeds)) for name, speeds in speeds_by_name.items()
    }


def _measure_window(advance: Callable[[], int], seconds: float) -> float:
    images, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds or not images:
        images += advance()
    return images / max(passed, 1e-9)
