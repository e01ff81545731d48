"""The address that a server listens on."""

import errno
import os
import socket
from collections.abc import Sequence
from ipaddress import ip_address

ANY_ADDRESS = ("0.0.0.0", "::")
BACKLOG = 2048  # uvicorn's


class AddressError(Exception):
    """The server cannot listen there; the sentence names the address and the fix."""


def bind_listeners(host: str, port: int) -> list[socket.socket]:
    """Return sockets bound to each address of a host; `AddressError` where that cannot be had.

    All have one port, a free one for 0. Nobody can connect before `listen`.
    """
    listeners: list[socket.socket] = []
    # Without the option, nobody else gets a port that was free; one that was asked for may be that
    # of a server which has just ended.
    reuses = os.name == "posix" and port != 0
    try:
        found = socket.getaddrinfo(
            _spell(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, address in found:
            listener = socket.socket(family, kind, protocol)
            listeners.append(listener)
            if reuses:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address[0], port, *address[2:]))
            port = listener.getsockname()[1]
    except (OSError, UnicodeError) as error:
        close_listeners(listeners)
        raise AddressError(_explain(error, host, port)) from error
    return listeners


def listen(listeners: Sequence[socket.socket], host: str) -> None:
    """Let clients connect, who are served once a server accepts them.

    `AddressError` where another process, which was bound as well, has begun to listen meanwhile.
    """
    for listener in listeners:
        try:
            listener.listen(BACKLOG)
        except OSError as error:
            raise AddressError(_explain(error, host, listener.getsockname()[1])) from error


def close_listeners(listeners: Sequence[socket.socket]) -> None:
    """Let the addresses go."""
    for listener in listeners:
        listener.close()


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address or host name."""
    try:
        found = socket.getaddrinfo(_spell(host), None, flags=socket.AI_PASSIVE)
        return all(ip_address(str(address[0])).is_loopback for *_, address in found)
    except (OSError, ValueError):
        return False


def show_url(host: str, port: int) -> str:
    """Return the URL under which a browser on this machine finds the server."""
    name = "localhost" if host in ANY_ADDRESS else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _spell(host: str) -> str | bytes:
    """Return a host as the resolver takes it: as bytes, or Python loads its tables of Unicode."""
    return host.encode() if host.isascii() else host


def _explain(error: OSError | UnicodeError, host: str, port: int) -> str:
    match error:
        case OSError(errno=errno.EADDRINUSE):
            return (
                f"Port {port} of {host} is in use: end what listens there, "
                "or give another port with --port."
            )
        case OSError(errno=errno.EACCES):
            return (
                f"Port {port} of {host} is not allowed to this user: "
                "give one above 1023 with --port."
            )
        case socket.gaierror() | UnicodeError() | OSError(errno=errno.EADDRNOTAVAIL):
            return (
                f"{host} is no address of this machine: "
                "give one with --host, such as 127.0.0.1 or 0.0.0.0."
            )
        case _:
            return f"Port {port} of {host} cannot be opened ({error}): give another one."
