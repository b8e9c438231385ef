"""Files become checked pixels: what is accepted, what is refused and why, and what was changed on the way.

Synopsis::

    photo = images.open_photo(path, max_megapixels=100)     # raises BadImage with the reason
    grey = images.thumbnail(photo).grey                     # float32 [16, 16], 0..255, exact area means
    pixels = images.pixels(photo, channels=3, image_px=0)   # uint8 [H, W, 3], upright

Which value is white in a picture of more than 8 bits is `data.bit_depth`'s to say. A file whose data end early, by
`data.jpeg_damage` and `data.file_damage`, is refused: what a decoder fills in for the rest has no cracks. Transparency
that is complete everywhere says nothing, and the colours below it are taken.

Not covered: pictures with several frames; colour profiles (pixels are taken as they are).
"""

import contextlib
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
from crackflow.data import bit_depth, file_damage, file_kinds, jpeg, jpeg_damage, tiff_directory, tiff_file

THUMB_PX = 16
BAND_ROWS = 64  # of a photograph, scaled at once
MAX_FILE_BYTES = 1 << 30
MIN_SIDE_PX = 16  # a cell of the networks, and of the thumbnails by which copies are found
MAX_SIDE_PX = 65_500  # the longest side a JPEG can have; a narrow strip of 1e8 pixels also took 26 GB to average
ORIENTATION_TAG = 0x0112
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
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
}
ONE_PICTURE = ("JPEG", "MPO", "BMP", "PPM")  # of MPO, what follows the first is another view
TRANSPARENT = "laid over white where transparent"
# Size is checked here, before a pixel is decoded, with a message of our own.
Image.MAX_IMAGE_PIXELS = None


class BadImage(Exception):
    """This file cannot be used; the message is the reason that rejected.csv gives."""


@dataclasses.dataclass(frozen=True)
class Photo:
    """A picture whose header was read. `width`, `height`: in pixels, upright. `turned`: EXIF orientation, 1 to 8.
    `grey`: it has no colours. `plain`: an upright baseline JPEG, whose bytes may be stored as they are. `decoded`: as
    stored, in mode L, LA, RGB or RGBA, of a picture that had to be decoded to know how it is to be read, else None."""

    data: bytes
    format: str
    width: int
    height: int
    turned: int
    grey: bool
    plain: bool
    notes: tuple[str, ...]
    decoded: Image.Image | None = None


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


def open_photo(path: str, max_megapixels: float, min_side_px: int = MIN_SIDE_PX) -> Photo:
    """The picture in `path`, its header read and checked, its pixels not yet decoded unless they must be, to know how
    they are meant. Raises: BadImage."""
    return parse_photo(read_file(path), path, max_megapixels, min_side_px)


def parse_photo(data: bytes, name: str, max_megapixels: float, min_side_px: int = MIN_SIDE_PX) -> Photo:
    """As `open_photo`, from bytes; `name` is only compared with what the bytes are."""
    header = jpeg.read_header(data)
    limits = max_megapixels, min_side_px
    if header and header.simple:
        _expect_size(header.width, header.height, *limits)
        notes = _misnamed(name, "JPEG")
        return Photo(data, "JPEG", header.width, header.height, 1, header.components == 1, True, tuple(notes))
    _expect_modest(data)
    image = _open_or_none(data)
    if image is None or tiff_file.is_beyond_pillow(image):
        return _parse_odd_tiff(data, name, *limits)
    if image.format not in EXTENSIONS:
        raise BadImage(f"{image.format} is not supported: expected one of {', '.join(EXTENSIONS)}")
    if image.format == "TIFF" and tiff_file.is_raw(image.tag_v2):
        raise BadImage(tiff_file.RAW)
    width, height = image.size
    _expect_size(width, height, *limits)
    pages = _expect_one_picture(data, image.format)
    decoded, told = _decoded_early(data, image)  # before its EXIF, for which Pillow loads a PNG
    turned = _orientation(image)
    if turned >= 5:
        width, height = height, width
    plain = header is not None and header.baseline and turned == 1 and image.mode in ("L", "RGB")
    grey = _is_grey(image) or (decoded is not None and decoded.mode == "L")
    notes = _notes(image, turned) + pages + _misnamed(name, image.format) + told
    return Photo(data, image.format, width, height, turned, grey, plain, tuple(notes), decoded)


def _expect_modest(data: bytes) -> None:
    if not tiff_file.is_tiff(data):
        return
    try:
        tiff_directory.expect_modest(data)
    except tiff_directory.TooMuch as error:
        raise BadImage(str(error)) from error


def _parse_odd_tiff(data: bytes, name: str, *limits: float) -> Photo:
    """Of a TIFF that Pillow does not open, or not with all its bits."""
    try:
        page = tiff_file.read_header(data)
        _expect_size(page.width, page.height, *limits)
        decoded, note = bit_depth.to_eight(tiff_file.read_samples(data))
    except (tiff_file.TiffError, bit_depth.DepthError) as error:
        raise BadImage(str(error)) from error
    turned = page.turned if page.turned in UPRIGHT else 1
    width, height = (page.height, page.width) if turned >= 5 else (page.width, page.height)
    decoded, transparent = _without_empty_alpha(decoded)
    notes = [note, *transparent, *_misnamed(name, "TIFF")]
    return Photo(data, "TIFF", width, height, turned, decoded.mode in ("L", "LA"), False, tuple(notes), decoded)


def _expect_size(width: int, height: int, max_megapixels: float, min_side_px: int) -> None:
    if width * height > max_megapixels * 1e6:
        size = f"{width} x {height} = {width * height / 1e6:,.0f} megapixels"
        raise BadImage(f"{size}: expected at most {max_megapixels:g} (--max_megapixels)")
    if max(width, height) > MAX_SIDE_PX:
        raise BadImage(f"{width} x {height} pixels: expected at most {MAX_SIDE_PX:,} a side")
    if min(width, height) < min_side_px:
        raise BadImage(f"{width} x {height} pixels: expected at least {min_side_px} on each side")


def _open_or_none(data: bytes) -> Image.Image | None:
    """None for a TIFF of a kind that Pillow does not know. Raises: BadImage."""
    try:
        return _open(data)
    except BadImage:
        if tiff_file.is_tiff(data):
            return None
        raise


def _expect_one_picture(data: bytes, form: str) -> list[str]:
    """What there is to say of further pages. Raises: BadImage when they are other pictures."""
    if form in ONE_PICTURE:
        return []
    frames, damage = 1, None
    try:
        frames = _frames(_open(data))
    except BadImage as error:  # of a later page; Pillow knows none of transparency masks
        damage = error
    if frames == 1 and damage is None:
        return []
    if form != "TIFF" or not tiff_file.is_one_picture(data):
        raise damage or BadImage(
            f"animated or multi-page, {frames} frames: expected one picture; save the frame you need"
        )
    return ["read from its first page, of which the others are smaller copies or masks"]


def _open(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(data))
    except Image.UnidentifiedImageError as error:
        if data[4:8] == b"ftyp":  # ISO base media: HEIC and AVIF of telephones, and films
            raise BadImage("HEIC, AVIF or a film: save it as JPEG") from error
        if data[:3] == b"PF\n":
            raise BadImage("PFM in colours: save it as TIFF or PNG") from error
        what = file_kinds.describe(data)
        raise BadImage(f"not an image: {what}" if what else "not an image") from error
    except Exception as error:  # a damaged header can raise nearly anything inside a decoder
        cut = file_damage.describe(data, "WEBP") if data[:4] == b"RIFF" else ""  # of which Pillow opens none
        raise BadImage(cut or f"damaged: {error}") from error


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
    return notes


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def _decoded_early(data: bytes, image: Image.Image) -> tuple[Image.Image | None, list[str]]:
    """(`Photo.decoded`, notes): of deep and of transparent pictures, whose values say how they are meant."""
    if bit_depth.is_deep(image):
        return _decoded_deep(data, image)
    if not _has_alpha(image):
        return None, []
    colours_alone = bit_depth.rawmode_of(image) == "RGBa"  # multiplied by alpha, of which 0 leaves nothing to divide
    picture, notes = _without_empty_alpha(_load(data, image))
    if colours_alone and picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (0, 0):
        return _without_empty_alpha(Image.fromarray(bit_depth.read_as(data, "RGBA"), "RGBA"))
    return picture, notes


def _decoded_deep(data: bytes, image: Image.Image) -> tuple[Image.Image, list[str]]:
    _expect_whole(data, image)
    try:
        samples = bit_depth.read(data)
        picture, note = bit_depth.to_eight(samples)
    except bit_depth.DepthError as error:
        raise BadImage(str(error)) from error
    except Exception as error:  # of Pillow's decoders
        raise _damaged(error) from error
    if _is_packed(image):
        _expect_written(samples.colours)
    picture, notes = _without_empty_alpha(picture)
    return picture, [note, *notes]


def _without_empty_alpha(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """(`image` in mode L, RGB or, where it is transparent in part, RGBA, notes). Alpha that is 0 everywhere is what
    renderers and camera drivers leave that don't use it; over one single colour it means an empty layer, and stays."""
    if not _has_alpha(image):
        return image, []
    clear = image.convert("RGBA")
    least, most = clear.getchannel("A").getextrema()
    plain = clear.convert("L" if image.mode in ("LA", "La") else "RGB")
    if least == 255:
        return plain, [TRANSPARENT]
    extrema = plain.getextrema() if plain.mode == "RGB" else [plain.getextrema()]
    if most == 0 and any(low < high for low, high in extrema):
        return plain, ["its colours were taken, although it says that all of it is transparent"]
    return clear, [TRANSPARENT]


def _misnamed(name: str, form: str) -> list[str]:
    if name.lower().endswith(EXTENSIONS[form]):
        return []
    return [f"named {os.path.splitext(name)[1] or 'without extension'} but holds {form}"]


def digest(data: bytes) -> bytes:
    """SHA-256 of `data`: 32 bytes; byte copies of a file share it."""
    return hashlib.sha256(data).digest()


def _expect_whole(data: bytes, image: Image.Image) -> None:
    """Raises: BadImage when part of the file `data`, opened as `image`, is lost and its decoder passes over that."""
    tags = image.tag_v2 if image.format == "TIFF" else {}
    if reason := file_damage.describe_tiff(data, tags) if tags else file_damage.describe(data, image.format):
        raise BadImage(reason)


def _load(data: bytes, image: Image.Image) -> Image.Image:
    """`image`, opened from `data`, with its pixels. Raises: BadImage."""
    _expect_whole(data, image)
    packed = _is_packed(image)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error ...
        raise _damaged(error) from error
    if packed:
        _expect_written(np.asarray(image))
    return image


def _is_packed(image: Image.Image) -> bool:
    """Whether the pixels of `image`, not loaded yet, lie in its file without compression."""
    return bool(image.tile) and image.tile[0].codec_name == "raw"


def _expect_written(values: np.ndarray) -> None:
    if reason := file_damage.describe_blank_rows(values):
        raise BadImage(reason)


def _damaged(error: Exception) -> BadImage:
    return BadImage(f"damaged: truncated: {error}" if "truncated" in str(error) else f"damaged: {error}")


def layers(photo: Photo) -> Image.Image:
    """The decoded picture, upright, 8 bits a channel: mode L or RGB, or RGBA where it is transparent in part.

    Raises: BadImage when the pixels are damaged.
    """
    values, _ = _from_jpeg(photo, "GRAY" if photo.grey else "RGB")
    if values is not None:
        picture = Image.fromarray(values[..., 0] if photo.grey else values)
    else:
        picture = photo.decoded or _eight_bits(_load(photo.data, _open(photo.data)))
    return _upright(picture, photo.turned)


def _from_jpeg(photo: Photo, space: str, **scale: int) -> tuple[np.ndarray | None, bool]:
    """(uint8 [H, W, 1 or 3], as stored, of a JPEG, whether a decoder that forgives nothing made it); None where Pillow
    is to read it: of other formats and of four inks. Raises: BadImage when part of it is lost."""
    if photo.format not in ("JPEG", "MPO"):
        return None, False
    header = jpeg.read_header(photo.data)
    try:  # the same pixels as Pillow's, in half the time and without a second copy of them
        if header is None or header.components not in (1, 3):
            raise ValueError("not for this decoder")
        values, strict = simplejpeg.decode_jpeg(photo.data, space, **scale), True
        reason = jpeg_damage.describe_silent(photo.data, photo.plain)
    except ValueError:
        values, strict, reason = None, False, jpeg_damage.describe(photo.data)
    if reason:
        raise BadImage(reason)
    if values is None and header and header.components in (1, 3):
        with contextlib.suppress(ValueError):  # bytes that no pixel needs; Pillow takes some of them for a loss
            values = simplejpeg.decode_jpeg(photo.data, space, strict=False, **scale)
    return values, strict


def _eight_bits(image: Image.Image) -> Image.Image:
    """Mode L or RGB."""
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


def _laid_over(picture: Image.Image, under: str) -> Image.Image:
    """`picture` in mode L, RGB or RGBA in mode L or RGB, over the colour `under` where it is transparent."""
    if picture.mode != "RGBA":
        return picture
    if under == "white" and picture.getchannel("A").getextrema() == (0, 0):
        raise BadImage("transparent everywhere, and of one colour: there is nothing to see")
    return Image.alpha_composite(Image.new("RGBA", picture.size, under), picture).convert("RGB")


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
    width, height = (photo.width, photo.height) if photo.turned < 5 else (photo.height, photo.width)
    # 132 us for 227 px; Pillow takes 290 to hand the same pixels over
    least = {"min_height": (height + 1) // 2, "min_width": (width + 1) // 2, "min_factor": 2} if half else {}
    values, strict = _from_jpeg(photo, "GRAY", **least)
    if values is not None:
        return values[..., 0], 1 + half, strict
    image = photo.decoded or _open(photo.data)
    if half:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            full = image.size
            image.draft("L", (full[0] // 2, full[1] // 2))  # it halves only when asked for no more than half
            half = image.size != full
    grey = _laid_over(photo.decoded or _eight_bits(_load(photo.data, image)), "white")
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
    return resize_array(values, image_px) if image_px else values


def _decoded(photo: Photo, channels: int, under: str) -> np.ndarray:
    picture = _laid_over(layers(photo), under).convert("L" if channels == 1 else "RGB")
    return np.asarray(picture)[..., None] if channels == 1 else np.asarray(picture)


def _upright(picture: Image.Image, turned: int) -> Image.Image:
    return picture.transpose(UPRIGHT[turned]) if turned in UPRIGHT else picture


def resize_array(values: np.ndarray, image_px: int) -> np.ndarray:
    """uint8 [H, W, C] to uint8 [image_px, image_px, C]: area means when it shrinks, linear when it grows.

    The sides scale alone, so that nothing is cut off and the label stays true. The same pixels, give or take one
    level, as `decoding.to_size` makes while training: Pillow's box filter was up to 20 levels off on average.
    """
    height, width = values.shape[:2]
    if height == width == image_px:
        return values
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
        means = _mixed(_mixed(values, down[0][band], down[1][band], 0), *across, 1)
        out[band.start - first : band.stop - first] = np.add(means, 0.5, out=means)

    with futures.ThreadPoolExecutor(workers.count(0)) as pool:
        for done in [pool.submit(fill, top) for top in range(first, last, BAND_ROWS)]:
            done.result()
    return out


def scaled_batch(
    batch: np.ndarray, height: int, width: int, rows: slice = slice(None), columns: slice = slice(None)
) -> np.ndarray:
    """As `scaled` does with each of `batch`: uint8 [B, H, W, C] to uint8 [B, height, width, C]. All at once, as one
    picture of B x C channels: 9 of 227 pixels made as large as 256 take half the time each that they take alone."""
    count, *size, channels = batch.shape
    beside = batch.transpose(1, 2, 0, 3).reshape(*size, count * channels)
    made = scaled(beside, height, width, rows, columns)
    return made.reshape(*made.shape[:2], count, channels).transpose(2, 0, 1, 3)


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


def _mixed(values: np.ndarray, place: np.ndarray, share: np.ndarray, axis: int) -> np.ndarray:
    """float32 [count, W, C], or [H, count, C] for `axis` 1: rows or columns of `values`, weighted. Columns are taken
    where they lie: rows of the transposed picture took a third longer in all."""
    share = share.T[..., None, None] if axis == 0 else share.T[:, None, :, None]
    total = values.take(place[:, 0], axis) * share[0]
    for tap in range(1, place.shape[1]):
        total += values.take(place[:, tap], axis) * share[tap]
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
