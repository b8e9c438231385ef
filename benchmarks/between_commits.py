"""Is this checkout as fast as an earlier one? Both run the same commands in turns, on the same machine.

  git worktree add /tmp/before 225f0f5
  python -m benchmarks.between_commits --before=/tmp/before --json=benchmarks/results/between_commits.json
  python -m benchmarks.between_commits --before=/tmp/before --rounds=11 --only=convert,train --json=...

Measured by the commands alone, because an earlier checkout may have other modules: seconds of `convert` on METU, images
per second of training from the pack, from the stream and from synthetic pixels (the train step; the median epoch of
history.csv), seconds per photograph of 12 megapixels (`predict` on five less `predict` on one, divided by four), and
seconds until each verb has printed its help. `ratio`: the speed of this checkout over that of the earlier one, from the
medians of --rounds rounds. `cpu`: the same from user and system time, which other work on the machine changes less.
With --only, `convert` and the start-ups of the verbs named are measured, and take their places among the figures of an
earlier --json: they take seconds, and differ more from round to round.
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

from benchmarks import harness
from crackflow.core import csv_files

VERBS = ("synth", "convert", "train", "tune", "evaluate", "explain", "predict", "export", "doctor", "augment_preview")
VERBS += ("data_service",)
INPUTS = {"pack": "pack", "stream": "stream", "train step": "synthetic"}
SIDES = (4000, 3000)  # of a photograph of 12 megapixels


def run(checkout: pathlib.Path, verb: str, *options: str) -> dict[str, float]:
    """Runs a command of `checkout`; returns its wall-clock seconds and CPU seconds. Exits if it fails."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    before, began = os.times(), time.perf_counter()
    command = [sys.executable, "-m", f"crackflow.{verb}", *options]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    seconds, after = time.perf_counter() - began, os.times()
    if done.returncode:
        sys.exit(f"{checkout}: {verb} ended with {done.returncode}:\n{done.stderr}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall": seconds, "cpu": cpu}


def photographs(images: pathlib.Path, folder: pathlib.Path, count: int) -> None:
    """Writes `count` photographs of 12 megapixels, composed of METU's images, to `folder`."""
    folder.mkdir()
    files = sorted((images / "Negative").glob("*.jpg"))[:400]
    tiles = [np.asarray(Image.open(file).convert("RGB").resize((250, 250))) for file in files]
    for number in range(count):
        order = np.random.default_rng(number).permutation(len(tiles))[: SIDES[0] * SIDES[1] // 250**2]
        rows = np.array_split(order, SIDES[1] // 250)
        wall = np.concatenate([np.concatenate([tiles[index] for index in row], 1) for row in rows])
        Image.fromarray(wall).save(folder / f"{number}.jpg", quality=90)


def one_round(
    checkout: pathlib.Path, images: pathlib.Path, photos: pathlib.Path, folder: pathlib.Path, only: list[str]
) -> dict:
    """Every figure of one checkout, or those of `only`, once: seconds, or seconds per image where images per second
    were reported."""
    data, figures = folder / "data", {}
    if not only or "convert" in only:
        figures["convert"] = run(checkout, "convert", f"--images={images}", f"--out={data}")
    for name, source in INPUTS.items() if not only else ():
        out = folder / source
        options = "--model=crackflow_s", "--image_px=64", "--epochs=3", f"--input={source}", "--early_stopping_epochs=0"
        spent = run(checkout, "train", f"--data={data}", f"--run_dir={out}", *options)
        rates = [float(row["images_per_sec"]) for row in csv_files.read(str(out / "history.csv"))]
        figures[name] = {"wall": 1 / statistics.median(rates), "cpu": spent["cpu"]}
    if not only:
        figures["predict, 12 MP"] = seconds_of_a_photograph(checkout, photos, folder)
    for verb in VERBS:
        if not only or verb in only and verb != "convert":
            figures[f"{verb} --help"] = run(checkout, verb, "--help")
    return figures


def seconds_of_a_photograph(checkout: pathlib.Path, photos: pathlib.Path, folder: pathlib.Path) -> dict[str, float]:
    """Wall-clock and CPU seconds of `predict` for a photograph, without its start."""
    spent = {}
    for count in (1, 5):
        pattern = photos / f"[{'0' if count == 1 else '0-4'}].jpg"
        spent[count] = run(checkout, "predict", f"--photos={pattern}", f"--out={folder / f'found{count}'}")
    return {kind: (spent[5][kind] - spent[1][kind]) / 4 for kind in ("wall", "cpu")}


def _medians(figures: list[dict[str, float]]) -> dict[str, float]:
    return {kind: statistics.median(figure[kind] for figure in figures) for kind in ("wall", "cpu")}


def main() -> None:
    options = harness.arguments(__doc__, before="", rounds=5, only="")
    checkouts = {"before": pathlib.Path(options.before).resolve(), "now": harness.REPOSITORY}
    images, rounds = harness.data_folder() / "metu", {name: [] for name in checkouts}
    only = [name for name in options.only.split(",") if name]
    if unknown := set(only) - set(VERBS):
        sys.exit(f"--only: expected verbs, received {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        photos = pathlib.Path(folder) / "photographs"
        photographs(images, photos, 0 if only else 5)
        for number in range(options.rounds):
            for name in sorted(checkouts, reverse=bool(number % 2)):
                round_folder = pathlib.Path(folder) / f"{name}{number}"
                round_folder.mkdir()
                rounds[name].append(one_round(checkouts[name], images, photos, round_folder, only))
                print(name, number, json.dumps(rounds[name][-1]), flush=True)
                shutil.rmtree(round_folder)
    results = {}
    for figure in rounds["now"][0]:
        medians = {name: _medians([measured[figure] for measured in rounds[name]]) for name in checkouts}
        results[figure] = {
            "rounds": options.rounds,
            "before": medians["before"],
            "now": medians["now"],
            "ratio": medians["before"]["wall"] / medians["now"]["wall"],
            "cpu": medians["before"]["cpu"] / medians["now"]["cpu"],
        }
        print(f"{figure:24} {results[figure]['ratio']:.3f} (CPU {results[figure]['cpu']:.3f})")
    if options.json:
        earlier = json.loads(pathlib.Path(options.json).read_text())["results"]["figures"] if only else {}
        harness.save(options.json, {"figures": earlier | results})


if __name__ == "__main__":
    main()
