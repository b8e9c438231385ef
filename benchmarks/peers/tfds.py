"""TensorFlow Datasets over its own TFRecord of the JPEG files, TensorFlow decodes.

Synopsis::

    python benchmarks/peers/tfds.py --images DIR --image_px 227 --work SCRATCHDIR
"""

import os
import pathlib
import sys

sys.path.pop(0)  # this folder, whose grain.py and webdataset.py would hide the packages
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
import tensorflow_datasets as tfds

from benchmarks.peers import protocol


def write(images: pathlib.Path, path: pathlib.Path) -> None:
    files, labels = protocol.files(images)
    tfds.dataset_builders.store_as_tfds_dataset(
        name="metu",
        version="1.0.0",
        data_dir=str(path),
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=list(protocol.CLASSES)),
            }
        ),
        split_datasets={
            "train": [(f, {"image": f, "label": int(label)}) for f, label in zip(files, labels, strict=True)]
        },
    )


def main() -> None:
    options = protocol.options()
    path = protocol.write_once(options.work / "tfds", lambda path: write(options.images, path))
    builder = tfds.builder("metu", data_dir=str(path))

    def decode(example):
        image = tf.io.decode_jpeg(example["image"], channels=3, dct_method="INTEGER_FAST")
        if options.image_px != protocol.FILE_PX:
            image = tf.cast(tf.image.resize(image, (options.image_px, options.image_px)), tf.uint8)
        return tf.ensure_shape(image, (options.image_px, options.image_px, 3)), example["label"]

    # Shuffles encoded images and decodes them in this map, as TFDS recommends. TFDS caches small datasets in memory:
    # here the JPEGs, 60 MB.
    photographs = builder.as_dataset(split="train", shuffle_files=True, decoders={"image": tfds.decode.SkipDecoding()})
    photographs = photographs.shuffle(builder.info.splits["train"].num_examples)
    photographs = photographs.map(decode, tf.data.AUTOTUNE, deterministic=False)
    photographs = photographs.batch(options.batch, drop_remainder=True).repeat().prefetch(tf.data.AUTOTUNE)
    protocol.serve("tfds", tfds.__version__, iter(photographs), options)


if __name__ == "__main__":
    main()
