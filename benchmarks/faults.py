"""Kills at random moments: is anything lost or damaged, and does everything go on?

  python -m benchmarks.faults --json=benchmarks/results/faults.json
  python -m benchmarks.faults --only=tune --json=...                  # one of them; the others stay as they are

Four commands are killed with SIGKILL (their whole process group) and started again: training (deterministic), building
a pack, converting, searching. After each kill everything that lies under a final name must be sound; what comes out in
the end must be, bit for bit, what an undisturbed run makes; of a search, the same trials, and the result of none that
had ended has changed. The moments are drawn from --seed.
"""

import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import harness
from crackflow.core import tables
from crackflow.data import dataset
from crackflow.model import bundle
from crackflow.run import checkpoint

TRAIN = (
    "--model=crackflow_xs --image_px=64 --epochs=3 --batch_size=32 --deterministic --early_stopping_epochs=0 "
    "--checkpoint_minutes=0.01 --input=pack --augment=standard --ema=0.9"
).split()
TUNE = (
    "--tuner=random --max_trials=4 --max_epochs=2 --image_px=32 --speed_seconds=0.05 "
    "--hold=stem_kernel,kernel,block,repeats,optimizer,schedule,augment,activation,squeeze_excite"
).split()
PACK = (
    "import sys; from crackflow.data import dataset, pack; made = dataset.load(sys.argv[1]); "
    "pack.ensure(made, 'train', 227, 3)"
)


@dataclasses.dataclass
class Tally:
    """Of one command: how often it was killed, what was wrong afterwards, how often it came to its end by itself."""

    kills: int = 0
    finished: int = 0
    failed: int = 0
    damaged: list[str] = dataclasses.field(default_factory=list)
    identical: bool | None = None
    seconds: float = 0.0


def killed(command: list[str], after_s: float, ready: pathlib.Path | None = None) -> int | None:
    """Run `command` and kill it `after_s` seconds after its start, or after `ready` appears; None when it was killed,
    else its exit code."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=harness.REPOSITORY, start_new_session=True
    )
    while ready and process.poll() is None and not ready.exists():
        time.sleep(0.002)
    try:
        error = process.communicate(timeout=after_s)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None
    if process.returncode:
        print(error.decode()[-2000:], file=sys.stderr)
    return process.returncode


def campaign(kills: int, command, moment, check, result, reset, wanted, ready=None) -> Tally:
    """Kill `command()` at `moment()` until it has been killed `kills` times, then let it end and compare. When it ends
    by itself before, its `result()` must be the `wanted` one, and it begins again after `reset()`."""
    tally, began = Tally(identical=True), time.monotonic()
    while tally.kills < kills:
        code = killed(command(), moment(), ready)
        tally.damaged += check()
        if code is None:
            tally.kills += 1
        elif code:
            tally.failed += 1
            break
        else:
            tally.finished += 1
            tally.identical &= result() == wanted
            reset()
    tally.failed += bool(killed(command(), 600))
    tally.damaged += check()
    tally.identical &= result() == wanted
    tally.seconds = round(time.monotonic() - began, 1)
    print(dataclasses.asdict(tally), file=sys.stderr)
    return tally


def training(place: pathlib.Path, data: pathlib.Path, kills: int, draw: random.Random) -> Tally:
    def command(run: str = "run") -> list[str]:
        return [sys.executable, "-m", "crackflow.train", f"--data={data}", f"--run_dir={place / run}", *TRAIN]

    def check() -> list[str]:
        run, wrong = place / "run", []
        wrong += checkpoint.latest(str(run / "checkpoints")).damaged
        if (run / "history.csv").exists():
            epochs = [int(row["epoch"]) for row in tables.read(str(run / "history.csv"))]
            wrong += [] if epochs == list(range(1, len(epochs) + 1)) else [f"history.csv: epochs {epochs}"]
        for name in ("metrics.json",):
            if (run / name).exists():
                json.loads((run / name).read_text())
        if (run / "model.h5").exists():
            bundle.load(str(run))
        return wrong

    def result(run: str = "run") -> list:
        rows = tables.read(str(place / run / "history.csv"))
        history = [{name: row[name] for name in ("loss", "accuracy", "val_loss", "val_accuracy")} for row in rows]
        return [history, [weight.tobytes() for weight in bundle.load(str(place / run)).model.get_weights()]]

    def reset() -> None:
        subprocess.run(["rm", "-rf", str(place / "run")], check=True)

    began = time.monotonic()
    harness.watch(command("whole"))
    length = time.monotonic() - began
    print(f"an undisturbed run takes {length:.1f} s", file=sys.stderr)
    return campaign(kills, command, lambda: draw.uniform(0.2, length), check, result, reset, result("whole"))


def packing(data: pathlib.Path, kills: int, draw: random.Random) -> Tally:
    command = [sys.executable, "-c", PACK, str(data)]
    packs = data / "packs"
    harness.watch(command)
    wanted = [(packs / name).read_bytes() for name in ("train-227.npy", "train-227.labels.npy")]

    def check() -> list[str]:
        if not (packs / "train-227.json").exists():
            return []
        same = [(packs / name).read_bytes() for name in ("train-227.npy", "train-227.labels.npy")] == wanted
        return [] if same else ["train-227.json describes a pack that is not what it says"]

    def reset() -> None:
        for name in ("train-227.json", "train-227.npy", "train-227.labels.npy", "train-227.npy.partial"):
            (packs / name).unlink(missing_ok=True)

    reset()
    found = campaign(
        kills,
        lambda: command,
        lambda: draw.uniform(0, 2.5),
        check,
        lambda: [(packs / name).read_bytes() for name in ("train-227.npy", "train-227.labels.npy")],
        reset,
        wanted,
        ready=packs / "train-227.npy.partial",
    )
    left = [name for name in os.listdir(packs) if name.endswith(".partial")]
    found.damaged += [f"left behind: {name}" for name in left]
    return found


def converting(place: pathlib.Path, images: pathlib.Path, kills: int, draw: random.Random) -> Tally:
    def command(out: str = "out") -> list[str]:
        return [sys.executable, "-m", "crackflow.convert", f"--images={images}", f"--out={place / out}"]

    def check() -> list[str]:
        if not (place / "out").exists():
            return []
        verify = [sys.executable, "-m", "crackflow.convert", f"--verify={place / 'out'}"]
        done = subprocess.run(verify, capture_output=True, text=True, cwd=harness.REPOSITORY)
        return [] if done.returncode == 0 else [done.stderr]

    def result(out: str = "out") -> list:
        facts = dataset.load(str(place / out)).facts
        left = [name for name in os.listdir(place) if name.startswith(".out")]
        return [facts["splits"], facts["fingerprint"], left]

    def reset() -> None:
        subprocess.run(["rm", "-rf", str(place / "out")], check=True)

    began = time.monotonic()
    harness.watch(command("whole"))
    length = time.monotonic() - began
    wanted = result("whole")[:2] + [[]]
    return campaign(kills, command, lambda: draw.uniform(0.1, length), check, result, reset, wanted)


def tuning(place: pathlib.Path, data: pathlib.Path, kills: int, draw: random.Random) -> Tally:
    ended: dict[str, bytes] = {}

    def command(out: str = "out") -> list[str]:
        return [sys.executable, "-m", "crackflow.tune", f"--data={data}", f"--out={place / out}", *TUNE]

    def results(out: str = "out") -> dict[str, bytes]:
        return {path.parent.name: path.read_bytes() for path in (place / out).glob("trials/*/result.json")}

    def check() -> list[str]:
        now = results()
        wrong = [f"trial {name} ran twice" for name, content in ended.items() if now.get(name) != content]
        ended.update(now)
        return wrong

    def result(out: str = "out") -> list:
        found = {name: json.loads(content) for name, content in results(out).items()}
        return sorted(
            (name, one["status"], one["epochs"], sorted(one["chosen"].items())) for name, one in found.items()
        )

    def reset() -> None:
        ended.clear()
        subprocess.run(["rm", "-rf", str(place / "out")], check=True)

    began = time.monotonic()
    harness.watch(command("whole"))
    length = time.monotonic() - began
    print(f"an undisturbed search takes {length:.1f} s", file=sys.stderr)
    return campaign(kills, command, lambda: draw.uniform(0.2, length / 2), check, result, reset, result("whole"))


def main() -> None:
    options = harness.arguments(__doc__, kills=60, seed=0, images=1200, only="convert,pack,train,tune")
    draw = random.Random(options.seed)
    shares = {"train": round(0.4 * options.kills), "pack": options.kills // 6, "tune": options.kills // 6}
    shares["convert"] = options.kills - sum(shares.values())
    metu = harness.data_folder() / "metu"
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="crackflow-faults-") as folder:
        place = pathlib.Path(folder)
        some = subset(metu, place / "images", options.images)
        command = [sys.executable, "-m", "crackflow.convert"]
        harness.watch([*command, f"--images={some}", f"--out={place / 'small'}"])
        harness.watch([*command, f"--images={metu}", f"--out={place / 'metu'}"])
        campaigns = {
            "convert": lambda: converting(made(place / "convert"), metu, shares["convert"], draw),
            "pack": lambda: packing(place / "metu", shares["pack"], draw),
            "train": lambda: training(made(place / "train"), place / "small", shares["train"], draw),
            "tune": lambda: tuning(made(place / "tune"), place / "small", shares["tune"], draw),
        }
        found = harness.results(options.json).get("campaigns", {})
        found |= {name: dataclasses.asdict(campaigns[name]()) for name in options.only.split(",")}
    harness.save(
        options.json,
        {
            "kills": sum(tally["kills"] for tally in found.values()),
            "lost_or_damaged": sum(len(tally["damaged"]) + tally["failed"] for tally in found.values()),
            "identical": all(tally["identical"] for tally in found.values()),
            "seconds": round(time.monotonic() - began, 1),
            "seed": options.seed,
            "train_flags": " ".join(TRAIN),
            "tune_flags": " ".join(TUNE),
            "campaigns": found,
        },
    )


def made(place: pathlib.Path) -> pathlib.Path:
    place.mkdir()
    return place


def subset(images: pathlib.Path, place: pathlib.Path, count: int) -> pathlib.Path:
    """`count` files of `images`, evenly over its classes, as links."""
    for label in sorted(path for path in images.iterdir() if path.is_dir()):
        files = sorted(label.iterdir())
        (place / label.name).mkdir(parents=True)
        for number in np.linspace(0, len(files) - 1, count // 2).round().astype(int):
            (place / label.name / files[number].name).symlink_to(files[number])
    return place


if __name__ == "__main__":
    main()
