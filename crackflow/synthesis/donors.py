"""Grounds and cracks from the images of a dataset's training split, for copy-paste into synthetic images.

Synopsis::

    source_donors = donors.Donors("data/metu")
    ground = source_donors.ground(rng, 128)              # a Surface: a photograph without a crack, magnified and turned
    crack = source_donors.crack(rng, 128, boldness=0.0)  # a Crack: the dark line of a cracked one, without its ground

A crack is a long, thin region darker than the ground around it: the image is divided by its ground, which is its mean
over 41 pixels without the dark pixels. Of METU's 4,000 cracked training images 3,947 give one.
"""

import functools
import os

import numpy as np
from PIL import Image
from scipy import ndimage

from crackflow.core.errors import UserError
from crackflow.data import dataset as dataset_io
from crackflow.data import image_file, record_reader
from crackflow.synthesis.cracks import MASK_COVER, Crack, edge, tint
from crackflow.synthesis.surfaces import Surface, between

GROUND_PX, SMOOTH_PX = 41, 9  # of an image 227 wide
NOT_GROUND, DARK = 0.88, 0.78  # of the ground's brightness: darker pixels are left out of it; are part of a crack
MIN_AREA, MIN_LENGTH, MAX_WIDTH = 120, 50, 0.35  # pixels; pixels; area over the square of its length
MIN_SHARE, MAX_SHARE = 0.006, 0.2  # fraction of the image that a crack covers
MAX_DRAWS = 100  # images drawn until one of the class is found
MAX_ATTEMPTS = 6


class Donors:
    """Draws from the training split of the dataset in `folder`.

    Raises:
        UserError: when there is none, it lacks a class, or its records are raw.
    """

    def __init__(self, folder: str) -> None:
        dataset = dataset_io.load(folder)
        self._rows = record_reader.RecordReader(dataset, "train")
        if dataset.metadata["encoding"] == "raw":
            raise UserError(f"{folder!r}: expected records in jpeg or png, received raw; convert with --encoding=png")
        counts = dataset.metadata["splits"]["train"]["class_counts"]
        if not all(counts.values()):
            raise UserError(f"{folder!r}: expected both classes in the training split, received {counts}")
        self._folder = folder
        self._rows_of: dict[int, list[int]] = {0: [], 1: []}  # filled as labels are read

    def ground(self, rng: np.random.Generator, image_px: int) -> Surface:
        """Draws a part of an image without a crack, 0.4 to 1 of its side, as `image_px` x `image_px`."""
        photo = self._draw_photo(rng, 0)
        side = int(rng.integers(int(0.4 * min(photo.shape[:2])), min(photo.shape[:2]) + 1))
        top, left = (int(rng.integers(0, extent - side + 1)) for extent in photo.shape[:2])
        part = Image.fromarray(photo[top : top + side, left : left + side])
        part = part.resize((image_px, image_px), Image.Resampling.BOX if side > image_px else Image.Resampling.BICUBIC)
        planes = _random_orientation(rng, np.asarray(part, np.float32).transpose(2, 0, 1) / 255)
        bright = planes.mean(0)
        level = max(float(bright.mean()), 0.05)
        tone = np.clip(1 + np.float32(between(rng, 0.6, 2.2)) * (bright / level - 1), 0.02, 2)
        return Surface(tone, planes / np.maximum(bright, 0.02) * level)

    def crack(self, rng: np.random.Generator, image_px: int, boldness: float, faint: bool = False) -> Crack:
        """Draws a crack of an image, 0.4 to 1.1 times as large as there, anywhere in the output, weaker or stronger.

        Args:
            rng: the generator.
            image_px: side of the output.
            boldness: 0..1, raises the least size and strength.
            faint: allows weaker cracks.
        """
        ratio, mask = self._draw_crack(rng)
        for _ in range(MAX_ATTEMPTS):
            side = round(len(ratio) * between(rng, 0.4 + 0.3 * boldness, 1.1))
            seen = _crop(rng, _resize(ratio, side), _resize(mask, side), image_px)
            if (seen[1] >= MASK_COVER).mean() >= MIN_SHARE:
                break
            ratio, mask = self._draw_crack(rng)
        weakest = 0.25 * (1 + 2 * boldness) if faint else 0.35 * (1 + boldness)
        strength = np.float32(between(rng, weakest, 1.6))
        shade = 1 - np.clip(seen[0], 0.02, 1) ** strength
        cover = np.ascontiguousarray(seen[1])
        cast = tint(rng)
        beside = edge(rng, cover, rng.uniform(0, 2 * np.pi), 3.0) if rng.random() < 0.3 else np.zeros_like(cover)
        return Crack(np.ascontiguousarray(shade), 0.0, cast, beside, (cover >= MASK_COVER) * np.uint8(255))

    def _draw_crack(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        for _ in range(MAX_DRAWS):
            crack = extract_crack(self._draw_photo(rng, 1))
            if crack:
                return crack
        raise UserError(
            f"{self._folder!r}: no dark, thin line was found in {MAX_DRAWS} cracked images of its training split"
        )

    def _draw_photo(self, rng: np.random.Generator, label: int) -> np.ndarray:
        """Draws an image of class `label`: uint8 [h, w, 3]."""
        for _ in range(MAX_DRAWS):
            data, drawn_label = self._rows.fetch(int(rng.integers(self._rows.count)))
            if drawn_label == label:
                break
        else:  # a rare class: of 5 % cracked images, one series of draws in 170 has none
            data = self._rows.fetch(int(rng.choice(self._list_rows(label))))[0]
        return image_file.pixels(image_file.parse_photo(bytes(data), "", float("inf"), min_side_px=1), 3, 0)

    def _list_rows(self, label: int) -> list[int]:
        """The rows of a class, of which the dataset has some; read once."""
        if not self._rows_of[label]:
            for row in range(self._rows.count):
                self._rows_of[self._rows.fetch(row)[1]].append(row)
        return self._rows_of[label]


@functools.lru_cache(maxsize=1)
def open_donors(folder: str) -> Donors | None:
    """Opens the donors in `folder`, once per process; None without a folder."""
    return Donors(os.fspath(folder)) if folder else None


def fingerprint(folder: str) -> str:
    """The fingerprint of the dataset in `folder`, "" without a folder. Raises: UserError when it can't be used."""
    return dataset_io.load(folder).metadata["fingerprint"] if open_donors(folder) else ""


def extract_crack(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Extracts the crack of an image.

    Args:
        photo: uint8 [h, w, 3].

    Returns:
        (ratio, mask), float32 [h, w] each: brightness relative to the ground, 0..1, 1 beside the crack; and 1 on the
        crack, 0 elsewhere. None when there is nothing long, thin and dark.
    """
    grey = photo.astype(np.float32).mean(2)
    mean = functools.partial(ndimage.uniform_filter, size=GROUND_PX)
    is_ground = (grey > NOT_GROUND * mean(grey)).astype(np.float32)
    ground = ndimage.uniform_filter(mean(grey * is_ground) / np.maximum(mean(is_ground), 0.02), SMOOTH_PX)
    ratio = np.clip(grey / np.maximum(ground, 8), 0, 1)
    pieces, count = ndimage.label(ndimage.uniform_filter(ratio, 3) < DARK, np.ones((3, 3)))
    area = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    if not count:
        return None
    boxes = ndimage.find_objects(pieces)
    length = np.array([max(high.stop - high.start, wide.stop - wide.start) for high, wide in boxes])
    lines = np.flatnonzero((area >= MIN_AREA) & (length >= MIN_LENGTH) & (area < MAX_WIDTH * length**2)) + 1
    mask = np.isin(pieces, lines)
    if not MIN_SHARE < mask.mean() < MAX_SHARE:
        return None
    near = ndimage.uniform_filter(ndimage.binary_dilation(mask, iterations=2).astype(np.float32), 3)
    return 1 - (1 - ratio) * near, mask.astype(np.float32)


def _resize(field: np.ndarray, side: int) -> np.ndarray:
    resampling = Image.Resampling.BOX if side < len(field) else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(field).resize((side, side), resampling))


def _random_orientation(rng: np.random.Generator, field: np.ndarray) -> np.ndarray:
    """Applies one of the eight symmetries of the square to the last two axes."""
    field = np.rot90(field, int(rng.integers(4)), (-2, -1))
    return np.ascontiguousarray(field[..., ::-1] if rng.random() < 0.5 else field)


def _crop(rng: np.random.Generator, ratio: np.ndarray, mask: np.ndarray, image_px: int) -> np.ndarray:
    """Draws a crop of the crack, `image_px` x `image_px`. Beyond the border of the image the crack is mirrored, or
    sometimes absent."""
    both = _random_orientation(rng, np.stack([ratio, mask]))
    missing = max(0, image_px - both.shape[1])
    around = ((0, 0), (missing, missing), (missing, missing))
    if missing:
        both = np.pad(both, around, "symmetric")
    elif rng.random() < 0.3:
        beyond = ((image_px // 2, image_px // 2),) * 2
        both = np.stack([np.pad(both[0], beyond, constant_values=1), np.pad(both[1], beyond)])
    top, left = (int(rng.integers(0, both.shape[1] - image_px + 1)) for _ in range(2))
    return both[:, top : top + image_px, left : left + image_px]
