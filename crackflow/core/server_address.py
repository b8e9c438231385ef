"""Restriction of our servers to this machine, unless the user allows more.

Synopsis::

    with server_address.on("localhost", "--host", "--host=0.0.0.0 allows it"):
        server = tf.data.experimental.service.DispatchServer(...)      # listens on 127.0.0.1, not on every address
    server_address.addresses()                                              # {("127.0.0.1", 5050)}

TensorFlow's servers run whatever graph is sent to them, authenticate nobody and listen on every address: whoever
reaches the port reads and writes the files of the account (TensorFlow's SECURITY.md says that they are meant for a
trusted network). `bind_hook` makes them listen on loopback.
"""

import contextlib
import importlib.util
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from typing import cast

from crackflow.core import console, socket_bind_hook
from crackflow.core.errors import UserError

LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
EVERYWHERE = "0.0.0.0"
# What a graph can do with tf.io.read_file and tf.io.write_file.
REACHED = "whoever reaches it reads and writes any file that this account can, and is asked for no password"


def loopback(host: str) -> str | None:
    """Returns the loopback address that `host` is or means, "127.0.0.1" or "::1", or None where other machines are
    meant.

    Names count by themselves, not by what the resolver returns: on Debian a machine's own name resolves to 127.0.1.1 on
    the machine, and to something else on others.
    """
    name = host.strip("[]").rstrip(".").lower()
    if name in LOCAL_NAMES:
        return "127.0.0.1"
    try:  # also 127.1 and 0x7f000001, which the resolver accepts as addresses
        numeric = socket.getaddrinfo(name, None, flags=socket.AI_NUMERICHOST, type=socket.SOCK_STREAM)[0][4][0]
        address = ipaddress.ip_address(str(numeric).partition("%")[0])
    except (OSError, ValueError):
        return None
    mapped = getattr(address, "ipv4_mapped", None) or address
    return str(mapped) if mapped.is_loopback else None


@contextlib.contextmanager
def on(host: str, flag: str, allowing: str) -> Iterator[None]:
    """While inside, servers that TensorFlow starts listen on `host` where that is loopback, else on every address.

    `warn_if_open` warns of the latter.

    Args:
        host: a name or address.
        flag: the flag that an error names.
        allowing: a sentence that says what would allow more.

    Raises:
        UserError: where the servers can't be kept to loopback.
    """
    address = loopback(host)
    if address is None:
        yield
        return
    hooked = contextlib.ExitStack()
    try:
        hooked.enter_context(socket_bind_hook.wildcards_become(address, _tensorflow_folder()))
    except OSError as error:
        raise UserError(_open_message(flag, host, allowing, error)) from error
    before = addresses()
    with hooked:
        yield
    if wide := [f"{name}:{port}" for name, port in addresses() - before if not loopback(name)]:
        raise UserError(_open_message(flag, host, allowing, f"it listens on {', '.join(wide)}"))


def _tensorflow_folder() -> str:
    """Returns the folder of TensorFlow's libraries, whether they are loaded or not."""
    spec = cast(ModuleSpec, importlib.util.find_spec("tensorflow"))  # crackflow requires it
    return os.path.dirname(cast(str, spec.origin))


def _open_message(flag: str, host: str, allowing: str, reason: object) -> str:
    return (
        f"{flag}: expected {host} to be kept to this machine, but TensorFlow listens on every address here ({reason}), "
        f"and {REACHED}; {allowing}"
    )


def warn_if_open(what: str, host: str, endpoint: str, reached: str = REACHED) -> None:
    """Prints one line on stderr where `host` is more than this machine.

    Args:
        what: the server.
        host: the name or address on which it listens.
        endpoint: the port and the addresses on which it listens, in words.
        reached: the consequence of being reached, in words.
    """
    if loopback(host) is None:
        console.warning(
            f"{what} listens on {endpoint}, and {reached}; close its network to all others, see docs/SCALING.md"
        )


def everywhere(port: int | str) -> str:
    """Returns port `port` of this machine in words, for messages."""
    return f"port {port} of every address of this machine"


def addresses() -> set[tuple[str, int]]:
    """Returns (address, port) of every listening TCP socket of this process; empty where open files can't be listed."""
    return {address for number in _open_files() if (address := _listening_address(number))}


def _listening_address(number: int) -> tuple[str, int] | None:
    """Returns (address, port) where the open file is a listening TCP socket."""
    with contextlib.suppress(OSError):
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return None
        with socket.socket(fileno=os.dup(number)) as connection:
            is_tcp = connection.family in (socket.AF_INET, socket.AF_INET6) and connection.type == socket.SOCK_STREAM
            if is_tcp and connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                host, port = connection.getsockname()[:2]
                return host.removeprefix("::ffff:"), port
    return None


def _open_files() -> list[int]:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return [int(name) for name in os.listdir(folder)]
    return []
