"""A file that crackflow wrote has one bit flipped or is truncated: is the damage detected, or is the file used?

Part of benchmarks.faults. Each damaged file must be refused, treated as missing, or give the same content as the
undamaged file (when the bit has no effect, such as one in white space).
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import random
from collections.abc import Callable

from crackflow.conversion import verify
from crackflow.core.errors import UserError, VerificationError
from crackflow.data import dataset
from crackflow.model import model_file
from crackflow.pipeline import memmap_loader
from crackflow.search import oracle, search, trial
from crackflow.training import checkpoint

REFUSED = "refused"


@dataclasses.dataclass(frozen=True)
class Target:
    """`read`: returns the content of the file in comparable form; it may raise UserError or VerificationError.
    `passed_over`: what `read` returns when the file is treated as missing."""

    path: pathlib.Path
    read: Callable[[], object]
    passed_over: object = REFUSED


def damage(path: pathlib.Path, rng: random.Random) -> str:
    """Flips one bit of the file, or truncates it. Returns a description of the damage."""
    data = bytearray(path.read_bytes())
    position = rng.randrange(len(data))
    if rng.random() < 0.5:
        path.write_bytes(data[:position])
        return f"cut to {position} of {len(data)} bytes"
    bit = rng.randrange(8)
    data[position] ^= 1 << bit
    path.write_bytes(data)
    return f"bit {bit} of byte {position} of {len(data)}"


def outcome(read: Callable[[], object]) -> object:
    try:
        return read()
    except (UserError, VerificationError, dataset.DatasetCorruptedError):
        return REFUSED


def campaign(target: Target, points: int, done: dict, draw_of: Callable[[int], random.Random], save: Callable) -> dict:
    """Damages one file `points` times and restores it each time; `done` is the tally of an earlier call."""
    original = target.path.read_bytes()
    expected = outcome(target.read)
    tally = {"points": 0, "refused": 0, "same": 0, "silent": [], "tracebacks": []} | done
    for number in range(tally["points"], points):
        description = damage(target.path, draw_of(number))
        try:
            content = outcome(target.read)
            if content in (REFUSED, target.passed_over):
                tally["refused"] += 1
            elif content == expected:
                tally["same"] += 1
            else:
                tally["silent"].append(description)
        except Exception as error:
            tally["tracebacks"].append(f"{description}: {type(error).__name__}: {error}"[:300])
        finally:
            target.path.write_bytes(original)
        tally["points"] += 1
        save(tally)
    return tally


def targets(data: pathlib.Path, run: pathlib.Path, out: pathlib.Path, px: int) -> dict[str, Target]:
    """Files of the dataset `data` with packs of `px` pixels, of the run folder `run` and of the search `out`. Missing
    files are skipped."""
    split = dataset.read(str(data)).metadata["splits"]["train"]
    packed = data / "packs" / f"train-{px}"
    checkpoints = run / "checkpoints"
    newest = checkpoints / (checkpoint.names(str(checkpoints)) or ["none"])[-1]
    result = min(out.glob("trials/*/result.json"), default=out / "none")
    candidates = {
        "shard": Target(data / split["shards"][0]["file"], lambda: _verify(data)),
        "dataset.json": Target(data / dataset.DATASET, lambda: _verify(data)),
        "manifest.csv": Target(data / dataset.MANIFEST, lambda: _verify(data)),
        "pack": Target(packed.with_suffix(".npy"), lambda: _read_pack(data, px), None),
        "pack.labels": Target(packed.with_suffix(".labels.npy"), lambda: _read_pack(data, px), None),
        "pack.json": Target(packed.with_suffix(".json"), lambda: _read_pack(data, px), None),
        "model.h5": Target(run / "model.h5", lambda: _read_model(run)),
        "checkpoint": Target(
            newest, lambda: _read_snapshot(checkpoints), newest.exists() and _read_snapshot(checkpoints, newest)
        ),
        "search.json": Target(out / search.SEARCH, lambda: search._stored(str(out)), None),
        "oracle.json": Target(out / search.ORACLE, lambda: _read_oracle(out)),
        "result.json": Target(result, lambda: _read_result(result.parent), None),
    }
    return {name: target for name, target in candidates.items() if target.path.exists()}


def _verify(data: pathlib.Path) -> object:
    with _inline_pool() as pool:
        damaged = verify.find_damage(str(data), pool, 2, lambda count: None)
    if damaged:
        raise VerificationError(damaged[0])
    return dataset.load(str(data)).metadata


@contextlib.contextmanager
def _inline_pool():
    """A pool that runs tasks in this process: a process pool takes seconds to start."""

    class Result:
        def __init__(self, value: object) -> None:
            self.result = lambda: value

    class Pool:
        def submit(self, function: Callable, *arguments: object) -> Result:
            return Result(function(*arguments))

    yield Pool()


def _read_pack(data: pathlib.Path, px: int) -> object:
    packed = memmap_loader.find(dataset.load(str(data)), "train", px, 3)
    return packed and (packed.count, packed.labels.tobytes(), os.path.getsize(packed.path))


def _read_model(run: pathlib.Path) -> object:
    loaded = model_file.load(str(run))
    return [weight.tobytes() for weight in loaded.model.get_weights()], loaded.card


def _read_snapshot(folder: pathlib.Path, without: pathlib.Path | None = None) -> object:
    """The newest valid snapshot, or the newest before `without`."""
    before = {"before": checkpoint._step(without.name)} if without else {}
    snapshot = checkpoint.latest(str(folder), **before).snapshot
    return snapshot and (snapshot.metadata, {name: array.tobytes() for name, array in snapshot.arrays.items()})


def _read_oracle(out: pathlib.Path) -> object:
    stored = oracle.read_state(str(out / search.ORACLE))
    return json.dumps(stored, sort_keys=True)


def _read_result(directory: pathlib.Path) -> object:
    result = trial.read(str(directory))
    return result and dataclasses.asdict(result)
