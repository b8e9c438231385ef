"""Plain C that copies random rows of a memory-mapped file of pixels, 2 threads: the limit of a decoded cache.

Synopsis::

    python benchmarks/peers/memcpy_limit.py --images DIR --image_px 227 --work SCRATCHDIR
"""

import collections
import concurrent.futures
import ctypes
import pathlib
import subprocess
import sys

sys.path.pop(0)  # this folder, whose grain.py and webdataset.py would hide the packages
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import numpy as np
from PIL import Image

from benchmarks.peers import protocol

SOURCE = """
#include <string.h>
void gather(const char *rows, const long *chosen, long count, size_t row, char *batch) {
  for (long i = 0; i < count; i++) memcpy(batch + i * row, rows + chosen[i] * row, row);
}
"""
THREADS = 2
RING = 4  # buffers: two are being filled by threads, one waits, one is in use by the reader


def write(images: pathlib.Path, px: int, path: pathlib.Path) -> None:
    with open(path, "wb") as output:
        for file in protocol.files(images)[0]:
            with Image.open(file) as image:
                output.write(image.convert("RGB").resize((px, px), Image.Resampling.BILINEAR).tobytes())


def compile_source(path: pathlib.Path) -> None:
    command = ["cc", "-O3", "-march=native", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=SOURCE, text=True, check=True)


def batches(gather, pixels: np.ndarray, labels: np.ndarray, batch: int):
    random, row = np.random.default_rng(0), pixels[0].nbytes
    ring = [np.zeros((batch, *pixels.shape[1:]), np.uint8) for _ in range(RING)]

    def fill(buffer: np.ndarray, indices: np.ndarray):
        gather(pixels.ctypes.data, indices.ctypes.data, batch, row, buffer.ctypes.data)
        return buffer, labels[indices]

    running: collections.deque = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(THREADS) as threads:
        num_submitted = 0
        while True:
            order = random.permutation(len(labels))
            for first in range(0, len(order) - batch + 1, batch):
                running.append(threads.submit(fill, ring[num_submitted % RING], order[first : first + batch]))
                num_submitted += 1
                if len(running) == RING:
                    yield running.popleft().result()


def main() -> None:
    options = protocol.options()
    px = options.image_px
    path = protocol.write_once(options.work / f"pixels_{px}.raw", lambda path: write(options.images, px, path))
    gather = ctypes.CDLL(str(protocol.write_once(options.work / "gather.so", compile_source))).gather
    gather.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_size_t, ctypes.c_void_p]
    pixels = np.memmap(path, np.uint8, "r").reshape(-1, px, px, 3)
    labels = protocol.files(options.images)[1]
    protocol.serve("memcpy_limit", np.__version__, batches(gather, pixels, labels, options.batch), options)


if __name__ == "__main__":
    main()
