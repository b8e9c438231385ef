"""The XMP packet of an image file: simple properties of one namespace.

Synopsis::

    xmp.properties(data, xmp.DJI)           # {"RelativeAltitude": "+12.30", "GimbalPitchDegree": "-90.00"}

A packet comes from a stranger. One that is larger than MAX_BYTES, not UTF-8, or that declares a document type is not
parsed: without a declaration there are no entities, so that nothing expands and nothing is fetched.
"""

import io
import re
import warnings
from xml.etree import ElementTree

from PIL import Image

DJI = "http://www.dji.com/drone-dji/1.0/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
MAX_BYTES = 1 << 20  # a packet in a JPEG segment has at most 64 KiB
MAX_VALUE = 256  # characters of a value that are returned


def packet(data: bytes) -> bytes:
    """The XMP packet of the image file `data`, which Pillow finds in JPEG, TIFF, PNG and WebP; b"" without one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = Image.open(io.BytesIO(data)).info.get("xmp", b"")
    except Exception:  # damaged metadata can raise nearly anything, and the image is usable without them
        return b""
    return content if isinstance(content, bytes) else str(content).encode("utf-8", "replace")


def properties(data: bytes, namespace: str) -> dict[str, str]:
    """The simple properties of `namespace` in the XMP of an image file.

    Both forms of RDF are read, attributes of rdf:Description and elements in it. The first of two values counts.

    Args:
        data: the bytes of the file.
        namespace: a URI.

    Returns:
        The values by name, {} if there is no packet or none that can be parsed safely.
    """
    return parse(packet(data), namespace)


def parse(content: bytes, namespace: str) -> dict[str, str]:
    """Does the same as `properties` for a packet."""
    if not content or len(content) > MAX_BYTES:
        return {}
    try:
        text = content.decode("utf-8-sig").strip("\0 \t\r\n")
    except UnicodeError:
        return {}
    if re.search(r"<!\s*(DOCTYPE|ENTITY)", text, re.I):
        return {}
    # A declaration of an encoding is refused in text that is decoded already; a packet's wrapper needs no parsing.
    text = re.sub(r"^<\?xml[^>]*\?>", "", text)
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError):
        return {}
    values: dict[str, str] = {}
    prefix = f"{{{namespace}}}"
    for description in root.iter(f"{{{RDF}}}Description"):
        pairs = [*description.attrib.items(), *((child.tag, child.text or "") for child in description)]
        for name, value in pairs:
            if name.startswith(prefix):
                values.setdefault(name.removeprefix(prefix), value.strip()[:MAX_VALUE])
    return values
