"""Images per second of one train step, for every network: crackflow, Keras 3, PyTorch eager and compiled.

  bash benchmarks/peers/environments.sh torch                               # once: PyTorch in its own environment
  python -m benchmarks.train_step --json=benchmarks/results/train_step.json

All programs have the same layers and train on one batch in memory, repeatedly, without augmentation: forward, backward,
AdamW. The programs of a network are started and warmed up, then each runs for a window in turn while the others wait.
Backbones of Keras Applications are measured in crackflow only.
"""

import pathlib
import statistics
import sys
import tempfile

from benchmarks import harness
from benchmarks.competitor import Competitor, python_of
from benchmarks.peers import layout, roster
from crackflow.core import runtime
from crackflow.core.config.hardware import Precision
from crackflow.core.config.network import Network
from crackflow.model import networks

PEERS = harness.REPOSITORY / "benchmarks" / "peers"
# Name: environment, program, compiled, environment variables. Keras 3 runs as installed, and with the oneDNN kernels
# that crackflow enables, which a Keras user could enable as well.
ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "1"}
PROGRAMS = {
    "crackflow": (roster.CRACKFLOW_ENV, "step_crackflow", 0, {}),
    "keras3": (roster.CRACKFLOW_ENV, "step_keras3", 0, {}),
    "keras3_xla": (roster.CRACKFLOW_ENV, "step_keras3", 1, {}),
    "keras3_onednn": (roster.CRACKFLOW_ENV, "step_keras3", 0, ONEDNN),
    "torch_eager": ("torch", "step_torch", 0, {}),
    "torch_compiled": ("torch", "step_torch", 1, {}),
}


def measure_network(name: str, batch: int, precision: str, work: pathlib.Path, seconds: float, windows: int) -> dict:
    """Every program on network `name`: median, lowest and highest window, or the reason why it could not run."""
    recipe = networks.NETWORKS[Network(name)]
    same_layers = name in layout.FAMILY or name == "seed"
    competitors, measurements = {}, {}
    for program, (environment, script, compiled, variables) in PROGRAMS.items():
        if program != "crackflow" and not same_layers:
            continue
        command = [str(python_of(environment)), str(PEERS / f"{script}.py"), "--network", name]
        command += ["--image_px", str(recipe.image_px), "--channels", str(recipe.channels), "--batch", str(batch)]
        command += ["--precision", precision, "--compiled", str(compiled)]
        try:
            competitors[program] = Competitor(command, work / f"{program}-{name}.log", variables)
        except (OSError, EOFError) as error:
            measurements[program] = {"absent": str(error)}
    sizes = {program: competitor.metadata["parameters"] for program, competitor in competitors.items()}
    if len(set(sizes.values())) > 1:
        sys.exit(f"{name}: expected the same layers in every program, received parameters {sizes}")
    for _ in range(windows):
        for competitor in competitors.values():
            competitor.window(seconds)
    for program, competitor in competitors.items():
        competitor.end()
        speeds = {
            "median": statistics.median(competitor.speeds),
            "low": min(competitor.speeds),
            "high": max(competitor.speeds),
        }
        measurements[program] = {
            "version": competitor.metadata["version"],
            "device": competitor.metadata["device"],
        } | speeds
        print(f"{name} {precision}: {program:<15} {speeds['median']:8,.0f} images/s", file=sys.stderr)
    facts = {"image_px": recipe.image_px, "batch": batch, "parameters": sizes.get("crackflow")}
    return facts | {"images_per_sec": measurements, "ours_over_theirs": ratios(measurements)}


def ratios(measurements: dict) -> dict:
    """crackflow's median over that of each other program, and over the best of PyTorch and of Keras 3 as installed."""
    medians = {program: speeds["median"] for program, speeds in measurements.items() if "median" in speeds}
    others = {program: median for program, median in medians.items() if program != "crackflow"}
    for family in ("torch", "keras3"):
        best = [median for program, median in others.items() if program.startswith(family) and "onednn" not in program]
        if best:
            others[f"best {family}"] = max(best)
    return {program: round(medians["crackflow"] / median, 2) for program, median in others.items()}


def main() -> None:
    all_networks = ",".join(network.value for network in Network if network is not Network.CUSTOM)
    options = harness.arguments(__doc__, networks=all_networks, precisions="", seconds=3.0, windows=5, batch=64)
    selected = runtime.choose_precision(Precision.AUTO)
    # bfloat16 only if this machine supports it in hardware; emulated, its speed is meaningless.
    default_precisions = ["float32"] + (["mixed_bfloat16"] if selected.value == "mixed_bfloat16" else [])
    precisions = options.precisions.split(",") if options.precisions else default_precisions
    results = harness.results(options.json)
    results |= {"precision_reason": selected.reason, "windows": options.windows, "seconds": options.seconds}
    with tempfile.TemporaryDirectory(prefix="crackflow-steps-") as folder:
        for precision in precisions:
            rows = results.setdefault(precision, {})
            for name in options.networks.split(","):
                rows[name] = measure_network(
                    name, options.batch, precision, pathlib.Path(folder), options.seconds, options.windows
                )
                harness.save(options.json, results)


if __name__ == "__main__":
    main()
