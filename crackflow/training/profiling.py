"""Every stage from the disk to the train step, each measured alone, then all together; and what to change.

Synopsis::

    stages = profiling.profile_stages(made, config)        # [Stage("decode, one core", Rate(...), "image/s of ...")]
    profiling.recommend(stages)                        # Advice(bottleneck, help)

What is measured gets other rows or another step at each call, as an input: TensorFlow computes what does not depend on
one once, and then hands the result out, at 400,000 images a second where decoding takes 2 ms.
"""

import errno
import functools
import itertools
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from crackflow.core import runtime, throughput
from crackflow.core.backend import keras, tf
from crackflow.core.config.tools import DoctorConfig
from crackflow.core.config.training import Input, TrainConfig
from crackflow.core.throughput import Throughput
from crackflow.data.dataset import Dataset
from crackflow.data.record_reader import RecordReader
from crackflow.model import networks
from crackflow.pipeline import loader, stream
from crackflow.training import augment, trainer

DISK, RECORDS, DECODE, STREAM = "disk", "record reading", "decode, one core", "stream"
PACK, AUGMENT = "pack", "augmentation"
STEP, TOGETHER = "train step, data in memory", "end to end"
# Below this share of the train step's own speed, training waits for its input.
INPUT_BOUND_RATIO = 0.95
DECODED_AT_ONCE = 64
DECODED = 1024  # different images at most: more than the caches of a core hold
READ_BYTES = 1 << 20


class StageTiming(NamedTuple):
    """`rate` in images/s; `note`: what was measured."""

    name: str
    rate: Throughput
    note: str


class Recommendation(NamedTuple):
    bottleneck: str
    help: str


def profile_stages(made: Dataset, config: DoctorConfig) -> list[StageTiming]:
    """All stages on the training split of `made`, as training with the same flags would run them."""
    recipe = networks.get_model_spec(config.model, config.architecture)
    px, channels = config.image_px or recipe.image_px, recipe.channels
    precision = runtime.choose_precision(config.precision, recipe.bfloat16_on_cpu)
    xla = runtime.choose_xla(config.xla)
    keras.mixed_precision.set_global_policy(precision.value)
    clock = functools.partial(throughput.measure, seconds=config.seconds, windows=config.windows)
    open_feed = functools.partial(
        loader.create_loader, made=made, batch_size=config.batch_size, image_px=px, channels=channels, seed=0
    )
    stages = [_disk(made, config.windows)]  # before anything maps the shards, which keeps them in memory
    chosen = open_feed(config.input)
    stages.append(
        StageTiming(
            RECORDS,
            clock(record_reader(made)),
            "frames, checksums and fields; each once, decoding looks there no more",
        )
    )
    stages.append(StageTiming(DECODE, clock(decoder(made, px, channels)), f"{made.facts['encoding']} to {px} px"))
    stages.append(StageTiming(STREAM, clock(batch_timer(open_feed(Input.STREAM).train())), "decoding as it trains"))
    if chosen.choice.value == Input.PACK.value:
        stages.append(StageTiming(PACK, clock(batch_timer(chosen.train())), chosen.choice.reason))
    settings = TrainConfig(
        data=made.folder,
        run_dir=made.folder,
        model=config.model,
        architecture=config.architecture,
        batch_size=config.batch_size,
        steps_per_execution=1,
    )
    synthetic = open_feed(Input.SYNTHETIC)
    stages.append(
        StageTiming(AUGMENT, clock(augmenter(settings, synthetic, xla.value)), settings.augmentation.augment.value)
    )
    model = trainer.compile_trainer(recipe.build(px), settings, 10_000, xla.value)
    note = f"{config.model.value} at {px} px, batch {config.batch_size}, {precision.value}, XLA {xla.value}"
    stages.append(StageTiming(STEP, clock(step_timer(model, synthetic.train(), config.batch_size)), note))
    together = clock(step_timer(model, chosen.train(), config.batch_size))
    stages.append(StageTiming(TOGETHER, together, f"input {chosen.choice.value} and train step"))
    return stages


def recommend(stages: list[StageTiming], on_gpu: bool) -> Recommendation:
    """What limits training, and the flag that helps."""
    speed = {stage.name: stage.rate.median for stage in stages}
    step, together = speed[STEP], speed[TOGETHER]
    source = PACK if PACK in speed else STREAM
    told = f"the train step alone reaches {step:,.0f} images/s, together they reach {together:,.0f}"
    if together >= INPUT_BOUND_RATIO * step:
        help = "a larger --batch_size, or --precision=mixed_bfloat16 where auto did not choose it"
        if not on_gpu:
            help = "a GPU (pip install 'crackflow[gpu]'), a smaller --image_px, or a smaller --model"
        return Recommendation(f"the train step: {source} could deliver {speed[source]:,.0f} images/s; {told}", help)
    if source == STREAM:
        by_disk = speed[DISK] < 1.2 * speed[STREAM]
        help = "a faster disk, or --input=pack from one" if by_disk else "--input=pack, or more CPU cores"
        return Recommendation(
            f"the input: {'the disk' if by_disk else 'decoding'} delivers {speed[STREAM]:,.0f}; {told}", help
        )
    return Recommendation(
        f"sharing the cores: the pack alone delivers {speed[PACK]:,.0f} images/s; {told}",
        "more CPU cores, or --threads below their number so that the input keeps one",
    )


def batch_timer(batches: tf.data.Dataset) -> Callable[[], int]:
    """A function that takes one of `batches` at each call and returns how many images it holds."""
    taken = itertools.chain.from_iterable(itertools.repeat(batches))
    return lambda: int(next(taken)[-1].shape[0])


def _disk(made: Dataset, windows: int) -> StageTiming:
    """Shards read from the device itself: their pages are dropped from the cache first, where the system allows it."""
    files = made.files("train")
    total = sum(os.path.getsize(file) for file in files)
    reads = sorted((read(files) for _ in range(windows)), key=lambda one: one.seconds)
    count = made.count("train")
    rate = Throughput(*(count / reads[place].seconds for place in (len(reads) // 2, -1, 0)))
    note = f"{total / reads[len(reads) // 2].seconds / 1e6:,.0f} MB/s, {total / count / 1e3:,.1f} kB an image"
    if any(one.cached for one in reads):
        note += "; of memory: the system kept them there"
    return StageTiming(DISK, rate, note)


class Read(NamedTuple):
    """`cached`: whether the system still had some of it in memory, although it was asked to drop it."""

    seconds: float
    nbytes: int
    cached: bool


def read(files: list[str]) -> Read:
    """All of `files`, one after the other, from the device."""
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
    """Whether the first byte can be had without waiting for a device; True as well where the system can't tell."""
    if not hasattr(os, "RWF_NOWAIT"):
        return True
    try:
        return bool(os.preadv(handle, [bytearray(1)], 0, os.RWF_NOWAIT))
    except OSError as error:
        return error.errno != errno.EAGAIN


def record_reader(made: Dataset) -> Callable[[], int]:
    rows, numbers = RecordReader(made, "train"), itertools.count()

    def advance() -> int:
        for _ in range(DECODED_AT_ONCE):
            rows.fields(next(numbers) % rows.count)
        return DECODED_AT_ONCE

    return advance


def decoder(made: Dataset, px: int, channels: int) -> Callable[[], int]:
    """Decodes images one after the other on one core, as the stream does on each; others at each call, up to `DECODED`.

    Which ones is an input of the function: those of a constant would be decoded once and for all.
    """
    rows = RecordReader(made, "train")
    known, numbers = min(DECODED, rows.count), itertools.count()
    size = min(DECODED_AT_ONCE, known)
    read = stream.Reader(rows, made, size, channels, at_once=1)
    kind = [tf.TensorSpec([size], tf.int64)]
    decode = tf.function(lambda chosen: read(chosen, px), input_signature=kind, autograph=False)
    for row in range(known):  # reading has a line of its own
        rows.fetch(row)

    def advance() -> int:
        chosen = (next(numbers) * size + np.arange(size)) % known
        with tf.device("CPU:0"):
            image, _ = decode(tf.constant(chosen, tf.int64))
        return int(image.shape[0])

    return advance


def augmenter(settings: TrainConfig, feed: loader.DataLoader, xla: str) -> Callable[[], int]:
    """Augments one of the batches of `feed` at each call, as the train step of `settings` does at another step."""
    change = augment.Augmenter(settings.augmentation, settings.seed, compiled=xla != "off")
    apply = tf.function(lambda image, label, step: change.mixed(image, label, step), autograph=False)
    taken, steps = iter(feed.train()), itertools.count()

    def advance() -> int:
        image, label = next(taken)
        changed, _ = apply(image, label, tf.constant(next(steps), tf.int64))
        changed[0, 0, 0].numpy()  # waits for the device
        return int(changed.shape[0])

    return advance


def step_timer(model: keras.Model, batches: tf.data.Dataset, batch_size: int) -> Callable[[], int]:
    """A function that trains `model` on one of `batches` at each call and returns how many images that were."""
    function, taken = model.make_train_function(), iter(batches)

    def advance() -> int:
        logs = function(taken)
        float(logs["loss"])  # waits for the device
        return batch_size

    return advance
