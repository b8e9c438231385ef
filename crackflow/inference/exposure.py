"""A photograph exposed as the training images were: its levels are multiplied, as by a longer or shorter exposure.

Synopsis::

    levels = exposure.levels_for(pixels, brightness=172.0)           # uint8 [256]: what each level becomes
    batch = exposure.apply_levels(batch, [levels, other_levels])     # uint8 [2, H, W, C]
"""

import numpy as np

# A photograph is made so many times as bright or as dark, at most: 2.9 stops of a camera, whose levels grow with the
# root 2.2 of the light. Beyond it there is more noise than wall. Of 24 clean and 12 cracked walls of 12 megapixels,
# laid of METU's test images, dark ones scored highest: clean ones up to 4.4 logits, cracks from 3.9 on; exposed alike
# up to 2.5, and from 3.1 on. Photographs of METU and CFD score as before (ROC AUC within .0003), brick .729, not .716.
MAX_GAIN = 2.5


def mean_brightness(batch: np.ndarray) -> np.ndarray:
    """float64 [B]: the mean of each image of `batch`, uint8 [B, H, W, C], 0..255."""
    return np.asarray(batch).mean((1, 2, 3))


def levels_for(pixels: np.ndarray, brightness: float) -> np.ndarray:
    """uint8 [256]: what the levels of a photograph become, so that its mean is `brightness`.

    Args:
        pixels: uint8 [H, W, C], 0..255.
        brightness: mean of the training images, 0..255; 0 where it is unknown: the levels stay.
    """
    gain = 1.0
    if brightness:
        gain = brightness / max(float(mean_brightness(pixels[None])[0]), 1.0)
        gain = min(max(gain, 1 / MAX_GAIN), MAX_GAIN)
    return np.minimum(np.arange(256) * gain + 0.5, 255).astype(np.uint8)


def apply_levels(batch: np.ndarray, levels: list[np.ndarray]) -> np.ndarray:
    """uint8 [B, H, W, C]: `batch`, the same, with the levels of each exchanged for its `levels`, uint8 [256]."""
    exposed = np.empty(batch.shape, np.uint8)
    for number, table in enumerate(levels):
        # np.take turns the pixels into 8 bytes each first: 2.7 of 23 s for a photograph of 12 megapixels, and this 0.1.
        data = np.ascontiguousarray(batch[number]).tobytes().translate(table.tobytes())
        exposed[number] = np.frombuffer(data, np.uint8).reshape(exposed[number].shape)
    return exposed
