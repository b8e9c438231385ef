import collections
import itertools
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from crackflow.core import errors, runtime
from crackflow.core.backend import tf
from crackflow.core.errors import UserError
from crackflow.core.sharding import ShardOptions
from crackflow.data import dataset as dataset_io
from crackflow.data.record_reader import RecordReader
from crackflow.pipeline import memmap_loader, tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from tests.helpers import small

PX = small.IMAGE_PX


def fingerprints(batches, steps):
    """The bytes of each image of the first `steps` batches, in order."""
    return [picture.tobytes() for image, _ in batches.take(steps).as_numpy_iterator() for picture in image]


def test_training_batches_have_the_promised_spec():
    batches = tfrecord_loader.train_batches(small.data(), BatchSpec(batch_size=8, image_px=PX, channels=3))
    assert batches.element_spec == (
        tf.TensorSpec((8, PX, PX, 3), tf.uint8),
        tf.TensorSpec((8,), tf.int32),
    )


def test_evaluation_batches_have_the_promised_spec():
    batches = tfrecord_loader.eval_batches(small.data(), "test", BatchSpec(5, PX, 1))
    assert batches.element_spec == (
        tf.TensorSpec((5, PX, PX, 1), tf.uint8),
        tf.TensorSpec((5,), tf.int32),
        tf.TensorSpec((5,), tf.float32),
    )


def test_cells_come_with_the_images_they_are_of_from_stream_and_pack():
    dataset = small.data()
    packed = memmap_loader.build_if_missing(dataset, "train", PX, 3)
    streamed = tfrecord_loader.train_batches(dataset, BatchSpec(8, PX, 3, seed=3), with_cells=True)
    assert streamed.element_spec[2] == tf.TensorSpec((8,), tf.int64)
    for batches in (streamed, memmap_loader.train_batches(packed, 8, 3, with_cells=True)):
        seen = list(batches.take(8).as_numpy_iterator())
        for _, label, cells in seen:
            assert ((cells != 0) == label).all()
        whole = [image.tobytes() for image in np.load(packed.path)]
        for images, _, cells in seen:
            rows = [whole.index(image.tobytes()) for image in images]
            assert (packed.read_cells()[rows] == cells).all()


@pytest.mark.parametrize("count", [10, 64, 10_000])
def test_some_images_are_as_many_as_asked_and_there_are_each_once_and_from_all_over(count):
    dataset = small.data("raw")
    sampled = [
        picture.tobytes()
        for image, _ in tfrecord_loader.sample_batches(dataset, "train", count, BatchSpec(8, PX, 3))
        for picture in image.numpy()
    ]
    all_images = [
        picture.tobytes()
        for image, *_ in tfrecord_loader.eval_batches(dataset, "train", BatchSpec(8, PX, 3))
        for picture in image.numpy()
    ]
    assert len(sampled) == len(set(sampled)) == min(count, 64) and set(sampled) <= set(all_images)
    assert max(all_images.index(picture) for picture in sampled) >= 32


def test_an_epoch_of_whole_batches_holds_each_image_once():
    dataset = small.data()
    count = dataset.count("train")
    seen = fingerprints(tfrecord_loader.train_batches(dataset, BatchSpec(8, PX, 3, seed=3)), count // 8)
    assert len(seen) == count == len(set(seen))


def test_the_order_depends_on_the_seed_alone():
    dataset = small.data()
    steps = 2 * dataset.count("train") // 8
    first, again, different = (
        fingerprints(tfrecord_loader.train_batches(dataset, BatchSpec(8, PX, 3, seed)), steps) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != different


def test_the_second_epoch_has_another_order():
    dataset = small.data()
    count = dataset.count("train")
    seen = fingerprints(tfrecord_loader.train_batches(dataset, BatchSpec(8, PX, 3, seed=0)), 2 * count // 8)
    assert seen[:count] != seen[count:]
    assert collections.Counter(seen[:count]) == collections.Counter(seen[count:])


@pytest.mark.parametrize("batch_size", [1, 5, 16, 100])
def test_evaluation_sees_each_image_once_whatever_the_batch_size(batch_size):
    dataset = small.data()
    batches = tfrecord_loader.eval_batches(dataset, "test", BatchSpec(batch_size, PX, 3))
    weights = np.concatenate([weight for _, _, weight in batches.as_numpy_iterator()])
    seen = [picture.tobytes() for image, _, weight in batches.as_numpy_iterator() for picture in image[weight > 0]]
    assert weights.sum() == dataset.count("test") == len(set(seen))


def test_rows_are_read_as_the_evaluation_sees_them():
    dataset, rows = small.data(), [11, 0, 6]
    whole = np.concatenate(
        [image[w > 0] for image, _, w in tfrecord_loader.eval_batches(dataset, "test", BatchSpec(5, PX, 3))]
    )
    np.testing.assert_array_equal(tfrecord_loader.read_rows(dataset, "test", rows, PX, 3), whole[rows])


def test_identities_are_in_the_order_of_the_evaluation():
    dataset = small.data()
    paths, groups = tfrecord_loader.paths_and_groups(dataset, "val")
    labels = np.concatenate(
        [y[w > 0] for _, y, w in tfrecord_loader.eval_batches(dataset, "val", BatchSpec(7, PX, 3)).as_numpy_iterator()]
    )
    assert [int(path.startswith("Positive")) for path in paths] == labels.tolist()
    assert len(groups) == dataset.count("val")


def test_pixels_are_those_of_the_source_file():
    dataset = small.data()
    image, _, _ = next(tfrecord_loader.eval_batches(dataset, "val", BatchSpec(1, PX, 3)).as_numpy_iterator())
    paths, _ = tfrecord_loader.paths_and_groups(dataset, "val")
    with Image.open(small.images() / paths[0]) as source:
        difference = np.abs(np.asarray(source.convert("RGB"), int) - image[0].astype(int))
    assert difference.max() <= 1  # two builds of libjpeg may round chroma differently


def test_raw_and_png_and_jpeg_records_give_the_same_pictures():
    def pictures(encoding):
        dataset = small.data(encoding)
        paths, _ = tfrecord_loader.paths_and_groups(dataset, "test")
        batches = tfrecord_loader.eval_batches(dataset, "test", BatchSpec(1, PX, 3)).as_numpy_iterator()
        return {path: image[0].astype(int) for path, (image, _, _) in zip(paths, batches, strict=True)}

    raw, png, jpeg = pictures("raw"), pictures("png"), pictures("jpeg")
    for path, picture in raw.items():
        np.testing.assert_array_equal(picture, png[path])
        assert np.abs(picture - jpeg[path]).max() <= 1


def test_a_grey_network_reads_colour_records():
    dataset = small.data("raw")
    colour, _, _ = next(tfrecord_loader.eval_batches(dataset, "val", BatchSpec(4, PX, 3)).as_numpy_iterator())
    grey, _, _ = next(tfrecord_loader.eval_batches(dataset, "val", BatchSpec(4, PX, 1)).as_numpy_iterator())
    expected = np.asarray([np.asarray(Image.fromarray(picture).convert("L")) for picture in colour])
    assert np.abs(grey[..., 0].astype(int) - expected).max() <= 1


@pytest.mark.parametrize("encoding", ["jpeg", "png", "raw"])
def test_the_stream_trains_on_the_packs_pictures_in_the_packs_order(encoding):
    dataset = small.data(encoding)
    packed = memmap_loader.build_if_missing(dataset, "train", PX, 3)
    streamed = tfrecord_loader.train_batches(dataset, BatchSpec(12, PX, 3, seed=4)).take(9).as_numpy_iterator()
    for (image, label), (expected, expected_label) in zip(
        streamed, memmap_loader.train_batches(packed, 12, 4).take(9), strict=True
    ):
        np.testing.assert_array_equal(label, expected_label)
        difference = image.astype(float) - expected.numpy()
        assert np.sqrt(np.mean(difference**2)) < 1  # colours of 4:2:0 files are not smoothed while training


@pytest.mark.parametrize("processes, here", [(1, 1), (2, 1), (8, 1), (1, 4), (2, 2)])
def test_the_shares_of_all_processes_make_up_each_batch(processes, here):
    dataset = small.data()
    whole = fingerprints(tfrecord_loader.train_batches(dataset, BatchSpec(8, PX, 3, seed=1)), 4)
    parts = [
        fingerprints(
            tfrecord_loader.train_batches(
                dataset, BatchSpec(8, PX, 3, seed=1), shard=ShardOptions(process * here, here, processes * here)
            ),
            4 * here,
        )
        for process in range(processes)
    ]
    assert collections.Counter(itertools.chain(*parts)) == collections.Counter(whole)


def test_starting_at_a_batch_gives_what_running_up_to_it_gives():
    dataset = small.data()
    through = fingerprints(tfrecord_loader.train_batches(dataset, BatchSpec(8, PX, 3, seed=1)), 12)
    resumed = fingerprints(tfrecord_loader.train_batches(dataset, BatchSpec(8, PX, 3, seed=1), first_batch=5), 7)
    assert resumed == through[5 * 8 :]


def test_what_memory_can_not_hold_is_shuffled_in_windows_and_is_whole(monkeypatch):
    dataset = small.data()
    count = dataset.count("train")
    size = sum(shard["bytes"] for shard in dataset.metadata["splits"]["train"]["shards"])
    monkeypatch.setattr(runtime, "memory_bytes", lambda: size)
    assert tfrecord_loader.window_rows(count, 1 << (size.bit_length() - 1)) == count // 4
    seen = fingerprints(tfrecord_loader.train_batches(dataset, BatchSpec(8, PX, 3, seed=3)), 2 * count // 8)
    assert len(set(seen[:count])) == count and set(seen[:count]) == set(seen[count:])


def test_hosts_of_one_kind_cut_the_same_windows_whatever_a_few_pages(monkeypatch):
    windows = set()
    for pages in range(0, 1 << 16, 1 << 12):
        monkeypatch.setattr(runtime, "memory_bytes", lambda used=4096 * pages: (251 << 30) - used)
        windows.add(tfrecord_loader.window_rows(10_000_000, 300_000_000_000))
    assert len(windows) == 1 and 1_000_000 < windows.pop() < 10_000_000


def test_each_window_is_read_ahead_once(monkeypatch):
    dataset, read_windows = small.data(), []
    monkeypatch.setattr(tfrecord_loader, "window_rows", lambda *_: 16)
    monkeypatch.setattr(RecordReader, "read_ahead", lambda self, first, size: read_windows.append((first, size)))
    fingerprints(tfrecord_loader.train_batches(dataset, BatchSpec(8, PX, 3, seed=3)), 16)
    assert len(read_windows) >= 8 and all(size == 16 for _, size in read_windows)
    assert all(window != after for window, after in itertools.pairwise(read_windows))


def test_a_damaged_record_is_one_line_that_names_it(tmp_path):
    shutil.copytree(small.data().folder, tmp_path / "data", ignore=shutil.ignore_patterns("packs"))
    dataset = dataset_io.load(str(tmp_path / "data"))
    file = dataset.files("train")[0]
    with open(file, "r+b") as opened:
        opened.seek(200)
        opened.write(b"damage")
    with pytest.raises(tf.errors.UnknownError) as caught:
        fingerprints(tfrecord_loader.train_batches(dataset, BatchSpec(8, PX, 3, seed=1)), dataset.count("train") // 8)
    message = errors.raised_inside(caught.value)
    assert f"{file!r}: record at byte 0: the checksum of its payload does not match" in str(message)
    assert "--verify" in str(message)


def test_pixels_that_can_not_be_decoded_are_one_line_that_names_them(monkeypatch):
    dataset = small.data()
    monkeypatch.setattr(RecordReader, "fetch", lambda self, row: (b"no picture", 0))
    with pytest.raises(tf.errors.UnknownError) as caught:
        fingerprints(tfrecord_loader.train_batches(dataset, BatchSpec(8, PX, 3, seed=1)), 1)
    assert "tfrecord': record at byte" in str(errors.raised_inside(caught.value))
    assert "convert the images again" in str(errors.raised_inside(caught.value))


def test_an_empty_split_is_a_clear_error():
    with pytest.raises(UserError, match="expected images in the split 'nowhere', found none"):
        tfrecord_loader.eval_batches(small.data(), "nowhere", BatchSpec(4, PX, 3))


def test_an_epoch_has_one_step_at_least():
    assert tfrecord_loader.steps_per_epoch(100, 32) == 3
    assert tfrecord_loader.steps_per_epoch(5, 32) == 1


def test_two_epochs_hold_each_image_twice_in_orders_that_the_seed_decides():
    dataset = small.data()
    count = dataset.count("train")
    seen = fingerprints(tfrecord_loader.train_batches(dataset, BatchSpec(8, PX, 3, seed=3)), 2 * count // 8)
    again = fingerprints(tfrecord_loader.train_batches(dataset, BatchSpec(8, PX, 3, seed=3)), 2 * count // 8)
    assert len(set(seen[:count])) == count and set(seen[:count]) == set(seen[count:])
    assert seen == again and seen[:count] != seen[count:]


def resident_mb():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1e3 for line in file if line.startswith("VmRSS:"))


def test_memory_stays_flat_over_twenty_epochs():
    dataset, large = small.data(), 256  # enlarged, so that an epoch left in memory would show: 14 MB each
    epoch = dataset.count("train") // 8
    batches = iter(tfrecord_loader.train_batches(dataset, BatchSpec(8, large, 3, seed=0)))
    levels = []
    for _ in range(20):
        for _ in range(epoch):
            next(batches)
        levels.append(resident_mb())
    assert levels[-1] - levels[4] < 40, levels


ENDS = """
    import sys
    from crackflow.data import dataset
    from crackflow.pipeline import tfrecord_loader
    from crackflow.pipeline.batch_spec import BatchSpec

    batches = iter(tfrecord_loader.train_batches(dataset.load(sys.argv[1]), BatchSpec(256, 64, 3)))
    next(batches)
"""


@pytest.mark.slow
def test_a_program_ends_that_still_holds_an_iterator():
    for _ in range(2):
        command = [sys.executable, "-c", textwrap.dedent(ENDS), small.data().folder]
        subprocess.run(command, check=True, timeout=60)
