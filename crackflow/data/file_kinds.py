"""Recognition of files that lie among photographs and are not images.

Synopsis::

    file_kinds.describe(b"version https://git-lfs.github.com/spec/v1 ...")
    # "a Git LFS pointer, not the picture: fetch it with git lfs pull"
"""

import re

HEAD_BYTES = 1024
# First bytes of a file -> what it is, by the formats' own specifications.
STARTS = {
    b"version https://git-lfs.github.com/spec/": "a Git LFS pointer, not the picture: fetch it with git lfs pull",
    b"%PDF": "a PDF: save its pictures as JPEG",
    b"PK\x03\x04": "a ZIP archive: unpack it",
    b"Rar!": "a RAR archive: unpack it",
    b"7z\xbc\xaf'\x1c": "a 7-Zip archive: unpack it",
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"\x00\x05\x16\x07": "a Mac's AppleDouble file, which holds no picture",
    b"\x00\x05\x16\x00": "a Mac's AppleSingle file: copy the picture anew",
    b"L\x00\x00\x00\x01\x14\x02\x00": "a Windows shortcut, not the picture itself",
    b"\xd0\xcf\x11\xe0": "an Office document or a thumbnail index",
    b"\x1aE\xdf\xa3": "a film: save the frames you need as JPEG",
    b"FUJIFILMCCD-RAW": "camera RAW: save it as JPEG or TIFF",
    b"FOVb": "camera RAW: save it as JPEG or TIFF",
    b"\x93NUMPY": "a NumPy array: save it as PNG",
    b"\x89HDF": "an HDF5 file",
}
TEXTS = {
    rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!doctype html|<html|<head|<body)": "a web page, "
    "as servers send instead of a picture: download it again",
    rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!doctype svg[^>]*>\s*)?<svg": "an SVG drawing: save it as PNG",
    rb"<\?xml": "an XML file, or a server's error message: download the picture again",
    rb"[{\[]": "a JSON text, or a server's error message: download the picture again",
    rb"(\.git/annex/objects|/annex/objects|\.\./.*annex/objects)": "a git-annex pointer, not the picture itself: "
    "fetch it with git annex get",
}


def describe(data: bytes) -> str:
    """Describes what `data` is to somebody who took it for an image; empty when it is of no known kind."""
    for start, words in STARTS.items():
        if data.startswith(start):
            return words
    if data[:4] == b"RIFF" and data[8:12] in (b"AVI ", b"WAVE"):
        return "a film or a sound"
    if not any(data[: 1 << 16]):
        return "nothing but zeros: the copy or the disk failed; copy it again"
    return _describe_text(data[:HEAD_BYTES])


def _describe_text(head: bytes) -> str:
    try:
        text = head.decode("utf-8-sig", "strict") if len(head) < HEAD_BYTES else head[:-4].decode("utf-8-sig", "ignore")
    except UnicodeDecodeError:
        return ""
    if re.search(r"[\x00-\x08\x0e-\x1f]", text):
        return ""
    start = text.lstrip().lower().encode()
    for pattern, words in TEXTS.items():
        if re.match(pattern, start, re.S):
            return words
    return "a text file"
