"""Process-wide TensorFlow state, touched here alone: seeds, threads, GPU memory, precision, XLA.

Synopsis::

    machine = runtime.configure(seed=0, threads=0, deterministic=False)
    precision = runtime.choose_precision(Precision.AUTO)     # Choice("float32", "this CPU has no bfloat16 units")
"""

import contextlib
import os
import platform
import random
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

import numpy as np

from crackflow.core import process_pool
from crackflow.core.backend import keras, tf, without_start_up_noise
from crackflow.core.config.hardware import Precision, Xla
from crackflow.version import __version__

try:
    import resource
except ImportError:  # Windows
    resource = None

ASSUMED_MEMORY = 8 << 30  # bytes: a small machine of today
PACKAGES = ("tensorflow", "tf_keras", "numpy", "scikit-learn", "pillow")


class AutoChoice(NamedTuple):
    """What was chosen, and why."""

    value: str
    reason: str


def configure(seed: int, threads: int, deterministic: bool, cpu_devices: int = 1) -> None:
    """Seed Python, NumPy and TensorFlow; take GPU memory as needed; `threads` for operations (0: one a core);
    `cpu_devices`: parts that the CPU is taken for."""
    tf.get_logger().setLevel("ERROR")
    _enable_bfc_allocator()
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    with without_start_up_noise():  # the first look for a GPU
        gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Otherwise TensorFlow takes the whole memory and a second process on the GPU fails.
        tf.config.experimental.set_memory_growth(gpu, True)
    if cpu_devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * cpu_devices)
    seed_all(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def disable_tf32() -> None:
    """GPUs from compute capability 8.0 on multiply float32 with 10 of its 23 bits unless told otherwise (TF32): faster,
    and 1e-3 away from what the same file gives elsewhere."""
    tf.config.experimental.enable_tensor_float_32_execution(False)


def memory_bytes() -> int:
    """Physical memory of this machine; `ASSUMED_MEMORY` where the system does not say (Windows)."""
    return _known_memory() or ASSUMED_MEMORY


def _known_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def peak_memory_mb() -> int | None:
    """The most memory that this process has held so far, in MiB; None where the system does not say (Windows)."""
    if resource is None:
        return None
    kept = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kept >> (20 if sys.platform == "darwin" else 10)  # getrusage(2): bytes on macOS, KiB on Linux


def _enable_bfc_allocator() -> None:
    """Tensors on the CPU come from a pool that keeps what was freed. Heard at TensorFlow's first allocation only.

    malloc hands a freed batch (20 MB at 227 px) back to the system, and each new one faults in page by page: 36 of 62
    us of CPU time an image went there, and input at 227 px ran at 25,000 images/s instead of 60,000 on 2 cores.
    """
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
    if memory := _known_memory():
        os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(memory >> 20))  # its own default is 64 GB


def seed_all(seed: int) -> None:
    """The same initial weights and the same drawing of everything stateful, for the same `seed`."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    tf.random.set_seed(seed)
    keras.utils.set_random_seed(seed % 2**32)


def choose_precision(wanted: Precision, bfloat16_on_cpu: bool = True) -> AutoChoice:
    """The Keras dtype policy. auto: bfloat16 where the hardware multiplies it, float16 on older GPUs, else float32.

    `bfloat16_on_cpu`: False for a network that a CPU's units do not make faster.
    """
    if wanted is not Precision.AUTO:
        return AutoChoice(wanted.value, "asked for")
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        if capability >= (8, 0):
            return AutoChoice("mixed_bfloat16", f"GPU of compute capability {capability[0]}.{capability[1]}")
        if capability >= (7, 0):
            return AutoChoice("mixed_float16", f"GPU of compute capability {capability[0]}.{capability[1]}")
        return AutoChoice("float32", "GPU without tensor cores")
    units = {"avx512_bf16", "amx_bf16"} & _cpu_flags()
    if units and not bfloat16_on_cpu:
        return AutoChoice(
            "float32", f"CPU with {', '.join(sorted(units))}, which don't make this network faster, measured"
        )
    if units:
        return AutoChoice("mixed_bfloat16", f"CPU with {', '.join(sorted(units))}")
    return AutoChoice("float32", "CPU without bfloat16 units")


def _cpu_flags() -> set[str]:
    line = next((line for line in _cpuinfo() if line.startswith("flags")), "")
    return set(line.split())


def _cpuinfo() -> list[str]:
    try:
        with open("/proc/cpuinfo") as file:
            return file.readlines()
    except OSError:  # not Linux: without the list, assume no special units
        return []


def choose_xla(wanted: Xla) -> AutoChoice:
    """What XLA compiles. on: the layers and the augmentation; augmentation: that alone; off: nothing.

    auto: on for a GPU; on a CPU the augmentation alone, because convolutions ran 3 to 5 times slower when compiled.
    """
    if wanted is not Xla.AUTO:
        return AutoChoice(wanted.value, "asked for")
    if tf.config.list_physical_devices("GPU"):
        return AutoChoice("on", "GPU")
    return AutoChoice("augmentation", "CPU: compiled convolutions are 3 to 5 times slower there, measured")


@contextlib.contextmanager
def layers_unfused() -> Iterator[None]:
    """While inside, TensorFlow does not merge a convolution with the normalisation and activation behind it.

    With oneDNN on a processor with AVX2 alone, the merged operation takes 14 times as long for one picture at a time:
    0.44 s instead of 0.03 s of CPU time for 464 x 464 pixels in the network that comes with crackflow. Two pictures at
    a time it computes as fast as it should.
    """
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"remapping": False})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"remapping": before.get("remapping")})


def versions() -> dict[str, str]:
    """Versions of crackflow, Python and the packages that decide a result."""
    found = {"crackflow": __version__, "python": platform.python_version()}
    return found | {name: metadata.version(name) for name in PACKAGES}


def machine() -> dict[str, object]:
    """This machine, as far as it decides a speed: processor, cores, GPUs, operating system."""
    with_name = (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name"))
    with without_start_up_noise():
        gpus = tf.config.list_physical_devices("GPU")
    return {
        "cpu": next(with_name, platform.processor()),
        "cores": process_pool.count(0),
        "gpus": [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus],
        "system": platform.platform(),
    }
