import itertools
import time

import pytest

from crackflow.core import throughput


def test_images_a_second_are_counted_by_the_clock():
    def advance():
        time.sleep(0.01)
        return 5

    speed = throughput.measure(advance, seconds=0.1, windows=3)
    assert speed.low <= speed.median <= speed.high <= 500
    assert speed.median > 250


def test_the_first_calls_are_left_out():
    waits = itertools.chain([0.3], itertools.repeat(0.001))

    def advance():
        time.sleep(next(waits))
        return 1

    assert throughput.measure(advance, seconds=0.05, windows=3).low > 100


def test_one_slow_window_does_not_decide():
    began = time.perf_counter()

    def advance():
        late = 0.25 < time.perf_counter() - began < 0.3
        time.sleep(0.3 if late else 0.001)
        return 1

    speed = throughput.measure(advance, seconds=0.1, windows=5)
    assert speed.low < speed.median / 3


@pytest.mark.parametrize("seconds", [0.0, 1e-9])
def test_a_window_holds_one_call_at_least(seconds):
    calls = []
    throughput.measure(lambda: calls.append(1) or 1, seconds, windows=4)
    assert len(calls) == 6
