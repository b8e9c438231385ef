"""Who can reach a server of ours: this machine alone, unless it was asked for more.

Synopsis::

    with listening.on("localhost", "--host", "--host=0.0.0.0 allows it"):
        server = tf.data.experimental.service.DispatchServer(...)      # listens on 127.0.0.1, not on every address
    listening.addresses()                                              # {("127.0.0.1", 5050)}

TensorFlow's servers run whatever graph is sent to them, ask nobody who they are and listen on every address: whoever
reaches the port reads and writes the files of the account (TensorFlow's SECURITY.md calls them meant for a trusted
network). `bind_hook` has them listen on loopback.
"""

import contextlib
import importlib.util
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator

from crackflow.core import bind_hook, console
from crackflow.core.errors import UserError

LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
EVERYWHERE = "0.0.0.0"
# What a graph can do: tf.io.read_file, tf.io.write_file, without end.
REACHED = "whoever reaches it reads and writes any file that this account can, and is asked for no password"


def loopback(host: str) -> str | None:
    """The address of this machine alone that `host` is or means: "127.0.0.1", "::1"; None where others are meant.

    Names count by themselves, not by what the resolver says: on Debian a machine's own name is 127.0.1.1 to itself, and
    something else to others.
    """
    name = host.strip("[]").rstrip(".").lower()
    if name in LOCAL_NAMES:
        return "127.0.0.1"
    try:  # also 127.1 and 0x7f000001, which are addresses to the resolver
        found = socket.getaddrinfo(name, None, flags=socket.AI_NUMERICHOST, type=socket.SOCK_STREAM)[0][4][0]
        address = ipaddress.ip_address(found.partition("%")[0])
    except (OSError, ValueError):
        return None
    mapped = getattr(address, "ipv4_mapped", None) or address
    return str(mapped) if mapped.is_loopback else None


@contextlib.contextmanager
def on(host: str, flag: str, allowing: str) -> Iterator[None]:
    """Servers that TensorFlow starts inside listen on `host`, where that is loopback; else on every address, of which
    `warn_if_open` warns.

    Raises: UserError, naming `flag` and what would be `allowing` it, where they can't be kept to loopback.
    """
    address = loopback(host)
    if address is None:
        yield
        return
    hooked = contextlib.ExitStack()
    try:
        hooked.enter_context(bind_hook.wildcards_become(address, _tensorflow()))
    except OSError as error:
        raise UserError(_open_only(flag, host, allowing, error)) from error
    before = addresses()
    with hooked:
        yield
    if wide := [f"{name}:{port}" for name, port in addresses() - before if not loopback(name)]:
        raise UserError(_open_only(flag, host, allowing, f"it listens on {', '.join(wide)}"))


def _tensorflow() -> str:
    """The folder of its libraries, loaded or not."""
    return os.path.dirname(importlib.util.find_spec("tensorflow").origin)


def _open_only(flag: str, host: str, allowing: str, reason: object) -> str:
    return (
        f"{flag}: expected {host} to be kept to this machine, but TensorFlow listens on every address here ({reason}), "
        f"and {REACHED}; {allowing}"
    )


def warn_if_open(what: str, host: str, place: str, reached: str = REACHED) -> None:
    """One line on stderr where `host` is more than this machine. `place`: what is listened on; `reached`: what reaching
    it means."""
    if loopback(host) is None:
        console.warning(
            f"{what} listens on {place}, and {reached}; close its network to all others, see docs/SCALING.md"
        )


def everywhere(port: int | str) -> str:
    """Port `port` of this machine, for messages."""
    return f"port {port} of every address of this machine"


def addresses() -> set[tuple[str, int]]:
    """(address, port) of every TCP socket of this process that waits for connections; empty where the system has no
    list of open files."""
    return {place for number in _open_files() if (place := _waits_at(number))}


def _waits_at(number: int) -> tuple[str, int] | None:
    """(address, port), where the open file is a TCP socket that waits for connections."""
    with contextlib.suppress(OSError):
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return None
        with socket.socket(fileno=os.dup(number)) as door:
            is_tcp = door.family in (socket.AF_INET, socket.AF_INET6) and door.type == socket.SOCK_STREAM
            if is_tcp and door.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                host, port = door.getsockname()[:2]
                return host.removeprefix("::ffff:"), port
    return None


def _open_files() -> list[int]:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return [int(name) for name in os.listdir(folder)]
    return []
