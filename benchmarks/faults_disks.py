"""A disk fills up while a command writes: the command must print one line, exit with code 2 or 75 and leave no partly
valid file; with more space, the same command must succeed.

Part of benchmarks.faults. Needs permission to mount a tmpfs.
"""

import contextlib
import os
import pathlib
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

from benchmarks import harness
from crackflow.core import temporary_files

MIN_SHARE, MAX_SHARE = 0.02, 0.95  # of the space that a command needs
ROOM_MB = 4096
EXIT_CODES = (0, 2, 75)


def can_mount(mount_point: pathlib.Path) -> bool:
    try:
        with disk(mount_point, 64):
            return True
    except subprocess.CalledProcessError:
        return False


@contextlib.contextmanager
def disk(mount_point: pathlib.Path, kilobytes: int) -> Iterator[Callable[[int], None]]:
    """Mounts an empty tmpfs at the new folder `mount_point`. Yields a function that changes its size."""
    mount_point.mkdir()

    def mount(kilobytes: int, how: str = "") -> None:
        line = ["mount", "-t", "tmpfs", "-o", f"{how}size={kilobytes}k", "tmpfs", str(mount_point)]
        subprocess.run(line, check=True, capture_output=True)

    try:
        mount(kilobytes)
        try:
            yield lambda kilobytes: mount(kilobytes, "remount,")
        finally:
            subprocess.run(["umount", "-l", str(mount_point)], check=True)
    finally:
        mount_point.rmdir()


def used_kilobytes(directory: pathlib.Path) -> int:
    files = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum(-(-path.stat().st_size // 4096) * 4 for path in files)


def find_temporary_files(directory: pathlib.Path) -> list[str]:
    return [
        str(path.relative_to(directory)) for path in directory.rglob("*") if temporary_files.is_temporary(path.name)
    ]


def campaign(
    mount_point: pathlib.Path,
    command: Callable[[pathlib.Path], Sequence[str]],
    prepare: Callable[[pathlib.Path], None],
    points: int,
    done: dict,
    draw_of: Callable[[int], random.Random],
    save: Callable[[dict], None],
) -> dict:
    """Runs `command(disk)` on disks of `points` sizes, drawn between 2 and 95 % of the space it needs. `prepare(disk)`
    writes its inputs there."""
    tally = {"points": 0, "wrong": [], "tracebacks": [], "leftovers": [], "codes": {}} | done
    if tally["points"] >= points:
        return tally
    with disk(mount_point, ROOM_MB << 10):
        prepare(mount_point)
        before = used_kilobytes(mount_point)
        run(command(mount_point), expected=(0,))
        needed = max(used_kilobytes(mount_point) - before, 16)
    for number in range(tally["points"], points):
        size = before + round(needed * draw_of(number).uniform(MIN_SHARE, MAX_SHARE)) + 16
        with disk(mount_point, ROOM_MB << 10) as resize:
            prepare(mount_point)
            resize(size)
            code, error = run(command(mount_point))
            tally["codes"][str(code)] = tally["codes"].get(str(code), 0) + 1
            lines = [line for line in error.splitlines() if line and not line.lower().startswith("warning: ")]
            if "Traceback" in error:
                tally["tracebacks"].append(f"{size} kB: {lines[-1:]}")
            elif code not in EXIT_CODES or (code and len(lines) != 1):
                tally["wrong"].append(f"{size} kB: exit code {code}, {lines[-3:]}")
            resize(ROOM_MB << 10)
            if code:  # otherwise the space was enough, as for a training without checkpoints
                code, error = run(command(mount_point))
            if code:
                tally["wrong"].append(f"{size} kB, then room: exit code {code}, {error[-300:]}")
            tally["leftovers"] += find_temporary_files(mount_point)
        tally["points"] += 1
        save(tally)
    return tally


def run(command: Sequence[str], expected: Sequence[int] = ()) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, errors="replace", cwd=harness.REPOSITORY
    )
    if expected and done.returncode not in expected:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.returncode, done.stderr


def commands(data: pathlib.Path, images: pathlib.Path, train: Sequence[str], tune: Sequence[str]) -> dict:
    """Name -> (command, function that prepares the disk)."""

    def prepare_nothing(directory: pathlib.Path) -> None:
        """Nothing."""

    def copy_data(directory: pathlib.Path) -> None:
        shutil.copytree(data, directory / "data", ignore=shutil.ignore_patterns("packs"))

    photos = sorted(path for path in images.rglob("*") if path.is_file())[:40]
    pattern = os.path.commonpath(photos)
    return {
        "convert": (
            lambda directory: ["crackflow.convert", f"--images={images}", f"--out={directory / 'out'}"],
            prepare_nothing,
        ),
        "predict": (
            lambda directory: ["crackflow.predict", f"--photos={pattern}", f"--out={directory / 'out'}"],
            prepare_nothing,
        ),
        "export": (
            lambda directory: ["crackflow.export", f"--out={directory / 'out'}", "--formats=savedmodel,tflite"],
            prepare_nothing,
        ),
        "pack": (
            lambda directory: [
                "crackflow.train",
                f"--data={directory / 'data'}",
                f"--run_dir={directory / 'run'}",
                *train,
            ],
            copy_data,
        ),
        "train": (
            lambda directory: ["crackflow.train", f"--data={data}", f"--run_dir={directory / 'run'}", *train],
            prepare_nothing,
        ),
        "tune": (
            lambda directory: ["crackflow.tune", f"--data={data}", f"--out={directory / 'out'}", *tune],
            prepare_nothing,
        ),
    }
