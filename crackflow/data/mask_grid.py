"""The position of a crack in an image on a grid of 8 x 8 cells: 64 bits beside each label.

Synopsis::

    bits = mask_grid.from_mask(mask > 127)  # int, bit 8 * row + column is set where the mask touches the cell
    mask_grid.text(bits), mask_grid.parse("0000000000000180")       # 16 hexadecimal digits, as in manifest.csv

For a cracked image, 0 means that the position is unknown; for a clean one, that there is no crack. The cells are
fractions of the image's sides, so the bits hold for whatever size the image is resized to.
"""

import numpy as np

SIDE = 8


def from_mask(crack: np.ndarray) -> int:
    """Returns the bits, 0 <= bits < 2^64, of `crack`, bool [H, W]. Cells share pixels where a side is less than 8
    pixels.
    """
    edges = [np.minimum(np.linspace(0, side, SIDE + 1).round().astype(int)[:-1], side - 1) for side in crack.shape]
    touched = np.logical_or.reduceat(np.logical_or.reduceat(crack, edges[0], 0), edges[1], 1)
    return int.from_bytes(np.packbits(touched, bitorder="little").tobytes(), "little")


def text(bits: int) -> str:
    """Formats `bits` as 16 hexadecimal digits; 0 as an empty string."""
    return f"{bits:016x}" if bits else ""


def parse(text: str) -> int:
    """Returns the bits of `text` as the signed number of an int64 with the same bits. Raises: ValueError."""
    bits = int(text or "0", 16)
    return bits - (1 << 64) if bits >> 63 else bits
