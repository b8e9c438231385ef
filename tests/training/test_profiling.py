import pytest

from crackflow.core.throughput import Throughput
from crackflow.training import profiling


def stages(**speeds):
    names = {
        "disk": profiling.DISK,
        "stream": profiling.STREAM,
        "pack": profiling.PACK,
        "step": profiling.STEP,
        "together": profiling.TOGETHER,
    }
    return [profiling.StageTiming(names[name], Throughput(value, value, value), "") for name, value in speeds.items()]


@pytest.mark.parametrize(
    ("speeds", "on_gpu", "bottleneck", "help"),
    [
        ({"disk": 9e4, "stream": 3e3, "pack": 1e5, "step": 250, "together": 249}, False, "the train step", "a GPU"),
        ({"disk": 9e4, "stream": 3e3, "pack": 1e5, "step": 250, "together": 249}, True, "the train step", "batch_size"),
        ({"disk": 9e4, "stream": 3e3, "step": 9e3, "together": 3e3}, True, "the input: decoding", "--input=pack"),
        ({"disk": 3.1e3, "stream": 3e3, "step": 9e3, "together": 3e3}, True, "the input: the disk", "faster disk"),
        ({"disk": 9e4, "stream": 3e3, "pack": 1e5, "step": 9e4, "together": 5e4}, True, "sharing", "CPU cores"),
    ],
)
def test_the_slowest_is_named_with_what_helps(speeds, on_gpu, bottleneck, help):
    advice = profiling.recommend(stages(**speeds), on_gpu)
    assert advice.bottleneck.startswith(bottleneck)
    assert help in advice.help


@pytest.mark.parametrize(("together", "waits"), [(950, False), (949, True)])
def test_training_waits_for_its_input_below_95_percent_of_the_train_step(together, waits):
    advice = profiling.recommend(stages(disk=9e4, stream=2e3, step=1000, together=together), False)
    assert advice.bottleneck.startswith("the input") is waits
