"""Helpers shared by the tests: generated images and folders, the commands, and a hash of a folder."""

import contextlib
import hashlib
import importlib.util
import io
import os
import pathlib
import subprocess
import sys
import typing

import numpy as np
import pytest
from PIL import Image

from crackflow.conversion import dataset_conversion
from crackflow.core import csv_files, flags, temporary_files
from crackflow.core.config.data import ConvertConfig
from crackflow.data import dataset, records

ROOT = pathlib.Path(__file__).parents[2]
CLASSES = ("Negative", "Positive")


def picture(seed, width=64, height=64):
    """uint8 [height, width, 3]: soft blotches; no two seeds look alike, under any symmetry."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(values, form="JPEG", mode=None, **options):
    """`values` uint8 [H, W, 3] as the bytes of an image file."""
    image = Image.fromarray(values) if mode is None else Image.fromarray(values).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def put(path, data):
    """`data` in the file `path`, which may be bytes; parent folders are created."""
    os.makedirs(os.path.dirname(os.fspath(path)), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def photos(root, count=12, px=64, first_seed=0, **options):
    """Negative/ and Positive/ with `count` different pictures in total; returns `root`."""
    for number in range(count):
        path = pathlib.Path(root) / CLASSES[number % 2] / f"{number:05d}.jpg"
        put(path, encoded(picture(first_seed + number, px, px), **options))
    return root


def linked(source, root, counts):
    """The first `counts[name]` files of each folder of `source` as links in `root`, which is returned."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for path in sorted((source / name).iterdir())[:count]:
            (root / name / path.name).symlink_to(path)
    return root


def converted(images, out, **settings):
    """The dataset.json of a conversion in this process, by one worker unless `settings` says otherwise."""
    return dataset_conversion.convert_images(
        ConvertConfig(images=str(images), out=str(out), **{"workers": 1, **settings})
    )


def rows(out, table):
    return csv_files.read(os.path.join(out, table))


def stored(out):
    """path -> fields of every record of the dataset `out`, with `split` and `shard` added."""
    fields_by_path = {}
    whole = dataset.load(str(out))
    for split in ("train", "val", "test"):
        for file in whole.files(split):
            with open(file, "rb") as shard:
                for _, payload in records.read(shard):
                    fields = records.parse(payload)
                    path = os.fsdecode(fields["path"])
                    assert path not in fields_by_path, f"{path!r} is stored twice"
                    fields_by_path[path] = fields | {"split": split, "shard": os.path.basename(file)}
    return fields_by_path


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def tree(root):
    """path -> mode, time, and content of everything under `root`; links are not followed."""
    entries = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in folders + files:
            path = os.path.join(folder, name)
            facts = os.lstat(path)
            if os.path.islink(path):
                content = os.readlink(path)
            else:
                content = sha256(path) if os.path.isfile(path) else b""
            entries[path] = (facts.st_mode, facts.st_mtime_ns, content)
    return entries


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def environment():
    """Environment variables with which `python -m crackflow...` imports this checkout."""
    return os.environ | {"PYTHONPATH": str(ROOT), "CRACKFLOW_WARM_PYTHON": sys.executable}


def interpreter():
    """An interpreter that has TensorFlow loaded already, where the session has a server for it; else the real one."""
    return str(ROOT / "tests/helpers/warm/python") if "CRACKFLOW_WARM" in os.environ else sys.executable


def command(verb, *arguments, under=(), **options):
    """`python -m crackflow.<verb> ...` in a new process, started through `under`; a CompletedProcess with text."""
    python = sys.executable if under else interpreter()
    line = [*under, python, "-m", f"crackflow.{verb}", *map(os.fspath, arguments)]
    options = {"capture_output": True, "timeout": 120, "env": environment()} | options
    done = subprocess.run(line, **options)
    done.stdout, done.stderr = os.fsdecode(done.stdout), os.fsdecode(done.stderr)
    return done


def called(verb, *arguments):
    """As `command`, but in this process: for user errors, which do not need the four seconds that TensorFlow takes to
    start. Same flags, help page, exit code and messages."""
    page, line = importlib.import_module(f"crackflow.{verb}"), list(map(os.fspath, arguments))
    out, error, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            flags.main(typing.get_type_hints(page.run)["config"], page.run, page.__doc__, line)
        except SystemExit as ended:
            code = ended.code or 0
    return subprocess.CompletedProcess(line, code, out.getvalue(), error.getvalue())


def expect_one_line(done, code, *parts):
    """The command ended with `code` and one line on stderr, warnings apart, that contains each of `parts`."""
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1 and done.stderr.endswith("\n"), done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr


def in_dead_process(function):
    """Call `function` in a process that ends at once afterwards, as by SIGKILL: nothing is closed or cleaned up."""
    child = os.fork()
    if not child:
        try:
            function()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def dead_name(name, kind=temporary_files.UNFINISHED):
    """A temporary name for `name` from a process that has ended."""
    reader, writer = os.pipe()
    in_dead_process(lambda: os.write(writer, temporary_files.temporary_name(name, kind).encode()))
    os.close(writer)
    with os.fdopen(reader) as pipe:
        return pipe.read()


def killed_while_writing(path):
    """The name of the file that a process leaves beside `path` when it is killed while writing it."""
    before = set(os.listdir(os.path.dirname(path)))
    in_dead_process(lambda: temporary_files.claim(os.fspath(path)).write(b"half"))
    (left,) = set(os.listdir(os.path.dirname(path))) - before
    return left


_HAS_ADDONS = importlib.util.find_spec("tensorflow_addons") is not None
with_addons = pytest.mark.skipif(not _HAS_ADDONS, reason="needs tensorflow-addons, which is not installed")
without_addons = pytest.mark.skipif(_HAS_ADDONS, reason="says what happens without tensorflow-addons; it is installed")
