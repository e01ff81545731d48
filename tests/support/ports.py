"""Ports for servers that keep theirs."""

import socket


def find_port() -> int:
    """Return a free port, for a server that is to have the same one through all its lives."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
