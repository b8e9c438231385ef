"""How fast something is, measured so that one slow moment does not decide.

Synopsis::

    batches = iter(dataset)
    found = timing.rate(lambda: len(next(batches)[1]), seconds=1.0, windows=5)
    found.median, found.low, found.high       # images/s
"""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Rate(NamedTuple):
    """Images a second over several windows."""

    median: float
    low: float
    high: float


def rate(advance: Callable[[], int], seconds: float, windows: int) -> Rate:
    """`advance()` does some work and says on how many images; it runs for `windows` windows of `seconds` each.

    Before them it runs once, and then for as long as one window: tracing, full queues and cold caches are left out.
    """
    advance()
    _window(advance, seconds)
    found = [_window(advance, seconds) for _ in range(windows)]
    return Rate(statistics.median(found), min(found), max(found))


def _window(advance: Callable[[], int], seconds: float) -> float:
    images, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds or not images:
        images += advance()
    return images / max(passed, 1e-9)
