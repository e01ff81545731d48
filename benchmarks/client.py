"""An HTTP client that costs little: prepared requests, one keep-alive connection each."""

import asyncio
from dataclasses import dataclass
from typing import Self, cast


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response; of its head only the status is kept."""

    status: int
    body: bytes


class ConnectionLost(Exception):
    """The server closed the connection before its response was whole."""


def get(path: str) -> bytes:
    """Return the bytes of a request."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def post(path: str, body: bytes = b"{}") -> bytes:
    """Return the bytes of a request with a JSON body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class ResponseReader:
    """Puts one response together from the pieces in which it arrives."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._status: int | None = None
        self._length: int | None = None  # None: in chunks
        self._position = 0
        self._chunks: list[bytes] = []

    def feed(self, data: bytes) -> Response | None:
        """Take what arrived; return the response once it is whole."""
        self._received += data
        if self._status is None:
            self._read_head()
        if self._status is None:
            return None
        body = self._read_chunks() if self._length is None else self._read_length(self._length)
        return None if body is None else Response(self._status, body)

    def _read_head(self) -> None:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        status, *lines = bytes(self._received[:end]).lower().split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines)
        self._position = end + 4
        if b"chunked" not in headers.get(b"transfer-encoding", b""):
            self._length = int(headers.get(b"content-length", b"0"))
        self._status = int(status.split()[1])

    def _read_length(self, length: int) -> bytes | None:
        if len(self._received) < self._position + length:
            return None
        return bytes(self._received[self._position : self._position + length])

    def _read_chunks(self) -> bytes | None:
        received = self._received
        while (size_end := received.find(b"\r\n", self._position)) >= 0:
            size = int(received[self._position : size_end], 16)
            begin = size_end + 2
            if len(received) < begin + size + 2:
                return None
            if size == 0:
                return b"".join(self._chunks)
            self._chunks.append(bytes(received[begin : begin + size]))
            self._position = begin + size + 2
        return None


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reader = ResponseReader()
        self._response: asyncio.Future[Response] | None = None

    @classmethod
    async def open(cls, port: int) -> Self:
        """Return a connection to a port of this machine."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    async def request(self, request: bytes) -> Response:
        """Send a request and return its response, read to the end; or `ConnectionLost`."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionLost
        self._reader = ResponseReader()
        self._response = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._response

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it

    def data_received(self, data: bytes) -> None:
        """Read on, and answer who waits once the response is whole."""
        response = self._reader.feed(data)
        if response is not None and self._response is not None and not self._response.done():
            self._response.set_result(response)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits."""
        if self._response is not None and not self._response.done():
            self._response.set_exception(ConnectionLost())
