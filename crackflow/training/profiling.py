"""Profiles every stage from the disk to the train step, each alone and then all together, and recommends a change.

Synopsis::

    stages = profiling.profile_stages(dataset, config)     # [StageTiming("decode, one core", Throughput(...), note)]
    profiling.recommend(stages, on_gpu=False)              # Recommendation(bottleneck, help)

Every call of a measured function gets other records or another step as an input: TensorFlow computes what does not
depend on an input once and returns that result again, at 400,000 images per second where decoding takes 2 ms.
"""

import errno
import functools
import itertools
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from crackflow.core import console, runtime, throughput
from crackflow.core.backend import keras, tf
from crackflow.core.config.tools import DoctorConfig
from crackflow.core.config.training import Input, TrainConfig
from crackflow.core.throughput import Throughput
from crackflow.data.dataset import Dataset
from crackflow.data.record_reader import RecordReader
from crackflow.model import networks
from crackflow.pipeline import loader, tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec
from crackflow.training import augment, trainer

DISK, RECORDS, DECODE, STREAM = "disk", "record reading", "decode, one core", "stream"
PACK, AUGMENT = "pack", "augmentation"
STEP, TOGETHER = "train step, data in memory", "end to end"
# Below this fraction of the train step's own speed, training waits for its input.
INPUT_BOUND_RATIO = 0.95
DECODED_AT_ONCE = 64
DECODED = 1024  # different images at most: more than fit into the caches of a core
READ_BYTES = 1 << 20


class StageTiming(NamedTuple):
    """`rate` in images/s; `note`: what was measured."""

    name: str
    rate: Throughput
    note: str


class Recommendation(NamedTuple):
    bottleneck: str
    help: str


def profile_stages(dataset: Dataset, config: DoctorConfig) -> list[StageTiming]:
    """Times all stages on the training split of `dataset`, as training with the same flags would run them."""
    spec = networks.get_model_spec(config.model, config.architecture)
    image_px, channels = config.image_px or spec.image_px, spec.channels
    precision = runtime.choose_precision(config.precision, spec.bfloat16_on_cpu)
    xla = runtime.choose_xla(config.xla)
    console.info(f"precision {precision.value} ({precision.reason}); XLA {xla.value} ({xla.reason})")
    keras.mixed_precision.set_global_policy(precision.value)
    clock = functools.partial(throughput.measure, seconds=config.seconds, windows=config.windows)

    def create_feed(kind: Input) -> loader.DataLoader:
        return loader.create_loader(kind, dataset, BatchSpec(config.batch_size, image_px, channels))

    stages = [_time_disk(dataset, config.windows)]  # before anything maps the shards, which keeps them in memory
    feed = create_feed(config.input)
    stages.append(
        StageTiming(
            RECORDS,
            clock(record_reader(dataset)),
            "frames, checksums and fields; each once, decoding looks there no more",
        )
    )
    stages.append(
        StageTiming(
            DECODE, clock(decoder(dataset, image_px, channels)), f"{dataset.metadata['encoding']} to {image_px} px"
        )
    )
    stages.append(StageTiming(STREAM, clock(batch_timer(create_feed(Input.STREAM).train())), "decoding as it trains"))
    if feed.choice.value == Input.PACK.value:
        stages.append(StageTiming(PACK, clock(batch_timer(feed.train())), feed.choice.reason))
    settings = TrainConfig(
        data=dataset.folder,
        run_dir=dataset.folder,
        model=config.model,
        architecture=config.architecture,
        batch_size=config.batch_size,
        steps_per_execution=1,
    )
    synthetic_feed = create_feed(Input.SYNTHETIC)
    stages.append(
        StageTiming(AUGMENT, clock(augmenter(settings, synthetic_feed, xla.value)), settings.augmentation.augment.value)
    )
    model = trainer.compile_trainer(spec.build(image_px), settings, 10_000, xla.value)
    note = f"{config.model.value} at {image_px} px, batch {config.batch_size}, {precision.value}, XLA {xla.value}"
    stages.append(StageTiming(STEP, clock(step_timer(model, synthetic_feed.train(), config.batch_size)), note))
    together = clock(step_timer(model, feed.train(), config.batch_size))
    stages.append(StageTiming(TOGETHER, together, f"input {feed.choice.value} and train step"))
    return stages


def recommend(stages: list[StageTiming], on_gpu: bool) -> Recommendation:
    """Returns what limits training, and the flag that helps."""
    speed = {stage.name: stage.rate.median for stage in stages}
    step, together = speed[STEP], speed[TOGETHER]
    source = PACK if PACK in speed else STREAM
    measured = f"the train step alone reaches {step:,.0f} images/s, together they reach {together:,.0f}"
    if together >= INPUT_BOUND_RATIO * step:
        help = "a larger --batch_size, or --precision=mixed_bfloat16 where auto did not choose it"
        if not on_gpu:
            help = "a GPU (pip install 'crackflow[gpu]'), a smaller --image_px, or a smaller --model"
        return Recommendation(f"the train step: {source} could deliver {speed[source]:,.0f} images/s; {measured}", help)
    if source == STREAM:
        by_disk = speed[DISK] < 1.2 * speed[STREAM]
        help = "a faster disk, or --input=pack from one" if by_disk else "--input=pack, or more CPU cores"
        return Recommendation(
            f"the input: {'the disk' if by_disk else 'decoding'} delivers {speed[STREAM]:,.0f}; {measured}", help
        )
    return Recommendation(
        f"sharing the cores: the pack alone delivers {speed[PACK]:,.0f} images/s; {measured}",
        "more CPU cores, or --threads below their number so that the input keeps one",
    )


def batch_timer(batches: tf.data.Dataset) -> Callable[[], int]:
    """Returns a function that reads one of `batches` per call and returns its number of images."""
    iterator = itertools.chain.from_iterable(itertools.repeat(batches))
    return lambda: int(next(iterator)[-1].shape[0])


def _time_disk(dataset: Dataset, windows: int) -> StageTiming:
    """Times reading shards from the device; their pages are dropped from the cache first, if the system allows it."""
    files = dataset.files("train")
    total = sum(os.path.getsize(file) for file in files)
    results = sorted((read(files) for _ in range(windows)), key=lambda result: result.seconds)
    count = dataset.count("train")
    rate = Throughput(*(count / results[index].seconds for index in (len(results) // 2, -1, 0)))
    note = f"{total / results[len(results) // 2].seconds / 1e6:,.0f} MB/s, {total / count / 1e3:,.1f} kB an image"
    if any(result.cached for result in results):
        note += "; of memory: the system kept them there"
    return StageTiming(DISK, rate, note)


class Read(NamedTuple):
    """`cached`: whether some of it was still in memory, although the system was asked to drop it."""

    seconds: float
    nbytes: int
    cached: bool


def read(files: list[str]) -> Read:
    """Reads all of `files`, one after the other, from the device."""
    seconds, nbytes, cached = 0.0, 0, False
    for name in files:
        with open(name, "rb", buffering=0) as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            cached |= _is_in_memory(file.fileno())
            began = time.perf_counter()
            while part := file.read(READ_BYTES):
                nbytes += len(part)
            seconds += time.perf_counter() - began
    return Read(max(seconds, 1e-9), nbytes, cached)


def _is_in_memory(handle: int) -> bool:
    """Returns whether the first byte can be read without waiting for a device; True where the system can't tell."""
    if not hasattr(os, "RWF_NOWAIT"):
        return True
    try:
        return bool(os.preadv(handle, [bytearray(1)], 0, os.RWF_NOWAIT))
    except OSError as error:
        return error.errno != errno.EAGAIN


def record_reader(dataset: Dataset) -> Callable[[], int]:
    records, numbers = RecordReader(dataset, "train"), itertools.count()

    def advance() -> int:
        for _ in range(DECODED_AT_ONCE):
            records.fields(next(numbers) % records.count)
        return DECODED_AT_ONCE

    return advance


def decoder(dataset: Dataset, image_px: int, channels: int) -> Callable[[], int]:
    """Returns a function that decodes images on one core, as the stream does on each, and other ones at each call.

    The indices, of up to `DECODED` images, are an input of the function: with constants it would decode only once.
    """
    records = RecordReader(dataset, "train")
    num_images, numbers = min(DECODED, records.count), itertools.count()
    size = min(DECODED_AT_ONCE, num_images)
    read = tfrecord_loader.Reader(records, dataset, size, channels, at_once=1)
    kind = [tf.TensorSpec([size], tf.int64)]
    decode = tf.function(lambda indices: read(indices, image_px), input_signature=kind, autograph=False)
    for row in range(num_images):  # reading is timed as a stage of its own
        records.fetch(row)

    def advance() -> int:
        indices = (next(numbers) * size + np.arange(size)) % num_images
        with tf.device("CPU:0"):
            image, _ = decode(tf.constant(indices, tf.int64))
        return int(image.shape[0])

    return advance


def augmenter(settings: TrainConfig, feed: loader.DataLoader, xla: str) -> Callable[[], int]:
    """Returns a function that augments a batch of `feed` per call, as the train step of `settings` does."""
    image_augmenter = augment.Augmenter(settings.augmentation, settings.seed, compiled=xla != "off")
    apply = tf.function(lambda image, label, step: image_augmenter.mixed(image, label, step), autograph=False)
    iterator, steps = iter(feed.train()), itertools.count()

    def advance() -> int:
        image, label = next(iterator)
        augmented, _ = apply(image, label, tf.constant(next(steps), tf.int64))
        augmented[0, 0, 0].numpy()  # waits for the device
        return int(augmented.shape[0])

    return advance


def step_timer(model: keras.Model, batches: tf.data.Dataset, batch_size: int) -> Callable[[], int]:
    """Returns a function that trains `model` on one of `batches` per call and returns its number of images."""
    function, iterator = model.make_train_function(), iter(batches)

    def advance() -> int:
        logs = function(iterator)
        float(logs["loss"])  # waits for the device
        return batch_size

    return advance
