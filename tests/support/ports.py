"""Ports for servers that keep theirs."""

import secrets
import socket
from contextlib import suppress

# Below those that Linux gives to clients, one of which could take that of a server that is away.
PORTS = range(10_000, 32_768)


def find_port() -> int:
    """Return a free port, for a server that is to have the same one through all its lives."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            port = secrets.choice(PORTS)
            probe.bind(("127.0.0.1", port))
            return port
