"""Who can reach our listeners: this machine over loopback, and no other address unless a flag opens them."""

import contextlib
import json
import socket
import subprocess
import sys
import threading

import pytest

from crackflow import data_service
from crackflow.core import rendezvous, server_address
from crackflow.core.config.search import TuneConfig, Tuner
from crackflow.core.config.tools import DataServiceConfig, ServiceRole
from crackflow.core.errors import UserError
from crackflow.search import oracle, roles, search
from tests.helpers import support
from tests.helpers.ports import free_ports

# A client's graph has a worker read one file and write another.
CLIENT = """
import sys, tensorflow as tf
secret = sys.argv[1]
for service, stolen in zip(sys.argv[2::2], sys.argv[3::2]):
    def step(number):
        with tf.control_dependencies([tf.io.write_file(stolen, tf.io.read_file(secret))]):
            return tf.identity(number)
    print("asking", service, flush=True)
    batches = tf.data.Dataset.range(1).map(step)
    batches = batches.apply(tf.data.experimental.service.distribute("parallel_epochs", service))
    print("served", list(batches.as_numpy_iterator()), flush=True)
"""
# For a service that does not answer, which TensorFlow retries for an hour; one that does takes 0.1.
PATIENCE_SECONDS = 5
START_SECONDS = 120  # of a client, on a busy machine


def other_addresses():
    """This machine's addresses that are not loopback: those of the route that a packet would take; none is sent."""
    addresses = set()
    for family, beyond in ((socket.AF_INET, "198.51.100.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((beyond, 9))
            addresses.add(probe.getsockname()[0])
    return sorted(address for address in addresses if not server_address.loopback(address))


@pytest.fixture
def others():
    return other_addresses() or pytest.skip("this machine has no address but loopback")


def answers(address, port):
    """Whether anything there accepts a connection."""
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True


def port_of(address):
    return int(address.rpartition(":")[2])


def started(host="localhost"):
    """A dispatcher and its worker in this process."""
    dispatcher = data_service.start(DataServiceConfig(host=host))
    dispatcher_address = f"grpc://localhost:{port_of(dispatcher.address)}"
    worker = data_service.start(DataServiceConfig(role=ServiceRole.WORKER, dispatcher=dispatcher_address, host=host))
    return dispatcher, worker


def test_a_data_service_is_not_reached_from_another_address(others, capsys):
    for server in started():
        port = port_of(server.address)
        assert server.bound == "127.0.0.1" and answers("127.0.0.1", port)
        assert not [address for address in others if answers(address, port)]
    assert capsys.readouterr().err == ""


def test_a_data_service_that_is_told_to_is_reached_and_warns_of_what_that_means(others, capsys):
    servers = started("0.0.0.0")
    for server in servers:
        port = port_of(server.address)
        assert server.address.removeprefix("grpc://") == f"{socket.gethostname()}:{port}"
        assert server.bound in ("::", "0.0.0.0") and answers(others[0], port)
    warned = capsys.readouterr().err.splitlines()
    assert [line.partition(" of every")[0] for line in warned] == [
        f"warning: {role.value} listens on port {port_of(server.address)}"
        for role, server in zip(ServiceRole, servers, strict=True)
    ]


@pytest.mark.slow
def test_a_client_elsewhere_has_no_worker_read_a_file_and_write_another(others, tmp_path):
    """Until a flag opens it: then the same client does, which shows what the default is worth."""
    (tmp_path / "secret").write_text("mine")
    address = f"[{others[-1]}]" if ":" in others[-1] else others[-1]
    line = [sys.executable, "-c", CLIENT, str(tmp_path / "secret")]
    services = [started(address), started("localhost")]  # they end with the last reference to them
    for (dispatcher, _), stolen in zip(services, ("told to", "by itself"), strict=True):
        line += [f"grpc://{address}:{port_of(dispatcher.address)}", str(tmp_path / stolen)]
    client = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    watch = threading.Timer(START_SECONDS, client.kill)
    watch.start()
    try:
        assert [client.stdout.readline().split()[0] for _ in range(3)] == ["asking", "served", "asking"]
        with pytest.raises(subprocess.TimeoutExpired):
            client.wait(PATIENCE_SECONDS)
    finally:
        watch.cancel()
        client.kill()
        rest = client.communicate()[0]
    assert (tmp_path / "told to").read_text() == "mine"
    assert rest == "" and not (tmp_path / "by itself").exists()


def worker_of_a_cluster(addresses, index):
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    code = (
        "from crackflow.core import distribution, server_address\nfrom crackflow.core.config.hardware import Strategy\n"
    )
    code += "distribution.join_cluster(Strategy.AUTO)\nprint(sorted(server_address.addresses()), flush=True)\ninput()\n"
    environment = support.environment() | {"TF_CONFIG": json.dumps(config)}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([support.interpreter(), "-c", code], env=environment, **streams)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["127.0.0.1", None])
def test_workers_on_one_machine_are_reached_only_by_a_name_that_others_have(others, name):
    ports = free_ports(2)
    workers = [f"{name or others[0]}:{port}" for port in ports]
    if ":" in workers[0].rpartition(":")[0]:
        pytest.skip("this machine has no IPv4 address but loopback")
    processes = [worker_of_a_cluster(workers, index) for index in (0, 1)]
    try:
        said = [process.stdout.readline() for process in processes]
        for port, line in zip(ports, said, strict=True):
            assert (f"('127.0.0.1', {port})" in line) == bool(name), line
            assert answers(others[0], port) != bool(name)
    finally:
        errors = []
        for process in processes:
            process.kill()
            errors.append(process.communicate()[1])
    warned = [
        line for line in "".join(errors).splitlines() if line.startswith("warning: each worker of this run listens")
    ]
    assert len(warned) == (0 if name else 1)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "machine.invalid"])
def test_who_waits_for_the_other_workers_listens_where_they_are(others, name):
    own, absent = (f"{name}:{port}" for port in free_ports(2))
    meeting = rendezvous._Meeting([own, absent], 0)
    with meeting.listening("TF_CONFIG"):
        port = port_of(own)
        assert answers("127.0.0.1", port)
        assert answers(others[0], port) == (name == "machine.invalid")


def chief(host, named, tmp_path):
    """Where the chief of a search listens: with --host=`host`, which the workers know as `named`."""
    config = TuneConfig(data="d", out=str(tmp_path), host=host)
    return roles.listening_address(config, roles.Role("chief", f"{named}:{free_ports(1)[0]}"))


@pytest.mark.parametrize("host, named, reached", [("localhost", "127.0.0.1", False), ("0.0.0.0", "0.0.0.0", True)])
def test_the_chief_of_a_search_is_not_reached_unless_told_to(others, tmp_path, host, named, reached):
    address = chief(host, named, tmp_path)
    settings = TuneConfig(data="d", out="o", tuner=Tuner.RANDOM)
    with oracle.serve(oracle.create_oracle(settings, str(tmp_path / "o.json")), address, lambda: None):
        assert answers("127.0.0.1", port_of(address))
        assert [answers(it, port_of(address)) for it in others if ":" not in it or not reached] == [
            reached for it in others if ":" not in it or not reached
        ]


@pytest.mark.parametrize("named", ["0.0.0.0", "::", "node7", "10.0.0.5"])
def test_a_chief_that_workers_seek_elsewhere_is_opened_by_the_flag_alone(tmp_path, named):
    message = (
        f"--host: expected the name .* KERASTUNER_ORACLE_IP is {named}, received localhost, .*; --host={named} opens"
    )
    with pytest.raises(UserError, match=message):
        chief("localhost", named, tmp_path)
    assert chief(named, named, tmp_path).rpartition(":")[0] in (named, f"[{named}]")


def test_a_chief_warns_and_says_where_it_listens(others, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(oracle.Service, "is_done", lambda self: True)
    for host, warned in (("localhost", 0), ("0.0.0.0", 1)):
        settings = TuneConfig(data="d", out=str(tmp_path), tuner=Tuner.RANDOM, host=host)
        who = roles.Role("chief", f"127.0.0.1:{free_ports(1)[0]}")
        listen = roles.listening_address(settings, who)
        search._serve(oracle.create_oracle(settings, str(tmp_path / f"{host}.json")), settings, who, listen)
        out, error = capsys.readouterr()
        assert f"at {who.address}; listens on {listen}\n" in out
        assert error.count("warning: the chief listens on ") == warned
        assert warned == 0 or "whoever reaches it takes part in the search: is given its trials, and writes" in error


@pytest.mark.parametrize("line", [("data_service", "--host="), ("tune", "--host= ", "--data=d", "--out=o")])
def test_a_host_without_a_name_is_one_line(line):
    done = support.called(*line)
    assert done.returncode == 2
    assert "--host: expected localhost, or a name or address of this machine, received" in done.stderr
