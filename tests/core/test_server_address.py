import socket

import pytest

from crackflow.core import server_address, socket_bind_hook
from crackflow.core.errors import UserError


@pytest.mark.parametrize(
    "host, address",
    [
        ("localhost", "127.0.0.1"),
        ("LOCALHOST.", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.9.8.7", "127.9.8.7"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
    ],
)
def test_what_means_this_machine_alone(host, address):
    assert server_address.loopback(host) == address


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "[::]", "0", "10.0.0.5", "fe80::1", "input", "localhost.example", "127.0.0.1.example", "", "a b"],
)
def test_what_may_mean_others(host):
    assert server_address.loopback(host) is None


def test_a_machines_own_name_means_others_whatever_its_resolver_says(monkeypatch):
    """Debian maps it to 127.0.1.1 in /etc/hosts."""
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "127.0.1.1")
    assert server_address.loopback(socket.gethostname() + "-of-this") is None


def test_sockets_that_wait_for_connections_are_listed_with_their_addresses():
    before = server_address.addresses()
    with socket.create_server(("127.0.0.1", 0)) as door, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert server_address.addresses() - before == {door.getsockname()}
    assert server_address.addresses() == before


def test_a_system_that_cannot_bind_to_loopback_opens_nothing_and_says_why(monkeypatch):
    def cannot(address, folder):
        raise OSError("darwin on arm64 has no table")

    monkeypatch.setattr(socket_bind_hook, "wildcards_become", cannot)
    opened = []
    message = (
        r"--host: expected localhost to be kept to this machine, but TensorFlow listens on every address here "
        r"\(darwin on arm64 has no table\), and whoever reaches it reads and writes any file .* no password; "
        r"--host=0.0.0.0 allows it"
    )
    with pytest.raises(UserError, match=message):
        with server_address.on("localhost", "--host", "--host=0.0.0.0 allows it"):
            opened.append(1)
    assert not opened
    with server_address.on("0.0.0.0", "--host", ""):
        opened.append(2)
    assert opened == [2]


def test_a_server_that_was_opened_all_the_same_is_refused():
    with pytest.raises(UserError, match=r"--host: .*\(it listens on (0.0.0.0|::):\d+\), and whoever"):
        with server_address.on("localhost", "--host", "--host=0.0.0.0 allows it"):
            door = socket.create_server(("", 0))
    door.close()


@pytest.mark.parametrize("host, warned", [("localhost", 0), ("::1", 0), ("0.0.0.0", 1), ("input", 1)])
def test_more_than_this_machine_is_one_warning(capsys, host, warned):
    server_address.warn_if_open("dispatcher", host, server_address.everywhere(5050))
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == warned
    assert not warned or error.startswith(
        "warning: dispatcher listens on port 5050 of every address of this machine, and whoever reaches it reads and "
        "writes any file that this account can, and is asked for no password; close its network to all others"
    )
