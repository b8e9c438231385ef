import errno
import os
import resource
import signal
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackflow.training import checkpoint
from crackflow.training.checkpoint import Snapshot
from tests.helpers import support


def snapshot(step, size=1000):
    random = np.random.default_rng(step)
    arrays = {"weight/0000/conv:0": random.normal(size=size).astype(np.float32), "step/0000/n": np.int64(step)}
    return Snapshot({"step": step, "best": [float("inf"), 0, False], "history": [{"loss": 0.25}]}, arrays)


def assert_same(a, b):
    assert a.metadata == b.metadata and a.arrays.keys() == b.arrays.keys()
    for name, array in a.arrays.items():
        np.testing.assert_array_equal(array, b.arrays[name])
        assert np.asarray(array).dtype == b.arrays[name].dtype
    return True


def test_what_is_saved_comes_back(tmp_path):
    checkpoint.save(str(tmp_path / "new"), snapshot(5))
    files = checkpoint.latest(str(tmp_path / "new"))
    assert assert_same(snapshot(5), files.snapshot) and files.damaged == [] and files.snapshot.step == 5


def test_the_last_two_are_kept(tmp_path):
    for step in (1, 20, 300, 4000):
        checkpoint.save(str(tmp_path), snapshot(step))
    assert sorted(os.listdir(tmp_path)) == ["step-000000300.npz", "step-000004000.npz"]
    assert checkpoint.latest(str(tmp_path)).snapshot.step == 4000


def test_those_of_later_steps_go_and_older_ones_can_be_asked_for(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(str(tmp_path), snapshot(step))
    assert checkpoint.latest(str(tmp_path), before=3).snapshot.step == 2
    assert checkpoint.latest(str(tmp_path), before=2).snapshot is None
    (tmp_path / "step-000000003.npz").write_bytes(b"damaged")
    checkpoint.save(str(tmp_path), snapshot(2))
    assert checkpoint.names(str(tmp_path)) == ["step-000000002.npz"]


def test_where_there_is_none_none_is_found(tmp_path):
    assert checkpoint.latest(str(tmp_path)) == (None, [])
    assert checkpoint.latest(str(tmp_path / "absent")) == (None, [])


@given(cut=st.floats(0, 0.999))
def test_a_truncated_one_is_passed_over_and_named(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("cut")
    for step in (1, 2):
        checkpoint.save(str(folder), snapshot(step))
    file = folder / "step-000000002.npz"
    file.write_bytes(file.read_bytes()[: int(cut * file.stat().st_size)])
    files = checkpoint.latest(str(folder))
    assert assert_same(snapshot(1), files.snapshot)
    assert len(files.damaged) == 1 and files.damaged[0].startswith("step-000000002.npz: ")


@given(position=st.floats(0, 0.9999), bit=st.integers(0, 7))
def test_a_flipped_bit_is_never_read_as_if_nothing_were(tmp_path_factory, position, bit):
    folder = tmp_path_factory.mktemp("bit")
    checkpoint.save(str(folder), snapshot(3))
    file = folder / "step-000000003.npz"
    data = bytearray(file.read_bytes())
    data[int(position * len(data))] ^= 1 << bit
    file.write_bytes(data)
    files = checkpoint.latest(str(folder))
    assert files.snapshot is None or assert_same(snapshot(3), files.snapshot)  # a few bytes of a zip have no meaning


@pytest.mark.parametrize("header", [b"{'descr': (((", b"{'descr': '<f4' 'x' 3,", b"\x00\x00"])
def test_a_header_that_is_no_python_is_damage(header, tmp_path):
    checkpoint.save(str(tmp_path), snapshot(3))
    file = tmp_path / "step-000000003.npz"
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = next(iter(parts))
    parts[name] = parts[name][:10] + header.ljust(118) + parts[name][128:]
    with zipfile.ZipFile(file, "w") as archive:
        for entry, data in parts.items():
            archive.writestr(entry, data)
    files = checkpoint.latest(str(tmp_path))
    assert files.snapshot is None and len(files.damaged) == 1


def test_a_disk_that_is_full_leaves_the_older_ones(tmp_path):
    checkpoint.save(str(tmp_path), snapshot(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(OSError) as raised:
            checkpoint.save(str(tmp_path), snapshot(2, 10_000))
        assert raised.value.errno == errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == ["step-000000001.npz"]
    assert assert_same(snapshot(1), checkpoint.latest(str(tmp_path)).snapshot)


def test_what_a_killed_process_left_is_no_snapshot(tmp_path):
    checkpoint.save(str(tmp_path), snapshot(1))
    left = support.killed_while_writing(tmp_path / "step-000000002.npz")
    assert checkpoint.latest(str(tmp_path)).snapshot.step == 1
    checkpoint.save(str(tmp_path), snapshot(2))
    assert sorted(os.listdir(tmp_path)) == [left, "step-000000001.npz", "step-000000002.npz"]
