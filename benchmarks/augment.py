"""The cost of augmentation: crackflow, Keras preprocessing layers, tensorflow-addons image ops, share of a train step.

  python -m benchmarks.augment --json=benchmarks/results/augment.json

Batches of uint8 [64, 128, 128, 3] in, uint8 out, one window each in turn. The others imitate the preset `standard` as
far as they can: Keras has no shear, saturation, gamma or blur, which makes it cheaper; each of its layers, and each
geometric op of tensorflow-addons, resamples the image again. `share_of_step`: how much longer the train step of the
network takes with augmentation, as a fraction of the step without.
"""

import math
import sys
from collections.abc import Callable

import numpy as np

from benchmarks import harness
from crackflow.core import runtime, throughput
from crackflow.core.backend import keras, load_addons, tf
from crackflow.core.config.augmentation import Augment, Augmentation
from crackflow.core.config.hardware import Precision, Xla
from crackflow.core.config.network import Network
from crackflow.core.config.training import TrainConfig
from crackflow.core.errors import UserError
from crackflow.model import networks
from crackflow.training import trainer
from crackflow.training.augment import Augmenter
from crackflow.training.profiling import step_timer

STANDARD = Augmentation(augment=Augment.STANDARD).filled()


def keras_layers() -> Callable[[tf.Tensor], tf.Tensor]:
    """tf_keras preprocessing layers with the strengths of `standard`, compiled into one function."""
    strengths, layers = STANDARD, keras.layers
    chain = [
        layers.RandomFlip("horizontal_and_vertical"),
        layers.RandomRotation(strengths.rotation / 360, fill_mode="reflect"),
        layers.RandomZoom(strengths.zoom, fill_mode="reflect"),
        layers.RandomTranslation(strengths.shift, strengths.shift, fill_mode="reflect"),
        layers.RandomBrightness(strengths.brightness),
        layers.RandomContrast(strengths.contrast),
        layers.GaussianNoise(strengths.noise / 2),
    ]

    @tf.function
    def augment_batch(image: tf.Tensor) -> tf.Tensor:
        x = tf.cast(image, tf.float32)
        for layer in chain:
            x = layer(x, training=True)
        return tf.cast(tf.clip_by_value(x, 0.0, 255.0), tf.uint8)

    return augment_batch


def addons_chain() -> Callable[[tf.Tensor], tf.Tensor]:
    """tensorflow-addons image ops, and TensorFlow's where it has none, in one function.

    Raises: UserError if it is not installed.
    """
    strengths, ops = STANDARD, load_addons().image

    @tf.function
    def augment_batch(image: tf.Tensor) -> tf.Tensor:
        count, side = tf.shape(image)[0], image.shape[1]

        def uniform(low: float, high: float, *shape: int) -> tf.Tensor:
            return tf.random.uniform([count, *shape], low, high)

        x = tf.image.random_flip_left_right(tf.image.random_flip_up_down(tf.cast(image, tf.float32)))
        angle = uniform(-1, 1) * math.radians(strengths.rotation)
        x = ops.rotate(x, angle, "bilinear", fill_mode="reflect")
        zoom, shear = tf.exp(uniform(-1, 1) * math.log1p(strengths.zoom)), uniform(-strengths.shear, strengths.shear)
        zero, middle = tf.zeros_like(zoom), (side - 1) / 2
        rows = [zoom, shear, middle * (1 - zoom - shear), zero, zoom, middle * (1 - zoom), zero, zero]
        x = ops.transform(x, tf.stack(rows, 1), "bilinear", fill_mode="reflect")
        x = ops.translate(x, uniform(-1, 1, 2) * strengths.shift * side, "bilinear", fill_mode="reflect")
        x = ops.gaussian_filter2d(x, 3, 0.5)
        grey = tf.image.rgb_to_grayscale(x)
        x = grey + uniform(1 - strengths.saturation, 1 + strengths.saturation, 1, 1, 1) * (x - grey)
        contrast = tf.exp(uniform(-1, 1, 1, 1, 1) * math.log1p(strengths.contrast))
        x = contrast * (x - 127.5) + 127.5 + 255 * uniform(-strengths.brightness, strengths.brightness, 1, 1, 1)
        gamma = tf.exp(uniform(-1, 1, 1, 1, 1) * math.log1p(strengths.gamma))
        x = 255 * tf.pow(tf.clip_by_value(x / 255, 0.0, 1.0), gamma)
        x += uniform(0, strengths.noise, 1, 1, 1) * tf.random.normal(tf.shape(x))
        return tf.cast(tf.clip_by_value(x, 0.0, 255.0), tf.uint8)

    return augment_batch


def crackflow_augmenter(preset: Augment, compiled: bool) -> Callable[[tf.Tensor], tf.Tensor]:
    """crackflow's augmentation, at a step that increases with each call."""
    augmenter, step = Augmenter(Augmentation(augment=preset), 0, compiled), tf.Variable(0)
    return tf.function(lambda image: augmenter(image, step.assign_add(1)), autograph=False)


def compiled_model(preset: Augment, network: str, px: int, batch: int, xla: str) -> keras.Model:
    config = TrainConfig(
        data="-",
        run_dir="-",
        batch_size=batch,
        augmentation=Augmentation(augment=preset),
        steps_per_execution=1,
    )
    return trainer.compile_trainer(networks.NETWORKS[Network(network)].build(px), config, 10_000, xla)


def main() -> None:
    options = harness.arguments(
        __doc__, seconds=2.0, windows=7, image_px=128, batch=64, model="crackflow_s", step_seconds=4.0
    )
    runtime.configure(seed=0, threads=0, deterministic=False)
    precision, xla = runtime.choose_precision(Precision.AUTO).value, runtime.choose_xla(Xla.AUTO).value
    keras.mixed_precision.set_global_policy(precision)
    shape = (options.batch, options.image_px, options.image_px, 3)
    random = np.random.default_rng(0)
    image, label = random.integers(0, 256, shape, np.uint8), random.integers(0, 2, shape[0]).astype(np.int32)
    batch = tf.constant(image)
    functions = {
        f"crackflow {preset.value}": crackflow_augmenter(preset, True)
        for preset in Augment
        if preset is not Augment.NONE
    }
    functions["crackflow standard, no XLA"] = crackflow_augmenter(Augment.STANDARD, False)
    functions["keras layers"] = keras_layers()
    try:
        functions["tensorflow-addons"] = addons_chain()
    except UserError as error:
        print(error, file=sys.stderr)

    def caller(augment_batch: Callable) -> Callable[[], int]:
        def advance() -> int:
            augment_batch(batch)[0, 0, 0, 0].numpy()  # waits for the device
            return options.batch

        return advance

    alone = throughput.interleaved({name: caller(f) for name, f in functions.items()}, options.seconds, options.windows)
    feed = tf.data.Dataset.from_tensors((image, label)).repeat()
    presets = {
        preset.value: step_timer(
            compiled_model(preset, options.model, options.image_px, options.batch, xla), feed, options.batch
        )
        for preset in Augment
    }
    steps = throughput.interleaved(presets, options.step_seconds, options.windows)
    micros = {name: 1e6 / rate.median for name, rate in alone.items()}
    per_step = {name: 1e6 / rate.median for name, rate in steps.items()}
    standard = micros["crackflow standard"]
    results = {
        "image_px": options.image_px,
        "batch": options.batch,
        "network": options.model,
        "precision": precision,
        "xla": xla,
        "microseconds_an_image": {name: round(value, 1) for name, value in micros.items()},
        "ours_over_theirs": {
            name: round(micros[name] / standard, 2) for name in micros if not name.startswith("crackflow")
        },
        "step_microseconds_an_image": {name: round(value, 1) for name, value in per_step.items()},
        "share_of_step": {name: round(value / per_step["none"] - 1, 3) for name, value in per_step.items()},
        "alone_over_step": {
            name: round(micros[f"crackflow {name}"] / per_step["none"], 3) for name in ("d4", "standard", "strong")
        },
    }
    harness.save(options.json, results)


if __name__ == "__main__":
    main()
