"""Kills, damaged files and full disks: is anything lost, damaged or left behind, and does every command resume?

  python -m benchmarks.faults --json=benchmarks/results/faults.json
  python -m benchmarks.faults --only=tune,damage --json=...           # only these; other results are preserved

Kills: six commands are killed with SIGKILL (their whole process group) and restarted: training (deterministic),
building a pack, converting, searching, predicting, exporting. After each kill, every file with a final name must be
valid. The final output must equal that of an uninterrupted run, bit for bit; a search must run the same trials, and the
result of a completed trial must not change. No temporary file may remain. Damage: single bits are flipped and files are
truncated, for every kind of file; no damaged file may be used as if it were intact. Disks: commands write to disks that
are too small. All times, bits and sizes are derived from --seed and the number of the test point, so the same command
resumes a stopped campaign from --json.
"""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from benchmarks import faults_damage, faults_disks, harness
from crackflow.core import csv_files
from crackflow.data import dataset
from crackflow.model import model_file
from crackflow.training import checkpoint

TRAIN = (
    "--model=crackflow_xs --image_px=64 --epochs=3 --batch_size=32 --deterministic --early_stopping_epochs=0 "
    "--checkpoint_minutes=0.01 --input=pack --augment=standard --ema=0.9"
).split()
TUNE = (
    "--tuner=random --max_trials=4 --max_epochs=2 --image_px=32 --speed_seconds=0.05 "
    "--hold=stem_kernel,kernel,block,repeats,optimizer,schedule,augment,activation,squeeze_excite"
).split()
PACK = (
    "import sys; from crackflow.data import dataset; from crackflow.pipeline import memmap_loader; "
    "made = dataset.load(sys.argv[1]); memmap_loader.build_if_missing(made, 'train', 227, 3)"
)


@dataclasses.dataclass
class Tally:
    """Counts for one command: kills, problems afterwards, and runs that finished by themselves."""

    kills: int = 0
    finished: int = 0
    failed: int = 0
    damaged: list[str] = dataclasses.field(default_factory=list)
    leftovers: list[str] = dataclasses.field(default_factory=list)
    tracebacks: list[str] = dataclasses.field(default_factory=list)
    identical: bool | None = None
    seconds: float = 0.0


def run_and_kill(command: list[str], after_s: float, ready: Callable[[], bool] | None = None) -> tuple[int | None, str]:
    """Runs `command` and kills it `after_s` seconds after its start, or after `ready()`. Returns its exit code (None
    if it was killed) and its stderr."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=harness.REPOSITORY, start_new_session=True
    )
    while ready and process.poll() is None and not ready():
        time.sleep(0.002)
    try:
        error = process.communicate(timeout=after_s)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return None, process.communicate()[1].decode(errors="replace")
    return process.returncode, error.decode(errors="replace")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The number of kills, the tally of an earlier call, the random generator per kill, and a callback that saves."""

    kills: int
    done: dict
    draw_of: Callable[[int], random.Random]
    save: Callable[[dict], None]


def campaign(
    plan: Plan, command, longest_s, check, result, reset, expected, directory, ready=None, is_whole=None
) -> dict:
    """Kills `command()` within `longest_s` seconds until the planned number of kills is reached, then lets it finish
    and compares the result. If the command finishes first, or `is_whole()` holds after a kill, its `result()` must
    equal `expected`, and the command restarts after `reset()`."""
    tally, began = Tally(**{"identical": True} | plan.done), time.monotonic()
    earlier = tally.seconds

    def compare_result() -> None:
        tally.identical &= result() == expected
        tally.leftovers += faults_disks.find_temporary_files(directory)

    def save_progress() -> None:
        tally.seconds = round(earlier + time.monotonic() - began, 1)
        plan.save(dataclasses.asdict(tally))

    if tally.kills >= plan.kills:
        return dataclasses.asdict(tally)
    while tally.kills < plan.kills:
        moment = plan.draw_of(tally.kills * 1000 + tally.finished).uniform(0.1, longest_s)
        code, error = run_and_kill(command(), moment, ready)
        tally.damaged += check()
        tally.tracebacks += [error[-500:]] * ("Traceback" in error)
        if code is None:
            tally.kills += 1
            if is_whole and is_whole():
                compare_result()
                reset()
        elif code:
            print(error[-2000:], file=sys.stderr)
            tally.failed += 1
            break
        else:
            tally.finished += 1
            compare_result()
            reset()
        save_progress()
    code, error = run_and_kill(command(), 1200)
    tally.failed += code != 0
    tally.tracebacks += [error[-500:]] * ("Traceback" in error)
    tally.damaged += check()
    compare_result()
    save_progress()
    print(dataclasses.asdict(tally), file=sys.stderr)
    return dataclasses.asdict(tally)


def kill_training(directory: pathlib.Path, data: pathlib.Path, plan: Plan) -> dict:
    def command(run: str = "run") -> list[str]:
        return [sys.executable, "-m", "crackflow.train", f"--data={data}", f"--run_dir={directory / run}", *TRAIN]

    def check() -> list[str]:
        run, problems = directory / "run", []
        problems += checkpoint.latest(str(run / "checkpoints")).damaged
        if (run / "history.csv").exists():
            epochs = [int(row["epoch"]) for row in csv_files.read(str(run / "history.csv"))]
            problems += [] if epochs == list(range(1, len(epochs) + 1)) else [f"history.csv: epochs {epochs}"]
        for name in ("metrics.json",):
            if (run / name).exists():
                json.loads((run / name).read_text())
        if (run / "model.h5").exists():
            model_file.load(str(run))
        return problems

    def result(run: str = "run") -> list:
        rows = csv_files.read(str(directory / run / "history.csv"))
        history = [{name: row[name] for name in ("loss", "accuracy", "val_loss", "val_accuracy")} for row in rows]
        return [history, [weight.tobytes() for weight in model_file.load(str(directory / run)).model.get_weights()]]

    def reset() -> None:
        subprocess.run(["rm", "-rf", str(directory / "run")], check=True)

    began = time.monotonic()
    harness.watch(command("whole"))
    duration_s = time.monotonic() - began
    print(f"an undisturbed run takes {duration_s:.1f} s", file=sys.stderr)
    return campaign(plan, command, duration_s, check, result, reset, result("whole"), directory)


def kill_packing(data: pathlib.Path, plan: Plan) -> dict:
    command = [sys.executable, "-c", PACK, str(data)]
    packs, names = data / "packs", ("train-227.npy", "train-227.labels.npy")
    harness.watch(command)
    expected = [(packs / name).read_bytes() for name in names]

    def check() -> list[str]:
        if not (packs / "train-227.json").exists():
            return []
        same = [(packs / name).read_bytes() for name in names] == expected
        return [] if same else ["train-227.json describes a pack that is not what it says"]

    def reset() -> None:
        for name in ("train-227.json", *names):
            (packs / name).unlink(missing_ok=True)

    began: list[float] = [0.0]

    def timed_command() -> list[str]:
        began[0] = time.time()
        return command

    def is_writing() -> bool:
        return any(
            file_name.startswith(".train-227.npy.") and (packs / file_name).stat().st_mtime >= began[0] - 1
            for file_name in os.listdir(packs)
        )

    reset()
    return campaign(
        plan,
        timed_command,
        2.5,
        check,
        lambda: [(packs / name).read_bytes() for name in names],
        reset,
        expected,
        packs,
        is_writing,
    )


def kill_converting(directory: pathlib.Path, images: pathlib.Path, plan: Plan) -> dict:
    def command(out: str = "out") -> list[str]:
        return [sys.executable, "-m", "crackflow.convert", f"--images={images}", f"--out={directory / out}"]

    def check() -> list[str]:
        if not (directory / "out").exists():
            return []
        verify = [sys.executable, "-m", "crackflow.convert", f"--verify={directory / 'out'}"]
        done = subprocess.run(verify, capture_output=True, text=True, cwd=harness.REPOSITORY)
        return [] if done.returncode == 0 else [done.stderr]

    def result(out: str = "out") -> list:
        facts = dataset.load(str(directory / out)).metadata
        leftovers = [name for name in os.listdir(directory) if name.startswith(".out")]
        return [facts["splits"], facts["fingerprint"], leftovers]

    def reset() -> None:
        subprocess.run(["rm", "-rf", str(directory / "out")], check=True)

    began = time.monotonic()
    harness.watch(command("whole"))
    duration_s = time.monotonic() - began
    expected = result("whole")[:2] + [[]]
    return campaign(
        plan, command, duration_s, check, result, reset, expected, directory, is_whole=(directory / "out").exists
    )


def kill_file_writer(directory: pathlib.Path, verb: str, options: list[str], names: list[str], plan: Plan) -> dict:
    """A verb that writes the files `names` to its folder, identical in every run."""

    def command(out: str = "out") -> list[str]:
        return [sys.executable, "-m", f"crackflow.{verb}", *options, f"--out={directory / out}"]

    def result(out: str = "out") -> list[bytes]:
        return [(directory / out / name).read_bytes() for name in names]

    def is_whole() -> bool:
        return all((directory / "out" / name).exists() for name in names)

    def check() -> list[str]:
        """Before the command finishes, no file has a final name, except the state from which predict resumes."""
        existing = set(os.listdir(directory / "out")) - {"unfinished"} if (directory / "out").exists() else set()
        return [f"{verb}: only {sorted(existing)}"] if existing and not is_whole() else []

    def reset() -> None:
        subprocess.run(["rm", "-rf", str(directory / "out")], check=True)

    began = time.monotonic()
    harness.watch(command("whole"))
    duration_s = time.monotonic() - began
    return campaign(plan, command, duration_s, check, result, reset, result("whole"), directory, is_whole=is_whole)


def kill_tuning(directory: pathlib.Path, data: pathlib.Path, plan: Plan) -> dict:
    ended: dict[str, bytes] = {}

    def command(out: str = "out") -> list[str]:
        return [sys.executable, "-m", "crackflow.tune", f"--data={data}", f"--out={directory / out}", *TUNE]

    def results(out: str = "out") -> dict[str, bytes]:
        return {path.parent.name: path.read_bytes() for path in (directory / out).glob("trials/*/result.json")}

    def check() -> list[str]:
        current = results()
        problems = [f"trial {name} ran twice" for name, content in ended.items() if current.get(name) != content]
        ended.update(current)
        return problems

    def result(out: str = "out") -> list:
        trials = {name: json.loads(content) for name, content in results(out).items()}
        return sorted(
            (name, trial["status"], trial["epochs"], sorted(trial["chosen"].items())) for name, trial in trials.items()
        )

    def reset() -> None:
        ended.clear()
        subprocess.run(["rm", "-rf", str(directory / "out")], check=True)

    began = time.monotonic()
    harness.watch(command("whole"))
    duration_s = time.monotonic() - began
    print(f"an undisturbed search takes {duration_s:.1f} s", file=sys.stderr)
    return campaign(plan, command, duration_s / 2, check, result, reset, result("whole"), directory)


KINDS = ("campaigns", "damage", "disks")  # keys of the JSON
KILLED = {
    "train": 0.3,
    "pack": 0.15,
    "convert": 0.2,
    "tune": 0.15,
    "predict": 0.1,
    "export": 0.1,
}  # fractions of --kills


class Notebook:
    """The content of --json, saved after every kill, damage and disk, so that a stopped campaign can resume."""

    def __init__(self, path: str, seed: int) -> None:
        earlier = harness.results(path)
        self._path, self._seed = path, seed
        goes_on = earlier.get("seed") == seed and "damage" in earlier
        self.tallies = {name: earlier[name] if goes_on else {} for name in KINDS}

    def save(self, kind: str, name: str, tally: dict) -> None:
        self.tallies[kind][name] = tally
        if self._path:
            with contextlib.redirect_stdout(io.StringIO()):
                harness.save(self._path, self.content())

    def plan(self, kind: str, name: str, points: int) -> Plan:
        return Plan(
            points,
            self.tallies[kind].get(name, {}),
            lambda number: random.Random(f"{self._seed} {kind} {name} {number}"),
            lambda tally: self.save(kind, name, tally),
        )

    def content(self) -> dict:
        kills, damage, disks = (list(self.tallies[kind].values()) for kind in KINDS)
        everything = kills + damage + disks
        return {
            "totals": {
                "kills": sum(tally["kills"] for tally in kills),
                "damages": sum(tally["points"] for tally in damage),
                "full_disks": sum(tally["points"] for tally in disks),
                "lost": sum(len(tally["damaged"]) + tally["failed"] for tally in kills)
                + sum(len(tally["wrong"]) for tally in disks),
                "identical": all(tally["identical"] for tally in kills),
                "silently_used": sum(len(tally["silent"]) for tally in damage),
                "leftovers": sum(len(tally.get("leftovers", ())) for tally in everything),
                "tracebacks": sum(len(tally["tracebacks"]) for tally in everything),
            },
            "seed": self._seed,
            "train_flags": " ".join(TRAIN),
            "tune_flags": " ".join(TUNE),
            **self.tallies,
        }


def main() -> None:
    everything = ",".join([*KILLED, "damage", "disks"])
    options = harness.arguments(__doc__, kills=60, damages=300, disks=30, seed=0, images=1200, only=everything)
    run_campaigns(options, set(options.only.split(",")))


def run_campaigns(options, only: set[str]) -> dict:
    """Runs the campaigns and returns the results; `options` are the command-line options."""
    metu, notebook = harness.data_folder() / "metu", Notebook(options.json, options.seed)
    with tempfile.TemporaryDirectory(prefix="crackflow-faults-") as folder:
        directory = pathlib.Path(folder)
        images = subset(metu, directory / "images", options.images)
        data = directory / "small"
        harness.watch([sys.executable, "-m", "crackflow.convert", f"--images={images}", f"--out={data}"])
        photos = subset(metu, directory / "few", 24)
        campaigns = {
            "convert": lambda plan: kill_converting(make_directory(directory / "convert"), images, plan),
            "pack": lambda plan: kill_packing(data, plan),
            "train": lambda plan: kill_training(make_directory(directory / "train"), data, plan),
            "tune": lambda plan: kill_tuning(make_directory(directory / "tune"), data, plan),
            "predict": lambda plan: kill_file_writer(
                make_directory(directory / "predict"),
                "predict",
                [f"--photos={photos}"],
                ["predictions.csv", "findings.json"],
                plan,
            ),
            "export": lambda plan: kill_file_writer(
                make_directory(directory / "export"), "export", ["--formats=tflite"], ["model_float32.tflite"], plan
            ),
        }
        for name in [name for name in campaigns if name in only]:
            campaigns[name](notebook.plan("campaigns", name, round(KILLED[name] * options.kills)))
        if "damage" in only:
            run_damage_campaigns(directory, data, options.damages, notebook)
        if "disks" in only:
            run_disk_campaigns(directory, data, photos, options.disks, notebook)
    harness.save(options.json, notebook.content())
    return notebook.content()


def run_damage_campaigns(directory: pathlib.Path, data: pathlib.Path, points: int, notebook: Notebook) -> None:
    run, out = directory / "train" / "whole", directory / "tune" / "whole"
    if not run.exists():
        harness.watch([sys.executable, "-m", "crackflow.train", f"--data={data}", f"--run_dir={run}", *TRAIN])
    if not out.exists():
        harness.watch([sys.executable, "-m", "crackflow.tune", f"--data={data}", f"--out={out}", *TUNE])
    targets = faults_damage.targets(data, run, out, 64)
    for number, (name, target) in enumerate(targets.items()):
        num_points = points * (number + 1) // len(targets) - points * number // len(targets)
        plan = notebook.plan("damage", name, num_points)
        tally = faults_damage.campaign(target, num_points, plan.done, plan.draw_of, plan.save)
        print(name, tally, file=sys.stderr)


def run_disk_campaigns(
    directory: pathlib.Path, data: pathlib.Path, images: pathlib.Path, points: int, notebook: Notebook
) -> None:
    disk = directory / "disk"
    if not faults_disks.can_mount(disk):
        print("no right to mount a small disk: that part is left out", file=sys.stderr)
        return
    commands = faults_disks.commands(data, images, TRAIN, TUNE)
    for number, (name, (command, prepare)) in enumerate(commands.items()):
        num_points = points * (number + 1) // len(commands) - points * number // len(commands)
        plan = notebook.plan("disks", name, num_points)
        tally = faults_disks.campaign(disk, command, prepare, num_points, plan.done, plan.draw_of, plan.save)
        print(name, tally, file=sys.stderr)


def make_directory(directory: pathlib.Path) -> pathlib.Path:
    directory.mkdir()
    return directory


def subset(images: pathlib.Path, directory: pathlib.Path, count: int) -> pathlib.Path:
    """Links `count` files of `images`, the same number per class, into `directory`."""
    for label in sorted(path for path in images.iterdir() if path.is_dir()):
        files = sorted(label.iterdir())
        (directory / label.name).mkdir(parents=True)
        for number in np.linspace(0, len(files) - 1, count // 2).round().astype(int):
            (directory / label.name / files[number].name).symlink_to(files[number])
    return directory


if __name__ == "__main__":
    main()
