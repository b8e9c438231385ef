"""What do nearly equal frames of a fixed camera cost crackflow.convert, as their number grows?

  python -m benchmarks.frames --json=benchmarks/results/frames.json [--largest=100000] [--whole=8000]

Frames: one METU picture with sensor noise, a slow drift of brightness, JPEG quality 90, at 227 px. The search is given
thumbnails of 1,000 such frames with the noise that those showed, up to the largest number; the whole command runs on
files, up to `whole`. Walls: photographs of a blank wall, each with its own noise: none is a copy of another, and that
can only be told by comparing each two.
"""

import functools
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

from benchmarks import harness
from crackflow.data import image_file, thumbnail

SIZES = (2_000, 8_000, 32_000, 100_000)
WALLS = (2_000, 8_000, 32_000)
SENSOR_NOISE = 4.0  # grey levels of a pixel
DRIFT = 6.0  # grey levels up and down in the course of the frames
MEASURED = 1_000


@functools.cache
def noise_fields(shape: tuple[int, ...]) -> np.ndarray:
    """float32 [32, H, W, C]: each frame takes one of them, moved by a random step down and across."""
    return np.random.default_rng(7).normal(0, SENSOR_NOISE, (32, *shape)).astype(np.float32)


def frame(picture: np.ndarray, number: int) -> bytes:
    """JPEG bytes of frame `number` of a camera that looks at `picture`, float32 [H, W, 3]."""
    random, fields = np.random.default_rng([7, number]), noise_fields(picture.shape)
    down, across = random.integers(picture.shape[:2])
    noise = np.roll(fields[random.integers(len(fields))], (down, across), (0, 1))
    noisy = picture + DRIFT * np.sin(number / 300) + noise
    buffer = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def frames(folder: pathlib.Path, pictures: list[np.ndarray], count: int) -> None:
    """`count` frames in the class folders clean/ and cracked/, whose cameras look at the two `pictures`."""
    for name in ("clean", "cracked"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        name = ("clean", "cracked")[number % 2]
        (folder / name / f"frame_{number:06d}.jpg").write_bytes(frame(pictures[number % 2], number))


def noise_of_thumbnails(picture: np.ndarray, count: int = MEASURED) -> tuple[np.ndarray, float]:
    """float32 [16, 16] mean thumbnail less its mean, and the standard deviation of one value of it."""
    grey = np.stack(
        [thumbnail.thumbnail(image_file.parse_photo(frame(picture, number), "", 1)).grey for number in range(count)]
    )
    grey -= grey.mean((1, 2), keepdims=True)
    return grey.mean(0), float(grey.std(0).mean())


def search(mean_thumbnail: np.ndarray, noise: float, count: int) -> dict:
    """The search alone, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        file = pathlib.Path(folder) / "thumbnail.npy"
        np.save(file, mean_thumbnail)
        command = [sys.executable, "-m", "benchmarks.frames_search", str(file), str(count), str(noise)]
        stdout = subprocess.run(command, capture_output=True, text=True, check=True, cwd=harness.REPOSITORY).stdout
    print(stdout.strip(), file=sys.stderr)
    return json.loads(stdout)


def measure_command(pictures: list[np.ndarray], count: int) -> dict:
    """The whole command on files: seconds, and in a run of its own memory."""
    with tempfile.TemporaryDirectory(prefix="crackflow-") as temporary:
        folder = pathlib.Path(temporary) / "frames"
        frames(folder, pictures, count)
        command = [
            sys.executable,
            "-m",
            "crackflow.convert",
            f"--images={folder}",
            f"--out={temporary}/out",
            "--overwrite",
        ]
        seconds = harness.watch(command).seconds
        peak = harness.watch(command, memory=True).peak_bytes
        groups = json.loads((pathlib.Path(temporary) / "out" / "dataset.json").read_text())["leaks"]["groups"]
    row = {"images": count, "groups": groups, "seconds": round(seconds, 1), "peak_resident_mb": round(peak / 1e6)}
    print(row, file=sys.stderr)
    return row


def main() -> None:
    options = harness.arguments(__doc__, largest=100_000, whole=8_000)
    data = harness.data_folder()
    pictures = [
        np.asarray(Image.open(sorted((data / "metu" / name).iterdir())[0]), np.float32)
        for name in ("Negative", "Positive")
    ]
    mean_thumbnail, noise = noise_of_thumbnails(pictures[1])
    blank, blank_noise = noise_of_thumbnails(np.full((227, 227, 3), 200, np.float32))
    results = {
        "load": f"load average {os.getloadavg()[0]:.1f} when it began",
        "thumbnail_noise": round(noise, 3),
        "frames": [search(mean_thumbnail, noise, count) for count in SIZES if count <= options.largest],
        "walls": [search(blank * 0, blank_noise, count) for count in WALLS if count <= options.largest],
        "command": [measure_command(pictures, count) for count in SIZES if count <= options.whole],
    }
    harness.save(options.json, results)


if __name__ == "__main__":
    main()
