"""A document from an address of ours, within one deadline for all of the fetch.

A timeout of a socket is one of each wait: a server that hands out a byte now and then, of its head
say, is never too late. So the connection is shut down when the time is over, whatever is read.
"""

import socket
import urllib.request
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from threading import Thread, Timer
from time import monotonic
from typing import Any

Place = tuple[Any, ...]  # of a name, as `socket.getaddrinfo` tells it
SHORTEST = 0.001  # seconds of a timeout: none at all would be no wait


def fetch(address: str, *, timeout: float, max_bytes: int) -> bytes:
    """Return the body that an address answers with; blocks for `timeout` seconds at most.

    Follows no redirect. Raises OSError, HTTPException, or ValueError for more than `max_bytes`. A
    thread that looks a name up for longer is left behind.
    """
    deadline = _Deadline(timeout)
    try:
        handlers = (_Http(deadline), _Https(deadline), _NoRedirect())
        with urllib.request.build_opener(*handlers).open(address, timeout=timeout) as response:
            content: bytes = response.read(max_bytes + 1)
        if deadline.is_over:
            raise TimeoutError(f"{address} took longer than {timeout:g} seconds")
    except Exception:
        if deadline.is_over:
            raise TimeoutError(f"{address} took longer than {timeout:g} seconds") from None
        raise
    finally:
        deadline.close()
    if len(content) > max_bytes:
        raise ValueError(f"{address} answers with more than {max_bytes} bytes")
    return content


class _Deadline:
    """Shuts a connection down when its time is over."""

    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds
        self._timers: list[Timer] = []
        self._sockets: list[socket.socket] = []

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return max(self._end - monotonic(), 0)

    @property
    def is_over(self) -> bool:
        """Return whether the time is over."""
        return self.left == 0

    def watch(self, connected: socket.socket) -> None:
        """Shut a socket down at the end, also while TLS is agreed upon."""
        # TLS takes the socket itself over; a copy of its descriptor is the same connection.
        twin = connected.dup()
        timer = Timer(self.left, _shut_down, (twin,))
        timer.daemon = True
        self._sockets.append(twin)
        self._timers.append(timer)
        timer.start()

    def close(self) -> None:
        """Watch nothing more."""
        for timer in self._timers:
            timer.cancel()
            timer.join()
        for twin in self._sockets:
            twin.close()


def _shut_down(connected: socket.socket) -> None:
    with suppress(OSError):  # the other side was faster
        connected.shutdown(socket.SHUT_RDWR)


class _WatchedHttp(HTTPConnection):
    """A connection with a deadline."""

    def __init__(self, *args: Any, deadline: _Deadline, **options: Any) -> None:
        super().__init__(*args, **options)
        self._create_connection = partial(_connect, deadline)


class _WatchedHttps(HTTPSConnection):
    """A connection over TLS with a deadline."""

    def __init__(self, *args: Any, deadline: _Deadline, **options: Any) -> None:
        super().__init__(*args, **options)
        self._create_connection = partial(_connect, deadline)


def _connect(deadline: _Deadline, address: tuple[str, int], *_: Any) -> socket.socket:
    """Return a connection to the first place of a name that answers."""
    fault: OSError = TimeoutError()
    for family, kind, protocol, _name, place in _look_up(deadline, *address):
        connected = socket.socket(family, kind, protocol)
        try:
            connected.settimeout(max(deadline.left, SHORTEST))
            connected.connect(place)
        except OSError as error:
            connected.close()
            fault = error
        else:
            deadline.watch(connected)
            return connected
    raise fault


def _look_up(deadline: _Deadline, host: str, port: int) -> Sequence[Place]:
    """Return the places of a name; a resolver that does not answer is not waited for."""
    found: Future[Sequence[Place]] = Future()

    def ask() -> None:
        try:
            found.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            found.set_exception(error)
        except BaseException as error:  # noqa: BLE001  # of names that are none, say
            found.set_exception(OSError(f"{host} cannot be looked up: {error}"))

    Thread(target=ask, name="look-up", daemon=True).start()
    return found.result(timeout=deadline.left)


class _Http(urllib.request.HTTPHandler):
    """Opens connections with a deadline."""

    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(partial(_WatchedHttp, deadline=self._deadline), request)


class _Https(urllib.request.HTTPSHandler):
    """Opens connections over TLS with a deadline."""

    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(partial(_WatchedHttps, deadline=self._deadline), request)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nobody: a redirect could lead to an address that nobody chose to trust."""

    def redirect_request(self, *_: Any) -> None:
        return None
