"""The protocol between a peer and the benchmark, and helpers that every peer needs. Standard library and numpy only,
since every environment imports it.

Synopsis::

    options = protocol.options()                       # --images DIR --image_px N --batch 128 --work SCRATCHDIR
    files, labels = protocol.files(options.images)
    shards = protocol.write_once(options.work / "shards", write)
    protocol.serve("grain", grain.__version__, batches(), options)

`serve` warms up, prints {"ready": true, ...}, then answers each line ``window SECONDS`` on stdin with
{"images_per_sec": X}, until stdin ends. A batch is (images, labels): uint8 [batch, px, px, 3] RGB and batch integers,
NumPy or native tensors in host memory. `batches` never ends and has a new order in every pass.
"""

import argparse
import json
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

FILE_PX = 227  # side of the images in METU's files; at this size, no peer resizes
CLASSES = ("Negative", "Positive")  # a label is an index into these
WORKERS = len(os.sched_getaffinity(0))
WARM_SECONDS = 3.0
RAMP_SECONDS = 0.3  # excluded from a window: queues filled while the program waited for it


def options() -> argparse.Namespace:
    """The command line of an input pipeline. From here on, stdout is reserved for the protocol."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=pathlib.Path, required=True, help="folder with Positive/ and Negative/")
    parser.add_argument("--image_px", type=int, required=True, help="side of the delivered images")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="for what has to be stored first; re-used")
    parsed = _parsed(parser)
    parsed.work.mkdir(parents=True, exist_ok=True)
    return parsed


def step_options() -> argparse.Namespace:
    """The command line of a program that trains. From here on, stdout is reserved for the protocol."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", required=True)
    parser.add_argument("--image_px", type=int, required=True)
    parser.add_argument("--channels", type=int, required=True)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--precision", choices=("float32", "mixed_bfloat16"), default="float32")
    parser.add_argument("--compiled", type=int, default=0)
    return _parsed(parser)


def _parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parses the arguments. From here on, output of libraries goes to stderr."""
    parsed = parser.parse_args()
    parsed.answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return parsed


def serve_steps(step: Callable[[], object], parameters: int, version: str, device: str, options) -> None:
    """Serves train steps: `step()` trains on one batch and returns when the device has finished it.

    Three steps, and as many more as fit into a second, serve as warm-up."""

    def run(seconds: float) -> tuple[int, float]:
        began, images, passed = time.perf_counter(), 0, 0.0
        while passed < seconds:
            step()
            images += options.batch
            passed = time.perf_counter() - began
        return images, passed

    for _ in range(3):
        step()
    run(1.0)
    answer(options, run, {"version": version, "parameters": parameters, "device": device})


def synthetic_batch(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """The batch that all programs train on: uint8 [B, px, px, C], 0..255, and labels int32 [B]."""
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (options.batch, options.image_px, options.image_px, options.channels), np.uint8)
    return image, random.integers(0, 2, options.batch).astype(np.int32)


def files(images: pathlib.Path) -> tuple[list[str], np.ndarray]:
    """Paths of all images, sorted by class and name, and their labels."""
    labelled_files = [
        (str(path), label) for label, name in enumerate(CLASSES) for path in sorted((images / name).glob("*.jpg"))
    ]
    if not labelled_files:
        sys.exit(f"expected {CLASSES[0]}/*.jpg and {CLASSES[1]}/*.jpg in {images}")
    return [path for path, _ in labelled_files], np.array([label for _, label in labelled_files], np.int64)


def shuffled_order(count: int) -> np.ndarray:
    """The indices 0 ... count - 1 in a fixed random order, for formats that should be written shuffled."""
    return np.random.default_rng(0).permutation(count)


def write_once(path: pathlib.Path, write: Callable[[pathlib.Path], object]) -> pathlib.Path:
    """Returns `path`, written by `write` if it does not exist. An interrupted write never leaves a file at `path`."""
    if not path.exists():
        unfinished = path.with_name(f"unfinished-{os.getpid()}-{path.name}")
        try:
            write(unfinished)
            unfinished.rename(path)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.unlink(missing_ok=True)
    return path


def serve(peer: str, version: str, batches: Iterator, options: argparse.Namespace) -> None:
    """Warms up for a whole pass or 3 s, whichever is shorter, then answers until stdin ends."""
    count = len(files(options.images)[0])
    watched = _watch(batches, count, options)
    began, seen = time.perf_counter(), 0
    while not seen or (seen < count and time.perf_counter() - began < WARM_SECONDS):
        seen += len(next(watched)[0])
    shape = [options.batch, options.image_px, options.image_px, 3]
    facts = {"peer": peer, "version": version, "shape": shape, "dtype": "uint8"}
    answer(options, lambda seconds: _run(watched, seconds), facts)


def answer(options: argparse.Namespace, run: Callable[[float], tuple[int, float]], facts: dict) -> None:
    """Reports readiness and `facts`; then answers each window with the rate of `run(seconds)`: (images, seconds)."""
    _say(options, {"ready": True} | facts)
    for line in sys.stdin:
        _, seconds = line.split()
        run(RAMP_SECONDS)
        images, passed = run(float(seconds))
        _say(options, {"images_per_sec": round(images / passed, 1)})


def _run(batches: Iterator, seconds: float) -> tuple[int, float]:
    """Reads batches for `seconds`. Returns the number of images, and the seconds until the last batch arrived."""
    began, images, passed = time.perf_counter(), 0, 0.0
    while passed < seconds:
        images += len(next(batches)[1])
        passed = time.perf_counter() - began
    return images, passed


def _say(options: argparse.Namespace, answer: dict) -> None:
    print(json.dumps(answer), file=options.answers, flush=True)


def _watch(batches: Iterator, count: int, options: argparse.Namespace) -> Iterator:
    """Yields the same batches. Exits the program if the first batch breaks the protocol, or if its labels repeat within
    the next two passes; later batches are not checked."""
    shape = (options.batch, options.image_px, options.image_px, 3)
    order = b""
    for images, labels in batches:
        if not order:
            _check(images, labels, shape)
        order += np.asarray(labels).astype(np.int8).tobytes()
        yield images, labels
        if len(order) >= 3 * count:
            break
    first = order[: options.batch]
    if order.find(first, 1) >= 0:
        sys.exit("expected every pass in a new order, received the first batch again")
    yield from batches


def _check(images: object, labels: object, shape: tuple) -> None:
    pixels, classes = np.asarray(images), np.asarray(labels)
    if tuple(images.shape) != shape or pixels.dtype != np.uint8:
        sys.exit(f"expected uint8 {shape}, received {pixels.dtype} {tuple(images.shape)}")
    if classes.size != shape[0] or classes.dtype.kind not in "iu" or set(classes.ravel()) != {0, 1}:
        sys.exit(f"expected {shape[0]} integer labels of both classes, received {classes.dtype} {classes.ravel()}")
    if pixels.std() < 1:
        sys.exit("expected photographs, received one colour")
