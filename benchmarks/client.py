"""The one HTTP client: kept connections, and when each piece of a response arrived."""

import asyncio
import json
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Self, TypeVar, cast

import httptools

EMITTED = re.compile(rb'"emitted": ?([\d.]+)')

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response; of its head only the status is kept."""

    status: int
    body: bytes


class ConnectionLost(ConnectionError):
    """The server did not start, or closed the connection before its response was whole."""


class WrongAnswer(Exception):
    """A subject answered something else than it should; its speed means nothing."""


def get(path: str) -> bytes:
    """Return the bytes of a request."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def get_events(handler_id: str) -> bytes:
    """Return the bytes of a request for all events of a handler, over SSE."""
    return get(f"/events/{handler_id}?sse=true&after_sequence=-1")


def post(path: str, body: bytes = b"{}") -> bytes:
    """Return the bytes of a request with a JSON body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class ResponseReader:
    """One response, put together from the pieces in which it arrives."""

    def __init__(self) -> None:
        self.body = bytearray()
        self._parser = httptools.HttpResponseParser(self)
        self._is_whole = False
        self._arrivals: list[tuple[int, float]] = []  # the bytes of the body so far, and the time

    def on_body(self, body: bytes) -> None:
        """Take a part of the body; the parser calls it."""
        self.body += body

    def on_message_complete(self) -> None:
        """Note that the response is whole; the parser calls it."""
        self._is_whole = True

    def feed(self, data: bytes, arrived: float = 0.0) -> Response | None:
        """Take a piece and its time; return the response once it is whole."""
        self._parser.feed_data(data)
        self._arrivals.append((len(self.body), arrived))
        status = self._parser.get_status_code()
        return Response(status, bytes(self.body)) if self._is_whole else None

    def emissions(self) -> Iterator[tuple[float, float]]:
        """Yield when each event was emitted and when it arrived, in seconds since the epoch."""
        arrivals = iter(self._arrivals)
        end, arrived = next(arrivals)
        for match in EMITTED.finditer(self.body):
            while end < match.end():
                end, arrived = next(arrivals)
            yield float(match[1]), arrived


class Connection(asyncio.Protocol):
    """A connection for one request at a time; `response` is the future of the last response."""

    def __init__(self) -> None:
        self.reader = ResponseReader()
        self.response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._transport = asyncio.Transport()
        self._arrival = asyncio.Event()

    @classmethod
    async def open(cls, port: int) -> Self:
        """Return a connection to a port of this machine."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    def close(self) -> None:
        """Close the connection."""
        self.response.cancel()
        self._transport.close()

    def request(self, request: bytes) -> asyncio.Future[Response]:
        """Send a request; return the future of its response, or raise `ConnectionLost`."""
        if self._transport.is_closing():
            raise ConnectionLost
        self.reader = ResponseReader()
        self.response = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self.response

    async def wait_for(self, expected: bytes) -> None:
        """Return when some bytes of the body have arrived; `ConnectionLost` if none can."""
        while expected not in self.reader.body:
            if self.response.done():
                raise ConnectionLost(f"{expected!r} never came: {bytes(self.reader.body)!r:.300}")
            self._arrival.clear()
            await self._arrival.wait()

    async def ask(self, request: bytes) -> dict[str, Any]:
        """Return the JSON that answers a request; `WrongAnswer` for another status than 200."""
        response = await self.request(request)
        if response.status != 200:
            raise WrongAnswer(f"status {response.status}: {response.body[:300]!r}")
        return cast("dict[str, Any]", json.loads(response.body))

    async def start_run(self, workflow: str, **fields: object) -> str:
        """Start a run and return its handler's id."""
        body = json.dumps({"start_event": fields} if fields else {}).encode()
        return str((await self.ask(post(f"/workflows/{workflow}/run-nowait", body)))["handler_id"])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it

    def data_received(self, data: bytes) -> None:
        response = self.reader.feed(data, time.time())
        if response is not None and not self.response.done():
            self.response.set_result(response)
        self._arrival.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.response.done():
            self.response.set_exception(ConnectionLost("a response ended early"))
        self._arrival.set()


async def drive(
    clients: Sequence[Callable[[], Awaitable[T]]], *, turns: int = sys.maxsize, seconds: float = inf
) -> tuple[list[T], list[float]]:
    """Let clients share some turns, or some time; return the results, and how long each took."""
    results: list[T] = []
    latencies: list[float] = []
    numbers, until = iter(range(turns)), time.perf_counter() + seconds

    async def repeat(run: Callable[[], Awaitable[T]]) -> None:
        while (begun := time.perf_counter()) < until and next(numbers, None) is not None:
            results.append(await run())
            latencies.append(time.perf_counter() - begun)

    await asyncio.gather(*map(repeat, clients))
    return results, latencies
