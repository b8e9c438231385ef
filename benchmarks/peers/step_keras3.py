"""The same layers in Keras 3 on TensorFlow, with the train function of its own fit loop.

Synopsis::

    python benchmarks/peers/step_keras3.py --network crackflow_s --image_px 128 --channels 3 --compiled 1
"""

import os
import pathlib
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.pop(0)  # this folder, whose grain.py and webdataset.py would hide the packages
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import keras
import tensorflow as tf

from benchmarks.peers import layout, protocol

layers = keras.layers


def conv(x, filters, stride, name, padding):
    x = layers.Conv2D(filters, 3, stride, padding=padding, use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


def residual(x, filters, name, padding):
    y = conv(x, filters, 1, f"{name}_a", padding)
    y = layers.Conv2D(filters, 3, padding=padding, use_bias=False, name=f"{name}_b_conv")(y)
    y = layers.BatchNormalization(momentum=0.9, gamma_initializer="zeros", name=f"{name}_b_norm")(y)
    x = layers.Cropping2D(2)(x) if padding == "valid" else x
    return layers.Activation("relu", name=f"{name}_relu")(layers.Add()([x, y]))


def features(image, options):
    x = layers.Rescaling(1 / 255)(image)
    if options.network == "seed":
        for number, filters in enumerate(layout.SEED):
            x = layers.MaxPooling2D(2)(x) if number else x
            x = layers.Conv2D(filters, 3, activation="relu")(x)
        return layers.Dense(layout.SEED_DENSE, activation="relu")(layers.Flatten()(x))
    stem, stages, padded = layout.FAMILY[options.network]
    padding = "same" if padded else "valid"
    x = conv(x, stem, 2, "stem", padding)
    for stage, (filters, blocks) in enumerate(stages):
        x = conv(x, filters, 2, f"stage{stage}", padding)
        for block in range(blocks):
            x = residual(x, filters, f"stage{stage}_block{block}", padding)
    return layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])


def main() -> None:
    options = protocol.step_options()
    keras.mixed_precision.set_dtype_policy(options.precision)
    image = keras.Input((options.image_px, options.image_px, options.channels), dtype="uint8")
    logit = layers.Dense(1, dtype="float32")(features(image, options))
    model = keras.Model(image, logit)
    model.compile(
        keras.optimizers.AdamW(1e-3, weight_decay=0.02),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)],
        jit_compile=bool(options.compiled),
    )
    pixels, label = protocol.synthetic_batch(options)
    batches = iter(tf.data.Dataset.from_tensors((pixels, label[:, None].astype("float32"))).repeat())
    model.make_train_function()
    gpus = tf.config.list_physical_devices("GPU")
    device = tf.config.experimental.get_device_details(gpus[0])["device_name"] if gpus else "CPU"

    def step():
        return float(tf.convert_to_tensor(model.train_function(batches)["loss"]))

    protocol.serve_steps(step, model.count_params(), keras.__version__, device, options)


if __name__ == "__main__":
    main()
