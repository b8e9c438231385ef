"""Ports and addresses of this host."""

import socket


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def addresses(count):
    return [f"localhost:{port}" for port in free_ports(count)]
