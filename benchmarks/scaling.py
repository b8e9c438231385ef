"""What does another replica cost, and how fast would many GPUs be?

  python -m benchmarks.scaling --json=benchmarks/results/scaling.json

Measured: images/s of training (synthetic pixels from memory, one global batch) on one device, on two logical devices of
this host (MirroredStrategy) and with two workers over loopback (MultiWorkerMirroredStrategy), in turn. All share the
same cores, so the loss against one device is the cost of the strategy. Counted: parameters, and thus the bytes of
gradients sent per step; operations of a forward pass.

Modelled, not measured: images/s on 8 and 64 GPUs, from the counts and the assumptions in `Assumed`, which the JSON
contains as well. The model assumes that nothing overlaps and that the input keeps up.
"""

import dataclasses
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from benchmarks import harness
from crackflow.core import csv_files, runtime
from crackflow.core.backend import keras, tf
from crackflow.core.config.network import Network
from crackflow.model import networks

STRATEGIES = {
    "one device": [],
    "two devices, mirrored": ["--strategy=mirrored", "--cpu_devices=2"],
    "two workers, loopback": ["--strategy=multiworker"],
}


@dataclasses.dataclass(frozen=True)
class Assumed:
    """Assumptions about a cluster of H200 GPUs. Rates are achievable ones, not data sheet peaks."""

    flops: float = 100e12  # sustained, small convolutions in bfloat16: an eighth of the 790e12 of large matrix products
    images_a_gpu: int = 256  # per step
    gpus_a_host: int = 8
    within_host_bytes_s: float = 300e9  # NVLink, per direction
    between_hosts_bytes_s: float = 40e9  # 400 Gbit/s per host
    latency_s: float = 20e-6  # per hop of a ring
    overhead_s: float = 1e-3  # per step: launches, metrics, the optimizer


def counts(name: str) -> dict:
    """Parameters, bytes of float32 gradients, and operations of a forward and backward pass per image."""
    recipe = networks.NETWORKS[Network(name)]
    model = recipe.build()
    spec = tf.TensorSpec([1, *model.input_shape[1:]], tf.uint8)
    graph = tf.function(lambda image: model(image, training=False)).get_concrete_function(spec).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    forward = tf.compat.v1.profiler.profile(graph, options=options).total_float_ops
    trained = sum(int(weight.shape.num_elements()) for weight in model.trainable_variables)
    keras.backend.clear_session()
    return {
        "image_px": recipe.image_px,
        "parameters": trained,
        "gradient_bytes": 4 * trained,
        "flops_forward": forward,
        "flops_step_an_image": 3 * forward,  # the backward pass computes two products per forward product
    }


def model_cluster(counted: dict, gpus: int, assumed: Assumed) -> dict:
    """images/s of `gpus` data-parallel GPUs: compute, then a ring all-reduce within each host and one between hosts."""
    compute = assumed.images_a_gpu * counted["flops_step_an_image"] / assumed.flops + assumed.overhead_s
    local_gpus, hosts = min(gpus, assumed.gpus_a_host), -(-gpus // assumed.gpus_a_host)

    def ring(members: int, bandwidth: float) -> float:
        num_bytes = 2 * (members - 1) / members * counted["gradient_bytes"]
        return num_bytes / bandwidth + 2 * (members - 1) * assumed.latency_s if members > 1 else 0.0

    all_reduce = ring(local_gpus, assumed.within_host_bytes_s) + ring(hosts, assumed.between_hosts_bytes_s)
    return {
        "images_per_sec": round(gpus * assumed.images_a_gpu / (compute + all_reduce)),
        "efficiency": round(compute / (compute + all_reduce), 3),
        "step_ms": round(1e3 * (compute + all_reduce), 2),
        "all_reduce_ms": round(1e3 * all_reduce, 2),
    }


def speed(strategy: str, network: str, data: pathlib.Path, directory: pathlib.Path, batch: int) -> float:
    """images/s of a training of one epoch, from history.csv."""
    run = directory / "run"
    flags = [f"--data={data}", f"--run_dir={run}", f"--model={network}", "--epochs=1", f"--batch_size={batch}"]
    flags += ["--input=synthetic", "--overwrite", "--augment=none", *STRATEGIES[strategy]]
    train = [sys.executable, "-m", "crackflow.train"]
    workers = ["bash", str(harness.REPOSITORY / "launch" / "local_workers.sh"), "2", "--restarts=0"]
    command = (workers if strategy == "two workers, loopback" else train) + flags
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(command, cwd=harness.REPOSITORY, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return float(csv_files.read(str(run / "history.csv"))[-1]["images_per_sec"])


def main() -> None:
    options = harness.arguments(__doc__, network="crackflow_s", batch=64, windows=3, images=1600)
    runtime.configure(seed=0, threads=0, deterministic=False)
    measured: dict[str, list[float]] = {strategy: [] for strategy in STRATEGIES}
    with tempfile.TemporaryDirectory(prefix="crackflow-scaling-") as folder:
        directory = pathlib.Path(folder)
        images, data = directory / "images", directory / "data"
        harness.watch([sys.executable, "-m", "crackflow.synth", f"--out={images}", f"--count={options.images}"])
        harness.watch([sys.executable, "-m", "crackflow.convert", f"--images={images}", f"--out={data}"])
        for _ in range(options.windows):
            for strategy in STRATEGIES:
                measured[strategy].append(speed(strategy, options.network, data, directory, options.batch))
                print(f"{strategy}: {measured[strategy][-1]:,.0f} images/s", file=sys.stderr)
    medians = {strategy: statistics.median(speeds) for strategy, speeds in measured.items()}
    assumed = Assumed()
    counted = {network.value: counts(network.value) for network in Network if network is not Network.CUSTOM}
    harness.save(
        options.json,
        {
            "network": options.network,
            "batch": options.batch,
            "images_per_sec": {
                strategy: {
                    "median": round(medians[strategy], 1),
                    "low": round(min(speeds), 1),
                    "high": round(max(speeds), 1),
                }
                for strategy, speeds in measured.items()
            },
            "of_one_device": {
                strategy: round(median / medians["one device"], 3) for strategy, median in medians.items()
            },
            "counted": counted,
            "model": {
                "what": "modelled, not measured",
                "assumed": dataclasses.asdict(assumed),
                "gpus": {
                    str(gpus): {
                        name: model_cluster(network_counts, gpus, assumed) for name, network_counts in counted.items()
                    }
                    for gpus in (1, 8, 64)
                },
            },
        },
    )


if __name__ == "__main__":
    main()
