import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackflow.conversion import shards
from crackflow.core import process_pool
from crackflow.core.errors import UserError
from crackflow.data import image_file, records
from tests.helpers import support


def entries(count, windows=()):
    return [
        shards.SourceImage(f"{number}.jpg", number % 2, number, bytes(32), True, windows) for number in range(count)
    ]


@given(st.integers(1, 2000), st.integers(0, 200), st.integers(0, 40), st.integers(0, 5))
def test_a_plan_holds_every_entry_once_in_shards_of_nearly_equal_length(train, test, shard_count, seed):
    parts = {"train": entries(train), "test": entries(test)} if test else {"train": entries(train)}
    plans = shards.plan_shards(parts, 5e3, shard_count, seed)
    for split, members in parts.items():
        split_plans = [plan for plan in plans if plan.split == split]
        planned = collections.Counter(entry.path for plan in split_plans for entry in plan.entries)
        assert planned == collections.Counter(entry.path for entry in members)
        sizes = [len(plan.entries) for plan in split_plans]
        assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
        assert [plan.file for plan in split_plans] == [
            f"{split}-{number:05d}-of-{len(split_plans):05d}.tfrecord" for number in range(len(split_plans))
        ]


def test_training_has_the_requested_shards_and_other_splits_in_proportion():
    plans = shards.plan_shards({"train": entries(800), "val": entries(100), "test": entries(100)}, 5e3, 16, 0)
    assert collections.Counter(plan.split for plan in plans) == {"train": 16, "val": 2, "test": 2}


def test_records_stand_in_an_order_of_the_seed_not_of_the_names():
    def order(seed):
        return [
            entry.path for plan in shards.plan_shards({"train": entries(100)}, 5e3, 1, seed) for entry in plan.entries
        ]

    assert order(0) == order(0) != order(1)
    assert order(0) != sorted(order(0)) and order(0) != [entry.path for entry in entries(100)]


@pytest.mark.parametrize(
    ("count", "size", "expected"), [(100, 5e3, 1), (1000, 5e3, 4), (50_000, 5e3, 64), (1000, 2e6, 14)]
)
def test_the_automatic_number_of_shards_bounds_their_images_and_bytes(count, size, expected):
    assert len(shards.plan_shards({"train": entries(count)}, size, 0, 0)) == expected


def options(root, encoding="jpeg", channels=3, image_px=0):
    return shards.EncodeOptions(str(root), encoding, channels, image_px, 95, 100)


def written(root, members, **settings):
    """(written shards, (offset, fields) of their records) of `members`, by one real worker process."""
    plans = shards.plan_shards({"train": members}, 5e3, 1, 0)
    with process_pool.pool(1) as pool:
        written_shards = list(shards.write_shards(plans, str(root), options(root, **settings), pool, 2))
    with open(root / written_shards[0].file, "rb") as file:
        return written_shards, [(offset, records.parse(payload)) for offset, payload in records.read(file)]


def entry(root, name, data, plain=True):
    support.put(root / name, data)
    return shards.SourceImage(name, 1, 5, image_file.digest(data), plain)


def test_a_plain_jpeg_passes_through_byte_for_byte(tmp_path):
    data = support.encoded(support.picture(0), quality=33)
    _, [(_, fields)] = written(tmp_path, [entry(tmp_path, "a.jpg", data)])
    assert fields == {"image": data, "label": 1, "path": b"a.jpg", "group": 5}


def test_a_shard_tells_its_bytes_hash_and_the_place_of_each_record(tmp_path):
    members = [entry(tmp_path, f"{number}.jpg", support.encoded(support.picture(number))) for number in range(5)]
    [shard], read = written(tmp_path, members)
    assert shard.count == 5
    assert shard.bytes == (tmp_path / shard.file).stat().st_size
    assert shard.sha256 == support.sha256(tmp_path / shard.file)
    assert [(number, offset) for number, offset, *_ in shard.rows] == [
        (n, offset) for n, (offset, _) in enumerate(read)
    ]
    for (*_, source_hash, path, _), (_, fields) in zip(shard.rows, read, strict=True):
        assert fields["path"].decode() == path
        assert support.sha256(tmp_path / path) == source_hash


@pytest.mark.parametrize(("channels", "image_px"), [(1, 0), (3, 0), (1, 24), (3, 24)])
def test_raw_records_hold_the_pixels_row_by_row(tmp_path, channels, image_px):
    values = support.picture(3, 40, 40)
    source = entry(tmp_path, "a.png", support.encoded(values, "PNG"), plain=False)
    _, [(_, fields)] = written(tmp_path, [source], encoding="raw", channels=channels, image_px=image_px)
    side = image_px or 40
    pixels = np.frombuffer(fields["image"], np.uint8).reshape(side, side, channels)
    expected = image_file.pixels(image_file.parse_photo(support.encoded(values, "PNG"), "a.png", 1), channels, image_px)
    np.testing.assert_array_equal(pixels, expected)


def test_a_file_that_changed_meanwhile_stops_the_conversion(tmp_path):
    source = entry(tmp_path, "a.jpg", support.encoded(support.picture(0)))
    support.put(tmp_path / "a.jpg", support.encoded(support.picture(1)))
    with pytest.raises(UserError, match="'a.jpg' changed while it was converted; run the conversion again"):
        written(tmp_path, [source])


def test_a_file_that_vanished_meanwhile_stops_the_conversion(tmp_path):
    source = entry(tmp_path, "a.jpg", support.encoded(support.picture(0)))
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(UserError, match="'a.jpg' could be read before, and now: unreadable: No such file or directory"):
        written(tmp_path, [source])


def test_a_shard_that_is_whole_stays_so_when_it_is_made_again_and_that_ends_halfway(tmp_path):
    """As with Beam: a task runs twice at the same time, and one run is stopped."""
    members = [entry(tmp_path, f"{number}.jpg", support.encoded(support.picture(number))) for number in range(4)]
    (plan,) = shards.plan_shards({"train": members}, 5e3, 1, 0)
    task = plan, str(tmp_path), options(tmp_path)
    shards._write_shard(task)
    whole = (tmp_path / plan.file).read_bytes()
    (tmp_path / plan.entries[2].path).unlink()
    with pytest.raises(UserError, match="could be read before"):
        shards._write_shard(task)
    assert (tmp_path / plan.file).read_bytes() == whole
