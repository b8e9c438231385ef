import gzip
import io
import zipfile

import numpy as np
import pytest

from crackflow.core import errors
from crackflow.data import file_kinds, image_file
from tests.helpers import support

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("wall.jpg", b"x")
    return buffer.getvalue()


def array():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(4))
    return buffer.getvalue()


KINDS = {
    "a Git LFS pointer": LFS,
    "a git-annex pointer": b"/annex/objects/SHA256E-s1048576--0a1b.jpg\n",
    "a web page": b"\n <!-- proxy --><!DOCTYPE html>\n<html><head><title>404</title>",
    "a web page,": b"\xef\xbb\xbf<html lang='de'><body>Anmeldung n\xc3\xb6tig" + "ü".encode() * 2000,
    "an SVG drawing": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "an XML file, or a server's error": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "a JSON text, or a server's error": b'{"error": {"code": 403}}',
    "a PDF": b"%PDF-1.7\n%\xe2\xe3",
    "a ZIP archive": archive(),
    "a gzip archive": gzip.compress(b"x"),
    "a Mac's AppleDouble": b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ",
    "a Windows shortcut": b"L\x00\x00\x00\x01\x14\x02\x00\x00",
    "nothing but zeros": bytes(70_000),
    "a text file": b"put the pictures here\n",
    "a NumPy array": array(),
    "camera RAW": b"FUJIFILMCCD-RAW 0201",
}


@pytest.mark.parametrize("what", KINDS)
def test_what_is_called_a_photograph_and_is_none_is_named(what, tmp_path):
    support.put(tmp_path / "wall.jpg", KINDS[what])
    with pytest.raises(errors.ImageError, match="^not an image: "):
        image_file.open_photo(str(tmp_path / "wall.jpg"), 100)
    assert file_kinds.describe(KINDS[what]).startswith(what)


@pytest.mark.parametrize("data", [b"\x81\x82\x83", b"\xff\xd8\xff", np.random.default_rng(0).bytes(5000)])
def test_bytes_of_no_known_kind_are_not_described(data):
    assert file_kinds.describe(data) == ""
