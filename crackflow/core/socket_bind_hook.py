"""Temporary replacement of the C function `bind` in TensorFlow's libraries.

Synopsis::

    with socket_bind_hook.wildcards_become("127.0.0.1", folder_of_tensorflow):
        ...                                       # servers that start here listen on that address alone

TensorFlow's servers (of tf.data service and tf.distribute) listen on every address, and no setting of theirs changes
that (seen at 2.21; `worker_address` is the address that is given to others, and the protocol "grpc+local" is not in the
package). A library calls functions of other libraries through a table of addresses, the global offset table of ELF
(System V ABI, section 5.2), and the entry of `bind` is changed there. This works on Linux on x86-64 and ARM64;
elsewhere it raises OSError before anything is opened.
"""

import contextlib
import ctypes
import ipaddress
import mmap
import os
import re
import socket
import struct
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from _ctypes import CFuncPtr

PT_DYNAMIC, PT_GNU_RELRO = 2, 0x6474E552
DT_PLTRELSZ, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_STRSZ, DT_JMPREL = 2, 5, 6, 7, 8, 10, 23
SLOTS = {"x86_64": (6, 7), "aarch64": (1025, 1026)}  # GLOB_DAT and JUMP_SLOT
RELOCATION = np.dtype([("offset", "<u8"), ("info", "<u8"), ("addend", "<i8")])  # Elf64_Rela
SYMBOL = np.dtype([("name", "<u4"), ("rest", "V20")])  # Elf64_Sym
PROT_READ, PROT_WRITE = mmap.PROT_READ, mmap.PROT_WRITE

_hooks: list["CFuncPtr"] = []  # kept alive: a thread may be inside a hook when it is removed from the table

BIND = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, use_errno=True)


class _Segment(ctypes.Structure):  # Elf64_Phdr
    _fields_ = [("type", ctypes.c_uint32), ("flags", ctypes.c_uint32)] + [
        (name, ctypes.c_uint64) for name in ("offset", "address", "physical", "file_bytes", "bytes", "alignment")
    ]


class _Library(ctypes.Structure):  # the part of dl_phdr_info that every libc has
    _fields_ = [
        ("base", ctypes.c_uint64),
        ("path", ctypes.c_char_p),
        ("segments", ctypes.POINTER(_Segment)),
        ("count", ctypes.c_uint16),
    ]


VISIT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Library), ctypes.c_size_t, ctypes.c_void_p)


@contextlib.contextmanager
def wildcards_become(address: str, folder: str) -> Iterator[None]:
    """While inside, libraries under `folder` that bind a socket to every address get `address` (IPv4 or IPv6) alone.

    Raises:
        OSError: where this system's libraries have no such table, or none of them calls `bind`.
    """
    if sys.platform != "linux" or os.uname().machine not in SLOTS or sys.maxsize < 2**32:
        raise OSError(f"{sys.platform} on {os.uname().machine} has no table of functions that is known here")
    slots = _slots_of(b"bind", os.path.realpath(folder))
    if not slots:
        raise OSError(f"no library under {folder} calls bind")
    hook = _build_hook(ipaddress.ip_address(address))
    _hooks.append(hook)
    before = [(slot, protected, ctypes.c_uint64.from_address(slot).value) for slot, protected in slots]
    try:
        for slot, protected in slots:
            _write_slot(slot, cast(int, ctypes.cast(hook, ctypes.c_void_p).value), protected)  # it is not NULL
        yield
    finally:
        for slot, protected, value in before:
            _write_slot(slot, value, protected)


def _build_hook(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> "CFuncPtr":
    bind = ctypes.CDLL(None, use_errno=True).bind
    bind.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32]

    def bind_narrowed(number: int, sockaddr: int, size: int) -> int:
        copy = ctypes.create_string_buffer(_replace_wildcard(ctypes.string_at(sockaddr, size), address), size)
        return bind(number, ctypes.addressof(copy), size)

    return BIND(bind_narrowed)


def _replace_wildcard(sockaddr: bytes, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    """Returns a sockaddr with `address` where it had the wildcard, else unchanged."""
    family = int.from_bytes(sockaddr[:2], sys.byteorder)
    if family == socket.AF_INET and sockaddr[4:8] == bytes(4) and address.version == 4:
        return sockaddr[:4] + address.packed + sockaddr[8:]
    if family == socket.AF_INET6 and sockaddr[8:24] == bytes(16):
        mapped = b"" if address.version == 6 else bytes(10) + b"\xff\xff"  # RFC 4291, 2.5.5.2
        return sockaddr[:8] + mapped + address.packed + sockaddr[24:]
    return sockaddr


def _slots_of(name: bytes, folder: str) -> list[tuple[int, bool]]:
    """Returns (address of the entry, whether it is write-protected) of function `name` per library under `folder`."""
    slots: list[tuple[int, bool]] = []

    def visit(library: "ctypes._Pointer[_Library]", size: int, data: int) -> int:
        path = os.path.realpath(os.fsdecode(library.contents.path or b""))
        if path.startswith(folder + os.sep):
            slots.extend(_slots_in(library.contents, name))
        return 0

    ctypes.CDLL(None).dl_iterate_phdr(VISIT(visit), None)
    return slots


def _slots_in(library: _Library, name: bytes) -> Iterator[tuple[int, bool]]:
    segments = [library.segments[number] for number in range(library.count)]
    guarded = [(library.base + segment.address, segment.bytes) for segment in segments if segment.type == PT_GNU_RELRO]
    for segment in segments:
        if segment.type != PT_DYNAMIC:
            continue
        for slot in _relocated_slots(_read_dynamic(library.base + segment.address, segment.bytes), library.base, name):
            yield slot, any(first <= slot < first + size for first, size in guarded)


def _read_dynamic(address: int, size: int) -> dict[int, int]:
    words = struct.unpack(f"<{size // 8}Q", ctypes.string_at(address, size // 16 * 16))
    return dict(zip(words[::2], words[1::2], strict=True))


def _relocated_slots(dynamic: dict[int, int], base: int, name: bytes) -> Iterator[int]:
    def table(tag: int, size: int, kind: np.dtype) -> np.ndarray:
        address = dynamic.get(tag, 0)
        address += base if address < base else 0  # glibc has added the base, musl has not
        return np.frombuffer(ctypes.string_at(address, size // kind.itemsize * kind.itemsize), kind)

    names = ctypes.string_at(dynamic[DT_STRTAB] + (base if dynamic[DT_STRTAB] < base else 0), dynamic[DT_STRSZ])
    # A linker may also store the name as the tail of a longer one.
    starts = [match.start() for match in re.finditer(re.escape(name) + b"\0", names)]
    for tag, size in ((DT_JMPREL, DT_PLTRELSZ), (DT_RELA, DT_RELASZ)):
        entries = table(tag, dynamic[size], RELOCATION) if tag in dynamic else np.empty(0, RELOCATION)
        entries = entries[np.isin(entries["info"] & 0xFFFFFFFF, SLOTS[os.uname().machine])]
        numbers = (entries["info"] >> 32).astype(np.int64)
        symbols = table(DT_SYMTAB, (int(numbers.max(initial=0)) + 1) * SYMBOL.itemsize, SYMBOL)
        yield from (base + int(offset) for offset in entries["offset"][np.isin(symbols["name"][numbers], starts)])


def _write_slot(slot: int, value: int, protected: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    page = slot // mmap.PAGESIZE * mmap.PAGESIZE
    span = ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE)
    if protected and libc.mprotect(*span, PROT_READ | PROT_WRITE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    ctypes.c_uint64.from_address(slot).value = value
    if protected:
        libc.mprotect(*span, PROT_READ)
