"""Reading of image files: which are accepted, which are refused and why, and what is changed on the way.

Synopsis::

    photo = image_file.open_photo(path, max_megapixels=100)     # raises ImageError with the reason
    grey = thumbnail.thumbnail(photo).grey                     # float32 [16, 16], 0..255, exact area means
    pixels = image_file.pixels(photo, channels=3, image_px=0)   # uint8 [H, W, 3], upright

`data.bit_depth` decides which value is white in an image of more than 8 bits. A file whose data end early according to
`data.jpeg_damage` or `data.file_damage` is refused: what a decoder fills in for the rest has no cracks. Alpha that is
transparent everywhere says nothing, and the colours below it are used.

Not covered: several frames; colour profiles (pixels are used as they are).
"""

import contextlib
import dataclasses
import hashlib
import io
import os
import stat
import warnings

import numpy as np
import simplejpeg
from PIL import Image, ImageFile, UnidentifiedImageError

from crackflow.core.errors import ImageError
from crackflow.data import (
    bit_depth,
    file_damage,
    file_kinds,
    jpeg_damage,
    jpeg_header,
    resize,
    tiff_directory,
    tiff_file,
    transparency,
)

MAX_FILE_BYTES = 1 << 30
MIN_SIDE_PX = 16  # a cell of the networks, and of the thumbnails by which copies are detected
MAX_SIDE_PX = 65_500  # the longest side a JPEG can have; a narrow strip of 1e8 pixels also took 26 GB to average
ORIENTATION_TAG = 0x0112
UPRIGHT = {  # EXIF orientation -> the transposition that turns the image upright
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
ONE_PICTURE = ("JPEG", "MPO", "BMP", "PPM")  # in MPO, the later images are other views
# Size is checked here, before a pixel is decoded, with our own message.
Image.MAX_IMAGE_PIXELS = None


@dataclasses.dataclass(frozen=True)
class EncodedImage:
    """An image whose header was read.

    Attributes:
        width, height: in pixels, upright; orientation: EXIF orientation, 1 to 8; grey: whether it has no colours.
        can_store_as_is: whether it is an upright baseline JPEG, whose bytes may be stored as they are.
        decoded: the image as stored, in mode L, LA, RGB or RGBA, if only its values say how it is to be read.
    """

    data: bytes
    format: str
    width: int
    height: int
    orientation: int
    grey: bool
    can_store_as_is: bool
    notes: tuple[str, ...]
    decoded: Image.Image | None = None


def read_file(path: str) -> bytes:
    """Reads a regular file. Raises: ImageError when it is none, or is empty, too large or unreadable."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise ImageError(f"the file has {status.st_size >> 20:,} MiB: expected at most {MAX_FILE_BYTES >> 20:,}")
        with open(path, "rb", buffering=0) as file:  # one read: a buffer doubled the time
            data = file.read(status.st_size + 1)  # Python allocates the requested size before it reads
    except OSError as error:
        raise ImageError(f"unreadable: {error.strerror}") from error
    if not data:
        raise ImageError("empty file")
    if len(data) < status.st_size:
        raise ImageError(f"unreadable: {len(data):,} of {status.st_size:,} bytes came; try again")
    return data


def open_photo(path: str, max_megapixels: float, min_side_px: int = MIN_SIDE_PX) -> EncodedImage:
    """Reads and checks the header of the image in `path`. Its pixels are decoded only if they are needed to know how
    they are to be read. Raises: ImageError."""
    return parse_photo(read_file(path), path, max_megapixels, min_side_px)


def parse_photo(data: bytes, name: str, max_megapixels: float, min_side_px: int = MIN_SIDE_PX) -> EncodedImage:
    """Does the same as `open_photo` for bytes; `name` is only compared with their format."""
    header = jpeg_header.read_header(data)
    limits = max_megapixels, min_side_px
    if header and header.simple:
        _require_size(header.width, header.height, *limits)
        notes = _extension_notes(name, "JPEG")
        return EncodedImage(data, "JPEG", header.width, header.height, 1, header.components == 1, True, tuple(notes))
    _require_modest_tiff(data)
    image = _open_or_none(data)
    if image is None or tiff_file.is_beyond_pillow(image):
        return _parse_odd_tiff(data, name, *limits)
    if image.format not in EXTENSIONS:
        raise ImageError(f"{image.format} is not supported: expected one of {', '.join(EXTENSIONS)}")
    if tiff_file.is_raw(bit_depth.tags_of(image)):
        raise ImageError(tiff_file.RAW)
    width, height = image.size
    _require_size(width, height, *limits)
    pages = _require_one_picture(data, image.format)
    decoded, early_notes = _decode_early(data, image)  # before reading EXIF, for which Pillow loads a PNG
    turned = _orientation(image)
    if turned >= 5:
        width, height = height, width
    plain = header is not None and header.baseline and turned == 1 and image.mode in ("L", "RGB")
    grey = _is_grey(image) or (decoded is not None and decoded.mode == "L")
    notes = _conversion_notes(image, turned) + pages + _extension_notes(name, image.format) + early_notes
    return EncodedImage(data, image.format, width, height, turned, grey, plain, tuple(notes), decoded)


def _require_modest_tiff(data: bytes) -> None:
    if not tiff_file.is_tiff(data):
        return
    try:
        tiff_directory.require_modest(data)
    except tiff_directory.TiffLimitError as error:
        raise ImageError(str(error)) from error


def _parse_odd_tiff(data: bytes, name: str, max_megapixels: float, min_side_px: int) -> EncodedImage:
    """Parses a TIFF that Pillow does not open, or not with all its bits."""
    try:
        page = tiff_file.read_header(data)
        _require_size(page.width, page.height, max_megapixels, min_side_px)
        decoded, note = bit_depth.to_eight(tiff_file.read_samples(data))
    except (tiff_file.TiffError, bit_depth.DepthError) as error:
        raise ImageError(str(error)) from error
    turned = page.orientation if page.orientation in UPRIGHT else 1
    width, height = (page.height, page.width) if turned >= 5 else (page.width, page.height)
    decoded, transparent = transparency.without_empty_alpha(decoded)
    notes = [note, *transparent, *_extension_notes(name, "TIFF")]
    return EncodedImage(data, "TIFF", width, height, turned, decoded.mode in ("L", "LA"), False, tuple(notes), decoded)


def _require_size(width: int, height: int, max_megapixels: float, min_side_px: int) -> None:
    if width * height > max_megapixels * 1e6:
        size = f"{width} x {height} = {width * height / 1e6:,.0f} megapixels"
        raise ImageError(f"{size}: expected at most {max_megapixels:g} (--max_megapixels)")
    if max(width, height) > MAX_SIDE_PX:
        raise ImageError(f"{width} x {height} pixels: expected at most {MAX_SIDE_PX:,} a side")
    if min(width, height) < min_side_px:
        raise ImageError(f"{width} x {height} pixels: expected at least {min_side_px} on each side")


def _open_or_none(data: bytes) -> ImageFile.ImageFile | None:
    """Returns None for a TIFF of a kind that Pillow does not know. Raises: ImageError."""
    try:
        return open_image(data)
    except ImageError:
        if tiff_file.is_tiff(data):
            return None
        raise


def _require_one_picture(data: bytes, form: str) -> list[str]:
    """Returns notes on further pages. Raises: ImageError when they are other images."""
    if form in ONE_PICTURE:
        return []
    frames, damage = 1, None
    try:
        frames = _count_frames(open_image(data))
    except ImageError as error:  # about a later page; Pillow does not know transparency masks
        damage = error
    if frames == 1 and damage is None:
        return []
    if form != "TIFF" or not tiff_file.is_one_picture(data):
        raise damage or ImageError(
            f"animated or multi-page, {frames} frames: expected one picture; save the frame you need"
        )
    return ["read from its first page, of which the others are smaller copies or masks"]


def open_image(data: bytes) -> ImageFile.ImageFile:
    """Opens `data` with Pillow, without decoding pixels. Raises: ImageError with the reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        if data[4:8] == b"ftyp":  # ISO base media: HEIC and AVIF of phones, and films
            raise ImageError("HEIC, AVIF or a film: save it as JPEG") from error
        if data[:3] == b"PF\n":
            raise ImageError("PFM in colours: save it as TIFF or PNG") from error
        what = file_kinds.describe(data)
        raise ImageError(f"not an image: {what}" if what else "not an image") from error
    except Exception as error:  # a damaged header can raise nearly anything inside a decoder
        cut = file_damage.describe(data, "WEBP") if data[:4] == b"RIFF" else ""  # Pillow opens no truncated one
        raise ImageError(cut or f"damaged: {error}") from error


def _count_frames(image: Image.Image) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(image, "n_frames", 1)
    except Exception as error:  # the headers of later frames are read here, and may be damaged too
        raise ImageError(f"damaged: {error}") from error


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":  # Pillow turns these itself when it loads them
        return 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            turned = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF: the image itself may be sound, and is assumed to be upright
        return 1
    return turned if turned in range(1, 9) else 1


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;16")


def _conversion_notes(image: Image.Image, turned: int) -> list[str]:
    notes = ["turned upright as its EXIF orientation says"] if turned != 1 else []
    if image.mode == "CMYK":
        notes.append("converted from CMYK to RGB")
    return notes


def _decode_early(data: bytes, image: ImageFile.ImageFile) -> tuple[Image.Image | None, list[str]]:
    """Returns (`EncodedImage.decoded`, notes) for deep and transparent images, which only their values describe."""
    if bit_depth.is_deep(image):
        return _decode_deep(data, image)
    if not transparency.has_alpha(image):
        return None, []
    colours_alone = bit_depth.rawmode_of(image) == "RGBa"  # multiplied by alpha: where that is 0 nothing is left
    picture, notes = transparency.without_empty_alpha(load_pixels(data, image))
    if colours_alone and picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (0, 0):
        return transparency.without_empty_alpha(Image.fromarray(bit_depth.read_as(data, "RGBA"), "RGBA"))
    return picture, notes


def _decode_deep(data: bytes, image: ImageFile.ImageFile) -> tuple[Image.Image, list[str]]:
    _require_whole(data, image)
    try:
        samples = bit_depth.read(data)
        picture, note = bit_depth.to_eight(samples)
    except bit_depth.DepthError as error:
        raise ImageError(str(error)) from error
    except Exception as error:  # from Pillow's decoders
        raise _damage_error(error) from error
    if _is_packed(image):
        _require_written(samples.colours)
    picture, notes = transparency.without_empty_alpha(picture)
    return picture, [note, *notes]


def _extension_notes(name: str, form: str) -> list[str]:
    if name.lower().endswith(EXTENSIONS[form]):
        return []
    return [f"named {os.path.splitext(name)[1] or 'without extension'} but holds {form}"]


def digest(data: bytes) -> bytes:
    """Returns the SHA-256 of `data`, 32 bytes; byte copies of a file share it."""
    return hashlib.sha256(data).digest()


def _require_whole(data: bytes, image: ImageFile.ImageFile) -> None:
    """Raises: ImageError when part of the file `data`, opened as `image`, is lost and its decoder would ignore that."""
    tags = bit_depth.tags_of(image)
    if reason := file_damage.describe_tiff(data, tags) if tags else file_damage.describe(data, image.format):
        raise ImageError(reason)


def load_pixels(data: bytes, image: ImageFile.ImageFile) -> Image.Image:
    """Loads the pixels of `image`, which was opened from `data`. Raises: ImageError."""
    _require_whole(data, image)
    packed = _is_packed(image)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error ...
        raise _damage_error(error) from error
    if packed:
        _require_written(np.asarray(image))
    return image


def _is_packed(image: ImageFile.ImageFile) -> bool:
    """Whether the pixels of `image`, which is not loaded yet, lie in its file without compression."""
    return bool(image.tile) and image.tile[0].codec_name == "raw"


def _require_written(values: np.ndarray) -> None:
    if reason := file_damage.describe_blank_rows(values):
        raise ImageError(reason)


def _damage_error(error: Exception) -> ImageError:
    return ImageError(f"damaged: truncated: {error}" if "truncated" in str(error) else f"damaged: {error}")


def layers(photo: EncodedImage) -> Image.Image:
    """Decodes an image, upright, with 8 bits per channel: mode L or RGB, or RGBA where it is partly transparent.

    Raises: ImageError when the pixels are damaged."""
    values, _ = decode_jpeg(photo, "GRAY" if photo.grey else "RGB")
    if values is not None:
        picture = Image.fromarray(values[..., 0] if photo.grey else values)
    else:
        picture = photo.decoded or to_eight_bits(load_pixels(photo.data, open_image(photo.data)))
    return upright(picture, photo.orientation)


def decode_jpeg(photo: EncodedImage, space: str, **scale: int) -> tuple[np.ndarray | None, bool]:
    """Returns (the pixels of a JPEG as stored, uint8 [H, W, 1 or 3]; whether a strict decoder read them). The pixels
    are
    None where Pillow is to read the file: other formats, and JPEG of four inks. Raises: ImageError when part is
    lost."""
    if photo.format not in ("JPEG", "MPO"):
        return None, False
    header = jpeg_header.read_header(photo.data)
    try:  # the same pixels as Pillow's, in half the time and without a second copy of them
        if header is None or header.components not in (1, 3):
            raise ValueError("not for this decoder")
        values, strict = simplejpeg.decode_jpeg(photo.data, space, **scale), True
        reason = jpeg_damage.describe_silent(photo.data, photo.can_store_as_is)
    except ValueError:
        values, strict, reason = None, False, jpeg_damage.describe(photo.data)
    if reason:
        raise ImageError(reason)
    if values is None and header and header.components in (1, 3):
        with contextlib.suppress(ValueError):  # bytes that no pixel needs; Pillow reports some of them as a loss
            values = simplejpeg.decode_jpeg(photo.data, space, strict=False, **scale)
    return values, strict


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Converts to mode L or RGB."""
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


def pixels(photo: EncodedImage, channels: int, image_px: int, under: str = "white") -> np.ndarray:
    """Decodes an image to uint8 [H, W, channels], 0..255, upright; [image_px, image_px, channels] unless `image_px` is
    0.
    `under` is the colour below transparent parts. Raises: ImageError when the pixels are damaged."""
    values = _decode(photo, channels, under)
    return resize.resize_array(values, image_px) if image_px else values


def _decode(photo: EncodedImage, channels: int, under: str) -> np.ndarray:
    picture = transparency.laid_over(layers(photo), under).convert("L" if channels == 1 else "RGB")
    return np.asarray(picture)[..., None] if channels == 1 else np.asarray(picture)


def upright(picture: Image.Image, turned: int) -> Image.Image:
    """Turns `picture`, whose EXIF orientation is `orientation`, upright."""
    return picture.transpose(UPRIGHT[turned]) if turned in UPRIGHT else picture


def encode(values: np.ndarray, encoding: str, jpeg_quality: int) -> bytes:
    """Encodes `values`, uint8 [H, W, C], as `jpeg`, `png` or `raw` bytes (raw: row by row, channels last)."""
    if encoding == "raw":
        return values.tobytes()
    values = np.ascontiguousarray(values)
    if encoding == "jpeg":
        kind, subsampling = ("GRAY", "Gray") if values.shape[-1] == 1 else ("RGB", "444")
        return simplejpeg.encode_jpeg(values, jpeg_quality, kind, subsampling)
    buffer = io.BytesIO()
    Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()
