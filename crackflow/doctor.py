"""Find what limits the speed of training on this machine, and which flag to change.

  python -m crackflow.doctor                       synthetic images
  python -m crackflow.doctor --data=data/metu      your own; adds only the pack that training would write anyway

Measures disk, record reading, decoding, input, augmentation, train step, and all of them together; prints one table.
"""

import json
import os
import subprocess
import sys
import tempfile

from crackflow.core import atomic, callable_module, console, flags, runtime, temporary_files
from crackflow.core.backend import tf
from crackflow.core.config.tools import DoctorConfig
from crackflow.core.errors import UserError
from crackflow.data import dataset as dataset_io
from crackflow.data.dataset import Dataset
from crackflow.training import profiling


def run(config: DoctorConfig) -> dict:
    """Measure and print, and write the results if --json names a file.

    Returns:
        The content of the JSON file.

    Raises:
        UserError: the flags or data are unusable.
    """
    if os.path.isdir(config.json):
        raise UserError(f"--json: expected a file to write, received the folder {config.json!r}; name a file in it")
    runtime.configure(seed=0, threads=config.threads, deterministic=False)
    if config.data:
        stages = profiling.profile_stages(dataset_io.load(config.data), config)
    else:
        with temporary_files.scratch_folder(tempfile.gettempdir(), "crackflow-doctor") as directory:
            stages = profiling.profile_stages(make_data(directory, config.images), config)
    advice = profiling.recommend(stages, on_gpu=bool(tf.config.list_physical_devices("GPU")))
    console.info_lines(table(stages))
    console.info(f"bottleneck: {advice.bottleneck}")
    console.info(f"what helps: {advice.help}")
    content = {
        "machine": runtime.machine(),
        "versions": runtime.versions(),
        "results": {
            "stages": [{"name": stage.name, **stage.rate._asdict(), "note": stage.note} for stage in stages],
            **advice._asdict(),
        },
    }
    if config.json:
        temporary_files.remove_leftovers(*os.path.split(os.path.abspath(config.json)))
        atomic.write_text(config.json, json.dumps(content, indent=1) + "\n")
    return content


def make_data(directory: str, count: int) -> Dataset:
    """Make a dataset of `count` synthetic images in `directory` with the commands that a user would run."""
    images, out = os.path.join(directory, "images"), os.path.join(directory, "made")
    console.info(f"no --data: making {count:,} images")
    for verb, *options in (
        ("synth", f"--out={images}", f"--count={count}"),
        ("convert", f"--images={images}", f"--out={out}"),
    ):
        subprocess.run([sys.executable, "-m", f"crackflow.{verb}", *options], check=True, stdout=subprocess.DEVNULL)
    return dataset_io.load(out)


def table(stages: list[profiling.StageTiming]) -> str:
    """One line per stage: images/s (median, and lowest to highest repeat), and what was measured."""
    rows = [("", "images/s", "lowest to highest", "")]
    for name, rate, note in stages:
        rows.append((name, f"{rate.median:,.0f}", f"{rate.low:,.0f} to {rate.high:,.0f}", note))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in rows]
    return "\n".join(lines)


callable_module.install(__name__, DoctorConfig, run)
if __name__ == "__main__":
    flags.main(DoctorConfig, run, __doc__)
