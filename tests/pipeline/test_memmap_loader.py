import errno
import fcntl
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from crackflow.core import atomic
from crackflow.core.sharding import ShardOptions
from crackflow.data import dataset as dataset_io
from crackflow.pipeline import memmap_loader, tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from tests.helpers import small, support

PX = 24


@pytest.fixture
def dataset(tmp_path):
    """A private copy of the dataset: packs are written into it."""
    shutil.copytree(small.data().folder, tmp_path / "data", ignore=shutil.ignore_patterns("packs"))
    return dataset_io.load(str(tmp_path / "data"))


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "data"
    shutil.copytree(small.data().folder, path, ignore=shutil.ignore_patterns("packs"))
    return memmap_loader.build_if_missing(dataset_io.load(str(path)), "train", PX, 3)


def image_bytes(batches, steps):
    return [image.tobytes() for images, _ in batches.take(steps).as_numpy_iterator() for image in images]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_pack_holds_what_the_stream_gives_in_the_same_order(dataset, split, channels):
    packed = memmap_loader.build_if_missing(dataset, split, PX, channels)
    whole = np.load(packed.path)
    assert (whole.dtype, whole.shape) == (np.uint8, (dataset.count(split), PX, PX, channels))
    streamed = list(tfrecord_loader.eval_batches(dataset, split, BatchSpec(7, PX, channels)).as_numpy_iterator())
    mapped = list(memmap_loader.eval_batches(packed, 7).as_numpy_iterator())
    for mapped_batch, streamed_batch in zip(mapped, streamed, strict=True):
        for actual, expected in zip(mapped_batch, streamed_batch, strict=True):
            assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(packed.labels, np.concatenate([y[w > 0] for _, y, w in streamed]))


MAPPED = """
    import sys
    import numpy as np
    from crackflow.core import runtime
    from crackflow.pipeline import memmap_loader
    def own_mb():
        with open("/proc/self/smaps_rollup") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("Anonymous:")) / 1e3
    runtime.configure(seed=0, threads=0, deterministic=False)
    packed = memmap_loader.PackedSplit(None, "train", sys.argv[1], 4000, 128, 3, np.zeros(4000, np.int32))
    before = own_mb()
    for _ in zip(range(100), memmap_loader.train_batches(packed, 16, seed=0)):
        pass
    with open("/proc/self/maps") as maps:
        assert sys.argv[1] in maps.read()
    print(own_mb() - before)
"""


@pytest.mark.slow
def test_training_from_a_pack_maps_the_file_and_copies_none_of_it(tmp_path):
    path, shape = tmp_path / "large.npy", (4000, 128, 128, 3)  # 197 MB, a sparse file
    with open(path, "wb") as file:
        file.write(memmap_loader._npy_header(shape))
        file.truncate(memmap_loader.HEADER_BYTES + np.prod(shape))
    command = [sys.executable, "-c", textwrap.dedent(MAPPED), str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert float(answer) < 80


def test_the_header_is_one_that_numpy_reads(tmp_path):
    values = np.arange(2 * 16 * 16 * 3, dtype=np.uint8).reshape(2, 16, 16, 3)
    (tmp_path / "a.npy").write_bytes(memmap_loader._npy_header(values.shape) + values.tobytes())
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), values)


def test_each_image_comes_once_an_epoch(packed):
    batch = next(size for size in range(2, packed.count) if packed.count % size == 0)
    seen = image_bytes(memmap_loader.train_batches(packed, batch, seed=1), 2 * packed.count // batch)
    assert len(seen) == 2 * packed.count
    first, second = seen[: packed.count], seen[packed.count :]
    assert len(set(first)) == packed.count and set(first) == set(second) and first != second


def test_labels_stay_with_their_images(packed):
    truth = {image.tobytes(): label for image, label in zip(np.load(packed.path), packed.labels, strict=True)}
    for images, labels in memmap_loader.train_batches(packed, 16, seed=2).take(6).as_numpy_iterator():
        assert [truth[image.tobytes()] for image in images] == labels.tolist()


@pytest.mark.parametrize("processes, here", [(1, 1), (2, 1), (8, 1), (1, 4), (2, 2)])
def test_the_parts_of_all_processes_make_up_each_batch(packed, processes, here):
    shares = [ShardOptions(process * here, here, processes * here) for process in range(processes)]
    whole = memmap_loader.train_batches(packed, 16, seed=4, first_batch=3).take(7).as_numpy_iterator()
    parts = [
        memmap_loader.train_batches(packed, 16, 4, 3, shard).take(7 * here).as_numpy_iterator() for shard in shares
    ]
    for image, label in whole:
        slices = [next(part) for part in parts for _ in range(here)]
        np.testing.assert_array_equal(np.concatenate([part[0] for part in slices]), image)
        np.testing.assert_array_equal(np.concatenate([part[1] for part in slices]), label)


@pytest.mark.parametrize("processes, here", [(2, 1), (1, 4), (2, 2)])
def test_the_parts_of_all_processes_evaluate_every_image_once(packed, processes, here):
    shares = [ShardOptions(process * here, here, processes * here) for process in range(processes)]
    whole = [batch for batch in memmap_loader.eval_batches(packed, 16).as_numpy_iterator()]
    parts = [list(memmap_loader.eval_batches(packed, 16, shard).as_numpy_iterator()) for shard in shares]
    assert {len(part) for part in parts} == {here * len(whole)}
    for number, (image, label, weight) in enumerate(whole):
        slices = [part[here * number + index] for part in parts for index in range(here)]
        for column, expected in enumerate((image, label, weight)):
            np.testing.assert_array_equal(np.concatenate([part[column] for part in slices]), expected)


@pytest.mark.parametrize("first", [1, 5, 13])
def test_starting_at_a_batch_equals_running_up_to_it(packed, first):
    assert (
        image_bytes(memmap_loader.train_batches(packed, 16, 5, first), 6)
        == image_bytes(memmap_loader.train_batches(packed, 16, 5), first + 6)[-96:]
    )


def damage(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("ending", [".npy", ".labels.npy", ".json"])
def test_one_changed_bit_anywhere_is_detected_and_the_pack_built_again(dataset, ending):
    good = memmap_loader.build_if_missing(dataset, "val", PX, 3)
    before = contents(good.path)
    path = memmap_loader.base(dataset, "val", PX, 3) + ending
    damage(path, os.path.getsize(path) * 2 // 3)
    assert memmap_loader.find(dataset, "val", PX, 3) is None
    assert contents(memmap_loader.build_if_missing(dataset, "val", PX, 3).path) == before


def contents(path):
    with open(path, "rb") as file:
        return file.read()


def test_a_truncated_or_missing_file_is_detected(dataset):
    path = memmap_loader.build_if_missing(dataset, "val", PX, 3).path
    os.truncate(path, os.path.getsize(path) - 1)
    assert memmap_loader.find(dataset, "val", PX, 3) is None
    os.remove(path)
    assert memmap_loader.find(dataset, "val", PX, 3) is None


def test_a_pack_of_other_data_is_stale(dataset):
    memmap_loader.build_if_missing(dataset, "val", PX, 3)
    other_dataset = dataset_io.Dataset(dataset.folder, dataset.metadata | {"fingerprint": "0" * 64})
    assert memmap_loader.find(other_dataset, "val", PX, 3) is None
    assert memmap_loader.find(dataset, "val", PX, 3)


def test_a_pack_that_is_sound_is_not_built_again(dataset):
    path = memmap_loader.build_if_missing(dataset, "val", PX, 3).path
    built = os.stat(path).st_mtime_ns
    assert os.stat(memmap_loader.build_if_missing(dataset, "val", PX, 3).path).st_mtime_ns == built


BUILDER = """
    import sys
    from crackflow.data import dataset
    from crackflow.pipeline import memmap_loader
    data, builds = dataset.load(sys.argv[1]), []
    build_pack = memmap_loader._build_pack
    memmap_loader._build_pack = lambda *args: (builds.append(1), build_pack(*args))
    sys.stdin.readline()
    packed = memmap_loader.build_if_missing(data, "train", 40, 3)
    print(packed.count, len(builds))
"""


def test_a_pack_that_is_sound_is_taken_from_a_folder_that_can_only_be_read(dataset, monkeypatch):
    memmap_loader.build_if_missing(dataset, "val", PX, 3)

    def refused(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(memmap_loader.os, "makedirs", refused)
    assert memmap_loader.build_if_missing(dataset, "val", PX, 3).count == dataset.count("val")
    with pytest.raises(OSError, match="Read-only"):
        memmap_loader.build_if_missing(dataset, "test", PX, 3)


@pytest.mark.slow
def test_of_processes_that_start_at_once_one_builds(dataset):
    command = [support.interpreter(), "-c", textwrap.dedent(BUILDER), dataset.folder]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = []
    for process in processes:
        process.stdin.write("now\n")
        process.stdin.flush()
    for process in processes:
        answers.append(process.communicate(timeout=120)[0].split()[-2:])
    assert sorted(answers) == [[str(dataset.count("train")), "0"], [str(dataset.count("train")), "1"]]


def test_a_file_system_without_locks_has_packs_too(dataset, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")  # Lustre mounted without flock

    monkeypatch.setattr(fcntl, "flock", none)
    assert memmap_loader.build_if_missing(dataset, "val", PX, 3).count == dataset.count("val")


def test_a_builder_that_died_leaves_nothing_that_counts(dataset):
    path = memmap_loader.base(dataset, "val", PX, 3)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    context = multiprocessing.get_context("fork")
    child = context.Process(target=build_and_die, args=(dataset,))
    child.start()
    child.join()
    assert child.exitcode == 9
    assert memmap_loader.find(dataset, "val", PX, 3) is None
    assert memmap_loader.build_if_missing(dataset, "val", PX, 3).count == dataset.count("val")


def build_and_die(dataset):
    os.makedirs(os.path.join(dataset.folder, memmap_loader.FOLDER), exist_ok=True)
    with atomic.file(memmap_loader.base(dataset, "val", PX, 3) + ".npy") as file:
        file.write(b"half of it")
        file.flush()
        os._exit(9)


def test_a_full_disk_is_an_error_and_leaves_nothing_behind(dataset, monkeypatch):
    def full(file, data, crc):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(memmap_loader, "_write_block", full)
    with pytest.raises(OSError, match="No space left"):
        memmap_loader.build_if_missing(dataset, "val", PX, 3)
    left = os.listdir(os.path.join(dataset.folder, memmap_loader.FOLDER))
    assert not [name for name in left if not name.endswith(memmap_loader.LOCK)]


def test_the_description_beside_a_pack_says_what_it_is(dataset):
    memmap_loader.build_if_missing(dataset, "val", PX, 1)
    facts = json.loads(contents(memmap_loader.base(dataset, "val", PX, 1) + ".json"))
    assert facts["fingerprint"] == dataset.metadata["fingerprint"]
    assert (facts["count"], facts["image_px"], facts["channels"]) == (dataset.count("val"), PX, 1)


def test_what_a_killed_process_left_of_any_pack_goes_even_when_none_is_to_be_built(dataset):
    memmap_loader.build_if_missing(dataset, "val", PX, 3)
    before = sorted(os.listdir(os.path.join(dataset.folder, memmap_loader.FOLDER)))
    for name in ("train-999.npy", "val-32.labels.npy", "val-32.json"):
        support.killed_while_writing(os.path.join(dataset.folder, memmap_loader.FOLDER, name))
    memmap_loader.build_if_missing(dataset, "val", PX, 3)
    assert sorted(os.listdir(os.path.join(dataset.folder, memmap_loader.FOLDER))) == before
