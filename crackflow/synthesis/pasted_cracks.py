"""Draws synthetic cracks onto real surfaces: how a user's own wall would look if it were cracked.

Synopsis::

    images = pasted_cracks.onto(clean_windows, count=64, seed=0)      # uint8 [64, px, px, C], each with a crack

Copy-paste (Dwibedi et al., Cut, paste and learn, ICCV 2017) with drawn cracks: what differs from the windows that they
are drawn onto is the crack alone, so that a network learns to leave the joints of that wall out of it.
"""

import numpy as np

from crackflow.synthesis import cracks, varied
from crackflow.synthesis.surfaces import Surface, between

MAGNIFIED = 0.4, 1.2  # as in `synthesis.varied`: pixels of the window on one of METU's photographs, 227 wide
ATTEMPTS = 5  # with ever bolder cracks, before another window is taken
MAX_WINDOWS = 20  # for each picture; where all are too dark, there are fewer pictures


def onto(windows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draws cracks onto `count` windows, drawn from `windows` again and again.

    Args:
        windows: uint8 [N, px, px, C], 0..255, C 1 or 3, without cracks.
        count: pictures asked for.
        seed: the same seed gives the same pictures.

    Returns:
        uint8 [M, px, px, C]: M is `count`, or less where a crack would be invisible on most windows, down to 0.
    """
    rng, pictures = np.random.default_rng(seed), []
    for _ in range(MAX_WINDOWS * count if len(windows) else 0):
        if len(pictures) == count:
            break
        picture = _cracked(rng, windows[rng.integers(len(windows))])
        if picture is not None:
            pictures.append(picture)
    return np.stack(pictures) if pictures else np.zeros((0, *windows.shape[1:]), np.uint8)


def _cracked(rng: np.random.Generator, window: np.ndarray) -> np.ndarray | None:
    """`window` with a crack, or None where none of ATTEMPTS was visible."""
    surface = _surface(window)
    reference, faint = len(window) / between(rng, *MAGNIFIED), rng.random() < varied.FAINT
    for attempt in range(ATTEMPTS):
        crack = varied.draw_crack(rng, len(window), reference, attempt / (ATTEMPTS - 1), faint)
        darkened = cracks.darken(surface, crack)
        picture = np.clip(darkened.tone * darkened.colour * 255 + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)
        if varied.is_visible(picture, crack.mask, faint):
            return picture if window.shape[-1] == 3 else picture.mean(-1, keepdims=True).round().astype(np.uint8)
    return None


def _surface(window: np.ndarray) -> Surface:
    """The surface that a camera without any grain or blur of its own would see as `window`."""
    planes = np.broadcast_to(window, (*window.shape[:2], 3)).astype(np.float32).transpose(2, 0, 1) / 255
    bright = planes.mean(0)
    level = max(float(bright.mean()), 0.05)
    return Surface(np.clip(bright / level, 0.02, None), planes / np.maximum(bright, 0.02) * level)
