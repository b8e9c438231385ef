"""Process-wide TensorFlow state, changed only here: seeds, threads, GPU memory, precision, XLA.

Synopsis::

    runtime.configure(seed=0, threads=0, deterministic=False)
    precision = runtime.choose_precision(Precision.AUTO)     # AutoChoice("float32", "CPU without bfloat16 units")
"""

import contextlib
import importlib
import os
import platform
import random
import re
import sys
import types
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

import numpy as np

from crackflow.core import console, process_pool
from crackflow.core.backend import keras, tf, without_start_up_noise
from crackflow.core.config.hardware import Precision, Xla
from crackflow.version import __version__

try:
    resource: types.ModuleType | None = importlib.import_module("resource")
except ImportError:  # Windows
    resource = None

ASSUMED_MEMORY = 8 << 30  # bytes: a small machine of today
# The CUDA that XLA must be built with for a compute capability from the first number on: PTX 8.7 knows sm_120, PTX 8.6
# sm_100 (PTX ISA, release notes). TensorFlow up to 2.21 has wheels with CUDA 12.5 (tensorflow#111958).
CUDA_FOR_XLA = (((12, 0), (12, 8)), ((10, 0), (12, 7)))
PACKAGES = ("numpy", "scikit-learn", "pillow")


class AutoChoice(NamedTuple):
    """A resolved setting, and the reason for it."""

    value: str
    reason: str


def configure(seed: int, threads: int, deterministic: bool, cpu_devices: int = 1) -> None:
    """Seeds Python, NumPy and TensorFlow, and configures its devices.

    Args:
        seed: of all random generators.
        threads: for TensorFlow's operations; 0: one per core.
        deterministic: whether operations repeat bit for bit.
        cpu_devices: logical devices that the CPU is divided into.
    """
    tf.get_logger().setLevel("ERROR")
    _enable_bfc_allocator()
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    with without_start_up_noise():  # TensorFlow searches for GPUs here for the first time
        gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Otherwise TensorFlow allocates the whole memory and a second process on the GPU fails.
        tf.config.experimental.set_memory_growth(gpu, True)
    if cpu_devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * cpu_devices)
    seed_all(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def disable_tf32() -> None:
    """Makes GPUs multiply float32 with all of its 23 bits.

    By default, GPUs of compute capability 8.0 and above use 10 of them (TF32): faster, and 1e-3 away from the results
    of the same file elsewhere.
    """
    tf.config.experimental.enable_tensor_float_32_execution(False)


def memory_bytes() -> int:
    """Returns the physical memory of this machine; `ASSUMED_MEMORY` where the system does not report it (Windows)."""
    return _known_memory() or ASSUMED_MEMORY


def _known_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def peak_memory_mb() -> int | None:
    """Returns the peak memory of this process in MiB, or None where the system does not report it (Windows)."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)  # getrusage(2): bytes on macOS, KiB on Linux


def _enable_bfc_allocator() -> None:
    """Allocates tensors on the CPU from a pool that keeps freed memory. It only works before the first allocation.

    malloc returns a freed batch (20 MB at 227 px) to the system, and each new one faults in page by page: this took 36
    of 62 us of CPU time per image, and input at 227 px ran at 25,000 images/s instead of 60,000 on 2 cores.
    """
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
    if memory := _known_memory():
        os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(memory >> 20))  # its own default is 64 GB


def seed_all(seed: int) -> None:
    """Makes initial weights and all stateful random numbers follow from `seed`."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    tf.random.set_seed(seed)
    keras.utils.set_random_seed(seed % 2**32)


def choose_precision(requested: Precision, bfloat16_on_cpu: bool = True) -> AutoChoice:
    """Chooses the Keras dtype policy.

    auto means bfloat16 where the hardware multiplies it, float16 on older GPUs, else float32.

    Args:
        requested: the precision.
        bfloat16_on_cpu: False for a network that the bfloat16 units of a CPU do not make faster.
    """
    if requested is not Precision.AUTO:
        return AutoChoice(requested.value, "asked for")
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


def choose_xla(requested: Xla) -> AutoChoice:
    """Chooses what XLA compiles. on: the layers and the augmentation; augmentation: that alone; off: nothing.

    auto means on for a GPU that this TensorFlow can compile for, else off. On a CPU it means the augmentation alone,
    because convolutions ran 3 to 5 times slower when compiled.
    """
    obstacle = _xla_obstacle()
    if requested is Xla.ON and obstacle:
        console.warning(f"--xla=on, but {obstacle}; --xla=auto trains without")
    if requested is not Xla.AUTO:
        return AutoChoice(requested.value, "asked for")
    if obstacle:
        return AutoChoice("off", obstacle)
    if tf.config.list_physical_devices("GPU"):
        return AutoChoice("on", "GPU")
    return AutoChoice("augmentation", "CPU: compiled convolutions are 3 to 5 times slower there, measured")


def _xla_obstacle() -> str:
    """Why XLA can't compile for the GPUs of this machine, or "" if nothing is known to keep it from that.

    For a GPU newer than its CUDA, XLA does not raise an error: LLVM ends the process ("PTX version 8.5 does not support
    target 'sm_120'"). Operations that are not compiled run there, from code that the driver translates.
    """
    built_with = tf.sysconfig.get_build_info().get("cuda_version", "")
    cuda = tuple(int(part) for part in re.findall(r"\d+", built_with)[:2])
    for gpu in tf.config.list_physical_devices("GPU"):
        capability = tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        needed = next((version for lowest, version in CUDA_FOR_XLA if capability >= lowest), (0, 0))
        if cuda and cuda < needed:
            return (
                f"XLA of TensorFlow {tf.__version__} was built with CUDA {built_with} and ends the process on a GPU of "
                f"compute capability {capability[0]}.{capability[1]}, which needs CUDA {needed[0]}.{needed[1]}"
            )
    return ""


@contextlib.contextmanager
def layers_unfused() -> Iterator[None]:
    """While inside, TensorFlow does not fuse a convolution with the normalisation and activation that follow it.

    With oneDNN on a processor that has AVX2 alone, the fused operation takes 14 times as long for one image at a time:
    0.44 s instead of 0.03 s of CPU time for 464 x 464 pixels in the network that comes with crackflow. For two images
    at a time it is as fast as it should be.
    """
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"remapping": False})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"remapping": before.get("remapping")})


def versions() -> dict[str, str]:
    """Returns the versions of crackflow, Python and the packages that affect a result."""
    own_versions = {"crackflow": __version__, "python": platform.python_version()}
    # By their modules: nightly builds are packages of other names.
    own_versions |= {"tensorflow": tf.__version__, "tf_keras": keras.__version__}
    return own_versions | {name: metadata.version(name) for name in PACKAGES}


def machine() -> dict[str, object]:
    """Describes what affects speed on this machine: processor, cores, GPUs, operating system."""
    with_name = (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name"))
    with without_start_up_noise():
        gpus = tf.config.list_physical_devices("GPU")
    return {
        "cpu": next(with_name, platform.processor()),
        "cores": process_pool.count(0),
        "gpus": [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus],
        "system": platform.platform(),
    }
