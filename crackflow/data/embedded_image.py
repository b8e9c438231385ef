"""The image inside a JSON file of labelme, which stores it as base64 under `imageData`.

Synopsis::

    data = embedded_image.extract(json_bytes)         # the bytes of a JPEG, PNG, ...; raises ImageError
"""

import base64
import binascii
import json

from crackflow.core.errors import ImageError


def extract(data: bytes) -> bytes:
    """Returns the bytes of the image in `data`, the content of a JSON file.

    Raises:
        ImageError: it is no JSON, or holds no image.
    """
    try:
        encoded = json.loads(data).get("imageData")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ImageError(f"not a JSON file of labelme: {error}") from error
    if not isinstance(encoded, str) or not encoded:
        raise ImageError("holds no image (imageData), and its imagePath leads to none")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"imageData: expected base64 ({error})") from error
