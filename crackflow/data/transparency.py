"""Photographs with an alpha channel: laid over a colour, or without the channel where it is empty."""

from typing import cast

from PIL import Image

from crackflow.core.errors import ImageError

TRANSPARENT = "laid over white where transparent"


def has_alpha(image: Image.Image) -> bool:
    """Whether `image` has an alpha channel or a transparent colour."""
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def without_empty_alpha(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Removes an alpha channel that says nothing.

    Alpha that is 0 everywhere is left by renderers and camera drivers that don't use it. Over one single colour it
    means an empty layer, and stays.

    Returns:
        (`image` in mode L, RGB or, where it is partly transparent, RGBA; notes).
    """
    if not has_alpha(image):
        return image, []
    clear = image.convert("RGBA")
    least, most = cast(tuple[int, int], clear.getchannel("A").getextrema())  # of one channel
    plain = clear.convert("L" if image.mode in ("LA", "La") else "RGB")
    if least == 255:
        return plain, [TRANSPARENT]
    extrema = plain.getextrema() if plain.mode == "RGB" else [plain.getextrema()]
    if most == 0 and any(low < high for low, high in cast(list[tuple[int, int]], extrema)):
        return plain, ["its colours were taken, although it says that all of it is transparent"]
    return clear, [TRANSPARENT]


def laid_over(picture: Image.Image, under: str) -> Image.Image:
    """Lays `picture`, in mode L, RGB or RGBA, over the colour `under` where it is transparent; returns mode L or RGB.

    Raises:
        ImageError: when white is laid under an image that is transparent everywhere.
    """
    if picture.mode != "RGBA":
        return picture
    if under == "white" and picture.getchannel("A").getextrema() == (0, 0):
        raise ImageError("transparent everywhere, and of one colour: there is nothing to see")
    return Image.alpha_composite(Image.new("RGBA", picture.size, under), picture).convert("RGB")
