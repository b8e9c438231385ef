"""The hook itself: what it changes in an address, and where it finds nothing to change."""

import ctypes
import importlib.util
import ipaddress
import os
import socket
import struct
import sys

import pytest

from crackflow.core import socket_bind_hook

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs a table of functions as Linux has it")


def ipv4(address, port=5050):
    return struct.pack("=H", socket.AF_INET) + struct.pack(">H", port) + socket.inet_aton(address) + bytes(8)


def ipv6(address, port=5050):
    header = struct.pack("=H", socket.AF_INET6) + struct.pack(">HI", port, 0)
    return header + socket.inet_pton(socket.AF_INET6, address) + bytes(4)


@pytest.mark.parametrize(
    "sockaddr, address, becomes",
    [
        (ipv4("0.0.0.0"), "127.0.0.1", ipv4("127.0.0.1")),
        (ipv6("::"), "127.0.0.1", ipv6("::ffff:127.0.0.1")),
        (ipv6("::"), "::1", ipv6("::1")),
        (ipv4("0.0.0.0"), "127.0.0.2", ipv4("127.0.0.2")),
        (ipv4("10.0.0.5"), "127.0.0.1", ipv4("10.0.0.5")),
        (ipv6("::1"), "127.0.0.1", ipv6("::1")),
        (struct.pack("=H", socket.AF_UNIX) + b"/tmp/x\0", "127.0.0.1", struct.pack("=H", socket.AF_UNIX) + b"/tmp/x\0"),
    ],
)
def test_only_the_wildcard_becomes_the_address(sockaddr, address, becomes):
    assert socket_bind_hook._replace_wildcard(sockaddr, ipaddress.ip_address(address)) == becomes


@LINUX
def test_the_libraries_of_tensorflow_get_the_function_back():
    folder = os.path.dirname(importlib.util.find_spec("tensorflow").origin)
    __import__("tensorflow")
    slots = socket_bind_hook._slots_of(b"bind", os.path.realpath(folder))
    assert slots

    def content():
        return [ctypes.c_uint64.from_address(slot).value for slot, _ in slots]

    before = content()
    with pytest.raises(ZeroDivisionError), socket_bind_hook.wildcards_become("127.0.0.1", folder):
        assert all(now != then for now, then in zip(content(), before, strict=True))
        raise ZeroDivisionError
    assert content() == before


def test_where_no_library_calls_bind_it_is_said(tmp_path):
    with pytest.raises(OSError, match=r"no library under .* calls bind|no table of functions"):
        with socket_bind_hook.wildcards_become("127.0.0.1", str(tmp_path)):
            pass


@pytest.mark.parametrize("platform, machine", [("darwin", "arm64"), ("win32", "AMD64"), ("linux", "riscv64")])
def test_another_system_is_named(monkeypatch, platform, machine):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((platform, "", "", "", machine)), raising=False)
    with pytest.raises(OSError, match=f"{platform} on {machine} has no table"):
        with socket_bind_hook.wildcards_become("127.0.0.1", "/"):
            pass
