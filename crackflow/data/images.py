"""Files become checked pixels: what is accepted, what is refused and why, and what was changed on the way.

Synopsis::

    photo = images.open_photo(path, max_megapixels=100)     # raises BadImage with the reason
    grey = images.thumbnail(photo).grey                     # float32 [16, 16], 0..255, exact area means
    pixels = images.pixels(photo, channels=3, image_px=0)   # uint8 [H, W, 3], upright

Not covered: pictures with several frames; colour profiles (pixels are taken as they are).
"""

import dataclasses
import functools
import hashlib
import io
import os
import stat
import warnings
from concurrent import futures
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from crackflow.core import workers
from crackflow.data import file_kinds, jpeg

THUMB_PX = 16
BAND_ROWS = 64  # of a photograph, scaled at once
MAX_FILE_BYTES = 1 << 30
MAX_SIDE_PX = 65_500  # the longest side a JPEG can have; a narrow strip of 1e8 pixels also took 26 GB to average
ORIENTATION_TAG = 0x0112
SUBFILE_TAG, DNG_TAG = 0x00FE, 0xC612  # of TIFF: bit 0, a smaller copy of another picture in the file; a DNG
UPRIGHT = {  # EXIF orientation -> what shows the picture as it was seen
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
# Size is checked here, before a pixel is decoded, with a message of our own.
Image.MAX_IMAGE_PIXELS = None


class BadImage(Exception):
    """This file cannot be used; the message is the reason that rejected.csv gives."""


@dataclasses.dataclass(frozen=True)
class Photo:
    """A picture whose header was read. `width`, `height`: in pixels, upright. `turned`: EXIF orientation, 1 to 8.
    `grey`: it has no colours. `plain`: an upright baseline JPEG, whose bytes may be stored as they are."""

    data: bytes
    format: str
    width: int
    height: int
    turned: int
    grey: bool
    plain: bool
    notes: tuple[str, ...]


def read_file(path: str) -> bytes:
    """The bytes of a regular file. Raises: BadImage when it is none, is empty, too large, or unreadable."""
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            raise BadImage("not a regular file")
        if facts.st_size > MAX_FILE_BYTES:
            raise BadImage(f"the file has {facts.st_size >> 20:,} MiB: expected at most {MAX_FILE_BYTES >> 20:,}")
        with open(path, "rb", buffering=0) as file:  # one read: a buffer doubled the time
            data = file.read(facts.st_size + 1)  # Python sets aside as much as is asked for, before it reads
    except OSError as error:
        raise BadImage(f"unreadable: {error.strerror}") from error
    if not data:
        raise BadImage("empty file")
    if len(data) < facts.st_size:
        raise BadImage(f"unreadable: {len(data):,} of {facts.st_size:,} bytes came; try again")
    return data


def open_photo(path: str, max_megapixels: float) -> Photo:
    """The picture in `path`, its header read and checked, its pixels not yet decoded. Raises: BadImage."""
    return parse_photo(read_file(path), path, max_megapixels)


def parse_photo(data: bytes, name: str, max_megapixels: float) -> Photo:
    """As `open_photo`, from bytes; `name` is only compared with what the bytes are."""
    header = jpeg.read_header(data)
    if header and header.simple:
        _expect_size(header.width, header.height, max_megapixels)
        notes = _misnamed(name, "JPEG")
        return Photo(data, "JPEG", header.width, header.height, 1, header.components == 1, True, tuple(notes))
    image = _open(data)
    if image.format not in EXTENSIONS:
        raise BadImage(f"{image.format} is not supported: expected one of {', '.join(EXTENSIONS)}")
    if image.format == "TIFF" and (image.tag_v2.get(SUBFILE_TAG, 0) & 1 or DNG_TAG in image.tag_v2):
        raise BadImage("camera RAW, of which only the preview can be read: save it as JPEG or TIFF")
    width, height = image.size
    _expect_size(width, height, max_megapixels)
    frames = 1 if image.format == "MPO" else _frames(image)
    if frames > 1:
        raise BadImage(f"animated or multi-page, {frames} frames: expected one picture; save the frame you need")
    turned = _orientation(image)
    if turned >= 5:
        width, height = height, width
    plain = header is not None and header.baseline and turned == 1 and image.mode in ("L", "RGB")
    notes = _notes(image, turned) + _misnamed(name, image.format)
    return Photo(data, image.format, width, height, turned, _is_grey(image), plain, tuple(notes))


def _expect_size(width: int, height: int, max_megapixels: float) -> None:
    if width * height > max_megapixels * 1e6:
        size = f"{width} x {height} = {width * height / 1e6:,.0f} megapixels"
        raise BadImage(f"{size}: expected at most {max_megapixels:g} (--max_megapixels)")
    if max(width, height) > MAX_SIDE_PX:
        raise BadImage(f"{width} x {height} pixels: expected at most {MAX_SIDE_PX:,} a side")


def _open(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(data))
    except Image.UnidentifiedImageError as error:
        if data[4:8] == b"ftyp":  # ISO base media: HEIC and AVIF of telephones, and films
            raise BadImage("HEIC, AVIF or a film: save it as JPEG") from error
        what = file_kinds.describe(data)
        raise BadImage(f"not an image: {what}" if what else "not an image") from error
    except Exception as error:  # a damaged header can raise nearly anything inside a decoder
        raise BadImage(f"damaged: {error}") from error


def _frames(image: Image.Image) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(image, "n_frames", 1)
    except Exception as error:  # the headers of later frames are read here, and may be damaged too
        raise BadImage(f"damaged: {error}") from error


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":  # Pillow turns these itself, as it loads them
        return 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            turned = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF: the picture itself may be sound, and upright is all one can assume
        return 1
    return turned if turned in range(1, 9) else 1


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;16")


def _notes(image: Image.Image, turned: int) -> list[str]:
    notes = []
    if turned != 1:
        notes.append("turned upright as its EXIF orientation says")
    if image.mode == "CMYK":
        notes.append("converted from CMYK to RGB")
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        notes.append("scaled from 16 to 8 bits")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        notes.append("laid over white where transparent")
    return notes


def _misnamed(name: str, form: str) -> list[str]:
    if name.lower().endswith(EXTENSIONS[form]):
        return []
    return [f"named {os.path.splitext(name)[1] or 'without extension'} but holds {form}"]


def digest(data: bytes) -> bytes:
    """SHA-256 of `data`: 32 bytes; byte copies of a file share it."""
    return hashlib.sha256(data).digest()


def _load(image: Image.Image) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error ...
        reason = "truncated" if "truncated" in str(error) else "damaged"
        raise BadImage(f"{reason}: {error}") from error
    return image


def _eight_bits(image: Image.Image, under: str = "white") -> Image.Image:
    """Mode L or RGB, 8 bits a channel; transparency over the colour `under`, 16-bit values divided by 257."""
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        return Image.fromarray((np.clip(np.asarray(image, np.int64), 0, 65535) / 257 + 0.5).astype(np.uint8))
    if image.mode == "F":
        return Image.fromarray(np.clip(np.nan_to_num(np.asarray(image)) + 0.5, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, under), clear).convert("RGB")
    return image.convert("L" if image.mode == "1" else "RGB")


class Thumbnail(NamedTuple):
    """`grey`: float32 [16, 16], 0..255, upright, area means of the whole picture. `strict`: the decoder that training
    uses, which forgives no damage, reads the file."""

    grey: np.ndarray
    strict: bool


def thumbnail(photo: Photo) -> Thumbnail:
    """The picture in small. Decodes every compressed byte.

    A JPEG is decoded at half size inside the inverse DCT: copies differ by at most 0.41 grey levels (root mean
    square), flipped ones included; at an eighth they differ by 4.3, because the 8 x 8 blocks of a flipped copy lie
    elsewhere. Raises: BadImage when the pixels are damaged.
    """
    values, scale, strict = _grey_and_scale(photo)
    width, height = (photo.width, photo.height) if photo.turned < 5 else (photo.height, photo.width)
    rows = _area_weights(values.shape[0], height / scale, THUMB_PX)
    columns = _area_weights(values.shape[1], width / scale, THUMB_PX)
    small = rows @ values.astype(np.float32) @ columns.T
    return Thumbnail(small if photo.turned == 1 else np.asarray(_upright(Image.fromarray(small), photo.turned)), strict)


def _grey_and_scale(photo: Photo) -> tuple[np.ndarray, int, bool]:
    """Grey pixels [H, W], 0..255, as stored (not turned), by how much each side was divided (1 or 2), and `strict`."""
    half = photo.format == "JPEG" and min(photo.width, photo.height) >= 4 * THUMB_PX
    if photo.plain:
        try:  # 132 us for 227 px; Pillow takes 290 to hand the same pixels over, but forgives more
            least = {"min_height": (photo.height + 1) // 2, "min_width": (photo.width + 1) // 2, "min_factor": 2}
            return simplejpeg.decode_jpeg(photo.data, "GRAY", **least if half else {})[..., 0], 1 + half, True
        except ValueError:
            pass  # Pillow decides whether it can be used, and says why not
    image = _open(photo.data)
    if half:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            full = image.size
            image.draft("L", (full[0] // 2, full[1] // 2))  # it halves only when asked for no more than half
            half = image.size != full
    grey = _eight_bits(_load(image))
    return np.asarray(grey if grey.mode == "L" else grey.convert("L")), 1 + half, not photo.plain


@functools.lru_cache(maxsize=64)
def _area_weights(size: int, extent: float, cells: int) -> np.ndarray:
    """float32 [cells, size]: how much of each of `size` pixels, of which `extent` count, lies in each of `cells`.

    Pillow's own box filter takes a pixel wholly or not at all, which moves a flipped copy by part of a pixel.
    """
    edges = np.linspace(0, extent, cells + 1)
    left, right = np.arange(size), np.arange(size) + 1
    overlap = np.minimum(edges[1:, None], right) - np.maximum(edges[:-1, None], left)
    weights = np.clip(overlap, 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def pixels(photo: Photo, channels: int, image_px: int, under: str = "white") -> np.ndarray:
    """The decoded picture: uint8 [H, W, channels], 0..255, upright; [image_px, image_px, channels] unless 0. `under`:
    the colour that it is laid over where it is transparent.

    Raises: BadImage when the pixels are damaged.
    """
    values = _decoded(photo, channels, under)
    return resize_array(values, image_px) if image_px and values.shape[:2] != (image_px, image_px) else values


def _decoded(photo: Photo, channels: int, under: str) -> np.ndarray:
    if photo.plain and not photo.grey and channels == 3:
        try:  # the same pixels as Pillow's, in half the time and without a second copy of them
            return simplejpeg.decode_jpeg(photo.data, "RGB")
        except ValueError:
            pass  # Pillow decides whether it can be used, and says why not
    picture = _upright(_eight_bits(_load(_open(photo.data)), under), photo.turned)
    picture = picture.convert("L" if channels == 1 else "RGB")
    return np.asarray(picture)[..., None] if channels == 1 else np.asarray(picture)


def _upright(picture: Image.Image, turned: int) -> Image.Image:
    return picture.transpose(UPRIGHT[turned]) if turned in UPRIGHT else picture


def resize_array(values: np.ndarray, image_px: int) -> np.ndarray:
    """uint8 [H, W, C] to uint8 [image_px, image_px, C]: area means when it shrinks, linear when it grows.

    The sides scale alone, so that nothing is cut off and the label stays true. The same pixels, give or take one
    level, as `decoding.to_size` makes while training: Pillow's box filter was up to 20 levels off on average.
    """
    height, width = values.shape[:2]
    if min(height, width) >= image_px:
        rows, columns = _area_weights(height, height, image_px), _area_weights(width, width, image_px)
        means = np.einsum("yhc,xh->yxc", np.tensordot(rows, values.astype(np.float32), 1), columns, optimize=True)
        return (means + 0.5).astype(np.uint8)
    picture = Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)
    grown = np.asarray(picture.resize((image_px, image_px), Image.Resampling.BILINEAR))
    return grown[..., None] if values.shape[-1] == 1 else grown


def grey(values: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 1] of uint8 [H, W, 3], weighted as Pillow and JPEG do."""
    return np.asarray(Image.fromarray(values).convert("L"))[..., None]


def scaled(
    values: np.ndarray, height: int, width: int, rows: slice = slice(None), columns: slice = slice(None)
) -> np.ndarray:
    """uint8 [H, W, C] to uint8 [height, width, C], or `rows` and `columns` of that, neighbours each.

    As `resize_array` does, for photographs: in bands, on all cores, with little memory beside the two pictures. 12
    megapixels to 3.9 take 0.06 s on 2 cores.
    """
    if values.shape[:2] == (height, width):
        return values[rows, columns]
    (first, last, _), (left, right, _) = rows.indices(height), columns.indices(width)
    down, across = _taps(values.shape[0], height), [tap[left:right] for tap in _taps(values.shape[1], width)]
    out = np.empty((last - first, right - left, values.shape[2]), np.uint8)

    def fill(top: int) -> None:
        band = slice(top, min(top + BAND_ROWS, last))
        means = _mixed(values, down[0][band], down[1][band])
        means = _mixed(means.transpose(1, 0, 2), *across).transpose(1, 0, 2)
        out[band.start - first : band.stop - first] = np.add(means, 0.5, out=means)

    with futures.ThreadPoolExecutor(workers.count(0)) as pool:
        for done in [pool.submit(fill, top) for top in range(first, last, BAND_ROWS)]:
            done.result()
    return out


def _taps(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(int64 [count, T], float32 [count, T]): of which of `size` pixels each of `count` is made, and how much of each:
    areas when there are fewer of them, neighbours when there are more."""
    step = size / count
    if step >= 1:
        start = np.arange(count) * step
        place = np.floor(start).astype(np.int64)[:, None] + np.arange(int(np.ceil(step)) + 1)
        share = np.minimum(place + 1, (start + step)[:, None]) - np.maximum(place, start[:, None])
    else:
        middle = np.clip((np.arange(count) + 0.5) * step - 0.5, 0, size - 1)
        low = np.floor(middle).astype(np.int64)
        place, share = np.stack([low, low + 1], 1), np.stack([1 - (middle - low), middle - low], 1)
    share = np.clip(share, 0, None)
    return np.minimum(place, size - 1), (share / share.sum(1, keepdims=True)).astype(np.float32)


def _mixed(values: np.ndarray, place: np.ndarray, share: np.ndarray) -> np.ndarray:
    """float32 [count, ...]: rows of `values`, weighted."""
    total = values[place[:, 0]] * share[:, 0].reshape(-1, 1, 1)
    for tap in range(1, place.shape[1]):
        total += values[place[:, tap]] * share[:, tap].reshape(-1, 1, 1)
    return total


def encode(values: np.ndarray, encoding: str, jpeg_quality: int) -> bytes:
    """`values` uint8 [H, W, C] as `jpeg`, `png` or `raw` bytes (raw: row by row, channels last)."""
    if encoding == "raw":
        return values.tobytes()
    values = np.ascontiguousarray(values)
    if encoding == "jpeg":
        kind, subsampling = ("GRAY", "Gray") if values.shape[-1] == 1 else ("RGB", "444")
        return simplejpeg.encode_jpeg(values, jpeg_quality, kind, subsampling)
    buffer = io.BytesIO()
    Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()
