"""tf_keras.image_dataset_from_directory over the JPEG files, TensorFlow decodes.

Synopsis::

    python benchmarks/peers/keras_directory.py --images DIR --image_px 227 --work SCRATCHDIR
"""

import os
import pathlib
import sys

sys.path.pop(0)  # this folder, whose grain.py and webdataset.py would hide the packages
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
import tf_keras

from benchmarks.peers import protocol


def main() -> None:
    options = protocol.options()
    photographs = tf_keras.utils.image_dataset_from_directory(
        options.images,
        class_names=list(protocol.CLASSES),
        image_size=(options.image_px, options.image_px),
        batch_size=None,
        shuffle=True,
    )
    # It yields float32, the result of its resizing. The cast to uint8 precedes batching here. Of the two orders, one
    # reached 950 to 985 images per second of CPU time, the other 1,217 to 1,706.
    narrowed = photographs.map(lambda image, label: (tf.cast(image, tf.uint8), label), tf.data.AUTOTUNE)
    batches = narrowed.batch(options.batch, drop_remainder=True).repeat().prefetch(tf.data.AUTOTUNE)
    protocol.serve("keras_directory", tf_keras.__version__, iter(batches), options)


if __name__ == "__main__":
    main()
