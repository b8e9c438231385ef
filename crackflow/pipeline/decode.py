"""Decodes encoded bytes to pixels, a batch at a time.

Synopsis::

    batch = BufferPool([64, 227, 227, 3]).acquire()        # aligned, and reused when nothing refers to it
    decode_into(batch[0], data, "jpeg", exact=False)       # on the CPU, Python's lock released
    image = decode(strings, "png", 0, 128, 3)              # in a graph: uint8 [B, 128, 128, 3]
"""

import collections
import weakref

import numpy as np
import simplejpeg

from crackflow.core.backend import tf

AT_ONCE = 10  # as many as tf.map_fn takes by itself
ALIGNMENT = 64  # TensorFlow copies an array that begins elsewhere


class BufferPool:
    """Arrays uint8 `shape`, each reused as soon as nothing refers to what `acquire` returned.

    A fresh 20 MB array for each batch costs 13 us per image in page faults (227 px).
    """

    def __init__(self, shape: list[int]) -> None:
        self._shape, self._free = shape, collections.deque()

    def acquire(self) -> np.ndarray:
        """Returns an array with arbitrary content."""
        try:
            memory = self._free.pop()
        except IndexError:
            array = np.empty(int(np.prod(self._shape)) + ALIGNMENT, np.uint8)
            start = -array.ctypes.data % ALIGNMENT
            memory = memoryview(array[start : array.size - ALIGNMENT + start])
        # The array and all views of it refer to this new object. Views of an array would refer to `array` itself.
        view = np.frombuffer(memory, np.uint8)
        weakref.finalize(view, self._free.append, memory).atexit = False
        return view.reshape(self._shape)


def decode_into(out: np.ndarray, data: bytes, encoding: str, exact: bool) -> None:
    """Decodes one image into an array.

    The inverse transform is the accurate one; the fast one darkens by 0.7 levels and gains 5 %.

    Args:
        out: uint8 [H, W, C], 0..255, is overwritten.
        data: the encoded image, or its pixels.
        encoding: "jpeg" or "raw".
        exact: False repeats the colours of 4:2:0 files instead of smoothing them: 10 % faster, 0.16 levels of root mean
            square on METU.

    Raises:
        ValueError: when `data` is damaged or of another size.
    """
    if encoding == "raw":
        if len(data) != out.nbytes:
            raise ValueError(f"expected {out.nbytes:,} bytes of pixels, found {len(data):,}")
        memoryview(out).cast("B")[:] = data  # NumPy would release Python's lock to copy: 15 us instead of 9 at 32 px
        return
    space = "GRAY" if out.shape[-1] == 1 else "RGB"
    decoded = simplejpeg.decode_jpeg(data, space, fastupsample=not exact, buffer=out)
    if decoded.shape != out.shape:
        raise ValueError(
            f"expected {out.shape[1]} x {out.shape[0]} pixels, found {decoded.shape[1]} x {decoded.shape[0]}"
        )


def decode(
    data: tf.Tensor, encoding: str, stored_px: int, image_px: int, channels: int, at_once: int = AT_ONCE
) -> tf.Tensor:
    """Decodes and resizes compressed images in a graph.

    Args:
        data: string [B].
        encoding: "jpeg" or "png".
        stored_px: side of the stored images, 0 when they differ.
        image_px: side of the output.
        channels: 1 or 3.
        at_once: number of images that may be decoded in parallel.

    Returns:
        uint8 [B, image_px, image_px, channels], 0..255.
    """
    if stored_px:  # resized in one go
        kind = tf.TensorSpec([stored_px, stored_px, channels], tf.uint8)
        images = tf.map_fn(
            lambda encoded: _decode_image(encoded, encoding, channels),
            data,
            fn_output_signature=kind,
            parallel_iterations=at_once,
        )
        return to_size(images, image_px)
    kind = tf.TensorSpec([image_px, image_px, channels], tf.uint8)
    return tf.map_fn(
        lambda encoded: to_size(_decode_image(encoded, encoding, channels), image_px),
        data,
        fn_output_signature=kind,
        parallel_iterations=at_once,
    )


def _decode_image(data: tf.Tensor, encoding: str, channels: int) -> tf.Tensor:
    if encoding == "jpeg":
        return tf.io.decode_jpeg(data, channels=channels, dct_method="INTEGER_ACCURATE")  # as `decode_into` does
    return tf.io.decode_png(data, channels=channels)


def to_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Converts uint8 [B, H, W, 1 or 3] to uint8 [B, H, W, channels]."""
    if image.shape[-1] == channels:
        return image
    return tf.image.grayscale_to_rgb(image) if channels == 3 else tf.image.rgb_to_grayscale(image)


def to_size(image: tf.Tensor, image_px: int) -> tf.Tensor:
    """Resizes uint8 [..., H, W, C] to uint8 [..., image_px, image_px, C]: each side by area means when it shrinks,
    linearly when it grows."""
    if tuple(image.shape[-3:-1]) == (image_px, image_px):
        return image
    shape, size = tf.shape(image)[-3:-1], [image_px, image_px]

    def resized() -> tf.Tensor:
        # A strip of 100 x 1000 pixels shrinks along one side: taken linearly there, 7 of 10 lines 1 px wide were lost.
        small = tf.cond(
            tf.reduce_any(shape > image_px),
            lambda: tf.image.resize(image, tf.minimum(shape, image_px), "area"),
            lambda: tf.cast(image, tf.float32),
        )
        values = tf.cond(
            tf.reduce_any(shape < image_px), lambda: tf.image.resize(small, size, "bilinear"), lambda: small
        )
        return tf.cast(values + 0.5, tf.uint8)

    image = tf.cond(tf.reduce_all(shape == image_px), lambda: image, resized)
    return tf.ensure_shape(image, [*image.shape[:-3], image_px, image_px, image.shape[-1]])
