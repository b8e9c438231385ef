import os
import random
import subprocess
import sys
import textwrap
import types

import numpy as np
import pytest

from crackflow.core import runtime
from crackflow.core.backend import keras, tf
from crackflow.core.config.hardware import Precision, Xla


def drawn():
    weights = keras.layers.Dense(4)
    weights.build((None, 4))
    return random.random(), np.random.rand(), tf.random.normal([3]).numpy().tolist(), weights.get_weights()[0].tolist()


def test_the_same_seed_draws_the_same_in_python_numpy_tensorflow_and_keras():
    runtime.seed_all(7)
    first = drawn()
    runtime.seed_all(7)
    again = drawn()
    runtime.seed_all(8)
    second = drawn()
    assert first == again
    assert all(a != b for a, b in zip(first, second, strict=True))


def test_a_seed_beyond_32_bits_is_accepted():
    runtime.seed_all(2**40 + 7)
    first = drawn()
    runtime.seed_all(2**40 + 7)
    assert first == drawn()


@pytest.mark.parametrize("requested", [choice for choice in Precision if choice is not Precision.AUTO])
def test_a_requested_precision_is_used(requested):
    assert runtime.choose_precision(requested) == (requested.value, "asked for")


def test_the_automatic_precision_is_a_policy_of_keras_with_a_reason():
    choice = runtime.choose_precision(Precision.AUTO)
    assert keras.mixed_precision.Policy(choice.value).variable_dtype == "float32"
    assert len(choice.reason) > 5


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="about processors")
def test_bfloat16_is_chosen_where_the_processor_multiplies_it_and_the_network_gains(monkeypatch):
    monkeypatch.setattr(runtime, "_cpu_flags", lambda: {"avx2", "amx_bf16"})
    assert runtime.choose_precision(Precision.AUTO).value == "mixed_bfloat16"
    assert runtime.choose_precision(Precision.AUTO, bfloat16_on_cpu=False).value == "float32"
    monkeypatch.setattr(runtime, "_cpu_flags", lambda: {"avx2"})
    assert runtime.choose_precision(Precision.AUTO).value == "float32"


@pytest.mark.parametrize(("requested", "value"), [(Xla.ON, "on"), (Xla.OFF, "off")])
def test_requested_compilation_is_used(requested, value):
    assert runtime.choose_xla(requested) == (value, "asked for")


def test_layers_are_compiled_on_a_gpu_and_the_augmentation_alone_on_a_cpu():
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    assert runtime.choose_xla(Xla.AUTO).value == ("on" if has_gpu else "augmentation")


@pytest.fixture
def gpu(monkeypatch):
    """`gpu((12, 0), "12.5.1")`: a GPU of this compute capability, and a TensorFlow that was built with this CUDA."""

    def pretend(capability, cuda):
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0"] if kind == "GPU" else [])
        monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda _: {"compute_capability": capability})
        monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: {"cuda_version": cuda})

    return pretend


@pytest.mark.parametrize(("capability", "cuda"), [((12, 0), "12.5.1"), ((12, 1), "12.7"), ((10, 0), "12.5.1")])
def test_a_gpu_newer_than_xla_trains_without_it_and_says_why(gpu, capability, cuda):
    gpu(capability, cuda)
    choice = runtime.choose_xla(Xla.AUTO)
    number = ".".join(map(str, capability))
    assert choice.value == "off" and f"compute capability {number}" in choice.reason and f"CUDA {cuda}" in choice.reason


@pytest.mark.parametrize(
    ("capability", "cuda"),
    [((12, 0), "12.8.0"), ((12, 0), "13.0"), ((9, 0), "12.5.1"), ((10, 0), "12.8")],
)
def test_xla_compiles_for_a_gpu_that_it_knows(gpu, capability, cuda):
    gpu(capability, cuda)
    assert runtime.choose_xla(Xla.AUTO) == ("on", "GPU")


def test_xla_that_was_asked_for_on_such_a_gpu_is_warned_about(gpu, capsys):
    gpu((12, 0), "12.5.1")
    assert runtime.choose_xla(Xla.ON) == ("on", "asked for")
    assert "warning: --xla=on, but XLA of TensorFlow" in capsys.readouterr().err
    assert runtime.choose_xla(Xla.OFF) == ("off", "asked for") and not capsys.readouterr().err


def test_versions_and_machine_name_what_decides_a_result():
    versions, machine = runtime.versions(), runtime.machine()
    assert {"crackflow", "python", "tensorflow", "tf_keras", "numpy"} <= set(versions)
    assert versions["tensorflow"] == tf.__version__
    assert machine["cores"] >= 1 and machine["cpu"] and isinstance(machine["gpus"], list)


FAULTS = """
    import resource
    from crackflow.core import runtime
    from crackflow.core.backend import tf
    runtime.configure(seed=0, threads=0, deterministic=False)
    def faults(count):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(count):
            tf.zeros([10_000_000])
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    faults(5)
    print(faults(20))
"""


def test_freed_tensors_are_used_again_without_a_page_fault():
    command = [sys.executable, "-c", textwrap.dedent(FAULTS)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert int(answer) < 2_000  # 20 tensors of 9,766 pages each


def test_all_bits_of_float32_are_used_when_requested():
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    try:
        tf.config.experimental.enable_tensor_float_32_execution(True)
        runtime.disable_tf32()
        assert not tf.config.experimental.tensor_float_32_execution_enabled()
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def test_memory_is_assumed_where_the_system_does_not_say(monkeypatch):
    assert runtime.memory_bytes() > 1 << 30 and 100 < runtime.peak_memory_mb() < 1 << 20
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.delenv("TF_CPU_BFC_MEM_LIMIT_IN_MB", raising=False)
    runtime._enable_bfc_allocator()
    assert runtime.memory_bytes() == runtime.ASSUMED_MEMORY and "TF_CPU_BFC_MEM_LIMIT_IN_MB" not in os.environ


def test_peak_memory_is_none_where_the_system_does_not_say_and_bytes_on_macos(monkeypatch):
    usage = types.SimpleNamespace(ru_maxrss=900 << 20)
    fake = types.SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda _: usage)
    monkeypatch.setattr(runtime, "resource", fake)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert runtime.peak_memory_mb() == 900
    monkeypatch.setattr(runtime, "resource", None)
    assert runtime.peak_memory_mb() is None


def test_layers_are_unfused_inside_and_as_before_afterwards():
    def remapping():
        return tf.config.optimizer.get_experimental_options().get("remapping")

    before = remapping()
    with pytest.raises(ZeroDivisionError), runtime.layers_unfused():
        assert remapping() is False
        _ = 1 / 0
    assert remapping() == before
