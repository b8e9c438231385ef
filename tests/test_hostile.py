"""200 damaged or hostile files, generated from a seed: no traceback, no hang, no code run."""

import json
import os
import time

import h5py
import numpy as np
import pytest

from crackflow.core import csv_files
from crackflow.core.config.network import Network
from crackflow.core.errors import ImageError, UserError
from crackflow.data import image_file
from crackflow.inference import predictor
from crackflow.model import model_file, networks
from tests.helpers import support
from tests.helpers.gps_photos import located
from tests.helpers.hostile_models import borrowed, circle, evil, function, layer, loop, outside, put, resized
from tests.helpers.pngs import png
from tests.helpers.walls import CARD, darkness, wall

SEED, EACH = 0, 100
LONGEST_SECONDS = 10.0


def damaged(data, generator):
    """`data` cut short, with some bits flipped, or with a part missing, repeated or zeroed."""
    data = bytearray(data)
    first, second = sorted(generator.integers(0, len(data), 2))
    kind = generator.integers(0, 5)
    if kind == 0:
        return bytes(data[:first])
    if kind == 1:
        for offset in generator.integers(0, len(data), generator.choice([1, 10, 1000])):
            data[offset] ^= 1 << generator.integers(0, 8)
    elif kind == 2:
        del data[first:second]
    elif kind == 3:
        data[first:first] = data[first:second]
    else:
        data[first:second] = bytes(second - first)
    return bytes(data)


def photographs(generator):
    """The bytes of EACH hostile photographs."""
    picture = wall(120, 160)
    forms = [support.encoded(picture, form) for form in ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "PPM")]
    forms += [support.encoded(picture, progressive=True), located((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), pixels=picture)]
    photos = [
        b"",
        b"\x00" * 5000,
        b"not an image",
        png(60_000, 60_000),
        png(2**31 - 1, 1),
        png(0, 10),
        png(5000, 5000, bytes(100)),
        b"\xff\xd8\xff\xe1\xff\xffExif\x00\x00" + bytes(200),
        b"\xff\xd8" + b"\xff\xe0\x00\x02" * 20_000,
        b"II*\x00\x08\x00\x00\x00" + b"\xff" * 200,
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n",
        b"PK\x03\x04" + bytes(100),
    ]
    while len(photos) < EACH:
        photos.append(damaged(forms[len(photos) % len(forms)], generator))
    return photos


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "model.h5"
    model_file.save(str(path), networks.NETWORKS[Network.CRACKFLOW_XS].build(64), CARD)
    return path.read_bytes()


def models(sound, directory, generator):
    """(paths of EACH hostile model files, the file that they would write if their code ran)."""
    trace = str(directory / "trace")
    body = sound[: -model_file.CHECKSUM_TRAILER_BYTES]
    command = {"class_name": "function", "module": "os", "config": "system", "registered_name": "function"}

    def described(change, number):
        path = directory / f"model{number}.h5"
        path.write_bytes(body)
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            change(config)
            put(file, "model_config", json.dumps(config))
        return path

    def opened(change, number):
        path = directory / f"model{number}.h5"
        path.write_bytes(body)
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    lambda_ = {"class_name": "Lambda", "config": {"name": "x", "function": [f"open({trace!r}, 'w')", None, None]}}
    changes = [
        lambda c: layer(c, "Activation")["config"].update(activation=evil()),
        lambda c: layer(c, "Activation")["config"].update(activation=function("exec")),
        lambda c: layer(c, "Activation")["config"].update(activation=command),
        lambda c: layer(c, "Conv2D")["config"].update(kernel_initializer=evil("builtins", "eval")),
        lambda c: layer(c, "Conv2D").update(evil("subprocess", "Popen")),
        lambda c: layer(c, "Dense").update(lambda_),
        lambda c: layer(c, "Dense").update(class_name="TFOpLambda", config={"function": "io.write_file"}),
        circle,
        lambda c: layer(c, "Dense")["config"].update(units=10**15),
        lambda c: layer(c, "Conv2D")["config"].update(filters=10**12, kernel_size=[10**6, 10**6]),
        lambda c: c["config"].update(layers=c["config"]["layers"] * 500),
    ]
    files = [described(change, number) for number, change in enumerate(changes)]
    files += [opened(change, 50 + number) for number, change in enumerate([outside, loop, borrowed, resized])]
    while len(files) < EACH:
        path = directory / f"model{100 + len(files)}.h5"
        path.write_bytes(damaged(sound if len(files) % 2 else body, generator))
        files.append(path)
    return files, trace


def test_a_hundred_model_files_run_nothing_and_end_in_one_line_each(sound, tmp_path):
    files, trace = models(sound, tmp_path, np.random.default_rng(SEED))
    refused = 0
    for path in files:
        start = time.monotonic()
        try:
            predictor.load(path)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
        assert time.monotonic() - start < LONGEST_SECONDS, path
    assert not os.path.exists(trace)
    assert refused >= 0.8 * len(files)  # the rest have a few changed weights in a file without its checksum


@pytest.mark.parametrize("number", [0, 5, 7, 12, 60])
def test_the_command_says_it_in_one_line(sound, tmp_path, number):
    files, trace = models(sound, tmp_path, np.random.default_rng(SEED))
    support.put(tmp_path / "wall.jpg", support.encoded(wall()))
    path = files[number]
    flags = [f"--model={path}", f"--photos={tmp_path / 'wall.jpg'}", f"--out={tmp_path / 'out'}"]
    done = support.called("predict", *flags) if number else support.command("predict", *flags, timeout=60)
    if done.returncode:
        support.expect_one_line(done, 2, str(path))
    assert not os.path.exists(trace)


@pytest.mark.slow
def test_a_hundred_photographs_are_read_or_listed_with_a_reason(tmp_path):
    model_file.save(str(tmp_path / "model.h5"), darkness(), CARD)
    for number, data in enumerate(photographs(np.random.default_rng(SEED))):
        support.put(tmp_path / f"site/{number:03d}.jpg", data)
    os.symlink(tmp_path / "site", tmp_path / "site/again")
    os.symlink("nowhere", tmp_path / "site/nothing.jpg")
    os.mkfifo(tmp_path / "site/pipe.jpg")
    flags = [f"--model={tmp_path / 'model.h5'}", f"--photos={tmp_path / 'site'}", f"--out={tmp_path / 'out'}"]
    done = support.command("predict", *flags, timeout=110)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    read = csv_files.read(str(tmp_path / "out/predictions.csv"))
    rejected = csv_files.read(str(tmp_path / "out/rejected.csv"))
    assert len(read) + len(rejected) == EACH + 3
    assert len(rejected) > 30 and all(row["reason"] for row in rejected)


def test_each_photograph_alone_is_answered_in_time():
    model = predictor.Model(model_file.TrainedModel(darkness(), CARD))
    for data in photographs(np.random.default_rng(SEED + 1)):
        start = time.monotonic()
        try:
            pixels = image_file.pixels(image_file.parse_photo(data, "a.jpg", 200), 3, 0)
            model.predict_array(pixels, "a.jpg", scale=1.0)
        except ImageError as error:
            assert str(error)
        assert time.monotonic() - start < LONGEST_SECONDS
