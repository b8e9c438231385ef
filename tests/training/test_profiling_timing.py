"""Each stage of the doctor against a plain loop that does the same by other means.

The two alternate, so that other work on the machine slows both, and may differ by a factor: these tests look for a
stage that does nothing, hundreds of times as fast, or one that does something else.
"""

import glob
import io
import itertools
import os

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from crackflow.core import throughput
from crackflow.core.backend import keras, tf
from crackflow.core.config.augmentation import Augment, Augmentation
from crackflow.core.config.network import Network
from crackflow.core.config.training import Input, TrainConfig
from crackflow.data import records
from crackflow.model import networks
from crackflow.pipeline import loader
from crackflow.pipeline.batch_spec import BatchSpec
from crackflow.training import profiling, trainer
from tests.helpers import small

IMAGE_PX, BATCH = small.IMAGE_PX, 16
CORES = len(os.sched_getaffinity(0))
SETTINGS = TrainConfig(data="d", run_dir="r", model=Network.CRACKFLOW_S, batch_size=BATCH, steps_per_execution=1)


def compared(measured, plain):
    """How many times as fast `measured` is as `plain`."""
    rates = throughput.interleaved({"ours": measured, "plain": plain}, seconds=0.2, windows=3)
    return rates["ours"].median / rates["plain"].median


def stored(dataset, fields=("image",)):
    """Every training record, read without `RecordReader`."""
    parsed = []
    for name in dataset.files("train"):
        with open(name, "rb") as file:
            parsed += [records.parse(payload, fields) for _, payload in records.read(file)]
    return parsed


def one_by_one(images, do):
    """A function that calls `do` with the next image per call and returns 1."""
    turns = itertools.cycle(images)

    def advance():
        do(next(turns))
        return 1

    return advance


def test_decoding_jpeg_takes_as_long_as_in_a_plain_loop():
    dataset = small.data()
    images = [record["image"] for record in stored(dataset)]
    plain = one_by_one(images, lambda data: simplejpeg.decode_jpeg(data, "RGB", fastupsample=True))
    assert 1 / 3 < compared(profiling.decoder(dataset, IMAGE_PX, 3), plain) < 2


@pytest.mark.parametrize("encoding", ["png", "raw"])
def test_decoding_and_resizing_take_as_long_as_in_a_plain_loop(encoding):
    dataset = small.data(encoding)
    images = [record["image"] for record in stored(dataset)]

    def plain(data):
        if encoding == "raw":
            decoded = np.frombuffer(data, np.uint8).reshape(IMAGE_PX, IMAGE_PX, 3)
        else:
            decoded = np.asarray(Image.open(io.BytesIO(data)))
        return np.asarray(Image.fromarray(decoded).resize((32, 32), Image.Resampling.BOX))

    assert 1 / 6 < compared(profiling.decoder(dataset, 32, 3), one_by_one(images, plain)) < 4


def test_each_call_decodes_other_images(monkeypatch):
    dataset, seen = small.data(), []
    fetch = profiling.RecordReader.fetch
    monkeypatch.setattr(profiling.RecordReader, "fetch", lambda self, row: (seen.append(row), fetch(self, row))[1])
    monkeypatch.setattr(profiling, "DECODED_AT_ONCE", 8)
    advance = profiling.decoder(dataset, 32, 3)
    assert seen == list(range(64))  # before anything is timed
    seen.clear()
    assert [advance() for _ in range(9)] == [8] * 9
    assert seen == [*range(64), *range(8)]


def test_reading_records_takes_as_long_as_in_a_plain_loop():
    dataset = small.data()
    frames = []
    for name in dataset.files("train"):
        with open(name, "rb") as file:
            frames += [records.frame(payload) for _, payload in records.read(file)]
    plain = one_by_one(frames, lambda frame: records.parse(next(records.read(io.BytesIO(frame)))[1]))
    assert 1 / 3 < compared(profiling.record_reader(dataset), plain) < 3


def test_the_disk_is_read_to_the_last_byte_and_memory_is_not_called_a_disk(tmp_path, monkeypatch):
    files = [str(tmp_path / f"{number}.bin") for number in range(4)]
    for name in files:
        with open(name, "wb") as file:
            file.write(os.urandom(3_000_001))
            os.fsync(file.fileno())
    assert profiling.read(files).nbytes == 12_000_004

    def plain():
        for name in files:
            with open(name, "rb") as file:
                file.read()
        return 1

    monkeypatch.setattr(os, "posix_fadvise", lambda *_: None)  # so that both read from memory
    plain()
    assert profiling.read(files).cached
    assert "; of memory: the system kept them there" in profiling._time_disk(small.data(), 2).note
    seconds = min(profiling.read(files).seconds for _ in range(5))
    assert 1 / 10 < throughput.measure(plain, 0.05, 3).high * seconds < 10


def test_the_stream_is_as_fast_as_decoding_on_some_of_the_cores():
    dataset = small.data()
    images = [record["image"] for record in stored(dataset)]
    plain = one_by_one(images, lambda data: simplejpeg.decode_jpeg(data, "RGB", fastupsample=True))
    feed = loader.create_loader(Input.STREAM, dataset, BatchSpec(BATCH, IMAGE_PX, 3))
    assert 1 / 8 < compared(profiling.batch_timer(feed.train()), plain) < 2 * CORES


def test_the_pack_is_as_fast_as_copying_its_rows():
    dataset = small.data()
    feed = loader.create_loader(Input.PACK, dataset, BatchSpec(BATCH, IMAGE_PX, 3))
    (path,) = glob.glob(os.path.join(dataset.folder, "packs", f"train-{IMAGE_PX}.npy"))
    pixels, random = np.load(path, mmap_mode="r"), np.random.default_rng(0)

    def plain():
        return len(np.array(pixels[random.integers(0, len(pixels), BATCH)]))

    assert 1 / 30 < compared(profiling.batch_timer(feed.train()), plain) < 4 * CORES


@pytest.mark.parametrize("xla", ["augmentation", "off"])
def test_augmentation_takes_about_as_long_as_turning_pictures_one_by_one(xla):
    feed = loader.create_loader(Input.SYNTHETIC, small.data(), BatchSpec(BATCH, IMAGE_PX, 3))
    random, image = np.random.default_rng(0), np.zeros((IMAGE_PX, IMAGE_PX, 3), np.uint8)
    plain = one_by_one([image], lambda picture: np.ascontiguousarray(np.rot90(picture[:, ::-1], random.integers(4))))
    assert 1 / 40 < compared(profiling.augmenter(SETTINGS, feed, xla), plain) < 10 * CORES


def test_more_augmentation_takes_longer():
    feed = loader.create_loader(Input.SYNTHETIC, small.data(), BatchSpec(BATCH, IMAGE_PX, 3))
    strong = TrainConfig(data="d", run_dir="r", augmentation=Augmentation(augment=Augment.STRONG))
    measured = [profiling.augmenter(train_config, feed, "off") for train_config in (SETTINGS, strong)]
    assert compared(*measured) > 1.5


def test_the_train_step_takes_as_long_as_a_gradient_by_hand():
    network = networks.NETWORKS[Network.CRACKFLOW_S].build(IMAGE_PX)
    model = trainer.compile_trainer(network, SETTINGS, 10_000, "off")
    feed = loader.create_loader(Input.SYNTHETIC, small.data(), BatchSpec(BATCH, IMAGE_PX, 3))
    before = network.get_weights()
    clone = networks.NETWORKS[Network.CRACKFLOW_S].build(IMAGE_PX)
    batches = iter(feed.train())

    @tf.function
    def forward_and_backward(image, label):
        with tf.GradientTape() as tape:
            loss = keras.losses.binary_crossentropy(label[:, None], clone(image, training=True)[:, None], True)
        return [tf.reduce_sum(weight) for weight in tape.gradient(loss, clone.trainable_variables)]

    def plain():
        image, label = next(batches)
        forward_and_backward(image, tf.cast(label, tf.float32))[-1].numpy()
        return BATCH

    assert 1 / 3 < compared(profiling.step_timer(model, feed.train(), BATCH), plain) < 2
    assert any((weight != updated).any() for weight, updated in zip(before, network.get_weights(), strict=True))
