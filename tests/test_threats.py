"""What SECURITY.md says that hostile files cannot do, tried: memory, time, other folders."""

import io
import json
import os
import re
import struct
import subprocess
import sys
import zipfile
import zlib

import h5py
import numpy as np
import pytest
from PIL import Image

from crackflow.core import atomic, locks
from crackflow.core.config.network import Network
from crackflow.core.errors import UserError
from crackflow.data import dataset, record_reader
from crackflow.inference import prediction_log
from crackflow.model import layer_weights
from crackflow.search import oracle, trial
from crackflow.training import checkpoint
from tests.helpers import small, support
from tests.helpers.dataset_files import data, whole  # noqa: F401 - fixtures
from tests.helpers.hostile_models import hostile, layer, put, refusal, sound  # noqa: F401 - fixtures
from tests.helpers.pngs import png
from tests.helpers.prediction_logs import photo, record  # noqa: F401 - a fixture

MOST_MB, MOST_SECONDS = 200, 20
MEASURE = """
import resource, sys, time
from crackflow.core.errors import ImageError
from crackflow.data import image_file, thumbnail
from crackflow.inference import photo_files
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
data = sys.stdin.buffer.read()
before, start = peak(), time.process_time()
try:
    photo = image_file.parse_photo(data, "a.jpg", 200)
    thumbnail.thumbnail(photo), image_file.pixels(photo, 3, 0)
    said = "read"
except ImageError as error:
    said = str(error)
photo_files.parse_gps_position(data)
print(peak() - before, time.process_time() - start, said)
"""


def looked_at(photograph):
    """(MB that it took, seconds of the processor, 'read' or the reason why not) in a process of its own."""
    line = [sys.executable, "-c", MEASURE]
    done = subprocess.run(line, input=photograph, capture_output=True, timeout=120, cwd=support.ROOT, check=False)
    assert done.returncode == 0, done.stderr.decode()
    size, seconds, said = done.stdout.decode().split(" ", 2)
    return float(size), float(seconds), said.strip()


def deflated(megabytes):
    packer = zlib.compressobj(9)
    return b"".join([packer.compress(bytes(1 << 20)) for _ in range(megabytes)] + [packer.flush()])


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunk(kind, content):
    """A sound PNG of 64 x 64 pixels with one more chunk before its pixels."""
    plain = png(64, 64, b"".join(b"\0" + bytes(range(192)) for _ in range(64)))
    return plain[:33] + chunk(kind, content) + plain[33:]


def ifd(tags, following=0):
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)


def tiff(bits=8, more=(), pages=1, size=4096):
    """A TIFF of 64 x 64 grey pixels; `more`: tags (number, kind, count, value); `pages`: each with those pixels."""
    tags = [(256, 3, 1, 64), (257, 3, 1, 64), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 64), (279, 4, 1, 4096), *more]
    buffer = bytearray(b"II*\0" + struct.pack("<I", 8 + size) + np.arange(size, dtype=np.uint8).tobytes())
    for number in range(pages):
        length = 2 + 12 * len(tags) + 4
        buffer += ifd(tags, len(buffer) + length if number < pages - 1 else 0)
    return bytes(buffer)


def many_tags(count, size):
    """Tags that all point at the same `size` bytes."""
    return [(40_000 + number, 1, size, 8) for number in range(count)]


def exif(count, size):
    return b"II*\0" + struct.pack("<I", 8 + size) + bytes(size) + ifd(many_tags(count, size))


BOMBS = {
    "pixels that inflate": lambda: with_chunk(b"IDAT", deflated(600)),
    "zTXt": lambda: with_chunk(b"zTXt", b"key\0\0" + deflated(600)),
    "iTXt": lambda: with_chunk(b"iTXt", b"key\0\1\0\0\0" + deflated(600)),
    "iCCP": lambda: with_chunk(b"iCCP", b"key\0\0" + deflated(600)),
    "EXIF": lambda: with_chunk(b"eXIf", exif(1000, 1_000_000)),
    "tags of a TIFF": lambda: tiff(more=many_tags(1000, 1_000_000), size=1_000_000),
    "tags of a TIFF that Pillow does not open": lambda: tiff(64, many_tags(1000, 1_000_000), size=1_000_000),
    "strips without number": lambda: tiff(more=[(320, 4, 2**32 - 1, 8)]).replace(
        struct.pack("<HHII", 273, 4, 1, 8), struct.pack("<HHII", 273, 4, 2**31, 8)
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_small_photograph_takes_much_memory_or_time(name):
    bomb = BOMBS[name]()
    assert len(bomb) < 2_000_000
    size, seconds, said = looked_at(bomb)
    assert size < MOST_MB and seconds < MOST_SECONDS, (size, seconds, said)
    assert said


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_photograph_that_says_it_is_huge_is_refused_before_a_pixel_is_read(kind):
    buffer = io.BytesIO()
    Image.new("L", (64, 64)).save(buffer, kind)
    encoded = bytearray(buffer.getvalue())
    if kind == "PNG":
        encoded = png(60_000, 60_000)
    elif kind == "JPEG":
        start = encoded.index(b"\xff\xc0")
        encoded[start + 5 : start + 9] = struct.pack(">HH", 60_000, 60_000)
    else:
        encoded = bytearray(tiff())
        for tag in (256, 257):
            start = encoded.index(struct.pack("<HHI", tag, 3, 1))
            encoded[start : start + 12] = struct.pack("<HHII", tag, 4, 1, 60_000)
    size, seconds, said = looked_at(bytes(encoded))
    assert size < 30 and seconds < 5
    assert "60000 x 60000 = 3,600 megapixels: expected at most 200 (--max_megapixels)" in said


def test_a_tiff_of_very_many_pages_is_refused_without_a_look_at_each():
    size, seconds, said = looked_at(tiff(pages=100_000))
    assert "more than 1,000 pages" in said and seconds < MOST_SECONDS and size < MOST_MB


# ------------------------------------------------------------------------------------------------------ model files


def peak_mb():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def wide_chunk(file):
    """An array of one number, stored in a chunk of 512 MB that is compressed to half a megabyte."""
    del file["model_weights/logit/logit/bias:0"]
    array = file["model_weights/logit/logit"].create_dataset(
        "bias:0", (1,), "f4", maxshape=(None,), chunks=(1 << 27,), compression="gzip"
    )
    array.id.write_direct_chunk((0,), deflated(512))


def test_an_array_in_a_huge_piece_is_refused_before_that_is_unpacked(hostile):  # noqa: F811
    path, before = hostile(file_change=wide_chunk), peak_mb()
    assert "its arrays would be larger than the file" in refusal(path)
    assert peak_mb() - before < MOST_MB


def grown(config):
    """The image is enlarged 1,000 times each way right after the input, which needs no weights."""
    layers = config["config"]["layers"]
    first = next(entry for entry in layers if entry["class_name"] == "Conv2D")
    inbound = first["inbound_nodes"]
    layer_config = {"name": "grown", "size": [1000, 1000], "data_format": "channels_last", "interpolation": "nearest"}
    upsampling = {"class_name": "UpSampling2D", "name": "grown", "config": layer_config, "inbound_nodes": inbound}
    first["inbound_nodes"] = [[["grown", 0, 0, {}]]]
    layers.insert(layers.index(first), upsampling)


def padded(config):
    """As `grown`, by a million pixels of border."""
    grown(config)
    entry = layer(config, "UpSampling2D")
    entry["class_name"], entry["config"] = "ZeroPadding2D", {"name": "grown", "padding": [[0, 10**6], [0, 10**6]]}


@pytest.mark.parametrize("change", [grown, padded])
def test_layers_that_make_more_than_any_network_needs_are_refused(hostile, change):  # noqa: F811
    assert "values for each pixel of the picture" in refusal(hostile(change))


def test_a_file_that_is_larger_than_any_model_is_not_read(tmp_path):
    path = tmp_path / "model.h5"
    with open(path, "wb") as file:
        file.truncate(1 << 36)
    before = peak_mb()
    assert "expected at most 2,048 MiB" in refusal(str(path))
    assert peak_mb() - before < MOST_MB


def reached(file, secret):
    del file["stem_conv"]
    file["stem_conv"] = h5py.ExternalLink(secret, "/stem_conv")


def lent(file, secret):
    group = file["stem_conv/stem_conv"]
    shape = group["kernel:0"].shape
    del group["kernel:0"]
    group.create_dataset("kernel:0", shape, "f4", external=[(secret, 0, h5py.h5f.UNLIMITED)])


def virtual(file, secret):
    group = file["stem_conv/stem_conv"]
    shape = group["kernel:0"].shape
    del group["kernel:0"]
    layout = h5py.VirtualLayout(shape, "f4")
    layout[...] = h5py.VirtualSource(secret, "x", shape)
    group.create_virtual_dataset("kernel:0", layout)


def inflated(file, secret):
    group = file["stem_conv/stem_conv"]
    del group["kernel:0"]
    group.create_dataset("kernel:0", (1 << 16, 1 << 16), "f4", compression="gzip", chunks=(1 << 10, 1 << 10))


@pytest.mark.parametrize("change", [reached, lent, virtual, inflated])
def test_plain_weights_of_keras_reach_no_other_file_and_no_memory(tmp_path, change):
    model, path, secret = small.network(Network.CRACKFLOW_XS), str(tmp_path / "plain.h5"), str(tmp_path / "secret.h5")
    model.save_weights(path)
    model.save_weights(secret)
    with h5py.File(path, "r+") as file:
        change(file, secret)
    before = peak_mb()
    with pytest.raises(UserError, match="--weights: expected an H5 file of weights saved by Keras") as caught:
        layer_weights.load_by_name(model, path)
    assert "\n" not in str(caught.value) and peak_mb() - before < MOST_MB


# -------------------------------------------------------------------------------------------------- dataset folders


def rewritten(folder, change):
    path = os.path.join(folder, dataset.DATASET)
    with open(path) as file:
        facts = json.load(file)
    change(facts)
    with open(path, "w") as file:
        json.dump(facts, file)


def first_shard(facts):
    return facts["splits"]["train"]["shards"][0]


@pytest.mark.parametrize("name", ["../elsewhere.tfrecord", "/etc/passwd", "..", "a/b", "a\\b", "C:x", "", "a\0b"])
@pytest.mark.parametrize("field", ["shard", "table"])
def test_a_data_set_names_no_file_outside_its_folder(data, name, field):  # noqa: F811
    if field == "shard":
        rewritten(data, lambda facts: first_shard(facts).update(file=name))
    else:
        rewritten(data, lambda facts: facts.update(tables={name: "0" * 64}))
    for read in (dataset.read, dataset.load):
        with pytest.raises(UserError, match="is damaged") as caught:
            read(str(data))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts["splits"]["train"].update(count=10**15),
        lambda facts: first_shard(facts).update(count=10**15),
        lambda facts: first_shard(facts).update(count=-1),
        lambda facts: first_shard(facts).update(bytes=-1),
        lambda facts: facts.update(image_px=10**9),
        lambda facts: facts.update(channels=10**9),
        lambda facts: facts.update(encoding="pickle"),
    ],
)
def test_numbers_of_a_data_set_that_cannot_be_are_damage(data, change):  # noqa: F811
    rewritten(data, change)
    with pytest.raises(UserError, match="is damaged"):
        dataset.read(str(data))


@pytest.mark.parametrize("count", [10**10, 10**15])
def test_counts_that_agree_and_are_not_in_the_manifest_take_no_memory(data, count):  # noqa: F811
    def change(facts):
        more = count - first_shard(facts)["count"]
        first_shard(facts)["count"] += more
        facts["splits"]["train"]["count"] += more

    rewritten(data, change)
    before = peak_mb()
    with pytest.raises(UserError, match="does not fit the shards|is damaged"):
        record_reader.RecordReader(dataset.load(str(data)), "train")
    assert peak_mb() - before < MOST_MB


@pytest.mark.parametrize("offset", ["9" * 30, "-" + "9" * 30, "9" * 5000, "-5", "9000000000000000000"])
def test_offsets_in_a_manifest_that_no_file_has_are_one_line(data, offset):  # noqa: F811
    path = os.path.join(data, dataset.MANIFEST)
    with open(path) as file:
        lines = file.read().split("\n")
    column = lines[0].strip().split(",").index("offset")
    for number, line in enumerate(lines[1:], 1):
        if line.startswith("train"):
            cells = line.split(",")
            cells[column] = offset
            lines[number] = ",".join(cells)
    with open(path, "w") as file:
        file.write("\n".join(lines))
    with pytest.raises(UserError) as caught:
        record_reader.RecordReader(dataset.load(str(data)), "train").fetch(0)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------- what is gone on with


def log_line(content):
    text = json.dumps(content)
    return f'{text[:-1]}, "crc32": {zlib.crc32(text.encode())}}}\n'


RUN = {"model": "m"}


@pytest.mark.parametrize(
    "content",
    [
        {"number": 1},
        {"number": "x", "file": "/a"},
        {"number": 1.5, "file": "/a"},
        {"number": None, "file": 7},
        {"number": [1], "file": ["a"]},
        {"number": 1, "file": "FILE"},
        {"number": 1, "file": "FILE", "overlay_crc32": 0, "picture_crc32": None, "prediction": 3, "photo": []},
        {"number": 10**400, "file": "FILE"},
        {"number": 1, "file": "FILE", "stat": 7, "photo": {"a": 1}, "prediction": {"findings": [1], "scales": 1}},
        {"run": 3},
        {"run": {"model": "m"}},
    ],
)
def test_lines_of_a_log_that_somebody_made_up_are_passed_over(tmp_path, content):
    file = str(tmp_path / "a.jpg")
    content = json.loads(json.dumps(content).replace("FILE", file))
    unfinished = tmp_path / "out/unfinished"
    unfinished.mkdir(parents=True)
    first = log_line(content) if "run" in content else log_line({"run": RUN, "overwrite": False})
    (unfinished / "photos.jsonl").write_text(first + log_line(content) + "[" * 5000 + "\n")
    with prediction_log.open_log(str(tmp_path / "out"), RUN, overwrite=False) as log:
        assert log.find(file) is None


@pytest.mark.parametrize("name", ["overlays/000001.jpg", "photos.jsonl", ".lock", "overlays", "."])
def test_a_link_in_unfinished_results_is_not_written_through(tmp_path, photo, name):  # noqa: F811
    unfinished, mine = tmp_path / "out/unfinished", tmp_path / "mine"
    (unfinished / "overlays").mkdir(parents=True)
    if name in ("overlays", "."):
        mine.mkdir()
        (mine / "000001.jpg").write_bytes(b"kept")
        (unfinished / "overlays").rmdir()
        if name == ".":
            unfinished.rmdir()
        os.symlink(mine, unfinished / name if name == "overlays" else unfinished)
    else:
        mine.write_bytes(b"kept")
        os.symlink(mine, unfinished / name)
    with pytest.raises((UserError, OSError), match="symbolic link"):
        with prediction_log.open_log(str(tmp_path / "out"), RUN, overwrite=False) as log:
            log.append(record(photo), b"new", None)
    target = mine / "000001.jpg" if mine.is_dir() else mine
    assert target.read_bytes() == b"kept"


@pytest.mark.parametrize("field", ["probability", "findings", "warnings", "width", "scales", "distance"])
def test_what_a_made_up_line_says_in_other_kinds_is_passed_over(tmp_path, photo, field):  # noqa: F811
    with prediction_log.open_log(str(tmp_path / "out"), RUN, overwrite=False) as log:
        log.append(record(photo), b"overlay", None)
    lines = (tmp_path / "out/unfinished/photos.jsonl").read_text().splitlines(keepends=True)
    content = json.loads(lines[1])
    del content["crc32"]
    content["prediction"][field] = [7] if field == "warnings" else ["x"]
    (tmp_path / "out/unfinished/photos.jsonl").write_text(lines[0] + log_line(content))
    with prediction_log.open_log(str(tmp_path / "out"), RUN, overwrite=False) as log:
        assert log.find(photo[0]) is None


@pytest.mark.parametrize(
    "candidates",
    [
        "x",
        [7],
        [[1, 2]],
        [[0, 0, 10**9, 10, 0.5, [0.0] * 16]],
        [[0, 0, 10, 10, 0.5, [0.0] * 15]],
        [[0, 0, 10, 10, 0.5, ["x"] * 16]],
        [[0, 0, 10, 10, 0.5, [0.0] * 16]] * 1000,
    ],
)
def test_windows_that_a_made_up_line_suggests_are_passed_over(tmp_path, photo, candidates):  # noqa: F811
    with prediction_log.open_log(str(tmp_path / "out"), RUN, overwrite=False) as log:
        log.append(record(photo), b"overlay", None)
    lines = (tmp_path / "out/unfinished/photos.jsonl").read_text().splitlines(keepends=True)
    content = json.loads(lines[1])
    del content["crc32"]
    content["candidates"] = candidates
    (tmp_path / "out/unfinished/photos.jsonl").write_text(lines[0] + log_line(content))
    with prediction_log.open_log(str(tmp_path / "out"), RUN, overwrite=False) as log:
        assert log.find(photo[0]) is None


def test_a_link_in_the_place_of_a_lock_or_an_unfinished_file_is_not_written_through(tmp_path):
    (tmp_path / "mine").write_bytes(b"kept")
    os.symlink(tmp_path / "mine", tmp_path / ".lock")
    with pytest.raises(OSError, match="symbolic link"):
        locks.open_file(str(tmp_path / ".lock"))
    os.symlink(tmp_path / "mine", tmp_path / "a.npz.partial")
    with atomic.file(str(tmp_path / "a.npz")) as file:
        file.write(b"new")
    assert (tmp_path / "mine").read_bytes() == b"kept" and (tmp_path / "a.npz").read_bytes() == b"new"


def snapshot_bytes(header, body=b"", method=zipfile.ZIP_STORED):
    text = f"{header}\n".encode()
    array = b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + body
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr("facts.npy", array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        lambda: snapshot_bytes(
            "{'descr': '|u1', 'fortran_order': False, 'shape': (10**17,)}".replace("10**17", "9" * 17)
        ),
        lambda: snapshot_bytes("{'descr': '|u1', 'fortran_order': False, 'shape': (500000000,)}"),
        lambda: snapshot_bytes("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n(S'true'\ntR."),
        lambda: snapshot_bytes(
            "{'descr': '|u1', 'fortran_order': False, 'shape': (600000000,)}", bytes(600_000_000), zipfile.ZIP_DEFLATED
        ),
    ],
)
def test_a_snapshot_that_promises_more_than_it_holds_is_passed_over(tmp_path, content):
    (tmp_path / "step-000000001.npz").write_bytes(content())
    before = peak_mb()
    restored = checkpoint.latest(str(tmp_path))
    assert restored.snapshot is None and len(restored.damaged) == 1
    assert peak_mb() - before < MOST_MB


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "[]", '{"trials": 3, "state": []}', "1" * 5000])
def test_results_of_trials_that_somebody_made_up_are_passed_over(tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    (tmp_path / "oracle.json").write_text(text)
    assert trial.read(str(tmp_path)) is None
    assert oracle.is_over(str(tmp_path / "oracle.json"), 1) is False


def test_a_flag_file_that_names_itself_or_many_is_refused(tmp_path):
    (tmp_path / "a.cfg").write_text(f"--flagfile={tmp_path / 'b.cfg'}\n--shards=3\n")
    (tmp_path / "b.cfg").write_text(f"--flagfile={tmp_path / 'a.cfg'}\n")
    done = support.called("convert", f"--flagfile={tmp_path / 'a.cfg'}", "--images=nowhere", f"--out={tmp_path / 'o'}")
    support.expect_one_line(done, 2, "names itself or very many")
    for number in range(30):
        (tmp_path / f"{number}.cfg").write_text(f"--flagfile={tmp_path / f'{number + 1}.cfg'}\n" * 2)
    (tmp_path / "30.cfg").write_text("--shards=3\n")
    done = support.called("convert", f"--flagfile={tmp_path / '0.cfg'}")
    support.expect_one_line(done, 2, "names itself or very many")


def test_a_flag_file_without_an_end_is_not_read(tmp_path):
    (tmp_path / "large.cfg").write_text("# " + "x" * (1 << 20))
    for path, message in ((tmp_path / "large.cfg", "too large"), ("/dev/zero", "which is a device")):
        support.expect_one_line(support.called("convert", f"--flagfile={path}"), 2, message)


# ------------------------------------------------------------------------------------------------- what the page says


def test_no_loader_that_runs_what_it_reads_is_used():
    """`pickle` has two places: between a process and its own child, and a folder of Beam's that only we write. A
    SavedModel is loaded where crackflow.export compares what it wrote a moment ago."""
    modules = set()
    forbidden = r"\b(pickle\.loads?|yaml\.(unsafe_|full_)?load|joblib|marshal|shelve|dill|saved_model\.load"
    forbidden += r"|allow_pickle=True|enable_unsafe_deserialization|safe_mode=False|eval\(|exec\()"
    for path in (support.ROOT / "crackflow").rglob("*.py"):
        if re.search(forbidden, path.read_text(encoding="utf-8")):
            modules.add(path.relative_to(support.ROOT / "crackflow").as_posix())
    assert modules == {"core/process_pool.py", "core/beam_pool.py", "model/export_parity.py"}


def test_every_test_that_the_threat_list_names_is_there():
    text = (support.ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 25
    for file, test in named:
        assert re.search(rf"^def {test}\(", (support.ROOT / file).read_text(encoding="utf-8"), re.M), (file, test)
