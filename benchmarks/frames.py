"""How does the cost of crackflow.convert grow with the number of nearly equal frames of a fixed camera?

  python -m benchmarks.frames --json=benchmarks/results/frames.json [--largest=100000] [--whole=8000]

Frames: one METU image with sensor noise and a slow drift of brightness, JPEG quality 90, at 227 px. The search runs on
synthetic thumbnails, up to the largest number, with the mean and noise measured on the thumbnails of 1,000 such frames;
the whole command runs on files, up to `whole`. Walls: photographs of a blank wall, each with its own noise. None is a
copy of another, which only a comparison of every pair can show.
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
DRIFT = 6.0  # amplitude in grey levels over the sequence of frames
MEASURED = 1_000


@functools.cache
def noise_fields(shape: tuple[int, ...]) -> np.ndarray:
    """float32 [32, H, W, C]: each frame uses one of them, shifted randomly down and across."""
    return np.random.default_rng(7).normal(0, SENSOR_NOISE, (32, *shape)).astype(np.float32)


def frame(image: np.ndarray, number: int) -> bytes:
    """JPEG bytes of frame `number` of a camera facing `image`, float32 [H, W, 3]."""
    random, fields = np.random.default_rng([7, number]), noise_fields(image.shape)
    down, across = random.integers(image.shape[:2])
    noise = np.roll(fields[random.integers(len(fields))], (down, across), (0, 1))
    noisy = image + DRIFT * np.sin(number / 300) + noise
    buffer = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def frames(folder: pathlib.Path, images: list[np.ndarray], count: int) -> None:
    """Writes `count` frames of two cameras facing the two `images` to the class folders clean/ and cracked/."""
    for name in ("clean", "cracked"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        name = ("clean", "cracked")[number % 2]
        (folder / name / f"frame_{number:06d}.jpg").write_bytes(frame(images[number % 2], number))


def noise_of_thumbnails(image: np.ndarray, count: int = MEASURED) -> tuple[np.ndarray, float]:
    """The mean thumbnail, zero-centred, float32 [16, 16], and the standard deviation of one of its values."""
    grey = np.stack(
        [thumbnail.thumbnail(image_file.parse_photo(frame(image, number), "", 1)).grey for number in range(count)]
    )
    grey -= grey.mean((1, 2), keepdims=True)
    return grey.mean(0), float(grey.std(0).mean())


def search(mean_thumbnail: np.ndarray, noise: float, count: int) -> dict:
    """Runs the search alone, in its own process."""
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        file = pathlib.Path(folder) / "thumbnail.npy"
        np.save(file, mean_thumbnail)
        command = [sys.executable, "-m", "benchmarks.frames_search", str(file), str(count), str(noise)]
        stdout = subprocess.run(command, capture_output=True, text=True, check=True, cwd=harness.REPOSITORY).stdout
    print(stdout.strip(), file=sys.stderr)
    return json.loads(stdout)


def measure_command(images: list[np.ndarray], count: int) -> dict:
    """Runs the whole command on files: once for seconds, once for memory."""
    with tempfile.TemporaryDirectory(prefix="crackflow-") as temporary:
        folder = pathlib.Path(temporary) / "frames"
        frames(folder, images, count)
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
    images = [
        np.asarray(Image.open(sorted((data / "metu" / name).iterdir())[0]), np.float32)
        for name in ("Negative", "Positive")
    ]
    mean_thumbnail, noise = noise_of_thumbnails(images[1])
    blank, blank_noise = noise_of_thumbnails(np.full((227, 227, 3), 200, np.float32))
    results = {
        "load": f"load average {os.getloadavg()[0]:.1f} when it began",
        "thumbnail_noise": round(noise, 3),
        "frames": [search(mean_thumbnail, noise, count) for count in SIZES if count <= options.largest],
        "walls": [search(blank * 0, blank_noise, count) for count in WALLS if count <= options.largest],
        "command": [measure_command(images, count) for count in SIZES if count <= options.whole],
    }
    harness.save(options.json, results)


if __name__ == "__main__":
    main()
