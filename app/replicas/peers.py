"""Peers: requests to other servers, over connections that are kept open.

HTTP/1.1 by asyncio and httptools alone: a client library would take ten times as long as the
request.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast
from urllib.parse import SplitResult, urlsplit

import httptools

SECRET_HEADER = "replica-secret"
CONNECT_TIMEOUT = 1.0  # seconds until a server that does not answer at all counts as not reached
MAX_IDLE = 2.0  # seconds; servers close a connection after five without a request
MAX_CONNECTIONS = 64  # to one server, that carry questions; streams have their own
MAX_ANSWER = 4 << 20  # bytes of an answer to a question
MAX_PEERS = 1_000  # addresses, of servers that are gone too
MAX_UNREAD = 1 << 18  # bytes of a stream that nobody has read yet, after which none is taken


@dataclass(frozen=True, slots=True)
class Answered:
    """The server has answered."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class NotReached:
    """Nothing was sent: the server has not got the question."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The connection was lost, or the time was over, after something was sent."""


Outcome = Answered | NotReached | Unknown


class PeerLost(Exception):
    """The connection to another server was lost, or it said nothing for too long."""


class Connection(asyncio.Protocol):
    """A connection to a server: one question after the other, or one stream."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.status = 0
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._size = 0
        self._is_stream = False
        self._is_complete = False
        self._is_lost = False
        self._is_kept = True
        self._news = asyncio.Event()

    @property
    def is_usable(self) -> bool:
        """Return whether another request may be sent."""
        return (
            not self._is_lost
            and self._transport is not None
            and not self._transport.is_closing()
            and self._is_kept
        )

    def send(self, request: bytes, *, is_stream: bool = False) -> None:
        """Send a request; its answer is all that comes next."""
        self._parser = httptools.HttpResponseParser(self)
        self.status, self._size, self._is_complete = 0, 0, False
        self._body.clear()
        self._news.clear()
        self._is_stream = is_stream
        if self._transport is not None:
            self._transport.write(request)

    async def read_all(self) -> bytes:
        """Return the body of the answer; raises `PeerLost`."""
        while not self._is_complete:
            await self._wait()
        return b"".join(self._body)

    async def read_head(self) -> None:
        """Return when the status of the answer is known; raises `PeerLost`."""
        while not self.status:
            await self._wait()

    async def read(self, *, timeout: float) -> bytes:
        """Return what has come of a stream, or nothing at its end.

        Raises `PeerLost`, also where nothing has come for `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                while not self._body and not self._is_complete:
                    await self._wait()
        except TimeoutError as error:
            raise PeerLost from error
        read = b"".join(self._body)
        self._body.clear()
        if self._size > MAX_UNREAD and self._transport is not None:
            self._transport.resume_reading()
        self._size = 0
        return read

    async def _wait(self) -> None:
        if self._is_lost:
            raise PeerLost
        await self._news.wait()
        self._news.clear()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has its own

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._lose()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._news.set()

    def _lose(self) -> None:
        self._is_lost = True
        self._news.set()
        self.abort()

    # What the parser calls.

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._news.set()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._size += len(body)
        if self._is_stream:
            self._news.set()
            if self._size > MAX_UNREAD and self._transport is not None:
                self._transport.pause_reading()
        elif self._size > MAX_ANSWER:
            self._lose()

    def on_message_complete(self) -> None:
        self._is_complete = True
        self._is_kept = self._parser.should_keep_alive()
        self._news.set()


class Peer:
    """One other server, and the connections to it."""

    def __init__(self, address: str) -> None:
        self._url: SplitResult = urlsplit(address)
        self._host = self._url.hostname or ""
        is_encrypted = self._url.scheme == "https"
        self._port = self._url.port or (443 if is_encrypted else 80)
        self._tls = ssl.create_default_context() if is_encrypted else None
        self._idle: deque[Connection] = deque()
        self._room = asyncio.Semaphore(MAX_CONNECTIONS)

    async def ask(self, request: bytes, *, timeout: float) -> Outcome:
        """Send a request, at most once, and return what came of it within `timeout` seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                await self._room.acquire()
        except TimeoutError:
            return NotReached()
        try:
            connection = await self._connect()
            if connection is None:
                return NotReached()
            try:
                async with asyncio.timeout_at(deadline):
                    connection.send(request)
                    body = await connection.read_all()
            except (PeerLost, TimeoutError):
                connection.abort()
                return Unknown()
            except BaseException:
                connection.abort()
                raise
            if connection.is_usable:
                connection.idle_since = loop.time()
                self._idle.append(connection)
            else:
                connection.abort()
            return Answered(connection.status, body)
        finally:
            self._room.release()

    @asynccontextmanager
    async def stream(self, request: bytes, *, timeout: float) -> AsyncIterator[Connection]:
        """Yield a connection of its own with the head of an answer; raises `PeerLost`."""
        connection = await self._open()
        if connection is None:
            raise PeerLost
        try:
            connection.send(request, is_stream=True)
            try:
                async with asyncio.timeout(timeout):
                    await connection.read_head()
            except TimeoutError as error:
                raise PeerLost from error
            yield connection
        finally:
            connection.abort()

    def close(self) -> None:
        """Close the connections that carry no question."""
        while self._idle:
            self._idle.pop().abort()

    async def _connect(self) -> Connection | None:
        """Return an idle connection, or a new one; None where the server is not reached."""
        oldest = asyncio.get_running_loop().time() - MAX_IDLE
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable and connection.idle_since > oldest:
                return connection
            connection.abort()
        return await self._open()

    async def _open(self) -> Connection | None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                _, connection = await loop.create_connection(
                    Connection, self._host, self._port, ssl=self._tls
                )
        except (OSError, TimeoutError):
            return None
        return connection


class Connections:
    """The other servers by their addresses, which are URLs; `secret` proves who asks."""

    def __init__(self) -> None:
        self._secret = ""
        self._peers: dict[str, Peer] = {}

    def start(self, secret: str) -> None:
        """Ask with this secret from now on."""
        self._secret = secret

    def stop(self) -> None:
        """Close all connections that carry no question."""
        for peer in self._peers.values():
            peer.close()
        self._peers.clear()

    async def ask(self, address: str, path: str, content: bytes, *, timeout: float) -> Outcome:
        """Send a JSON document, at most once, and return what came of it."""
        return await self._get(address).ask(self._render(address, path, content), timeout=timeout)

    @asynccontextmanager
    async def stream(
        self, address: str, path: str, content: bytes, *, timeout: float
    ) -> AsyncIterator[Connection]:
        """Yield the answer to a JSON document, to be read as it comes; raises `PeerLost`.

        Its head comes within `timeout` seconds.
        """
        request = self._render(address, path, content)
        async with self._get(address).stream(request, timeout=timeout) as connection:
            yield connection

    def _get(self, address: str) -> Peer:
        peer = self._peers.get(address)
        if peer is None:
            peer = self._peers[address] = Peer(address)
            if len(self._peers) > MAX_PEERS:
                self._peers.pop(next(iter(self._peers))).close()
        return peer

    def _render(self, address: str, path: str, content: bytes) -> bytes:
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {urlsplit(address).netloc}\r\n"
            f"{SECRET_HEADER}: {self._secret}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\n\r\n"
        )
        return head.encode() + content
