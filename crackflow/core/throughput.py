"""How fast something is, measured so that one slow moment does not decide.

Synopsis::

    batches = iter(dataset)
    found = throughput.measure(lambda: len(next(batches)[1]), seconds=1.0, windows=5)
    found.median, found.low, found.high       # images/s
"""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Throughput(NamedTuple):
    """Images a second over several windows."""

    median: float
    low: float
    high: float


def measure(advance: Callable[[], int], seconds: float, windows: int) -> Throughput:
    """`advance()` does some work and says on how many images; it runs for `windows` windows of `seconds` each.

    Before them it runs once, and then for as long as one window: tracing, full queues and cold caches are left out.
    """
    return interleaved({"": advance}, seconds, windows)[""]


def interleaved(competitors: dict[str, Callable[[], int]], seconds: float, windows: int) -> dict[str, Throughput]:
    """As `measure`, for several that are to be compared: a window of each in turn, so that a slow moment hits all."""
    for advance in competitors.values():
        advance()
        _window(advance, seconds)
    found = {name: [] for name in competitors}
    for _ in range(windows):
        for name, advance in competitors.items():
            found[name].append(_window(advance, seconds))
    return {name: Throughput(statistics.median(speeds), min(speeds), max(speeds)) for name, speeds in found.items()}


def _window(advance: Callable[[], int], seconds: float) -> float:
    images, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds or not images:
        images += advance()
    return images / max(passed, 1e-9)
