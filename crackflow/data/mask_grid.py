"""Where in a picture the crack lies, on a grid of 8 x 8 cells: 64 bits beside each label.

Synopsis::

    bits = mask_grid.from_mask(mask > 127)  # int, bit 8 * row + column is set where the mask touches the cell
    mask_grid.text(bits), mask_grid.parse("0000000000000180")       # 16 hexadecimal digits, as manifest.csv has them

0 means that nothing is known of a cracked picture, and no crack in a clean one. The shares of the picture's sides are
kept, so the bits hold for whatever size the picture is made.
"""

import numpy as np

SIDE = 8


def from_mask(crack: np.ndarray) -> int:
    """0 <= bits < 2^64 of `crack`, bool [H, W]; where a side is less than 8 pixels, cells share them."""
    edges = [np.minimum(np.linspace(0, side, SIDE + 1).round().astype(int)[:-1], side - 1) for side in crack.shape]
    touched = np.logical_or.reduceat(np.logical_or.reduceat(crack, edges[0], 0), edges[1], 1)
    return int.from_bytes(np.packbits(touched, bitorder="little").tobytes(), "little")


def text(bits: int) -> str:
    """16 hexadecimal digits; none for 0."""
    return f"{bits:016x}" if bits else ""


def parse(text: str) -> int:
    """The bits of `text` as the signed number that an int64 of the same bits is. Raises: ValueError."""
    bits = int(text or "0", 16)
    return bits - (1 << 64) if bits >> 63 else bits
