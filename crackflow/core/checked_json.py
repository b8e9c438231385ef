"""JSON with a checksum inside, so that a flipped bit on the disk is detected.

Synopsis::

    atomic.write_text("oracle.json", json.dumps(checked_json.add_checksum(content)))
    content = checked_json.read("oracle.json")           # ValueError where it is not what was written
"""

import json
import zlib

KEY = "crc32"


def add_checksum(content: dict) -> dict:
    """Returns `content`, as JSON reads it back, with the key `KEY`: the CRC-32 of the rest."""
    plain = json.loads(json.dumps(content))
    return plain | {KEY: _checksum(plain)}


def read(path: str) -> dict:
    """Reads a file and checks it.

    Raises:
        OSError: when it can't be read.
        ValueError: when it is not what was written, or no JSON object.
    """
    with open(path, encoding="utf-8") as file:
        try:
            return strip_checksum(json.load(file))
        except RecursionError as error:
            raise ValueError("its brackets are nested without end") from error


def strip_checksum(content: dict) -> dict:
    """Returns `content` without its checksum. Content of an earlier version, without one, is accepted. Raises:
    ValueError.
    """
    if not isinstance(content, dict):
        raise ValueError("expected an object")
    plain = {name: value for name, value in content.items() if name != KEY}
    if KEY in content and content[KEY] != _checksum(plain):
        raise ValueError("its content is not what was written")
    return plain


def _checksum(plain: dict) -> int:
    return zlib.crc32(json.dumps(plain, sort_keys=True).encode())
