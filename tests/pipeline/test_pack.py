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
from crackflow.data import dataset
from crackflow.pipeline import pack, stream
from tests import small, support

PX = 24


@pytest.fixture
def made(tmp_path):
    """A data set of one's own: packs are written into it."""
    shutil.copytree(small.data().folder, tmp_path / "data", ignore=shutil.ignore_patterns("packs"))
    return dataset.load(str(tmp_path / "data"))


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    place = tmp_path_factory.mktemp("packed") / "data"
    shutil.copytree(small.data().folder, place, ignore=shutil.ignore_patterns("packs"))
    return pack.build_if_missing(dataset.load(str(place)), "train", PX, 3)


def taken(batches, steps):
    return [image.tobytes() for images, _ in batches.take(steps).as_numpy_iterator() for image in images]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_pack_holds_what_the_stream_gives_in_the_same_order(made, split, channels):
    found = pack.build_if_missing(made, split, PX, channels)
    whole = np.load(found.path)
    assert (whole.dtype, whole.shape) == (np.uint8, (made.count(split), PX, PX, channels))
    streamed = list(stream.eval_batches(made, split, 7, PX, channels).as_numpy_iterator())
    mapped = list(pack.eval_batches(found, 7).as_numpy_iterator())
    for ours, theirs in zip(mapped, streamed, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(found.labels, np.concatenate([y[w > 0] for _, y, w in streamed]))


MAPPED = """
    import sys
    import numpy as np
    from crackflow.core import runtime
    from crackflow.pipeline import pack
    def own_mb():
        with open("/proc/self/smaps_rollup") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("Anonymous:")) / 1e3
    runtime.configure(seed=0, threads=0, deterministic=False)
    packed = pack.PackedSplit(None, "train", sys.argv[1], 4000, 128, 3, np.zeros(4000, np.int32))
    before = own_mb()
    for _ in zip(range(100), pack.train_batches(packed, 16, seed=0)):
        pass
    with open("/proc/self/maps") as maps:
        assert sys.argv[1] in maps.read()
    print(own_mb() - before)
"""


def test_training_from_a_pack_maps_the_file_and_copies_none_of_it(tmp_path):
    place, shape = tmp_path / "large.npy", (4000, 128, 128, 3)  # 197 MB, all of them a hole in the file
    with open(place, "wb") as file:
        file.write(pack._header(shape))
        file.truncate(pack.HEADER_BYTES + np.prod(shape))
    command = [sys.executable, "-c", textwrap.dedent(MAPPED), str(place)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert float(answer) < 80


def test_the_header_is_one_that_numpy_reads(tmp_path):
    values = np.arange(2 * 16 * 16 * 3, dtype=np.uint8).reshape(2, 16, 16, 3)
    (tmp_path / "a.npy").write_bytes(pack._header(values.shape) + values.tobytes())
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), values)


def test_each_image_comes_once_an_epoch(packed):
    batch = next(size for size in range(2, packed.count) if packed.count % size == 0)
    seen = taken(pack.train_batches(packed, batch, seed=1), 2 * packed.count // batch)
    assert len(seen) == 2 * packed.count
    first, second = seen[: packed.count], seen[packed.count :]
    assert len(set(first)) == packed.count and set(first) == set(second) and first != second


def test_labels_stay_with_their_images(packed):
    truth = {image.tobytes(): label for image, label in zip(np.load(packed.path), packed.labels, strict=True)}
    for images, labels in pack.train_batches(packed, 16, seed=2).take(6).as_numpy_iterator():
        assert [truth[image.tobytes()] for image in images] == labels.tolist()


@pytest.mark.parametrize("processes, here", [(1, 1), (2, 1), (8, 1), (1, 4), (2, 2)])
def test_the_parts_of_all_processes_make_up_each_batch(packed, processes, here):
    shares = [ShardOptions(process * here, here, processes * here) for process in range(processes)]
    whole = pack.train_batches(packed, 16, seed=4, first_batch=3).take(7).as_numpy_iterator()
    parts = [pack.train_batches(packed, 16, 4, 3, share).take(7 * here).as_numpy_iterator() for share in shares]
    for image, label in whole:
        slices = [next(part) for part in parts for _ in range(here)]
        np.testing.assert_array_equal(np.concatenate([part[0] for part in slices]), image)
        np.testing.assert_array_equal(np.concatenate([part[1] for part in slices]), label)


@pytest.mark.parametrize("processes, here", [(2, 1), (1, 4), (2, 2)])
def test_the_parts_of_all_processes_evaluate_every_image_once(packed, processes, here):
    shares = [ShardOptions(process * here, here, processes * here) for process in range(processes)]
    whole = [batch for batch in pack.eval_batches(packed, 16).as_numpy_iterator()]
    parts = [list(pack.eval_batches(packed, 16, share).as_numpy_iterator()) for share in shares]
    assert {len(part) for part in parts} == {here * len(whole)}
    for number, (image, label, weight) in enumerate(whole):
        slices = [part[here * number + place] for part in parts for place in range(here)]
        for place, wanted in enumerate((image, label, weight)):
            np.testing.assert_array_equal(np.concatenate([part[place] for part in slices]), wanted)


@pytest.mark.parametrize("first", [1, 5, 13])
def test_starting_at_a_batch_equals_running_up_to_it(packed, first):
    assert (
        taken(pack.train_batches(packed, 16, 5, first), 6) == taken(pack.train_batches(packed, 16, 5), first + 6)[-96:]
    )


def damage(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("ending", [".npy", ".labels.npy", ".json"])
def test_one_changed_bit_anywhere_is_detected_and_the_pack_built_again(made, ending):
    good = pack.build_if_missing(made, "val", PX, 3)
    before = contents(good.path)
    place = pack.base(made, "val", PX, 3) + ending
    damage(place, os.path.getsize(place) * 2 // 3)
    assert pack.find(made, "val", PX, 3) is None
    assert contents(pack.build_if_missing(made, "val", PX, 3).path) == before


def contents(path):
    with open(path, "rb") as file:
        return file.read()


def test_a_truncated_or_missing_file_is_detected(made):
    path = pack.build_if_missing(made, "val", PX, 3).path
    os.truncate(path, os.path.getsize(path) - 1)
    assert pack.find(made, "val", PX, 3) is None
    os.remove(path)
    assert pack.find(made, "val", PX, 3) is None


def test_a_pack_of_other_data_is_stale(made):
    pack.build_if_missing(made, "val", PX, 3)
    other = dataset.Dataset(made.folder, made.facts | {"fingerprint": "0" * 64})
    assert pack.find(other, "val", PX, 3) is None
    assert pack.find(made, "val", PX, 3)


def test_a_pack_that_is_sound_is_not_built_again(made):
    path = pack.build_if_missing(made, "val", PX, 3).path
    built = os.stat(path).st_mtime_ns
    assert os.stat(pack.build_if_missing(made, "val", PX, 3).path).st_mtime_ns == built


BUILDER = """
    import sys
    from crackflow.data import dataset
    from crackflow.pipeline import pack
    made, builds = dataset.load(sys.argv[1]), []
    build = pack._build
    pack._build = lambda *given: (builds.append(1), build(*given))
    sys.stdin.readline()
    found = pack.build_if_missing(made, "train", 40, 3)
    print(found.count, len(builds))
"""


def test_a_pack_that_is_sound_is_taken_from_a_folder_that_can_only_be_read(made, monkeypatch):
    pack.build_if_missing(made, "val", PX, 3)

    def refused(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(pack.os, "makedirs", refused)
    assert pack.build_if_missing(made, "val", PX, 3).count == made.count("val")
    with pytest.raises(OSError, match="Read-only"):
        pack.build_if_missing(made, "test", PX, 3)


def test_of_processes_that_start_at_once_one_builds(made):
    command = [sys.executable, "-c", textwrap.dedent(BUILDER), made.folder]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = []
    for one in both:
        one.stdin.write("now\n")
        one.stdin.flush()
    for one in both:
        answers.append(one.communicate(timeout=120)[0].split()[-2:])
    assert sorted(answers) == [[str(made.count("train")), "0"], [str(made.count("train")), "1"]]


def test_a_file_system_without_locks_has_packs_too(made, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")  # Lustre mounted without flock

    monkeypatch.setattr(fcntl, "flock", none)
    assert pack.build_if_missing(made, "val", PX, 3).count == made.count("val")


def test_a_builder_that_died_leaves_nothing_that_counts(made):
    place = pack.base(made, "val", PX, 3)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    context = multiprocessing.get_context("fork")
    child = context.Process(target=build_and_die, args=(made,))
    child.start()
    child.join()
    assert child.exitcode == 9
    assert pack.find(made, "val", PX, 3) is None
    assert pack.build_if_missing(made, "val", PX, 3).count == made.count("val")


def build_and_die(made):
    os.makedirs(os.path.join(made.folder, pack.FOLDER), exist_ok=True)
    with atomic.file(pack.base(made, "val", PX, 3) + ".npy") as file:
        file.write(b"half of it")
        file.flush()
        os._exit(9)


def test_a_full_disk_is_an_error_and_leaves_nothing_behind(made, monkeypatch):
    def full(file, data, crc):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pack, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        pack.build_if_missing(made, "val", PX, 3)
    left = os.listdir(os.path.join(made.folder, pack.FOLDER))
    assert not [name for name in left if not name.endswith(pack.LOCK)]


def test_the_description_beside_a_pack_says_what_it_is(made):
    pack.build_if_missing(made, "val", PX, 1)
    facts = json.loads(contents(pack.base(made, "val", PX, 1) + ".json"))
    assert facts["fingerprint"] == made.facts["fingerprint"]
    assert (facts["count"], facts["image_px"], facts["channels"]) == (made.count("val"), PX, 1)


def test_what_a_killed_process_left_of_any_pack_goes_even_when_none_is_to_be_built(made):
    pack.build_if_missing(made, "val", PX, 3)
    before = sorted(os.listdir(os.path.join(made.folder, pack.FOLDER)))
    for name in ("train-999.npy", "val-32.labels.npy", "val-32.json"):
        support.killed_while_writing(os.path.join(made.folder, pack.FOLDER, name))
    pack.build_if_missing(made, "val", PX, 3)
    assert sorted(os.listdir(os.path.join(made.folder, pack.FOLDER))) == before
